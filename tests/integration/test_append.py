# SPDX-License-Identifier: Apache-2.0
"""Segments of kind append: exact at any time, plain files in the end, and nothing lost with the daemon.

That they behave as native files do is for tests/fuzz to show.
"""

import fcntl
import mmap
import os
import signal
import subprocess

import pytest

import warmfs
from warmfs import KI, MI, Child, links_of, touch, wait_until, write_all

SIZE = 1 * MI
CLASS = ('match=**/*.seg', f'size={SIZE}', 'kind=append', 'ahead=2', 'linger=3600s')


@pytest.fixture(params=['passthrough', 'daemon'])
def options(request):
    return (*CLASS, *(['passthrough=off'] if request.param == 'daemon' else []))


@pytest.fixture
def mount(warm, options):
    mount = warm(*options)
    mount.wait_settled(2)
    return mount


def append(path, data):
    write_all(path, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def live_names(mount):
    """Names in the pool of files that have another one."""
    return [name for name in mount.pool_names('ready-') if links_of(mount.pool / name) > 1]


def is_plain(source, name, data):
    status = os.stat(source / name)
    return (status.st_nlink, status.st_size) == (1, len(data)) and (source / name).read_bytes() == data


def die_and_mount_again(warm, mount, options):
    mount.kill()
    mount.close()
    return warm(*options)


# At any time

def test_born_empty_over_warm_blocks(mount):
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    status = os.fstat(fd)
    assert (status.st_size, status.st_nlink) == (0, 1)
    assert status.st_blocks * 512 >= SIZE
    assert os.read(fd, 10) == b''
    os.close(fd)
    assert mount.wait_counters(taken=1)['hits'] == 1


def test_appends_of_several_processes(mount):
    path = mount.point / 'a.seg'
    touch(path)

    def work(letter):
        for _ in range(200):
            append(path, letter * 7)

    children = [Child(work, bytes([65 + i])) for i in range(4)]
    for child in children:
        child.result()
    data = path.read_bytes()
    assert len(data) == os.stat(path).st_size == 4 * 200 * 7
    assert sorted(data[i:i + 7] for i in range(0, len(data), 7)) == sorted(
        bytes([65 + i]) * 7 for i in range(4) for _ in range(200))


def test_grows_past_its_capacity(mount):
    path = mount.point / 'a.seg'
    data = os.urandom(3 * SIZE + 17)
    append(path, data)
    assert os.stat(path).st_size == len(data)
    assert path.read_bytes() == data
    mount.stop()
    assert is_plain(mount.source, 'a.seg', data)


def test_sendfile_sees_what_was_written(mount):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    reader, writer = os.pipe()
    for round_number in range(1, 20):
        os.pwrite(fd, bytes([round_number]) * 1000, 0)
        os.pwrite(fd, bytes([round_number]) * 1000, round_number * 1000)
        for offset in (0, round_number * 1000):
            assert os.sendfile(writer, fd, offset, 1000) == 1000
            assert os.read(reader, 1000) == bytes([round_number]) * 1000

    def sent():
        assert os.sendfile(writer, fd, 100, 10) == 10
        return os.read(reader, 10)

    # A store through a mapping passes the daemon by, which takes the pages that sendfile left away a moment after it.
    with mmap.mmap(fd, 4 * KI) as area:
        for round_number in range(1, 20):
            area[100:110] = bytes([round_number]) * 10
            wait_until(lambda: sent() == area[100:110])
    os.close(fd)
    os.close(reader)
    os.close(writer)


def test_mapping_beside_writes(mount):
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 64 * KI)
    with mmap.mmap(fd, 64 * KI) as area:
        area[5000:5005] = b'store'
        assert os.pread(fd, 5, 5000) == b'store'
        os.pwrite(fd, b'write', 9000)
        assert area[9000:9005] == b'write'
        area.flush()
    os.close(fd)
    mount.stop()
    data = bytearray(64 * KI)
    data[5000:5005], data[9000:9005] = b'store', b'write'
    assert is_plain(mount.source, 'a.seg', data)


def writes_of_append_and_sync(path, flags, faults):
    fd = os.open(path, flags | os.O_APPEND)
    before = len(faults.hits('pwrite'))
    os.write(fd, b'text')
    os.fsync(fd)
    os.close(fd)
    return len(faults.hits('pwrite')) - before


def test_length_is_recorded_while_it_may_be_mapped(warm, options, faults):
    """Nobody tells of stores through a mapping; when there can be none any more, a sync writes nothing but the data."""
    mount = warm(*options, faults=faults)
    mount.wait_settled(2)
    path = mount.point / 'a.seg'
    touch(path)
    mount.wait_settled(2)
    faults.set('pwrite')
    assert writes_of_append_and_sync(path, os.O_RDWR, faults) == 2
    # The kernel tells of the close a little later.
    wait_until(lambda: writes_of_append_and_sync(path, os.O_WRONLY, faults) == 1, what='the end of mappings')


# Sealing

def test_sealed_after_linger(warm):
    mount = warm(*CLASS[:-1], 'linger=300')
    mount.wait_settled(2)
    path = mount.point / 'a.seg'
    with open(path, 'wb') as file:
        file.write(b'one')
        file.flush()
        assert live_names(mount)
        before = os.stat(path)
    wait_until(lambda: not live_names(mount))
    assert is_plain(mount.source, 'a.seg', b'one')
    after = os.stat(path)
    assert (after.st_size, after.st_nlink, after.st_ino) == (3, 1, before.st_ino)
    assert after.st_mtime_ns == before.st_mtime_ns
    append(path, b'two')
    assert path.read_bytes() == b'onetwo'


def test_not_sealed_by_closing(mount):
    """Who opens, appends and closes again and again does so in one live segment."""
    for number in range(50):
        append(mount.point / 'a.seg', b'%2d' % number)
        assert len(live_names(mount)) == 1
    assert os.stat(mount.point / 'a.seg').st_size == 100


def test_sealed_for_a_newer_one(mount):
    append(mount.point / 'a.seg', b'old')
    touch(mount.point / 'b.seg')
    wait_until(lambda: os.stat(mount.src / 'a.seg').st_nlink == 1)
    assert is_plain(mount.src, 'a.seg', b'old')
    assert len(live_names(mount)) == 1


def test_sealing_does_not_show(warm, options):
    """Programs that compare ctimes take a file for changed only if an application has changed it."""
    mount = warm(*options, 'attr_timeout=0')
    path = mount.point / 'a.seg'
    append(path, b'old')
    before = os.stat(path)
    warmfs.tick()
    touch(mount.point / 'b.seg')
    wait_until(lambda: os.stat(mount.src / 'a.seg').st_nlink == 1)
    wait_until(lambda: os.getxattr(path, 'user.warmfs.state') == b'sealed')
    assert os.stat(mount.src / 'a.seg').st_ctime_ns > before.st_ctime_ns
    with open(path) as file:
        for after in (os.stat(path), os.fstat(file.fileno())):
            assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    warmfs.tick()
    path.chmod(0o600)
    assert os.stat(path).st_ctime_ns == os.stat(mount.src / 'a.seg').st_ctime_ns


def test_sealed_at_the_end_also_when_open(mount):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'open')
    process = mount.process
    process.send_signal(signal.SIGTERM)
    process.wait(30 * warmfs.SLOW)
    os.close(fd)
    assert is_plain(mount.source, 'a.seg', b'open')


def test_truncating_seals(mount):
    path = mount.point / 'a.seg'
    append(path, b'x' * 10000)
    os.truncate(path, 77)
    assert os.stat(mount.src / 'a.seg').st_size == 77
    assert live_names(mount) == []
    with open(path, 'wb') as file:
        file.write(b'anew')
    assert is_plain(mount.src, 'a.seg', b'anew')


# Names

def test_removed(mount):
    for name in ('a.seg', 'b.seg'):
        append(mount.point / name, b'data')
    os.unlink(mount.point / 'a.seg')
    os.rename(mount.point / 'b.seg', mount.point / 'c.seg')
    touch(mount.point / 'other')
    os.rename(mount.point / 'other', mount.point / 'c.seg')
    wait_until(lambda: live_names(mount) == [])
    wait_until(lambda: len(mount.pool_names()) == 2)
    assert sorted(os.listdir(mount.point)) == ['c.seg']


def test_removed_while_open(mount):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'still')
    os.unlink(mount.point / 'a.seg')
    assert os.fstat(fd).st_nlink == 0
    os.write(fd, b' here')
    assert (os.fstat(fd).st_size, os.pread(fd, 100, 0)) == (10, b'still here')
    assert live_names(mount) == []
    os.close(fd)


@pytest.mark.parametrize('closed', ['before', 'after'])
@pytest.mark.parametrize('how', ['unlink', 'rename'])
def test_removed_and_opened_again(mount, how, closed):
    """By whoever had found the name before: he never sees what is behind the end."""
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, b'still here')
    found = os.open(path, os.O_PATH)
    if closed == 'before':
        os.close(fd)
        mount.wait_answered()
    touch(mount.point / 'other')
    os.unlink(path) if how == 'unlink' else os.rename(mount.point / 'other', path)
    if closed == 'after':
        os.write(fd, b' and there')
        os.close(fd)
        mount.wait_answered()
    expected = b'still here' + (b' and there' if closed == 'after' else b'')
    with open(f'/proc/self/fd/{found}', 'rb') as file:
        assert (file.read(), os.fstat(file.fileno()).st_size) == (expected, len(expected))
    os.close(found)


def test_hard_link(mount):
    append(mount.point / 'a.seg', b'data')
    os.link(mount.point / 'a.seg', mount.point / 'name')
    assert os.stat(mount.point / 'a.seg').st_nlink == 2
    os.unlink(mount.point / 'a.seg')
    assert os.stat(mount.point / 'name').st_nlink == 1
    assert (mount.point / 'name').read_bytes() == b'data'
    mount.stop()
    assert is_plain(mount.source, 'name', b'data')


# Death of the daemon

@pytest.mark.parametrize('tail', [b'', b'\0', b'\0' * 9000])
@pytest.mark.parametrize('sync', [False, True])
def test_killed(warm, mount, options, tail, sync):
    data = os.urandom(5000) + b'x' + tail
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.write(fd, data)
    if sync:
        os.fdatasync(fd)
    mount.kill()
    os.close(fd)
    mount.close()
    again = warm(*options)
    assert (again.point / 'a.seg').read_bytes() == data
    assert is_plain(again.src, 'a.seg', data)
    assert len(again.log_lines('recovery: ready-append-.* sealed to %d bytes' % len(data))) == 1
    assert live_names(again) == []


def test_killed_then_served_without_classes(warm, mount):
    append(mount.point / 'a.seg', b'here\0')
    ready = len(mount.ready_files())
    mount.kill()
    mount.close()
    again = warm()
    assert (again.point / 'a.seg').read_bytes() == b'here\0'
    assert is_plain(again.src, 'a.seg', b'here\0')
    assert (len(again.ready_files()), live_names(again)) == (ready, [])


def test_killed_then_checked(warm, mount, options):
    data = b'checked\0'
    append(mount.point / 'a.seg', data)
    mount.kill()
    mount.close()

    def check(*more):
        command, environment = warmfs.warmfs_command('--check', *more, mount.source)
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False)

    done = check('--dry-run')
    assert (done.returncode, done.stderr.count('would be sealed to 8 bytes')) == (4, 1)
    assert os.stat(mount.source / 'a.seg').st_size > SIZE
    assert check().returncode == 1
    assert is_plain(mount.source, 'a.seg', data)
    assert check().returncode == 0
    again = warm(*options)
    served = check()
    assert served.returncode == 8
    assert 'already served' in served.stderr
    again.stop()


def test_killed_then_checked_elsewhere(mount):
    """From another mount namespace, as of a service that is started again: not a byte is missing there either."""
    data = b'zeros:' + bytes(1000)
    append(mount.point / 'a.seg', data)
    mount.kill()
    mount.close()
    command, environment = warmfs.warmfs_command('--check', mount.source)
    done = subprocess.run(['unshare', '--mount', *command], env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count('sealed to 1006 bytes')) == (1, 1), done.stderr
    assert is_plain(mount.source, 'a.seg', data)


def test_check_of_other_things(workdir):
    def check(path):
        command, environment = warmfs.warmfs_command('--check', path)
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False)

    never = workdir / 'never'
    never.mkdir()
    assert check(never).returncode == 0
    assert os.listdir(never) == []
    missing = check(workdir / 'missing')
    assert missing.returncode == 8
    assert missing.stderr.count('\n') == 1


# A table that is not to be believed

def damage_by_garbage(path):
    path.write_bytes(os.urandom(70000))


def damage_by_cutting(path):
    os.truncate(path, 1000)


def damage_by_flipping(path):
    """Every record's head, none of the file's."""
    with open(path, 'r+b') as file:
        data = bytearray(file.read())
        for offset in range(4096, len(data), 512):
            data[offset + 60] ^= 0xff
        file.seek(0)
        file.write(data)


def damage_by_removing(path):
    path.unlink()


def damage_by_symlink(path):
    path.unlink()
    path.symlink_to('../../victim')


@pytest.mark.parametrize('damage', [damage_by_garbage, damage_by_cutting, damage_by_flipping, damage_by_removing,
                                    damage_by_symlink])
def test_damaged_table(warm, mount, options, workdir, damage):
    victim = workdir / 'victim'
    victim.write_bytes(b'v' * (4096 + 4096 * 512))
    append(mount.point / 'a.seg', b'd' * 7000)
    mount.kill()
    mount.close()
    damage(mount.source / '.warmfs/live')
    again = warm(*options)
    assert (again.point / 'a.seg').read_bytes() == b'd' * 7000
    append(again.point / 'b.seg', b'works')
    assert (again.point / 'b.seg').read_bytes() == b'works'
    assert victim.read_bytes() == b'v' * (4096 + 4096 * 512)
    again.stop()
    assert is_plain(mount.source, 'a.seg', b'd' * 7000)


def test_locks_and_flags(mount):
    """What an application asks of its descriptor is the application's."""
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_DSYNC)
    os.write(fd, b'one')
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.pwrite(fd, b'X', 0)
    assert path.read_bytes() == b'Xne'
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)
