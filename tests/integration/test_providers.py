# SPDX-License-Identifier: Apache-2.0
"""Segment providers from modules (tests/providers/): used where they can be, and where they cannot, as if not asked for."""

import os
import shutil
import subprocess

import pytest

import warmfs
from warmfs import KI, MI, links_of, touch, wait_until, write_all

SIZE = MI
KINDS = ('mapped', 'append', 'stream')
STAMP = 'user.stamp'


def install(directory, module, name=None):
    """Copies a module there, as one that root has installed."""
    path = directory / f'warmfs-provider-{name or module}.so'
    shutil.copyfile(warmfs.PROVIDERS / f'warmfs-provider-{module}.so', path)
    path.chmod(0o755)
    return path


@pytest.fixture
def modules(workdir):
    """A directory for modules."""
    path = workdir / 'modules'
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def provided(warm, modules):
    """Starts a mount with segments of one kind that a provider makes."""
    def start(name, kind='mapped', *options):
        return warm('match=*.seg', f'size={SIZE}', f'kind={kind}', 'ahead=2', f'provider={name}',
                    f'provider_dir={modules}', *options)
    return start


def stamp_of(path):
    try:
        return int(os.getxattr(path, STAMP))
    except OSError:
        return None


def born(path):
    """What can be seen of a new segment."""
    status = os.stat(path)
    return status.st_size, status.st_blocks * 512 >= SIZE, status.st_nlink, path.read_bytes().strip(b'\0')


def provider_warnings(mount):
    """The lines about providers that are not just news."""
    return [line for line in mount.log_lines('provider') if 'loaded from' not in line and 'stamped' not in line]


def check_serves(mount, kind, name='a.seg'):
    """Segments as any other's: taken from the pool, written, and plain files in the end."""
    mount.wait_settled(2)
    taken = mount.counters()['taken']
    path = mount.point / name
    touch(path)
    assert born(path) == (SIZE if kind == 'mapped' else 0, True, 1, b'')
    write_all(path, b'data')
    after = mount.wait_counters(taken=taken + 1)
    assert after['hits'] == after['taken'] and after['errors'] == 0
    mount.wait_settled(2)


def check_left(mount, kind, name='a.seg'):
    """After the mount: the file that check_serves has written."""
    data = (mount.source / name).read_bytes()
    assert data == (b'data' + bytes(SIZE - 4) if kind == 'mapped' else b'data')
    assert links_of(mount.source / name) == 1


# Used

@pytest.mark.parametrize('kind', KINDS)
def test_wraps(provided, modules, kind):
    """The module's own work on each segment shows on the files."""
    install(modules, 'stamp')
    mount = provided('stamp', kind)
    check_serves(mount, kind)
    check_serves(mount, kind, 'b.seg')
    assert stamp_of(mount.point / 'a.seg') in (1, 2)
    assert stamp_of(mount.point / 'b.seg') in (1, 2, 3)
    touch(mount.point / 'plain')
    assert stamp_of(mount.point / 'plain') is None
    assert len(mount.log_lines('provider stamp: loaded from .*/warmfs-provider-stamp.so')) == 1
    assert provider_warnings(mount) == []
    mount.stop()
    assert len(mount.log_lines('provider stamp: [45] segments stamped')) == 1
    check_left(mount, kind)
    assert stamp_of(mount.source / 'a.seg') is not None


@pytest.mark.parametrize('kind', KINDS)
def test_fills_itself(provided, modules, kind):
    install(modules, 'writer')
    mount = provided('writer', kind)
    check_serves(mount, kind)
    if kind == 'mapped':
        assert warmfs.resident_share(mount.point / 'a.seg') == 1
        assert not any(flags & warmfs.EXTENT_UNWRITTEN for _, _, flags in warmfs.extents(mount.src / 'a.seg'))
    assert provider_warnings(mount) == []
    mount.stop()
    check_left(mount, kind)


def test_several_classes(warm, modules):
    """Each class has its own; a module that two of them name is loaded once."""
    install(modules, 'stamp')
    install(modules, 'writer')
    mount = warm(config=f'''
[warmfs]
provider_dir={modules}
[class one]
match=*.one
size={SIZE}
provider=stamp
[class two]
match=*.two
size={SIZE}
provider=writer
[class three]
match=*.three
size={SIZE}
kind=append
provider=stamp
[class four]
match=*.four
size={SIZE}
provider=file
''')
    mount.wait_settled(8)
    for name in ('one', 'two', 'three', 'four'):
        touch(mount.point / f'a.{name}')
        assert (stamp_of(mount.point / f'a.{name}') is not None) == (name in ('one', 'three'))
    assert len(mount.log_lines('loaded from')) == 2
    assert provider_warnings(mount) == []


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('first, second', [('stamp', 'file'), ('file', 'stamp'), ('stamp', 'writer'), ('writer', 'file')])
def test_adopts(provided, modules, kind, first, second):
    """What a mount has left in the pool serves the next one, whoever made it."""
    install(modules, 'stamp')
    install(modules, 'writer')
    mount = provided(first, kind)
    mount.wait_settled(2)
    mount.stop()
    mount.close()
    mount = provided(second, kind)
    check_serves(mount, kind)
    assert mount.counters()['adopted'] == 2
    assert (stamp_of(mount.point / 'a.seg') is not None) == ('stamp' in (first, second))
    mount.stop()
    check_left(mount, kind)


def test_killed_daemon(provided, modules):
    """Recovery finds the live segments of a module as it finds the built-in provider's."""
    install(modules, 'writer')
    mount = provided('writer', 'append', 'linger=3600s')
    check_serves(mount, 'append')
    assert links_of(mount.src / 'a.seg') == 2
    mount.kill()
    mount.close()
    mount = provided('writer', 'append')
    check_left(mount, 'append')
    check_serves(mount, 'append', 'b.seg')


def test_module_fails(provided, modules):
    """Its errors are those of a preparation: the create that waits has one, and the daemon serves on."""
    install(modules, 'wayward', 'positive')
    mount = provided('positive', 'mapped', 'timeout=3600s')
    with pytest.raises(OSError, match='Input/output error'):
        touch(mount.point / 'a.seg')
    touch(mount.point / 'plain')
    assert len(mount.log_lines('cannot prepare a segment ahead: Input/output error')) == 1
    assert mount.counters()['failed'] == 1


def test_module_does_not_fill(provided, modules):
    """A file without its blocks is not handed out as if it had them."""
    install(modules, 'wayward', 'unfilled')
    mount = provided('unfilled')
    with pytest.raises(OSError, match='Invalid argument'):
        touch(mount.point / 'a.seg')
    assert mount.log_lines('its provider has left warming-.* with 0 bytes')
    wait_until(lambda: mount.pool_names() == [], what='an empty pool')


def test_stop_while_preparing(modules, faults, warm):
    """A preparation of a module that is told to end does, and leaves nothing."""
    install(modules, 'writer')
    faults.set('pwrite delay_ms=100 path=.warmfs/pool')
    mount = warm('match=*.seg', 'size=64M', 'provider=writer', f'provider_dir={modules}', faults=faults)
    faults.wait_hit('pwrite')
    mount.stop(seconds=20)
    assert list((mount.source / '.warmfs/pool').iterdir()) == []


# Not used

def no_module(modules):
    pass


def wrong_version(modules):
    install(modules, 'next-abi', 'x')


def lacks_symbol(modules):
    install(modules, 'no-symbol', 'x')


def calls_unknown(modules):
    install(modules, 'unresolved', 'x')


def refuses(modules):
    install(modules, 'stamp', 'x')


def not_a_library(modules):
    write_all(modules / 'warmfs-provider-x.so', b'#!/bin/sh\nexit 0\n', mode=0o755)


def writable_file(modules):
    install(modules, 'writer', 'x').chmod(0o777)


def writable_directory(modules):
    install(modules, 'writer', 'x')
    modules.chmod(0o777)


def writable_upper_directory(modules):
    install(modules, 'writer', 'x')
    modules.parent.chmod(0o777)


def foreign_file(modules):
    os.chown(install(modules, 'writer', 'x'), 12345, 12345)


def foreign_directory(modules):
    install(modules, 'writer', 'x')
    os.chown(modules, 12345, 12345)


def symbolic_link(modules):
    install(modules, 'writer', 'y')
    (modules / 'warmfs-provider-x.so').symlink_to('warmfs-provider-y.so')


OBSTACLES = [
    (no_module, 'No such file'), (wrong_version, 'version 2'), (lacks_symbol, 'no symbol warmfs_segment_provider'),
    (calls_unknown, 'warmfs_has_no_such_function'), (refuses, 'refuses to serve: No such file'),
    (not_a_library, 'warmfs-provider-x.so'), (writable_file, 'others can write'),
    (writable_directory, 'others can write'), (writable_upper_directory, 'others can write'),
    (foreign_file, 'belongs to user 12345'), (foreign_directory, 'belongs to user 12345'),
    (symbolic_link, 'symbolic link'),
]


@pytest.mark.parametrize('obstacle, reason', OBSTACLES, ids=[obstacle.__name__ for obstacle, _ in OBSTACLES])
def test_falls_back(provided, modules, obstacle, reason):
    """One warning, and files as without provider=."""
    obstacle(modules)
    mount = provided('x')
    for number in range(5):
        check_serves(mount, 'mapped', f'{number}.seg')
    warnings = provider_warnings(mount)
    assert len(warnings) == 1, warnings
    for word in ('provider x: ', reason, 'built-in provider'):
        assert word in warnings[0]
    assert mount.log_lines('loaded from') == []
    mount.stop()
    check_left(mount, 'mapped', '0.seg')


@pytest.mark.parametrize('kind', ('append', 'stream'))
def test_falls_back_of_other_kinds(provided, kind):
    mount = provided('x', kind)
    check_serves(mount, kind)
    assert len(provider_warnings(mount)) == 1
    mount.stop()
    check_left(mount, kind)


def test_falls_back_once_for_several_classes(warm, modules):
    classes = ''.join(f'[class c{i}]\nmatch=*.{i}\nsize=64K\nprovider=x\n' for i in range(4))
    mount = warm(config=f'[warmfs]\nprovider_dir={modules}\n{classes}')
    mount.wait_settled(8)
    for i in range(4):
        touch(mount.point / f'a.{i}')
        assert os.stat(mount.point / f'a.{i}').st_size == 64 * KI
    assert len(provider_warnings(mount)) == 1


def test_no_environment(provided, modules, monkeypatch, workdir):
    """Only the mount's option says where modules are."""
    elsewhere = workdir / 'elsewhere'
    elsewhere.mkdir()
    install(elsewhere, 'writer', 'x')
    for name in ('LD_LIBRARY_PATH', 'WARMFS_PROVIDER_DIR', 'WARMFS_PROVIDERS'):
        monkeypatch.setenv(name, str(elsewhere))
    monkeypatch.chdir(elsewhere)
    assert len(provider_warnings(provided('x'))) == 1


# Writing one

@pytest.mark.parametrize('module', ('stamp', 'writer'))
def test_needs_one_header(modules, workdir, provided, module):
    """The examples are built with nothing but the installed header, and warmfs loads what comes out."""
    include = workdir / 'include'
    include.mkdir()
    shutil.copy(warmfs.TREE / 'alloc/segment-provider.h', include)
    subprocess.run(['cc', '-std=c11', '-D_DEFAULT_SOURCE', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-shared', '-fPIC',
                    f'-I{include}', '-o', modules / f'warmfs-provider-{module}.so',
                    warmfs.TREE / f'tests/providers/{module}.c'], check=True, timeout=60 * warmfs.SLOW)
    (modules / f'warmfs-provider-{module}.so').chmod(0o755)
    mount = provided(module)
    check_serves(mount, 'mapped')
    assert len(mount.log_lines('loaded from')) == 1
