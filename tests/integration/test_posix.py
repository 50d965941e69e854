# SPDX-License-Identifier: Apache-2.0
"""The filesystem around the segments: whatever is done in the mount ends as it does natively.

A scenario is a function of a directory that does things there and returns what it saw. It is run in a native
directory and in one below the mount, on the same filesystem, and must return the same. So a
scenario returns nothing that differs between two native runs: no inode numbers, no absolute times.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

import warmfs
from warmfs import (ACL_GROUP, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER, ACL_USER, ACL_USER_OBJ, MI, Child, acl,
                    as_user, error_name, in_child, libc, stat_facts, touch, wait_until, write_all)

USER, GROUP, EXTRA_GROUP, STRANGER = 12345, 12346, 12347, 54321

VARIANTS = {
    'beside': {'over': False, 'options': [], 'fstype': 'ext4'},
    'over': {'over': True, 'options': [], 'fstype': 'ext4'},
    'daemon': {'over': False, 'options': ['passthrough=off'], 'fstype': 'ext4'},
    'xfs': {'over': False, 'options': [], 'fstype': 'xfs'},
}


class Pair:
    """A mount that serves many tests, and a native directory on the same filesystem."""

    def __init__(self, stack, variant):
        self.workdir = warmfs.make_workdir()
        stack.callback(warmfs.remove_workdir, self.workdir)
        # A filesystem of its own: nobody else uses its space, and the many files end with it at once.
        base = stack.enter_context(warmfs.loop_fs(variant['fstype'], 1024 * MI, self.workdir))
        for name in ('source', 'native', 'mnt'):
            (base / name).mkdir()
        source = base / 'source'
        self.native = base / 'native'
        self.mount = warmfs.Mount(source, source if variant['over'] else base / 'mnt',
                                  'match=**/*.seg', 'size=64K', 'ahead=1', 'dev,suid', *variant['options'],
                                  workdir=self.workdir)
        stack.callback(self.mount.close)
        self.serial = 0


@pytest.fixture(scope='module')
def pairs():
    """Mounts by variant; made when first wanted, and anew if a test has killed one."""
    with contextlib.ExitStack() as stack:
        made = {}
        yield made, stack
        for pair in made.values():
            pair.mount.stop()


@pytest.fixture(params=VARIANTS)
def pair(request, pairs):
    made, stack = pairs
    name = request.param
    if name not in made or not made[name].mount.alive():
        made[name] = Pair(stack, VARIANTS[name])
    yield made[name]
    assert made[name].mount.alive(), made[name].mount.report()


@pytest.fixture
def same(pair, request):
    """same(scenario): runs it natively and in the mount, and compares. Returns what the mount gave."""
    def compare(scenario, *args):
        pair.serial += 1
        name = f'{request.node.originalname}-{pair.serial}'
        seen = {}
        for where, root in (('native', pair.native), ('mount', pair.mount.point)):
            directory = root / name
            directory.mkdir()
            directory.chmod(0o777)
            seen[where] = scenario(directory, *args)
        if seen['mount'] != seen['native']:
            pytest.fail('\n'.join(differences(seen['native'], seen['mount'])), pytrace=False)
        return seen['mount']
    return compare


def differences(native, mount, where=''):
    """Lines that say where two things differ, however deep."""
    if type(native) is type(mount) and isinstance(native, (list, tuple)) and len(native) == len(mount):
        pairs = [(f'{where}[{i}]', a, b) for i, (a, b) in enumerate(zip(native, mount))]
    elif isinstance(native, dict) and isinstance(mount, dict) and native.keys() == mount.keys():
        pairs = [(f'{where}[{key!r}]', native[key], mount[key]) for key in native]
    else:
        return [] if native == mount else [f'{where}: native {native!r:.300}, mount {mount!r:.300}']
    return [line for name, a, b in pairs for line in differences(a, b, name)][:20]


def outcome(function, *args, **named):
    """What a call gave: its value, or the name of its errno."""
    try:
        return function(*args, **named)
    except OSError as error:
        return error_name(error.errno)


def opened(path, flags=os.O_RDONLY, mode=0o666, **named):
    """Opens and closes; None or the name of the errno."""
    fd = outcome(os.open, path, flags, mode, **named)
    if isinstance(fd, int):
        os.close(fd)
        return None
    return fd


def link_followed(old, new):
    """os.link never follows a symbolic link, whatever it is told."""
    warmfs.check(libc.linkat(-100, os.fsencode(old), -100, os.fsencode(new), 0x400))


def tree(root):
    """Everything below a directory, as facts that can be compared."""
    found = {}
    for path, dirs, files in os.walk(root):
        for name in dirs + files:
            full = os.path.join(path, name)
            facts = stat_facts(full)
            if stat.S_ISDIR(int(facts['mode'], 8)):
                facts.pop('size')
            elif os.path.islink(full):
                facts['target'] = os.readlink(full)
            elif os.path.isfile(full):
                facts['data'] = open(full, 'rb').read()
            found[os.path.relpath(full, root)] = facts
    return found


def facts(path):
    found = stat_facts(path)
    if stat.S_ISDIR(int(found['mode'], 8)):
        found.pop('size')
    return found


# Looking up

def test_lookup_errors(same):
    def scenario(root):
        touch(root / 'file')
        (root / 'loop').symlink_to('loop')
        (root / 'dangling').symlink_to('absent')
        names = ['absent', 'file/x', 'file/', 'loop', 'loop/x', 'dangling', 'dangling/x', 'x' * 255, 'x' * 256,
                 '', '.', '..', './file', '../' + root.name + '/file', 'absent/../file', 'x/' * 3000]
        return [(name, outcome(lambda path: stat.S_IFMT(os.stat(path).st_mode), f'{root}/{name}'),
                 outcome(lambda path: stat.S_IFMT(os.lstat(path).st_mode), f'{root}/{name}'))
                for name in names]
    same(scenario)


def test_names(same):
    def scenario(root):
        base = os.fsencode(root)
        names = [b'\xff\xfe', b' ', b'new\nline', b'-rf', b'tab\t', 'äöü€'.encode(), b'x' * 255, b'...', b'\\', b'%s']
        for name in names:
            write_all(os.path.join(base, name), name)
        return (sorted(os.listdir(base)), [open(os.path.join(base, name), 'rb').read() for name in names],
                outcome(touch, os.path.join(base, b'x' * 256)))
    same(scenario)


def test_negative_then_created(same):
    """A name looked up in vain exists as soon as it is made."""
    def scenario(root):
        before = [os.path.exists(root / name) for name in ('file', 'dir', 'link', 'renamed')]
        touch(root / 'file')
        os.mkdir(root / 'dir')
        os.symlink('x', root / 'link')
        touch(root / 'old')
        os.rename(root / 'old', root / 'renamed')
        after = [os.path.lexists(root / name) for name in ('file', 'dir', 'link', 'renamed', 'old')]
        return before, after
    same(scenario)


def test_open_flags(same):
    def scenario(root):
        write_all(root / 'file', b'0123456789')
        (root / 'dir').mkdir()
        (root / 'link').symlink_to('file')
        (root / 'dirlink').symlink_to('dir')
        tries = {}
        flags = {
            'excl': os.O_CREAT | os.O_EXCL | os.O_WRONLY, 'creat': os.O_CREAT | os.O_WRONLY,
            'directory': os.O_DIRECTORY, 'wronly': os.O_WRONLY, 'nofollow': os.O_NOFOLLOW,
            'path': os.O_PATH, 'path-nofollow': os.O_PATH | os.O_NOFOLLOW, 'noatime': os.O_NOATIME,
            'creat-directory': os.O_CREAT | os.O_DIRECTORY, 'append': os.O_WRONLY | os.O_APPEND,
            'sync': os.O_WRONLY | os.O_SYNC, 'dsync': os.O_WRONLY | os.O_DSYNC, 'rdwr-directory': os.O_RDWR | os.O_DIRECTORY,
            'nonblock': os.O_RDONLY | os.O_NONBLOCK, 'direct': os.O_RDONLY | os.O_DIRECT,
        }
        for name in ('file', 'dir', 'link', 'dirlink', 'absent', 'absent/x', 'file/x'):
            for flag, value in flags.items():
                tries[name, flag] = opened(root / name, value)
                if name.startswith('absent'):
                    outcome(os.unlink, root / name)
        return tries
    same(scenario)


def test_path_descriptors(same):
    def scenario(root):
        (root / 'dir').mkdir()
        write_all(root / 'dir/file', b'data', mode=0o600)
        (root / 'link').symlink_to('dir/file')
        directory = os.open(root / 'dir', os.O_PATH)
        handle = os.open(root / 'dir/file', os.O_PATH)
        link = os.open(root / 'link', os.O_PATH | os.O_NOFOLLOW)
        seen = [
            outcome(os.read, handle, 1), os.fstat(handle).st_size, os.readlink('', dir_fd=link),
            opened('file', dir_fd=directory), opened('absent', dir_fd=directory),
            open(f'/proc/self/fd/{handle}', 'rb').read(), outcome(os.fchmod, handle, 0o644),
            outcome(os.listdir, directory),
        ]
        os.rename(root / 'dir', root / 'moved')
        seen += [opened('file', dir_fd=directory), os.fstat(directory).st_nlink]
        for fd in (directory, handle, link):
            os.close(fd)
        return seen
    same(scenario)


def test_write_modes(same):
    """A creator's descriptor is as good as asked for, whatever mode the file has."""
    def scenario(root):
        def work():
            seen = []
            for mode in (0o000, 0o400, 0o200, 0o644):
                for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY):
                    path = root / f'{mode:o}-{flags}'
                    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
                    seen.append((mode, flags, outcome(os.write, fd, b'x'), outcome(os.pread, fd, 9, 0),
                                 opened(path, os.O_RDONLY), opened(path, os.O_WRONLY), outcome(os.ftruncate, fd, 5)))
                    os.close(fd)
            return seen
        return as_user(USER, work)
    same(scenario)


# Directories

def test_mkdir_rmdir(same):
    def scenario(root):
        touch(root / 'file')
        seen = [
            outcome(os.mkdir, root / 'd', 0o777), outcome(os.mkdir, root / 'd'), outcome(os.mkdir, root / 'file'),
            outcome(os.mkdir, root / 'file/x'), outcome(os.mkdir, root / 'absent/x'), outcome(os.mkdir, root / 'd/e'),
            facts(root / 'd'), outcome(os.rmdir, root / 'd'), outcome(os.rmdir, root / 'file'),
            outcome(os.rmdir, root / 'absent'), outcome(os.rmdir, root / 'd/.'), outcome(os.rmdir, root / 'd/..'),
            outcome(os.rmdir, root / 'd/e'), facts(root / 'd'), outcome(os.unlink, root / 'd'),
            outcome(os.rmdir, root / 'd'), outcome(os.stat, root / 'd'), facts(root)['nlink'],
            outcome(os.mkdir, root / ('x' * 256)), outcome(os.mkdir, str(root / 'slash') + '/'),
            outcome(os.mkdir, root / 'mode', 0o1711), facts(root / 'mode'), outcome(os.mkdir, root / 'mode2', 0o7777),
            facts(root / 'mode2'),
        ]
        return seen
    same(scenario)


def test_removed_directory_in_use(same):
    def scenario(root):
        (root / 'd').mkdir()
        fd = os.open(root / 'd', os.O_RDONLY)
        os.rmdir(root / 'd')
        seen = [os.listdir(fd), os.fstat(fd).st_nlink, opened('x', os.O_CREAT | os.O_WRONLY, dir_fd=fd),
                outcome(os.mkdir, 'x', dir_fd=fd), outcome(os.stat, '.', dir_fd=fd) and True,
                outcome(os.fsync, fd), outcome(os.fchmod, fd, 0o700)]
        os.close(fd)
        return seen
    same(scenario)


def test_working_directory(same):
    def scenario(root):
        def work():
            os.makedirs(root / 'a/b')
            os.chdir(root / 'a/b')
            before = os.path.relpath(os.getcwd(), root)
            os.rename(root / 'a', root / 'moved')
            after = os.path.relpath(os.getcwd(), root)
            touch('file')
            up = sorted(os.listdir('..'))
            os.chdir('..')
            return before, after, up, os.path.relpath(os.getcwd(), root), os.listdir(root / 'moved/b')
        return in_child(work)
    same(scenario)


def test_sgid_directory(same):
    def scenario(root):
        os.mkdir(root / 'd')
        os.chown(root / 'd', 0, EXTRA_GROUP)
        os.chmod(root / 'd', 0o2777)

        def work():
            os.umask(0)
            os.mkdir(root / 'd/e')
            touch(root / 'd/file', 0o666)
            touch(root / 'd/sgid', 0o2777)
            touch(root / 'd/e/deeper', 0o666)
            os.mkfifo(root / 'd/fifo')
            os.symlink('x', root / 'd/link')
            return tree(root / 'd')
        seen = [as_user(USER, work, gid=GROUP)]
        warmfs.run('find', root / 'd', '-mindepth', '1', '-delete')
        # The directory's group is one of the caller's by a supplementary one only.
        seen.append(as_user(USER, work, gid=GROUP, groups=[EXTRA_GROUP]))
        return seen
    same(scenario)


def test_listing(same):
    """Thousands of entries: each once, of the right type, with the right inode."""
    def scenario(root):
        for i in range(3000):
            touch(root / f'file-{i}')
        for i in range(100):
            (root / f'dir-{i}').mkdir()
            (root / f'link-{i}').symlink_to('x')
            os.mkfifo(root / f'fifo-{i}')
        names = []
        kinds = {}
        with os.scandir(root) as entries:
            for entry in entries:
                names.append(entry.name)
                kinds[entry.name] = (entry.is_dir(follow_symlinks=False), entry.is_symlink(),
                                     entry.is_file(follow_symlinks=False))
        assert len(names) == len(set(names))
        # Again with lookups in between: the kernel then asks for another kind of listing.
        with os.scandir(root) as entries:
            for entry in entries:
                status = os.lstat(entry.path)
                assert entry.inode() == status.st_ino
                assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(status.st_mode)
        return sorted(names), kinds
    same(scenario)


class Dirent(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('reclen', ctypes.c_ushort),
                ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]


libc.fdopendir.restype = libc.readdir.restype = libc.opendir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long


class DirStream:
    """readdir, telldir, seekdir, rewinddir."""

    def __init__(self, path):
        self.stream = ctypes.c_void_p(libc.opendir(os.fsencode(path)))

    def next(self):
        entry = libc.readdir(self.stream)
        return ctypes.cast(entry, ctypes.POINTER(Dirent)).contents.name if entry else None

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return libc.telldir(self.stream)

    def seek(self, position):
        libc.seekdir(self.stream, ctypes.c_long(position))

    def rewind(self):
        libc.rewinddir(self.stream)

    def close(self):
        libc.closedir(self.stream)


def test_listing_positions(same):
    """Every position can be gone back to, and rewinding shows what is new."""
    def scenario(root):
        for i in range(500):
            touch(root / f'file-{i}')
        stream = DirStream(root)
        positions, names = [], []
        while True:
            positions.append(stream.tell())
            name = stream.next()
            if name is None:
                break
            names.append(name)
        for i in (0, 1, 250, 499, 17, 500):
            stream.seek(positions[i])
            assert stream.rest() == names[i:], i
        touch(root / 'new')
        stream.rewind()
        again = sorted(stream.rest())
        stream.close()
        return sorted(names), again
    same(scenario)


def test_listing_while_it_changes(same):
    """What is there all the time is seen once, whatever comes and goes."""
    def scenario(root):
        for i in range(1000):
            touch(root / f'stay-{i}')
            touch(root / f'go-{i}')
        stream = DirStream(root)
        names = [stream.next() for _ in range(100)]
        for i in range(1000):
            os.unlink(root / f'go-{i}')
            touch(root / f'come-{i}')
        names += stream.rest()
        stream.close()
        stay = [name for name in names if name.startswith(b'stay')]
        assert len(stay) == len(set(stay)) == 1000
        return sorted(os.listdir(root))
    same(scenario)


def test_remove_while_listing(same):
    """As rm -r does it."""
    def scenario(root):
        for i in range(2000):
            touch(root / f'{i}')
        stream = DirStream(root)
        while (name := stream.next()) is not None:
            if name not in (b'.', b'..'):
                os.unlink(os.path.join(os.fsencode(root), name))
        stream.close()
        return os.listdir(root)
    assert same(scenario) == []


def test_dot_entries(same):
    def scenario(root):
        (root / 'd').mkdir()
        stream = DirStream(root / 'd')
        names = sorted(stream.rest())
        stream.close()
        assert os.stat(root / 'd/..').st_ino == os.stat(root).st_ino
        assert os.stat(root / 'd/.').st_ino == os.stat(root / 'd').st_ino
        return names
    same(scenario)


def test_deep_tree(same):
    """Deeper than a path can be long."""
    def scenario(root):
        name = 'directory-with-a-long-name-' * 4
        fd = os.open(root, os.O_RDONLY)
        fds = [fd]
        for _ in range(60):
            os.mkdir(name, dir_fd=fd)
            fd = os.open(name, os.O_RDONLY, dir_fd=fd)
            fds.append(fd)
        file = os.open('file', os.O_RDWR | os.O_CREAT, 0o644, dir_fd=fd)
        os.write(file, b'deep')
        os.rename(name, 'moved', src_dir_fd=fds[0], dst_dir_fd=fds[0])
        seen = [os.pread(file, 9, 0), os.listdir(fd), os.stat('file', dir_fd=fd).st_size]
        os.unlink('file', dir_fd=fd)
        os.close(file)
        seen.append(opened('../../../' + name, dir_fd=fd))
        seen.append(outcome(os.stat, str(root / 'moved') + ('/' + name) * 59))
        for fd in fds[1:]:
            os.close(fd)
        warmfs.run('rm', '-rf', root / 'moved')
        seen.append(os.listdir(fds[0]))
        os.close(fds[0])
        return seen
    same(scenario)


# Names: unlink, rename, link, symlink, mknod

def test_unlink_open_file(same):
    def scenario(root):
        write_all(root / 'file', b'data')
        fd = os.open(root / 'file', os.O_RDWR)
        os.unlink(root / 'file')
        seen = [os.fstat(fd).st_nlink, os.pread(fd, 9, 0), os.pwrite(fd, b'more', 4), os.fstat(fd).st_size,
                outcome(os.ftruncate, fd, 2), os.fstat(fd).st_size, outcome(os.fchmod, fd, 0o600),
                oct(os.fstat(fd).st_mode), outcome(os.fchown, fd, USER, GROUP), os.fstat(fd).st_uid,
                outcome(os.utime, fd, ns=(1, 2)), os.fstat(fd).st_mtime_ns, outcome(os.setxattr, fd, 'user.x', b'1'),
                outcome(os.getxattr, fd, 'user.x'), outcome(os.fsync, fd), outcome(os.posix_fallocate, fd, 0, 9000),
                os.fstat(fd).st_size, outcome(os.stat, root / 'file'), outcome(os.unlink, root / 'file')]
        again = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY)
        seen.append(os.read(again, 2))
        os.close(again)
        seen.append(outcome(link_followed, f'/proc/self/fd/{fd}', root / 'back'))
        touch(root / 'file')
        seen.append((os.stat(root / 'file').st_size, os.fstat(fd).st_size))
        os.close(fd)
        return seen
    same(scenario)


def make_rename_things(root):
    for name in ('file', 'file2'):
        write_all(root / name, name.encode())
    for name in ('empty', 'empty2', 'full', 'full2'):
        (root / name).mkdir()
    touch(root / 'full/inside')
    touch(root / 'full2/inside2')
    (root / 'link').symlink_to('file')
    os.link(root / 'file', root / 'hard')


RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def renameat2(old, new, flags=0):
    warmfs.check(libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags))


@pytest.mark.parametrize('flags', [0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE, 64])
def test_rename(same, flags):
    names = ('file', 'file2', 'empty', 'empty2', 'full', 'full2', 'link', 'hard', 'absent', 'full/inside',
             'full/new', 'absent/x', 'file/x')

    def scenario(root):
        seen = {}
        for old in names:
            for new in names:
                place = root / f'{old}+{new}'.replace('/', '_')
                place.mkdir()
                make_rename_things(place)
                seen[old, new] = (outcome(renameat2, place / old, place / new, flags), tree(place))
        return seen
    same(scenario)


def test_rename_open_files(same):
    def scenario(root):
        write_all(root / 'a', b'a')
        write_all(root / 'b', b'b')
        a, b = os.open(root / 'a', os.O_RDWR), os.open(root / 'b', os.O_RDWR)
        renameat2(root / 'a', root / 'b', RENAME_EXCHANGE)
        seen = [os.pread(a, 1, 0), os.pread(b, 1, 0), (root / 'a').read_bytes(), (root / 'b').read_bytes()]
        os.rename(root / 'a', root / 'b')
        os.pwrite(a, b'A', 0)
        os.pwrite(b, b'B', 0)
        seen += [os.fstat(a).st_nlink, os.fstat(b).st_nlink, (root / 'b').read_bytes(), os.listdir(root)]
        os.close(a)
        os.close(b)
        return seen
    same(scenario)


def test_rename_directories(same):
    def scenario(root):
        os.makedirs(root / 'a/b/c')
        os.makedirs(root / 'x')
        touch(root / 'a/b/c/file')
        fd = os.open(root / 'a/b/c', os.O_RDONLY)
        seen = [outcome(os.rename, root / 'a', root / 'a/b/d'), outcome(os.rename, root / 'a/b', root / 'a')]
        os.rename(root / 'a/b', root / 'x/y')
        seen += [facts(root / 'a')['nlink'], facts(root / 'x')['nlink'], sorted(os.listdir(fd))]
        os.close(os.open('new', os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
        assert os.stat('../..', dir_fd=fd).st_ino == os.stat(root / 'x').st_ino
        renameat2(root / 'a', root / 'x', RENAME_EXCHANGE)
        seen.append(opened('file', dir_fd=fd))
        os.close(fd)
        return seen, tree(root)
    same(scenario)


def test_hard_links(same):
    """All names of a file show the same, at once."""
    def scenario(root):
        write_all(root / 'one', b'1')
        (root / 'd').mkdir()
        os.link(root / 'one', root / 'two')
        os.link(root / 'two', root / 'd/three')
        names = ('one', 'two', 'd/three')
        assert len({os.stat(root / name).st_ino for name in names}) == 1

        def look():
            return [(facts(root / name), (root / name).read_bytes()) for name in names if (root / name).exists()]
        seen = [look()]
        for act in (
            lambda: os.chmod(root / 'two', 0o600), lambda: os.chown(root / 'd/three', USER, GROUP),
            lambda: write_all(root / 'one', b'longer', os.O_WRONLY), lambda: os.truncate(root / 'two', 3),
            lambda: os.unlink(root / 'one'), lambda: os.link(root / 'd/three', root / 'one'),
            lambda: os.rename(root / 'two', root / 'one'), lambda: os.unlink(root / 'd/three'),
        ):
            seen.append((outcome(act), look()))
        return seen
    same(scenario)


def test_link_errors(same):
    def scenario(root):
        touch(root / 'file')
        (root / 'd').mkdir()
        (root / 'link').symlink_to('file')
        (root / 'dangling').symlink_to('absent')
        seen = [
            outcome(os.link, root / 'file', root / 'd'), outcome(os.link, root / 'd', root / 'new'),
            outcome(os.link, root / 'absent', root / 'new'), outcome(os.link, root / 'file', root / 'absent/x'),
            outcome(os.link, root / 'file', '/proc/x'), outcome(os.link, root / 'file', root / ('x' * 256)),
            outcome(os.link, root / 'link', root / 'copy', follow_symlinks=False),
            outcome(link_followed, root / 'link', root / 'followed'),
            outcome(link_followed, root / 'dangling', root / 'followed2'),
        ]
        return seen, tree(root)
    same(scenario)


def test_symlinks(same):
    def scenario(root):
        write_all(root / 'file', b'data')
        seen = []
        for i, target in enumerate(['file', '../' + root.name + '/file', './file', 'absent', 'x' * 4095, 'x' * 4096, '',
                                    '/', 'a/b/../../file', '\xfc \n']):
            seen.append((target, outcome(os.symlink, target, root / f'link-{i}'),
                         outcome(os.readlink, root / f'link-{i}'),
                         outcome(lambda path: os.lstat(path).st_size, root / f'link-{i}'),
                         outcome(lambda path: open(path, 'rb').read(), root / f'link-{i}')))
        seen += [outcome(os.symlink, 'x', root / 'file'), outcome(os.symlink, 'x', root / 'link-0'),
                 outcome(os.readlink, root / 'file'), outcome(os.chown, root / 'link-0', USER, GROUP, follow_symlinks=False),
                 facts(root / 'link-0'), facts(root / 'file'),
                 outcome(os.utime, root / 'link-0', ns=(5, 7), follow_symlinks=False),
                 os.lstat(root / 'link-0').st_mtime_ns, outcome(os.unlink, root / 'link-0')]
        return seen, sorted(tree(root))
    same(scenario)


def test_mknod(same):
    def scenario(root):
        os.umask(0o022)
        seen = []
        for name, mode, device in (
            ('fifo', stat.S_IFIFO | 0o666, 0), ('socket', stat.S_IFSOCK | 0o666, 0),
            ('null', stat.S_IFCHR | 0o666, os.makedev(1, 3)), ('block', stat.S_IFBLK | 0o600, os.makedev(7, 4095)),
            ('file', stat.S_IFREG | 0o640, 0), ('wide', stat.S_IFCHR | 0o600, os.makedev(4000, 1000000)),
            ('dir', stat.S_IFDIR | 0o755, 0), ('zero', 0o600, 0),
        ):
            seen.append((name, outcome(os.mknod, root / name, mode, device),
                         outcome(lambda path: facts(path), root / name)))
        seen.append(outcome(os.mknod, root / 'fifo', stat.S_IFIFO | 0o666))
        seen.append(outcome(os.mkfifo, root / 'absent/fifo'))
        # A device's node works, and is not the daemon's to open.
        with open(root / 'null', 'r+b', buffering=0) as null:
            seen += [null.write(b'gone'), null.read(1)]
        seen.append(as_user(USER, lambda: [outcome(os.mknod, root / 'theirs', stat.S_IFCHR, 259),
                                           outcome(os.mkfifo, root / 'their-fifo')]))
        return seen, {name: entry for name, entry in tree(root).items()}
    same(scenario)


def test_fifo(same):
    def scenario(root):
        os.mkfifo(root / 'fifo')
        assert stat.S_ISFIFO(os.lstat(root / 'fifo').st_mode)
        child = Child(lambda: write_all(root / 'fifo', b'through', os.O_WRONLY))
        reader = os.open(root / 'fifo', os.O_RDONLY | os.O_NONBLOCK)
        child.result()
        data = os.read(reader, 100)
        os.close(reader)
        return data, outcome(os.open, root / 'fifo', os.O_WRONLY | os.O_NONBLOCK)
    assert same(scenario)[0] == b'through'


def test_unix_socket(same):
    def scenario(root):
        fd = os.open(root, os.O_RDONLY)
        path = f'/proc/self/fd/{fd}/socket'
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(path)
            server.listen()
            client.connect(path)
            peer, _ = server.accept()
            with peer:
                client.sendall(b'hello')
                data = peer.recv(9)
        os.close(fd)
        return data, stat.S_IFMT(os.stat(root / 'socket').st_mode)
    same(scenario)


# Attributes

def test_chmod_chown(same):
    def scenario(root):
        touch(root / 'file', 0o644)
        (root / 'd').mkdir()
        seen = []
        for name in ('file', 'd'):
            for mode in (0o000, 0o777, 0o1777, 0o4755, 0o2755, 0o6711, 0o7777):
                seen.append((outcome(os.chmod, root / name, mode), facts(root / name)))
            for owner, group in ((USER, GROUP), (-1, EXTRA_GROUP), (STRANGER, -1), (-1, -1), (0, 0)):
                os.chmod(root / name, 0o6775)
                seen.append((outcome(os.chown, root / name, owner, group), facts(root / name)))
        seen += [outcome(os.chmod, root / 'absent', 0o644), outcome(os.chown, root / 'absent', 0, 0)]
        return seen
    same(scenario)


def test_chmod_chown_by_user(same):
    def scenario(root):
        for name in ('mine', 'group', 'theirs', 'privileged'):
            touch(root / name, 0o644)
        os.chmod(root / 'privileged', 0o6755)
        (root / 'd').mkdir()
        for name in ('mine', 'group', 'd'):
            os.chown(root / name, USER, GROUP)
        os.chown(root / 'group', USER, STRANGER)

        def work():
            seen = []
            for name in ('mine', 'group', 'theirs', 'privileged', 'd'):
                for mode in (0o600, 0o6755, 0o2755, 0o4755, 0o1777, 0o2644):
                    seen.append((name, mode, outcome(os.chmod, root / name, mode), facts(root / name)))
                for owner, group in ((-1, EXTRA_GROUP), (-1, STRANGER), (0, -1), (USER, GROUP), (-1, -1), (USER, -1)):
                    outcome(os.chmod, root / name, 0o6775)
                    seen.append((name, owner, group, outcome(os.chown, root / name, owner, group), facts(root / name)))
            return seen
        return as_user(USER, work, gid=GROUP, groups=[EXTRA_GROUP])
    same(scenario)


PRIVILEGED_MODES = (0o4755, 0o2755, 0o6755, 0o2644, 0o6777)


def change_actions(path):
    """Ways to change a file's content; each takes away the privileges of its mode."""
    def with_fd(act, flags=os.O_RDWR):
        def run():
            fd = os.open(path, flags)
            try:
                return act(fd)
            finally:
                os.close(fd)
        return run

    def copy_range(fd):
        return os.copy_file_range(fd, fd, 1, 0, 5)

    def splice(fd):
        reader, writer = os.pipe()
        os.write(writer, b'x')
        try:
            return os.splice(reader, fd, 1, offset_dst=0)
        finally:
            os.close(reader)
            os.close(writer)

    return {
        'write': with_fd(lambda fd: os.write(fd, b'x')),
        'pwritev': with_fd(lambda fd: os.pwritev(fd, [b'x', b'y'], 0)),
        'append': with_fd(lambda fd: os.write(fd, b'x'), os.O_WRONLY | os.O_APPEND),
        'direct': with_fd(lambda fd: os.pwrite(fd, mmap.mmap(-1, 4096), 0), os.O_WRONLY | os.O_DIRECT),
        'truncate': lambda: os.truncate(path, 1),
        'truncate-same': lambda: os.truncate(path, 10),
        'ftruncate': with_fd(lambda fd: os.ftruncate(fd, 1)),
        'open-trunc': with_fd(lambda fd: None, os.O_WRONLY | os.O_TRUNC),
        'fallocate': with_fd(lambda fd: os.posix_fallocate(fd, 0, 100)),
        'copy_file_range': with_fd(copy_range),
        'splice': with_fd(splice),
        'chown': lambda: os.chown(path, -1, GROUP),
        'chown-nothing': lambda: os.chown(path, -1, -1),
        'read': with_fd(lambda fd: os.read(fd, 1), os.O_RDONLY),
        'utime': lambda: os.utime(path),
    }


@pytest.mark.parametrize('who', ['user', 'root'])
@pytest.mark.parametrize('action', change_actions(None))
def test_privileges_are_cleared(same, who, action):
    """set-user-ID and set-group-ID do not survive a change by somebody without the right to keep them."""
    def scenario(root):
        seen = []
        for mode in PRIVILEGED_MODES:
            path = root / f'{mode:o}'
            write_all(path, b'0123456789')
            os.chown(path, USER, GROUP)
            os.chmod(path, mode)
            act = change_actions(path)[action]
            value = as_user(USER, outcome, act, gid=GROUP) if who == 'user' else outcome(act)
            found = facts(path)
            seen.append((value, found))
        return seen
    same(scenario)


@pytest.mark.parametrize('order', ['reader-first', 'chmod-later', 'second-writer'])
@pytest.mark.parametrize('who', ['user', 'root'])
def test_privileges_are_cleared_of_open_files(same, order, who):
    """However the file was opened before, and whenever it got the bits."""
    def scenario(root):
        path = root / 'file'
        write_all(path, b'0123456789')
        os.chown(path, USER, GROUP)
        if order != 'chmod-later':
            os.chmod(path, 0o6755)
        held = os.open(path, os.O_RDWR if order == 'second-writer' else os.O_RDONLY)

        def work():
            fd = os.open(path, os.O_WRONLY)
            if order == 'chmod-later':
                os.chmod(path, 0o6755)
            os.write(fd, b'x')
            os.close(fd)
            return facts(path)
        seen = as_user(USER, work, gid=GROUP) if who == 'user' else in_child(work)
        os.close(held)
        return seen
    same(scenario)


CAPABILITY = struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0)


@pytest.mark.parametrize('action', change_actions(None))
def test_capabilities_are_cleared(same, action):
    def scenario(root):
        path = root / 'file'
        write_all(path, b'0123456789', mode=0o755)
        os.setxattr(path, 'security.capability', CAPABILITY)
        value = outcome(change_actions(path)[action])
        return value, outcome(os.getxattr, path, 'security.capability')
    same(scenario)


def test_utimens(same):
    now, omit = (1 << 30) - 1, (1 << 30) - 2

    class Timespec(ctypes.Structure):
        _fields_ = [('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long)]

    def utimensat(path, atime, mtime, flags=0):
        times = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
        warmfs.check(libc.utimensat(-100, os.fsencode(path), times, flags))

    def scenario(root):
        touch(root / 'file')
        os.symlink('file', root / 'link')

        def look(path):
            status = os.lstat(path)
            recent = time.time_ns() - 60 * 10**9
            return [time_ns if time_ns < recent else 'now' for time_ns in (status.st_atime_ns, status.st_mtime_ns)]
        seen = []
        for atime, mtime in (
            ((1, 2), (3, 4)), ((0, omit), (5, 6)), ((7, 8), (0, omit)), ((0, omit), (0, omit)), ((0, now), (9, 9)),
            ((10, 11), (0, now)), ((0, now), (0, now)), ((-5, 1), (-1000000, 999999999)), ((2**33, 1), (2**32, 2)),
            ((1, 1000000000), (1, 1)), ((1, -1), (1, 1)), ((0, 0), (0, 0)), ((123456789, 987654321), (1, 1)),
        ):
            seen.append((atime, mtime, outcome(utimensat, root / 'file', atime, mtime), look(root / 'file')))
        seen.append((outcome(utimensat, root / 'link', (1, 1), (2, 2), 0x100), look(root / 'link'), look(root / 'file')))
        fd = os.open(root / 'file', os.O_RDONLY)
        os.utime(fd, ns=(77, 88))
        seen.append(look(root / 'file'))
        os.close(fd)
        os.chmod(root / 'file', 0o666)

        def stranger():
            return [outcome(utimensat, root / 'file', (1, 1), (1, 1)), outcome(utimensat, root / 'file', (0, now), (0, now)),
                    outcome(utimensat, root / 'file', (0, omit), (0, now)), outcome(os.utime, root / 'file')]
        seen.append(as_user(STRANGER, stranger))
        os.chmod(root / 'file', 0o600)
        seen.append(as_user(STRANGER, stranger))
        return seen
    same(scenario)


def test_times_move(same):
    """Which of the times an operation moves, of the file and of its directory, visible at once."""
    def scenario(root):
        seen = {}

        def make(name):
            place = root / name
            place.mkdir()
            (place / 'd').mkdir()
            write_all(place / 'file', b'data')
            os.symlink('file', place / 'link')
            for entry in ('file', 'd'):
                os.utime(place / entry, ns=(10**9, 10**9))
            os.utime(place, ns=(10**9, 10**9))
            warmfs.tick()
            return place

        def times(path):
            status = os.lstat(path)
            return status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns

        def with_file(act, flags=os.O_RDWR):
            def run(place):
                fd = os.open(place / 'file', flags)
                act(fd)
                os.close(fd)
            return run
        actions = {
            'nothing': lambda place: None,
            'write': with_file(lambda fd: os.write(fd, b'x')),
            'write-none': with_file(lambda fd: os.write(fd, b'')),
            'append': with_file(lambda fd: os.write(fd, b'x'), os.O_WRONLY | os.O_APPEND),
            'read': with_file(lambda fd: os.read(fd, 9)),
            'read-noatime': with_file(lambda fd: os.read(fd, 9), os.O_RDONLY | os.O_NOATIME),
            'truncate': lambda place: os.truncate(place / 'file', 1),
            'truncate-same': lambda place: os.truncate(place / 'file', 4),
            'ftruncate-same': with_file(lambda fd: os.ftruncate(fd, 4)),
            'open-trunc': with_file(lambda fd: None, os.O_WRONLY | os.O_TRUNC),
            'fallocate': with_file(lambda fd: os.posix_fallocate(fd, 0, 9000)),
            'chmod': lambda place: os.chmod(place / 'file', 0o600),
            'chown': lambda place: os.chown(place / 'file', USER, -1),
            'setxattr': lambda place: os.setxattr(place / 'file', 'user.x', b'1'),
            'link': lambda place: os.link(place / 'file', place / 'hard'),
            'rename': lambda place: os.rename(place / 'file', place / 'renamed'),
            'rename-in': lambda place: os.rename(place / 'file', place / 'd/file'),
            'rename-dir': lambda place: os.rename(place / 'd', place / 'e'),
            'unlink-one': lambda place: (os.link(place / 'file', root / f'{place.name}-hard'), os.unlink(place / 'file')),
            'create': lambda place: touch(place / 'new'),
            'open-existing': lambda place: touch(place / 'file'),
            'mkdir': lambda place: os.mkdir(place / 'new'),
            'mkdir-in': lambda place: os.mkdir(place / 'd/new'),
            'rmdir': lambda place: os.rmdir(place / 'd'),
            'symlink': lambda place: os.symlink('x', place / 'new'),
            'mknod': lambda place: os.mkfifo(place / 'new'),
            'list': lambda place: os.listdir(place),
            'failed-create': lambda place: opened(place / 'file', os.O_CREAT | os.O_EXCL),
            'readlink': lambda place: os.readlink(place / 'link'),
        }
        for name, act in actions.items():
            place = make(name)
            paths = {'dir': place, 'file': place / 'file', 'sub': place / 'd'}
            held = {key: os.open(path, os.O_PATH) for key, path in paths.items()}
            before = {key: times(f'/proc/self/fd/{fd}/.' if key != 'file' else path)
                      for (key, path), fd in zip(paths.items(), held.values())}
            act(place)

            def now(fd):
                status = os.stat(fd)
                return status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns
            seen[name] = {key: [a != b for a, b in zip(before[key], now(fd))] for key, fd in held.items()}
            for fd in held.values():
                os.close(fd)
        return seen
    same(scenario)


def test_statvfs(pair):
    native, mount = os.statvfs(pair.native), os.statvfs(pair.mount.point)
    for field in ('f_bsize', 'f_frsize', 'f_blocks', 'f_files', 'f_namemax'):
        assert getattr(mount, field) == getattr(native, field), field
    # Others may take or give back some of the disk between two looks.
    wait_until(lambda: abs(os.statvfs(pair.mount.point).f_bavail - os.statvfs(pair.native).f_bavail) * native.f_frsize < MI,
               what='the same space')
    inner = pair.mount.point / 'statvfs-dir'
    inner.mkdir()
    assert os.statvfs(inner).f_blocks == native.f_blocks


def test_identity(pair):
    """One device for all; inode numbers are those of the source, stay with the file, and differ between files."""
    root = pair.mount.point / 'identity'
    root.mkdir()
    (root / 'd').mkdir()
    touch(root / 'a')
    touch(root / 'b')
    os.symlink('x', root / 'l')
    names = ('.', 'd', 'a', 'b', 'l')
    assert len({os.lstat(root / name).st_dev for name in names}) == 1
    inodes = {name: os.lstat(root / name).st_ino for name in names}
    assert len(set(inodes.values())) == len(names)
    below = pair.mount.src / 'identity'
    assert inodes == {name: os.lstat(below / name).st_ino for name in names}
    os.rename(root / 'a', root / 'd/renamed')
    assert os.stat(root / 'd/renamed').st_ino == inodes['a']
    assert os.stat(pair.mount.point).st_ino == os.stat(pair.mount.src).st_ino


def test_stat_blocks(same):
    def scenario(root):
        fd = os.open(root / 'file', os.O_RDWR | os.O_CREAT, 0o644)
        os.pwrite(fd, b'x' * 100_000, 0)
        os.pwrite(fd, b'x', 10_000_000)
        os.fsync(fd)
        status = os.fstat(fd)
        os.close(fd)
        return status.st_blocks, status.st_blksize, status.st_size
    same(scenario)


# Data

def test_truncate(same):
    def scenario(root):
        write_all(root / 'file', b'x' * 10_000)
        (root / 'd').mkdir()
        seen = []
        for size in (5000, 8000, 0, 100_000, 1):
            os.truncate(root / 'file', size)
            seen.append((os.stat(root / 'file').st_size, (root / 'file').read_bytes()))
        fd = os.open(root / 'file', os.O_RDONLY)
        seen += [outcome(os.ftruncate, fd, 5), outcome(os.truncate, root / 'd', 0), outcome(os.truncate, root / 'absent', 0),
                 outcome(os.truncate, root / 'file', -1), outcome(os.truncate, root / 'file', 2**62)]
        os.close(fd)
        os.chmod(root / 'file', 0o644)
        seen.append(as_user(USER, outcome, os.truncate, root / 'file', 0))
        return seen
    same(scenario)


def test_file_size_limit(same):
    def scenario(root):
        def work():
            import resource
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            fd = os.open(root / 'file', os.O_RDWR | os.O_CREAT, 0o644)
            return [outcome(os.pwrite, fd, b'x' * 8000, 0), outcome(os.pwrite, fd, b'x' * 8000, 8000),
                    outcome(os.pwrite, fd, b'x', 10_000), outcome(os.ftruncate, fd, 20_000), outcome(os.ftruncate, fd, 500),
                    outcome(os.posix_fallocate, fd, 0, 20_000), os.fstat(fd).st_size]
        return in_child(work)
    same(scenario)


KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 0x10


def fallocate(fd, mode, offset, length):
    warmfs.check(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def test_fallocate(same):
    def scenario(root):
        seen = []
        for i, (mode, offset, length) in enumerate((
            (0, 0, 50_000), (0, 100_000, 50_000), (KEEP_SIZE, 0, 200_000), (KEEP_SIZE, 500_000, 10_000),
            (PUNCH_HOLE | KEEP_SIZE, 4096, 8192), (PUNCH_HOLE | KEEP_SIZE, 100, 20_000), (PUNCH_HOLE, 0, 4096),
            (ZERO_RANGE, 5000, 10_000), (ZERO_RANGE, 20_000, 50_000), (ZERO_RANGE | KEEP_SIZE, 20_000, 50_000),
            (0, 0, 0), (0, -1, 5), (0, 0, -5), (KEEP_SIZE | ZERO_RANGE | PUNCH_HOLE, 0, 100),
        )):
            path = root / str(i)
            write_all(path, bytes(range(1, 251)) * 120)
            fd = os.open(path, os.O_RDWR)
            value = outcome(fallocate, fd, mode, offset, length)
            os.fsync(fd)
            status = os.fstat(fd)
            seen.append((mode, offset, length, value, status.st_size, status.st_blocks, path.read_bytes()))
            os.close(fd)
        fd = os.open(root / '0', os.O_RDONLY)
        seen.append(outcome(fallocate, fd, 0, 0, 100))
        os.close(fd)
        return seen
    same(scenario)


def test_sync_calls(same):
    def scenario(root):
        write_all(root / 'file', b'data')
        (root / 'd').mkdir()
        seen = []
        for name, flags in (('file', os.O_RDWR), ('file', os.O_RDONLY), ('d', os.O_RDONLY), ('file', os.O_PATH)):
            fd = os.open(root / name, flags)
            seen += [outcome(os.fsync, fd), outcome(os.fdatasync, fd), outcome(warmfs.check, libc.syncfs(fd)),
                     outcome(lambda fd: warmfs.check(libc.sync_file_range(
                         fd, ctypes.c_long(0), ctypes.c_long(0), 2)), fd) if name == 'file' else None]
            os.close(fd)
        return seen
    same(scenario)


def test_read_write(same):
    def scenario(root):
        fd = os.open(root / 'file', os.O_RDWR | os.O_CREAT, 0o644)
        seen = [os.read(fd, 10), os.write(fd, b'0123456789'), os.lseek(fd, 0, 0), os.read(fd, 4), os.read(fd, 100),
                os.read(fd, 1), os.pwrite(fd, b'end', 20), os.pread(fd, 100, 0), os.pread(fd, 5, 23), os.pread(fd, 5, 1000),
                os.pwritev(fd, [b'ab', b'', b'cd'], 2), os.preadv(fd, [bytearray(3), bytearray(5)], 0),
                outcome(os.pread, fd, 1, -1), outcome(os.pwrite, fd, b'x', -1), os.write(fd, b''),
                outcome(os.pwritev, fd, [b'app'], 0, os.RWF_APPEND), outcome(os.pwritev, fd, [b'x'], 0, os.RWF_DSYNC),
                outcome(os.pwritev, fd, [b'x'], 1, os.RWF_SYNC), os.fstat(fd).st_size]
        big = os.urandom(3 * MI + 17)
        digest = os.pwrite(fd, big, 1000) == len(big) and os.pread(fd, len(big), 1000) == big
        os.close(fd)
        return seen, digest, os.stat(root / 'file').st_size
    same(scenario)


def test_append(same):
    """Appends of several processes never overwrite each other."""
    def scenario(root):
        touch(root / 'log')

        def work(letter):
            fd = os.open(root / 'log', os.O_WRONLY | os.O_APPEND)
            for _ in range(200):
                os.write(fd, letter * 37)
            os.close(fd)
        children = [Child(work, letter) for letter in (b'a', b'b', b'c')]
        for child in children:
            child.result()
        data = (root / 'log').read_bytes()
        whole = all(len(set(data[i:i + 37])) == 1 for i in range(0, len(data), 37))
        fd = os.open(root / 'log', os.O_RDWR | os.O_APPEND)
        os.lseek(fd, 0, 0)
        # On Linux a positioned write to such a descriptor appends as well.
        os.pwrite(fd, b'end', 0)
        seen = len(data), whole, (root / 'log').read_bytes()[-3:], os.lseek(fd, 0, 1)
        os.close(fd)
        return seen
    assert same(scenario)[1]


def test_flags_changed_later(same):
    def scenario(root):
        write_all(root / 'file', b'0123456789')
        fd = os.open(root / 'file', os.O_RDWR)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        os.write(fd, b'end')
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b'start', 0)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_APPEND | os.O_ACCMODE)
        os.close(fd)
        return (root / 'file').read_bytes(), flags
    same(scenario)


def test_direct_io(same):
    def scenario(root):
        fd = os.open(root / 'file', os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
        page = mmap.mmap(-1, 65536)
        page.write(bytes(range(256)) * 256)
        back = mmap.mmap(-1, 65536)
        seen = [os.pwrite(fd, page, 0), os.preadv(fd, [back], 0), back[:] == page[:], os.preadv(fd, [back], 65536),
                os.preadv(fd, [back], 61440), os.fstat(fd).st_size]
        plain = os.open(root / 'file', os.O_RDWR)
        os.pwrite(plain, b'buffered', 4096)
        os.preadv(fd, [back], 0)
        seen.append(back[4096:4104])
        os.pwrite(fd, page, 0)
        seen.append(os.pread(plain, 8, 4096) == page[4096:4104])
        os.close(plain)
        os.close(fd)
        return seen
    same(scenario)


def test_seek(same):
    def scenario(root):
        fd = os.open(root / 'file', os.O_RDWR | os.O_CREAT, 0o644)
        os.pwrite(fd, b'x' * 4096, 1 * MI)
        os.pwrite(fd, b'x' * 4096, 3 * MI)
        os.ftruncate(fd, 5 * MI)
        os.fsync(fd)
        seen = []
        for position in (0, 1, MI, MI + 4095, MI + 4096, 2 * MI, 3 * MI + 5000, 5 * MI - 1, 5 * MI, 9 * MI, -1):
            seen.append((position, outcome(os.lseek, fd, position, os.SEEK_DATA), outcome(os.lseek, fd, position, os.SEEK_HOLE),
                         outcome(os.lseek, fd, position, os.SEEK_SET)))
        os.lseek(fd, 100, os.SEEK_SET)
        seen += [os.lseek(fd, 50, os.SEEK_CUR), os.lseek(fd, -10, os.SEEK_END), outcome(os.lseek, fd, -9 * MI, os.SEEK_END),
                 outcome(os.lseek, fd, 0, 99)]
        os.close(fd)
        return seen
    same(scenario)


def test_seek_end_after_growth_elsewhere(same):
    """The end is where another descriptor, or another process, has just moved it."""
    def scenario(root):
        one = os.open(root / 'file', os.O_RDWR | os.O_CREAT, 0o644)
        two = os.open(root / 'file', os.O_RDWR)
        seen = [os.lseek(one, 0, os.SEEK_END)]
        os.write(two, b'x' * 1000)
        seen.append(os.lseek(one, 0, os.SEEK_END))
        in_child(write_all, root / 'file', b'y' * 5000, os.O_WRONLY | os.O_APPEND)
        seen += [os.lseek(one, 0, os.SEEK_END), os.fstat(one).st_size, len(os.pread(one, 9999, 0))]
        os.ftruncate(two, 10)
        seen += [os.lseek(one, 0, os.SEEK_END), os.pread(one, 99, 0)]
        os.close(one)
        os.close(two)
        return seen
    same(scenario)


def test_copies_in_the_kernel(same):
    """copy_file_range, sendfile and splice give what read gives."""
    def scenario(root):
        data = bytes(range(251)) * 2000
        write_all(root / 'from', data)
        source = os.open(root / 'from', os.O_RDONLY)
        target = os.open(root / 'to', os.O_RDWR | os.O_CREAT, 0o644)
        done = 0
        while done < len(data):
            done += os.copy_file_range(source, target, len(data) - done, done, done)
        seen = [(root / 'to').read_bytes() == data, os.copy_file_range(source, target, 10, len(data), 0)]
        os.ftruncate(target, 0)
        os.lseek(target, 0, 0)
        done = 0
        while done < len(data):
            done += os.sendfile(target, source, done, len(data) - done)
        seen.append((root / 'to').read_bytes() == data)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            sent = os.sendfile(ours.fileno(), source, 1000, 5000)
            seen.append(theirs.recv(sent, socket.MSG_WAITALL) == data[1000:1000 + sent])
        reader, writer = os.pipe()
        moved = os.splice(source, writer, 4096, offset_src=300)
        seen.append(os.read(reader, moved) == data[300:300 + moved])
        os.write(writer, b'spliced')
        os.splice(reader, target, 7, offset_dst=10)
        seen.append(os.pread(target, 7, 10))
        for fd in (reader, writer, source, target):
            os.close(fd)
        return seen
    assert same(scenario)[0]


def test_sendfile_after_changes(same):
    """What was stored or written a moment ago is what is sent."""
    def scenario(root):
        write_all(root / 'file', b'0' * 8192)
        fd = os.open(root / 'file', os.O_RDWR)
        seen = []

        def sent():
            reader, writer = os.pipe()
            os.sendfile(writer, fd, 0, 10)
            data = os.read(reader, 10)
            os.close(reader)
            os.close(writer)
            return data
        seen.append(sent())
        memory = mmap.mmap(fd, 8192)
        memory[:5] = b'store'
        seen.append(sent())
        os.pwrite(fd, b'write', 5)
        seen.append(sent())
        os.ftruncate(fd, 4096)
        seen.append(os.stat(root / 'file').st_size)
        memory.close()
        os.close(fd)
        return seen
    same(scenario)


def test_copy_between_mount_and_native(pair, workdir):
    """Applications fall back by themselves, if the kernel does not."""
    data = os.urandom(200_000)
    write_all(pair.mount.point / 'copy-from', data)
    warmfs.run('cp', pair.mount.point / 'copy-from', workdir / 'out')
    warmfs.run('cp', '--sparse=always', workdir / 'out', pair.mount.point / 'copy-back')
    warmfs.run('dd', f'if={workdir}/out', f'of={pair.mount.point}/copy-dd', 'bs=64K', 'oflag=append', 'conv=notrunc')
    assert (pair.mount.point / 'copy-back').read_bytes() == data
    assert (pair.mount.point / 'copy-dd').read_bytes() == data


def test_mmap(same):
    def scenario(root):
        write_all(root / 'file', b'-' * 16384)
        fd = os.open(root / 'file', os.O_RDWR)
        shared = mmap.mmap(fd, 16384)
        private = mmap.mmap(fd, 16384, mmap.MAP_PRIVATE)
        shared[0:6] = b'shared'
        private[10:17] = b'private'
        os.pwrite(fd, b'written', 8192)
        seen = [os.pread(fd, 20, 0), shared[8192:8199], private[10:17], private[0:6]]

        def other():
            mine = mmap.mmap(os.open(root / 'file', os.O_RDWR), 16384)
            mine[100:105] = b'other'
            return mine[0:6]
        seen += [in_child(other), shared[100:105]]
        shared.flush()
        os.fsync(fd)
        with open(root / 'file', 'rb') as again:
            seen.append(again.read())
        read_only = os.open(root / 'file', os.O_RDONLY)
        seen.append(outcome(mmap.mmap, read_only, 16384))
        for fd in (fd, read_only):
            os.close(fd)
        return seen
    same(scenario)


def test_mapping_beyond_the_end(same):
    """A store behind a truncation is SIGBUS, as ever."""
    def scenario(root):
        def work():
            fd = os.open(root / 'file', os.O_RDWR | os.O_CREAT, 0o644)
            os.ftruncate(fd, 16384)
            memory = mmap.mmap(fd, 16384)
            memory[12000:12001] = b'x'
            os.ftruncate(fd, 4096)
            memory[100:101] = b'x'
            memory[12000:12001] = b'x'
        child = Child(work)
        return warmfs.describe_status(child.wait())
    assert same(scenario) == 'killed by SIGBUS'


def test_times_after_mapped_store(same):
    """A store through a mapping moves mtime by the next msync at the latest."""
    def scenario(root):
        write_all(root / 'file', b'-' * 4096)
        os.utime(root / 'file', ns=(10**9, 10**9))
        fd = os.open(root / 'file', os.O_RDWR)
        memory = mmap.mmap(fd, 4096)
        memory[0:1] = b'x'
        memory.flush()
        memory.close()
        os.close(fd)
        # What stat remembers of before is gone by now.
        time.sleep(1.5)
        return os.stat(root / 'file').st_mtime_ns > 10**9
    assert same(scenario)


def test_execute(same):
    def scenario(root):
        write_all(root / 'script', b'#!/bin/sh\necho ran "$@"\n', mode=0o755)
        with open('/bin/true', 'rb') as binary:
            write_all(root / 'binary', binary.read(), mode=0o755)
        write_all(root / 'not', b'#!/bin/sh\n', mode=0o644)
        seen = [subprocess.run([root / 'script', 'a b'], capture_output=True, timeout=20 * warmfs.SLOW).stdout,
                subprocess.run([root / 'binary'], timeout=20 * warmfs.SLOW).returncode,
                outcome(lambda: subprocess.run([root / 'not'], timeout=20 * warmfs.SLOW))]
        with open('/usr/bin/id', 'rb') as binary:
            write_all(root / 'id', binary.read(), mode=0o755)
        os.chown(root / 'id', USER, GROUP)
        os.chmod(root / 'id', 0o6755)
        seen.append(as_user(STRANGER, lambda: subprocess.run([root / 'id'], capture_output=True, text=True,
                                                             timeout=20 * warmfs.SLOW).stdout))
        return seen
    assert 'euid=12345' in same(scenario)[3]


def test_tmpfile(same):
    def scenario(root):
        os.umask(0o022)
        fd = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o666)
        os.write(fd, b'hidden')
        seen = [os.listdir(root), os.fstat(fd).st_nlink, oct(os.fstat(fd).st_mode), os.fstat(fd).st_size]
        link_followed(f'/proc/self/fd/{fd}', root / 'named')
        seen += [os.fstat(fd).st_nlink, (root / 'named').read_bytes()]
        os.write(fd, b' more')
        seen.append((root / 'named').read_bytes())
        seen.append(outcome(link_followed, f'/proc/self/fd/{fd}', root / 'named'))
        os.close(fd)
        fd = os.open(root, os.O_TMPFILE | os.O_EXCL | os.O_RDWR, 0o600)
        seen.append(outcome(link_followed, f'/proc/self/fd/{fd}', root / 'never'))
        os.close(fd)
        seen.append(opened(root, os.O_TMPFILE | os.O_RDONLY))
        os.chmod(root, 0o755)
        seen.append(as_user(USER, opened, root, os.O_TMPFILE | os.O_RDWR))
        os.chmod(root, 0o2777)
        os.chown(root, 0, EXTRA_GROUP)

        def theirs():
            fd = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o644)
            status = os.fstat(fd)
            return status.st_uid, status.st_gid, oct(status.st_mode)
        seen.append(as_user(USER, theirs, gid=GROUP))
        return seen
    same(scenario)


def test_many_open_files(same):
    def scenario(root):
        def work():
            import resource
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 5000), hard))
            fds = []
            for i in range(2500):
                fd = os.open(root / str(i), os.O_RDWR | os.O_CREAT, 0o644)
                os.pwrite(fd, str(i).encode(), 0)
                fds.append(fd)
            right = sum(os.pread(fd, 9, 0) == str(i).encode() for i, fd in enumerate(fds))
            for i in range(0, 2500, 2):
                os.unlink(root / str(i))
            right += sum(os.pread(fd, 9, 0) == str(i).encode() for i, fd in enumerate(fds))
            return right, len(os.listdir(root))
        return in_child(work)
    assert same(scenario) == (5000, 1250)


# Extended attributes and ACLs

def test_xattrs(same):
    def scenario(root):
        touch(root / 'file')
        (root / 'd').mkdir()
        os.symlink('file', root / 'link')
        seen = []
        for name in ('file', 'd'):
            path = root / name
            for key, value, flags in (
                ('user.a', b'1', 0), ('user.a', b'2', os.XATTR_CREATE), ('user.a', b'3', os.XATTR_REPLACE),
                ('user.b', b'4', os.XATTR_REPLACE), ('user.empty', b'', 0), ('user.big', b'x' * 3000, 0),
                ('trusted.t', b'5', 0), ('security.s', b'6', 0), ('user.' + 'n' * 250, b'7', 0), ('user.' + 'n' * 251, b'8', 0),
                ('nonsense', b'9', 0), ('user.', b'10', 0), ('user.nul', b'a\0b', 0), ('other.x', b'11', 0),
                ('user.huge', b'x' * 65537, 0),
            ):
                seen.append((key, len(value), flags, outcome(os.setxattr, path, key, value, flags),
                             outcome(os.getxattr, path, key)))
            seen.append(sorted(os.listxattr(path)))
            seen += [outcome(os.removexattr, path, 'user.a'), outcome(os.removexattr, path, 'user.a'),
                     outcome(os.getxattr, path, 'user.a'), outcome(os.getxattr, path, 'user.absent')]
            buffer = ctypes.create_string_buffer(10)
            for size in (0, 10):
                seen += [outcome(warmfs.check, libc.getxattr(os.fsencode(path), b'user.big', buffer, size)),
                         outcome(warmfs.check, libc.listxattr(os.fsencode(path), buffer, size))]
        seen += [outcome(os.setxattr, root / 'link', 'user.x', b'1', follow_symlinks=False),
                 outcome(os.setxattr, root / 'link', 'trusted.x', b'1', follow_symlinks=False),
                 outcome(os.listxattr, root / 'link', follow_symlinks=False),
                 outcome(os.listxattr, root / 'absent')]
        fd = os.open(root / 'file', os.O_RDONLY)
        seen += [outcome(os.setxattr, fd, 'user.fd', b'1'), outcome(os.getxattr, fd, 'user.fd'), sorted(os.listxattr(fd))]
        os.close(fd)
        os.chmod(root / 'file', 0o644)

        def user():
            return [outcome(os.setxattr, root / 'file', 'user.u', b'1'), outcome(os.getxattr, root / 'file', 'user.big'),
                    outcome(os.getxattr, root / 'file', 'trusted.t'), sorted(os.listxattr(root / 'file')),
                    outcome(os.setxattr, root / 'file', 'trusted.u', b'1'), outcome(os.removexattr, root / 'file', 'user.big')]
        seen.append(as_user(USER, user))
        os.mkdir(root / 'sticky')
        os.chmod(root / 'sticky', 0o1777)
        seen.append(as_user(USER, outcome, os.setxattr, root / 'sticky', 'user.x', b'1'))
        return seen
    same(scenario)


ACCESS = acl((ACL_USER_OBJ, 6), (ACL_USER, 6, USER), (ACL_GROUP_OBJ, 4), (ACL_GROUP, 2, EXTRA_GROUP), (ACL_MASK, 6),
             (ACL_OTHER, 0))


def may(path, *users):
    """What each of the users may do with a file."""
    def work():
        return [opened(path, os.O_RDONLY), opened(path, os.O_WRONLY), os.access(path, os.X_OK), os.access(path, os.R_OK)]
    return [as_user(uid, work, gid=gid, groups=groups) for uid, gid, groups in users]


PEOPLE = [(USER, USER, []), (STRANGER, STRANGER, []), (STRANGER, GROUP, []), (STRANGER, STRANGER, [EXTRA_GROUP]),
          (STRANGER, STRANGER, [GROUP, EXTRA_GROUP])]


def test_acls(same):
    def scenario(root):
        write_all(root / 'file', b'data', mode=0o640)
        os.chown(root / 'file', 0, GROUP)
        path = root / 'file'
        seen = [may(path, *PEOPLE)]

        def look():
            return facts(path), outcome(os.getxattr, path, 'system.posix_acl_access'), may(path, *PEOPLE)
        seen.append(outcome(os.setxattr, path, 'system.posix_acl_access', ACCESS))
        seen.append(look())
        os.chmod(path, 0o604)
        seen.append(look())
        os.chmod(path, 0o660)
        seen.append(look())
        minimal = acl((ACL_USER_OBJ, 7), (ACL_GROUP_OBJ, 5), (ACL_OTHER, 1))
        seen.append(outcome(os.setxattr, path, 'system.posix_acl_access', minimal))
        seen.append(look())
        seen.append(outcome(os.setxattr, path, 'system.posix_acl_access', ACCESS))
        seen.append(outcome(os.removexattr, path, 'system.posix_acl_access'))
        seen.append(look())
        seen.append(outcome(os.setxattr, path, 'system.posix_acl_access', b'nonsense'))
        seen.append(outcome(os.setxattr, path, 'system.posix_acl_default', ACCESS))
        seen.append(as_user(STRANGER, outcome, os.setxattr, path, 'system.posix_acl_access', ACCESS))
        return seen
    same(scenario)


def test_acl_of_a_foreign_group(same):
    """Setting an ACL takes set-group-ID away as chmod would."""
    def scenario(root):
        seen = []
        for group in (GROUP, STRANGER, EXTRA_GROUP):
            path = root / str(group)
            touch(path)
            os.chown(path, USER, group)
            os.chmod(path, 0o2755)
            seen.append((as_user(USER, outcome, os.setxattr, path, 'system.posix_acl_access', ACCESS, gid=GROUP,
                                 groups=[EXTRA_GROUP]), facts(path)))
        return seen
    same(scenario)


def test_default_acls(same):
    """What is made in such a directory inherits, and the umask has no say."""
    def scenario(root):
        directory = root / 'd'
        directory.mkdir()
        os.chmod(directory, 0o777)
        os.setxattr(directory, 'system.posix_acl_default', acl(
            (ACL_USER_OBJ, 7), (ACL_USER, 7, STRANGER), (ACL_GROUP_OBJ, 5), (ACL_MASK, 7), (ACL_OTHER, 5)))

        def work():
            touch(directory / 'file', 0o666)
            touch(directory / 'private', 0o600)
            os.mkdir(directory / 'sub', 0o777)
            os.mkdir(directory / 'sub/sub', 0o700)
            os.mkfifo(directory / 'fifo', 0o666)
            os.symlink('x', directory / 'link')
            fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666)
            mode = oct(os.fstat(fd).st_mode)
            os.close(fd)
            return mode
        seen = [as_user(USER, work, umask=umask) if umask == 0 else None for umask in (0,)]
        seen += [(name, facts(directory / name), outcome(warmfs.xattrs, directory / name))
                 for name in ('file', 'private', 'sub', 'sub/sub', 'fifo', 'link')]
        touch_mode = as_user(USER, lambda: (touch(directory / 'masked', 0o666), facts(directory / 'masked'))[1], umask=0o077)
        seen.append((touch_mode, warmfs.xattrs(directory / 'masked'), may(directory / 'masked', *PEOPLE)))
        os.removexattr(directory, 'system.posix_acl_default')
        seen.append(as_user(USER, lambda: (touch(directory / 'after', 0o666), facts(directory / 'after'))[1], umask=0o077))
        return seen
    same(scenario)


# Who may

def test_access_by_mode(same):
    """All modes of a file and a directory, seen by owner, group, supplementary group and stranger."""
    def scenario(root):
        people = {'owner': (USER, STRANGER, []), 'group': (STRANGER, GROUP, []), 'extra': (STRANGER, STRANGER, [GROUP]),
                  'other': (STRANGER, STRANGER, [])}
        for mode in (0o000, 0o400, 0o040, 0o004, 0o200, 0o020, 0o002, 0o100, 0o010, 0o001, 0o777, 0o750, 0o705):
            touch(root / f'file-{mode:o}')
            os.mkdir(root / f'dir-{mode:o}')
            touch(root / f'dir-{mode:o}/inside')
            for name in ('file', 'dir'):
                os.chown(root / f'{name}-{mode:o}', USER, GROUP)
                os.chmod(root / f'{name}-{mode:o}', mode)

        def work():
            seen = {}
            for entry in sorted(os.listdir(root)):
                path = root / entry
                seen[entry] = [os.access(path, way) for way in (os.R_OK, os.W_OK, os.X_OK, os.F_OK)]
                if entry.startswith('file'):
                    seen[entry] += [opened(path, os.O_RDONLY), opened(path, os.O_WRONLY), opened(path, os.O_RDWR),
                                    outcome(os.truncate, path, 0), opened(path, os.O_WRONLY | os.O_CREAT)]
                else:
                    seen[entry] += [outcome(os.listdir, path), outcome(lambda: bool(os.stat(path / 'inside'))),
                                    outcome(touch, path / f'new-{os.getuid()}-{os.getgid()}'),
                                    outcome(os.mkdir, path / 'sub'), outcome(os.rmdir, path / 'sub'),
                                    outcome(os.rename, path / 'inside', path / 'moved'),
                                    outcome(os.rename, path / 'moved', path / 'inside'),
                                    outcome(os.link, path / 'inside', path / 'linked'),
                                    outcome(os.chdir, path)]
                    os.chdir('/')
            return seen
        return {name: as_user(uid, work, gid=gid, groups=groups) for name, (uid, gid, groups) in people.items()}
    same(scenario)


def test_sticky_directory(same):
    def scenario(root):
        directory = root / 'sticky'
        directory.mkdir()
        os.chmod(directory, 0o1777)
        for owner in (USER, STRANGER, 0):
            touch(directory / f'file-{owner}', 0o666)
            os.mkdir(directory / f'dir-{owner}')
            for name in ('file', 'dir'):
                os.chown(directory / f'{name}-{owner}', owner, owner)

        def work():
            seen = []
            for owner in (USER, STRANGER, 0):
                seen += [outcome(os.rename, directory / f'file-{owner}', directory / 'x'),
                         outcome(os.rename, directory / 'x', directory / f'file-{owner}'),
                         outcome(os.link, directory / f'file-{owner}', directory / f'hard-{owner}'),
                         outcome(os.rmdir, directory / f'dir-{owner}'), outcome(os.unlink, directory / f'file-{owner}')]
            touch(directory / 'mine')
            seen.append(outcome(os.rename, directory / 'mine', directory / 'file-0'))
            return seen
        return as_user(USER, work), sorted(os.listdir(directory))
    same(scenario)


def test_created_as_the_caller(same):
    """New objects belong to whoever made them, with the group that the kernel would give."""
    def scenario(root):
        def work():
            touch(root / 'file')
            os.mkdir(root / 'dir')
            os.symlink('x', root / 'link')
            os.mkfifo(root / 'fifo')
            os.link(root / 'file', root / 'hard')
            return [facts(root / name) for name in ('file', 'dir', 'link', 'fifo', 'hard')]
        return as_user(USER, work, gid=EXTRA_GROUP, groups=[GROUP])
    same(scenario)


# Locks

def struct_flock(kind, start=0, length=0):
    return struct.pack('hhqqi4x', kind, 0, start, length, 0)


def test_flock(same):
    def scenario(root):
        touch(root / 'lock')
        fd = os.open(root / 'lock', os.O_RDWR)

        def attempt(how):
            mine = os.open(root / 'lock', os.O_RDWR)
            try:
                return outcome(fcntl.flock, mine, how | fcntl.LOCK_NB)
            finally:
                os.close(mine)
        seen = []
        for how in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
            fcntl.flock(fd, how)
            seen += [in_child(attempt, fcntl.LOCK_SH), in_child(attempt, fcntl.LOCK_EX), attempt(fcntl.LOCK_EX)]
        fcntl.flock(fd, fcntl.LOCK_EX)
        copy = os.dup(fd)
        os.close(fd)
        seen.append(in_child(attempt, fcntl.LOCK_EX))
        os.close(copy)
        seen.append(in_child(attempt, fcntl.LOCK_EX))
        return seen
    same(scenario)


def test_fcntl_locks(same):
    def scenario(root):
        write_all(root / 'lock', b'x' * 100)
        fd = os.open(root / 'lock', os.O_RDWR)

        def attempt(how, length, start):
            mine = os.open(root / 'lock', os.O_RDWR)
            return outcome(fcntl.lockf, mine, how | fcntl.LOCK_NB, length, start)

        def holder():
            mine = os.open(root / 'lock', os.O_RDWR)
            answer = fcntl.fcntl(mine, fcntl.F_GETLK, struct_flock(fcntl.F_WRLCK, 0, 0))
            kind, _, start, length, pid = struct.unpack('hhqqi4x', answer)
            return kind, start, length, pid == os.getppid()
        seen = []
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
        for start, length in ((0, 20), (0, 21), (30, 0), (29, 1), (0, 0)):
            seen += [in_child(attempt, fcntl.LOCK_EX, length, start), in_child(attempt, fcntl.LOCK_SH, length, start)]
        seen.append(in_child(holder))
        fcntl.lockf(fd, fcntl.LOCK_SH, 10, 20)
        seen += [in_child(attempt, fcntl.LOCK_EX, 10, 20), in_child(attempt, fcntl.LOCK_SH, 10, 20)]
        fcntl.lockf(fd, fcntl.LOCK_UN, 5, 20)
        seen += [in_child(attempt, fcntl.LOCK_EX, 5, 20), in_child(attempt, fcntl.LOCK_EX, 5, 25)]
        other = os.open(root / 'lock', os.O_RDONLY)
        os.close(other)
        # Closing any descriptor of the file drops the process's locks.
        seen.append(in_child(attempt, fcntl.LOCK_EX, 0, 0))
        read_only = os.open(root / 'lock', os.O_RDONLY)
        seen.append(outcome(fcntl.lockf, read_only, fcntl.LOCK_EX | fcntl.LOCK_NB))
        for fd in (fd, read_only):
            os.close(fd)
        return seen
    same(scenario)


def test_ofd_locks(same):
    set_lock = 37

    def scenario(root):
        touch(root / 'lock')
        one, two = os.open(root / 'lock', os.O_RDWR), os.open(root / 'lock', os.O_RDWR)
        seen = [bool(outcome(fcntl.fcntl, one, set_lock, struct_flock(fcntl.F_WRLCK))),
                outcome(fcntl.fcntl, two, set_lock, struct_flock(fcntl.F_RDLCK))]
        os.close(one)
        seen.append(isinstance(outcome(fcntl.fcntl, two, set_lock, struct_flock(fcntl.F_RDLCK)), bytes))
        os.close(two)
        return seen
    same(scenario)


@pytest.mark.parametrize('way', ['flock', 'fcntl'])
def test_waiting_for_a_lock(same, way):
    """A waiter gets the lock when its holder lets go, or dies."""
    take = fcntl.flock if way == 'flock' else fcntl.lockf

    def scenario(root):
        touch(root / 'lock')
        seen = []
        for end in ('unlock', 'close', 'die'):
            holding, waiting = os.pipe(), os.pipe()

            def hold():
                fd = os.open(root / 'lock', os.O_RDWR)
                take(fd, fcntl.LOCK_EX)
                os.write(holding[1], b'h')
                os.read(waiting[0], 1)
                if end == 'unlock':
                    take(fd, fcntl.LOCK_UN)
                elif end == 'close':
                    os.close(fd)
                else:
                    os.kill(os.getpid(), signal.SIGKILL)

            def wait():
                fd = os.open(root / 'lock', os.O_RDWR)
                take(fd, fcntl.LOCK_EX)
                return 'got it'
            holder = Child(hold)
            assert warmfs.readable(holding[0], 10)
            waiter = Child(wait)
            wait_until(waiter.sleeping)
            os.write(waiting[1], b'w')
            seen.append(waiter.result())
            holder.wait()
            for fd in holding + waiting:
                os.close(fd)
        return seen
    same(scenario)


def test_lock_of_renamed_and_unlinked(same):
    def scenario(root):
        touch(root / 'lock')
        fd = os.open(root / 'lock', os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.rename(root / 'lock', root / 'renamed')

        def attempt():
            return outcome(fcntl.flock, os.open(root / 'renamed', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen = [in_child(attempt)]
        os.unlink(root / 'renamed')
        touch(root / 'renamed')
        seen.append(in_child(attempt))
        os.close(fd)
        return seen
    same(scenario)


# All together

def random_operations(root, seed, count):
    """A random history of operations; the same for the same seed, if the filesystem is."""
    choose = random.Random(seed)
    names = [f'{directory}{name}' for directory in ('', 'd/', 'e/', 'd/f/') for name in ('a', 'b', 'c.seg', 'd', 'e')]
    handles = []
    seen = []

    def path():
        return root / choose.choice(names)

    def open_file():
        flags = choose.choice([os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_TRUNC])
        flags |= choose.choice([0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL])
        # A new segment is not a new file: keep to opening it natively the same.
        name = path()
        if name.name.endswith('.seg') and not os.path.lexists(name):
            flags &= ~os.O_CREAT
        fd = outcome(os.open, name, flags, 0o640)
        if isinstance(fd, int):
            handles.append(fd)
            return 'opened'
        return fd

    def with_handle(act):
        def run():
            return outcome(act, choose.choice(handles)) if handles else None
        return run

    def close():
        if handles:
            os.close(handles.pop(choose.randrange(len(handles))))

    actions = [
        open_file, open_file, close,
        with_handle(lambda fd: os.pwrite(fd, choose.randbytes(choose.randrange(1, 9000)), choose.randrange(50_000))),
        with_handle(lambda fd: os.write(fd, choose.randbytes(choose.randrange(1, 9000)))),
        with_handle(lambda fd: os.pread(fd, choose.randrange(1, 9000), choose.randrange(50_000))),
        with_handle(lambda fd: os.ftruncate(fd, choose.randrange(60_000))),
        with_handle(lambda fd: os.fstat(fd).st_size), with_handle(lambda fd: os.fstat(fd).st_nlink),
        with_handle(lambda fd: os.posix_fallocate(fd, choose.randrange(30_000), choose.randrange(1, 30_000))),
        with_handle(lambda fd: os.lseek(fd, 0, os.SEEK_END)), with_handle(os.fsync),
        lambda: outcome(os.mkdir, path()), lambda: outcome(os.rmdir, path()),
        lambda: outcome(os.unlink, path()), lambda: outcome(os.rename, path(), path()),
        lambda: outcome(os.link, path(), path(), follow_symlinks=False),
        # A create through a symbolic link would make a segment, too.
        lambda: outcome(os.symlink, choose.choice([name for name in names if '.seg' not in name]), path()),
        lambda: outcome(os.truncate, path(), choose.randrange(60_000)),
        lambda: outcome(os.chmod, path(), choose.choice([0o600, 0o644, 0o755, 0o4711])),
        lambda: outcome(os.chown, path(), choose.choice([0, USER]), GROUP, follow_symlinks=False),
        lambda: outcome(facts, path()), lambda: outcome(lambda name: sorted(os.listdir(name)), path()),
        lambda: outcome(renameat2, path(), path(), choose.choice([RENAME_EXCHANGE, RENAME_NOREPLACE])),
        lambda: outcome(os.setxattr, path(), 'user.x', choose.randbytes(5)),
        lambda: outcome(os.getxattr, path(), 'user.x'),
    ]
    for directory in ('d', 'e', 'd/f'):
        (root / directory).mkdir()
    for _ in range(count):
        seen.append(choose.choice(actions)())
    for fd in handles:
        os.close(fd)
    return seen, tree(root)


@pytest.mark.limit(180)
def test_random_operations(same):
    """Set WARMFS_SEED to repeat a run."""
    seed = int(os.environ.get('WARMFS_SEED', time.time_ns() % 10**9))
    print(f'WARMFS_SEED={seed}')
    for i in range(5):
        same(lambda root: random_operations(root, seed + i, 1500))


@pytest.mark.limit(180)
def test_processes_together(pair, children):
    """Several processes in the same few directories; afterwards the mount and the source agree."""
    seed = int(os.environ.get('WARMFS_SEED', time.time_ns() % 10**9))
    print(f'WARMFS_SEED={seed}')
    root = pair.mount.point / 'together'
    for directory in ('d', 'e'):
        (root / directory).mkdir(parents=True)

    def work(number):
        choose = random.Random(seed * 10 + number)

        def path():
            return root / choose.choice('de') / choose.choice(['a', 'b', 'c', 'x.seg', 'y.seg'])
        for _ in range(800):
            outcome(choose.choice([
                lambda: write_all(path(), b'x' * 5000), lambda: os.unlink(path()), lambda: os.rename(path(), path()),
                lambda: os.link(path(), path()), lambda: os.stat(path()), lambda: open(path(), 'rb').read(),
                lambda: os.listdir(root / 'd'), lambda: os.truncate(path(), 100), lambda: os.mkdir(path()),
                lambda: os.rmdir(path()),
            ]))
    for number in range(4):
        children.start(work, number)
    for child in children:
        child.result(120)
    assert tree(root) == tree(pair.mount.src / 'together')


# Special mounts

def test_changes_below_the_mount(warm):
    """With attr_timeout=0 what is done in the source itself shows at once."""
    mount = warm('match=*.seg', 'size=64K', 'attr_timeout=0')
    write_all(mount.point / 'file', b'one')
    assert os.stat(mount.point / 'file').st_size == 3
    with open(mount.src / 'file', 'ab') as file:
        file.write(b' two')
    assert os.stat(mount.point / 'file').st_size == 7
    os.chmod(mount.src / 'file', 0o600)
    assert stat.S_IMODE(os.stat(mount.point / 'file').st_mode) == 0o600


def test_source_that_cannot_stack(warm, workdir):
    """Over two others there is no passthrough: it works all the same, and one log line says so."""
    lowest = warm('match=*.low', 'size=64K')
    (lowest.point / 'sub').mkdir()
    lower = warm('match=*.low', 'size=64K', source=lowest.point / 'sub', point=workdir / 'lower')
    (lower.point / 'sub').mkdir()
    upper = warm('match=*.up', f'size={MI}', source=lower.point / 'sub', point=workdir / 'upper')
    touch(upper.point / 'plain')
    upper.wait_settled(2)
    fd = os.open(upper.point / 'a.up', os.O_RDWR | os.O_CREAT, 0o644)
    assert os.fstat(fd).st_size == MI
    os.pwrite(fd, b'data', 1000)
    assert os.pread(fd, 4, 1000) == b'data'
    memory = mmap.mmap(fd, MI)
    assert memory[1000:1004] == b'data'
    memory[2000:2004] = b'more'
    memory.flush()
    memory.close()
    os.fsync(fd)
    os.close(fd)
    assert (lower.src / 'sub/a.up').read_bytes()[2000:2004] == b'more'
    assert (upper.point / 'a.up').read_bytes()[1000:1004] == b'data'
    for i in range(5):
        write_all(upper.point / f'{i}.up', b'x')
    assert len(upper.log_lines('(?i)passthrough')) == 1, upper.report()
    assert lower.log_lines('(?i)passthrough') == []
    upper.stop()
    lower.stop()
    lowest.stop()


def test_passthrough_is_used(warm):
    """The data of an open file does not need the daemon: it is still there when the daemon is not."""
    mount = warm('match=*.seg', f'size={MI}')
    fds = {name: os.open(mount.point / name, os.O_RDWR | os.O_CREAT, 0o644) for name in ('a.seg', 'plain')}
    assert mount.log_lines('(?i)passthrough') == []
    mount.kill()
    for name, fd in fds.items():
        assert os.pwrite(fd, b'alone', 0) == 5, name
        assert os.pread(fd, 5, 0) == b'alone', name
        os.close(fd)
    mount.close()


def test_passthrough_off(warm):
    mount = warm('match=*.seg', f'size={MI}', 'passthrough=off')
    fd = os.open(mount.point / 'plain', os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(fd, b'data', 0)
    mount.kill()
    with pytest.raises(OSError):
        os.pwrite(fd, b'alone', 4096)
    os.close(fd)
    mount.close()


def test_no_descriptors_are_kept(warm):
    """The daemon's open files come and go with those of the applications."""
    mount = warm('match=*.seg', 'size=64K', 'ahead=1')
    mount.wait_settled(1)

    def count():
        return len(os.listdir(f'/proc/{mount.pid}/fd'))
    before = count()
    for i in range(1000):
        write_all(mount.point / f'{i}', b'x')
        os.mkdir(mount.point / f'{i}.dir')
        os.listdir(mount.point / f'{i}.dir')
    for i in range(50):
        write_all(mount.point / f'{i}.seg', b'x')
    for name in os.listdir(mount.point):
        path = mount.point / name
        path.rmdir() if path.is_dir() else path.unlink()
    mount.wait_settled(1)
    wait_until(lambda: count() <= before + 5, what=f'{before} descriptors')
