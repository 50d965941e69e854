# SPDX-License-Identifier: Apache-2.0
"""Creates that match a class: what the new file is, and that nobody can tell how it came to be."""

import mmap
import os
import stat
import struct

import pytest

import warmfs
from warmfs import (ACL_GROUP, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER, ACL_USER, ACL_USER_OBJ, KI, MI, acl,
                    as_user, generation, in_child, raw_open, stat_facts, touch, wait_until, write_all, xattrs)

SIZE = 2 * MI
KINDS = ('mapped', 'append', 'stream')


@pytest.fixture(params=['beside', 'over', 'daemon'])
def way(request):
    """Mounted beside the source, over it, or with the data going through the daemon."""
    return {'over': request.param == 'over',
            'options': ['passthrough=off'] if request.param == 'daemon' else []}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def mount(warm, way, kind):
    """Segments of the kind for every *.seg, two of them ready."""
    mount = warm('match=**/*.seg', f'size={SIZE}', f'kind={kind}', 'ahead=2', *way['options'], over=way['over'])
    mount.wait_settled(2)
    return mount


def born_size(kind):
    return SIZE if kind == 'mapped' else 0


def is_zero(data):
    return data.count(0) == len(data)


# What it is

def test_size_blocks_content(mount, kind):
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    status = os.fstat(fd)
    data = os.read(fd, SIZE + 1)
    os.close(fd)
    assert status.st_size == born_size(kind)
    assert status.st_blocks * 512 >= SIZE
    assert stat.S_ISREG(status.st_mode)
    assert status.st_nlink == 1
    assert len(data) == born_size(kind)
    assert is_zero(data)
    by_name = os.stat(path)
    assert (by_name.st_ino, by_name.st_size, by_name.st_blocks) == (status.st_ino, status.st_size, status.st_blocks)


def test_source_has_the_same(mount, kind):
    path = mount.point / 'a.seg'
    write_all(path, b'hello')
    below = mount.src / 'a.seg'
    if kind == 'append':
        # Live: its file is longer than it seems. A newer one has it sealed.
        touch(mount.point / 'b.seg')
        wait_until(lambda: os.stat(below).st_nlink == 1)
    assert os.stat(below).st_size == max(born_size(kind), 5)
    assert os.stat(below).st_ino == os.stat(path).st_ino
    assert below.read_bytes()[:5] == b'hello'
    assert is_zero(below.read_bytes()[5:])


def test_hit_is_the_prepared_file(mount):
    """The segment is the very inode that was warmed, not a copy."""
    prepared = {generation(path) for path in mount.ready_files()}
    touch(mount.point / 'a.seg')
    assert generation(mount.src / 'a.seg') in prepared
    counters = mount.wait_counters(taken=1)
    assert (counters['taken'], counters['hits'], counters['waits']) == (1, 1, 0)


def test_refill(mount):
    for i in range(5):
        touch(mount.point / f'{i}.seg')
        mount.wait_settled(2)
    counters = mount.wait_counters(taken=5, ready=2)
    assert counters['taken'] == counters['hits'] == 5
    assert counters['prepared'] == 7
    assert counters['ready'] == 2


def test_more_than_the_pool_at_once(mount, kind):
    for i in range(20):
        touch(mount.point / f'{i}.seg')
    sizes = [os.stat(mount.point / f'{i}.seg') for i in range(20)]
    assert {status.st_size for status in sizes} == {born_size(kind)}
    assert len({status.st_ino for status in sizes}) == 20
    # Of the others, once they are sealed, only what was written is left.
    if kind == 'mapped':
        assert min(status.st_blocks for status in sizes) * 512 >= SIZE
    counters = mount.wait_counters(taken=20)
    assert counters['taken'] == 20
    assert counters['hits'] + counters['waits'] == 20
    assert counters['hits'] >= 2


def test_ahead_0(warm, kind):
    """No pool: every create waits for a segment of its own."""
    mount = warm('match=*.seg', f'size={SIZE}', f'kind={kind}', 'ahead=0')
    for i in range(3):
        touch(mount.point / f'{i}.seg')
        assert os.stat(mount.point / f'{i}.seg').st_blocks * 512 >= SIZE
    counters = mount.wait_counters(taken=3)
    assert (counters['taken'], counters['hits'], counters['waits'], counters['timeouts']) == (3, 0, 3, 0)
    assert mount.ready_files() == []


def test_mapped_is_written_and_cached(warm):
    """Neither a block allocation nor an extent conversion nor a read from the disk is left to the application."""
    mount = warm('match=*.seg', f'size={8 * MI}', 'ahead=1')
    mount.wait_settled(1)
    touch(mount.point / 'a.seg')
    below = mount.src / 'a.seg'
    assert warmfs.resident_share(below) == 1
    found = warmfs.extents(below)
    assert sum(length for _, length, _ in found) >= 8 * MI
    assert [entry for entry in found if entry[2] & warmfs.EXTENT_UNWRITTEN] == []


@pytest.mark.parametrize('size', [1, 4095, 4097, 1000001, 64_000_000])
def test_odd_sizes(warm, kind, size):
    mount = warm('match=*.seg', f'size={size}', f'kind={kind}', 'ahead=1')
    mount.wait_settled(1)
    path = mount.point / 'a.seg'
    touch(path)
    assert os.stat(path).st_size == (size if kind == 'mapped' else 0)
    assert os.stat(path).st_blocks * 512 >= size
    assert path.stat().st_ino == (mount.src / 'a.seg').stat().st_ino
    assert is_zero(path.read_bytes())


@pytest.mark.parametrize('folio', ['4K', '64K', '1M'])
def test_folio(warm, folio):
    mount = warm('match=*.seg', 'size=1500K', f'folio={folio}', 'ahead=1')
    mount.wait_settled(1)
    touch(mount.point / 'a.seg')
    assert os.stat(mount.point / 'a.seg').st_size == 1500 * KI
    assert is_zero((mount.point / 'a.seg').read_bytes())


def test_times_are_now(mount, workdir):
    before = workdir / 'before'
    touch(before)
    touch(mount.point / 'a.seg')
    after = workdir / 'after'
    touch(after)
    status = os.stat(mount.point / 'a.seg')
    for time_ns in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns):
        assert os.stat(before).st_mtime_ns <= time_ns <= os.stat(after).st_mtime_ns


def test_parent_changes(mount, workdir):
    """The directory's times move as with any create, and its listing has the name at once."""
    (mount.point / 'dir').mkdir()
    os.utime(mount.point / 'dir', ns=(0, 0))
    before = workdir / 'before'
    touch(before)
    touch(mount.point / 'dir/a.seg')
    assert os.stat(mount.point / 'dir').st_mtime_ns >= os.stat(before).st_mtime_ns
    assert os.stat(mount.point / 'dir').st_ctime_ns >= os.stat(before).st_mtime_ns
    assert os.listdir(mount.point / 'dir') == ['a.seg']


# Whose it is

USERS = {
    'root': {'uid': 0, 'gid': 0},
    'user': {'uid': 12345, 'gid': 12346},
    'user-in-group': {'uid': 12345, 'gid': 12346, 'groups': [12347]},
}


def prepare_directory(path, how):
    path.mkdir()
    os.chown(path, 0, 12347)
    os.chmod(path, 0o777)
    if 'sgid' in how:
        os.chmod(path, 0o2777)
    if 'acl' in how:
        os.setxattr(path, 'system.posix_acl_default', acl(
            (ACL_USER_OBJ, 7), (ACL_USER, 6, 4242), (ACL_GROUP_OBJ, 5), (ACL_GROUP, 4, 4243), (ACL_MASK, 6),
            (ACL_OTHER, 1)))


def create(path, mode, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL):
    fd = os.open(path, flags, mode)
    try:
        # The descriptor is as good as asked for, whatever the mode says about later opens.
        os.pwrite(fd, b'x', 0)
        return stat.S_IMODE(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


@pytest.mark.parametrize('how', ['plain', 'sgid', 'acl', 'sgid-acl'])
@pytest.mark.parametrize('user', USERS)
def test_owner_mode_acl(warm, workdir, kind, how, user):
    """Just as the same create, by the same user, natively."""
    mount = warm('match=**/*.seg', 'size=64K', f'kind={kind}', 'ahead=4')
    native = workdir / 'native'
    prepare_directory(native, how)
    prepare_directory(mount.point / 'dir', how)
    assert stat_facts(native) == stat_facts(mount.point / 'dir')
    assert xattrs(native) == xattrs(mount.point / 'dir')
    groups = {'gid': USERS[user]['gid'], 'groups': USERS[user].get('groups', [])}
    modes = (0o666, 0o600, 0o777, 0o000, 0o444, 0o1644, 0o2755, 0o4755, 0o6777)
    for umask in (0, 0o022, 0o077, 0o777):
        names = {f'{umask:o}-{mode:o}.seg': mode for mode in modes}

        def create_all(directory):
            return [(name, oct(create(directory / name, mode))) for name, mode in names.items()]
        found = as_user(USERS[user]['uid'], create_all, mount.point / 'dir', umask=umask, **groups)
        assert found == as_user(USERS[user]['uid'], create_all, native, umask=umask, **groups)
        for name in names:
            facts, wanted = stat_facts(mount.point / 'dir' / name), stat_facts(native / name)
            facts.pop('size'), wanted.pop('size')
            assert facts == wanted, name
            assert xattrs(mount.point / 'dir' / name) == xattrs(native / name), name


def test_no_right_to_create(mount):
    """A user who may not write to the directory gets no segment, and none is used up."""
    (mount.point / 'dir').mkdir(mode=0o755)
    with pytest.raises(PermissionError):
        as_user(12345, touch, mount.point / 'dir/a.seg')
    assert os.listdir(mount.point / 'dir') == []
    assert mount.counters()['taken'] == 0


# Names

def test_exclusive(mount):
    path = mount.point / 'a.seg'
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    inode = os.stat(path).st_ino
    with pytest.raises(FileExistsError):
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert os.stat(path).st_ino == inode
    assert mount.wait_counters(taken=1)['taken'] == 1


def test_create_of_existing_opens_it(mount, kind):
    path = mount.point / 'a.seg'
    write_all(path, b'first')
    inode = os.stat(path).st_ino
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    assert os.read(fd, 5) == b'first'
    assert os.fstat(fd).st_ino == inode
    os.close(fd)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    assert os.stat(path).st_size == max(5, born_size(kind))
    assert mount.wait_counters(taken=1)['taken'] == 1


def test_truncating_create_of_new(mount, kind):
    """What a shell does with `> name`: the new file is a segment, not an emptied one."""
    fd = os.open(mount.point / 'a.seg', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    assert os.fstat(fd).st_size == born_size(kind)
    assert os.fstat(fd).st_blocks * 512 >= SIZE
    os.close(fd)
    assert mount.wait_counters(taken=1)['taken'] == 1


def test_truncating_open_of_existing(mount):
    path = mount.point / 'a.seg'
    write_all(path, b'first')
    inode = os.stat(path).st_ino
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))
    assert (os.stat(path).st_size, os.stat(path).st_ino) == (0, inode)
    assert path.read_bytes() == b''
    write_all(path, b'second')
    assert path.read_bytes() == b'second'
    assert mount.wait_counters(taken=1)['taken'] == 1


def test_existing_before_the_mount(warm, workdir, kind):
    (workdir / 'source').mkdir()
    write_all(workdir / 'source/a.seg', b'old')
    mount = warm('match=*.seg', f'size={SIZE}', f'kind={kind}')
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    assert os.read(fd, 10) == b'old'
    os.close(fd)
    assert os.stat(mount.point / 'a.seg').st_size == 3
    assert mount.counters()['taken'] == 0


def test_create_over_symlinks(mount, workdir):
    """A symbolic link under the name is followed to what it names, as everywhere."""
    (mount.point / 'to-plain.seg').symlink_to('plain')
    touch(mount.point / 'to-plain.seg')
    assert os.stat(mount.point / 'plain').st_blocks == 0
    (mount.point / 'to-segment').symlink_to('real.seg')
    touch(mount.point / 'to-segment')
    assert os.stat(mount.point / 'real.seg').st_blocks * 512 >= SIZE
    with pytest.raises(FileExistsError):
        os.open(mount.point / 'to-segment', os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    (mount.point / 'outwards.seg').symlink_to(workdir / 'outside')
    touch(mount.point / 'outwards.seg')
    assert os.stat(workdir / 'outside').st_size == 0


@pytest.mark.parametrize('pattern, segments, plain', [
    ('*.seg', ['a.seg', '.seg'], ['d/a.seg', 'a.se', 'a.segm', 'd/e/a.seg']),
    ('**/*.seg', ['a.seg', 'd/a.seg', 'd/e/a.seg'], ['a.log', 'd/seg']),
    ('d/*', ['d/a', 'd/b.seg'], ['a', 'd/e/a', 'dd']),
    ('d/**', ['d/a', 'd/e/a'], ['a', 'dd']),
    ('**', ['a', 'd/a', 'd/e/a'], []),
    ('d/**/x', ['d/x', 'd/e/x'], ['x', 'd/e/y']),
    ('?[0-9]', ['a1', '22'], ['a', 'a1b', 'd/a1', 'aa']),
    ('a*b*c', ['abc', 'axbxc'], ['ab', 'abcd']),
])
def test_match(warm, pattern, segments, plain):
    mount = warm(f'match={pattern}', 'size=64K', 'ahead=1')
    (mount.point / 'd/e').mkdir(parents=True)
    for name in segments + plain:
        touch(mount.point / name)
    for name in segments:
        assert os.stat(mount.point / name).st_size == 64 * KI, name
    for name in plain:
        assert os.stat(mount.point / name).st_size == 0, name
        assert os.stat(mount.point / name).st_blocks == 0, name
    assert mount.wait_counters(taken=len(segments))['taken'] == len(segments)


def test_match_after_the_directory_moved(warm):
    """The path that counts is the one at the time of the create, also through an old descriptor."""
    mount = warm('match=in/*.seg', 'size=64K')
    (mount.point / 'out').mkdir()
    fd = os.open(mount.point / 'out', os.O_RDONLY)
    os.close(os.open('a.seg', os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.rename(mount.point / 'out', mount.point / 'in')
    os.close(os.open('b.seg', os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    assert os.stat(mount.point / 'in/a.seg').st_size == 0
    assert os.stat(mount.point / 'in/b.seg').st_size == 64 * KI


def test_other_ways_to_make_a_file(mount):
    """Only a create takes a segment: not mknod, O_TMPFILE, link, symlink, mkdir or rename."""
    os.mknod(mount.point / 'node.seg', 0o644 | stat.S_IFREG)
    os.mkfifo(mount.point / 'fifo.seg')
    os.mkdir(mount.point / 'dir.seg')
    os.symlink('nowhere', mount.point / 'symlink.seg')
    touch(mount.point / 'plain')
    os.link(mount.point / 'plain', mount.point / 'link.seg')
    os.rename(mount.point / 'plain', mount.point / 'renamed.seg')
    for name in ('node.seg', 'link.seg', 'renamed.seg'):
        assert os.stat(mount.point / name).st_size == 0
        assert os.stat(mount.point / name).st_blocks == 0
    assert mount.counters()['taken'] == 0


def test_odd_names(mount, kind):
    names = ['ü ß.seg'.encode(), b'\xff\xfe.seg', b'new\nline.seg', b'-x .seg', b'x' * 251 + b'.seg', b'%s%n.seg']
    for name in names:
        touch(os.path.join(os.fsencode(mount.point), name))
        assert os.stat(os.path.join(os.fsencode(mount.point), name)).st_blocks * 512 >= SIZE
    assert sorted(os.listdir(os.fsencode(mount.point))) == sorted(names)
    with pytest.raises(OSError, match='name too long'):
        touch(os.path.join(os.fsencode(mount.point), b'x' * 252 + b'.seg'))
    assert mount.wait_counters(taken=len(names))['taken'] == len(names)


# What can be done with it

def test_rename(mount, kind):
    """Many applications create a temporary name and rename it."""
    write_all(mount.point / 'tmp.seg', b'data')
    inode = os.stat(mount.point / 'tmp.seg').st_ino
    os.rename(mount.point / 'tmp.seg', mount.point / 'final')
    assert os.stat(mount.point / 'final').st_ino == inode
    assert (mount.point / 'final').read_bytes()[:4] == b'data'
    assert not (mount.point / 'tmp.seg').exists()
    touch(mount.point / 'tmp.seg')
    assert os.stat(mount.point / 'tmp.seg').st_ino != inode
    assert mount.wait_counters(taken=2)['taken'] == 2


def test_rename_over_segment(mount):
    write_all(mount.point / 'a.seg', b'first')
    old = os.open(mount.point / 'a.seg', os.O_RDONLY)
    write_all(mount.point / 'b.seg', b'second')
    os.rename(mount.point / 'b.seg', mount.point / 'a.seg')
    assert (mount.point / 'a.seg').read_bytes()[:6] == b'second'
    assert os.read(old, 5) == b'first'
    assert os.fstat(old).st_nlink == 0
    os.close(old)
    assert os.listdir(mount.point) == ['a.seg']


def test_rename_while_open(mount):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT, 0o644)
    (mount.point / 'd').mkdir()
    os.rename(mount.point / 'a.seg', mount.point / 'd/b.seg')
    os.pwrite(fd, b'after', 0)
    os.fsync(fd)
    os.close(fd)
    assert (mount.point / 'd/b.seg').read_bytes()[:5] == b'after'


def test_unlink_while_open(mount, kind):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT, 0o644)
    os.unlink(mount.point / 'a.seg')
    os.pwrite(fd, b'still', 0)
    assert os.pread(fd, 5, 0) == b'still'
    assert os.fstat(fd).st_nlink == 0
    assert os.fstat(fd).st_size == max(5, born_size(kind))
    os.fsync(fd)
    touch(mount.point / 'a.seg')
    assert os.stat(mount.point / 'a.seg').st_ino != os.fstat(fd).st_ino
    assert (mount.point / 'a.seg').read_bytes()[:5] != b'still'
    os.close(fd)


def test_unlink_gives_space_back(warm, workdir, stack):
    """Nothing of ours holds on to a segment that the application has closed and removed."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 64 * MI, workdir))
    mount = warm('match=*.seg', 'size=8M', 'ahead=1', 'recycle=off', source=disk)
    mount.wait_settled(1)
    free = os.statvfs(disk).f_bfree
    for i in range(20):
        touch(mount.point / f'{i}.seg')
        os.unlink(mount.point / f'{i}.seg')
        mount.wait_settled(1)
    wait_until(lambda: os.statvfs(disk).f_bfree >= free - 64, what='the space')


def test_link(mount):
    write_all(mount.point / 'a.seg', b'one')
    os.link(mount.point / 'a.seg', mount.point / 'b')
    assert os.stat(mount.point / 'a.seg').st_nlink == os.stat(mount.point / 'b').st_nlink == 2
    write_all(mount.point / 'b', b'two', os.O_WRONLY)
    assert (mount.point / 'a.seg').read_bytes()[:3] == b'two'
    os.unlink(mount.point / 'a.seg')
    assert os.stat(mount.point / 'b').st_nlink == 1
    assert (mount.point / 'b').read_bytes()[:3] == b'two'


def test_append(mount, kind):
    """Appends go to the end of the file: of the prepared bytes, or of what was written."""
    one = os.open(mount.point / 'a.seg', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    two = os.open(mount.point / 'a.seg', os.O_WRONLY | os.O_APPEND)
    for i in range(100):
        os.write(one, b'1' * 100)
        os.write(two, b'2' * 50)
    os.close(one)
    os.close(two)
    start = born_size(kind)
    data = (mount.point / 'a.seg').read_bytes()
    assert len(data) == start + 100 * 150
    assert data[start:] == (b'1' * 100 + b'2' * 50) * 100
    assert os.stat(mount.point / 'a.seg').st_size == len(data)


def test_stream_keeps_its_blocks_while_growing(warm):
    mount = warm('match=*.seg', f'size={SIZE}', 'kind=stream')
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT, 0o644)
    blocks = os.fstat(fd).st_blocks
    for i in range(10):
        os.write(fd, bytes([i]) * 10_000)
        assert os.fstat(fd).st_size == (i + 1) * 10_000
        assert os.fstat(fd).st_blocks == blocks
    assert os.pread(fd, 10, 100_000) == b''
    os.close(fd)


def test_growing_past_the_size(mount, kind):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT, 0o644)
    assert os.pwrite(fd, b'x' * 100, SIZE - 50) == 100
    assert os.fstat(fd).st_size == SIZE + 50
    os.pwrite(fd, b'y', 3 * SIZE)
    assert os.fstat(fd).st_size == 3 * SIZE + 1
    assert os.pread(fd, 200, SIZE - 50) == b'x' * 100 + bytes(100)
    os.close(fd)


def test_truncate(mount):
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(fd, b'x' * 20_000, 0)
    os.ftruncate(fd, 10_000)
    assert os.fstat(fd).st_size == 10_000
    assert os.stat(path).st_size == 10_000
    os.ftruncate(fd, 20_000)
    assert os.pread(fd, 30_000, 0) == b'x' * 10_000 + bytes(10_000)
    os.truncate(path, 0)
    assert os.fstat(fd).st_size == 0
    os.posix_fallocate(fd, 0, SIZE)
    assert os.fstat(fd).st_size == SIZE
    os.close(fd)


def test_direct_io(mount):
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    buffer = mmap.mmap(-1, 8192)
    buffer.write(b'D' * 8192)
    assert os.pwrite(fd, buffer, 4096) == 8192
    back = mmap.mmap(-1, 8192)
    assert os.preadv(fd, [back], 4096) == 8192
    assert back[:] == b'D' * 8192
    os.close(fd)
    assert path.read_bytes()[4096:12288] == b'D' * 8192


@pytest.mark.parametrize('flag', [os.O_SYNC, os.O_DSYNC, 0])
def test_sync(mount, flag):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT | flag, 0o644)
    assert os.pwrite(fd, b'durable', 4096) == 7
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    assert (mount.src / 'a.seg').read_bytes()[4096:4103] == b'durable'


def test_stores_and_reads_see_each_other(mount):
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, SIZE)
    memory = mmap.mmap(fd, SIZE)
    memory[0:5] = b'store'
    memory[SIZE - 5:SIZE] = b'close'
    assert os.pread(fd, 5, 0) == b'store'
    assert os.pread(fd, 5, SIZE - 5) == b'close'
    os.pwrite(fd, b'write', 8192)
    assert memory[8192:8197] == b'write'
    other = os.open(path, os.O_RDONLY)
    assert os.pread(other, 5, 0) == b'store'
    os.close(other)
    memory.flush()
    os.fsync(fd)
    assert (mount.src / 'a.seg').read_bytes()[:5] == b'store'
    memory.close()
    os.close(fd)


def test_mappings_of_two_processes(mount):
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, SIZE)
    memory = mmap.mmap(fd, SIZE)

    def other():
        fd = os.open(path, os.O_RDWR)
        theirs = mmap.mmap(fd, SIZE)
        seen = theirs[100:104]
        theirs[200:205] = b'child'
        return seen

    memory[100:104] = b'mine'
    assert in_child(other) == b'mine'
    assert memory[200:205] == b'child'
    memory.close()
    os.close(fd)


def test_mapping_outlives_descriptor_and_name(mount):
    fd = os.open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, SIZE)
    memory = mmap.mmap(fd, SIZE)
    os.close(fd)
    os.unlink(mount.point / 'a.seg')
    memory[:4] = b'keep'
    memory.flush()
    assert memory[:4] == b'keep'
    memory.close()


def test_open_modes(mount):
    """The created descriptor obeys its own flags, and a file without rights is still writable by its creator."""
    fd = os.open(mount.point / 'a.seg', os.O_WRONLY | os.O_CREAT, 0o644)
    with pytest.raises(OSError, match='Bad file'):
        os.read(fd, 1)
    os.close(fd)
    fd = os.open(mount.point / 'b.seg', os.O_RDONLY | os.O_CREAT, 0o644)
    with pytest.raises(OSError, match='Bad file'):
        os.write(fd, b'x')
    os.close(fd)
    os.chmod(mount.point, 0o777)
    assert as_user(12345, create, mount.point / 'c.seg', 0o000) == 0
    assert (mount.point / 'c.seg').read_bytes()[:1] == b'x'


def test_handles_together(mount):
    """Many handles of all sorts on one segment, opened and closed in any order."""
    path = mount.point / 'a.seg'
    handles = [os.open(path, os.O_RDWR | os.O_CREAT, 0o644)]
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_DIRECT, os.O_RDONLY) * 10:
        handles.append(os.open(path, flags))
    os.pwrite(handles[2], b'seen', 0)
    assert os.pread(handles[1], 4, 0) == b'seen'
    for fd in handles[::2] + handles[1::2]:
        os.close(fd)
    assert path.read_bytes()[:4] == b'seen'


def test_plain_file_after_unmount(mount, kind):
    """What stays behind in the source needs no warmfs to read."""
    write_all(mount.point / 'a.seg', b'stays')
    touch(mount.point / 'untouched.seg')
    mount.stop()
    assert (mount.source / 'a.seg').read_bytes()[:5] == b'stays'
    assert os.stat(mount.source / 'a.seg').st_size == max(5, born_size(kind))
    assert os.stat(mount.source / 'untouched.seg').st_size == born_size(kind)
    assert sorted(os.listdir(mount.source)) == ['.warmfs', 'a.seg', 'untouched.seg']


def test_segment_survives_a_new_mount(warm, kind):
    options = ('match=*.seg', f'size={SIZE}', f'kind={kind}')
    mount = warm(*options)
    write_all(mount.point / 'a.seg', b'stays')
    size = os.stat(mount.point / 'a.seg').st_size
    mount.stop()
    mount = warm(*options)
    assert (mount.point / 'a.seg').read_bytes()[:5] == b'stays'
    assert os.stat(mount.point / 'a.seg').st_size == size
    assert (os.stat(mount.point / 'a.seg').st_blocks * 512 >= SIZE) == (kind == 'mapped')


def test_two_classes(warm):
    """Each class has its own pool and counters."""
    mount = warm(config='''
[class big]
match=*.big
size=1M
ahead=1
[class small]
match=*.small
size=64K
kind=stream
ahead=3
''')
    mount.wait_settled(4)
    for i in range(3):
        touch(mount.point / f'{i}.small')
    touch(mount.point / '0.big')
    assert {os.stat(mount.point / f'{i}.small').st_size for i in range(3)} == {0}
    assert os.stat(mount.point / '0.big').st_size == MI
    mount.wait_settled(4)
    assert mount.wait_counters('big', taken=1)['taken'] == 1
    assert mount.wait_counters('small', taken=3)['taken'] == 3


def test_quota_bounds_the_pool(warm):
    mount = warm('match=*.seg', 'size=1M', 'ahead=2', 'quota=2M')
    mount.wait_settled(2)
    for i in range(6):
        touch(mount.point / f'{i}.seg')
        assert len(mount.pool_names('ready-')) <= 2
    assert {os.stat(mount.point / f'{i}.seg').st_size for i in range(6)} == {MI}


@pytest.mark.parametrize('fstype', ['ext4', 'xfs'])
def test_on_fresh_filesystem(warm, workdir, stack, kind, fstype):
    disk = stack.enter_context(warmfs.loop_fs(fstype, 400 * MI, workdir))
    mount = warm('match=**/*.seg', f'size={8 * MI}', f'kind={kind}', source=disk)
    mount.wait_settled(2)
    (mount.point / 'd').mkdir()
    for i in range(4):
        path = mount.point / f'd/{i}.seg'
        write_all(path, struct.pack('i', i) * 1000)
        assert os.stat(path).st_blocks * 512 >= 8 * MI
        assert path.read_bytes()[:4000] == struct.pack('i', i) * 1000
    mount.stop()
    assert sorted(os.listdir(disk / 'd')) == [f'{i}.seg' for i in range(4)]


def test_many_processes_create(mount, children):
    """Every create gets a segment of its own."""
    def work(number):
        inodes = []
        for i in range(20):
            fd = os.open(mount.point / f'{number}-{i}.seg', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            os.pwrite(fd, f'{number}-{i}'.encode(), 0)
            inodes.append(os.fstat(fd).st_ino)
            os.close(fd)
        return inodes

    for number in range(4):
        children.start(work, number)
    inodes = [inode for child in children for inode in child.result()]
    assert len(set(inodes)) == 80
    for number in range(4):
        for i in range(20):
            name = f'{number}-{i}'
            assert (mount.point / f'{name}.seg').read_bytes()[:len(name)] == name.encode()
    assert mount.wait_counters(taken=80)['taken'] == 80


def test_raw_open_gives_what_open_gives(mount):
    """The way that the fault tests create files."""
    fd = raw_open(mount.point / 'a.seg', os.O_RDWR | os.O_CREAT)
    assert os.fstat(fd).st_blocks * 512 >= SIZE
    os.close(fd)
    assert raw_open(mount.point / 'no/such', os.O_RDWR) == -2
