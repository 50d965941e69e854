# SPDX-License-Identifier: Apache-2.0
"""What the kernel is let remember of files and directories: it need not ask for it, and it is true."""

import json
import mmap
import os
import time

import pytest

import warmfs
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
        # Longer than the clock of file times takes for a step.
        time.sleep(0.05)
        memory[0:1] = b'x'
        memory.flush()
        assert os.stat(mount.point / name).st_mtime_ns > born.st_mtime_ns
        if kind != 'append':
            assert os.stat(mount.point / name).st_mtime_ns == os.stat(mount.src / name).st_mtime_ns
        born = os.fstat(fd)
    memory.close()
    os.close(fd)
