# SPDX-License-Identifier: Apache-2.0
"""A test is worth something if it fails where its fault is: each fault is brought back, in a copy, and its tests must see it.

Takes minutes, of which most is compiling, so it is a part of the long run only.
"""

import os
import pathlib
import re
import resource
import shutil
import subprocess

import pytest

import warmfs
from variants import VARIANTS, program

ROOT = pathlib.Path(__file__).resolve().parents[3]
# A test that fails waits for half a minute first, if it is for something that does not come.
SECONDS = 240 * warmfs.SLOW
TESTS = sorted({variant.test for variant in VARIANTS})

pytestmark = [
    pytest.mark.limit(2 * SECONDS),
    pytest.mark.skipif(not os.environ.get('WARMFS_TEST_LONG'), reason='a part of the long run (tests/run --long)'),
]


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


class Copy:
    """Of what the tests of alloc/ are built from."""

    def __init__(self, directory):
        self.root = directory / 'copy'
        self.tmp = directory / 'tmp'
        self.tmp.mkdir()
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns('build*', '.git', '__pycache__'), symlinks=True)
        run('meson', 'setup', '--buildtype=debugoptimized', 'build', cwd=self.root)

    def passes(self, test):
        name = f'test-{program(test)}'
        run('ninja', '-C', 'build', f'tests/{name}', cwd=self.root)
        done = subprocess.run([self.root / 'build/tests' / name, '-p', test], cwd=self.root / 'build', timeout=SECONDS,
                              env={**os.environ, 'TMPDIR': str(self.tmp)}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
        print(done.stdout[-2000:], done.stderr[-2000:])
        # GTest succeeds, too, where there is no such test.
        assert done.returncode != 0 or f' {test}\n' in done.stdout, f'{name} has no test {test}'
        return done.returncode == 0


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    directory = tmp_path_factory.mktemp('faulty')
    # What a test that fails leaves goes with these.
    warmfs.run('mount', '-t', 'tmpfs', 'none', '/dev/shm')
    yield Copy(directory)
    warmfs.umount('/dev/shm')
    shutil.rmtree(directory)


def test_there_is_a_variant_for_each_test():
    readme = (ROOT / 'tests/alloc/README.md').read_text()
    listed = [test for line in readme.splitlines() if re.match(r'\| B\d+ ', line) for test in re.findall(r'`(/[^`]+)`', line)]
    assert sorted(listed) == TESTS


@pytest.mark.parametrize('test', TESTS, ids=lambda test: test.split('/')[-1])
def test_passes_without_its_fault(copy, test):
    assert copy.passes(test)


@pytest.mark.parametrize('variant', VARIANTS, ids=lambda variant: f'{variant.test.split("/")[-1]}-{variant.file}')
def test_fails_with_its_fault(copy, variant):
    path = copy.root / 'alloc' / variant.file
    right = path.read_text()
    assert right.count(variant.right) == 1, f'alloc/{variant.file} has changed: the variant must, too'
    path.write_text(right.replace(variant.right, variant.wrong))
    try:
        assert not copy.passes(variant.test)
    finally:
        path.write_text(right)
