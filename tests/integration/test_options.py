# SPDX-License-Identifier: Apache-2.0
"""What warmfs refuses, and how: one line that names it, exit status 1, nothing mounted, nothing changed."""

import ctypes
import os
import signal
import subprocess

import pytest

import warmfs
from warmfs import MI, as_user, mounts_at, snapshot, start_refused, touch

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

GOOD = ('match=*.seg', 'size=1M')


@pytest.fixture
def place(workdir):
    """A source with something in it, and a mount point."""
    source = workdir / 'source'
    source.mkdir()
    (source / 'sub').mkdir()
    touch(source / 'file')
    touch(source / 'sub/other')
    (workdir / 'mnt').mkdir()
    return workdir


def assert_refused(place, refused, *words):
    assert refused.status == 1, refused.stderr
    assert len(refused.lines) == 1, refused.stderr
    for word in words:
        assert str(word) in refused.lines[0], refused.stderr
    for point in (place / 'source', place / 'mnt'):
        assert mounts_at(point) == []


def refuse(place, options, *words, source=None, point=None, background=False, **start):
    """Starts with these options and requires the refusal; `words` are all in its one line."""
    source = place / 'source' if source is None else source
    point = place / 'mnt' if point is None else point
    before = snapshot(place)
    argv = [] if background else ['-f']
    for option in options:
        argv += ['-o', option]
    refused = start_refused(*argv, source, point, **start)
    assert_refused(place, refused, *words)
    assert snapshot(place) == before
    return refused


BAD_VALUES = [
    ('size', '0'), ('size', '-1'), ('size', 'abc'), ('size', ''), ('size', '12X'), ('size', '1.5M'),
    ('size', '1M1'), ('size', '99999999999999999999'), ('size', '99999999999T'),
    ('kind', 'warm'), ('kind', ''), ('kind', 'MAPPED'),
    ('lock', 'yes'), ('lock_active', '-1'), ('lock_budget', '0'), ('lock_budget', 'all'),
    ('warm', 'yes'), ('warm', ''), ('warm_min_size', '1X'), ('flush', 'off'), ('flush_least_pages', '0'),
    ('flush_least_pages', '4K'),
    ('ahead', '-1'), ('ahead', 'x'), ('ahead', '1.5'), ('ahead', '4294967296'), ('ahead', ''),
    ('timeout', 'soon'), ('timeout', '-5'), ('timeout', '5h5'), ('timeout', ''),
    ('on_timeout', 'maybe'), ('on_timeout', ''),
    ('folio', '0'), ('folio', '1'), ('folio', '3K'), ('folio', 'big'), ('folio', '1T'),
    ('quota', 'lots'), ('quota', '-1'),
    ('match', ''), ('match', '['), ('match', 'x' * 300),
    ('threads', '0'), ('threads', '-1'), ('threads', 'two'), ('threads', '1000000000'),
    ('rate', '0'), ('rate', 'fast'), ('rate', ''), ('yield', 'maybe'),
    ('reserve', '101%'), ('reserve', '-1%'), ('reserve', 'half'), ('reserve', ''),
    ('passthrough', 'maybe'), ('passthrough', ''),
    ('attr_timeout', 'soon'), ('attr_timeout', '-1'), ('attr_timeout', ''),
    ('provider', ''), ('provider', '../x'), ('provider', '..'), ('provider', 'a/b'), ('provider', 'x.so'),
    ('provider_dir', ''), ('provider_dir', 'lib/providers'),
]


def value_id(value):
    return value if len(value) < 30 else 'long'


@pytest.mark.parametrize('key, value', BAD_VALUES, ids=value_id)
def test_bad_value(place, key, value):
    base = [option for option in GOOD if not option.startswith(key + '=')]
    shown = value if len(value) < 100 else value[:50]
    refuse(place, [*base, f'{key}={value}'], key, shown)


@pytest.mark.parametrize('key, value', BAD_VALUES, ids=value_id)
def test_bad_value_in_file(place, key, value):
    """The line names the file as well."""
    mount_wide = key in ('threads', 'reserve', 'rate', 'yield', 'lock_budget', 'passthrough', 'attr_timeout', 'provider_dir')
    classes = {'match': '*.seg', 'size': '1M'}
    mount = {}
    (mount if mount_wide else classes)[key] = value
    config = place / 'classes.conf'
    lines = ['[class journal]', *(f'{k}={v}' for k, v in classes.items())]
    lines += ['[warmfs]', *(f'{k}={v}' for k, v in mount.items())]
    config.write_text('\n'.join(lines) + '\n')
    refuse(place, [f'config={config}'], config, key, value if len(value) < 100 else value[:50])


def test_bad_value_in_background(place):
    """Also the process that the user started, not only the one that would serve, ends with status 1."""
    refuse(place, ['match=*.seg', 'size=0'], 'size', '0', background=True)


@pytest.mark.parametrize('option', ['colour=red', 'sizes=1M', 'ahed=2', 'MATCH=*.x', 'nonsense'])
def test_unknown_option(place, option):
    refuse(place, [*GOOD, option], *option.split('='))


def test_larger_than_filesystem(place):
    refuse(place, ['match=*.seg', 'size=900T'], 'size', '900T')


def test_pool_larger_than_filesystem(place, stack):
    with warmfs.loop_fs('ext4', 64 * MI, place) as disk:
        source = disk / 'source'
        source.mkdir()
        before = snapshot(disk)
        refused = start_refused('-f', '-o', 'match=*.seg', '-o', 'size=40M', '-o', 'ahead=3', source, place / 'mnt')
        assert_refused(place, refused, 'size', '40M', 'ahead', '3')
        assert snapshot(disk) == before


def test_beyond_quota(place):
    refuse(place, ['match=*.seg', 'size=2M', 'quota=1M'], 'quota', '1M', '2M')


def test_size_without_match(place):
    refuse(place, ['size=1M'], 'match')


def test_match_without_size(place):
    refuse(place, ['match=*.seg'], 'size')


# Configuration files

def refuse_config(place, text, *words):
    config = place / 'classes.conf'
    config.write_text(text)
    return refuse(place, [f'config={config}'], *words)


@pytest.mark.parametrize('first, second', [
    ('**/a*', '**/*b'), ('*.log', '*.log'), ('*.log', 'x.log'), ('**', 'sub/*'), ('a?', 'a[x-z]'),
    ('**/x', 'x'),
])
def test_overlapping_classes(place, first, second):
    refuse_config(place, f'[class one]\nmatch={first}\nsize=1M\n[class two]\nmatch={second}\nsize=2M\n',
                  'one', first, 'two', second)


def test_unknown_key_in_file(place):
    refuse_config(place, '[class one]\nmatch=*.x\nsize=1M\ncolour=red\n', 'one', 'colour', 'red')


def test_unknown_mount_key_in_file(place):
    refuse_config(place, '[warmfs]\ncolour=red\n[class one]\nmatch=*.x\nsize=1M\n', 'colour', 'red')


@pytest.mark.parametrize('group', ['klass one', 'one', 'class', 'class '])
def test_unknown_group(place, group):
    refuse_config(place, f'[{group}]\nmatch=*.x\nsize=1M\n', group.strip())


def test_class_without_match_in_file(place):
    refuse_config(place, '[class one]\nsize=1M\n', 'one', 'match')


def test_class_without_size_in_file(place):
    refuse_config(place, '[class one]\nmatch=*.x\n', 'one', 'size')


@pytest.mark.parametrize('text', ['match=*.x\n', '[class one\nmatch=*.x\n', 'hello', '\0\1\2', '[class a]\nsize\n'])
def test_not_a_config(place, text):
    refuse_config(place, text, place / 'classes.conf')


def test_missing_config(place):
    refuse(place, [f'config={place}/absent.conf'], 'config', place / 'absent.conf')


def test_config_is_directory(place):
    refuse(place, [f'config={place}/source/sub'], place / 'source/sub')


# The source

def test_source_missing(place):
    refuse(place, GOOD, place / 'absent', source=place / 'absent')


def test_source_is_file(place):
    refuse(place, GOOD, place / 'source/file', source=place / 'source/file')


def test_source_is_dangling_symlink(place):
    (place / 'dangling').symlink_to('nowhere')
    refuse(place, GOOD, place / 'dangling', source=place / 'dangling')


def drop_read_rights():
    libc = ctypes.CDLL(None)
    libc.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)
    libc.prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH)


def test_source_unreadable(place):
    """By a daemon that may mount but has no right to the directory."""
    os.chown(place / 'source', 12345, 12345)
    os.chmod(place / 'source', 0o700)
    refuse(place, GOOD, place / 'source', preexec_fn=drop_read_rights)


def test_source_on_read_only_filesystem(place):
    """No segment could ever be made there."""
    with warmfs.loop_fs('ext4', 32 * MI, place) as disk:
        (disk / 'source').mkdir()
        warmfs.run('mount', '-o', 'remount,ro', disk)
        refused = start_refused('-f', '-o', 'match=*.seg', '-o', 'size=1M', disk / 'source', place / 'mnt')
        assert_refused(place, refused, disk / 'source')


@pytest.mark.parametrize('kind', ['file', 'symlink', 'writable'])
def test_pool_directory_is_foreign(place, kind):
    """What others have put in the pool's place is neither followed nor changed."""
    private = place / 'source/.warmfs'
    if kind == 'file':
        touch(private)
    elif kind == 'symlink':
        (place / 'elsewhere').mkdir()
        private.symlink_to(place / 'elsewhere')
    else:
        private.mkdir()
        private.chmod(0o777)
    refuse(place, GOOD, '.warmfs')


# The mount point

def test_point_missing(place):
    refuse(place, GOOD, place / 'absent', point=place / 'absent')


def test_point_is_file(place):
    refuse(place, GOOD, place / 'source/file', point=place / 'source/file')


@pytest.mark.parametrize('inside', ['sub', 'sub/deeper'])
def test_point_inside_source(place, inside):
    point = place / 'source' / inside
    point.mkdir(exist_ok=True)
    refuse(place, GOOD, point, point=point)


def test_point_inside_source_by_symlink(place):
    (place / 'shortcut').symlink_to(place / 'source/sub')
    refuse(place, GOOD, 'shortcut', point=place / 'shortcut')


def refuse_beside(place, mount, source, point, *words):
    """A second daemon is refused, and the first one serves on."""
    mount.wait_settled(2)
    source_before = snapshot(mount.src)
    stacks = {path: len(mounts_at(path)) for path in (mount.point, source, point)}
    refused = start_refused('-f', '-o', 'match=*.new', '-o', 'size=1M', source, point)
    assert refused.status == 1, refused.stderr
    assert len(refused.lines) == 1, refused.stderr
    for word in words:
        assert str(word) in refused.stderr
    assert {path: len(mounts_at(path)) for path in stacks} == stacks
    assert snapshot(mount.src) == source_before
    touch(mount.point / 'a.seg')
    assert os.stat(mount.point / 'a.seg').st_size == MI


def test_second_daemon_on_source(place, warm):
    mount = warm(*GOOD)
    (place / 'mnt2').mkdir()
    refuse_beside(place, mount, place / 'source', place / 'mnt2', place / 'source')


def test_second_daemon_on_source_by_other_path(place, warm):
    mount = warm(*GOOD)
    (place / 'mnt2').mkdir()
    (place / 'alias').mkdir()
    warmfs.check(warmfs.libc.mount(os.fsencode(place / 'source'), os.fsencode(place / 'alias'), None, 4096, None))
    try:
        refuse_beside(place, mount, place / 'alias', place / 'mnt2', place / 'alias')
    finally:
        warmfs.umount(place / 'alias')


def test_point_carries_warmfs(place, warm):
    mount = warm(*GOOD)
    (place / 'source2').mkdir()
    refuse_beside(place, mount, place / 'source2', mount.point, mount.point)
    assert os.listdir(place / 'source2') == []


def test_second_daemon_over_the_same_directory(place, warm):
    mount = warm(*GOOD, over=True)
    refuse_beside(place, mount, place / 'source', place / 'source', place / 'source')


def without_fuse():
    warmfs.enter_private_mounts()
    warmfs.check(warmfs.libc.mount(b'/dev/null', b'/dev/fuse', None, 4096, None))


@pytest.mark.parametrize('background', [False, True], ids=['foreground', 'background'])
def test_mounting_fails(place, background):
    """Also what is found out last leaves nothing behind."""
    refuse(place, GOOD, place / 'mnt', background=background, preexec_fn=without_fuse)


def test_option_that_the_kernel_refuses(place):
    refuse(place, [*GOOD, 'max_read=nonsense'], 'max_read', 'nonsense')


# Usage

@pytest.mark.parametrize('words', [0, 1, 3])
def test_wrong_number_of_directories(place, words):
    before = snapshot(place)
    paths = [place / 'source', place / 'mnt', place / 'more'][:words]
    refused = start_refused('-f', '-o', 'match=*.seg', '-o', 'size=1M', *paths)
    assert_refused(place, refused)
    assert snapshot(place) == before


def test_unknown_flag(place):
    before = snapshot(place)
    refused = start_refused('-f', '--colour', place / 'source', place / 'mnt')
    assert_refused(place, refused, '--colour')
    assert snapshot(place) == before


@pytest.mark.parametrize('flag', ['--help', '--version'])
def test_help(flag):
    done = subprocess.run([warmfs.BINARY, flag], capture_output=True, text=True, timeout=20 * warmfs.SLOW)
    assert done.returncode == 0
    assert done.stderr == ''
    assert 'warmfs' in done.stdout


# What is accepted

def test_options_in_one_word(warm, workdir):
    mount = warm('match=*.seg,size=1M,ahead=1,kind=stream,timeout=2s,on_timeout=fail,quota=4M,folio=128K')
    mount.wait_settled(1)
    touch(mount.point / 'a.seg')
    assert os.stat(mount.point / 'a.seg').st_blocks * 512 >= MI


@pytest.mark.parametrize('text, size', [
    ('1234567', 1234567), ('96K', 96 * 1024), ('96k', 96 * 1024), ('2M', 2 * MI), ('1', 1),
])
def test_sizes(warm, text, size):
    mount = warm('match=*.seg', f'size={text}', 'ahead=1')
    touch(mount.point / 'a.seg')
    assert os.stat(mount.point / 'a.seg').st_size == size


def test_config_file(warm):
    mount = warm(config='''
# Two classes and something for the whole mount.
[warmfs]
reserve=1%
threads=1

[class journal]
match=journal/*.seg
size=1M
ahead=3

[class logs]
match=**/*.log
size=2M
kind=stream
ahead=1
''')
    mount.wait_ready(3, 'journal')
    mount.wait_ready(1, 'logs')
    (mount.point / 'journal').mkdir()
    touch(mount.point / 'journal/1.seg')
    touch(mount.point / 'journal/1.log')
    touch(mount.point / '1.seg')
    assert os.stat(mount.point / 'journal/1.seg').st_size == MI
    assert os.stat(mount.point / 'journal/1.log').st_blocks * 512 >= 2 * MI
    assert os.stat(mount.point / '1.seg').st_blocks == 0
    assert mount.counters('journal')['taken'] == 1
    assert mount.counters('logs')['taken'] == 1


@pytest.mark.parametrize('option', ['noatime', 'nosuid', 'nodev', 'noexec', 'ro', 'nodiratime'])
def test_generic_mount_options(warm, option):
    mount = warm(*GOOD, option)
    entry = mounts_at(mount.point)[-1]
    assert option in entry.options + entry.super_options


@pytest.mark.parametrize('option', ['suid', 'dev'])
def test_generic_mount_options_that_allow(warm, option):
    mount = warm(*GOOD, option)
    entry = mounts_at(mount.point)[-1]
    assert 'no' + option not in entry.options + entry.super_options


def test_read_only_mount(warm, workdir):
    (workdir / 'source').mkdir()
    touch(workdir / 'source/old')
    mount = warm(*GOOD, 'ro')
    assert (mount.point / 'old').read_bytes() == b''
    for name in ('a.seg', 'plain'):
        with pytest.raises(OSError, match='Read-only'):
            touch(mount.point / name)


def test_noexec(warm):
    mount = warm(*GOOD, 'noexec')
    warmfs.write_all(mount.point / 'script', b'#!/bin/sh\n', mode=0o755)
    with pytest.raises(PermissionError):
        subprocess.run([mount.point / 'script'], timeout=20 * warmfs.SLOW)


def test_mount_table(warm, workdir):
    """df and findmnt show the source and the type."""
    entry = mounts_at(warm(*GOOD).point)[-1]
    assert entry.fstype == 'fuse.warmfs'
    assert entry.source == str(workdir / 'source')


def test_other_users_have_access(warm):
    mount = warm(*GOOD)
    os.chmod(mount.point, 0o777)
    as_user(12345, touch, mount.point / 'mine')
    assert os.stat(mount.point / 'mine').st_uid == 12345


@pytest.mark.parametrize('over', [False, True], ids=['beside', 'over'])
def test_background(place, over):
    """Without -f the command returns once the mount is there; umount ends the daemon."""
    point = place / 'source' if over else place / 'mnt'
    done = subprocess.run([warmfs.BINARY, '-o', 'match=*.seg,size=1M', place / 'source', point],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30 * warmfs.SLOW)
    try:
        assert done.returncode == 0, done.stderr
        assert len(mounts_at(point)) == 1
        touch(point / 'a.seg')
        assert os.stat(point / 'a.seg').st_size == MI
        pid = int(warmfs.in_child(source_lock_pid, point, place / 'source', over))
        warmfs.umount(point)
        warmfs.wait_until(lambda: not os.path.exists(f'/proc/{pid}'), what='the end of the daemon')
    finally:
        for _ in mounts_at(point):
            warmfs.umount(point, warmfs.MNT_DETACH)
    assert os.stat(place / 'source/a.seg').st_size == MI


def source_lock_pid(point, source, over):
    """The daemon's pid, from SOURCE/.warmfs/lock; run in a child that looks below the mount."""
    if over:
        warmfs.enter_private_mounts()
        warmfs.umount(point, warmfs.MNT_DETACH)
    return (source / '.warmfs/lock').read_text()


def test_relative_paths(place):
    """The daemon in the background has another working directory than the one who started it."""
    done = subprocess.run([warmfs.BINARY, '-o', 'match=*.seg,size=1M', 'source', 'mnt'], cwd=place,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30 * warmfs.SLOW)
    point = place / 'mnt'
    try:
        assert done.returncode == 0, done.stderr
        touch(point / 'a.seg')
        assert os.stat(place / 'source/a.seg').st_size == MI
        pid = int((place / 'source/.warmfs/lock').read_text())
        os.kill(pid, signal.SIGTERM)
        warmfs.wait_until(lambda: not os.path.exists(f'/proc/{pid}'), what='the end of the daemon')
        assert mounts_at(point) == []
    finally:
        for _ in mounts_at(point):
            warmfs.umount(point, warmfs.MNT_DETACH)
