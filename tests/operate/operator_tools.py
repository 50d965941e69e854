# SPDX-License-Identifier: Apache-2.0
"""Commands as an operator gives them, and mounts that are not the tests' own children."""

import contextlib
import os
import pathlib
import subprocess
import tempfile

import warmfs
from warmfs import SLOW, TestError, mounts_at, umount, wait_until


def daemons_of(point):
    """The processes of warmfs that serve a mount point (or are about to end that)."""
    found = []
    for entry in pathlib.Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / 'cmdline').read_bytes().split(b'\0')
            state = (entry / 'stat').read_text().rpartition(')')[2].split()[0]
            if b'warmfs' in words[0] and os.fsencode(point) in words and state != 'Z':
                found.append(int(entry.name))
    return found


class Mounted:
    """What may be mounted at a place, by whatever command; gone at the end of the test."""

    def __init__(self, point):
        self.point = pathlib.Path(point)
        warmfs.LIVE.append(self)

    def entry(self):
        """Its line of the mount table, or None."""
        ours = [entry for entry in mounts_at(self.point) if entry.fstype == 'fuse.warmfs']
        return ours[-1] if ours else None

    def pid(self):
        return daemons_of(self.point)[-1]

    def wait_gone(self):
        wait_until(lambda: not self.entry() and not daemons_of(self.point), 30, f'the end of {self.point}')

    def abort(self):
        while entry := self.entry():
            warmfs.abort_connection(entry.dev)
            umount(self.point, warmfs.MNT_DETACH)

    def close(self):
        self.abort()
        warmfs.LIVE.remove(self)
        self.wait_gone()


class Outcome:
    def __init__(self, command, status, stdout, stderr):
        self.command = command
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def require(self):
        if self.status != 0:
            raise TestError(f'{self.command}: exit status {self.status}\n{self.stdout}{self.stderr}')
        return self


def command(*argv, stderr=None, **options):
    """Runs it to its end. Files, not pipes: a daemon that it leaves behind must not keep them open."""
    words = [str(word) for word in argv]
    with contextlib.ExitStack() as stack:
        out, err = (stack.enter_context(tempfile.TemporaryFile('w+')) for _ in range(2))
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=stderr or err, timeout=60 * SLOW,
                              env=dict(os.environ, LC_ALL='C', **options.pop('environment', {})), **options)
        out.seek(0)
        err.seek(0)
        return Outcome(words, done.returncode, out.read(), err.read())
