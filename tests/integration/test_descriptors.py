# SPDX-License-Identifier: Apache-2.0
"""The daemon's descriptors: more files than it may have open, and more open files."""

import concurrent.futures
import errno
import json
import os
import resource

import pytest

from warmfs import Child, libc, wait_until, write_all

LIMIT = 800
FILES = 2000
PR_CAPBSET_DROP = 24
CAP_SYS_RESOURCE = 24
# Of the kernel: FUSE_NOTIFY_PRUNE.
FORGETS = tuple(int(part) for part in os.uname().release.split('.')[:2]) >= (6, 18)


def limit():
    """As a service with LimitNOFILE=, or a user: not even root may go beyond it then."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)


@pytest.fixture(name='mount')
def limited_mount(warm, request):
    return warm(*getattr(request, 'param', ()), before=limit)


def open_descriptors(mount):
    return len(os.listdir(f'/proc/{mount.pid}/fd'))


needs_forgetting = pytest.mark.skipif(not FORGETS, reason='this kernel cannot be asked to forget inodes')
each_way = pytest.mark.parametrize('mount', [(), ('passthrough=off',), ('match=*', 'size=64K', 'kind=append')],
                                   indirect=True, ids=['passthrough', 'daemon', 'append'])


@needs_forgetting
@each_way
def test_more_files_than_descriptors(mount):
    for i in range(FILES):
        write_all(mount.point / f'f{i}', b'%d' % i)
    assert sum((mount.point / f'f{i}').stat().st_size == len(str(i)) for i in range(FILES)) == FILES
    assert sum((mount.point / f'f{i}').read_bytes() == b'%d' % i for i in range(FILES)) == FILES
    assert sum(entry.stat().st_size for entry in os.scandir(mount.point)) == sum(len(str(i)) for i in range(FILES))
    for i in range(FILES):
        os.unlink(mount.point / f'f{i}')
    assert os.listdir(mount.point) == []
    assert not mount.log_lines('descriptors')


@needs_forgetting
def test_forgets_again(mount):
    """Without being asked for more, it comes down to what leaves room for a burst."""
    for i in range(FILES):
        write_all(mount.src / f'f{i}', b'')
    for i in range(FILES):
        os.stat(mount.point / f'f{i}')
    wait_until(lambda: open_descriptors(mount) <= LIMIT / 2, what='the kernel to forget')


@needs_forgetting
def test_deep_tree(mount):
    """Directories with something known in them are not forgotten before it."""
    path = mount.point
    for depth in range(60):
        path = path / 'd'
        path.mkdir()
        for i in range(20):
            write_all(path / f'f{i}', b'x')
    files = sum(len(names) for _, _, names in os.walk(mount.point))
    sizes = sum(os.stat(os.path.join(top, name)).st_size for top, _, names in os.walk(mount.point) for name in names)
    assert (files, sizes) == (1200, 1200)


@needs_forgetting
def test_many_at_a_time(mount):
    def work(number):
        directory = mount.point / str(number)
        directory.mkdir()
        for i in range(FILES // 8):
            write_all(directory / f'f{i}', b'x')
        return sum(os.stat(directory / f'f{i}').st_size for i in range(FILES // 8))
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [FILES // 8] * 8


def status(mount):
    return json.loads((mount.point / '.warmfs/status.json').read_text())


def test_shown(mount):
    """One for each file that is remembered, one for each that is open, and the root's."""
    files = [os.open(mount.point / f'f{i}', os.O_RDWR | os.O_CREAT, 0o600) for i in range(50)]
    shown = status(mount)
    assert shown['descriptors'] == 101 and 101 < shown['max_descriptors'] < LIMIT
    assert '; 101 of ' in (mount.point / '.warmfs/status').read_text()
    assert 'warmfs_descriptors 101\n' in (mount.point / '.warmfs/metrics').read_text()
    for fd in files:
        os.close(fd)
    wait_until(lambda: status(mount)['descriptors'] == 51, what='the closes')


def open_as_many_as_can_be(mount):
    """They stay open; what the one too many failed with."""
    files = []
    try:
        for i in range(LIMIT):
            files.append(os.open(mount.point / f'f{i}', os.O_RDWR | os.O_CREAT, 0o600))
            os.pwrite(files[-1], b'%d' % i, 0)
    except OSError as error:
        right = sum(os.pread(fd, 9, 0) == b'%d' % i for i, fd in enumerate(files))
        return errno.errorcode[error.errno], len(files), right, os.stat(mount.point / 'f0').st_size
    return None


@each_way
def test_more_open_files(mount):
    """Refused with what it is, before the daemon's own work lacks one; and allowed again."""
    child = Child(open_as_many_as_can_be, mount)
    code, n_open, n_right, size = child.result()
    assert code == 'ENFILE' and n_right == n_open and size == 1
    assert n_open > LIMIT / 5
    assert len(mount.log_lines('too many files are open')) == 1
    assert len(os.listdir(mount.src)) >= n_open
    wait_until(lambda: open_descriptors(mount) < LIMIT / 2 or not FORGETS, what='the kernel to forget')
    write_all(mount.point / 'again', b'x')
    assert (mount.point / 'again').read_bytes() == b'x'


def test_refused_before_it_is_made(mount):
    """What is refused for want of a descriptor has done nothing."""
    def attempts():
        before = open_as_many_as_can_be(mount)
        names = set(os.listdir(mount.src))
        for make in (lambda path: os.open(path, os.O_CREAT | os.O_WRONLY), os.mkdir, os.mkfifo,
                     lambda path: os.symlink('x', path)):
            with pytest.raises(OSError) as caught:
                make(mount.point / 'new')
            assert caught.value.errno == errno.ENFILE
        return before[0], set(os.listdir(mount.src)) == names
    assert Child(attempts).result() == ('ENFILE', True)
