# SPDX-License-Identifier: Apache-2.0
"""Directories and their listings, special files, and what identifies a file."""

import os
import select
import signal
import socket
import stat
import struct

from calls import DirStream, Statx
from cases import ALL, LONG, Area, call, content, facts, opened
from paths import GROUP, USER
from warmfs import as_user, check, libc, touch, write_all

area = Area()
MANY = 100000 if LONG else 5000


@area.case()
def make_and_remove(place):
    touch(place / 'file')
    os.symlink('nowhere', place / 'dangling')
    os.makedirs(place / 'full/sub')
    os.mkdir(place / 'empty')
    os.symlink('empty', place / 'dirlink')
    names = ('file', 'dangling', 'full', 'new', 'new2/', 'absent/x', 'file/x', 'x' * 255, 'x' * 256, '.', '..', 'full/.', 'dirlink', 'dirlink/', '')
    return [(name[:9], call(os.mkdir, f'{place.directory}/{name}' if name else '')) for name in names], [
        (name[:9], call(os.rmdir, f'{place.directory}/{name}' if name else '')) for name in (*names, 'empty', 'full/..', 'full/sub', 'full/')], sorted(os.listdir(place))


@area.case()
def modes(place):
    found = []
    for umask in (0, 0o022, 0o777):
        os.umask(umask)
        for mode in (0, 0o700, 0o777, 0o1777, 0o2777, 0o4777):
            os.mkdir(place / f'{umask:o}-{mode:o}', mode)
            found.append(facts(place / f'{umask:o}-{mode:o}'))
    return found


@area.case()
def link_counts(place):
    found = []
    for name in ('a', 'a/b', 'a/c', 'a/b/d'):
        os.mkdir(place / name)
        found.append((os.stat(place).st_nlink, os.stat(place / 'a').st_nlink))
    os.rmdir(place / 'a/c')
    return found, os.stat(place / 'a').st_nlink


@area.case()
def removed_but_in_use(place):
    os.mkdir(place / 'd')
    fd = os.open(place / 'd', os.O_RDONLY)
    os.chdir(place / 'd')
    os.rmdir(place / 'd')
    return [os.listdir(fd), facts(fd), opened('x', os.O_CREAT | os.O_RDWR), call(os.mkdir, 'y'), call(os.getcwd), call(os.listdir, '.'),
            call(os.rename, place / 'd', place / 'e'), call(os.fsync, fd), call(os.fchmod, fd, 0o700), call(os.stat, '..') and 'ok', call(os.open, '.', os.O_TMPFILE | os.O_RDWR)]


@area.case()
def calls_on_directories(place):
    fd = os.open(place, os.O_RDONLY)
    return [call(os.read, fd, 1), call(os.write, fd, b'x'), call(os.ftruncate, fd, 0), call(os.truncate, place, 0), call(os.fsync, fd), call(os.fdatasync, fd),
            call(os.posix_fallocate, fd, 0, 1), call(os.unlink, place), opened(place, os.O_RDWR), call(os.copy_file_range, fd, fd, 1), call(os.lseek, fd, -1, 0)]


def snapshot(path):
    stream = DirStream(path)
    found = []
    while (entry := stream.entry()):
        found.append((entry.name, entry.type, entry.ino == os.lstat(os.path.join(os.fsencode(path), entry.name)).st_ino))
    stream.close()
    return sorted(found)


@area.case(kinds=ALL)
def types_and_numbers(place):
    """d_type and d_ino are those of stat, also of segments."""
    for i in range(5):
        place.make(f'f{i}')
    os.mkdir(place / 'd')
    os.symlink('x', place / 'l')
    os.mkfifo(place / 'p')
    found = [snapshot(place)]
    held = os.open(place.make('open'), os.O_RDWR)
    os.unlink(place.file('f1'))
    os.rename(place.file('f2'), place / 'moved')
    found.append(snapshot(place))
    os.close(held)
    return [[entry for entry in listing if entry[0] != b'..'] for listing in found]


@area.case()
def positions(place):
    """Every position can be gone back to."""
    for i in range(700):
        touch(place / f'file-{i}')
    stream = DirStream(place)
    where, names = [], []
    while True:
        where.append(stream.tell())
        name = stream.next()
        if name is None:
            break
        names.append(name)
    found = [len(names), len(set(where))]
    for i in (0, 1, 350, 701, 17, 702, 5):
        stream.seek(where[i])
        found.append(stream.rest() == names[i:])
    touch(place / 'new')
    stream.rewind()
    return found, sorted(stream.rest()) == sorted([*names, b'new'])


@area.case()
def many_entries_come_and_go(place):
    """What stays is listed once, what positions were taken stay good, whatever else happens."""
    for i in range(MANY):
        touch(place / f'stay-{i}')
    for i in range(MANY // 10):
        touch(place / f'go-{i}')
    stream = DirStream(place)
    names, marks = [], []
    for step in range(10):
        for _ in range(MANY // 20):
            names.append(stream.next())
        marks.append((stream.tell(), len(names)))
        for i in range(step, MANY // 10, 10):
            os.unlink(place / f'go-{i}')
            touch(place / f'come-{i}')
    names += stream.rest()
    stay = [name for name in names if name.startswith(b'stay')]
    found = [len(stay), len(set(stay)), len(os.listdir(place))]
    for position, at in marks[::3]:
        stream.seek(position)
        again = [name for name in stream.rest() if name.startswith(b'stay')]
        found.append(again == [name for name in names[at:] if name.startswith(b'stay')])
    stream.close()
    return found


@area.case()
def removed_while_listed(place):
    for i in range(1500):
        touch(place / f'{i}')
    stream = DirStream(place)
    while (name := stream.next()) is not None:
        if name not in (b'.', b'..'):
            os.unlink(os.path.join(os.fsencode(place), name))
    return os.listdir(place)


@area.case()
def deeper_than_a_path(place):
    name = 'directory-with-a-long-name-' * 4
    fds = [os.open(place, os.O_RDONLY)]
    for _ in range(60):
        os.mkdir(name, dir_fd=fds[-1])
        fds.append(os.open(name, os.O_RDONLY, dir_fd=fds[-1]))
    touch_at = os.open('file', os.O_CREAT | os.O_RDWR, dir_fd=fds[-1])
    os.write(touch_at, b'deep')
    os.rename(name, 'moved', src_dir_fd=fds[0], dst_dir_fd=fds[0])
    found = [os.pread(touch_at, 9, 0), os.listdir(fds[-1]), opened('../../' + name, dir_fd=fds[-2]), call(os.stat, str(place / 'moved') + ('/' + name) * 59)]
    os.unlink('file', dir_fd=fds[-1])
    for parent in reversed(fds[1:-1]):
        os.rmdir(name, dir_fd=parent)
    os.rmdir(place / 'moved')
    return found, os.listdir(place)


# What identifies a file

@area.case(kinds=ALL)
def identity(place):
    """Stable, and no two files have the same."""
    fds, seen = [], set()
    for i in range(60):
        fds.append(place.create(f'f{i}'))
        seen.add((os.fstat(fds[-1]).st_dev, os.fstat(fds[-1]).st_ino))
    before = [os.fstat(fd).st_ino for fd in fds]
    for i in range(0, 60, 2):
        os.rename(place.file(f'f{i}'), place / f'm{i}')
    names = [os.stat(place / f'm{i}' if i % 2 == 0 else place.file(f'f{i}')).st_ino for i in range(60)]
    for fd in fds:
        os.close(fd)
    after = [os.stat(place / f'm{i}' if i % 2 == 0 else place.file(f'f{i}')).st_ino for i in range(60)]
    return len(seen), len({dev for dev, _ in seen}), before == names == after, os.stat(place).st_dev == next(iter(seen))[0]


@area.case(kinds=ALL)
def statx_agrees(place):
    path = place.make()
    found = []
    for name in (path, place):
        plain, more = os.stat(name), Statx(name)
        found += [more.mask & 0xfff, more.attributes, (plain.st_ino, plain.st_size, plain.st_mode, plain.st_blocks, plain.st_uid, plain.st_nlink, plain.st_mtime_ns, plain.st_ctime_ns)
                  == (more.ino, more.size, more.mode, more.blocks, more.uid, more.nlink, more.mtime, more.ctime), more.btime <= more.ctime]
    for mask in (0, 1, 0x200, 0x800):
        for flags in (0, 0x2000, 0x4000):
            found.append(Statx(path, flags=flags, mask=mask).mask & mask)
    return found


@area.case(kinds=ALL)
def blocks_are_counted(place):
    fd = place.create()
    os.ftruncate(fd, 0)
    os.pwrite(fd, b'x' * 40000, 0)
    os.fsync(fd)
    small = os.fstat(fd).st_blocks
    os.pwrite(fd, b'x' * 400000, 0)
    os.fsync(fd)
    return small >= 80, os.fstat(fd).st_blocks >= 784, os.fstat(fd).st_blksize


# Special files

@area.case()
def fifo_between_processes(place):
    os.mkfifo(place / 'p', 0o640)
    found = [facts(place / 'p'), opened(place / 'p', os.O_WRONLY | os.O_NONBLOCK)]
    pid = os.fork()
    if pid == 0:
        write_all(place / 'p', b'through the fifo', flags=os.O_WRONLY)
        os._exit(0)
    found.append(content(place / 'p'))
    os.waitpid(pid, 0)
    reader = os.open(place / 'p', os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(place / 'p', os.O_WRONLY)
    found += [call(os.read, reader, 1), os.write(writer, b'x'), bool(select.select([reader], [], [], 5)[0]), os.read(reader, 9)]
    os.close(reader)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return found + [call(os.write, writer, b'x'), call(os.lseek, writer, 0, 0), call(os.ftruncate, writer, 0)]


@area.case()
def sockets(place):
    os.chdir(place)
    server = socket.socket(socket.AF_UNIX)
    server.bind('s')
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect('s')
    other = server.accept()[0]
    client.send(b'hello')
    found = [other.recv(9), facts('s'), opened('s'), call(socket.socket(socket.AF_UNIX).bind, 's')]
    os.rename('s', 't')
    again = socket.socket(socket.AF_UNIX)
    return found + [call(again.connect, 's'), call(again.connect, 't')]


@area.case(root=True)
def device_nodes(place):
    found = []
    for name, mode, device in (('null', stat.S_IFCHR, (1, 3)), ('big', stat.S_IFCHR, (4000, 1000000)), ('block', stat.S_IFBLK, (7, 200)), ('white', stat.S_IFCHR, (0, 0))):
        found.append((call(os.mknod, place / name, mode | 0o666, os.makedev(*device)), facts(place / name)))
    write_all(place / 'null', b'x', flags=os.O_WRONLY)
    found += [content(place / 'null'), opened(place / 'big'), opened(place / 'block')]

    def work():
        return [call(os.mknod, place / f'of-user-{kind}', kind | 0o666, os.makedev(*device)) for kind, device in
                ((stat.S_IFCHR, (1, 3)), (stat.S_IFBLK, (7, 0)), (stat.S_IFCHR, (0, 0)), (stat.S_IFIFO, (0, 0)), (stat.S_IFSOCK, (0, 0)), (stat.S_IFREG, (0, 0)))]
    return found + as_user(USER, work, gid=GROUP) + [facts(place / name) for name in sorted(os.listdir(place))]


@area.case()
def regular_files_by_mknod(place):
    return [(call(os.mknod, place / name, stat.S_IFREG | 0o640), call(os.mknod, place / name, stat.S_IFREG), facts(place / name))
            for name in ('plain', 'a.map', 'a.app', 'a.str')] + [call(os.mknod, place / 'd', stat.S_IFDIR | 0o755), call(os.mknod, place / 'l', stat.S_IFLNK)]


@area.case(kinds=ALL)
def events(place):
    """inotify tells of what is done here."""
    watcher = check(libc.inotify_init1(os.O_NONBLOCK))
    check(libc.inotify_add_watch(watcher, os.fsencode(place), 0xfc6))
    path = place.file()
    os.close(os.open(path, os.O_CREAT | os.O_RDWR))
    write_all(path, b'x')
    os.chmod(path, 0o600)
    os.rename(path, place / 'moved')
    os.link(place / 'moved', place / 'hard')
    os.unlink(place / 'moved')
    os.mkdir(place / 'd')
    data, found = os.read(watcher, 65536), []
    while data:
        _, mask, _, length = struct.unpack_from('iIII', data)
        found.append((hex(mask), data[16:16 + length].rstrip(b'\0')))
        data = data[16 + length:]
    # What native mapped files are made of, is of no interest.
    return [event for event in found if place.kind != 'mapped' or event[0] not in ('0x2', '0x4')]


test_dir = area.test()
