# SPDX-License-Identifier: Apache-2.0
"""Inode flags: lsattr and chattr, and the same with the attributes that XFS has brought."""

import fcntl
import os
import struct

from cases import ALL, Area, Difference, call, content, facts, opened
from paths import USER
from warmfs import as_user, write_all

GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR = 0x80086601, 0x40086602, 0x801c581f, 0x401c5820
SYNC, IMMUTABLE, APPEND, NODUMP, NOATIME, JOURNAL = 0x8, 0x10, 0x20, 0x40, 0x80, 0x4000
X_IMMUTABLE, X_APPEND, X_NODUMP = 0x8, 0x10, 0x80

area = Area()


def ask(path, request, value):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return fcntl.ioctl(fd, request, value)
    finally:
        os.close(fd)


def flags(path):
    return struct.unpack('I', ask(path, GETFLAGS, bytes(4)))[0]


def change(path, on=0, off=0):
    """As chattr does."""
    ask(path, SETFLAGS, struct.pack('I', flags(path) & ~off | on))


def attributes(path):
    """The flags and the project."""
    found = struct.unpack('IIIII', ask(path, FSGETXATTR, bytes(28))[:20])
    return found[0], found[3]


def change_attributes(path, on=0, off=0):
    now = bytearray(ask(path, FSGETXATTR, bytes(28)))
    now[:4] = struct.pack('I', struct.unpack_from('I', now)[0] & ~off | on)
    ask(path, FSSETXATTR, bytes(now))


@area.case(kinds=ALL)
def shown(place):
    path = place.make()
    os.mkdir(place / 'd')
    return flags(path), attributes(path), flags(place / 'd'), attributes(place / 'd')


@area.case(kinds=ALL)
def changed(place):
    path = place.make()
    found = [call(change, path, NODUMP | NOATIME), flags(path), attributes(path), call(change, path, SYNC, NOATIME), flags(path),
             call(change_attributes, path, 0, X_NODUMP), flags(path), attributes(path)]
    write_all(path, b'more', os.O_WRONLY | os.O_APPEND)
    return found + [content(path), flags(path), call(ask, path, SETFLAGS, struct.pack('I', 1 << 31))]


@area.case()
def of_directories(place):
    os.mkdir(place / 'd')
    found = [call(change, place / 'd', NOATIME | NODUMP), flags(place / 'd')]
    write_all(place / 'd/file', b'x')
    os.mkdir(place / 'd/e')
    return found + [flags(place / 'd/file'), flags(place / 'd/e'), attributes(place / 'd/e')]


SEGMENTS = ALL[1:]


@area.case(kinds=ALL, differs=[Difference('A segment was made before it had a directory', lambda native: [0, native[1]], kinds=SEGMENTS)])
def inherited(place):
    """Of those flags that a new file takes from its directory."""
    os.mkdir(place / 'd')
    change(place / 'd', NOATIME | NODUMP)
    path = place.make('d/file')
    moved = place.make('other')
    os.rename(moved, place / 'd/other')
    return [flags(path) & (NOATIME | NODUMP), flags(place / 'd/other') & (NOATIME | NODUMP)]


@area.case()
def of_others(place):
    os.mkfifo(place / 'fifo')
    os.symlink('fifo', place / 'link')
    return call(flags, place / 'fifo'), call(change, place / 'fifo', NODUMP), call(flags, place / 'link')


def attempts(place, path):
    return [opened(path), opened(path, os.O_WRONLY), opened(path, os.O_RDWR | os.O_APPEND), opened(path, os.O_WRONLY | os.O_TRUNC),
            call(os.unlink, path), call(os.rename, path, place / 'moved'), call(os.link, path, place / 'second'), call(os.chmod, path, 0o600),
            call(os.chown, path, 1, 1), call(os.utime, path, ns=(1, 1)), call(os.truncate, path, 3), call(os.setxattr, path, 'user.x', b'y'),
            call(os.rename, place / 'other', path), content(path), facts(path)]


@area.case(kinds=ALL, root=True)
def immutable(place):
    path = place.make()
    write_all(place / 'other', b'')
    found = [call(change, path, IMMUTABLE), flags(path), *attempts(place, path), call(change, path, 0, IMMUTABLE),
             call(change_attributes, path, X_IMMUTABLE), opened(path, os.O_WRONLY), call(change_attributes, path, 0, X_IMMUTABLE)]
    return found + [call(os.truncate, path, 3), content(path), call(os.unlink, path)]


@area.case(kinds=ALL, root=True)
def append_only(place):
    path = place.make()
    write_all(place / 'other', b'')
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    found = [call(change, path, APPEND), flags(path), *attempts(place, path), os.write(fd, b'more'), facts(path)]
    write_all(path, b' and more', os.O_WRONLY | os.O_APPEND)
    os.close(fd)
    return found + [content(path), call(change, path, 0, APPEND), opened(path, os.O_WRONLY), call(os.unlink, path)]


@area.case(kinds=ALL, root=True)
def immutable_directory(place):
    path = place.make()
    change(place, IMMUTABLE)
    found = [call(lambda: os.close(place.create('new'))), call(os.mkdir, place / 'd'), call(os.unlink, path), call(os.rename, path, place / 'moved'),
             call(os.link, path, place / 'second'), opened(path, os.O_RDWR), opened(place, os.O_TMPFILE | os.O_RDWR), sorted(os.listdir(place))]
    change(place, 0, IMMUTABLE)
    return found + [call(os.unlink, path)]


@area.case(kinds=ALL, root=True)
def by_users(place):
    path, theirs = place.make('mine'), place.make('theirs')
    os.chown(theirs, USER, -1)

    def work():
        return [call(flags, path), call(change, path, NODUMP), call(change_attributes, path, X_NODUMP), call(change, theirs, NODUMP),
                call(change, theirs, IMMUTABLE), call(change, theirs, APPEND), call(change, theirs, JOURNAL),
                call(change_attributes, theirs, X_IMMUTABLE), call(change_attributes, theirs, X_APPEND), flags(theirs)]
    found = as_user(USER, work)
    change(theirs, APPEND)
    return found + [as_user(USER, lambda: [call(change, theirs, 0, APPEND), call(change, theirs, NOATIME), flags(theirs)]), call(change, theirs, 0, APPEND)]


test_flags = area.test()
