# SPDX-License-Identifier: Apache-2.0
"""Over io_uring: what one thread asks for, another one answers."""

import concurrent.futures
import os

import uring
from warmfs import KI

SEGMENT = 64 * KI
# More than have room in the rings of one processor at a time.
CALLERS = 12
CREATES = 60


def create_and_look(directory):
    directory.mkdir()
    for i in range(CREATES):
        path = directory / f'{i}.seg'
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        assert os.stat(path).st_size == SEGMENT
        os.statvfs(directory)
    return sorted(path.name for path in directory.iterdir())


def test_creates_that_wait(warm, stack):
    """Each is answered by a thread of the allocate service, while the ring's own answers others. TSan sees that go wrong."""
    stack.enter_context(uring.uring_enabled())
    mount = warm('match=**/*.seg', f'size={SEGMENT}', 'ahead=0', 'threads=2', 'timeout=60s',
                 'io_uring')
    uring.require_rings(mount)
    directories = [mount.point / str(i) for i in range(CALLERS)]
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as callers:
        for names in callers.map(create_and_look, directories):
            assert names == sorted(f'{i}.seg' for i in range(CREATES))
    mount.stop()
    assert mount.last_counters()['waits'] == CALLERS * CREATES
