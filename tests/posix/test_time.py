# SPDX-License-Identifier: Apache-2.0
"""atime, mtime, ctime and btime: who moves them, when it shows, and how exact they are."""

import mmap
import os
import subprocess
import time

from calls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, UTIME_NOW, UTIME_OMIT, Statx, fallocate, utimensat
from cases import ALL, Area, Difference, call, content, moved, times
from paths import GROUP, STRANGER, USER
from warmfs import as_user, tick, touch, write_all

area = Area()


def with_file(place, act, flags=os.O_RDWR):
    """What an action on a new descriptor moves; seen once it is closed, and before that."""
    def run():
        fd = os.open(place.file(), flags)
        result = act(fd)
        while_open = times(place.file())
        os.close(fd)
        return result, while_open == times(place.file())
    return moved(place.file(), run)


def file_case(name, act, flags=os.O_RDWR):
    def case(place):
        place.make()
        return with_file(place, act, flags), with_file(place, act, flags)
    case.__name__ = name
    area.case(kinds=ALL, splices=name in ('copied_into', 'sent'))(case)


def store(fd, sync=False, unmap=True, flags=mmap.MAP_SHARED):
    """A store through a mapping. Whatever of it is still unsynced has moved the times all the same."""
    mapping = mmap.mmap(fd, 10, flags)
    mapping[3] = (mapping[3] + 1) % 256
    if sync:
        mapping.flush()
    if unmap:
        mapping.close()


def load(fd):
    with mmap.mmap(fd, 10, mmap.MAP_SHARED, mmap.PROT_READ) as mapping:
        return mapping[:3]


for name, act, *flags in (
    ('opened', lambda fd: None),
    ('opened_to_read', lambda fd: None, os.O_RDONLY),
    ('wrote', lambda fd: os.write(fd, b'x')),
    ('wrote_nothing', lambda fd: os.write(fd, b'')),
    ('wrote_the_same', lambda fd: os.write(fd, b'0')),
    ('appended', lambda fd: os.write(fd, b'x'), os.O_WRONLY | os.O_APPEND),
    ('wrote_beyond', lambda fd: os.pwrite(fd, b'x', 100000)),
    ('wrote_vector', lambda fd: os.pwritev(fd, [b'x', b'y'], 0)),
    ('wrote_directly', lambda fd: os.pwrite(fd, mmap.mmap(-1, 4096), 0), os.O_WRONLY | os.O_DIRECT),
    ('wrote_dsync', lambda fd: os.write(fd, b'x'), os.O_WRONLY | os.O_DSYNC),
    ('wrote_and_synced', lambda fd: (os.write(fd, b'x'), os.fsync(fd))),
    ('wrote_and_datasynced', lambda fd: (os.write(fd, b'x'), os.fdatasync(fd))),
    ('read', lambda fd: os.read(fd, 3), os.O_RDONLY),
    ('read_nothing', lambda fd: os.read(fd, 0), os.O_RDONLY),
    ('read_noatime', lambda fd: os.read(fd, 3), os.O_RDONLY | os.O_NOATIME),
    ('read_mapped', load),
    ('truncated_same', lambda fd: os.ftruncate(fd, os.fstat(fd).st_size)),
    ('truncated_shorter', lambda fd: os.ftruncate(fd, os.fstat(fd).st_size - 1)),
    ('truncated_longer', lambda fd: os.ftruncate(fd, os.fstat(fd).st_size + 1)),
    ('opened_truncating', lambda fd: None, os.O_WRONLY | os.O_TRUNC),
    ('allocated', lambda fd: os.posix_fallocate(fd, 0, 20000)),
    ('allocated_keeping_size', lambda fd: fallocate(fd, FALLOC_KEEP_SIZE, 0, 90000)),
    ('punched', lambda fd: fallocate(fd, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, 0, 5)),
    ('zeroed', lambda fd: fallocate(fd, FALLOC_ZERO_RANGE, 0, 5)),
    ('synced', os.fsync),
    ('changed_mode', lambda fd: os.fchmod(fd, 0o600)),
    ('changed_owner', lambda fd: os.fchown(fd, os.getuid(), os.getgid())),
    ('changed_nothing', lambda fd: os.fchown(fd, -1, -1)),
    ('set_attribute', lambda fd: os.setxattr(fd, 'user.x', b'1')),
    ('got_attribute', lambda fd: call(os.getxattr, fd, 'user.x')),
    ('copied_into', lambda fd: os.copy_file_range(fd, fd, 2, 0, 5)),
    ('stored', lambda fd: store(fd)),
    ('stored_and_synced', lambda fd: store(fd, sync=True)),
    ('stored_mapped_still', lambda fd: store(fd, unmap=False)),
    ('stored_privately', lambda fd: store(fd, flags=mmap.MAP_PRIVATE)),
    ('sent', lambda fd: os.sendfile(os.open('/dev/null', os.O_WRONLY), fd, 0, 5), os.O_RDONLY),
):
    file_case(name, act, *flags)


CACHED = ('daemon', 'user')


def atime_unmoved(native):
    return [(result, which.replace('a', '')) for result, which in native]


# A read past the end, and one from the kernel's own cache, is not told to the daemon; filling that cache is.
PAST_THE_END = ('The kernel does not ask the daemon for what is past the end', atime_unmoved)


@area.case(kinds=ALL, differs=[Difference(*PAST_THE_END, paths=CACHED), Difference(*PAST_THE_END, kinds=('append',))])
def read_at_end(place):
    path = place.make()
    fd = os.open(path, os.O_RDONLY)
    return [moved(path, lambda: os.pread(fd, 3, 1 << 20))]


@area.case(kinds=ALL, differs=[Difference('The kernel fills its cache for the mapping again by a read, which counts as one',
                                          lambda native: (['amc'] * 3, native[1]), paths=CACHED)])
def store_after_store(place):
    """Each msync'ed store moves them again, also of a mapping whose descriptor is long closed."""
    fd = os.open(place.make(), os.O_RDWR)
    mapping = mmap.mmap(fd, 10)
    os.close(fd)
    found = []
    for i in range(3):
        def act():
            mapping[i] = 65 + i
            mapping.flush()
        found.append(moved(place.file(), act)[1])
    mapping.close()
    return found, content(place.file())


@area.case(kinds=ALL)
def store_in_other_process(place):
    fd = os.open(place.make(), os.O_RDWR)

    def act():
        pid = os.fork()
        if pid == 0:
            store(fd)
            os._exit(0)
        os.waitpid(pid, 0)
    return moved(place.file(), act), times(fd) == times(place.file())


@area.case(kinds=ALL)
def times_agree(place):
    """All ways to ask give the same, at each moment, and what is set is not overtaken by what was done before."""
    path = place.make()
    fd = os.open(path, os.O_RDWR)
    found = []

    def agree():
        return times(fd) == times(path)
    for act in (lambda: os.write(fd, b'x'), lambda: os.utime(path, ns=(5, 7)), lambda: os.write(fd, b'y'), lambda: os.fsync(fd),
                lambda: store(fd), lambda: os.utime(fd, ns=(8, 9)), lambda: os.close(os.open(path, os.O_RDONLY))):
        act()
        found.append(agree())
    os.utime(fd, ns=(10, 20))
    os.close(fd)
    tick()
    return found, times(path)[:2]


@area.case(kinds=ALL)
def set_while_written(place):
    """A time that was set stays, though data written before is still to reach the disk."""
    fd = os.open(place.make(), os.O_RDWR)
    os.write(fd, b'x' * 9000)
    os.utime(fd, ns=(10**9, 2 * 10**9))
    found = [times(fd)[:2]]
    os.fsync(fd)
    found.append(times(fd)[:2])
    os.close(fd)
    return found, times(place.file())[:2]


@area.case(kinds=ALL)
def birth(place):
    """btime is between the clock's readings around the creation, and never moves."""
    before = time.time_ns() - 10**9
    path = place.make()
    first = Statx(path)
    fresh = first.mask & 0x800 and before < first.btime <= time.time_ns() + 10**9
    os.utime(path, ns=(1, 1))
    os.chmod(path, 0o600)
    write_all(path, b'more')
    os.rename(path, place / 'moved')
    # A segment's is that of its preparation.
    return bool(fresh) or place.kind != 'plain', Statx(place / 'moved').btime == first.btime, bool(first.mask & 0x800)


@area.case(kinds=ALL)
def fresh_file(place):
    """All times of a new file are now, though its segment may be old."""
    before = tick()
    fd = place.create()
    os.close(fd)
    return [before <= stamp <= time.time_ns() for stamp in times(place.file())]


@area.case(kinds=ALL)
def never_backwards(place):
    fd = place.create()
    last, found = 0, []
    for i in range(200):
        os.pwrite(fd, b'x', i)
        now = os.fstat(fd).st_ctime_ns
        found.append(now >= last)
        last = now
    os.close(fd)
    return all(found), times(place.file())[2] >= last


def stamps(path):
    recent = time.time_ns() - 60 * 10**9
    return [stamp if not recent < stamp < recent + 120 * 10**9 else 'now' for stamp in times(path)[:2]]


@area.case(kinds=ALL)
def set_times(place):
    path = place.make()
    found = []
    for atime, mtime in (
        ((1, 2), (3, 4)), ((0, UTIME_OMIT), (5, 6)), ((7, 8), (0, UTIME_OMIT)), ((0, UTIME_OMIT), (0, UTIME_OMIT)), ((0, UTIME_NOW), (9, 9)),
        ((10, 11), (0, UTIME_NOW)), ((0, UTIME_NOW), (0, UTIME_NOW)), ((0, UTIME_NOW), (0, UTIME_OMIT)), ((0, 0), (0, 0)),
        ((123456789, 987654321), (1, 999999999)), ((1, 1000000000), (1, 1)), ((1, -1), (1, 1)), ((1, UTIME_NOW - 5), (1, 1)),
    ):
        found.append((atime, mtime, call(utimensat, path, atime, mtime), stamps(path)))
    return found


@area.case(kinds=ALL)
def set_far_times(place):
    """Beyond 2038, before 1970, and where the filesystem's own range ends."""
    path = place.make()
    os.mkdir(place / 'd')
    found = []
    for seconds in (-1, -2, -2**31, -2**31 - 1, -2**40, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, 2**33 + 2**32, 15032385535, 15032385536, 2**40, 2**62):
        for name in (path, place / 'd'):
            found.append((seconds, call(utimensat, name, (seconds, 5), (seconds, 999999999)), times(name)[:2]))
    return found


@area.case(root=True)
def set_by_others(place):
    for name, mode in (('writable', 0o666), ('closed', 0o644), ('mine', 0o400)):
        touch(place / name, mode)
        os.chmod(place / name, mode)
    os.chown(place / 'mine', USER, GROUP)

    def work():
        found = []
        for name in ('writable', 'closed', 'mine'):
            for pair in (((1, 1), (1, 1)), ((0, UTIME_NOW), (0, UTIME_NOW)), ((0, UTIME_OMIT), (0, UTIME_NOW)), ((0, UTIME_NOW), (1, 1)),
                         ((0, UTIME_OMIT), (0, UTIME_OMIT))):
                found.append((name, pair, call(utimensat, place / name, *pair), stamps(place / name)))
            found.append(call(os.utime, place / name))
        return found
    return as_user(USER, work)


@area.case()
def set_on_each_kind_of_object(place):
    os.mkdir(place / 'd')
    os.mkfifo(place / 'fifo')
    os.symlink('d', place / 'link')
    found = []
    for name in ('d', 'fifo', 'link'):
        found.append((call(utimensat, place / name, (5, 6), (7, 8), 0x100), times(place / name)[1]))
    found += [call(utimensat, place / name, (1, 1), (1, 1)) for name in ('absent', 'fifo/x', 'absent/x')]
    fd = os.open(place / 'd', os.O_RDONLY)
    os.utime(fd, ns=(11, 12))
    return found + [times(place / 'd')[1], call(os.utime, os.open(place / 'fifo', os.O_PATH), ns=(1, 1))]


@area.case()
def of_directories(place):
    """What is done in a directory moves its mtime and ctime."""
    def prepared(name):
        directory = place / name
        directory.mkdir()
        touch(directory / 'file')
        os.mkdir(directory / 'sub')
        os.symlink('file', directory / 'link')
        return directory
    found = {}
    for name, act in {
        'create': lambda d: touch(d / 'new'), 'create-map': lambda d: touch(d / 'new.map'), 'create-app': lambda d: touch(d / 'new.app'),
        'open-existing': lambda d: os.close(os.open(d / 'file', os.O_CREAT | os.O_RDWR)), 'mkdir': lambda d: os.mkdir(d / 'new'),
        'mkdir-below': lambda d: os.mkdir(d / 'sub/new'), 'rmdir': lambda d: os.rmdir(d / 'sub'), 'unlink': lambda d: os.unlink(d / 'file'),
        'symlink': lambda d: os.symlink('x', d / 'new'), 'fifo': lambda d: os.mkfifo(d / 'new'), 'link': lambda d: os.link(d / 'file', d / 'new'),
        'rename': lambda d: os.rename(d / 'file', d / 'new'), 'rename-out': lambda d: os.rename(d / 'file', d / 'sub/new'),
        'rename-over': lambda d: os.rename(d / 'file', d / 'link'), 'list': lambda d: len(os.listdir(d)), 'stat': lambda d: os.stat(d / 'file') and 1,
        'write': lambda d: write_all(d / 'file', b'x'), 'failed': lambda d: call(os.mkdir, d / 'file'), 'chmod': lambda d: os.chmod(d, 0o700),
        'tmpfile': lambda d: os.close(os.open(d, os.O_TMPFILE | os.O_RDWR)), 'setxattr': lambda d: os.setxattr(d, 'user.x', b''),
        'chmod-file': lambda d: os.chmod(d / 'file', 0o600), 'lookup': lambda d: os.path.exists(d / 'absent'),
    }.items():
        directory = prepared(name)
        found[name] = moved(directory, lambda: act(directory))
    return found


@area.case()
def of_files_beside(place):
    """What is done to a file's name moves its ctime."""
    found = {}
    for name, act in {
        'link': lambda f: os.link(f, str(f) + '2'), 'rename': lambda f: os.rename(f, str(f) + '2') or os.rename(str(f) + '2', f),
        'unlink-other': lambda f: os.link(f, str(f) + '2') or os.unlink(str(f) + '2'), 'chmod-same': lambda f: os.chmod(f, 0o644),
        'utime': lambda f: os.utime(f, ns=(10**9, 10**9)), 'xattr': lambda f: os.setxattr(f, 'user.x', b''),
        'xattr-removed': lambda f: call(os.removexattr, f, 'user.x'), 'access': lambda f: os.access(f, os.R_OK),
        'omit': lambda f: utimensat(f, (0, UTIME_OMIT), (0, UTIME_OMIT)),
    }.items():
        write_all(place / name, b'x')
        found[name] = moved(place / name, lambda: act(place / name))
    return found


@area.case()
def of_execution(place):
    write_all(place / 'script', b'#!/bin/true\n', mode=0o755)
    return moved(place / 'script', lambda: subprocess.run([place / 'script']).returncode)


@area.case(kinds=ALL, differs=[Difference('What the kernel has in its cache, it does not tell the daemon of', lambda native: [
    *native[:3], (native[3][0], '')], paths=CACHED)])
def of_relatime(place):
    """The second read within a day does not move atime, one after a change does."""
    path = place.make()
    found = [moved(path, lambda: content(path))]
    fd = os.open(path, os.O_RDONLY)
    found.append(moved(fd, lambda: os.pread(fd, 1, 0)))
    write_all(path, b'x')
    found.append(moved(fd, lambda: os.pread(fd, 1, 0)))
    os.utime(path, ns=(time.time_ns() - 30 * 3600 * 10**9, time.time_ns() - 40 * 3600 * 10**9))
    return found + [moved(fd, lambda: os.pread(fd, 1, 0))]


@area.case(kinds=ALL, root=True)
def seen_by_all_users(place):
    path = place.make(mode=0o666)
    os.chmod(path, 0o666)
    fd = os.open(path, os.O_RDWR)

    def look():
        return times(path), os.stat(path).st_size
    found = []
    for act in (lambda: os.pwrite(fd, b'x', 50), lambda: os.utime(path, ns=(3, 4)), lambda: os.ftruncate(fd, 7)):
        act()
        found.append(as_user(STRANGER, look) == look())
    return found


test_time = area.test()
