# SPDX-License-Identifier: Apache-2.0
"""What the kernel is let remember of files and directories: it need not ask for it, and it is true."""

import json
import mmap
import os
import time

import pytest

import warmfs
from warmfs import touch, write_all

MI = 1 << 20

# So that what is remembered is not just forgotten in time.
REMEMBER = 'attr_timeout=1000'


def requests(mount):
    return json.loads((mount.point / '.warmfs/status.json').read_text())['requests']


def asked(mount, do, *names):
    """How many requests of those sorts the daemon gets for what `do` does."""
    requests(mount)
    first, before = requests(mount), requests(mount)
    do()
    after = requests(mount)
    # To look at the counters costs requests, too.
    return [after[name] - before[name] - (before[name] - first[name]) for name in names]


@pytest.mark.parametrize('name', ['plain', 'x.seg'])
def test_attributes_of_a_new_file(warm, name):
    """Who looks at a file that he has just made and closed gets no slower answer than later."""
    mount = warm('match=*.seg', f'size={MI}', REMEMBER)
    mount.wait_ready(2)
    fd = os.open(mount.point / name, os.O_RDWR | os.O_CREAT, 0o640)
    os.close(fd)
    # What is remembered for the moment of the open alone is forgotten by then.
    time.sleep(0.05)
    size = MI if name == 'x.seg' else 0
    seen = []
    assert asked(mount, lambda: seen.append(os.stat(mount.point / name)), 'lookup', 'getattr', 'statx') == [0, 0, 0]
    assert (seen[0].st_size, seen[0].st_mode, seen[0].st_nlink) == (size, 0o100640, 1)
    assert warmfs.stat_facts(mount.point / name) == warmfs.stat_facts(mount.src / name)


@pytest.mark.parametrize('passthrough', ['on', 'off'])
@pytest.mark.parametrize('kind', ['mapped', 'append', 'stream', None])
def test_new_file_that_is_mapped(warm, kind, passthrough):
    """A store through a mapping is nobody's write: the kernel must not go by what it was told before."""
    mount = warm('match=*.seg', f'size={MI}', f'kind={kind or "mapped"}', f'passthrough={passthrough}', REMEMBER)
    mount.wait_ready(2)
    name = 'x.seg' if kind else 'plain'
    fd = os.open(mount.point / name, os.O_RDWR | os.O_CREAT, 0o644)
    if kind != 'mapped':
        os.write(fd, b'-' * 4096)
    born = os.fstat(fd)
    memory = mmap.mmap(fd, 4096)
    os.fstat(fd)
    for _ in range(3):
        warmfs.tick()
        memory[0:1] = b'x'
        memory.flush()
        assert os.stat(mount.point / name).st_mtime_ns > born.st_mtime_ns
        if kind != 'append':
            assert os.stat(mount.point / name).st_mtime_ns == os.stat(mount.src / name).st_mtime_ns
        born = os.fstat(fd)
    memory.close()
    os.close(fd)


def test_listing_of_a_large_directory(warm, workdir):
    """Nothing is looked up for who only wants the names: a descriptor of each file would show."""
    directory = workdir / 'source/large'
    directory.mkdir(parents=True)
    for i in range(3000):
        touch(directory / f'{i:05}')
    mount = warm('match=*.seg', f'size={MI}', REMEMBER)
    mount.wait_settled(2)
    before = len(os.listdir(f'/proc/{mount.pid}/fd'))
    assert sorted(os.listdir(mount.point / 'large')) == sorted(os.listdir(directory))
    assert len(os.listdir(f'/proc/{mount.pid}/fd')) < before + 10


def test_attributes_after_listing(warm, workdir):
    """Of a small directory they come with its listing; of a large one, as soon as they are asked for."""
    for name, count in (('small', 10), ('large', 3000)):
        (workdir / 'source' / name).mkdir(parents=True)
        for i in range(count):
            write_all(workdir / 'source' / name / f'{i:05}', b'x' * i)
    mount = warm('match=*.seg', f'size={MI}', REMEMBER)

    def look_at_all(name):
        with os.scandir(mount.point / name) as entries:
            assert all(entry.stat().st_size == int(entry.name) for entry in entries)

    # One lookup is of the directory.
    assert asked(mount, lambda: look_at_all('small'), 'lookup', 'getattr') == [1, 0]
    assert asked(mount, lambda: look_at_all('large'), 'lookup')[0] < 2000


def test_listing_again(warm):
    """The kernel keeps the listing that is asked for again, and no longer than it is true."""
    mount = warm('match=*.seg', f'size={MI}', REMEMBER)
    directory = mount.point / 'directory'
    directory.mkdir()
    names = []
    for i in range(5):
        touch(directory / f'{i}')
        names.append(f'{i}')

        def look():
            assert sorted(os.listdir(directory)) == names  # pylint: disable=cell-var-from-loop
        assert asked(mount, look, 'readdir')[0] > 0
        assert asked(mount, look, 'readdir')[0] > 0
        assert asked(mount, look, 'readdir') == [0]
    os.unlink(directory / '0')
    names.remove('0')
    look()
