# SPDX-License-Identifier: Apache-2.0
"""What the daemon holds does not grow with what it does: memory of its own, descriptors, threads, mappings.

Environment:
  WARMFS_TEST_SEED  the seed of the load; a random one otherwise, which is printed
  WARMFS_TEST_LONG  ten minutes of load instead of some seconds
"""

import os
import pathlib
import random
import time

import pytest

import warmfs
from program import Program
from test_exerciser import EXERCISER, KINDS
from warmfs import KI, MI

SEED = int(os.environ.get('WARMFS_TEST_SEED', random.randrange(1 << 32)))
LONG = bool(os.environ.get('WARMFS_TEST_LONG'))
# Until the first sample, and in all.
WARM_UP_SECONDS, ALL_SECONDS = (60, 600) if LONG else (0, 0)
LEAST_BURSTS = 6

CAPACITY = 256 * KI
# Requests at a time: each has a thread, whose buffer it fills.
WRITERS = 40
AHEAD = 3
PLAIN_FILES = 1500
SEGMENTS = 60


class Held:
    """What a process holds now."""

    def __init__(self, pid):
        process = pathlib.Path(f'/proc/{pid}')
        status = dict(line.split(':', 1) for line in (process / 'status').read_text().splitlines())
        # Not the pages of files, which belong to everybody.
        self.memory = int(status['RssAnon'].split()[0]) * KI
        self.threads = int(status['Threads'])
        self.descriptors = len(os.listdir(process / 'fd'))
        self.mappings = len((process / 'maps').read_text().splitlines())

    def __repr__(self):
        return (f'{self.memory // KI} KiB, {self.threads} threads, {self.descriptors} descriptors, '
                f'{self.mappings} mappings')


def many_files(directory):
    """Many names looked up, listed and forgotten again."""
    directory.mkdir()
    for i in range(PLAIN_FILES):
        warmfs.touch(directory / f'{i}')
    for _ in range(3):
        assert sum(entry.stat().st_size == 0 for entry in os.scandir(directory)) == PLAIN_FILES
    for name in os.listdir(directory):
        os.unlink(directory / name)
    directory.rmdir()


def many_segments(directory, seed):
    """Taken, written, renamed, and removed soon or later. Nothing of it fills the buffer of a thread: how many of those
    have been filled would be chance."""
    dice = random.Random(seed)
    directory.mkdir()
    for i in range(SEGMENTS):
        path = directory / f'{i}.{dice.choice(KINDS)}'
        data = bytes(dice.choice([10, 4096, 50000]))
        warmfs.write_all(path, data, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        with open(path, 'rb') as file:
            assert file.read(len(data)) == data
        os.rename(path, path.with_suffix('.old' + path.suffix))
        if dice.random() < 0.5:
            os.unlink(path.with_suffix('.old' + path.suffix))
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def burst(children, directory, number):
    """All of it at the same time; then nothing is left of it."""
    playground = directory / 'exerciser'
    playground.mkdir()
    exerciser = Program(EXERCISER, '--dir', playground, '--seconds', 2, '--seed', SEED + number,
                        *[f'--kind=.{kind}:{CAPACITY if kind == "mapped" else 0}' for kind in ('plain', *KINDS)])
    started = [children.start(many_files, directory / f'files-{i}') for i in range(2)]
    started += [children.start(many_segments, directory / f'segments-{i}', SEED + 10 * number + i) for i in range(3)]
    for child in started:
        child.result(200)
    status, text = exerciser.finish()
    assert status == 0, text
    for path in playground.iterdir():
        path.unlink()
    playground.rmdir()


def rest(mount):
    """When all is removed and the pools are full again, only what is held on purpose is held."""
    mount.wait_settled(AHEAD * len(KINDS), 60)
    return Held(mount.pid)


@pytest.mark.limit(180 + 2 * ALL_SECONDS)
def test_what_is_held_does_not_grow(warm, children):
    print(f'WARMFS_TEST_SEED={SEED}')
    mount = warm(config=''.join(f'[class {kind}]\nmatch=**/*.{kind}\nsize={CAPACITY}\nkind={kind}\nahead={AHEAD}\n'
                                + ('' if kind == 'mapped' else 'linger=10\n') for kind in KINDS))
    started = time.monotonic()
    first = None
    number = 0
    while number < LEAST_BURSTS or time.monotonic() < started + ALL_SECONDS:
        burst(children, mount.point, number)
        number += 1
        held = rest(mount)
        print(f'{time.monotonic() - started:.0f} s, burst {number}: {held}')
        if first is None and number >= 2 and time.monotonic() >= started + WARM_UP_SECONDS:
            first = held
    # A serving thread more or less, and how much of its buffer it has filled, is chance.
    assert held.descriptors <= first.descriptors + 4
    assert held.threads <= first.threads + 4
    # Sanitizers keep what was freed.
    if warmfs.SLOW == 1:
        assert held.mappings <= first.mappings + 16
        assert held.memory <= 1.1 * first.memory + 2 * MI


def write_much(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for _ in range(20):
        os.pwrite(fd, bytes(MI), 0)
        os.fsync(fd)
    os.close(fd)


@pytest.mark.limit(120)
def test_a_burst_of_large_writes_leaves_little_behind(warm, children):
    mount = warm('match=none', 'size=1M', 'passthrough=off')
    before = Held(mount.pid)
    for child in [children.start(write_much, mount.point / f'{i}') for i in range(WRITERS)]:
        child.result(100)
    # Each thread may still have an answer to finish.
    warmfs.wait_until(lambda: Held(mount.pid).threads <= before.threads + 10, what=lambda: Held(mount.pid))
    after = Held(mount.pid)
    print(f'{before}; {after}')
    if warmfs.SLOW == 1:
        assert after.memory <= before.memory + 16 * MI
