# SPDX-License-Identifier: Apache-2.0
"""Running unmodified programs in tests: as another user, with time limits, and never longer than their test."""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess

import threads
import warmfs
from warmfs import SLOW, TestError, wait_until


def find_program(name, *directories):
    """The path of an installed program; one that is missing is an error and no reason to skip."""
    path = shutil.which(name, path=os.pathsep.join(str(directory) for directory in directories) or None)
    if not path:
        raise TestError(f'{name} is not installed (mount-helpers/install-deps --tests installs it)')
    return path


def clean_environment(**added):
    """Nothing in it that would configure a program, and no proxy between it and the loopback."""
    return {'PATH': os.defpath, 'LC_ALL': 'C', 'TZ': 'UTC', **added}


def identity(user):
    """What subprocess needs to know to become that user; None stays as it is."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {'user': entry.pw_uid, 'group': entry.pw_gid, 'extra_groups': []}


def free_ports(count):
    """That many TCP ports of the loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(('127.0.0.1', 0))
            found.append(one.getsockname()[1])
        return found


def port_is_open(port):
    with socket.socket() as one:
        return one.connect_ex(('127.0.0.1', port)) == 0


def descendants(pid):
    found = []
    for children in threads.read_each(pid, 'children').values():
        for child in children.split():
            found += [int(child), *descendants(int(child))]
    return found


def ended(pid):
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except OSError:
        return True


def run_as(user, *argv, seconds=60, environment=None):
    """A command that has to succeed within the time; its standard output."""
    command = [str(word) for word in argv]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=environment or clean_environment(), timeout=seconds * SLOW, cwd='/',
                              preexec_fn=warmfs.die_with_parent, **identity(user))
    except subprocess.TimeoutExpired as error:
        raise TestError(f'{command} runs longer than {seconds} s: {error.stdout} {error.stderr}') from None
    if done.returncode != 0:
        raise TestError(f'{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


class Application:
    """A running program. It, and what it has started, ends with stop(), kill() or close() or with the test.

    Its output goes to `log_path`, unless `piped`: then standard input and output are pipes of the test's.
    """

    def __init__(self, *argv, log_path, user=None, end_signal=signal.SIGTERM, piped=False, environment=None):
        self.name = os.path.basename(argv[0])
        self.log_path = pathlib.Path(log_path)
        self.end_signal = end_signal
        with open(self.log_path, 'ab') as log:
            # Only from the main thread: the kernel takes the end of the starting thread for the parent's.
            self.process = subprocess.Popen(
                [str(word) for word in argv], stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else log, stderr=log, env=environment or clean_environment(),
                text=piped, cwd='/', preexec_fn=warmfs.die_with_parent, **identity(user))
        warmfs.LIVE.append(self)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log(self):
        return self.log_path.read_text(errors='replace')

    def wait_until(self, condition, seconds, what):
        """Waits for something that the program does; its end ends the waiting."""
        wait_until(lambda: not self.alive() or condition(), seconds, f'{self.name}: {what}')
        if not self.alive():
            raise TestError(f'{self.name} ended with {self.process.returncode}, before {what}:\n{self.log()[-4000:]}')

    def wait(self, seconds=30):
        """Its exit status, once it has ended."""
        wait_until(lambda: not self.alive(), seconds, f'the end of {self.name}')
        self._forget()
        return self.process.returncode

    def kill(self):
        """SIGKILL, to its children as well: what a crash is to the files."""
        pids = [self.pid, *descendants(self.pid)] if self.alive() else []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10 * SLOW)
        wait_until(lambda: all(ended(pid) for pid in pids), what=f'the children of {self.name}')
        self._forget()

    def close(self):
        """Ends it whatever it does: asks first, so that it can tidy up what is not in files."""
        if self.alive():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.send_signal(self.end_signal)
                self.process.wait(5 * SLOW)
        self.kill()

    abort = close

    def _forget(self):
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(ValueError):
            warmfs.LIVE.remove(self)


class PoolShare:
    """How many of an application's segments came ready from the pool, by warmfs's own counters.

    The first two do not count: the application may be quicker than a pool that has only just been mounted.
    """

    def __init__(self, mount, name=None):
        self.mount = mount
        self.name = name
        self.hits = self.waits = 0
        first = mount.counters(name)
        self.before = first
        if first['hits'] + first['waits'] > 2:
            raise TestError(f'too late to leave out the first two: {first}')

    def read(self):
        now = self.mount.counters(self.name)
        self.hits = now['hits'] - self.before['hits']
        self.waits = now['waits'] - self.before['waits']
        return now

    @property
    def total(self):
        return self.hits + self.waits

    def __str__(self):
        share = f'{100 * self.hits / self.total:.1f} %' if self.total else 'none'
        return f'{self.hits} of {self.total} segments came ready from the pool ({share})'

    def require(self, at_least):
        """More than 90 % of at least that many."""
        assert self.total >= at_least, f'only {self.total} segments were asked for, not {at_least}: {self.read()}'
        assert self.hits > 0.9 * self.total, f'{self}: {self.read()}'
