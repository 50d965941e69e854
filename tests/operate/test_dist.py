# SPDX-License-Identifier: Apache-2.0
"""The source tarball of `meson dist`: it builds and tests itself, without the net. Builds everything, so only in the long
run."""

import os
import subprocess

import pytest

import warmfs
from operator_tools import command
from warmfs import SLOW, TREE, touch

BUILD_SECONDS = 1200

pytestmark = [
    pytest.mark.skipif(not os.environ.get('WARMFS_TEST_LONG'), reason='only in the long run'),
    pytest.mark.skipif(not (TREE / '.git').exists(), reason='not a checkout'),
]


def build_step(*argv):
    done = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=BUILD_SECONDS * SLOW,
                          preexec_fn=warmfs.die_with_parent)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.limit(2 * BUILD_SECONDS)
def test_tarball(workdir, mounted):
    # In a build directory of its own: the one in use stays as it is.
    build = workdir / 'build'
    build_step('meson', 'setup', '--wrap-mode=nodownload', '-Dtests=false', build, TREE)
    build_step('meson', 'dist', '-C', build, '--no-tests', '--include-subprojects', '--allow-dirty', '--formats', 'gztar')
    tarball, = (build / 'meson-dist').glob('warmfs-*.tar.gz')
    warmfs.run('tar', '-xf', tarball, '-C', workdir)
    tree = workdir / tarball.name.removesuffix('.tar.gz')

    assert not (tree / '.git').exists()
    for name in ('tests/run', 'mount-helpers/install-deps', 'mount-helpers/quickstart'):
        assert os.access(tree / name, os.X_OK)
    build_step('meson', 'setup', '--wrap-mode=nodownload', '--buildtype=release', tree / 'build', tree)
    build_step('meson', 'compile', '-C', tree / 'build')
    tested = build_step('meson', 'test', '-C', tree / 'build', '--no-rebuild', '--suite', 'unit', '--suite', 'style')
    assert 'Fail:               0' in tested

    (workdir / 'source').mkdir()
    (workdir / 'mnt').mkdir()
    mnt = mounted(workdir / 'mnt')
    command(tree / 'build/fs/warmfs', '-o', 'match=*.seg,size=1M,wait_warm', workdir / 'source', mnt.point).require()
    touch(mnt.point / 'a.seg')
    assert (mnt.point / 'a.seg').stat().st_size == warmfs.MI
