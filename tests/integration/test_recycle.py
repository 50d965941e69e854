# SPDX-License-Identifier: Apache-2.0
"""Removed segments that become segments again, and those that must not, because somebody still has them."""

import ctypes
import mmap
import os

import pytest

import warmfs
from warmfs import (ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER, ACL_USER, ACL_USER_OBJ, MI, Child, as_user, check, extents,
                    generation, touch, wait_until, write_all)

SIZE = 8 * MI
# Larger, so that it comes first.
OTHER = SIZE + 3 * MI
KINDS = ('mapped', 'append')

# Nothing is prepared ahead while the one thread for that is held in the other class: so the pool wants segments, and each
# create is served by the thread that is there for those who wait.
CONFIG = """
[warmfs]
threads=1
{mount}
[class other]
match=other/*
size={other}
ahead=1
[class log]
match=*.seg
size={size}
kind={kind}
linger=0
timeout=60s
{more}
"""
IN_THE_MIDDLE = 'pwrite path=recycled- after=20 delay_ms=hold'
HELD = f'fallocate len={OTHER} delay_ms=hold'


@pytest.fixture
def start(warm, faults):
    """A mount whose pool wants segments of the class `log`."""
    def start(kind='mapped', more='', mount='', rules=(), wait=True, **named):
        faults.set(HELD, *rules)
        started = warm(config=CONFIG.format(mount=mount, other=OTHER, size=SIZE, kind=kind, more=more), faults=faults,
                       **named)
        if wait:
            faults.wait_hit('fallocate')
        return started
    yield start
    faults.clear()


def free(path):
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def is_open(mount, name):
    """Whether the daemon has the file open (and not only a handle on its inode)."""
    for link in os.scandir(f'/proc/{mount.pid}/fd'):
        try:
            if os.path.basename(os.readlink(link.path)) != name:
                continue
            flags = open(f'/proc/{mount.pid}/fdinfo/{link.name}').read().split('flags:')[1].split()[0]
        except FileNotFoundError:
            continue
        if not int(flags, 8) & os.O_PATH:
            return True
    return False


def wait_closed(mount, name):
    """Until a file that was closed is an ordinary one, which nobody has."""
    mount.wait_answered()
    wait_until(lambda: not is_open(mount, name), what=f'{name} to be closed')
    wait_until(lambda: os.stat(mount.src / name).st_nlink == 1, what=f'{name} to be sealed')


def make_old(mount, name='old.seg', share=1.0):
    """A segment that was written to its end, or for some share of that, and closed. Which inode it is."""
    data = os.urandom(MI) * int(SIZE // MI)
    write_all(mount.point / name, data[:int(SIZE * share)])
    wait_closed(mount, name)
    return generation(mount.src / name)


def make_new(mount, name='new.seg', kind='mapped'):
    """The next segment, which must be a new file in every respect. Which inode it is."""
    zeroes = bytes(SIZE)
    fd = os.open(mount.point / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        assert os.fstat(fd).st_size == (SIZE if kind == 'mapped' else 0)
        # What lies ready behind the end of an empty one.
        assert (mount.src / name).read_bytes()[:SIZE] == zeroes[:0 if kind == 'stream' else SIZE]
        os.ftruncate(fd, SIZE)
        with mmap.mmap(fd, SIZE) as memory:
            assert memory[:] == zeroes
        assert os.pread(fd, SIZE + 1, 0) == zeroes
        return generation(mount.src / name)
    finally:
        os.close(fd)


def extents_of(mount, name):
    """Of the data; the last one may end in what is behind it."""
    found = extents(mount.src / name)
    assert not any(flags & warmfs.EXTENT_UNWRITTEN for *_, flags in found)
    return [(start, min(length, SIZE - start)) for start, length, _ in found if start < SIZE]


def remove(mount, how, name='old.seg'):
    if how == 'unlink':
        os.unlink(mount.point / name)
        assert not os.path.lexists(mount.point / name)
    else:
        write_all(mount.point / 'small', b'small')
        os.rename(mount.point / 'small', mount.point / name)
        assert (mount.point / name).read_bytes() == b'small'


# Recycled

@pytest.mark.parametrize('passthrough', ['on', 'off'])
@pytest.mark.parametrize('how', ['unlink', 'rename'])
@pytest.mark.parametrize('kind', KINDS)
def test_same_inode_and_no_byte_of_it(start, kind, how, passthrough):
    mount = start(kind, mount=f'passthrough={passthrough}')
    old = make_old(mount)
    before = extents_of(mount, 'old.seg')
    assert before
    remove(mount, how)
    assert len(mount.pool_names('recycled-')) == 1
    assert make_new(mount, kind=kind) == old
    assert extents_of(mount, 'new.seg') == before
    assert mount.pool_names('recycled-') == []
    counters = mount.counters('log')
    assert (counters['recycled'], counters['not_recycled'], counters['prepared']) == (1, 0, 1)


def test_renamed_away_from_its_class(start):
    """As PostgreSQL and etcd do: a segment is known by its size, too."""
    mount = start()
    old = make_old(mount)
    os.rename(mount.point / 'old.seg', mount.point / '00000001')
    os.unlink(mount.point / '00000001')
    assert make_new(mount) == old


@pytest.mark.parametrize('share', [0.6, 1.5])
def test_other_length(start, share):
    """A log that was rolled early, or late, has the blocks nearly all the same."""
    mount = start('append')
    old = make_old(mount, share=1.0 if share > 1 else share)
    if share > 1:
        with open(mount.point / 'old.seg', 'ab') as file:
            file.write(os.urandom(int(SIZE * (share - 1))))
        wait_closed(mount, 'old.seg')
    remove(mount, 'unlink')
    assert make_new(mount, kind='append') == old


def test_into_the_pool(start, faults, workdir, stack):
    """It is made ready in the background, too, and counts as available while it is not."""
    mount = start(more='ahead=1', source=stack.enter_context(warmfs.loop_fs('ext4', 300 * MI, workdir)))
    old = make_old(mount)
    before = free(mount.point)
    remove(mount, 'unlink')
    assert abs(free(mount.point) - before) < 2 * SIZE
    faults.clear()
    mount.wait_ready(1, 'log')
    assert mount.counters('log')['recycled'] == 1
    assert generation(next(path for path in mount.ready_files() if f'-{SIZE}-' in path.name)) == old
    assert make_new(mount) == old


def test_no_more_than_wanted(start):
    mount = start(more='ahead=2')
    for i in range(4):
        make_old(mount, f'{i}.seg')
    for i in range(4):
        remove(mount, 'unlink', f'{i}.seg')
    assert len(mount.pool_names('recycled-')) == 2
    counters = mount.counters('log')
    assert (counters['recycled'], counters['not_recycled']) == (0, 0)


@pytest.mark.parametrize('kind', KINDS)
def test_steady_state(warm, kind):
    """A log that removes its oldest file for each new one: the pool is full then, and makes the next segment of it."""
    mount = warm('match=*.seg', f'size={SIZE}', f'kind={kind}', 'ahead=2', 'linger=0', 'yield=off')
    mount.wait_settled(2)
    seen = {generation(path) for path in mount.ready_files()}
    for number in range(8):
        path = mount.point / f'{number}.seg'
        seen.add(make_new(mount, path.name, kind))
        write_all(path, os.urandom(MI) * (SIZE // MI))
        wait_closed(mount, path.name)
        mount.wait_settled(2)
        if number >= 1:
            remove(mount, 'unlink', f'{number - 1}.seg')
            assert len(mount.pool_names('recycled-')) == 1
    counters = mount.counters()
    assert (counters['recycled'], counters['not_recycled'], counters['prepared']) == (6, 0, 4)
    assert len(seen) == 4


def test_kept_ones_are_in_nobodys_way(warm):
    """Who reads all of SOURCE, as a backup does, need not wait, and has what he has opened."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1')
    mount.wait_settled(1)
    old = make_old(mount)
    mount.wait_settled(1)
    remove(mount, 'unlink')
    [name] = mount.pool_names('recycled-')
    fd = os.open(mount.source / '.warmfs/pool' / name, os.O_RDONLY | os.O_NONBLOCK)
    data = os.pread(fd, SIZE, 0)
    assert data != bytes(SIZE)
    assert make_new(mount, 'a.seg') != old
    mount.wait_settled(1)
    assert make_new(mount, 'b.seg') != old
    assert os.pread(fd, SIZE, 0) == data
    os.close(fd)
    assert mount.counters()['not_recycled'] == 1


def test_no_attribute_of_it(start):
    """Owner, mode, ACL, extended attributes and times are those of a new file."""
    mount = start()
    old = make_old(mount)
    path = mount.point / 'old.seg'
    os.setxattr(path, 'user.secret', b'secret')
    os.setxattr(path, 'trusted.secret', b'secret')
    os.setxattr(path, 'system.posix_acl_access', warmfs.acl(
        (ACL_USER_OBJ, 7), (ACL_USER, 7, 4321), (ACL_GROUP_OBJ, 7), (ACL_MASK, 7), (ACL_OTHER, 7)))
    os.chown(path, 1234, 1234)
    os.chmod(path, 0o6777)
    os.utime(path, (1000, 1000))
    remove(mount, 'unlink')
    assert make_new(mount) == old
    status = os.stat(mount.point / 'new.seg')
    assert (status.st_uid, status.st_gid, oct(status.st_mode)) == (0, 0, '0o100644')
    assert status.st_mtime > 1000 and status.st_atime > 1000
    assert warmfs.xattrs(mount.src / 'new.seg') == {}
    os.chmod(mount.point, 0o777)
    remove(mount, 'unlink', 'new.seg')
    as_user(1234, touch, mount.point / 'next.seg')
    assert generation(mount.src / 'next.seg') == old
    status = os.stat(mount.point / 'next.seg')
    assert (status.st_uid, status.st_gid, oct(status.st_mode)) == (1234, 1234, '0o100644')


# Not recycled

def expect_deleted(mount, old, kind='mapped', counted=1):
    """It was removed as any other file, and the next create gets another."""
    assert mount.pool_names('recycled-') == []
    counters = mount.counters('log')
    assert (counters['recycled'], counters['not_recycled']) == (0, counted)
    assert make_new(mount, kind=kind) != old


@pytest.mark.parametrize('where', ['mount', 'source'])
@pytest.mark.parametrize('how', ['unlink', 'rename'])
@pytest.mark.parametrize('kind', KINDS)
def test_open_descriptor(start, kind, how, where):
    mount = start(kind)
    old = make_old(mount)
    fd = os.open((mount.point if where == 'mount' else mount.src) / 'old.seg', os.O_RDONLY)
    data = os.pread(fd, SIZE, 0)
    remove(mount, how)
    assert os.fstat(fd).st_nlink == 0
    expect_deleted(mount, old, kind)
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, SIZE, 0) == data
    os.close(fd)


@pytest.mark.parametrize('where', ['mount', 'source'])
@pytest.mark.parametrize('kind', KINDS)
def test_mapping(start, kind, where):
    """A mapping outlives its descriptor, and keeps its bytes."""
    mount = start(kind)
    old = make_old(mount)
    fd = os.open((mount.point if where == 'mount' else mount.src) / 'old.seg', os.O_RDWR)
    memory = mmap.mmap(fd, SIZE)
    os.close(fd)
    data = memory[:]
    remove(mount, 'unlink')
    expect_deleted(mount, old, kind)
    assert memory[:] == data
    memory[:4] = b'mine'
    assert memory[:] == b'mine' + data[4:]
    assert (mount.point / 'new.seg').read_bytes()[:4] == bytes(4)
    memory.close()


def test_hard_link(start):
    mount = start()
    old = make_old(mount)
    data = (mount.point / 'old.seg').read_bytes()
    os.link(mount.point / 'old.seg', mount.point / 'link')
    mount.wait_answered()
    remove(mount, 'unlink')
    expect_deleted(mount, old, counted=0)
    assert (mount.point / 'link').read_bytes() == data
    assert os.stat(mount.point / 'link').st_nlink == 1


def test_flags(start):
    mount = start()
    old = make_old(mount)
    warmfs.run('chattr', '+d', mount.src / 'old.seg')
    remove(mount, 'unlink')
    expect_deleted(mount, old)


def test_other_size(start):
    """What is far from the class's size, or has no blocks."""
    mount = start()
    write_all(mount.point / 'short.seg', b'short')
    os.truncate(mount.point / 'short.seg', SIZE // 4)
    make_old(mount, 'hole.seg')
    os.truncate(mount.point / 'hole.seg', 0)
    os.truncate(mount.point / 'hole.seg', SIZE)
    for name in ('short.seg', 'hole.seg'):
        wait_closed(mount, name)
        remove(mount, 'unlink', name)
    assert mount.pool_names('recycled-') == []


def test_switched_off(start):
    mount = start(more='recycle=off')
    old = make_old(mount)
    remove(mount, 'unlink')
    expect_deleted(mount, old, counted=0)


def test_stream(start):
    """It has only a reservation, and nothing that would be worth to be kept."""
    mount = start('stream')
    make_old(mount)
    remove(mount, 'unlink')
    assert mount.pool_names('recycled-') == []


def test_scarce_space(start, workdir, stack):
    """Under the reserve the blocks are for others."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 100 * MI, workdir))
    mount = start(mount='reserve=90%', source=disk, wait=False)
    before = free(disk)
    make_old(mount)
    assert free(disk) <= before - SIZE
    remove(mount, 'unlink')
    assert mount.pool_names('recycled-') == []
    # A new segment stays mapped until a worker finds the time.
    wait_until(lambda: free(disk) > before - MI, what='the blocks')


def test_temporary_file(start):
    mount = start()
    fd = os.open(mount.point, os.O_RDWR | os.O_TMPFILE)
    os.posix_fallocate(fd, 0, SIZE)
    os.close(fd)
    counters = mount.counters('log')
    assert (counters['recycled'], counters['not_recycled']) == (0, 0)
    assert mount.pool_names('recycled-') == []


# Trouble

@pytest.mark.parametrize('rule', ['pwrite path=recycled- after=3 errno=EIO', 'fsync path=recycled- errno=EIO',
                                  'ftruncate path=recycled- errno=EIO', 'fchown path=recycled- errno=EPERM',
                                  'fchmod path=recycled- errno=EPERM', 'renameat2 path=recycled- errno=EIO'])
def test_renewing_fails(start, faults, rule):
    """Then the next create gets one that is made from nothing."""
    mount = start(rules=[rule])
    old = make_old(mount)
    remove(mount, 'unlink')
    new = make_new(mount)
    faults.wait_hit(rule.split()[0])
    assert new != old
    assert mount.pool_names('recycled-') == []
    counters = mount.counters('log')
    assert (counters['recycled'], counters['not_recycled']) == (0, 1)


def test_killed_in_the_middle(start, faults, children):
    """What is half overwritten is removed by the next mount."""
    mount = start(rules=[IN_THE_MIDDLE])
    make_old(mount)
    remove(mount, 'unlink')
    children.start(touch, mount.point / 'new.seg')
    faults.wait_hit('pwrite')
    mount.kill()
    mount.close()
    assert [name.split('-')[0] for name in mount_names(mount)] == ['recycled', 'warming']
    faults.set()
    mount = start()
    assert [name for name in mount.pool_names() if name.startswith('recycled-')] == []
    make_new(mount, 'again.seg')


def mount_names(mount):
    return sorted(os.listdir(mount.source / '.warmfs/pool'))


def test_stopped_with_one_left(start, faults):
    mount = start()
    make_old(mount)
    remove(mount, 'unlink')
    assert len(mount.pool_names('recycled-')) == 1
    # Its end waits for the thread.
    faults.clear()
    mount.stop()
    assert [name for name in mount_names(mount) if not name.startswith('ready-')] == []


class FileHandle(ctypes.Structure):
    _fields_ = [('bytes', ctypes.c_uint), ('type', ctypes.c_int), ('handle', ctypes.c_ubyte * 128)]


def test_opened_by_its_number(start, faults, children):
    """Somebody gets hold of it, without a name, while it is overwritten: then it is his, and no segment."""
    mount = start(rules=[IN_THE_MIDDLE])
    old = make_old(mount)
    handle, number = FileHandle(bytes=128), ctypes.c_int()
    check(warmfs.libc.name_to_handle_at(-100, os.fsencode(mount.src / 'old.seg'), ctypes.byref(handle),
                                        ctypes.byref(number), 0x400))
    remove(mount, 'unlink')
    children.start(touch, mount.point / 'new.seg')
    faults.wait_hit('pwrite')

    def open_it():
        directory = os.open(mount.source, os.O_RDONLY)
        fd = warmfs.libc.open_by_handle_at(directory, ctypes.byref(handle), os.O_RDWR)
        return os.fstat(fd).st_nlink if fd >= 0 else -ctypes.get_errno()
    opener = children.start(open_it)
    wait_until(opener.sleeping, what='the open to wait')
    faults.clear()
    assert opener.result() == 0
    children[0].result()
    assert generation(mount.src / 'new.seg') != old
    assert mount.counters('log')['not_recycled'] == 1


def test_many_at_a_time(start, faults):
    """Old and new ones by turns, from several processes, while the pool is filled: never a byte of another."""
    mount = start(more='ahead=4')
    faults.clear()

    def roll(who):
        for i in range(12):
            path = mount.point / f'{who}-{i}.seg'
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            found = os.pread(fd, SIZE, 0)
            assert found == bytes(SIZE), f'{path} is not empty'
            os.pwrite(fd, os.urandom(65536) * (SIZE // 65536), 0)
            os.close(fd)
            os.unlink(path)
        return True
    for child in [Child(roll, who) for who in range(3)]:
        assert child.result(60)
    wait_until(lambda: mount.counters('log')['ready'] == 4, what='the pool to be full')
