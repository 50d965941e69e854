# SPDX-License-Identifier: Apache-2.0
"""Removing large files: gone at once for everybody, the blocks a little later, and nobody is short of them."""

import ctypes
import json
import mmap
import os

import pytest

import warmfs
from warmfs import MI, Child, check, error_name, libc, touch, wait_until, write_all

SIZE = 64 * MI
OPTIONS = ('match=*.seg', f'size={SIZE}', 'ahead=0')


def descriptors(mount, text):
    """What the daemon has open of files whose path contains the text."""
    found = []
    for link in os.scandir(f'/proc/{mount.pid}/fd'):
        try:
            path = os.readlink(link.path)
        except FileNotFoundError:
            continue
        if text in path:
            found.append(path)
    return found


def free(path):
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def buried(mount):
    return json.loads((mount.point / '.warmfs/status.json').read_text())['buried_bytes']


def make_segment(mount, name):
    """A file of its class, which nobody has open or mapped any more, not even the daemon."""
    touch(mount.point / name)
    mount.wait_closed(name)


# Holds the last close of what has no name any more.
IN_THE_WAY = 'close path=(deleted) delay_ms=hold'


def wait_until_held(faults, name):
    wait_until(lambda: any(f'{name} (deleted)' in line for line in faults.hits('close')), what='the last close')


def test_name_first(warm, workdir, stack, faults):
    """The blocks are given back by another than the one who answers."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 300 * MI, workdir))
    mount = warm(*OPTIONS, source=disk, faults=faults)
    make_segment(mount, 'a.seg')
    before = free(mount.point)
    faults.set(IN_THE_WAY)
    os.unlink(mount.point / 'a.seg')
    wait_until_held(faults, 'a.seg')
    assert not (mount.point / 'a.seg').exists()
    assert os.listdir(mount.point) == []
    assert not (mount.src / 'a.seg').exists()
    assert len(descriptors(mount, 'a.seg')) == 1
    assert SIZE <= buried(mount) < SIZE + MI
    assert f'warmfs_buried_bytes {buried(mount)}\n' in (mount.point / '.warmfs/metrics').read_text()
    assert 'of removed files are still to be given back' in (mount.point / '.warmfs/status').read_text()
    # They are counted as free already.
    assert abs(free(mount.point) - before - SIZE) < 16 * MI
    # And the name is free for another.
    write_all(mount.point / 'a.seg', b'other')
    assert (mount.point / 'a.seg').read_bytes()[:6] == b'other\0'
    faults.clear()
    wait_until(lambda: not [path for path in descriptors(mount, 'a.seg') if 'deleted' in path], what='the end of it')
    wait_until(lambda: buried(mount) == 0, what='the space')
    assert 'still to be given back' not in (mount.point / '.warmfs/status').read_text()


def test_rename_over(warm, faults):
    mount = warm(*OPTIONS, faults=faults)
    make_segment(mount, 'old.seg')
    write_all(mount.point / 'new', b'new')
    faults.set(IN_THE_WAY)
    os.rename(mount.point / 'new', mount.point / 'old.seg')
    wait_until_held(faults, 'old.seg')
    assert (mount.point / 'old.seg').read_bytes() == b'new'
    assert os.listdir(mount.point) == ['old.seg']
    faults.clear()


def test_no_class(warm, faults):
    """It does not matter where a large file has come from."""
    mount = warm(*OPTIONS, faults=faults)
    write_all(mount.point / 'large', os.urandom(8 * MI))
    mount.wait_answered()
    faults.set(IN_THE_WAY)
    os.unlink(mount.point / 'large')
    wait_until_held(faults, 'large')
    faults.clear()


def test_small_one(warm):
    """Nobody holds it longer than the kernel does."""
    mount = warm(*OPTIONS)
    write_all(mount.point / 'small', b'small')
    os.unlink(mount.point / 'small')
    wait_until(lambda: not descriptors(mount, 'small'), what='the end of it')


def test_small_one_when_space_is_scarce(warm, workdir, stack):
    """Its space is free when that is answered, and not only when the kernel gets to forgetting it."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 100 * MI, workdir))
    mount = warm(*OPTIONS, source=disk)
    for _ in range(20):
        write_all(mount.point / 'small', b'small')
        mount.wait_answered()
        os.unlink(mount.point / 'small')
        assert not descriptors(mount, 'small')


@pytest.mark.parametrize('how', ['segment', 'plain'])
def test_create_waits_for_the_blocks(warm, workdir, stack, faults, how):
    """A create that needs the blocks of a removed file gets them, though they are not free yet."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 300 * MI, workdir))
    size = 180 * MI
    mount = warm('match=*.seg', f'size={size}', 'ahead=0', 'timeout=60s', 'reserve=0%', source=disk, faults=faults)
    make_segment(mount, 'a.seg')
    faults.set(IN_THE_WAY)
    os.unlink(mount.point / 'a.seg')
    wait_until_held(faults, 'a.seg')
    assert free(disk) < size

    def create():
        if how == 'segment':
            touch(mount.point / 'b.seg')
        else:
            fd = os.open(mount.point / 'plain', os.O_RDWR | os.O_CREAT)
            os.posix_fallocate(fd, 0, size)
            os.close(fd)
        return True
    child = Child(create)
    wait_until(child.sleeping, what='the create to wait')
    assert child.alive()
    faults.clear()
    assert child.result()
    assert os.stat(mount.point / ('b.seg' if how == 'segment' else 'plain')).st_blocks * 512 >= size


def test_at_once_when_space_is_scarce(warm, workdir, stack, faults):
    """Who writes through the kernel cannot wait for it: so under the reserve it is not left for later."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 300 * MI, workdir))
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=0', 'reserve=90%', source=disk, faults=faults)
    make_segment(mount, 'a.seg')
    faults.set(IN_THE_WAY)
    child = Child(os.unlink, mount.point / 'a.seg')
    wait_until_held(faults, 'a.seg')
    # By the time that this is answered, so would be the unlink.
    mount.counters()
    wait_until(child.sleeping, what='the unlink to wait')
    faults.clear()
    child.result()
    assert descriptors(mount, 'a.seg') == []
    wait_until(lambda: free(disk) > 250 * MI, what='the blocks')


def test_open_and_unlinked(warm):
    """It goes on working for who has it open, with no link, and its blocks go when he closes it."""
    mount = warm(*OPTIONS)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b'data', 0)
    os.unlink(mount.point / 'a.seg')
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, 4, 0) == b'data'
    with mmap.mmap(fd, SIZE) as memory:
        memory[SIZE - 4:] = b'last'
        os.close(fd)
        assert memory[SIZE - 4:] == b'last'
        assert memory[:4] == b'data'
    wait_until(lambda: descriptors(mount, 'a.seg') == [], what='the end of it')


def test_hard_link_keeps_it(warm):
    mount = warm(*OPTIONS)
    make_segment(mount, 'a.seg')
    write_all(mount.point / 'a.seg', b'data', os.O_WRONLY)
    os.link(mount.point / 'a.seg', mount.point / 'b.seg')
    os.unlink(mount.point / 'a.seg')
    status = os.stat(mount.point / 'b.seg')
    assert (status.st_nlink, status.st_size) == (1, SIZE)
    assert (mount.point / 'b.seg').read_bytes()[:4] == b'data'


def test_stop_with_work_left(warm, faults):
    """A stop does what is left to be done first."""
    mount = warm(*OPTIONS, faults=faults)
    make_segment(mount, 'a.seg')
    faults.set('close path=(deleted) delay_ms=300')
    os.unlink(mount.point / 'a.seg')
    wait_until_held(faults, 'a.seg')
    mount.stop()


AT_FDCWD, AT_STATX_FORCE_SYNC, STATX_BTIME = -100, 0x2000, 0x800


def ask_stat(path, mask=0x7ff):
    """Of the daemon, whatever the kernel remembers."""
    check(libc.statx(AT_FDCWD, os.fsencode(path), AT_STATX_FORCE_SYNC, mask, ctypes.create_string_buffer(256)))


def error_of(function, *args):
    try:
        function(*args)
    except OSError as error:
        return error_name(error.errno)
    return 'ok'


BY_NAME = {
    'stat': ask_stat,
    'statx': lambda path: ask_stat(path, STATX_BTIME),
    'statfs': os.statvfs,
    'open': lambda path: os.open(path, os.O_RDWR),
    'open_truncating': lambda path: os.open(path, os.O_RDWR | os.O_TRUNC),
    'getxattr': lambda path: os.getxattr(path, 'user.x'),
    'getxattr_of_segment': lambda path: os.getxattr(path, 'user.warmfs.length'),
    'getxattr_absent': lambda path: os.getxattr(path, 'user.warmfs.nothing'),
    'listxattr': os.listxattr,
    'setxattr': lambda path: os.setxattr(path, 'user.x', b'y'),
    'removexattr': lambda path: os.removexattr(path, 'user.x'),
    'chmod': lambda path: os.chmod(path, 0o600),
    'chown': lambda path: os.chown(path, 1, 1),
    'utime': lambda path: os.utime(path, ns=(1, 1)),
    'truncate': lambda path: os.truncate(path, 5),
}


@pytest.mark.parametrize('kind', ['mapped', 'append', 'plain'])
def test_nothing_of_the_gone(warm, kind):
    """Who reaches for a large file that is gone is told so; nothing is shown or done instead. An O_PATH descriptor has no other
    name to look up, and so sees what the daemon says."""
    mount = warm('match=*.seg', f'kind={"append" if kind == "append" else "mapped"}', 'size=8M', 'ahead=0')
    name = 'plain' if kind == 'plain' else 'a.seg'
    if kind == 'plain':
        write_all(mount.point / name, bytes(8 * MI))
    make_segment(mount, name)
    fd = os.open(mount.point / name, os.O_PATH)
    os.unlink(mount.point / name)
    found = {operation: error_of(act, f'/proc/self/fd/{fd}') for operation, act in BY_NAME.items()}
    assert found == {operation: 'ESTALE' for operation in BY_NAME}


# Where each of them is when the file goes.
HELD = {
    'stat': 'fstatat path=a.seg',
    'statx': 'fstatat path=a.seg',
    'statfs': 'fstatvfs path=a.seg',
    'open': 'openat',
    'getxattr': 'getxattr path=/proc/self/fd/',
    'listxattr': 'listxattr path=/proc/self/fd/',
}


@pytest.mark.parametrize('operation', HELD)
def test_removed_meanwhile(warm, faults, operation):
    """A file that goes while the daemon is about to look at it is not there, as natively when one comes a moment later."""
    mount = warm('match=*.seg', 'size=8M', 'ahead=0', 'attr_timeout=60', faults=faults)
    make_segment(mount, 'a.seg')
    path = mount.point / 'a.seg'
    os.setxattr(path, 'user.x', b'value')
    faults.set(f'{HELD[operation]} count=1 delay_ms=hold')
    child = Child(error_of, BY_NAME[operation], path)
    faults.wait_hit(HELD[operation].split()[0])
    os.unlink(path)
    faults.clear()
    assert child.result() == 'ENOENT'
