# SPDX-License-Identifier: Apache-2.0
"""FUSE over io_uring, which the kernel allows only where its administrator says so."""

import contextlib
import pathlib

import pytest

import threads
import warmfs

ENABLE = pathlib.Path('/sys/module/fuse/parameters/enable_uring')


@contextlib.contextmanager
def uring_enabled():
    """Lets filesystems ask for it, and puts the kernel's switch back; skips the test where there is none."""
    try:
        before = ENABLE.read_text()
        ENABLE.write_text('Y')
    except OSError as error:
        pytest.skip(f'the kernel does not allow FUSE over io_uring: {error}')
    try:
        yield
    finally:
        ENABLE.write_text(before)


def require_rings(mount):
    """Skips the test where the mount has none."""
    # They come with the first answer to the kernel, which may be later than the mount.
    try:
        warmfs.wait_until(lambda: any('ring' in name for name in threads.names(mount.pid).values()), 5, 'threads of rings')
    except warmfs.TestError as reason:
        pytest.skip(str(reason))
