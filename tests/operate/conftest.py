# SPDX-License-Identifier: Apache-2.0
"""What an operator does by hand: mounts by mount(8) in the tests' own mount namespace, ended with their test."""

import contextlib
import os
import pathlib

import pytest

import warmfs
from operator_tools import Mounted
from warmfs import libc, umount

MS_BIND = 0x1000


def bind(what, where):
    warmfs.check(libc.mount(os.fsencode(what), os.fsencode(where), None, MS_BIND, None))


@pytest.fixture(scope='session')
def helpers(tmp_path_factory):
    """/sbin as it is after an installation: mount(8) looks for its helpers nowhere else. In this namespace only."""
    sbin = pathlib.Path('/sbin').resolve()
    place = tmp_path_factory.mktemp('sbin')
    original, changed = place / 'original', place / 'changed'
    original.mkdir()
    changed.mkdir(mode=0o755)
    for name in os.listdir(sbin):
        (changed / name).symlink_to(original / name)
    for name in ('mount.warmfs', 'mount.fuse.warmfs'):
        (changed / name).symlink_to(warmfs.BINARY)
    with contextlib.ExitStack() as undo:
        bind(sbin, original)
        undo.callback(umount, original, warmfs.MNT_DETACH)
        bind(changed, sbin)
        undo.callback(umount, sbin, warmfs.MNT_DETACH)
        yield


@pytest.fixture
def mounted():
    """Minds a mount point: mounted(path)."""
    with contextlib.ExitStack() as stack:
        def mind(point):
            one = Mounted(point)
            stack.callback(one.close)
            return one

        yield mind
