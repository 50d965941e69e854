# SPDX-License-Identifier: Apache-2.0
"""What warming does to a segment, and each of its switches, seen from outside."""

import contextlib
import errno
import mmap
import os
import pathlib

import pytest

import warmfs
from warmfs import KI, MI

SIZE = 4 * MI


def written(path):
    """How many bytes of the file are in written extents."""
    return sum(length for _, length, flags in warmfs.extents(path) if not flags & warmfs.EXTENT_UNWRITTEN)


def take(mount, name='a.seg'):
    os.close(os.open(mount.point / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
    return mount.src / name


# warm=, warm_min_size=

COLD = (['warm=off'], ['warm_min_size=4097K'])
WARM = (['warm=on'], [f'warm_min_size={SIZE}'], ['warm=on', 'warm_min_size=1'])


@pytest.mark.parametrize('options', COLD, ids=' '.join)
def test_mapped_cold(warm, options):
    """Blocks without data: of full size, all zeroes, ready for stores through a mapping."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', *options)
    mount.wait_settled(1)
    below = take(mount)
    assert os.stat(below).st_size == SIZE
    assert os.stat(below).st_blocks * 512 >= SIZE
    assert written(below) == 0
    assert warmfs.resident_share(below) == 0
    assert mount.counters()['hits'] == 1
    assert (mount.point / 'a.seg').read_bytes() == bytes(SIZE)
    with open(mount.point / 'a.seg', 'r+b') as file, mmap.mmap(file.fileno(), SIZE) as area:
        area[SIZE - 1] = 7
    assert below.read_bytes() == bytes(SIZE - 1) + b'\x07'


@pytest.mark.parametrize('options', WARM, ids=' '.join)
def test_mapped_warm(warm, options):
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', *options)
    mount.wait_settled(1)
    below = take(mount)
    assert written(below) == SIZE
    assert warmfs.resident_share(below) == 1


def test_append_cold(warm):
    """It grows by writing as any other; what was jumped over reads as zeroes, and what was never written is not there."""
    mount = warm('match=*.seg', f'size={SIZE}', 'kind=append', 'ahead=1', 'warm=off', 'linger=0')
    mount.wait_settled(1)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    below = mount.src / 'a.seg'
    # Only the trailer.
    assert written(below) <= 64 * KI
    assert os.fstat(fd).st_size == 0
    os.pwrite(fd, b'abc', 100000)
    os.fsync(fd)
    assert os.pread(fd, SIZE, 0) == bytes(100000) + b'abc'
    os.ftruncate(fd, 200000)
    assert os.pread(fd, SIZE, 100003) == bytes(99997)
    os.close(fd)
    warmfs.wait_until(lambda: os.stat(below).st_size == 200000, what='the seal')
    assert below.read_bytes() == bytes(100000) + b'abc' + bytes(99997)


def test_append_cold_after_kill(warm):
    """The length of what was synced is found again over blocks that were never written."""
    mount = warm('match=*.seg', f'size={SIZE}', 'kind=append', 'ahead=1', 'warm=off')
    mount.wait_settled(1)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b'abc', 70000)
    os.fdatasync(fd)
    os.close(fd)
    mount.kill()
    mount.close()
    mount = warm('match=*.seg', f'size={SIZE}', 'kind=append', 'ahead=1', 'warm=off')
    assert (mount.point / 'a.seg').read_bytes() == bytes(70000) + b'abc'
    assert os.stat(mount.src / 'a.seg').st_size == 70003


def test_cold_full_disk(warm, workdir, stack):
    """Also blocks that are not written are there: a store through a mapping never meets a full disk."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 64 * MI, workdir))
    mount = warm('match=*.seg', 'size=16M', 'ahead=1', 'warm=off', 'reserve=0', source=disk)
    mount.wait_settled(1)
    with open(mount.point / 'a.seg', 'x+b') as file:
        with open(mount.point / 'fill', 'wb', buffering=0) as fill, pytest.raises(OSError) as full:
            while True:
                fill.write(bytes(MI))
        assert full.value.errno == errno.ENOSPC
        with mmap.mmap(file.fileno(), 16 * MI) as area:
            for offset in range(0, 16 * MI, 4096):
                area[offset] = 1
            area.flush()


def test_switched_between_mounts(warm):
    """Segments that an earlier mount only reserved are not served as warm ones."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=2', 'warm=off')
    mount.wait_settled(2)
    mount.stop()
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=2')
    mount.wait_settled(2)
    assert mount.counters()['adopted'] == 0
    below = take(mount)
    assert written(below) == SIZE
    assert warmfs.resident_share(below) == 1


# flush=, flush_least_pages=

@pytest.mark.parametrize('options', (['flush=sync'], ['flush=async'], ['flush=sync', 'flush_least_pages=1'],
                                     ['flush=async', 'flush_least_pages=16777216']), ids=' '.join)
def test_nothing_left_to_flush(warm, options):
    """Whichever way it was flushed: a ready segment is on the disk, all of it."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', *options)
    mount.wait_settled(1)
    [ready] = mount.ready_files()
    assert warmfs.unflushed_pages(ready) in (0, None)
    below = take(mount)
    assert written(below) == SIZE
    assert warmfs.unflushed_pages(below) in (0, None)


# rate=, yield=

IOPRIO_GET = 252
IDLE = 3


def io_classes(mount):
    """The I/O classes of the threads that prepare."""
    found = []
    for task in pathlib.Path(f'/proc/{mount.pid}/task').iterdir():
        with contextlib.suppress(FileNotFoundError):
            if (task / 'comm').read_text() == 'warmfs-alloc\n':
                found.append(warmfs.libc.syscall(IOPRIO_GET, 1, int(task.name)) >> 13)
    return found


def wait_stuck(mount):
    """With a rate of next to nothing: the first chunk is written, and the rest is not for an hour."""
    warmfs.wait_until(lambda: any(os.stat(mount.pool / name).st_blocks for name in mount.pool_names('warming')),
                      what='a preparation that has begun')


def test_rate_holds(warm):
    """The pool is not filled faster than that; the mount's end does not wait for it."""
    mount = warm('match=*.seg', 'size=8M', 'ahead=1', 'rate=1K')
    wait_stuck(mount)
    assert mount.pool_names('ready') == []
    mount.stop()
    assert os.listdir(mount.source / '.warmfs/pool') == []


def test_rate_lifted(warm):
    """But a create that waits gets its warm segment at once, the one that was being made slowly."""
    mount = warm('match=*.seg', 'size=8M', 'ahead=1', 'rate=1K', 'timeout=600s', 'threads=1')
    wait_stuck(mount)
    below = take(mount)
    assert written(below) == 8 * MI
    assert warmfs.resident_share(below) == 1
    counters = mount.counters()
    assert counters['misses'] == 1
    assert counters['timeouts'] == counters['hits'] == 0


def test_fast_enough(warm):
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=4', 'rate=1G')
    mount.wait_settled(4)


@pytest.mark.parametrize('switch', ('on', 'off'))
def test_io_class(warm, switch):
    """Preparing ahead is of the idle class, unless that is switched off; nothing else is."""
    mount = warm('match=*.seg', 'size=8M', 'ahead=1', 'rate=1K', f'yield={switch}', 'threads=1')
    if switch == 'on':
        warmfs.wait_until(lambda: IDLE in io_classes(mount), what='an idle thread')
        assert io_classes(mount).count(IDLE) == 1
    else:
        wait_stuck(mount)
        assert IDLE not in io_classes(mount)


def test_io_class_given_back(warm):
    """Who has prepared ahead, and then works for somebody, does so with the class of everybody."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', 'yield=on', 'threads=1')
    mount.wait_settled(1)
    warmfs.wait_until(lambda: IDLE not in io_classes(mount), what='the end of the stint')
    for number in range(8):
        take(mount, f'{number}.seg')
    mount.wait_settled(1)
    warmfs.wait_until(lambda: IDLE not in io_classes(mount), what='the end of the stint')
