# SPDX-License-Identifier: Apache-2.0
"""mount(8), fstab, remount and umount, as with any other filesystem."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess

import pytest

import warmfs
from operator_tools import command, daemons_of
from warmfs import MI, mounts_at, touch, wait_until

CLASS = 'match=*.seg,size=1M,ahead=2'


@pytest.fixture
def place(workdir, helpers):
    (workdir / 'source').mkdir()
    (workdir / 'mnt').mkdir()
    return workdir


@pytest.fixture
def mnt(place, mounted):
    return mounted(place / 'mnt')


def ready_files(place):
    return [name for name in os.listdir(place / 'source/.warmfs/pool') if name.startswith('ready-')]


def create_segment(mnt, name='a.seg'):
    touch(mnt.point / name)
    return os.stat(mnt.point / name).st_size


@pytest.mark.parametrize('fstype', ['warmfs', 'fuse.warmfs'])
def test_mount_and_umount(place, mnt, fstype):
    done = command('mount', '-t', fstype, place / 'source', mnt.point, '-o', CLASS + ',noatime').require()
    assert (done.stdout, done.stderr) == ('', '')
    assert mnt.entry().source == str(place / 'source')
    assert 'noatime' in mnt.entry().options
    assert create_segment(mnt) == MI
    command('umount', mnt.point).require()
    mnt.wait_gone()
    assert (place / 'source/a.seg').stat().st_size == MI


def test_fstab(place, mnt):
    """Everything that fstab lines have for others than the filesystem is passed over, and mount -a mounts it once."""
    table = place / 'fstab'
    table.write_text(f'{place}/source {mnt.point} warmfs {CLASS},_netdev,nofail,user,x-systemd.requires=x.service,'
                     'x-gvfs-hide,X-mount.mkdir,comment=journal,noatime 0 0\n')
    for _ in range(2):
        command('mount', '-a', '-T', table).require()
        assert len(mounts_at(mnt.point)) == 1
    assert {'nosuid', 'nodev', 'noexec', 'noatime'} <= set(mnt.entry().options)
    assert create_segment(mnt) == MI
    command('umount', mnt.point).require()
    command('mount', '-T', table, mnt.point).require()
    assert mnt.entry()


def test_flags(place, mnt):
    """What mount(8) tells its helpers: verbose, fake, sloppy, without a table."""
    base = ['-t', 'warmfs', place / 'source', mnt.point]
    assert command('mount', '-f', *base, '-o', CLASS).require().stdout == ''
    assert not mnt.entry()
    refused = command('mount', *base, '-o', CLASS + ',colour=red')
    assert refused.status != 0 and 'colour=red' in refused.stderr and not mnt.entry()
    done = command('mount', '-v', '-n', '-s', *base, '-o', CLASS + ',colour=red').require()
    assert f'{place}/source is mounted on {mnt.point}' in done.stdout
    assert mnt.entry()


def test_fake_refuses_what_would_be_refused(place, mnt):
    assert command('mount', '-f', '-t', 'warmfs', place / 'nowhere', mnt.point, '-o', CLASS).status != 0
    assert command('mount', '-f', '-t', 'warmfs', place / 'source', mnt.point, '-o', 'size=1M').status != 0


def test_namespace(place, mnt):
    """-N: into another mount namespace, and not into this one."""
    if not any(line.split()[4] == '/' for line in open('/proc/self/mountinfo')):
        pytest.skip('in a chroot: who enters a mount namespace leaves it')
    keeper = subprocess.Popen(['unshare', '-m', '--propagation', 'private', 'sleep', '600'],
                              preexec_fn=warmfs.die_with_parent)
    try:
        wait_until(lambda: os.readlink(f'/proc/{keeper.pid}/ns/mnt') != os.readlink('/proc/self/ns/mnt'), what='unshare')
        command('/sbin/mount.warmfs', place / 'source', mnt.point, '-N', f'/proc/{keeper.pid}/ns/mnt', '-o',
                CLASS).require()
        assert not mnt.entry()
        assert f' {mnt.point} ' in open(f'/proc/{keeper.pid}/mountinfo').read()
        assert command('/sbin/mount.warmfs', place / 'source', mnt.point, '-N', place / 'none').status != 0
        command('umount', '-N', keeper.pid, mnt.point).require()
    finally:
        keeper.kill()
        keeper.wait()
    mnt.wait_gone()


def test_remount(place, mnt):
    """ro and back; other flags stay, and classes too, with a line that says so."""
    command('mount', '-t', 'warmfs', place / 'source', mnt.point, '-o', CLASS + ',nodev').require()
    assert create_segment(mnt) == MI
    command('mount', '-o', 'remount,ro', mnt.point).require()
    assert 'ro' in mnt.entry().options and 'nodev' in mnt.entry().options
    with pytest.raises(OSError):
        touch(mnt.point / 'b.seg')
    changed = command('mount', '-o', 'remount,rw,noatime,ahead=5', mnt.point).require()
    assert 'ahead' in changed.stderr and str(mnt.point) in changed.stderr
    assert {'rw', 'noatime', 'nodev'} <= set(mnt.entry().options)
    assert create_segment(mnt, 'b.seg') == MI


def test_remount_of_nothing(place, mnt):
    refused = command('/sbin/mount.warmfs', place / 'source', mnt.point, '-o', 'remount,ro')
    assert refused.status != 0 and str(mnt.point) in refused.stderr
    assert not mnt.entry()


def test_mount_right_after_umount(place, mnt, faults):
    """A new daemon waits for the old one, which has an open file to cut to its length."""
    mount = [warmfs.BINARY, '-o', CLASS + ',kind=append', place / 'source', mnt.point]
    _, environment = warmfs.warmfs_command(faults=faults)
    command(*mount, environment=environment).require()
    wait_until(lambda: len(ready_files(place)) == 2, what='the pool')
    touch(mnt.point / 'a.seg')
    faults.set('ftruncate delay_ms=hold path=a.seg', 'ftruncate delay_ms=hold path=/pool/')
    command('umount', mnt.point).require()
    faults.wait_hit('ftruncate')
    lock = place / 'source/.warmfs/lock'
    assert lock.read_text().endswith(' ending\n')
    with open(place / 'stderr', 'wb') as log:
        again = subprocess.Popen([str(word) for word in mount], stderr=log, preexec_fn=warmfs.die_with_parent)
    wait_until(lambda: mnt.entry() or again.poll() is not None, what='the second mount')
    assert again.poll() is None
    faults.clear()
    assert again.wait(60 * warmfs.SLOW) == 0, (place / 'stderr').read_text()
    assert os.stat(mnt.point / 'a.seg').st_size == 0


@pytest.mark.parametrize('way', ['umount POINT', 'umount -l POINT', 'umount -i POINT', 'umount -f POINT', 'umount -R POINT',
                                 'umount -A POINT', 'umount -d POINT', 'umount -t fuse.warmfs POINT',
                                 'umount -a -t fuse.warmfs', 'fusermount3 -u POINT', 'fusermount3 -u -z POINT'])
def test_ways_to_umount(place, mnt, way):
    """Whatever people are used to; and the daemon ends with it."""
    if not shutil.which(way.split()[0]):
        pytest.skip(f'{way.split()[0]} is not there')
    command('mount', '-t', 'warmfs', place / 'source', mnt.point, '-o', CLASS).require()
    command(*[str(mnt.point) if word == 'POINT' else word for word in way.split()]).require()
    mnt.wait_gone()


def test_umount_while_it_is_used(place, mnt):
    """Not at all, or out of sight; then whoever has a file open goes on to use it, and the daemon ends after him."""
    command('mount', '-t', 'warmfs', place / 'source', mnt.point, '-o', CLASS).require()
    with open(mnt.point / 'a.seg', 'xb', buffering=0) as file:
        refused = command('umount', mnt.point)
        assert refused.status == 32 and 'busy' in refused.stderr
        command('umount', '-l', mnt.point).require()
        assert not mnt.entry()
        file.write(b'still here')
        os.fsync(file.fileno())
        assert daemons_of(mnt.point)
    mnt.wait_gone()
    assert (place / 'source/a.seg').read_bytes()[:10] == b'still here'


@pytest.mark.parametrize('way', ['umount', 'umount -l', 'fusermount3 -u', 'root'])
def test_umount_of_a_users_mount(place, mnt, stack, way):
    """By himself, and by root; by nobody else."""
    if not shutil.which('fusermount3'):
        pytest.skip('fusermount3 is not there')
    # As most systems have it. In this namespace only.
    os.mknod(place / 'fuse', stat.S_IFCHR, os.stat('/dev/fuse').st_rdev)
    os.chmod(place / 'fuse', 0o666)
    warmfs.run('mount', '--bind', place / 'fuse', '/dev/fuse')
    stack.callback(warmfs.umount, '/dev/fuse')
    binary = shutil.copy(warmfs.BINARY, place / 'warmfs')
    for path in (place / 'source', mnt.point):
        shutil.chown(path, 'nobody', 'nogroup')
    his = ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups']
    others = ['setpriv', '--reuid=daemon', '--regid=daemon', '--clear-groups']
    command(*his, binary, '-o', CLASS, place / 'source', mnt.point).require()
    for words in ('umount', 'fusermount3 -u'):
        assert command(*others, *words.split(), mnt.point).status != 0
    assert mnt.entry()
    command(*([] if way == 'root' else his), *(['umount'] if way == 'root' else way.split()), mnt.point).require()
    mnt.wait_gone()


def test_umount_after_a_kill(place, mnt):
    """The mount of a daemon that is gone goes by umount, too, and the next one finds everything."""
    mount = ['mount', '-t', 'warmfs', place / 'source', mnt.point, '-o', CLASS + ',kind=append']
    command(*mount).require()
    touch(mnt.point / 'a.seg')
    os.kill(mnt.pid(), signal.SIGKILL)
    wait_until(lambda: not daemons_of(mnt.point), what='the end of the daemon')
    assert command(*mount).status != 0
    command('umount', mnt.point).require()
    assert not mnt.entry()
    command(*mount).require()
    assert os.stat(mnt.point / 'a.seg').st_size == 0


def test_wait_warm(place, mnt):
    """When mount returns, every pool is full; without a terminal, there is no bar."""
    done = command('mount', '-t', 'warmfs', place / 'source', mnt.point, '-o',
                   'match=*.seg,size=8M,ahead=6,wait_warm').require()
    assert len(ready_files(place)) == 6
    assert (done.stdout, done.stderr) == ('', '')


def test_wait_warm_on_a_terminal(place, mnt, faults, stack):
    """A bar that shows how far it is, and is taken away at the end."""
    terminal, its_end = os.openpty()
    stack.callback(os.close, terminal)
    os.set_blocking(terminal, False)
    shown = bytearray()

    def read():
        # EIO: nobody has the other end any more, which is how a terminal says that it is over.
        with contextlib.suppress(OSError):
            while data := os.read(terminal, 65536):
                shown.extend(data)
        return bytes(shown)

    faults.set('pwrite delay_ms=hold path=/warming-')
    _, environment = warmfs.warmfs_command(faults=faults)
    with os.fdopen(its_end, 'w') as end:
        process = subprocess.Popen(
            [warmfs.BINARY, '-o', 'match=*.seg,size=1M,ahead=4,wait_warm', place / 'source', mnt.point], stderr=end,
            env=environment, preexec_fn=warmfs.die_with_parent)
    wait_until(lambda: b'] 0 of 4' in read(), what='the bar')
    faults.clear()
    assert process.wait(60 * warmfs.SLOW) == 0
    assert read().endswith(b'\r\x1b[K')
    assert len(ready_files(place)) == 4


def test_wait_warm_that_cannot_be(place, stack, mounted):
    """The pool of a disk that gets full meanwhile: mounted all the same, with one line that says what is missing."""
    disk = stack.enter_context(warmfs.loop_fs('ext4', 64 * MI, place))
    mnt = mounted(place / 'mnt')
    (disk / 'source').mkdir()
    with open(disk / 'ballast', 'wb') as file:
        os.posix_fallocate(file.fileno(), 0, 34 * MI)
    done = command('mount', '-t', 'warmfs', disk / 'source', mnt.point, '-o',
                   'match=*.seg,size=8M,ahead=4,wait_warm').require()
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in ('wait_warm', 'default', 'of 4', 'No space left'):
        assert word in done.stderr
    assert mnt.entry()
    touch(mnt.point / 'plain')


def test_wait_warm_in_the_foreground(warm):
    mount = warm('match=*.seg', 'size=1M', 'ahead=3', 'wait_warm')
    wait_until(lambda: mount.log_lines('all 3 segments are ready'), what='the line')
    assert mount.counters()['ready'] == 3


def test_wait_warm_interrupted(place, mnt, faults):
    """A mount that is ended before its pools are full ends, and says that it is not there."""
    faults.set('pwrite delay_ms=hold path=/warming-')
    _, environment = warmfs.warmfs_command(faults=faults)
    process = subprocess.Popen(
        [warmfs.BINARY, '-o', CLASS + ',wait_warm', place / 'source', mnt.point], stderr=subprocess.PIPE, text=True,
        env=environment, preexec_fn=warmfs.die_with_parent)
    faults.wait_hit('pwrite')
    assert mnt.entry()
    assert process.poll() is None
    command('umount', mnt.point).require()
    faults.clear()
    assert process.wait(30 * warmfs.SLOW) == 1
    assert 'wait_warm' in process.stderr.read()
    mnt.wait_gone()


def test_installed(place):
    """What meson install puts where."""
    build = warmfs.BINARY.parents[1]
    command('meson', 'install', '-C', build, '--no-rebuild', '--destdir', place / 'root',
            environment={'MESONINTROSPECT': ''}).require()
    options = json.loads(warmfs.run('meson', 'introspect', '--buildoptions', build))
    prefix = next(option['value'] for option in options if option['name'] == 'prefix')
    installed = place / 'root' / prefix.lstrip('/')
    assert os.access(installed / 'bin/warmfs', os.X_OK)
    for name in ('mount.warmfs', 'mount.fuse.warmfs'):
        assert os.readlink(installed / 'sbin' / name) == f'{prefix}/bin/warmfs'
    for name in ('man8/warmfs.8', 'man8/mount.warmfs.8', 'man5/warmfs.conf.5', 'warmfs/presets/etcd.conf',
                 'warmfs/examples/var-lib-etcd.mount'):
        assert (installed / 'share' / ('man' if name.startswith('man') else '') / name).is_file()
    unit = (installed / 'lib/systemd/system/warmfs@.service').read_text()
    assert f'ExecStart={prefix}/bin/warmfs -f' in unit
