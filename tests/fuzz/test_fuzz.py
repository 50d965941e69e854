# SPDX-License-Identifier: Apache-2.0
"""Random operations on a native file and on its twin in a mount must come to the same (fuzz-file-ops.c).

Environment:
  WARMFS_FUZZ       the fuzzer (default: build/tests/fuzz/fuzz-file-ops)
  WARMFS_TEST_SEED  the seed, to see a failure again; a random one otherwise, which is printed
  WARMFS_TEST_LONG  a million operations instead of some tens of thousands
"""

import os
import pathlib
import random

import pytest

import warmfs
from program import Program
from warmfs import KI, MI

FUZZ = pathlib.Path(os.environ.get('WARMFS_FUZZ', warmfs.TREE / 'build/tests/fuzz/fuzz-file-ops'))
SEED = int(os.environ.get('WARMFS_TEST_SEED', random.randrange(1 << 32)))
LONG = bool(os.environ.get('WARMFS_TEST_LONG'))
N_OPS = 1_000_000 if LONG else 20_000
LIMIT_SECONDS = 3600 if LONG else 180
# Of `append` segments. The fuzzer closes everything at times and waits for longer than that.
LINGER_MS = 20
# Segments of these are sealed when it is over.
LIVE_KINDS = ('append', 'stream')

# Commits at all times, and few buffers.
TRANSIENT = ['transient=on', 'transient_pool_size=2', 'commit_interval=1', 'commit_least_pages=0',
             'flush_interval=20', 'transient_flush_least_pages=0']

# What the kind, the mount and the fuzzer are told. Times are exact only without an attribute cache: stores through
# a mapping are not seen by it.
VARIANTS = {
    'plain': ('plain', [], []),
    'mapped': ('mapped', [], []),
    'stream': ('stream', [], []),
    'append': ('append', [], []),
    'mapped-daemon': ('mapped', ['passthrough=off'], ['--through-daemon']),
    'stream-daemon': ('stream', ['passthrough=off'], ['--through-daemon']),
    'append-daemon': ('append', ['passthrough=off'], ['--through-daemon']),
    'append-transient': ('append', ['passthrough=off', *TRANSIENT], ['--through-daemon']),
    'append-transient-mixed': ('append', TRANSIENT, ['--mixed']),
    'mapped-cached-attributes': ('mapped', ['attr_timeout=1'], ['--no-times']),
    'stream-cached-attributes': ('stream', ['attr_timeout=1'], ['--no-times']),
    'append-cached-attributes': ('append', ['attr_timeout=1'], ['--no-times']),
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def class_options(kind, capacity):
    if kind == 'plain':
        return ['match=none', 'size=64K']
    linger = [f'linger={LINGER_MS}'] if kind in LIVE_KINDS else []
    return ['match=*.seg', f'size={capacity}', f'kind={kind}', 'ahead=2', *linger]


def describe(path):
    """What a file is, and its bytes."""
    attr = os.stat(path)
    return (attr.st_mode, attr.st_uid, attr.st_gid, attr.st_nlink, attr.st_size), path.read_bytes()


@pytest.mark.limit(LIMIT_SECONDS)
def test_same_as_native(warm, workdir, variant):
    kind, mount_options, fuzz_options = variant
    capacity = random.Random(SEED).choice([256 * KI, 260 * KI, 1 * MI])
    mount = warm(*class_options(kind, capacity), *(mount_options or []),
                 *([] if any('attr_timeout' in option for option in mount_options) else ['attr_timeout=0']))
    native = workdir / 'native'
    native.mkdir()
    status, text = Program(FUZZ, '--native', native, '--mount', mount.point, '--kind', kind, '--capacity', capacity,
                           '--seed', SEED, '--ops', N_OPS, *(['--linger', LINGER_MS] if kind in LIVE_KINDS else []),
                           *fuzz_options).finish()
    print(f'WARMFS_TEST_SEED={SEED}\n{text}')
    assert status == 0, f'seed {SEED}'
    # The last sequence's files are still there: plain ones of the same bytes, without the mount.
    mount.stop()
    names = sorted(os.listdir(native))
    assert sorted(name for name in os.listdir(mount.source) if name != '.warmfs') == names
    for name in names:
        assert describe(mount.source / name) == describe(native / name), name
