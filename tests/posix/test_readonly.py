# SPDX-License-Identifier: Apache-2.0
"""A mount that is read-only, and one of a source that is: each as a native directory mounted so."""

import os

import pytest

import warmfs
from calls import RENAME_EXCHANGE, linkat, renameat2
from cases import call, content, differences, facts, opened
from warmfs import touch, write_all


def look(root):
    """What can still be done, and how the rest is refused."""
    file = root / 'file'
    found = [content(file), sorted(os.listdir(root)), facts(file), call(os.readlink, root / 'link'), os.getxattr(file, 'user.x'),
             bool(os.statvfs(root).f_flag & os.ST_RDONLY), [os.access(root / name, how) for name in ('file', 'd') for how in (os.R_OK, os.W_OK, os.X_OK)]]
    for name in ('file', 'new', 'new.seg', 'd', 'link', 'old.seg'):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_CREAT | os.O_EXCL | os.O_WRONLY, os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            found.append((name, flags, opened(root / name, flags)))
    fd = os.open(file, os.O_RDONLY)
    return found + [
        opened(root, os.O_TMPFILE | os.O_RDWR), call(os.mkdir, root / 'x'), call(os.mkdir, root / 'd'), call(os.rmdir, root / 'd'), call(os.rmdir, root / 'absent'),
        call(os.unlink, file), call(os.unlink, root / 'absent'), call(os.rename, file, root / 'x'), call(renameat2, file, root / 'link', RENAME_EXCHANGE),
        call(linkat, file, root / 'x'), call(os.symlink, 'x', root / 'x'), call(os.mkfifo, root / 'x'), call(os.chmod, file, 0o600), call(os.fchmod, fd, 0o600),
        call(os.chown, file, 1, 1), call(os.utime, file), call(os.truncate, file, 0), call(os.setxattr, file, 'user.y', b''), call(os.removexattr, file, 'user.x'),
        call(os.setxattr, file, 'system.posix_acl_access', b''), call(os.fsync, fd), call(os.lseek, fd, 0, os.SEEK_HOLE)]


def furnish(root):
    root.mkdir()
    write_all(root / 'file', b'data')
    os.setxattr(root / 'file', 'user.x', b'1')
    touch(root / 'old.seg')
    (root / 'd').mkdir()
    (root / 'link').symlink_to('file')


@pytest.mark.parametrize('passthrough', ['on', 'off'])
@pytest.mark.parametrize('what', ['mount', 'source'])
def test_read_only(warm, workdir, stack, what, passthrough):
    furnish(workdir / 'native')
    furnish(workdir / 'source')
    for name in ('native', 'source') if what == 'source' else ('native',):
        warmfs.run('mount', '--bind', workdir / name, workdir / name)
        stack.callback(warmfs.umount, workdir / name, warmfs.MNT_DETACH)
        warmfs.run('mount', '-o', 'remount,bind,ro', workdir / name)
    # A source that is read-only can have no pool.
    mount = warm(f'passthrough={passthrough}', *(['ro'] if what == 'mount' else []))
    native, seen = look(workdir / 'native'), look(mount.point)
    assert seen == native, '\n'.join(differences(native, seen))
