# SPDX-License-Identifier: Apache-2.0
"""Several processes that know what must be in their files (exerciser.c), on files of every kind at the same time.

Environment:
  WARMFS_EXERCISER  the program (default: build/tests/stress/exerciser)
  WARMFS_TEST_SEED  the seed; a random one otherwise, which is printed
  WARMFS_TEST_LONG  many times as long
"""

import os
import pathlib
import random

import pytest

import uring
import warmfs
from program import Program
from warmfs import KI

EXERCISER = pathlib.Path(os.environ.get('WARMFS_EXERCISER', warmfs.TREE / 'build/tests/stress/exerciser'))
SEED = int(os.environ.get('WARMFS_TEST_SEED', random.randrange(1 << 32)))
SECONDS = 120 if os.environ.get('WARMFS_TEST_LONG') else 4

CAPACITY = 256 * KI
KINDS = ('mapped', 'append', 'stream')
# Segments are sealed while the exerciser rests, too.
LINGER = {'append': 'linger=10\n', 'stream': 'linger=10\n'}
TRANSIENT = 'transient=on\ntransient_pool_size=2\ncommit_interval=1\ncommit_least_pages=0\nflush_interval=20\n'
PATHS = {'passthrough': [], 'daemon': ['passthrough=off'], 'io_uring': ['io_uring'], 'transient': []}


def classes(path):
    return ''.join(f'[class {kind}]\nmatch=*.{kind}\nsize={CAPACITY}\nkind={kind}\nahead=3\n' + LINGER.get(kind, '') +
                   (TRANSIENT if path == 'transient' and kind == 'append' else '') for kind in KINDS)


def exercise(directory, path):
    born = {kind: CAPACITY if kind == 'mapped' and path != 'native' else 0 for kind in ('plain', *KINDS)}
    status, text = Program(EXERCISER, '--dir', directory, '--seconds', SECONDS, '--seed', SEED,
                           *[f'--kind=.{kind}:{size}' for kind, size in born.items()],
                           *(['--copy-is-refused'] if path == 'io_uring' else [])).finish()
    print(text)
    assert status == 0, f'WARMFS_TEST_SEED={SEED}'


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


pytestmark = pytest.mark.limit(60 + 3 * SECONDS)


def test_natively(workdir):
    """What is wrong on a mount must not be wrong here."""
    exercise(workdir, 'native')


@pytest.mark.parametrize('path', PATHS)
def test_on_a_mount(warm, stack, path):
    if path == 'io_uring':
        stack.enter_context(uring.uring_enabled())
    mount = warm(*PATHS[path], config=classes(path))
    if path == 'io_uring':
        uring.require_rings(mount)
    for kind in KINDS:
        mount.wait_ready(3, kind)
    exercise(mount.point, path)
    left = contents(mount.point)
    mount.stop()
    assert contents(mount.source) == left
    assert all(mount.last_counters(kind)['hits'] for kind in KINDS)
