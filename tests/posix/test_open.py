# SPDX-License-Identifier: Apache-2.0
"""open, in every way, and what can be done with what it gives."""

import fcntl
import os
import resource
import shutil
import signal
import socket
import subprocess

from calls import (AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS,
                   RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, linkat, name_to_handle_at, openat2)
from cases import ALL, Area, Difference, call, content, facts, opened
from paths import EXTRA_GROUP, GROUP, STRANGER, USER
from warmfs import ACL_GROUP_OBJ, ACL_OTHER, ACL_USER_OBJ, acl, as_user, touch, wait_until, write_all

area = Area()

CREATE = os.O_CREAT | os.O_WRONLY
EXCLUSIVE = CREATE | os.O_EXCL
ACCESS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)


def zoo(place):
    """One of each kind of object."""
    write_all(place / 'file', b'0123456789')
    os.mkdir(place / 'dir')
    os.symlink('file', place / 'link')
    os.symlink('dir', place / 'dirlink')
    os.symlink('absent', place / 'dangling')
    os.symlink('loop', place / 'loop')
    os.mkfifo(place / 'fifo')
    socket.socket(socket.AF_UNIX).bind(str(place / 'socket')) if len(str(place / 'socket')) < 107 else None
    return ('file', 'dir', 'link', 'dirlink', 'dangling', 'loop', 'file/', 'dir/', 'link/', 'dirlink/', 'dangling/', 'file/x',
            'dir/absent', 'absent', 'absent/x', 'absent/', '', '.', '..')


def each_object(place, flags):
    found = {}
    for name in zoo(place):
        found[name] = opened(f'{place.directory}/{name}', flags)
        found[name, 'then'] = sorted(os.listdir(place))
        for made in ('absent',):
            call(os.unlink, place / made)
    return found


def flags_case(name, flags):
    def case(place):
        return each_object(place, flags)
    case.__name__ = name
    area.case()(case)


for name, flags in {
    'read': os.O_RDONLY, 'write': os.O_WRONLY, 'read_write': os.O_RDWR, 'access_mode_three': 3,
    'creat': CREATE, 'creat_read': os.O_CREAT, 'exclusive': EXCLUSIVE, 'exclusive_without_creat': os.O_EXCL | os.O_RDWR,
    'truncate': os.O_WRONLY | os.O_TRUNC, 'truncate_read': os.O_TRUNC, 'creat_truncate': CREATE | os.O_TRUNC,
    'nofollow': os.O_NOFOLLOW, 'nofollow_creat': os.O_NOFOLLOW | CREATE, 'nofollow_truncate': os.O_NOFOLLOW | os.O_RDWR | os.O_TRUNC,
    'directory': os.O_DIRECTORY, 'directory_write': os.O_DIRECTORY | os.O_RDWR, 'directory_nofollow': os.O_DIRECTORY | os.O_NOFOLLOW,
    'directory_creat': os.O_DIRECTORY | os.O_CREAT, 'path': os.O_PATH, 'path_nofollow': os.O_PATH | os.O_NOFOLLOW,
    'path_directory': os.O_PATH | os.O_DIRECTORY, 'path_creat': os.O_PATH | os.O_CREAT, 'append': os.O_WRONLY | os.O_APPEND,
    'sync': os.O_WRONLY | os.O_SYNC, 'dsync': os.O_RDWR | os.O_DSYNC, 'direct': os.O_RDWR | os.O_DIRECT, 'noatime': os.O_NOATIME,
    'nonblock': os.O_NONBLOCK, 'async': os.O_RDWR | os.O_ASYNC, 'noctty': os.O_NOCTTY, 'tmpfile': os.O_TMPFILE | os.O_RDWR,
    'tmpfile_read': os.O_TMPFILE, 'tmpfile_exclusive': os.O_TMPFILE | os.O_RDWR | os.O_EXCL,
}.items():
    flags_case(name, flags)


@area.case()
def special_files(place):
    zoo(place)
    return [(name, flags, opened(place / name, flags | os.O_NONBLOCK)) for name in ('fifo', 'socket') for flags in ACCESS
            if os.path.lexists(place / name)]


@area.case(kinds=ALL)
def status_flags(place):
    """F_GETFL tells what open was told."""
    place.make()
    found = []
    for flags in (0, os.O_APPEND, os.O_NONBLOCK, os.O_SYNC, os.O_DSYNC, os.O_DIRECT, os.O_NOATIME, os.O_TRUNC, os.O_CREAT, os.O_ASYNC,
                  os.O_APPEND | os.O_SYNC, os.O_PATH):
        for mode in ACCESS:
            fd = os.open(place.file(), mode | flags)
            found.append((mode, flags, fcntl.fcntl(fd, fcntl.F_GETFL), fcntl.fcntl(fd, fcntl.F_GETFD)))
            os.close(fd)
    return found


@area.case(kinds=ALL)
def status_flags_changed(place):
    fd = os.open(place.make(), os.O_RDWR)
    found = []
    for flags in (os.O_APPEND, os.O_NONBLOCK, os.O_APPEND | os.O_NOATIME, os.O_SYNC, os.O_WRONLY, os.O_TRUNC, 0):
        found.append((call(fcntl.fcntl, fd, fcntl.F_SETFL, flags), fcntl.fcntl(fd, fcntl.F_GETFL)))
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    found += [os.write(fd, b'end'), os.lseek(fd, 0, os.SEEK_CUR), content(place.file())]
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.lseek(fd, 1, os.SEEK_SET)
    return found + [os.write(fd, b'start'), content(place.file())]


@area.case(kinds=ALL)
def creation_modes(place):
    """The mode's bits, less the umask's; and the creator's descriptor is as good as it asked for."""
    found = []
    for umask in (0, 0o022, 0o027, 0o777):
        os.umask(umask)
        for mode in (0, 0o400, 0o644, 0o777, 0o1777, 0o2770, 0o4755, 0o6711):
            name = f'{umask:o}-{mode:o}'
            fd = place.create(name, os.O_RDWR, mode)
            found.append((name, facts(place.file(name)), os.write(fd, b'x'), os.pread(fd, 1, 0)))
            os.close(fd)
    return found


@area.case(kinds=ALL, root=True)
def creation_as_user(place):
    def work():
        found = []
        for flags in ACCESS:
            for mode in (0, 0o200, 0o444, 0o644, 0o4755, 0o2755, 0o7777):
                name = f'{flags}-{mode:o}'
                fd = place.create(name, flags, mode)
                found.append((name, facts(place.file(name)), call(os.write, fd, b'x'), call(os.pread, fd, 1, 0),
                              [opened(place.file(name), again) for again in ACCESS]))
                os.close(fd)
        return found
    return as_user(USER, work, gid=GROUP, umask=0o002)


@area.case(kinds=ALL, root=True)
def creation_in_foreign_directory(place):
    modes = (0o755, 0o777, 0o1777, 0o2777, 0o733, 0o766, 0o770)
    for mode in modes:
        directory = place / f'{mode:o}'
        os.mkdir(directory)
        os.chown(directory, STRANGER, EXTRA_GROUP)
        os.chmod(directory, mode)

    def work(name):
        return [opened(place / f'{mode:o}' / name, EXCLUSIVE) for mode in modes]
    found = []
    for groups in ([], [EXTRA_GROUP]):
        name = os.path.basename(place.file(f'f{len(groups)}'))
        found.append(as_user(USER, work, name, gid=GROUP, groups=groups))
        # Not the size: a mapped segment has its own from the start.
        found += [{**facts(place / f'{mode:o}' / name), 'size': None} for mode in modes if os.path.lexists(place / f'{mode:o}' / name)]
    return found


@area.case(kinds=ALL)
def exclusive_twice(place):
    place.make()
    return [opened(place.file(), EXCLUSIVE), content(place.file()), opened(place.file(), CREATE), content(place.file()),
            opened(place.file(), CREATE | os.O_TRUNC), content(place.file())]


@area.case()
def creat_through_dangling_link(place):
    os.mkdir(place / 'd')
    for name in ('x', 'x.map', 'x.app'):
        os.symlink(f'd/{name}', place / f'to-{name}')
    return [(opened(place / f'to-{name}', flags), sorted(os.listdir(place / 'd')))
            for name in ('x', 'x.app') for flags in (EXCLUSIVE, os.O_RDONLY, CREATE, EXCLUSIVE)]


@area.case(kinds=ALL)
def truncated_by_open(place):
    found = []
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        path = place.make(f'file{flags}')
        held = os.open(path, os.O_RDWR)
        fd = os.open(path, flags | os.O_TRUNC)
        found.append((os.fstat(held).st_size, os.pread(held, 9, 0), os.pwrite(held, b'ab', 3), content(path)))
        os.close(fd)
        os.close(held)
    return found


@area.case(kinds=ALL)
def append_mode(place):
    path = place.make()
    one, other = os.open(path, os.O_RDWR | os.O_APPEND), os.open(path, os.O_WRONLY | os.O_APPEND)
    found = []
    for fd, data in ((one, b'a'), (other, b'bb'), (one, b'ccc')):
        os.lseek(fd, 0, os.SEEK_SET)
        found.append((os.write(fd, data), os.lseek(fd, 0, os.SEEK_CUR), content(path)))
    os.pwrite(one, b'dd', 0)
    found.append(content(path))
    os.ftruncate(one, 2)
    os.write(other, b'Z')
    return found + [content(path)]


@area.case(kinds=ALL)
def append_of_processes(place):
    """Records of several writers, whole and all there."""
    path = place.make(data=b'')
    records = 200

    def work(letter):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        for _ in range(records):
            assert os.write(fd, letter * 10 + b'\n') == 11
        os._exit(0)
    pids = []
    for letter in (b'a', b'b', b'c'):
        pid = os.fork()
        if pid == 0:
            work(letter)
        pids.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    return codes, sorted(content(path).splitlines())


@area.case(kinds=ALL)
def descriptors_have_offsets(place):
    path = place.make()
    one, other = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    copy = os.dup(one)
    return [os.read(one, 3), os.read(other, 2), os.read(copy, 2), os.lseek(one, 0, os.SEEK_CUR), os.read(other, 1),
            os.lseek(copy, -1, os.SEEK_END), os.read(one, 5), os.read(one, 5)]


@area.case(kinds=ALL)
def wrong_access(place):
    path = place.make()
    reader, writer = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    return [call(os.write, reader, b'x'), call(os.read, writer, 1), call(os.pwrite, reader, b'x', 0), call(os.pread, writer, 1, 0),
            call(os.ftruncate, reader, 0), call(os.ftruncate, writer, 3), call(os.posix_fallocate, reader, 0, 1),
            call(os.fsync, reader), call(os.fdatasync, writer), call(os.fchmod, reader, 0o600), facts(path), content(path)]


@area.case()
def noatime_of_others(place):
    write_all(place / 'mine', b'x')
    fd = os.open(place / 'mine', os.O_RDONLY | os.O_NOATIME)
    return os.read(fd, 1)


@area.case(root=True)
def noatime_refused(place):
    write_all(place / 'file', b'x', mode=0o666)

    def work():
        fd = os.open(place / 'file', os.O_RDONLY)
        return opened(place / 'file', os.O_NOATIME), call(fcntl.fcntl, fd, fcntl.F_SETFL, os.O_NOATIME)
    return as_user(USER, work)


@area.case(kinds=ALL)
def path_descriptor(place):
    path = place.make()
    fd = os.open(path, os.O_PATH)
    link = f'/proc/self/fd/{fd}'
    found = [call(os.read, fd, 1), call(os.write, fd, b'x'), call(os.ftruncate, fd, 1), call(os.fchmod, fd, 0o600),
             call(os.fchown, fd, -1, -1), call(os.fsync, fd), call(os.lseek, fd, 0, 0), call(os.getxattr, fd, 'user.x'),
             call(fcntl.flock, fd, fcntl.LOCK_SH), facts(fd), content(link), opened(link, os.O_RDWR),
             opened(link, os.O_RDWR | os.O_NOFOLLOW), call(os.chmod, link, 0o640), facts(fd),
             call(linkat, '', place / 'second', AT_EMPTY_PATH, fd) if os.geteuid() == 0 else None,
             call(linkat, link, place / 'third', AT_SYMLINK_FOLLOW), facts(fd)['nlink']]
    os.rename(path, place / 'moved')
    return found + [content(link), facts(fd)]


@area.case(kinds=ALL)
def path_descriptor_of_the_gone(place):
    fd = os.open(place.make(), os.O_PATH)
    os.unlink(place.file())
    link = f'/proc/self/fd/{fd}'
    return [call(lambda: facts(fd)['nlink']), call(content, link), call(linkat, link, place / 'again', AT_SYMLINK_FOLLOW)]


@area.case(differs=[Difference('A handle does not outlive the daemon', lambda native: ['ENOTSUP'] * 2)])
def handles_for_export(place):
    """What an NFS server would give to its clients."""
    os.mkdir(place / 'd')
    write_all(place / 'file', b'x')
    return [call(name_to_handle_at, place / name) for name in ('d', 'file')]


@area.case()
def path_descriptor_of_directory(place):
    os.mkdir(place / 'd')
    touch(place / 'd/file')
    fd = os.open(place / 'd', os.O_PATH)
    found = [opened('file', dir_fd=fd), opened('.', dir_fd=fd), opened('..', dir_fd=fd), opened('new', EXCLUSIVE, dir_fd=fd),
             call(os.listdir, fd), call(os.fchdir, fd), sorted(os.listdir('.')), call(os.mkdir, 'sub', dir_fd=fd)]
    os.chdir('/')
    os.rename(place / 'd', place / 'e')
    return found + [opened('file', dir_fd=fd), sorted(os.listdir(place / 'e'))]


@area.case()
def path_descriptor_of_link(place):
    os.symlink('target', place / 'link')
    fd = os.open(place / 'link', os.O_PATH | os.O_NOFOLLOW)
    return [os.readlink('', dir_fd=fd), facts(fd), opened(f'/proc/self/fd/{fd}'), call(os.fchmod, fd, 0o600),
            call(os.chown, '', -1, -1, dir_fd=fd)]


@area.case(root=True)
def path_descriptor_needs_no_right(place):
    write_all(place / 'file', b'x', mode=0)
    os.mkdir(place / 'd', 0o711)
    os.mkdir(place / 'closed', 0o700)
    touch(place / 'd/file')

    def work():
        return [opened(place / 'file', os.O_PATH), opened(place / 'd', os.O_PATH), opened(place / 'closed', os.O_PATH),
                opened(place / 'd/file', os.O_PATH), opened(place / 'closed/file', os.O_PATH),
                opened(f'/proc/self/fd/{os.open(place / "file", os.O_PATH)}')]
    return as_user(USER, work)


@area.case()
def relative_to_descriptors(place):
    os.mkdir(place / 'd')
    touch(place / 'd/file')
    directory, file = os.open(place / 'd', os.O_RDONLY), os.open(place / 'd/file', os.O_RDONLY)
    return [opened('file', dir_fd=directory), opened('absent', dir_fd=directory), opened('file', dir_fd=file),
            opened('', dir_fd=directory), opened('../d/file', dir_fd=directory), opened('file', CREATE | os.O_EXCL, dir_fd=directory),
            opened('made', EXCLUSIVE, dir_fd=directory), opened(place / 'd/file', dir_fd=file), opened('x', EXCLUSIVE, dir_fd=file)]


@area.case()
def resolve_restrictions(place):
    os.makedirs(place / 'd/e')
    touch(place / 'd/file')
    touch(place / 'outside')
    os.symlink('file', place / 'd/link')
    os.symlink('../outside', place / 'd/out')
    os.symlink('/outside', place / 'd/absolute')
    os.symlink('..', place / 'd/e/up')
    directory = os.open(place / 'd', os.O_RDONLY)

    def attempt(name, resolve):
        # EAGAIN: something was renamed meanwhile, anywhere on the machine, and so `..` cannot be trusted.
        while (fd := call(openat2, directory, name, os.O_RDONLY, resolve)) == 'EAGAIN':
            pass
        if isinstance(fd, int):
            os.close(fd)
            return 'ok'
        return fd
    return {(name, resolve): attempt(name, resolve)
            for name in ('file', 'link', 'out', 'absolute', 'e/up/file', '../outside', 'e/../file', '../d/file', '.', '..')
            for resolve in (0, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS)}


@area.case()
def long_names(place):
    found = []
    for length in (1, 254, 255, 256, 1000):
        name = 'n' * length
        found.append((length, opened(place / name, EXCLUSIVE), opened(place / name), call(os.mkdir, str(place / name) + 'd'),
                      call(os.symlink, 'x', place / ('l' + name[1:])), call(os.unlink, place / name)))
    for suffix in ('.map', '.app', '.str'):
        found.append([opened(place / ('n' * (length - 4) + suffix), EXCLUSIVE) for length in (255, 256)])
    euro = 'é' * 127
    return found + [opened(place / euro, EXCLUSIVE), opened(place / (euro + 'é'), EXCLUSIVE), [len(n) for n in sorted(os.listdir(place))]]


@area.case()
def long_paths(place):
    """PATH_MAX counts the end's zero byte."""
    touch(place / 'file')
    base = str(place.directory)
    found = []
    for length in (4094, 4095, 4096, 4097):
        room = length - len(base) - len('/file')
        path = base + '/.' * (room // 2) + '/' * (room % 2) + '/file'
        assert len(path) == length
        found.append((length, opened(path), call(lambda p: bool(os.stat(p)), path), opened(path + 'x'[:0], os.O_RDWR),
                      call(os.mkdir, path)))
    return found


@area.case()
def strange_names(place):
    base = os.fsencode(place.directory)
    names = [b'\xff\xfe', b' ', b'new\nline', b'-rf', b'tab\t', 'äöü€'.encode(), b'...', b'\\', b'%s', b'*', b'"', b"'", b'\x01',
             b'a:b', b'.hidden', b'~', b'.warmfs', b'.map', b'..map']
    for name in names:
        write_all(os.path.join(base, name), name)
    seen = sorted(os.listdir(base)), [content(os.path.join(base, name))[:len(name)] for name in names[:16]]
    for name in names:
        os.unlink(os.path.join(base, name))
    return seen, os.listdir(base)


@area.case()
def symlink_chains(place):
    touch(place / 'l0')
    for i in range(1, 45):
        os.symlink(f'l{i - 1}', place / f'l{i}')
    os.symlink('b', place / 'a')
    os.symlink('a', place / 'b')
    os.symlink('self/x', place / 'self')
    return [opened(place / f'l{i}') for i in (1, 39, 40, 41, 44)] + [
        (opened(place / name), opened(place / name, CREATE), call(os.stat, place / name), opened(place / name, os.O_PATH | os.O_NOFOLLOW))
        for name in ('a', 'self')]


@area.case()
def through_no_directory(place):
    touch(place / 'file')
    os.mkfifo(place / 'fifo')
    os.symlink('file', place / 'link')
    os.symlink('absent', place / 'dangling')
    return [[opened(place / f'{name}/x', flags) for flags in (os.O_RDONLY, CREATE, os.O_PATH, os.O_DIRECTORY)]
            for name in ('file', 'fifo', 'link', 'dangling', 'absent')]


@area.case(kinds=ALL)
def executed_file_is_busy(place):
    """ETXTBSY, both ways."""
    path = place.file()
    fd = place.create(mode=0o755)
    data = content('/bin/sleep')
    os.write(fd, data)
    os.ftruncate(fd, len(data))
    while_open = call(subprocess.run, [path, '0'])
    os.close(fd)
    process = subprocess.Popen([path, '100'])
    seen = [opened(path, flags) for flags in ACCESS], call(os.truncate, path, 1), opened(path, os.O_WRONLY | os.O_TRUNC)
    process.kill()
    process.wait()
    # Who looks at the process in /proc just then keeps the file for a moment.
    wait_until(lambda: opened(path, os.O_RDWR) == 'ok', what='the file to be free')
    return while_open, seen


@area.case()
def many_at_a_time(place):
    resource.setrlimit(resource.RLIMIT_NOFILE, (1200, 1200)) if os.geteuid() else None
    count = 1000
    fds = []
    for i in range(count):
        fd = os.open(place / str(i), os.O_CREAT | os.O_RDWR, 0o600)
        os.write(fd, b'%d' % i)
        fds.append(fd)
    for i in range(0, count, 2):
        os.unlink(place / str(i))
    seen = [os.pread(fd, 9, 0) for fd in fds] == [b'%d' % i for i in range(count)]
    for fd in fds:
        os.close(fd)
    return seen, len(os.listdir(place))


@area.case(kinds=ALL)
def one_file_open_often(place):
    path = place.make()
    fds = [os.open(path, ACCESS[i % 3]) for i in range(300)]
    for i, fd in enumerate(fds):
        if i % 3:
            os.pwrite(fd, b'%d' % (i % 10), i % 7)
    seen = {os.pread(fd, 20, 0) for i, fd in enumerate(fds) if i % 3 != 1}
    for fd in fds:
        os.close(fd)
    return seen, content(path)


# Files without a name

@area.case()
def tmpfile_life(place):
    fd = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o640)
    found = [facts(fd), os.write(fd, b'hidden'), os.pread(fd, 9, 0), os.listdir(place), call(os.fchmod, fd, 0o600), call(os.ftruncate, fd, 3),
             call(os.fsync, fd), facts(fd), call(os.setxattr, fd, 'user.x', b'1')]
    found += [call(linkat, f'/proc/self/fd/{fd}', place / 'named', AT_SYMLINK_FOLLOW), facts(fd), content(place / 'named'),
              call(os.getxattr, place / 'named', 'user.x'),
              call(linkat, f'/proc/self/fd/{fd}', place / 'named', AT_SYMLINK_FOLLOW),
              call(linkat, f'/proc/self/fd/{fd}', place / 'again', AT_SYMLINK_FOLLOW), facts(fd)['nlink']]
    return found + [os.write(fd, b'more'), content(place / 'again'), sorted(os.listdir(place))]


@area.case(root=True)
def tmpfile_linked_by_descriptor(place):
    fd = os.open(place, os.O_TMPFILE | os.O_WRONLY)
    os.write(fd, b'x')
    return call(linkat, '', place / 'file', AT_EMPTY_PATH, fd), content(place / 'file'), facts(fd)


@area.case()
def tmpfile_exclusive_stays_nameless(place):
    fd = os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    return call(linkat, f'/proc/self/fd/{fd}', place / 'file', AT_SYMLINK_FOLLOW), os.listdir(place), facts(fd)['nlink']


@area.case()
def tmpfile_linked_to_class_names(place):
    """Is the plain file that it was."""
    found = []
    for name in ('a.map', 'a.app', 'a.str'):
        fd = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(fd, b'data')
        linkat(f'/proc/self/fd/{fd}', place / name, AT_SYMLINK_FOLLOW)
        os.write(fd, b'+')
        found.append((facts(place / name), content(place / name)))
        os.close(fd)
        found.append((facts(place / name), content(place / name)))
    return found


@area.case()
def tmpfile_modes(place):
    found = []
    for umask in (0, 0o022, 0o077):
        os.umask(umask)
        for mode in (0o777, 0o6755, 0o000):
            fd = os.open(place, os.O_TMPFILE | os.O_RDWR, mode)
            found.append((facts(fd), os.write(fd, b'x')))
            os.close(fd)
    return found


@area.case(root=True)
def tmpfile_of_users(place):
    """Its owner, group, and who may make one where."""
    modes = (0o755, 0o777, 0o2777, 0o1777)
    for mode in modes:
        os.mkdir(place / f'{mode:o}')
        os.chown(place / f'{mode:o}', 0, EXTRA_GROUP)
        os.chmod(place / f'{mode:o}', mode)

    def work():
        fds = [call(os.open, place / f'{mode:o}', os.O_TMPFILE | os.O_RDWR, 0o2775) for mode in modes]
        return [facts(fd) if isinstance(fd, int) else fd for fd in fds]
    return as_user(USER, work, gid=GROUP), as_user(USER, work, gid=GROUP, groups=[EXTRA_GROUP])


@area.case()
def tmpfile_under_default_acl(place):
    os.setxattr(place, 'system.posix_acl_default', acl((ACL_USER_OBJ, 7), (ACL_GROUP_OBJ, 5), (ACL_OTHER, 1)))
    os.umask(0o077)
    fd = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o666)
    return facts(fd)


# Names that come and go

@area.case(kinds=ALL)
def unlinked_but_open(place):
    path = place.make()
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    found = [facts(fd), opened(path), os.pread(fd, 20, 0), os.pwrite(fd, b'more', 10), facts(fd), os.ftruncate(fd, 4),
             os.pread(fd, 20, 0), call(os.fchmod, fd, 0o600), call(os.fchown, fd, -1, -1), call(os.fsync, fd),
             call(os.posix_fallocate, fd, 0, 8192), facts(fd), content(f'/proc/self/fd/{fd}')[:6],
             opened(f'/proc/self/fd/{fd}', os.O_RDWR), call(linkat, f'/proc/self/fd/{fd}', path, AT_SYMLINK_FOLLOW)]
    other = place.make(data=b'new')
    return found + [content(other), os.pread(fd, 4, 0), facts(other), facts(fd)]


@area.case(kinds=ALL)
def replaced_but_open(place):
    old, new = place.make('old'), place.make('new', b'new')
    fd = os.open(old, os.O_RDWR)
    os.rename(new, old)
    return [facts(fd), os.read(fd, 20), os.write(fd, b'x'), content(old), facts(old), facts(fd)]


@area.case(kinds=ALL)
def unlinked_in_other_process(place):
    path = place.make()
    fd = os.open(path, os.O_RDWR)
    pid = os.fork()
    if pid == 0:
        os.unlink(path)
        os._exit(0)
    os.waitpid(pid, 0)
    return facts(fd), os.read(fd, 20), opened(path), opened(path, EXCLUSIVE)


@area.case(kinds=ALL)
def reused_name(place):
    """A name stands for what was made last, however fast."""
    found = []
    for i in range(20):
        path = place.make(data=b'%d' % i)
        found.append((content(path), facts(path)))
        os.unlink(path)
        found.append(opened(path))
    return found


@area.case(kinds=ALL)
def descriptor_to_another_process(place):
    """Sent over a socket; outlives the sender's."""
    fd = os.open(place.make(), os.O_RDWR)
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        data, fds, _, _ = socket.recv_fds(there, 1, 1)
        os.lseek(fds[0], 2, os.SEEK_SET)
        os.write(fds[0], b'child')
        os._exit(0)
    socket.send_fds(here, [b'x'], [fd])
    os.waitpid(pid, 0)
    return os.lseek(fd, 0, os.SEEK_CUR), os.pread(fd, 20, 0)


@area.case(kinds=ALL)
def killed_writer(place):
    path = place.make(data=b'')
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b'written')
        os.write(writer, b'x')
        signal.pause()
    os.read(reader, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return content(path), facts(path)


@area.case(kinds=ALL)
def copied_by_tools(place):
    source = place.make(data=os.urandom(0) + b'0123456789' * 9999)
    copy = place.file('copy')
    fd = place.create('copy')
    os.close(fd)
    shutil.copyfile(source, copy)
    os.truncate(copy, 99990)
    done = [subprocess.run(command, stderr=subprocess.DEVNULL).returncode for command in (
        ['cmp', source, copy], ['cp', '-a', source, place / 'cp'], ['dd', f'if={source}', f'of={place / "dd"}', 'bs=7777', 'status=none'],
        ['install', '-m', '600', source, place / 'installed'], ['tar', 'cf', place / 'tar', '-C', place, source.name],
        ['cmp', source, place / 'cp'], ['cmp', source, place / 'dd'], ['mv', place / 'dd', place / 'moved'])]
    return done, sorted(os.listdir(place)), facts(place / 'installed')


test_open = area.test()
