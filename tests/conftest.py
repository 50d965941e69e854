# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a mount namespace, a time limit for each test, and things that end with it."""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback

import pytest

import warmfs

DEFAULT_LIMIT_SECONDS = 60
# After the forced end of what a test started, so long until it is itself interrupted ...
INTERRUPT_SECONDS = 5
# ... and then until the whole run is given up.
GRACE_SECONDS = 30


class TimeLimit(Exception):
    """Raised in the main thread, where even a blocked read of a pipe ends with it."""


def pytest_sessionstart(session):
    if session.config.option.collectonly:
        return
    if os.geteuid() != 0:
        pytest.exit('the tests mount filesystems: run them as root', returncode=1)
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        pytest.exit('/dev/fuse is missing', returncode=1)
    if not warmfs.BINARY.exists():
        pytest.exit(f'{warmfs.BINARY} is not built', returncode=1)
    signal.signal(signal.SIGALRM, interrupted)
    warmfs.enter_private_mounts()
    # Modes are compared; tests that want another umask set it.
    os.umask(0o022)


def interrupted(number, frame):
    raise TimeLimit


class Limit:
    """Ends, by force and from a thread of its own, what a test started once its time is over."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.over = False
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        if self.done.wait(self.seconds):
            return
        self.over = True
        self._end_all()
        if self.done.wait(INTERRUPT_SECONDS):
            return
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        if self.done.wait(GRACE_SECONDS):
            return
        # Not even that helped. The namespace and the death signals take care of what is left.
        print('\nthe test does not end; giving up the run', file=sys.__stderr__)
        faulthandler.dump_traceback(file=sys.__stderr__)
        os._exit(3)

    @staticmethod
    def _end_all():
        # Processes first: a mount's end lets them go, and then they would go on.
        for thing in list(warmfs.LIVE):
            try:
                thing.abort()
            except Exception:
                traceback.print_exc(file=sys.__stderr__)

    def stop(self):
        self.done.set()
        self.thread.join()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    marker = item.get_closest_marker('limit')
    seconds = marker.args[0] if marker else DEFAULT_LIMIT_SECONDS
    item.warmfs_limit = Limit(seconds * warmfs.SLOW)
    yield
    item.warmfs_limit.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if item.warmfs_limit.over and report.when == 'call':
        report.outcome = 'failed'
        report.longrepr = f'time limit of {item.warmfs_limit.seconds:.0f} s exceeded\n{report.longreprtext}'
    if report.when == 'call':
        item.warmfs_passed = report.passed


@pytest.fixture
def workdir():
    """A directory of the test's own, gone after it."""
    path = warmfs.make_workdir()
    yield path
    warmfs.remove_workdir(path)


@pytest.fixture
def children():
    """Registers processes to kill at the end: children.append(Child(...)) or children.start(...)."""

    class Children(list):
        def start(self, *args, **options):
            self.append(warmfs.Child(*args, **options))
            return self[-1]

    started = Children()
    yield started
    for child in started:
        child.kill()
    for child in started:
        child.wait()


@pytest.fixture
def stack():
    """Context managers that end with the test, after its mounts."""
    with contextlib.ExitStack() as things:
        yield things


@pytest.fixture
def warm(request, workdir, stack):
    """Starts mounts: warm('match=*.seg', 'size=1M'). `over` mounts over the source; all end with the test.

    A mount that still runs when the test has passed must end cleanly.
    """
    started = []

    def start(*options, source=None, point=None, over=False, **named):
        if source is None:
            source = workdir / 'source'
            source.mkdir(exist_ok=True)
        if point is None:
            point = source if over else workdir / 'mnt'
        point.mkdir(exist_ok=True)
        started.append(warmfs.Mount(source, point, *options, workdir=workdir, **named))
        return started[-1]

    yield start
    failures = []
    for mount in reversed(started):
        try:
            if mount.alive() and getattr(request.node, 'warmfs_passed', False):
                mount.stop()
        except BaseException as error:
            failures.append(error)
        finally:
            mount.close()
        if not getattr(request.node, 'warmfs_passed', False):
            print(mount.report())
    if failures:
        raise failures[0]


@pytest.fixture
def faults(workdir):
    return warmfs.Faults(workdir)
