# SPDX-License-Identifier: Apache-2.0
"""Filesystems on a disk that remembers every write and flush (block-recorder.c)."""

import contextlib
import errno
import os
import pathlib
import subprocess

import warmfs
from replay import copy_sparse
from warmfs import MI, SLOW, loop_device, mounted, mounted_image, run, wait_until

TOOLS = pathlib.Path(os.environ.get('WARMFS_CRASH_TOOLS', warmfs.TREE / 'build/tests/crash'))


class Filesystem:
    """How it is made, and what a disk must not tear (replay.torn)."""

    def __init__(self, mkfs, size, whole_bytes):
        self.mkfs = mkfs
        self.size = size
        self.whole_bytes = whole_bytes

    def make_image(self, workdir):
        """An empty one, with the directory that is to be served."""
        image = workdir / 'base.img'
        with open(image, 'wb') as file:
            file.truncate(self.size)
        run(*self.mkfs, image)
        with mounted_image(image, workdir / 'top') as top:
            (top / 'source').mkdir()
        return image


# The recovery of XFS takes the first sector of a block for all of it: where that is new, it leaves the rest as it is, and
# then finds the block damaged ("Bad message"). That is between XFS and its disk.
FILESYSTEMS = {
    'ext4': Filesystem(['mkfs.ext4', '-q', '-F'], 64 * MI, 512),
    'xfs': Filesystem(['mkfs.xfs', '-q', '-f'], 320 * MI, 4096),
}


def gone(point):
    """Whether it could be unmounted: who looks at all loop devices just then keeps the file of one that has ended for a
    moment."""
    try:
        warmfs.umount(point)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@contextlib.contextmanager
def recording_disk(directory, base):
    """A loop device with the bytes of an image, whose every write and flush goes to a log: yields the path of both.

    The log stays; the directory must be the recording's own.
    """
    directory.mkdir()
    image, log, point = directory / 'disk.img', directory / 'disk.log', directory / 'recorder'
    copy_sparse(base, image)
    log.touch()
    point.mkdir()
    with subprocess.Popen([TOOLS / 'block-recorder', image, log, point], stdin=subprocess.DEVNULL,
                          preexec_fn=warmfs.die_with_parent) as recorder:
        try:
            wait_until((point / 'disk').exists, what='the block recorder')
            with loop_device(point / 'disk', '--direct-io=on') as device:
                yield device, log
            wait_until(lambda: gone(point), what=f'the end of {point}')
            recorder.wait(60 * SLOW)
        finally:
            recorder.kill()
            image.unlink()


@contextlib.contextmanager
def recording_mount(directory, base):
    """The image's filesystem, mounted from such a disk: yields the mount point and the log."""
    with recording_disk(directory, base) as (device, log), mounted(device, directory / 'top') as top:
        yield top, log
