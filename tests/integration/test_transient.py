# SPDX-License-Identifier: Apache-2.0
"""Transient buffers: what was written is seen at once, is in the file soon, and is not lost with the daemon.

That files with a buffer behave as native ones do is for tests/fuzz to show.
"""

import contextlib
import fcntl
import mmap
import os
import pathlib
import stat
import subprocess

import pytest

import warmfs
from warmfs import KI, MI, Child, links_of, touch, wait_until

SIZE = 1 * MI
CLASS = ('match=**/*.seg', f'size={SIZE}', 'kind=append', 'ahead=2', 'linger=3600s', 'transient=on')
# Nothing is committed by itself.
LAZY = ('commit_interval=3600s', 'flush_interval=3600s')
EAGER = ('commit_interval=1', 'commit_least_pages=0', 'flush_interval=1', 'transient_flush_least_pages=0')
BUFFERS = pathlib.Path(f'/dev/shm/warmfs-{os.geteuid()}')


def buffers_of(source):
    """The names of the memory that belongs to a source."""
    source = os.stat(source)
    middle = f'-{source.st_dev:x}-{source.st_ino:x}.'
    return [name for name in os.listdir(BUFFERS) if middle in name] if BUFFERS.exists() else []


@pytest.fixture(params=['passthrough', 'daemon'])
def options(request):
    return (*CLASS, *(['passthrough=off'] if request.param == 'daemon' else []))


@pytest.fixture
def lazy(warm, options):
    mount = warm(*options, *LAZY)
    mount.wait_settled(2)
    return mount


@pytest.fixture
def clean_buffers(workdir):
    """Takes away what a test leaves in memory on purpose; and nothing of others that run just now."""
    yield
    for name in buffers_of(workdir / 'source'):
        (BUFFERS / name).unlink()


def create(path, flags=os.O_WRONLY):
    return os.open(path, flags | os.O_CREAT | os.O_APPEND)


def in_file(mount, name, size):
    """What the file itself has of the bytes that applications see."""
    with open(mount.source / name, 'rb') as file:
        return file.read(size)


def is_plain(source, name, data):
    status = os.stat(source / name)
    return (status.st_nlink, status.st_size) == (1, len(data)) and (source / name).read_bytes() == data


def kill(mount, fd):
    """Kills the daemon; the file's close then has nobody to answer it."""
    mount.kill()
    with contextlib.suppress(OSError):
        os.close(fd)
    mount.close()


def counters(mount):
    return mount.counters()


# What is seen

def test_written_to_the_buffer_and_seen_at_once(lazy):
    path = lazy.point / 'a.seg'
    fd = create(path)
    os.write(fd, b'hello')
    assert in_file(lazy, 'a.seg', 5) == b'\0' * 5
    assert os.fstat(fd).st_size == os.stat(path).st_size == 5
    assert os.lseek(fd, 0, os.SEEK_END) == 5
    assert path.read_bytes() == b'hello'
    os.write(fd, b' there')
    assert path.read_bytes() == b'hello there'
    assert in_file(lazy, 'a.seg', 5) == b'\0' * 5
    assert counters(lazy)['uncommitted_bytes'] == 11
    os.close(fd)
    assert path.read_bytes() == b'hello there'
    lazy.stop()
    assert is_plain(lazy.source, 'a.seg', b'hello there')
    assert buffers_of(lazy.source) == []


def test_sendfile_and_copies_see_it(lazy):
    fd = create(lazy.point / 'a.seg', os.O_RDWR)
    data = os.urandom(3000)
    os.write(fd, data)
    reader, writer = os.pipe()
    assert os.sendfile(writer, fd, 0, 3000) == 3000
    assert os.read(reader, 3000) == data
    assert os.splice(fd, writer, 3000, offset_src=0) == 3000
    assert os.read(reader, 3000) == data
    other = os.open(lazy.point / 'copy', os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(fd, other, 3000, 0) == 3000
    assert os.pread(other, 4000, 0) == data
    for each in (fd, other, reader, writer):
        os.close(each)


def test_mapping_sees_it_and_is_seen(lazy):
    fd = create(lazy.point / 'a.seg', os.O_RDWR)
    os.write(fd, b'x' * 10000)
    with mmap.mmap(fd, 10000) as area:
        assert area[:] == b'x' * 10000
        area[5000:5005] = b'store'
        assert os.pread(fd, 5, 5000) == b'store'
        os.write(fd, b'y' * 100)
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b'write', 9000)
        assert area[9000:9005] == b'write'
        area.flush()
    data = bytearray(b'x' * 10000 + b'y' * 100)
    data[5000:5005], data[9000:9005] = b'store', b'write'
    assert os.pread(fd, 20000, 0) == data
    os.close(fd)
    lazy.stop()
    assert is_plain(lazy.source, 'a.seg', data)


def test_sync_is_commit_then_flush(lazy):
    fd = create(lazy.point / 'a.seg')
    for sync, data in ((os.fsync, b'one'), (os.fdatasync, b'two')):
        os.write(fd, data)
        sync(fd)
        assert in_file(lazy, 'a.seg', 6).rstrip(b'\0').endswith(data)
    os.close(fd)
    fd = os.open(lazy.point / 'a.seg', os.O_WRONLY | os.O_APPEND | os.O_DSYNC)
    os.write(fd, b'dsync')
    assert in_file(lazy, 'a.seg', 11) == b'onetwodsync'
    os.close(fd)
    assert counters(lazy)['uncommitted_bytes'] == 0


def test_committed_in_the_background(warm, options):
    mount = warm(*options, *EAGER)
    mount.wait_settled(2)
    fd = create(mount.point / 'a.seg')
    os.write(fd, b'soon')
    wait_until(lambda: in_file(mount, 'a.seg', 4) == b'soon')
    status = os.fstat(fd)
    wait_until(lambda: counters(mount)['uncommitted_bytes'] == 0)
    assert os.fstat(fd).st_mtime_ns == status.st_mtime_ns
    assert counters(mount)['commits'] >= 1
    os.close(fd)


def test_times(lazy):
    path = lazy.point / 'a.seg'
    fd = create(path)
    seen = [os.fstat(fd).st_mtime_ns]
    for _ in range(3):
        os.write(fd, b'x')
        seen.append(os.fstat(fd).st_mtime_ns)
    assert seen == sorted(set(seen))
    os.fsync(fd)
    assert os.fstat(fd).st_mtime_ns == seen[-1]
    os.utime(path, ns=(10**18, 10**18))
    assert os.fstat(fd).st_mtime_ns == 10**18
    os.fsync(fd)
    os.close(fd)
    lazy.stop()
    assert os.stat(lazy.source / 'a.seg').st_mtime_ns == 10**18


def test_appends_of_several_processes(warm, options):
    mount = warm(*options, *EAGER)
    path = mount.point / 'a.seg'
    touch(path)

    def work(letter):
        for _ in range(300):
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.write(fd, letter * 7)
            os.close(fd)

    children = [Child(work, bytes([65 + i])) for i in range(4)]
    for child in children:
        child.result()
    data = path.read_bytes()
    assert sorted(data[i:i + 7] for i in range(0, len(data), 7)) == sorted(
        bytes([65 + i]) * 7 for i in range(4) for _ in range(300))
    mount.stop()
    assert is_plain(mount.source, 'a.seg', data)


def test_past_its_capacity_and_shorter(lazy):
    data = os.urandom(SIZE - 5)
    fd = create(lazy.point / 'a.seg')
    for at in range(0, len(data), 100 * KI):
        os.write(fd, data[at:at + 100 * KI])
    os.write(fd, b'0123456789')
    assert (lazy.point / 'a.seg').read_bytes() == data + b'0123456789'
    assert counters(lazy)['buffers_free'] == 5
    os.close(fd)
    fd = create(lazy.point / 'b.seg')
    os.write(fd, b'0123456789')
    os.ftruncate(fd, 4)
    os.write(fd, b'x')
    assert (lazy.point / 'b.seg').read_bytes() == b'0123x'
    os.close(fd)
    lazy.stop()
    assert is_plain(lazy.source, 'a.seg', data + b'0123456789')
    assert is_plain(lazy.source, 'b.seg', b'0123x')


# How many buffers there are

def test_B6_no_more_are_admitted_than_there_are_buffers(warm):
    mount = warm(*CLASS, *LAZY, 'transient_pool_size=2', 'fast_fail=on')
    mount.wait_settled(2)
    held = [create(mount.point / f'{i}.seg') for i in range(2)]
    with pytest.raises(BlockingIOError):
        create(mount.point / 'more.seg')
    assert not (mount.point / 'more.seg').exists()
    assert counters(mount)['unbuffered'] == 1
    assert len(mount.log_lines('class default: [01] of 2 transient buffers free')) >= 1
    # Those that are not made cost none.
    os.ftruncate(held[0], 0)
    os.write(held[0], b'x')
    os.ftruncate(held[0], 0)
    assert counters(mount)['buffers_free'] == 1
    held.append(create(mount.point / 'more.seg'))
    for fd in held:
        os.close(fd)


def test_B7_without_a_buffer_a_file_is_as_good(warm):
    mount = warm(*CLASS, *LAZY, 'transient_pool_size=1')
    mount.wait_settled(2)
    first = create(mount.point / 'a.seg')
    second = create(mount.point / 'b.seg')
    os.write(first, b'buffered')
    os.write(second, b'written')
    assert in_file(mount, 'b.seg', 7) == b'written'
    assert (mount.point / 'a.seg').read_bytes() == b'buffered'
    assert (mount.point / 'b.seg').read_bytes() == b'written'
    assert counters(mount)['unbuffered'] == 1
    os.close(first)
    os.close(second)


def test_B8_every_buffer_comes_back(warm):
    mount = warm(*CLASS[:4], 'linger=0', 'transient=on', *LAZY)
    mount.wait_settled(2)
    held = []
    for number in range(20):
        fd = create(mount.point / f'{number}.seg')
        os.write(fd, b'never committed')
        os.unlink(mount.point / f'{number}.seg')
        held.append(fd)
        if len(held) > 3:
            os.close(held.pop(0))
    for fd in held:
        os.close(fd)
    wait_until(lambda: counters(mount)['buffers_free'] == 5)
    assert counters(mount)['uncommitted_bytes'] == 0
    for number in range(10):
        fd = create(mount.point / f'{number}.seg')
        os.write(fd, b'sealed')
        os.close(fd)
    wait_until(lambda: counters(mount)['buffers_free'] == 5)
    assert all(is_plain(mount.src, f'{number}.seg', b'sealed') for number in range(10))


@pytest.mark.parametrize('action', ['cold', 'fail'])
def test_B8_a_create_without_a_segment_gives_its_buffer_back(warm, faults, action):
    faults.set('pwrite delay_ms=hold path=.warmfs/pool')
    mount = warm(*CLASS, 'timeout=50', f'on_timeout={action}', faults=faults)
    if action == 'cold':
        fd = create(mount.point / 'a.seg')
        os.write(fd, b'cold')
        os.close(fd)
    else:
        with pytest.raises(BlockingIOError):
            create(mount.point / 'a.seg')
    assert counters(mount)['buffers_free'] == 5
    faults.clear()


# Death of the daemon

@pytest.mark.parametrize('tail', [0, 9000])
@pytest.mark.parametrize('way', ['mount', 'check', 'without classes'])
def test_killed(warm, lazy, options, tail, way):
    data = os.urandom(5000) + b'x' + bytes(tail)
    fd = create(lazy.point / 'a.seg')
    os.write(fd, data[:1000])
    os.fdatasync(fd)
    os.write(fd, data[1000:])
    assert in_file(lazy, 'a.seg', 2000)[1000:] == b'\0' * 1000
    memory = BUFFERS / buffers_of(lazy.source)[0]
    assert stat.S_IMODE(os.stat(memory).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(BUFFERS).st_mode) == 0o700
    kill(lazy, fd)
    if way == 'check':
        assert check(lazy, '--dry-run').returncode == 4
        assert in_file(lazy, 'a.seg', 2000)[1000:] == b'\0' * 1000
        assert check(lazy).returncode == 1
        assert not memory.exists()
        assert is_plain(lazy.source, 'a.seg', data)
        return
    again = warm(*(options if way == 'mount' else []))
    assert (again.point / 'a.seg').read_bytes() == data
    assert is_plain(again.src, 'a.seg', data)
    assert len(again.log_lines('%d bytes at 1000 written from its transient buffer' % (len(data) - 1000))) == 1
    assert again.log_lines('are not in /dev/shm') == []
    again.stop()
    assert buffers_of(again.source) == []


def check(mount, *more):
    command, environment = warmfs.warmfs_command('--check', *more, mount.source)
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)


def test_killed_after_it_was_removed(warm, lazy, options):
    fd = create(lazy.point / 'a.seg')
    os.write(fd, b'gone')
    os.unlink(lazy.point / 'a.seg')
    kill(lazy, fd)
    again = warm(*options)
    assert again.log_lines('not believed') == []
    assert os.listdir(again.point) == []
    again.stop()
    assert buffers_of(again.source) == []


def test_killed_and_the_memory_gone(warm, clean_buffers):
    mount = warm(*CLASS, *LAZY)
    mount.wait_settled(2)
    fd = create(mount.point / 'a.seg')
    os.write(fd, b'synced')
    os.fsync(fd)
    os.write(fd, b'lost')
    memory = BUFFERS / buffers_of(mount.source)[0]
    kill(mount, fd)
    memory.unlink()
    assert 'are not in /dev/shm' in check(mount, '--dry-run').stderr
    again = warm(*CLASS, *LAZY)
    assert len(again.log_lines('transient buffers of the daemon that was killed are not in /dev/shm')) == 1
    assert (again.point / 'a.seg').read_bytes() == b'synced' + bytes(4)
    again.stop()
    assert 'are not in' not in check(mount).stderr


def damage_by_garbage(path):
    path.write_bytes(os.urandom(70000))


def damage_by_cutting(path):
    os.truncate(path, 4096 + 700)


def damage_by_emptying(path):
    os.truncate(path, 0)


def damage_by_range(path):
    """Every range reaches far behind its buffer."""
    with open(path, 'r+b') as file:
        for slot in range(5):
            # start and end follow the owner: 4 words, 96 bytes of name, 1 word.
            file.seek(4096 + slot * 512 + 136)
            file.write((0).to_bytes(8, 'little') + (1 << 62).to_bytes(8, 'little'))


def damage_by_owner(path):
    """The buffer names another segment."""
    with open(path, 'r+b') as file:
        for slot in range(5):
            file.seek(4096 + slot * 512 + 40)
            file.write(b'X')


def damage_by_mode(path):
    path.chmod(0o666)


def damage_by_symlink(path):
    path.unlink()
    path.symlink_to('/etc/passwd')


@pytest.mark.parametrize('damage', [damage_by_garbage, damage_by_cutting, damage_by_emptying, damage_by_range,
                                    damage_by_owner, damage_by_mode])
def test_damaged_memory(warm, clean_buffers, damage):
    mount = warm(*CLASS, *LAZY)
    mount.wait_settled(2)
    fd = create(mount.point / 'a.seg')
    os.write(fd, b'synced')
    os.fsync(fd)
    os.write(fd, b' and not')
    memory = BUFFERS / buffers_of(mount.source)[0]
    kill(mount, fd)
    damage(memory)
    again = warm(*CLASS, *LAZY)
    assert len(again.log_lines('not believed')) >= 1
    data = (again.point / 'a.seg').read_bytes()
    assert data[:6] == b'synced'
    assert data == b'synced' + b'\0' * 8
    assert not memory.exists() or buffers_of(again.source) == [memory.name]
    again.stop()


# Memory that is not to be had

def expect_refused(warm, *options):
    with pytest.raises(warmfs.TestError) as caught:
        warm(*options)
    return str(caught.value)


@pytest.fixture
def small_memory():
    warmfs.run('mount', '-t', 'tmpfs', '-o', 'size=8M', 'none', '/dev/shm')
    yield
    warmfs.umount('/dev/shm')


def test_too_little_memory(warm, small_memory):
    text = expect_refused(warm, *CLASS, 'transient_pool_size=9')
    assert 'transient=on: cannot get 9' in text and 'transient_pool_size=' in text
    mount = warm(*CLASS, 'transient_pool_size=6')
    os.close(create(mount.point / 'a.seg'))
    mount.stop()


def test_somebody_elses_directory(warm, small_memory):
    BUFFERS.mkdir(0o777)
    BUFFERS.chmod(0o777)
    assert 'not a directory of ours alone' in expect_refused(warm, *CLASS)
    BUFFERS.rmdir()
    BUFFERS.symlink_to('/tmp')
    assert 'not a directory of ours alone' in expect_refused(warm, *CLASS)


def test_for_append_only(warm):
    text = expect_refused(warm, 'match=*.seg', 'size=1M', 'kind=mapped', 'transient=on')
    assert 'transient=on goes with kind=append only' in text


# A disk that fails

def test_failed_commit_is_told_and_tried_again(warm, faults):
    mount = warm(*CLASS, 'commit_interval=10', 'commit_least_pages=0', faults=faults)
    mount.wait_settled(2)
    fd = create(mount.point / 'a.seg')
    data = os.urandom(10000)
    faults.set('pwrite errno=EIO path=ready-append')
    os.write(fd, data)
    faults.wait_hit('pwrite', 3)
    assert (mount.point / 'a.seg').read_bytes() == data
    with pytest.raises(OSError):
        os.fsync(fd)
    with pytest.raises(OSError):
        os.close(fd)
    assert len(mount.log_lines('commit ready-append.*Input/output error')) == 1
    faults.clear()
    wait_until(lambda: in_file(mount, 'a.seg', 10000) == data)
    fd = create(mount.point / 'a.seg')
    os.write(fd, b'more')
    os.fsync(fd)
    os.close(fd)
    mount.stop()
    assert is_plain(mount.source, 'a.seg', data + b'more')


def test_failing_until_the_end_keeps_the_memory(warm, faults):
    mount = warm(*CLASS, *LAZY, faults=faults)
    mount.wait_settled(2)
    fd = create(mount.point / 'a.seg')
    os.write(fd, b'kept')
    faults.set('pwrite errno=EIO path=ready-append')
    os.close(fd)
    mount.stop()
    assert len(buffers_of(mount.source)) == 1
    assert check(mount).returncode == 1
    assert is_plain(mount.source, 'a.seg', b'kept')
    assert buffers_of(mount.source) == []
