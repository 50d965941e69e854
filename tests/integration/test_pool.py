# SPDX-License-Identifier: Apache-2.0
"""SOURCE/.warmfs: hidden in the mount, counted as available, trusted only as far as it deserves."""

import errno
import os
import pathlib
import signal
import stat

import pytest

import warmfs
from warmfs import MI, as_user, generation, mounts_at, touch, wait_until, write_all

SIZE = 2 * MI
OPTIONS = ('match=**/*.seg', f'size={SIZE}', 'ahead=3')


def is_zero(path):
    data = path.read_bytes()
    return data.count(0) == len(data)


# Space

def test_available_space(warm, workdir, stack):
    """df does not count the pool as used; a taken segment is."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 400 * MI, workdir))
    before = os.statvfs(disk)
    mount = warm('match=*.seg', 'size=32M', 'ahead=4', source=disk)
    mount.wait_settled(4)

    def free(path):
        return os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
    assert free(disk) < before.f_bavail * before.f_frsize - 120 * MI
    assert abs(free(mount.point) - before.f_bavail * before.f_frsize) < 4 * MI
    assert abs(os.statvfs(mount.point).f_bfree - before.f_bfree) * before.f_frsize < 4 * MI
    assert os.statvfs(mount.point).f_blocks == before.f_blocks
    for taken in (1, 2):
        touch(mount.point / f'{taken}.seg')
        mount.wait_settled(4)
        expected = before.f_bavail * before.f_frsize - taken * 32 * MI
        assert abs(free(mount.point) - expected) < 4 * MI
    os.unlink(mount.point / '1.seg')
    wait_until(lambda: abs(free(mount.point) - before.f_bavail * before.f_frsize + 32 * MI) < 4 * MI)


def test_available_space_after_adoption(warm, workdir, stack):
    disk = stack.enter_context(warmfs.loop_fs('ext4', 200 * MI, workdir))
    before = os.statvfs(disk).f_bfree
    options = ('match=*.seg', 'size=16M', 'ahead=3')
    mount = warm(*options, source=disk)
    mount.wait_settled(3)
    mount.stop()
    mount = warm(*options, source=disk)
    mount.wait_ready(3)
    assert abs(os.statvfs(mount.point).f_bfree - before) * 4096 < 4 * MI


def test_available_files(warm, workdir, stack):
    """There are as many as statfs says, those included that the pool has."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 32 * MI, workdir, mkfs_options=['-N', '256']))
    mount = warm('match=*.seg', 'size=64K', 'kind=append', 'ahead=8', source=disk)
    mount.wait_settled(8)
    free = os.statvfs(mount.point)
    assert free.f_favail == free.f_ffree == os.statvfs(disk).f_ffree + 8
    made = 0
    with pytest.raises(OSError) as full:
        while made <= free.f_favail:
            os.mknod(mount.point / f'{made}', 0o644)
            made += 1
    assert (full.value.errno, made) == (errno.ENOSPC, free.f_favail)


def test_disk_usage_in_sight(warm):
    """What du adds up in the mount is the files that are there."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    assert int(warmfs.run('du', '-s', '--block-size=1', mount.point).split()[0]) < MI
    touch(mount.point / 'a.seg')
    used = int(warmfs.run('du', '-s', '--block-size=1', mount.point).split()[0])
    assert SIZE <= used < SIZE + MI


# Hidden

@pytest.fixture(params=['beside', 'over'])
def mount(warm, request):
    mount = warm(*OPTIONS, over=request.param == 'over')
    mount.wait_settled(3)
    return mount


def hidden_paths(root):
    os.mkdir(root / 'sub')
    os.symlink('.warmfs', root / 'link')
    os.symlink(root / '.warmfs', root / 'absolute')
    return [root / '.warmfs', root / './.warmfs', root / 'sub/../.warmfs', root / '.warmfs/', root / 'link',
            root / 'absolute', root / 'link/pool', root / '.warmfs/pool', root / '.warmfs/state', root / '.warmfs/..',
            root / 'sub' / '..' / '.warmfs' / 'pool']


def test_not_to_be_reached(mount):
    ready = mount.pool_names()[0]
    for path in map(str, hidden_paths(mount.point)):
        for full in (f'{path}/pool/{ready}', f'{path}/{ready}', f'{path}/pool', f'{path}/state', f'{path}/lock'):
            for act in (os.stat, os.listdir, os.rmdir, os.chdir, lambda path: os.listxattr(path),
                        lambda path: os.open(path, os.O_RDONLY), lambda path: os.chmod(path, 0o777),
                        lambda path: os.open(path, os.O_PATH), lambda path: os.truncate(path, 0),
                        lambda path: os.utime(path), lambda path: os.chown(path, 1, 1)):
                with pytest.raises((FileNotFoundError, NotADirectoryError)):
                    act(full)
    with pytest.raises(IsADirectoryError):
        os.unlink(mount.point / '.warmfs')
    with pytest.raises(FileNotFoundError):
        os.unlink(mount.point / '.warmfs/pool' / ready)
    assert len(mount.pool_names('ready-')) == 3


def test_not_listed(mount):
    touch(mount.point / 'file')
    assert os.listdir(mount.point) == ['file']
    assert [entry.name for entry in os.scandir(mount.point)] == ['file']
    fd = os.open(mount.point, os.O_RDONLY)
    assert os.listdir(fd) == ['file']
    os.close(fd)
    for i in range(500):
        touch(mount.point / f'{i}')
    assert '.warmfs' not in os.listdir(mount.point)
    assert warmfs.run('find', mount.point, '-name', '*warmfs*', '!', '-path', mount.point) == ''


def test_not_to_be_made(mount):
    """Nothing of that name can come into the root of the mount, where the status has it."""
    root = mount.point
    touch(root / 'file')
    (root / 'dir').mkdir()
    name = root / '.warmfs'
    attempts = {
        'create': lambda: os.open(name, os.O_CREAT | os.O_WRONLY), 'excl': lambda: os.open(name, os.O_CREAT | os.O_EXCL),
        'mkdir': lambda: os.mkdir(name), 'symlink': lambda: os.symlink('x', name), 'link': lambda: os.link(root / 'file', name),
        'mkfifo': lambda: os.mkfifo(name), 'mknod': lambda: os.mknod(name, 0o644 | stat.S_IFREG),
        'rename': lambda: os.rename(root / 'file', name), 'rename-dir': lambda: os.rename(root / 'dir', name),
        'rename-from': lambda: os.rename(name, root / 'new'), 'link-from': lambda: os.link(name, root / 'new'),
        'rename-pool': lambda: os.rename(root / '.warmfs/pool', root / 'new'),
        'exchange': lambda: warmfs.check(warmfs.libc.renameat2(-100, os.fsencode(root / 'dir'), -100, os.fsencode(name), 2)),
        'exchange-from': lambda: warmfs.check(warmfs.libc.renameat2(-100, os.fsencode(name), -100, os.fsencode(root / 'dir'), 2)),
        'inside': lambda: os.mkdir(root / '.warmfs/pool/x'),
    }
    before = warmfs.snapshot(mount.private)
    for what, act in attempts.items():
        with pytest.raises(OSError):
            act()
            pytest.fail(f'{what} worked')
        assert sorted(os.listdir(root)) == ['dir', 'file'], what
        assert os.stat(name).st_ino != os.stat(mount.private).st_ino, what
        assert 'pool' not in os.listdir(name), what
    assert warmfs.snapshot(mount.private) == before


def test_name_elsewhere_is_free(mount):
    """Only the one of the source itself is special."""
    (mount.point / 'sub/.warmfs/pool').mkdir(parents=True)
    touch(mount.point / 'sub/.warmfs/state')
    touch(mount.point / '.warmfs2')
    touch(mount.point / '.warmf')
    os.rename(mount.point / 'sub/.warmfs', mount.point / 'moved')
    os.rename(mount.point / 'moved', mount.point / 'sub/.warmfs')
    assert sorted(os.listdir(mount.point)) == ['.warmf', '.warmfs2', 'sub']
    assert os.listdir(mount.point / 'sub') == ['.warmfs']
    assert sorted(os.listdir(mount.point / 'sub/.warmfs')) == ['pool', 'state']


def test_private_to_root(mount):
    """Nor is it for other users to read below the mount."""
    if mount.point == mount.source:
        pytest.skip('below the mount there is nothing to be reached')
    assert stat.S_IMODE(os.stat(mount.private).st_mode) == 0o700
    with pytest.raises(PermissionError):
        as_user(12345, os.listdir, mount.source / '.warmfs')


# Stopping and starting again

@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT], ids=['SIGTERM', 'SIGINT'])
def test_stop_and_adopt(warm, number):
    """The next mount hands out the very files that the last one prepared."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    prepared = {generation(path) for path in mount.ready_files()}
    mount.stop(number)
    assert len(os.listdir(mount.source / '.warmfs/pool')) == 3
    assert (mount.source / '.warmfs/state').read_text().splitlines()[1] == 'clean'

    mount = warm(*OPTIONS)
    counters = mount.wait_ready(3)
    assert (counters['adopted'], counters['prepared']) == (3, 0)
    assert {generation(path) for path in mount.ready_files()} == prepared
    touch(mount.point / 'a.seg')
    assert generation(mount.src / 'a.seg') in prepared
    assert os.stat(mount.point / 'a.seg').st_size == SIZE
    assert (mount.private / 'state').read_text().splitlines()[1] == 'running'


def test_umount(warm):
    """umount ends the daemon as cleanly as a signal does."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    warmfs.umount(mount.point)
    mount.wait_exit()
    assert len(os.listdir(mount.source / '.warmfs/pool')) == 3
    assert (mount.source / '.warmfs/state').read_text().splitlines()[1] == 'clean'


def test_stop_while_warming(warm, faults):
    """A stop does not wait for what is being prepared; the half-made files are gone, the ready ones stay."""
    faults.set('pwrite delay_ms=200 path=.warmfs/pool after=64')
    mount = warm('match=*.seg', 'size=1M', 'folio=64K', 'ahead=10', 'threads=2', faults=faults)
    mount.wait_ready(2)
    wait_until(lambda: mount.pool_names('warming'))
    mount.stop(seconds=20)
    names = os.listdir(mount.source / '.warmfs/pool')
    assert len(names) >= 2
    assert {name.split('-')[0] for name in names} == {'ready'}


def test_stop_with_open_files(warm):
    """Busy or not, it ends; open files go on as far as the kernel has them."""
    mount = warm(*OPTIONS)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT, 0o644)
    mount.stop()
    assert mounts_at(mount.point) == []
    os.pwrite(fd, b'after', 0)
    os.close(fd)
    assert (mount.source / 'a.seg').read_bytes()[:5] == b'after'


def test_leftovers_are_removed(warm, workdir):
    """What a killed daemon was making is nothing."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    mount.stop()
    pool = mount.source / '.warmfs/pool'
    for name in ('warming-0000000000000001', 'warming-0123456789abcdef'):
        write_all(pool / name, b'x' * 10_000)
    mount = warm(*OPTIONS)
    mount.wait_ready(3)
    names = mount.pool_names()
    assert names == mount.pool_names('ready-')


def test_killed_while_warming(warm, faults):
    """The real thing: the daemon dies in the middle of a preparation."""
    mount = warm('match=*.seg', 'size=1M', 'ahead=2', faults=faults)
    mount.wait_settled(2)
    faults.set('pwrite delay_ms=hold after=3 path=.warmfs/pool')
    touch(mount.point / 'a.seg')
    faults.wait_hit('pwrite')
    half_made = mount.pool_names('warming')
    assert half_made
    ready = {generation(path) for path in mount.ready_files()}
    mount.kill()
    mount.close()
    faults.clear()
    mount = warm('match=*.seg', 'size=1M', 'ahead=2')
    counters = mount.wait_ready(2)
    assert counters['adopted'] == 1
    assert not set(half_made) & set(mount.pool_names())
    assert ready <= {generation(path) for path in mount.ready_files()}


def test_foreign_files(warm, workdir):
    """They are reported, by name, and left alone."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    mount.stop()
    private = mount.source / '.warmfs'
    foreign = [private / 'README', private / 'pool/notes.txt', private / 'pool/ready', private / 'pool/ready-x',
               private / 'pool/ready-mapped-0-0-0', private / 'pool/ready-mapped-abc-65536-1', private / 'pool/warm',
               private / 'pool/ready-mapped-99999999999999999999999-65536-1', private / '.hidden']
    for path in foreign:
        write_all(path, b'mine')
    (private / 'pool/directory').mkdir()
    write_all(private / 'pool/directory/inside', b'mine')
    (private / 'dir').mkdir()
    before = {str(path): (path.stat().st_ino, path.read_bytes()) for path in foreign}
    mount = warm(*OPTIONS)
    mount.wait_ready(3)
    for i in range(5):
        touch(mount.point / f'{i}.seg')
        assert is_zero(mount.point / f'{i}.seg')
    mount.wait_ready(3)
    mount.stop()
    assert before == {str(path): (path.stat().st_ino, path.read_bytes()) for path in foreign}
    assert (private / 'pool/directory/inside').read_bytes() == b'mine'
    for path in [*foreign, private / 'pool/directory', private / 'dir']:
        assert len(mount.log_lines(rf'[ /]{path.name}: ')) == 1, (path, mount.report())


def tamper(path, how, elsewhere):
    """Does something to a ready segment that its maker did not."""
    if how == 'longer':
        os.truncate(path, os.stat(path).st_size + 4096)
    elif how == 'shorter':
        os.truncate(path, os.stat(path).st_size - 4096)
    elif how == 'empty':
        os.truncate(path, 0)
    elif how == 'written':
        write_all(path, b'not zero', os.O_WRONLY)
    elif how == 'written-deep':
        fd = os.open(path, os.O_WRONLY)
        os.pwrite(fd, b'not zero', SIZE - 100)
        os.close(fd)
    elif how == 'punched':
        fd = os.open(path, os.O_WRONLY)
        warmfs.check(warmfs.libc.fallocate(fd, 3, warmfs.ctypes.c_long(0), warmfs.ctypes.c_long(SIZE)))
        os.close(fd)
    elif how == 'hard-linked':
        os.link(path, elsewhere)
    elif how == 'symlink':
        os.rename(path, elsewhere)
        path.symlink_to(elsewhere)
    elif how == 'fifo':
        path.unlink()
        os.mkfifo(path)
    elif how == 'directory':
        path.unlink()
        path.mkdir()
    elif how == 'sparse':
        path.unlink()
        touch(path)
        os.truncate(path, SIZE + 1)


@pytest.mark.parametrize('how', ['longer', 'shorter', 'empty', 'written', 'written-deep', 'punched', 'hard-linked',
                                 'symlink', 'fifo', 'directory', 'sparse'])
def test_tampered_segments(warm, workdir, how):
    """A segment that is not as it was left is never handed out, and what it points to is not touched."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    mount.stop()
    pool = pathlib.Path(mount.source, '.warmfs/pool')
    elsewhere = workdir / 'elsewhere'
    victim = sorted(pool.iterdir())[0]
    marked = generation(victim)
    tamper(victim, how, elsewhere)
    kept = os.stat(elsewhere).st_size if elsewhere.exists() else None
    mount = warm(*OPTIONS)
    mount.wait_ready(3)
    for i in range(5):
        path = mount.point / f'{i}.seg'
        touch(path)
        assert os.stat(path).st_size == SIZE
        assert os.stat(path).st_blocks * 512 >= SIZE
        assert os.stat(path).st_nlink == 1
        assert stat.S_ISREG(os.lstat(path).st_mode)
        assert is_zero(path)
        if how not in ('fifo', 'directory', 'sparse'):
            assert generation(mount.src / f'{i}.seg') != marked
    if kept is not None:
        assert os.stat(elsewhere).st_size == kept
        assert is_zero(elsewhere)
    mount.stop()
    assert mount.log_lines(victim.name), mount.report()


def simulate_reboot(source, how):
    """The boot id in the state is another one than the kernel's, as after a power cut (or a clean stop)."""
    state = source / '.warmfs/state'
    assert state.read_text().splitlines()[0].startswith('boot ')
    state.write_text(f'boot 00000000-0000-4000-8000-000000000000\n{how}\n')


def test_reboot_after_power_cut(warm):
    """Then a ready segment may have been somebody's file: what is found is not trusted, whatever it looks like."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    prepared = {generation(path) for path in mount.ready_files()}
    mount.kill()
    mount.close()
    simulate_reboot(mount.source, 'running')
    mount = warm(*OPTIONS)
    counters = mount.wait_ready(3)
    assert (counters['adopted'], counters['prepared']) == (0, 3)
    assert not prepared & {generation(path) for path in mount.ready_files()}
    assert len(mount.pool_names()) == 3


def test_reboot_after_clean_stop(warm):
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    mount.stop()
    simulate_reboot(mount.source, 'clean')
    mount = warm(*OPTIONS)
    assert mount.wait_ready(3)['adopted'] == 3


def test_killed_daemon_same_boot(warm):
    """The page cache is the truth as long as the kernel lives."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    prepared = {generation(path) for path in mount.ready_files()}
    mount.kill()
    mount.close()
    mount = warm(*OPTIONS)
    assert mount.wait_ready(3)['adopted'] == 3
    assert {generation(path) for path in mount.ready_files()} == prepared


@pytest.mark.parametrize('text', ['', 'boot\n', 'clean\n', '\0\0\0\0', 'boot x\nsomething\n', 'x' * 5000],
                         ids=['empty', 'half', 'no-boot', 'zeros', 'odd-word', 'long'])
def test_unreadable_state(warm, text):
    """An odd state file is no reason to trust, nor to fail."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    mount.stop()
    (mount.source / '.warmfs/state').write_text(text)
    mount = warm(*OPTIONS)
    counters = mount.wait_ready(3)
    assert (counters['adopted'], counters['prepared']) == (0, 3)


@pytest.mark.parametrize('options', [
    ('match=*.seg', 'size=1M'), ('match=*.seg', f'size={SIZE}', 'kind=stream'), ('match=*.seg', f'size={SIZE}', 'folio=4K'),
    ('match=*.seg', f'size={SIZE}', 'ahead=0'), ('match=*.seg', f'size={SIZE}', 'ahead=1'),
])
def test_other_class_next_time(warm, options):
    """Segments that no class wants any more do not stay."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    mount.stop()
    mount = warm(*options)
    ahead = {'ahead=0': 0, 'ahead=1': 1}.get(options[-1], 2)
    mount.wait_settled(ahead)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT, 0o644)
    size = MI if 'size=1M' in options else 0 if 'kind=stream' in options else SIZE
    assert os.fstat(fd).st_size == size
    assert os.fstat(fd).st_blocks * 512 >= (MI if 'size=1M' in options else SIZE)
    assert is_zero(mount.point / 'a.seg')
    os.close(fd)


def test_many_stops_and_starts(warm):
    """No segment is lost, doubled or handed out twice over many mounts."""
    seen = set()
    for i in range(6):
        mount = warm(*OPTIONS)
        mount.wait_ready(2)
        for j in range(2):
            path = mount.point / f'{i}-{j}.seg'
            touch(path)
            assert is_zero(path)
            write_all(path, b'used', os.O_WRONLY)
            seen.add(os.stat(path).st_ino)
        mount.kill() if i % 2 else mount.stop()
        mount.close()
    assert len(seen) == 12
    names = [name for name in os.listdir(mount.source) if name.endswith('.seg')]
    assert len(names) == 12
    assert all((mount.source / name).read_bytes()[:4] == b'used' for name in names)


def test_counters_at_exit(warm):
    """The last words are the counters of every class."""
    mount = warm(*OPTIONS)
    mount.wait_settled(3)
    touch(mount.point / 'a.seg')
    mount.wait_settled(3)
    mount.stop()
    counters = mount.last_counters()
    assert (counters['taken'], counters['hits'], counters['prepared']) == (1, 1, 4)
