# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed while applications write: what a write has acknowledged is there, synced or not.

WARMFS_TEST_SEED repeats the moments and the data; with WARMFS_TEST_LONG there are 200 kills.
"""

import mmap
import os
import random
import signal
import struct
import time

import pytest

import warmfs
from warmfs import KI, Child

SEED = int(os.environ.get('WARMFS_TEST_SEED', random.randrange(1 << 32)))
CAPACITY = 256 * KI
# One in ten files outgrows its segment.
FILE_BYTES = (20 * KI, 280 * KI)
N_WRITERS = 2
LONG = bool(os.environ.get('WARMFS_TEST_LONG'))
# Each way; a sanitizer's daemon takes its time to start.
N_KILLS = 200 if LONG else 30 if warmfs.SLOW == 1 else 10
# The last one: much is in memory only, and commits are under way at any time.
WAYS = {
    'passthrough': [],
    'daemon': ['passthrough=off'],
    'transient': ['transient=on', 'commit_interval=10', 'flush_interval=100'],
}
STATE = struct.Struct('<QQQ')


def content(seed, writer, number):
    """What a file holds: a third of it zeroes, in pieces."""
    dice = random.Random(f'{seed} {writer} {number}')
    data = bytearray()
    size = dice.randrange(*FILE_BYTES)
    while len(data) < size:
        length = dice.choice([1, 50, 3000])
        data += bytes(length) if dice.random() < 0.33 else dice.randbytes(length)
    return bytes(data[:size])


def write_files(point, state, seed, writer):
    """Tells in `state` which file it is at, how much of that is acknowledged, and how much more may be there."""
    dice = random.Random(f'{seed} {writer}')
    for number in range(1000):
        data = content(seed, writer, number)
        try:
            fd = os.open(point / f'{writer}-{number}.seg', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            done = 0
            state[:STATE.size] = STATE.pack(number, 0, 0)
            while done < len(data):
                size = min(dice.choice([1, 200, 5000, 70000]), len(data) - done)
                state[:STATE.size] = STATE.pack(number, done, size)
                written = os.write(fd, data[done:done + size])
                done += written
                state[:STATE.size] = STATE.pack(number, done, size - written)
                # The kernel had made two requests of it, and the daemon died in the second: it may have done that.
                if written < size:
                    return
                if dice.random() < 0.1:
                    os.fdatasync(fd)
            os.close(fd)
        except OSError:
            return


def check(directory, seed, writer, state):
    number, acknowledged, more = STATE.unpack(state[:STATE.size])
    for earlier in range(number):
        assert (directory / f'{writer}-{earlier}.seg').read_bytes() == content(seed, writer, earlier), earlier
    path = directory / f'{writer}-{number}.seg'
    data = path.read_bytes() if path.exists() else b''
    assert acknowledged <= len(data) <= acknowledged + more, (path, acknowledged, more)
    assert data == content(seed, writer, number)[:len(data)]


MS_REMOUNT = 32


def test_killed_while_it_asks_itself(warm, faults):
    """It ends, and so does what others wait for, also when it is killed while a thread of its own waits for its answer."""
    mount = warm('attr_timeout=0', faults=faults)
    name = mount.point / '.warmfs'
    assert name.is_dir()
    # What the kernel asks on the way to a name.
    faults.set('fstatat path=/source delay_ms=hold')

    def remount():
        warmfs.check(warmfs.libc.mount(b'none', os.fsencode(mount.point), None, MS_REMOUNT, None))
        return faults.hits('fstatat')

    # That makes it forget all names that nobody looks up just then, as the daemon does in the beginning. Then the daemon looks
    # its own one up again.
    warmfs.wait_until(remount, what='a question of the daemon to itself')
    mount.process.send_signal(signal.SIGKILL)
    warmfs.wait_until(lambda: not mount.alive(), what='the end of the daemon')
    with pytest.raises(OSError, match='not connected'):
        os.stat(mount.point)


@pytest.mark.limit(1200 if LONG else 240)
@pytest.mark.parametrize('way', WAYS)
def test_nothing_is_lost(warm, workdir, way):
    print(f'WARMFS_TEST_SEED={SEED}')
    dice = random.Random(SEED)
    options = ['match=*.seg', f'size={CAPACITY}', 'kind=append', 'ahead=4', *WAYS[way]]
    states = [mmap.mmap(-1, mmap.PAGESIZE) for _ in range(N_WRITERS)]
    written = 0
    mount = warm(*options)
    for kill in range(N_KILLS):
        seed = f'{SEED} {kill}'
        for state in states:
            state[:STATE.size] = STATE.pack(0, 0, 0)
        children = [Child(write_files, mount.point, states[i], seed, i) for i in range(N_WRITERS)]
        time.sleep(dice.random() * 0.08)
        mount.kill()
        for child in children:
            child.result()
        mount.close()
        mount = warm(*options)
        for i in range(N_WRITERS):
            check(mount.point, seed, i, states[i])
            written += STATE.unpack(states[i][:STATE.size])[1]
        for path in mount.point.iterdir():
            assert os.stat(mount.src / path.name).st_nlink == 1
            path.unlink()
    assert written > 0
