# SPDX-License-Identifier: Apache-2.0
"""The ways that data takes, each with a mount of its own, and the native directory beside them.

All are on one ext4 of their own, so that nothing but warmfs makes a difference.
"""

import os
import pwd
import shutil
import stat

import pytest

import uring
import warmfs
from warmfs import MI

# fusermount3 wants a user with a name.
USER = pwd.getpwnam('daemon').pw_uid
GROUP, EXTRA_GROUP, STRANGER = 12346, 12347, 54321

# Of 64 KiB, so that cases reach their ends.
SEGMENT_SIZE = 64 * 1024
SUFFIXES = {'plain': '', 'mapped': '.map', 'append': '.app', 'stream': '.str'}
CLASSES = ''.join(f'[class {kind}]\nmatch=**/*{suffix}\nsize=64K\nkind={kind}\nahead=4\n'
                  for kind, suffix in SUFFIXES.items() if suffix)


def become_user():
    os.setgroups([EXTRA_GROUP])
    os.setresgid(GROUP, GROUP, GROUP)
    os.setresuid(USER, USER, USER)
    warmfs.die_with_parent()


def allow_fuse_to_users(workdir):
    """A device that everybody may open, as most systems have it, in the tests' own namespace where this one has not."""
    device = os.stat('/dev/fuse')
    if device.st_mode & 0o006 == 0o006:
        return
    mine = workdir / 'fuse'
    os.mknod(mine, stat.S_IFCHR, device.st_rdev)
    mine.chmod(0o666)
    warmfs.run('mount', '--bind', mine, '/dev/fuse')


class Ground:
    """The filesystem, its native directories, and the mounts, made when first wanted."""

    OPTIONS = {
        'passthrough': ['dev,suid'],
        'daemon': ['dev,suid', 'passthrough=off'],
        'io_uring': ['dev,suid', 'io_uring'],
        'user': [],
    }

    def __init__(self, stack):
        self.stack = stack
        self.workdir = warmfs.make_workdir()
        stack.callback(warmfs.remove_workdir, self.workdir)
        # The long directories are not the only ones that have files.
        inodes = ('-N', str(1 << 20)) if os.environ.get('WARMFS_TEST_LONG') else ()
        self.base = stack.enter_context(warmfs.loop_fs('ext4', 1536 * MI, self.workdir, inodes))
        self.mounts = {}
        self.config = self.workdir / 'classes.conf'
        self.config.write_text(CLASSES)
        self.config.chmod(0o644)

    def _directory(self, name, user):
        path = self.base / name
        if not path.exists():
            path.mkdir()
            if user:
                os.chown(path, USER, GROUP)
        return path

    def native(self, user):
        """The oracle's directory: of root, or of the user whose mount it is compared with."""
        return self._directory('native-user' if user else 'native', user)

    def mount(self, path):
        """The running mount of a path; one that a case has killed is made anew. Skips the test where there can be none."""
        found = self.mounts.get(path)
        if isinstance(found, pytest.skip.Exception):
            raise found
        if found is None or not found.alive():
            try:
                found = self.mounts[path] = self._start(path)
            except pytest.skip.Exception as error:
                self.mounts[path] = error
                raise
        return found

    def _start(self, path):
        user = path == 'user'
        named = {}
        if path == 'io_uring':
            self.stack.enter_context(uring.uring_enabled())
        if user:
            if not shutil.which('fusermount3'):
                pytest.skip('there is no fusermount3')
            allow_fuse_to_users(self.workdir)
            self.stack.callback(lambda: warmfs.libc.umount2(b'/dev/fuse', warmfs.MNT_DETACH))
            # Where the user can reach it.
            named = {'before': become_user, 'binary': shutil.copy(warmfs.BINARY, self.workdir / 'warmfs')}
        mount = warmfs.Mount(self._directory(f'source-{path}', user), self._directory(f'mnt-{path}', user),
                             *self.OPTIONS[path], f'config={self.config}', workdir=self.workdir, **named)
        self.stack.callback(mount.close)
        if path == 'io_uring':
            uring.require_rings(mount)
        return mount

    def stop(self):
        for mount in self.mounts.values():
            if isinstance(mount, warmfs.Mount) and mount.alive():
                mount.stop()
