# SPDX-License-Identifier: Apache-2.0
"""Nothing that anybody does to names leads the daemon out of SOURCE."""

import contextlib
import errno
import os

import pytest

import warmfs

ROUNDS = 150
SECRET = b'not yours' * 400
# What a path that somebody changes meanwhile may be answered with.
MEANWHILE = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EXDEV,
             errno.ESTALE, errno.EINVAL)


@pytest.fixture(params=['mapped', 'append', 'stream'])
def mount(request, warm):
    found = warm('match=**/*.seg', 'size=64K', f'kind={request.param}', 'ahead=2', 'attr_timeout=0')
    for name in ('d', 'spare'):
        (found.point / name).mkdir()
    return found


@pytest.fixture
def outside(workdir):
    """A directory that has the names of those in the source. It must stay as it is."""
    directory = workdir / 'outside'
    directory.mkdir()
    for name in ('victim', 'victim.seg'):
        (directory / name).write_bytes(SECRET)
    before = warmfs.snapshot(directory)
    yield directory
    assert warmfs.snapshot(directory) == before
    for name in ('victim', 'victim.seg'):
        assert (directory / name).read_bytes() == SECRET


def swap_directory(source, outside):
    """In SOURCE itself, a directory becomes a symbolic link to one outside, and a directory again."""
    os.symlink(outside, source / 'lure')
    for _ in range(ROUNDS):
        os.rename(source / 'd', source / 'aside')
        os.rename(source / 'lure', source / 'd')
        os.rename(source / 'd', source / 'lure')
        os.rename(source / 'aside', source / 'd')


def swap_file(source, outside):
    """The same with files."""
    for _ in range(ROUNDS):
        for name in ('victim', 'victim.seg'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(source / 'd' / name)
            with contextlib.suppress(FileExistsError):
                os.symlink(outside / name, source / 'd' / name)


def try_everything(path, fd):
    """What a caller can ask about a name below an open directory; symbolic links are not for him to follow, so that
    whoever follows one is the daemon."""
    data = b''
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path, dir_fd=fd)
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644, dir_fd=fd)
    try:
        os.pwrite(file, b'mine', 0)
        data = os.pread(file, 4096, 0)
        os.ftruncate(file, 4)
        os.fchmod(file, 0o600)
        os.setxattr(file, 'user.mine', b'1')
    finally:
        os.close(file)
    os.utime(path, (1, 1), dir_fd=fd, follow_symlinks=False)
    os.chown(path, 12, 34, dir_fd=fd, follow_symlinks=False)
    os.link(path, path + '-link', src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
    os.rename(path + '-link', path, src_dir_fd=fd, dst_dir_fd=fd)
    return data


def try_as_it_changes(name, fd):
    try:
        assert SECRET[:9] not in try_everything(name, fd)
    except OSError as error:
        if error.errno not in MEANWHILE:
            raise


def use_directory(root, fd):
    """By a descriptor that the swaps do not lead away, as the mount knows it."""
    for _ in range(ROUNDS):
        for name in ('victim', 'victim.seg'):
            try_as_it_changes(name, fd)


def use_by_path(root, _):
    """By paths of which no part may be a link: each step is the kernel's look at what the daemon says is there."""
    for _ in range(ROUNDS):
        try:
            fd = os.open('d', os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        except OSError as error:
            if error.errno not in MEANWHILE:
                raise
            continue
        for name in ('victim', 'victim.seg'):
            try_as_it_changes(name, fd)
        os.close(fd)


@contextlib.contextmanager
def opened(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize('swap', [swap_directory, swap_file])
@pytest.mark.parametrize('use', [use_directory, use_by_path])
def test_symlinks_that_come_and_go_in_the_source(mount, outside, children, swap, use):
    with opened(mount.point) as root, opened(mount.point / 'd') as directory:
        using = children.start(use, root, directory)
        swapping = children.start(swap, mount.source, outside)
        using.result(50)
        swapping.result(50)
    mount.stop()


def test_directory_replaced_for_good(mount, outside):
    """Who has the directory open, or the kernel remembers, stays in it."""
    with opened(mount.point / 'd') as fd:
        os.rename(mount.source / 'd', mount.source / 'gone')
        os.symlink(outside, mount.source / 'd')
        assert try_everything('victim.seg', fd)[:4] == b'mine'
        assert 'victim.seg' in os.listdir(mount.source / 'gone')
    mount.stop()


def test_dots_lead_no_further_than_the_mount(mount):
    """The mount's own .. is the directory that it is mounted in, and never what SOURCE is in."""
    for path in ('..', 'd/../..', 'd/../spare/../..'):
        assert os.path.samefile(mount.point / path, mount.point.parent)
    os.symlink('../' * 50 + 'etc/passwd', mount.point / 'up')
    assert os.readlink(mount.source / 'up') == '../' * 50 + 'etc/passwd'
    for name in ('.', '..'):
        with pytest.raises(OSError):
            os.mkdir(f'{mount.point}/d/{name}')
        with pytest.raises(OSError):
            os.rename(mount.point / 'd', f'{mount.point}/spare/{name}')
    assert (mount.source / 'd').is_dir()
    mount.stop()


def test_killed_daemon_and_a_link_in_the_place_of_its_directory(warm, mount, outside):
    """What is left live is sealed where it is, and not where its path leads by now."""
    (mount.point / 'd/victim.seg').write_bytes(b'mine')
    options = [option for option in mount.options if not option.startswith('yield')]
    mount.kill()
    mount.close()
    os.rename(mount.source / 'd', mount.source / 'gone')
    os.symlink(outside, mount.source / 'd')
    again = warm(*options)
    assert (again.point / 'gone/victim.seg').read_bytes()[:4] == b'mine'
    again.stop()
    assert (again.source / 'gone/victim.seg').read_bytes()[:4] == b'mine'
