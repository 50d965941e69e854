# SPDX-License-Identifier: Apache-2.0
"""What warming does to a segment, and each of its switches, seen from outside."""

import errno
import mmap
import os
import pathlib
import re
import resource

import pytest

import threads
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
    return [warmfs.libc.syscall(IOPRIO_GET, 1, thread) >> 13
            for thread, name in threads.names(mount.pid).items() if name == 'warmfs-alloc']


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


# lock=, lock_active=, lock_budget=

PR_CAPBSET_DROP = 24
CAP_IPC_LOCK = 14


def locked(mount):
    """Bytes that the kernel has locked for the daemon."""
    status = pathlib.Path(f'/proc/{mount.pid}/status').read_text()
    return int(re.search(r'VmLck:\s*(\d+) kB', status)[1]) * KI


def wait_locked(mount, size):
    warmfs.wait_until(lambda: locked(mount) == size == mount.counters()['locked_bytes'],
                      what=lambda: f'{size} bytes locked: {locked(mount)}, {mount.counters()}')


@pytest.mark.parametrize('kind', ('mapped', 'append'))
def test_lock(warm, kind):
    """Ready segments and the two newest taken are locked, and no others."""
    mount = warm('match=*.seg', f'size={SIZE}', f'kind={kind}', 'ahead=2', 'lock=on')
    mount.wait_settled(2)
    wait_locked(mount, 2 * SIZE)
    fds = []
    for number in range(5):
        # Open: it is not sealed.
        fds.append(os.open(mount.point / f'{number}.seg', os.O_RDWR | os.O_CREAT | os.O_EXCL))
        mount.wait_settled(2)
        wait_locked(mount, (2 + min(number + 1, 2)) * SIZE)
    for fd in fds:
        os.close(fd)
    assert mount.counters()['lock_failures'] == 0


def test_lock_active(warm):
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', 'lock=on', 'lock_active=0')
    mount.wait_settled(1)
    for number in range(3):
        take(mount, f'{number}.seg')
        mount.wait_settled(1)
        wait_locked(mount, SIZE)


def test_unlocked_when_removed(warm):
    """Its memory and its blocks go with the last name."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', 'lock=on')
    mount.wait_settled(1)
    take(mount)
    mount.wait_settled(1)
    wait_locked(mount, 2 * SIZE)
    os.link(mount.point / 'a.seg', mount.point / 'b.seg')
    os.unlink(mount.point / 'a.seg')
    wait_locked(mount, 2 * SIZE)
    os.unlink(mount.point / 'b.seg')
    wait_locked(mount, SIZE)


def test_unlocked_when_sealed(warm):
    mount = warm('match=*.seg', f'size={SIZE}', 'kind=append', 'ahead=1', 'lock=on', 'linger=0')
    mount.wait_settled(1)
    warmfs.write_all(mount.point / 'a.seg', b'abc')
    warmfs.wait_until(lambda: os.stat(mount.src / 'a.seg').st_size == 3, what='the seal')
    mount.wait_settled(1)
    wait_locked(mount, SIZE)


def test_not_locked(warm):
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=2')
    mount.wait_settled(2)
    take(mount)
    wait_locked(mount, 0)


def expect_one_locked(mount):
    """Where there is memory for one: the rest is served all the same, counted, and told of once."""
    mount.wait_settled(3)
    wait_locked(mount, SIZE)
    assert mount.counters()['lock_failures'] == 2
    [line] = mount.log_lines('cannot lock a segment in memory')
    assert '7M may be locked' in line
    for number in range(3):
        below = take(mount, f'{number}.seg')
        assert warmfs.resident_share(below) == 1
    assert mount.counters()['taken'] == 3


def test_lock_budget(warm):
    expect_one_locked(warm('match=*.seg', f'size={SIZE}', 'ahead=3', 'lock=on', 'lock_budget=7M', 'threads=1'))


def test_lock_budget_is_shared(warm):
    """By the classes."""
    mount = warm(config=f'[warmfs]\nlock_budget={3 * SIZE}\n[class a]\nmatch=*.a\nsize={SIZE}\nlock=on\n'
                        f'[class b]\nmatch=*.b\nsize={SIZE}\nlock=on\n')
    mount.wait_settled(4)
    assert locked(mount) == 3 * SIZE
    assert mount.counters('a')['locked_bytes'] + mount.counters('b')['locked_bytes'] == 3 * SIZE
    assert mount.counters('a')['lock_failures'] + mount.counters('b')['lock_failures'] == 1


@pytest.mark.parametrize('budget, buffers, segments', ((2, True, 0), (3, True, 1), (1, False, 1)))
def test_lock_budget_is_shared_with_transient_buffers(warm, budget, buffers, segments):
    """They come first, and are locked together or not at all."""
    mount = warm('match=*.seg', f'size={SIZE}', 'kind=append', 'ahead=2', 'lock=on', 'transient=on',
                 'transient_pool_size=2', f'lock_budget={budget * SIZE + 1 * MI}')
    mount.wait_settled(2)
    counters = mount.counters()
    assert (counters['buffers_locked'], counters['locked_bytes']) == (buffers, segments * SIZE)
    assert len(mount.log_lines('transient buffers: cannot lock their memory')) == (0 if buffers else 1)
    beside = locked(mount) - (2 * buffers + segments) * SIZE
    assert 0 <= beside <= 64 * KI


def test_lock_limit_of_the_process(warm):
    """Who may not lock as much as he likes is kept to RLIMIT_MEMLOCK."""
    def limit():
        warmfs.check(warmfs.libc.prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (7 * MI, 7 * MI))

    expect_one_locked(warm('match=*.seg', f'size={SIZE}', 'ahead=3', 'lock=on', 'threads=1', before=limit))


@pytest.mark.parametrize('options', (['kind=stream'], ['warm=off'], ['warm_min_size=1G']), ids=' '.join)
def test_lock_without_warm_pages(workdir, options):
    """There is nothing to lock: refused."""
    for name in ('source', 'mnt'):
        (workdir / name).mkdir()
    argv = [word for option in ('match=*.seg', f'size={SIZE}', 'lock=on', *options) for word in ('-o', option)]
    refused = warmfs.start_refused('-f', *argv, workdir / 'source', workdir / 'mnt')
    assert refused.status == 1
    assert len(refused.lines) == 1
    assert 'lock=on' in refused.lines[0]
