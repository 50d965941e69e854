# SPDX-License-Identifier: Apache-2.0
"""Sources and mount points that are not simply a directory on ext4."""

import contextlib
import errno
import mmap
import os
import stat

import pytest

import warmfs
from warmfs import MI, check, libc, mounts_at, touch, write_all

SIZE = MI
EXTENT_SHARED = 0x2000


@contextlib.contextmanager
def mounted(fstype, point, options='', source='none'):
    point.mkdir(exist_ok=True)
    check(libc.mount(source.encode(), os.fsencode(point), fstype.encode(), 0, options.encode()))
    try:
        yield point
    finally:
        try:
            warmfs.umount(point)
        except OSError:
            warmfs.umount(point, warmfs.MNT_DETACH)


@contextlib.contextmanager
def overlay(workdir):
    for name in ('lower', 'upper', 'work'):
        (workdir / name).mkdir()
    write_all(workdir / 'lower/below', b'from below')
    options = f'lowerdir={workdir}/lower,upperdir={workdir}/upper,workdir={workdir}/work'
    with mounted('overlay', workdir / 'overlay', options) as point:
        yield point


SOURCES = {
    'tmpfs': lambda workdir: mounted('tmpfs', workdir / 'tmpfs', 'size=200m'),
    'overlay': overlay,
    'ext4-without-journal': lambda workdir: warmfs.loop_fs('ext4', 200 * MI, workdir, ['-O', '^has_journal']),
    'ext4-small-blocks': lambda workdir: warmfs.loop_fs('ext4', 100 * MI, workdir, ['-b', '1024']),
    'ext4-without-extents': lambda workdir: warmfs.loop_fs('ext4', 200 * MI, workdir, ['-O', '^extents,^64bit']),
    'xfs-without-reflink': lambda workdir: warmfs.loop_fs('xfs', 400 * MI, workdir, ['-m', 'reflink=0']),
}


@pytest.mark.parametrize('kind', ['mapped', 'stream'])
@pytest.mark.parametrize('name', SOURCES)
def test_filesystem(warm, workdir, stack, name, kind):
    """Whatever the filesystem can or cannot do: segments are right, and so is everything else."""
    source = stack.enter_context(SOURCES[name](workdir))
    mount = warm('match=**/*.seg', f'size={SIZE}', f'kind={kind}', source=source)
    mount.wait_settled(2)
    (mount.point / 'd').mkdir()
    for i in range(5):
        path = mount.point / f'd/{i}.seg'
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        assert os.fstat(fd).st_size == (SIZE if kind == 'mapped' else 0)
        data = os.pread(fd, SIZE, 0)
        assert data.count(0) == len(data)
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, b'written', 100)
        memory = mmap.mmap(fd, SIZE)
        assert memory[100:107] == b'written'
        memory[200:206] = b'stored'
        memory.flush()
        os.fsync(fd)
        assert os.pread(fd, 6, 200) == b'stored'
        memory.close()
        os.close(fd)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        assert (source / f'd/{i}.seg').read_bytes()[100:107] == b'written'
    write_all(mount.point / 'plain', b'x' * 100_000)
    os.rename(mount.point / 'plain', mount.point / 'd/0.seg')
    assert (mount.point / 'd/0.seg').read_bytes() == b'x' * 100_000
    assert len(mount.log_lines('(?i)passthrough')) <= 1
    mount.stop()
    assert sorted(os.listdir(source / 'd')) == [f'{i}.seg' for i in range(5)]


def shared_bytes(path):
    """Of its blocks, as many as are another file's too."""
    return sum(length for _, length, flags in warmfs.extents(path) if flags & EXTENT_SHARED)


def test_copies_share_blocks(warm, workdir, stack):
    """Where the source can, copy_file_range does; a live segment of kind append is copied by reading."""
    source = stack.enter_context(warmfs.loop_fs('xfs', 400 * MI, workdir, ['-m', 'reflink=1']))
    mount = warm('match=*.seg', f'size={SIZE}', 'kind=append', source=source)
    data = os.urandom(SIZE)
    for name, shares in (('plain', True), ('live.seg', False)):
        write_all(mount.point / name, data)
        one = os.open(mount.point / name, os.O_RDONLY)
        two = os.open(mount.point / f'copy of {name}', os.O_WRONLY | os.O_CREAT)
        os.fsync(one)
        done = 0
        while done < SIZE:
            done += os.copy_file_range(one, two, SIZE - done, done, done)
        os.fsync(two)
        os.close(one)
        os.close(two)
        assert (mount.point / f'copy of {name}').read_bytes() == data
        assert shared_bytes(source / f'copy of {name}') == (SIZE if shares else 0)
    write_all(mount.point / 'copy of plain', b'new', os.O_WRONLY)
    assert (mount.point / 'plain').read_bytes() == data


def test_overlay_copies_up(warm, workdir, stack):
    """The file below changes its inode when it is first written to; the mount follows."""
    source = stack.enter_context(overlay(workdir))
    mount = warm('match=**/*.seg', f'size={SIZE}', source=source)
    assert (mount.point / 'below').read_bytes() == b'from below'
    reader = os.open(mount.point / 'below', os.O_RDONLY)
    write_all(mount.point / 'below', b'from above', os.O_WRONLY)
    assert (mount.point / 'below').read_bytes() == b'from above'
    assert os.stat(mount.point / 'below').st_size == 10
    os.close(reader)
    os.chmod(mount.point / 'below', 0o600)
    assert stat.S_IMODE(os.stat(mount.point / 'below').st_mode) == 0o600
    os.unlink(mount.point / 'below')
    assert 'below' not in os.listdir(mount.point)


@pytest.mark.parametrize('kind', ['mapped', 'append'])
def test_overlay_above(warm, workdir, kind):
    """The mount can be a layer of an overlay, the lower one and the upper one."""
    mount = warm('match=**/*.seg', f'size={SIZE}', f'kind={kind}')
    for name in ('lower', 'upper', 'work'):
        (mount.point / name).mkdir()
    write_all(mount.point / 'lower/below', b'from below')
    write_all(mount.point / 'lower/old.seg', b'old')
    options = f'lowerdir={mount.point}/lower,upperdir={mount.point}/upper,workdir={mount.point}/work'
    with mounted('overlay', workdir / 'overlay', options) as point:
        assert (point / 'below').read_bytes() == b'from below'
        write_all(point / 'below', b'FROM', os.O_WRONLY)
        write_all(point / 'old.seg', b'new', os.O_WRONLY)
        os.rename(point / 'below', point / 'moved')
        write_all(point / 'new.seg', b'a segment')
        fd = os.open(point / 'new.seg', os.O_RDWR)
        with mmap.mmap(fd, 0) as mapping:
            mapping[2:4] = b'SE'
        os.fsync(fd)
        os.close(fd)
    assert (mount.point / 'lower/below').read_bytes() == b'from below'
    assert (mount.point / 'upper/moved').read_bytes() == b'FROM below'
    assert (mount.point / 'upper/old.seg').read_bytes().rstrip(b'\0') == b'new'
    assert (mount.point / 'upper/new.seg').read_bytes().rstrip(b'\0') == b'a SEgment'
    assert mount.log_lines('(?i)passthrough') == []


def test_overlay_inside_the_source(warm, workdir, stack):
    """Only what is there has no passthrough."""
    source = workdir / 'source'
    source.mkdir()
    inner = stack.enter_context(overlay(workdir))
    (source / 'inner').mkdir()
    check(libc.mount(os.fsencode(inner), os.fsencode(source / 'inner'), None, 4096, None))
    stack.callback(warmfs.umount, source / 'inner', warmfs.MNT_DETACH)
    mount = warm('match=**/*.seg', f'size={SIZE}')
    write_all(mount.point / 'inner/below', b'FROM', os.O_WRONLY)
    assert (mount.point / 'inner/below').read_bytes() == b'FROM below'
    fd = os.open(mount.point / 'inner/new', os.O_RDWR | os.O_CREAT, 0o644)
    outer = os.open(mount.point / 'outer', os.O_RDWR | os.O_CREAT, 0o644)
    assert os.pwrite(fd, b'new', 0) == 3 and os.pread(fd, 9, 0) == b'new'
    os.close(fd)
    assert mount.log_lines('(?i)passthrough') == []
    mount.kill()
    assert os.pwrite(outer, b'alone', 0) == 5
    os.close(outer)
    mount.close()


def test_filesystem_inside_the_source(warm, workdir, stack):
    """A class cannot be served there: its files are plain ones, and everything works."""
    source = workdir / 'source'
    source.mkdir()
    inner = stack.enter_context(warmfs.loop_fs('ext4', 64 * MI, workdir))
    (source / 'inner').mkdir()
    check(libc.mount(os.fsencode(inner), os.fsencode(source / 'inner'), None, 4096, None))
    stack.callback(warmfs.umount, source / 'inner', warmfs.MNT_DETACH)
    mount = warm('match=**/*.seg', f'size={SIZE}')
    mount.wait_settled(2)
    for i in range(20):
        # The same inode numbers in both.
        write_all(mount.point / f'{i}', f'outer-{i}'.encode())
        write_all(mount.point / f'inner/{i}', f'inner-{i}'.encode())
    for i in range(20):
        assert (mount.point / f'{i}').read_bytes() == f'outer-{i}'.encode()
        assert (mount.point / f'inner/{i}').read_bytes() == f'inner-{i}'.encode()
    touch(mount.point / 'inner/a.seg')
    assert os.stat(mount.point / 'inner/a.seg').st_size == 0
    touch(mount.point / 'a.seg')
    assert os.stat(mount.point / 'a.seg').st_size == SIZE
    for act in (os.rename, os.link):
        with pytest.raises(OSError) as caught:
            act(mount.point / '0', mount.point / 'inner/new')
        assert caught.value.errno == errno.EXDEV
    os.unlink(mount.point / 'inner/a.seg')


ODD_NAMES = ['with blank', 'with,comma', 'back\\slash', 'ünïcode', 'new\nline', "quote'\"", 'a=b', '#hash', '-dash', '%s%n',
             'x' * 200]


@pytest.mark.parametrize('name', ODD_NAMES, ids=lambda name: ascii(name[:20]))
def test_odd_paths(warm, workdir, name):
    base = workdir / 'odd'
    base.mkdir()
    source, point = base / ('source' + name), base / ('mnt' + name)
    source.mkdir()
    mount = warm('match=*.seg', f'size={SIZE}', source=source, point=point)
    touch(mount.point / 'a.seg')
    assert os.stat(source / 'a.seg').st_size == SIZE
    mount.stop()
    assert mounts_at(point) == []


def test_symlinks_to_both(warm, workdir):
    for name in ('source', 'mnt'):
        (workdir / f'real-{name}').mkdir()
        (workdir / f'link-{name}').symlink_to(f'real-{name}')
    mount = warm('match=*.seg', f'size={SIZE}', source=workdir / 'link-source', point=workdir / 'link-mnt')
    touch(mount.point / 'a.seg')
    assert os.stat(workdir / 'real-mnt/a.seg').st_size == SIZE
    assert os.stat(workdir / 'real-source/a.seg').st_size == SIZE
    mount.stop()
    assert os.listdir(workdir / 'real-mnt') == []


def test_source_is_the_root_of_a_mount(warm, workdir, stack):
    """Over the mount point of the very filesystem."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 64 * MI, workdir))
    mount = warm('match=*.seg', f'size={SIZE}', source=disk, over=True)
    mount.wait_settled(2)
    touch(mount.point / 'a.seg')
    assert os.stat(mount.point / 'a.seg').st_size == SIZE
    assert os.listdir(mount.point) == ['a.seg']
    mount.stop()
    assert os.stat(disk / 'a.seg').st_size == SIZE


def test_source_inside_the_mount_point(warm, workdir):
    """Then the source is reached by nobody but warmfs."""
    (workdir / 'outer/source').mkdir(parents=True)
    mount = warm('match=**/*.seg', f'size={SIZE}', source=workdir / 'outer/source', point=workdir / 'outer')
    (mount.point / 'd').mkdir()
    touch(mount.point / 'd/a.seg')
    assert os.stat(mount.point / 'd/a.seg').st_size == SIZE
    assert os.listdir(mount.point) == ['d']
    mount.stop()
    assert sorted(os.listdir(workdir / 'outer/source')) == ['.warmfs', 'd']


def test_source_is_renamed(warm, workdir):
    """The mount holds on to the directory, not to its name; the classes too."""
    (workdir / 'above/source').mkdir(parents=True)
    mount = warm('match=**/*.seg', f'size={SIZE}', source=workdir / 'above/source')
    (mount.point / 'd').mkdir()
    os.rename(workdir / 'above', workdir / 'elsewhere')
    for name in ('a.seg', 'd/a.seg'):
        touch(mount.point / name)
        assert os.stat(mount.point / name).st_size == SIZE
    assert (workdir / 'elsewhere/source/d/a.seg').exists()
