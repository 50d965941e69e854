# SPDX-License-Identifier: Apache-2.0
"""`stream` segments give the unused part of their reservation back, and never a byte that was written."""

import ctypes
import mmap
import os
import subprocess

import pytest

import warmfs
from warmfs import KI, MI, links_of, touch, wait_until, write_all

SIZE = 1 * MI
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
KEEP_LINGER = 'linger=3600s'
CLASS = ('match=**/*.seg', f'size={SIZE}', 'kind=stream', 'ahead=2')


@pytest.fixture(params=['passthrough', 'daemon'])
def options(request):
    return (*CLASS, *(['passthrough=off'] if request.param == 'daemon' else []))


@pytest.fixture
def mount(warm, options):
    mount = warm(*options, KEEP_LINGER)
    mount.wait_settled(2)
    return mount


def append(path, data):
    write_all(path, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def live_names(mount):
    return [name for name in mount.pool_names() if links_of(mount.pool / name) > 1]


def fallocate(fd, mode, offset, length):
    warmfs.check(warmfs.libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def allocated(path):
    return os.stat(path).st_blocks * 512


def is_plain(path, data):
    """Without a block more than it needs, nor a second name."""
    status = os.stat(path)
    blocks = (len(data) + status.st_blksize - 1) // status.st_blksize * status.st_blksize
    return (status.st_nlink, status.st_blocks * 512) == (1, blocks) and path.read_bytes() == data


def test_after_linger(warm, options):
    mount = warm(*options, 'linger=300')
    mount.wait_settled(2)
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b'one' * 3000)
    before = os.fstat(fd)
    assert (before.st_nlink, before.st_blocks * 512) == (1, SIZE)
    os.close(fd)
    wait_until(lambda: not live_names(mount))
    after = os.stat(path)
    assert (after.st_nlink, after.st_size, after.st_ino) == (1, 9000, before.st_ino)
    assert after.st_mtime_ns == before.st_mtime_ns
    assert is_plain(mount.src / 'a.seg', b'one' * 3000)
    append(path, b'two')
    assert path.read_bytes() == b'one' * 3000 + b'two'


def test_not_by_closing(mount):
    for number in range(50):
        append(mount.point / 'a.seg', b'%2d' % number)
    assert allocated(mount.src / 'a.seg') == SIZE
    assert len(live_names(mount)) == 1


def test_for_a_newer_one(mount):
    append(mount.point / 'a.seg', b'old')
    touch(mount.point / 'b.seg')
    wait_until(lambda: is_plain(mount.src / 'a.seg', b'old'))
    assert allocated(mount.src / 'b.seg') == SIZE


def test_sealing_does_not_show(warm, options):
    mount = warm(*options, KEEP_LINGER, 'attr_timeout=0')
    mount.wait_settled(2)
    path = mount.point / 'a.seg'
    append(path, b'old')
    before = os.stat(path)
    warmfs.tick()
    append(mount.point / 'b.seg', b'new')
    wait_until(lambda: os.stat(mount.source / 'a.seg').st_nlink == 1)
    wait_until(lambda: os.getxattr(path, 'user.warmfs.state') == b'sealed')
    assert os.stat(mount.source / 'a.seg').st_ctime_ns > before.st_ctime_ns
    assert os.stat(path).st_ctime_ns == before.st_ctime_ns
    warmfs.tick()
    append(path, b'more')
    assert os.stat(path).st_ctime_ns == os.stat(mount.source / 'a.seg').st_ctime_ns


def test_at_the_end(mount):
    append(mount.point / 'a.seg', b'stays')
    touch(mount.point / 'b.seg')
    mount.stop()
    assert is_plain(mount.source / 'a.seg', b'stays')
    assert is_plain(mount.source / 'b.seg', b'')


def test_not_while_open(warm, options):
    mount = warm(*options, 'linger=0')
    mount.wait_settled(2)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'x' * 5000)
    touch(mount.point / 'b.seg')
    wait_until(lambda: is_plain(mount.src / 'b.seg', b''))
    assert allocated(mount.src / 'a.seg') == SIZE
    os.close(fd)
    wait_until(lambda: is_plain(mount.src / 'a.seg', b'x' * 5000))


def test_not_while_open_in_the_source(warm, options):
    """Whoever writes past the mount loses nothing either."""
    mount = warm(*options, 'linger=0')
    mount.wait_settled(2)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    beside = os.open(mount.src / 'a.seg', os.O_RDWR)
    os.close(fd)
    touch(mount.point / 'b.seg')
    wait_until(lambda: is_plain(mount.src / 'b.seg', b''))
    assert allocated(mount.src / 'a.seg') == SIZE
    os.write(beside, b'beside')
    os.close(beside)
    wait_until(lambda: is_plain(mount.src / 'a.seg', b'beside'))


def test_mapped_after_closing(mount):
    path = mount.point / 'a.seg'
    write_all(path, bytes(8 * KI))
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 8 * KI) as view:
        os.close(fd)
        touch(mount.point / 'b.seg')
        touch(mount.point / 'c.seg')
        wait_until(lambda: is_plain(mount.src / 'b.seg', b''))
        view[8 * KI - 5:] = b'store'
    wait_until(lambda: is_plain(mount.src / 'a.seg', bytes(8 * KI - 5) + b'store'))


@pytest.mark.parametrize('size', [0, 100, 70_000])
def test_own_reservation_is_kept(mount, size):
    """What an application reserves itself is its own."""
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(size))
    fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * SIZE)
    os.close(fd)
    mount.stop()
    assert allocated(mount.source / 'a.seg') == 2 * SIZE
    assert os.stat(mount.source / 'a.seg').st_size == size


def test_holes_are_no_reservation(mount):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'x' * 64 * KI)
    fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 60 * KI)
    os.close(fd)
    mount.stop()
    assert allocated(mount.source / 'a.seg') == 4 * KI


def test_cut_by_its_owner(mount):
    path = mount.point / 'a.seg'
    append(path, b'x' * 10_000)
    os.truncate(path, 77)
    assert path.read_bytes() == b'x' * 77
    with open(path, 'wb') as file:
        file.write(b'anew')
    mount.stop()
    assert is_plain(mount.source / 'a.seg', b'anew')


def test_other_names(mount):
    """What applications call it, and how often, is nothing to its reservation."""
    append(mount.point / 'a.seg', b'data')
    os.link(mount.point / 'a.seg', mount.point / 'linked')
    os.rename(mount.point / 'a.seg', mount.point / 'renamed')
    assert os.stat(mount.point / 'renamed').st_nlink == 2
    os.unlink(mount.point / 'renamed')
    assert os.stat(mount.point / 'linked').st_nlink == 1
    assert len(live_names(mount)) == 1
    mount.stop()
    assert is_plain(mount.source / 'linked', b'data')


def test_replaced(mount):
    append(mount.point / 'a.seg', b'old')
    (mount.point / 'new').write_bytes(b'new')
    os.rename(mount.point / 'new', mount.point / 'a.seg')
    # Of the old one nothing is left, neither there.
    wait_until(lambda: len(mount.pool_names()) == 2)
    assert (mount.point / 'a.seg').read_bytes() == b'new'


def test_read_only_descriptors(warm, options):
    mount = warm(*options, 'linger=0')
    mount.wait_settled(2)
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b'data')
    reader = os.open(path, os.O_RDONLY)
    os.close(fd)
    touch(mount.point / 'b.seg')
    wait_until(lambda: is_plain(mount.src / 'b.seg', b''))
    assert allocated(mount.src / 'a.seg') == SIZE
    assert os.read(reader, 10) == b'data'
    os.close(reader)
    wait_until(lambda: is_plain(mount.src / 'a.seg', b'data'))


def test_open_at_the_end(mount, options, warm):
    """The daemon's own descriptors are no reason to keep it; those that the kernel has for an application are."""
    append(mount.point / 'a.seg', b'data')
    fd = os.open(mount.point / 'a.seg', os.O_RDONLY)
    mount.stop()
    if 'passthrough=off' not in options:
        assert allocated(mount.source / 'a.seg') == SIZE
        assert os.read(fd, 10) == b'data'
        os.close(fd)
        warm(*options).stop()
    else:
        os.close(fd)
    assert is_plain(mount.source / 'a.seg', b'data')


def test_removed(mount):
    append(mount.point / 'a.seg', b'data')
    fd = os.open(mount.point / 'b.seg', os.O_RDWR | os.O_CREAT)
    os.unlink(mount.point / 'a.seg')
    os.unlink(mount.point / 'b.seg')
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    wait_until(lambda: len(mount.pool_names()) == 2)
    assert live_names(mount) == []


@pytest.mark.parametrize('end', ['stopped', 'killed'])
@pytest.mark.parametrize('kind', ['stream', 'append'])
def test_late(warm, options, faults, kind, end):
    """One that was not prepared in time has a reservation as well, of either kind."""
    faults.set('fallocate delay_ms=hold count=1 path=.warmfs/pool')
    mount = warm('match=**/*.seg', f'size={SIZE}', f'kind={kind}', 'ahead=0', 'timeout=10', KEEP_LINGER,
                 *options[len(CLASS):], faults=faults)
    append(mount.point / 'a.seg', b'late')
    assert mount.counters()['timeouts'] == 1
    assert os.stat(mount.point / 'a.seg').st_nlink == 1
    assert allocated(mount.src / 'a.seg') == SIZE
    faults.clear()
    if end == 'stopped':
        mount.stop()
    else:
        mount.kill()
        mount.close()
        warm(*options)
    assert is_plain(mount.source / 'a.seg', b'late')


def check(mount, *more):
    command, environment = warmfs.warmfs_command('--check', *more, mount.source)
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)


def test_killed_then_checked(mount):
    append(mount.point / 'a.seg', b'kept')
    mount.kill()
    mount.close()
    assert allocated(mount.source / 'a.seg') == SIZE
    looked = check(mount, '--dry-run')
    assert (looked.returncode, looked.stderr.count('would be sealed to 4 bytes')) == (4, 1)
    assert allocated(mount.source / 'a.seg') == SIZE
    fd = os.open(mount.source / 'a.seg', os.O_RDONLY)
    busy = check(mount)
    assert (busy.returncode, busy.stderr.count('still open')) == (4, 1)
    os.close(fd)
    assert check(mount).returncode == 1
    assert is_plain(mount.source / 'a.seg', b'kept')
    assert check(mount).returncode == 0


@pytest.mark.parametrize('classes', [True, False])
def test_killed_and_mounted_again(warm, mount, options, classes):
    append(mount.point / 'a.seg', b'kept')
    mount.kill()
    mount.close()
    mount = warm(*options) if classes else warm()
    assert is_plain(mount.src / 'a.seg', b'kept')
    assert (mount.point / 'a.seg').read_bytes() == b'kept'


def test_killed_while_written(warm, workdir):
    """Under passthrough an open file outlives the daemon: it is left alone until it is closed."""
    mount = warm(*CLASS, KEEP_LINGER)
    mount.wait_settled(2)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'one')
    mount.kill()
    again = warm(*CLASS, KEEP_LINGER, point=workdir / 'again')
    assert allocated(mount.source / 'a.seg') == SIZE
    os.write(fd, b'two')
    os.close(fd)
    again.stop()
    mount.close()
    last = warm(*CLASS, KEEP_LINGER)
    assert is_plain(last.src / 'a.seg', b'onetwo')


def test_hammered(warm, options, children):
    """Opened, appended to and closed by several processes while it is being sealed all the time."""
    mount = warm(*options, 'linger=0')
    mount.wait_settled(2)
    letters, n_rounds = b'abc', 200

    def work(letter):
        for number in range(n_rounds):
            append(mount.point / f'{number % 10}.seg', bytes([letter]) * (1 + number % 100))

    for letter in letters:
        children.start(work, letter)
    for child in children:
        child.result()
    for name in range(10):
        data = (mount.point / f'{name}.seg').read_bytes()
        expected = sum(1 + number % 100 for number in range(name, n_rounds, 10))
        assert [data.count(letter) for letter in letters] == [expected] * len(letters)


def test_xfs(warm, workdir, stack):
    mount = warm(*CLASS, 'linger=0', source=stack.enter_context(warmfs.loop_fs('xfs', 400 * MI, workdir)))
    mount.wait_settled(2)
    append(mount.point / 'a.seg', b'data' * 50_001)
    wait_until(lambda: is_plain(mount.src / 'a.seg', b'data' * 50_001))
