# SPDX-License-Identifier: Apache-2.0
"""Programs that are made to find a filesystem's faults, and races, on mounts whose pools are at work.

Environment:
  WARMFS_TEST_SEED  the seed of the races; a random one otherwise, which is printed
  WARMFS_TEST_LONG  many times as much of it
"""

import contextlib
import errno
import os
import pathlib
import random
import resource

import pytest

import warmfs
from program import Program

SEED = int(os.environ.get('WARMFS_TEST_SEED', random.randrange(1 << 32)))
MORE = 20 if os.environ.get('WARMFS_TEST_LONG') else 1
LIMIT_SECONDS = 240 * MORE

pytestmark = pytest.mark.limit(LIMIT_SECONDS)


# stress-ng: those of its stressors that end well, and soon, on a native filesystem, by so many operations of each.

STRESSORS = {
    'access': 100, 'copy-file': 5, 'dentry': 256, 'dir': 100, 'dirdeep': 50, 'dirmany': 200, 'dup': 10, 'fallocate': 5,
    'fcntl': 50, 'filename': 5, 'flock': 200, 'fstat': 100, 'getdent': 200, 'hdd': 100, 'iomix': 40, 'locka': 100,
    'lockf': 100, 'lockofd': 100, 'mknod': 100, 'msync': 20, 'open': 200, 'readahead': 200, 'rename': 200, 'seek': 200,
    'sendfile': 50, 'splice': 100, 'sync-file': 1, 'touch': 100, 'utime': 200, 'xattr': 5,
}
SIZES = {'copy-file': ['--copy-file-bytes', '128M'], 'dirdeep': ['--dirdeep-inodes', '200'],
         'fallocate': ['--fallocate-bytes', '2M'], 'hdd': ['--hdd-bytes', '2M'], 'iomix': ['--iomix-bytes', '2M'],
         'msync': ['--msync-bytes', '4M'], 'readahead': ['--readahead-bytes', '8M'], 'seek': ['--seek-size', '8M'],
         'sendfile': ['--sendfile-size', '1M'], 'sync-file': ['--sync-file-bytes', '4M'],
         'dentry': ['--dentries', '128']}


def run_stressor(name, directory):
    return Program('stress-ng', f'--{name}', 1, f'--{name}-ops', STRESSORS[name] * MORE, *SIZES.get(name, []),
                   '--verify', '--temp-path', directory).finish()


@pytest.mark.parametrize('data_path', ['on', 'off'])
def test_stressors(warm, data_path):
    # Its files have any names: all of them are segments.
    mount = warm('match=*', 'size=64K', 'kind=stream', 'ahead=4', f'passthrough={data_path}')
    failed = {}
    for name in STRESSORS:
        status, text = run_stressor(name, mount.point)
        if status != 0:
            failed[name] = (status, text)
    for name, (status, text) in failed.items():
        print(f'{name}: exit status {status}\n{text}')
    assert not failed, list(failed)
    mount.stop()


# fio, which knows of each block what is in it.

JOBS = {
    'sequential': ['--rw=write', '--bs=64k', '--ioengine=psync', '--fsync=16'],
    'random': ['--rw=randwrite', '--bs=4k', '--ioengine=psync', '--fdatasync=64'],
    'mmap': ['--rw=randwrite', '--bs=4k', '--ioengine=mmap'],
    'direct': ['--rw=randwrite', '--bs=4k', '--ioengine=psync', '--direct=1'],
    'libaio': ['--rw=randwrite', '--bs=8k', '--ioengine=libaio', '--iodepth=16', '--direct=1'],
    'files': ['--rw=randwrite', '--bs=4k', '--ioengine=psync', '--nrfiles=32', '--openfiles=8'],
}
KINDS = ('plain', 'mapped', 'append', 'stream')
FIO_BYTES = warmfs.MI


def fio(job, directory, *options):
    return Program('fio', '--name=job', f'--directory={directory}', f'--size={FIO_BYTES}', '--thread=0',
                   '--filename_format=f.$jobnum.$filenum.seg', '--fallocate=none', '--verify=crc32c',
                   '--verify_fatal=1', '--verify_state_save=0', '--numjobs=2', f'--randseed={SEED}', *JOBS[job], *options).finish()


def must(outcome):
    status, text = outcome
    assert status == 0, text


def class_options(kind):
    if kind == 'plain':
        return ['match=none', 'size=64K']
    return ['match=*.seg', f'kind={kind}', 'size=1M', 'ahead=2']


@pytest.mark.parametrize('kind', KINDS)
def test_fio(warm, kind):
    """What was written is read, through the mount and then, the files being plain ones, without it."""
    mount = warm(*class_options(kind))
    for job in JOBS:
        (mount.point / job).mkdir()
        must(fio(job, mount.point / job, '--do_verify=1', f'--loops={MORE}'))
    mount.stop()
    for job in JOBS:
        must(fio(job, mount.source / job, '--verify_only'))


def test_fio_sees_a_wrong_byte(warm):
    mount = warm(*class_options('append'))
    must(fio('random', mount.point, '--do_verify=0'))
    must(fio('random', mount.point, '--verify_only'))
    with open(mount.point / 'f.1.0.seg', 'r+b') as file:
        file.seek(12345)
        byte = file.read(1)
        file.seek(12345)
        file.write(bytes([byte[0] ^ 1]))
    status, text = fio('random', mount.point, '--verify_only')
    assert status != 0 and 'verify' in text, text


# Races

RACE_OPTIONS = ['match=*.seg', 'size=64K', 'ahead=4', 'linger=10']


def race(children, *calls):
    """Runs these at the same time, and gives what they returned."""
    print(f'WARMFS_TEST_SEED={SEED}')
    started = [children.start(*call) for call in calls]
    return [child.result(LIMIT_SECONDS / 2) for child in started]


def payload(word):
    return f'{word:>15}\n'.encode() * 256


def check_payload(data):
    assert len(data) == len(payload('')) and data == data[:16] * 256, (len(data), data[:64])


@contextlib.contextmanager
def may_be_gone(*more):
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, *more):
            raise


def churn(directory, me, seed):
    """Makes, replaces, links, renames, looks up and removes the same few names as others do; a name always leads to a
    whole file."""
    dice = random.Random(seed)
    names = [directory / f'{i}.seg' for i in range(6)]
    for step in range(300 * MORE):
        name, other = dice.sample(names, 2)
        action = dice.randrange(6)
        with may_be_gone(errno.EEXIST):
            if action <= 1:
                fresh = directory / f'new-{me}.seg'
                fresh.write_bytes(payload(f'{me}-{step}'))
                os.rename(fresh, name)
            elif action == 2:
                os.rename(name, other)
            elif action == 3:
                os.link(name, other)
            elif action == 4:
                os.unlink(name)
            else:
                check_payload(name.read_bytes())
                os.stat(other)


@pytest.mark.parametrize('kind', ['plain', 'append', 'stream'])
def test_names_that_everybody_changes(warm, children, kind):
    mount = warm(*(['match=none', 'size=64K'] if kind == 'plain' else [*RACE_OPTIONS, f'kind={kind}']))
    race(children, *[(churn, mount.point, me, SEED + me) for me in range(4)])
    left = {path.name: path.read_bytes() for path in mount.point.iterdir()}
    for data in left.values():
        check_payload(data)
    mount.stop()
    assert {path.name: path.read_bytes() for path in mount.source.iterdir() if path.name != '.warmfs'} == left


def remove_all(paths):
    for path in paths:
        path.unlink()


def list_often(directory, staying):
    for _ in range(12 * MORE):
        names = [name for name in os.listdir(directory) if name.startswith('stay')]
        assert sorted(names) == staying


def test_readdir_beside_removal(warm, children):
    """Who stays is listed once, whatever becomes of the others meanwhile."""
    mount = warm(*RACE_OPTIONS)
    staying = sorted(f'stay-{i:04}' for i in range(600))
    going = [mount.point / f'{i:04}-{word}' for i in range(1000) for word in ('go', 'went')]
    for path in [*[mount.point / name for name in staying], *going]:
        path.touch()
    race(children, (list_often, mount.point, staying), (remove_all, going[::2]), (remove_all, going[1::2]),
         (list_often, mount.point, staying))
    assert sorted(os.listdir(mount.point)) == staying


def hold_many(directory):
    count = 2000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * count), hard))
    files = []
    for i in range(count):
        fd = os.open(directory / f'{i}', os.O_CREAT | os.O_RDWR)
        os.pwrite(fd, payload(i), 0)
        files.append(fd)
        if i % 2:
            os.unlink(directory / f'{i}')
    for i, fd in enumerate(files):
        assert os.pread(fd, 8192, 0) == payload(i), i
        assert os.fstat(fd).st_nlink == 1 - i % 2


def test_thousands_of_open_files(warm):
    mount = warm(*RACE_OPTIONS)
    warmfs.Child(hold_many, mount.point).result(LIMIT_SECONDS / 2)
    assert len(os.listdir(mount.point)) == 1000


DEPTH = 30


def write_in_tree(top_fd, me):
    """By descriptors, and by paths from one: wherever the tree is meanwhile, they lead into it."""
    below = '/'.join(['d'] * DEPTH)
    deep_fd = os.open(below, os.O_RDONLY | os.O_DIRECTORY, dir_fd=top_fd)
    log = os.open(f'{me}.log', os.O_CREAT | os.O_WRONLY | os.O_APPEND, dir_fd=deep_fd)
    for step in range(100 * MORE):
        os.write(log, f'{step}\n'.encode())
        fd = os.open(f'{below}/{me}-{step}.seg', os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=top_fd)
        os.write(fd, payload(f'{me}-{step}'))
        os.close(fd)
        with open(os.open(f'{me}-{step}.seg', os.O_RDONLY, dir_fd=deep_fd), 'rb') as file:
            assert file.read() == payload(f'{me}-{step}')


def move_tree(root):
    for _ in range(100 * MORE):
        os.rename(root / 'a/tree', root / 'b/moved')
        os.rename(root / 'b/moved', root / 'a/tree')


@pytest.mark.parametrize('kind', ['append', 'stream'])
def test_trees_that_move_while_they_are_written(warm, children, kind):
    mount = warm(*RACE_OPTIONS, f'kind={kind}')
    deep = pathlib.Path('a/tree', *['d'] * DEPTH)
    (mount.point / deep).mkdir(parents=True)
    (mount.point / 'b').mkdir()
    top_fd = os.open(mount.point / 'a/tree', os.O_RDONLY | os.O_DIRECTORY)
    try:
        race(children, (write_in_tree, top_fd, 'x'), (write_in_tree, top_fd, 'y'), (move_tree, mount.point))
    finally:
        os.close(top_fd)
    mount.stop()
    count = 100 * MORE
    for me in 'xy':
        assert (mount.source / deep / f'{me}.log').read_text() == ''.join(f'{step}\n' for step in range(count))
        for step in range(count):
            assert (mount.source / deep / f'{me}-{step}.seg').read_bytes() == payload(f'{me}-{step}')
