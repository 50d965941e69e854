# SPDX-License-Identifier: Apache-2.0
"""user.warmfs.*: what a segment says of itself, made up when asked for, and kept nowhere."""

import errno
import os

import pytest

import warmfs
from warmfs import KI, as_user, touch, wait_until, write_all

NAMES = ('class', 'kind', 'state', 'capacity', 'length', 'resident')


def facts(path):
    values = {name: os.getxattr(path, f'user.warmfs.{name}').decode() for name in NAMES}
    return {name: int(value) if value.isdigit() else value for name, value in values.items()}


def absent(path, name='user.warmfs.class'):
    with pytest.raises(OSError) as refused:
        os.getxattr(path, name)
    return refused.value.errno == errno.ENODATA


@pytest.fixture
def mount(warm):
    mount = warm(config=''.join(f'''
[class my{kind}]
match=*.{kind}
size=256K
kind={kind}
ahead=1
linger=0
''' for kind in ('mapped', 'append', 'stream')))
    mount.wait_settled(3)
    return mount


def test_mapped(mount):
    """One of kind mapped is a plain file as soon as somebody has it."""
    path = mount.point / 'a.mapped'
    touch(path)
    assert facts(path) == {'class': 'mymapped', 'kind': 'mapped', 'state': 'sealed', 'capacity': 256 * KI,
                           'length': 256 * KI, 'resident': 256 * KI}
    os.rename(path, mount.point / 'elsewhere')
    assert facts(mount.point / 'elsewhere')['class'] == 'mymapped'


@pytest.mark.parametrize('kind', ['append', 'stream'])
def test_live_and_sealed(mount, kind):
    path = mount.point / f'a.{kind}'
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b'x' * 5000)
    found = facts(path)
    assert (found['class'], found['kind'], found['state']) == (f'my{kind}', kind, 'live')
    assert (found['capacity'], found['length']) == (256 * KI, 5000)
    assert found['resident'] == (256 * KI if kind == 'append' else 5000)
    os.close(fd)
    wait_until(lambda: facts(path)['state'] == 'sealed', what='the seal')
    assert facts(path) == found | {'state': 'sealed', 'resident': 5000}


def test_nothing_else_has_them(mount):
    (mount.point / 'directory').mkdir()
    touch(mount.point / 'plain')
    os.symlink('plain', mount.point / 'link')
    assert absent(mount.point) and absent(mount.point / 'directory') and absent(mount.point / 'plain')
    touch(mount.point / 'a.mapped')
    assert absent(mount.point / 'a.mapped', 'user.warmfs.') and absent(mount.point / 'a.mapped', 'user.warmfs.size')
    assert absent(mount.point / 'a.mapped', 'user.warm')


def test_not_to_be_set(mount):
    touch(mount.point / 'a.mapped')
    touch(mount.point / 'plain')
    for path in (mount.point / 'a.mapped', mount.point / 'plain'):
        for act in (lambda: os.setxattr(path, 'user.warmfs.state', b'ready'),
                    lambda: os.setxattr(path, 'user.warmfs.other', b'1'),
                    lambda: os.removexattr(path, 'user.warmfs.state')):
            with pytest.raises(PermissionError):
                act()
        os.setxattr(path, 'user.mine', b'1')
        assert os.listxattr(path) == ['user.mine']


def test_not_copied(mount):
    """Neither are they in the source, nor do they go where the file goes."""
    path = mount.point / 'a.mapped'
    write_all(path, b'x')
    assert warmfs.xattrs(mount.src / 'a.mapped') == {}
    warmfs.run('cp', '-a', path, mount.source.parent / 'copy')
    warmfs.run('cp', '-a', path, mount.point / 'copy')
    assert absent(mount.source.parent / 'copy') and absent(mount.point / 'copy')
    assert 'user.' not in warmfs.run('getfattr', '-d', path)
    assert 'user.warmfs.state="sealed"' in warmfs.run('getfattr', '--absolute-names', '-n', 'user.warmfs.state', path)


def test_size_of_the_answer(mount):
    path = mount.point / 'a.mapped'
    touch(path)
    libc = warmfs.libc
    name = b'user.warmfs.kind'
    room = bytearray(b'.' * 16)
    address = (warmfs.ctypes.c_char * len(room)).from_buffer(room)
    assert libc.getxattr(os.fsencode(path), name, None, 0) == 6
    assert libc.getxattr(os.fsencode(path), name, address, 5) == -1 and warmfs.ctypes.get_errno() == errno.ERANGE
    assert libc.getxattr(os.fsencode(path), name, address, 6) == 6 and room[:7] == b'mapped.'


def test_read_permission(mount):
    """As with any user attribute, who may not read the file does not see them."""
    touch(mount.point / 'a.mapped', 0o600)
    with pytest.raises(PermissionError):
        as_user(12345, os.getxattr, mount.point / 'a.mapped', 'user.warmfs.class')
    touch(mount.point / 'a.append', 0o644)
    assert as_user(12345, os.getxattr, mount.point / 'a.append', 'user.warmfs.class') == b'myappend'
