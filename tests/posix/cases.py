# SPDX-License-Identifier: Apache-2.0
"""How the cases of tests/posix are written and run.

A case is a function of a Place, a directory of its own, that does things there and returns what it saw. It is run
natively first, and what it returns there is what it has to return on every path (tests/posix/paths.py), for every kind
of segment it is meant for. So it returns nothing that differs between two native runs: no inode numbers, no absolute times.
Each run is a process of its own, which may change its user, umask, directory and limits.

    area = Area()

    @area.case(kinds=ALL)
    def write_then_read(place): ...

    test_area = area.test()
"""

import os
import pathlib
import stat
import sys

import pytest

from paths import GROUP, EXTRA_GROUP, SEGMENT_SIZE, SUFFIXES, USER
from warmfs import Child, error_name, tick

ALL = tuple(SUFFIXES)
PATHS = ('passthrough', 'daemon', 'io_uring', 'user')
# Otherwise, what differs least from another combination is left out.
LONG = bool(os.environ.get('WARMFS_TEST_LONG'))
# A case has some thousand files, or a hundred thousand.
RUN_SECONDS = 240 if LONG else 30


class Place:
    """The directory of one run of a case."""

    def __init__(self, directory, kind, path):
        self.directory = pathlib.Path(directory)
        self.kind = kind
        # 'native', or one of PATHS.
        self.path = path

    def __truediv__(self, name):
        return self.directory / name

    def __fspath__(self):
        return str(self.directory)

    def file(self, name='file'):
        """The name of a file of the case's kind."""
        return self.directory / (name + SUFFIXES[self.kind])

    def create(self, name='file', flags=os.O_RDWR, mode=0o644):
        """Makes a file of the case's kind. What a `mapped` segment is born as, a native file is made to be."""
        if self.kind == 'mapped' and self.path == 'native':
            return self._create_full(self.file(name), flags, mode)
        return os.open(self.file(name), flags | os.O_CREAT | os.O_EXCL, mode)

    @staticmethod
    def _create_full(path, flags, mode):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        real = os.fstat(fd).st_mode & 0o7777
        os.posix_fallocate(fd, 0, SEGMENT_SIZE)
        os.fchmod(fd, real)
        if flags != os.O_RDWR:
            os.fchmod(fd, 0o600)
            os.close(fd)
            fd = os.open(path, flags)
            os.fchmod(fd, real)
        return fd

    def make(self, name='file', data=b'0123456789', mode=0o644):
        """A closed file of the case's kind that holds exactly the data."""
        fd = self.create(name, mode=mode)
        os.write(fd, data)
        os.ftruncate(fd, len(data))
        os.close(fd)
        return self.file(name)


class Difference:
    """A known difference: what to expect on a path instead of what the native run gave, and why."""

    def __init__(self, reason, expect, paths=PATHS, kinds=ALL):
        self.reason = reason
        self.expect = expect
        self.paths = paths
        self.kinds = kinds


class Case:
    def __init__(self, function, kinds, root, differs, splices):
        self.function = function
        self.splices = splices
        self.kinds = kinds
        self.root = root
        self.differs = differs

    def expected(self, native, path, kind):
        for known in self.differs:
            if path in known.paths and kind in known.kinds:
                return known.expect(native)
        return native


class Area:
    def __init__(self):
        self.cases = {}
        self.native_results = {}

    def case(self, kinds=('plain',), root=False, differs=(), splices=False):
        """`root`: acts as other users or needs privileges, and so has nothing to do on the user's own mount.

        `splices`: copies in the kernel, which over io_uring is refused for `append` segments (see test_data's spliced).
        """
        def register(function):
            assert function.__name__ not in self.cases, function.__name__
            self.cases[function.__name__] = Case(function, kinds, root, differs, splices)
            return function
        return register

    def parameters(self):
        for name, case in self.cases.items():
            for kind in case.kinds:
                for path in PATHS if LONG or kind in ('plain', 'append') else PATHS[:2]:
                    if not (path == 'user' and case.root or path == 'io_uring' and kind == 'append' and case.splices):
                        label = name if kind == 'plain' else f'{name}-{kind}'
                        yield pytest.param(name, kind, path, id=f'{label}-{path}')

    def native_result(self, ground, name, kind, user):
        key = name, kind, user
        if key not in self.native_results:
            root = ground.native(user)
            self.native_results[key] = self.run(name, kind, 'native', root, root, user)
        return self.native_results[key]

    def run(self, name, kind, path, origin, view, user):
        """One run, below `view`. What that shows is at `origin`: root itself may not be allowed into a user's mount."""
        directory = f'{self.room}-{name}-{kind}'
        (origin / directory).mkdir()
        (origin / directory).chmod(0o777)
        if user:
            os.chown(origin / directory, USER, GROUP)
        who = {'uid': USER, 'gid': GROUP, 'groups': [EXTRA_GROUP]} if user else {}
        return Child(self.cases[name].function, Place(view / directory, kind, path), **who).result(RUN_SECONDS)

    def run_on(self, ground, name, kind, path):
        user = path == 'user'
        expected = self.cases[name].expected(self.native_result(ground, name, kind, user), path, kind)
        mount = ground.mount(path)
        seen = self.run(name, kind, path, mount.source, mount.point, user)
        assert mount.alive(), mount.report()
        if seen != expected:
            pytest.fail('\n'.join([*differences(expected, seen), mount.report()]), pytrace=False)

    def test(self):
        """The test function of the area, for the module to keep."""
        self.room = sys._getframe(1).f_globals['__name__'].removeprefix('test_')

        @pytest.mark.limit(2 * RUN_SECONDS)
        @pytest.mark.parametrize('name, kind, path', self.parameters())
        def test_area(ground, name, kind, path):
            self.run_on(ground, name, kind, path)
        return test_area


def differences(native, mount, where=''):
    """Lines that say where two things differ, however deep."""
    if type(native) is type(mount) and isinstance(native, (list, tuple)) and len(native) == len(mount):
        pairs = [(f'{where}[{i}]', a, b) for i, (a, b) in enumerate(zip(native, mount))]
    elif isinstance(native, dict) and isinstance(mount, dict) and native.keys() == mount.keys():
        pairs = [(f'{where}[{key!r}]', native[key], mount[key]) for key in native]
    else:
        return [] if native == mount else [f'{where}: native {native!r:.300}, mount {mount!r:.300}']
    return [line for name, a, b in pairs for line in differences(a, b, name)][:20]


# What cases say of what they see

def call(function, *args, **named):
    """What a call gave: its value, or the name of its errno."""
    try:
        return function(*args, **named)
    except OSError as error:
        return error_name(error.errno)


def opened(path, flags=os.O_RDONLY, mode=0o666, **named):
    """Opens and closes; 'ok' or the name of the errno."""
    fd = call(os.open, path, flags, mode, **named)
    if isinstance(fd, int):
        os.close(fd)
        return 'ok'
    return fd


def facts(path, follow=False):
    """What stat says that must be the same for two files made alike. A path or a descriptor."""
    status = os.stat(path) if isinstance(path, int) else os.stat(path, follow_symlinks=follow)
    return facts_of(status)


def facts_of(status):
    found = {'mode': oct(status.st_mode), 'nlink': status.st_nlink, 'uid': status.st_uid, 'gid': status.st_gid,
             'rdev': status.st_rdev}
    if not stat.S_ISDIR(status.st_mode):
        found['size'] = status.st_size
    return found


def content(path):
    with open(path, 'rb') as file:
        return file.read()


def times(path):
    status = os.stat(path) if isinstance(path, int) else os.lstat(path)
    return status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns


def moved(path, act):
    """Which of atime, mtime, ctime an action moves."""
    if not isinstance(path, int):
        os.utime(path, ns=(10**9, 10**9), follow_symlinks=False)
    tick()
    before = times(path)
    result = act()
    return result, ''.join(letter for letter, a, b in zip('amc', before, times(path)) if a != b)
