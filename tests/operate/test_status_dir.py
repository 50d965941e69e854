# SPDX-License-Identifier: Apache-2.0
"""MOUNT/.warmfs: reached by its name, not listed, true, and nobody's to change."""

import ctypes
import errno
import os
import stat
import threading

import pytest

import warmfs
from status_files import Metrics, class_status, read, status
from warmfs import KI, MI, as_user, touch, wait_until, write_all

MS_REMOUNT = 32

FILES = ['config', 'metrics', 'openmetrics', 'status', 'status.json']


@pytest.fixture(params=['beside', 'over'])
def mount(warm, request):
    mount = warm('match=*.seg', 'size=256K', 'ahead=3', over=request.param == 'over')
    mount.wait_settled(3)
    return mount


def test_listing(mount):
    """By name only; and then it is a directory like others."""
    touch(mount.point / 'file')
    assert os.listdir(mount.point) == ['file']
    directory = mount.point / '.warmfs'
    assert set(FILES) <= set(os.listdir(directory))
    assert {'.', '..'} <= set(warmfs.run('ls', '-a', directory).split())
    # As find and rsync see it.
    assert warmfs.run('find', mount.point).split() == [str(mount.point), str(mount.point / 'file')]
    assert os.path.realpath(directory / '..' / 'file') == os.path.realpath(mount.point / 'file')
    for name in ('nothing', 'pool', 'live', 'lock', 'state'):
        with pytest.raises(FileNotFoundError):
            os.stat(directory / name)


def test_attributes(mount):
    directory = mount.point / '.warmfs'
    facts = os.stat(directory)
    assert (stat.filemode(facts.st_mode), facts.st_uid, facts.st_gid) == ('dr-xr-xr-x', 0, 0)
    touch(mount.point / 'file')
    inodes = {os.stat(path).st_ino for path in (mount.point, mount.point / 'file', directory)}
    for name in FILES:
        facts = os.stat(directory / name)
        assert (stat.filemode(facts.st_mode), facts.st_uid, facts.st_nlink) == ('-r--r--r--', 0, 1)
        inodes.add(facts.st_ino)
    assert len(inodes) == 3 + len(FILES)
    for entry in os.scandir(directory):
        assert entry.inode() == os.stat(entry.path).st_ino
    assert os.statvfs(directory).f_blocks == os.statvfs(mount.point).f_blocks
    assert os.listxattr(directory / 'status') == []
    with pytest.raises(OSError) as refused:
        os.getxattr(directory / 'status', 'user.x')
    assert refused.value.errno == errno.ENODATA


def test_everybody_reads(mount):
    for name in FILES:
        text = as_user(12345, read, mount, name)
        assert text.endswith('\n') and len(text) > 20


def test_nobody_changes(mount):
    directory = mount.point / '.warmfs'
    touch(mount.point / 'file')
    target = directory / 'status'
    attempts = {
        'write': lambda: os.open(target, os.O_WRONLY), 'read-write': lambda: os.open(target, os.O_RDWR),
        'truncate': lambda: os.truncate(target, 0), 'open-truncate': lambda: os.open(target, os.O_TRUNC),
        'chmod': lambda: os.chmod(target, 0o777), 'chown': lambda: os.chown(target, 1, 1),
        'utime': lambda: os.utime(target), 'unlink': lambda: os.unlink(target),
        'create': lambda: touch(directory / 'new'), 'mkdir': lambda: os.mkdir(directory / 'new'),
        'mkfifo': lambda: os.mkfifo(directory / 'new'), 'symlink': lambda: os.symlink('x', directory / 'new'),
        'link-in': lambda: os.link(mount.point / 'file', directory / 'new'),
        'link-out': lambda: os.link(target, mount.point / 'new'),
        'rename-in': lambda: os.rename(mount.point / 'file', directory / 'new'),
        'rename-out': lambda: os.rename(target, mount.point / 'new'),
        'rename-over': lambda: os.rename(mount.point / 'file', target),
        'rename-directory': lambda: os.rename(directory, mount.point / 'new'),
        'rmdir': lambda: os.rmdir(directory), 'setxattr': lambda: os.setxattr(target, 'user.x', b'1'),
        'removexattr': lambda: os.removexattr(target, 'user.x'),
        'tmpfile': lambda: os.open(directory, os.O_TMPFILE | os.O_RDWR),
        'readlink': lambda: os.readlink(target), 'chmod-directory': lambda: os.chmod(directory, 0o777),
    }
    before = warmfs.snapshot(mount.private)
    for what, act in attempts.items():
        with pytest.raises(OSError) as refused:
            act()
            pytest.fail(f'{what} worked')
        assert refused.value.errno != errno.ENOSYS, what
    assert set(os.listdir(directory)) >= set(FILES)
    assert os.listdir(mount.point) == ['file']
    assert warmfs.snapshot(mount.private) == before
    # The kernel has not learned that a call is not there.
    path = mount.point / 'file'
    write_all(path, bytes(64 * KI))
    os.setxattr(path, 'user.x', b'1')
    assert os.getxattr(path, 'user.x') == b'1'
    fd = os.open(path, os.O_RDWR)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 64 * KI
    os.posix_fallocate(fd, 0, MI)
    os.fsync(fd)
    os.close(fd)


def test_copies(mount):
    """Whatever programs do to read a file gives the text."""
    directory = mount.point / '.warmfs'
    for name in FILES:
        fd = os.open(directory / name, os.O_RDONLY)
        text = os.read(fd, MI)
        assert os.pread(fd, 10, 5) == text[5:15]
        assert os.lseek(fd, 3, os.SEEK_SET) == 3 and os.read(fd, 4) == text[3:7]
        assert os.fstat(fd).st_size == 0
        os.fsync(fd)
        os.close(fd)
        copy = mount.point / 'copy'
        warmfs.run('cp', directory / name, copy)
        assert copy.read_bytes()[:30] == text[:30]
        os.unlink(copy)


def test_one_moment(mount):
    """An open file stays as it was, whatever happens meanwhile and however it is read."""
    fd = os.open(mount.point / '.warmfs/status.json', os.O_RDONLY)
    touch(mount.point / 'a.seg')
    old = b''
    while piece := os.read(fd, 7):
        old += piece
    os.close(fd)
    assert b'"taken":0' in old
    assert class_status(mount)['taken'] == 1


def test_numbers(warm):
    """Each kind's segments on their way from ready to sealed."""
    mount = warm(config='''
[class mapped]
match=*.mapped
size=1M
ahead=3
[class append]
match=*.append
size=512K
kind=append
ahead=2
linger=0
[class stream]
match=*.stream
size=1M
kind=stream
ahead=1
''')
    mount.wait_settled(6)
    for kind, ahead in (('mapped', 3), ('append', 2), ('stream', 1)):
        found = class_status(mount, kind)
        assert (found['kind'], found['ready'], found['ahead'], found['warming']) == (kind, ahead, ahead, 0)
        assert (found['live'], found['sealed'], found['state'], found['failures']) == (0, 0, 'ok', {})
        assert found['pool_bytes'] == ahead * found['size_bytes']
    assert class_status(mount, 'mapped')['resident_ratio'] == pytest.approx(1, abs=0.01)
    assert 'resident_ratio' not in class_status(mount, 'stream')

    fds = [os.open(mount.point / f'1.{kind}', os.O_RDWR | os.O_CREAT) for kind in ('mapped', 'append', 'stream')]
    os.write(fds[1], b'x' * 100)
    touch(mount.point / 'plain')
    mount.wait_settled(6)
    assert [class_status(mount, kind)['live'] for kind in ('mapped', 'append', 'stream')] == [0, 1, 1]
    assert class_status(mount, 'append')['live_bytes'] == 512 * KI
    assert class_status(mount, 'mapped')['sealed'] == 1
    os.close(fds[1])
    warmfs.wait_until(lambda: class_status(mount, 'append')['sealed'] == 1, what='the seal')
    assert class_status(mount, 'append')['live'] == 0
    for kind in ('mapped', 'append', 'stream'):
        found = class_status(mount, kind)
        assert (found['taken'], found['hits'], found['misses'], found['create']['count']) == (1, 1, 0, 1)
    found = status(mount)
    assert found['create_without_class']['count'] == 1
    assert found['requests']['create'] == 4
    assert found['passthrough'] and found['opens']['append'] == 1 and found['opens']['daemon'] == 0
    assert found['opens']['passthrough'] == 3
    assert found['requests']['write'] == 1
    for fd in (fds[0], fds[2]):
        os.close(fd)
    text = read(mount, 'status')
    assert 'class mapped: mapped, 1M, match=*.mapped' in text and '3 of 3 ready (3M, 100% in memory)' in text
    assert '0 live (0), 1 sealed' in text


def test_transient_buffers(warm):
    mount = warm('match=*.seg', 'size=1M', 'kind=append', 'transient=on', 'transient_pool_size=3', 'linger=3600s',
                 'commit_interval=3600s', 'flush_interval=3600s')
    mount.wait_settled(2)
    fds = [os.open(mount.point / f'{number}.seg', os.O_WRONLY | os.O_CREAT) for number in range(4)]
    os.write(fds[0], b'x' * 2048)
    assert class_status(mount)['transient'] == {
        'buffers': 3, 'buffers_free': 0, 'buffers_bytes': 3 * MI, 'buffers_locked': True, 'uncommitted_bytes': 2048,
        'commits': 0, 'unbuffered': 1}
    assert 'buffers  0 of 3 free (3M, locked), 2K uncommitted, 1 creates got none' in read(mount, 'status')
    metrics = Metrics(read(mount, 'metrics'))
    shown = {'buffers': 3, 'buffers_free': 0, 'buffers_bytes': 3 * MI, 'buffers_locked': 1, 'uncommitted_bytes': 2048,
             'commits_total': 0, 'unbuffered_total': 1}
    assert {name: metrics.get(f'warmfs_{name}', **{'class': 'default'}) for name in shown} == shown
    for fd in fds:
        os.close(fd)


def test_residency(warm):
    """What the page cache has lost shows."""
    mount = warm('match=*.seg', 'size=1M', 'ahead=2')
    mount.wait_settled(2)
    assert class_status(mount)['resident_ratio'] == pytest.approx(1, abs=0.01)
    # Both, so that it does not matter which one is which; a mapping of the daemon's keeps pages of small files.
    shares = []
    for path in mount.ready_files():
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        shares.append(warmfs.resident_share(path))
    assert class_status(mount)['resident_ratio'] == pytest.approx(sum(shares) / 2, abs=0.02)


def test_failures_by_errno(warm, faults):
    mount = warm('match=*.seg', 'size=1M', 'ahead=0', faults=faults)
    faults.set('fallocate errno=EIO path=.warmfs', 'pwrite errno=EIO path=.warmfs/pool')
    with pytest.raises(OSError):
        touch(mount.point / 'a.seg')
    faults.clear()
    found = class_status(mount)
    assert found['errors'] >= 1 and found['failures'] == {'EIO': found['errors']}
    assert (found['state'], found['error'], found['failed']) == ('degraded', 'EIO', 1)
    assert 'degraded' in read(mount, 'status') and f'{found["errors"]} EIO' in read(mount, 'status')
    touch(mount.point / 'b.seg')
    assert class_status(mount)['state'] == 'ok'


def test_config(warm, workdir):
    mount = warm('attr_timeout=0.5', 'noatime', config='''# comment
[warmfs]
threads=3
[class wal]
match=**/*.wal
size=1M

ahead=5
''')
    text = read(mount, 'config')
    path = next(option.partition('=')[2] for option in mount.options if option.startswith('config='))
    facts = {line.split()[0]: line.partition('# ')[2] for line in text.splitlines() if line and line[0] not in '[#'}
    assert facts['threads=3'] == f'{path}:3'
    assert facts['match=**/*.wal'] == f'{path}:5'
    assert facts['ahead=5'] == f'{path}:8'
    assert facts['attr_timeout=0.5'] == 'option'
    assert facts['timeout=5000'] == facts['reserve=5%'] == facts['quota=none'] == 'default'
    assert f'# config={path}' in text and '# -o noatime' in text and '[class wal]' in text


def test_without_classes(warm):
    mount = warm()
    assert 'no class' in read(mount, 'status')
    assert status(mount)['classes'] == []
    touch(mount.point / 'file')
    assert status(mount)['create_without_class']['count'] == 1


def test_while_creates_wait(warm, faults, children):
    """Who asks why an application stands still gets an answer."""
    mount = warm('match=**/*.seg', 'size=1M', 'ahead=0', 'timeout=3600s', faults=faults)
    # A directory of its own for each: the kernel lets one create at a time into a directory.
    paths = [mount.point / '0.seg', *(mount.point / f'{i}' / 'a.seg' for i in range(1, 70))]
    for path in paths[1:]:
        path.parent.mkdir()
    assert class_status(mount)['waiting'] == 0
    faults.set('fallocate delay_ms=hold path=.warmfs')
    waiting = [children.start(touch, path) for path in paths]
    wait_until(lambda: class_status(mount)['waiting'] == 70, 60, 'all to wait')
    assert '70 now' in read(mount, 'status')
    faults.clear()
    for child in waiting:
        child.result()
    wait_until(lambda: class_status(mount)['waiting'] == 0, what='none to wait')


class OpenHow(ctypes.Structure):
    _fields_ = [('flags', ctypes.c_uint64), ('mode', ctypes.c_uint64), ('resolve', ctypes.c_uint64)]


def kernel_knows(path):
    """Whether it gets there without asking anybody, or waiting for a lock."""
    SYS_openat2, RESOLVE_CACHED = 437, 0x20
    how = OpenHow(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_CACHED)
    # What it may know of the directory is old after a second.
    os.stat(path.parent)
    fd = warmfs.libc.syscall(SYS_openat2, -100, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(24))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


@pytest.mark.parametrize('again', [False, True], ids=['mounted', 'remounted'])
def test_first_look_while_a_create_waits(warm, faults, children, again):
    """Also who has never looked before gets an answer while the mount's root is locked; the mount's name in the kernel does
    not keep it from being unmounted."""
    mount = warm('match=*.seg', 'size=1M', 'ahead=0', 'timeout=3600s', faults=faults)
    name = mount.point / '.warmfs'
    warmfs.wait_until(lambda: kernel_knows(name), what='the name')
    if again:
        # That makes the kernel forget all names.
        warmfs.check(warmfs.libc.mount(b'none', os.fsencode(mount.point), None, MS_REMOUNT, None))
        warmfs.wait_until(lambda: kernel_knows(name), what='the name, after a remount')
    faults.set('fallocate delay_ms=hold path=.warmfs')
    creator = children.start(touch, mount.point / '0.seg')
    faults.wait_hit('fallocate')
    assert children.start(class_status, mount).result()['waiting'] == 1
    assert not kernel_knows(mount.point / 'other')
    faults.clear()
    creator.result()
    warmfs.umount(mount.point)
    mount.wait_exit()


def test_read_under_load(mount):
    """Many readers, while segments come and go."""
    failures = []
    done = threading.Event()

    def reader(name):
        try:
            while not done.is_set():
                text = read(mount, name)
                assert text.endswith('# EOF\n' if name == 'openmetrics' else '\n')
                if name == 'status.json':
                    status(mount)
        except Exception as error:
            failures.append((name, error))

    threads = [threading.Thread(target=reader, args=(name,)) for name in FILES for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(60):
        write_all(mount.point / f'{i}.seg', b'x')
        os.unlink(mount.point / f'{i}.seg')
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    found = class_status(mount)
    assert found['taken'] <= 60 == found['create']['count']


def test_open_at_the_end(warm):
    """A status file that somebody still has open when the mount ends."""
    mount = warm('match=*.seg', 'size=256K')
    fd = os.open(mount.point / '.warmfs/status', os.O_RDONLY)
    mount.stop()
    with pytest.raises(OSError):
        os.read(fd, 10)
    os.close(fd)
