# SPDX-License-Identifier: Apache-2.0
"""warmfsctl, and the file through which it gives commands: each verb with good words and bad ones."""

import json
import os
import pty
import select
import shutil
import subprocess

import pytest

import warmfs
from status_files import class_status, status
from warmfs import KI, as_user, touch, wait_until, write_all

CTL = warmfs.TREE / 'build/mount-helpers/warmfsctl'


class Done:
    def __init__(self, *words, program=CTL, **options):
        path = f'{warmfs.BINARY.parent}:{os.environ["PATH"]}'
        done = subprocess.run([str(program), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60 * warmfs.SLOW, env=dict(os.environ, PATH=path), **options)
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr


def for_everybody(directory):
    """The build may be where others cannot go."""
    return shutil.copy(CTL, directory / 'warmfsctl')


def ctl(*words, **options):
    done = Done(*words, **options)
    assert (done.status, done.err) == (0, ''), done.err
    return done.out


def refused(*words, status=1, **options):
    """The one line that says why, and what to do."""
    done = Done(*words, **options)
    assert (done.status, done.out) == (status, ''), done.out
    assert len(done.err.splitlines()) == 1 and done.err.startswith(f'warmfsctl: {words[0]}: ')
    return done.err


CONFIG = '''
[class one]
match=*.one
size=256K
ahead=3
[class two too]
match=**/*.two
size=512K
kind=append
ahead=2
linger=3600s
'''


@pytest.fixture
def mount(warm):
    mount = warm(config=CONFIG)
    wait_until(lambda: [one['ready'] for one in status(mount)['classes']] == [3, 2], what='full pools')
    return mount


# control

def talk(mount, *lines):
    """What is answered; of a failed write, too."""
    fd = os.open(mount.point / '.warmfs/control', os.O_RDWR)
    failed = None
    answer = b''
    try:
        for line in lines:
            try:
                assert os.write(fd, line.encode()) == len(line)
            except OSError as error:
                failed = error
        while piece := os.read(fd, 11):
            answer += piece
    finally:
        os.close(fd)
    return answer.decode(), failed


def test_control_conversation(mount):
    answer, failed = talk(mount, 'explain a.one\nwa', 'rm one', '\n\n', 'explain b\n')
    assert not failed
    assert answer.count('ok\n') == 3 and 'class one: 3 of 3 ready' in answer
    answer, failed = talk(mount, 'nonsense\n')
    assert answer.startswith('error: nonsense: no such command; allowed: ') and failed.errno == 22
    answer, failed = talk(mount, 'drain none\nexplain a.one\n')
    assert 'error: no class none; there is: one, two too\n' in answer and answer.endswith('ok\n') and failed
    answer, failed = talk(mount, 'seal\n')
    assert 'error: seal: what?' in answer
    assert talk(mount) == ('', None) and talk(mount, 'warm') == ('', None)
    assert talk(mount, *['x' * 60000] * 27)[1].errno == 7


def test_control_by_echo(mount):
    control = mount.point / '.warmfs/control'
    warmfs.run('sh', '-c', f'echo drain one > {control}')
    assert class_status(mount, 'one')['ready'] == 0
    with pytest.raises(warmfs.TestError):
        warmfs.run('sh', '-c', f'echo drain three > {control}')
    assert os.stat(control).st_size == 0 and control.read_bytes() == b''


def test_control_is_its_owners(mount):
    control = mount.point / '.warmfs/control'
    assert os.stat(control).st_mode & 0o7777 == 0o600 and os.stat(control).st_uid == 0
    with pytest.raises(PermissionError):
        as_user(12345, control.read_bytes)
    with pytest.raises(PermissionError):
        as_user(12345, os.open, control, os.O_WRONLY)
    for act in (lambda: os.chmod(control, 0o666), lambda: os.chown(control, 12345, 12345), lambda: os.unlink(control)):
        with pytest.raises(PermissionError):
            act()
    touch(mount.point / 'file')
    fd = os.open(control, os.O_RDONLY)
    with pytest.raises(OSError):
        os.pread(fd, 5, 0)
    os.close(fd)


def test_control_open_at_the_end(warm):
    mount = warm('match=*.seg', 'size=256K')
    fd = os.open(mount.point / '.warmfs/control', os.O_RDWR)
    os.write(fd, b'war')
    mount.stop()
    with pytest.raises(OSError):
        os.write(fd, b'm\n')
    os.close(fd)


# status

def test_status(mount, warm, workdir):
    other = warm('match=*.seg', 'size=64K', source=_directory(workdir / 'source2'), point=workdir / 'other')
    # There may be mounts of others, too, dead ones among them: only what is said of ours counts.
    text = Done('status').out
    assert f'at {mount.point} since' in text and f'at {other.point} since' in text
    text = ctl('status', mount.point)
    assert 'class two too: append, 512K' in text and str(other.point) not in text
    assert ctl('status', mount.point / '.').splitlines()[0] == text.splitlines()[0]
    found = json.loads(Done('status', '--json').out)
    assert {str(mount.point), str(other.point)} <= {one['mount_point'] for one in found}
    assert json.loads(ctl('status', '--json', other.point))['mount_point'] == str(other.point)


def _directory(path):
    path.mkdir()
    return path


def test_status_of_nothing(workdir):
    """Before anything is mounted."""
    assert 'no warmfs is mounted there' in refused('status', workdir)
    assert 'no warmfs is mounted there' in refused('status', workdir / 'absent')
    assert 'see warmfsctl --help' in refused('status', workdir, workdir, status=2)
    assert 'see warmfsctl --help' in refused('status', '--yaml', status=2)


def test_usage():
    assert ctl('--help').startswith('usage: warmfsctl') and ctl('--version').startswith('warmfsctl ')
    assert Done().status == 2
    assert 'no such command' in refused('frobnicate', status=2)


# drain, warm

def test_drain_and_warm(mount):
    assert 'class one: 3 removed, 768K given back' in ctl('drain', mount.point, 'one')
    found = class_status(mount, 'one')
    assert (found['ready'], found['state'], found['lacking'], found['warming']) == (0, 'drained', 0, 0)
    assert class_status(mount, 'two too')['ready'] == 2
    assert 'state    drained' in ctl('status', mount.point)
    ctl('warm', mount.point, 'one', '--wait')
    assert (class_status(mount, 'one')['ready'], class_status(mount, 'one')['state']) == (3, 'ok')
    ctl('drain', mount.point)
    assert mount.pool_names('ready-') == []
    ctl('warm', '--wait', mount.point)
    assert [one['ready'] for one in status(mount)['classes']] == [3, 2]


def test_drained_until_a_create(mount):
    ctl('drain', mount.point, 'one')
    touch(mount.point / 'a.one')
    assert os.stat(mount.point / 'a.one').st_size == 256 * KI
    wait_until(lambda: class_status(mount, 'one')['ready'] == 3, what='the pool to fill again')
    found = class_status(mount, 'one')
    assert (found['misses'], found['hits'], found['state']) == (1, 0, 'ok')


def test_drain_while_warming(warm, faults):
    """What is on its way is no use any more; nor does it come back."""
    mount = warm('match=*.seg', 'size=1M', 'ahead=2', faults=faults)
    mount.wait_settled(2)
    touch(mount.point / '1.seg')
    mount.wait_settled(2)
    faults.set('fallocate delay_ms=hold path=.warmfs')
    ctl('drain', mount.point)
    ctl('warm', mount.point)
    wait_until(lambda: class_status(mount)['warming'] >= 1, what='warming')
    ctl('drain', mount.point)
    faults.clear()
    wait_until(lambda: class_status(mount)['warming'] == 0 and not mount.pool_names(), what='an empty pool')
    assert class_status(mount)['ready'] == 0


def test_warm_says_what_is_wrong(warm, faults):
    mount = warm('match=*.seg', 'size=1M', 'ahead=1', faults=faults)
    mount.wait_settled(1)
    ctl('drain', mount.point)
    faults.set('fallocate errno=EIO path=.warmfs', 'pwrite errno=EIO path=.warmfs/pool')
    ctl('warm', mount.point)
    wait_until(lambda: class_status(mount)['state'] == 'degraded', what='the failure')
    done = Done('warm', mount.point, '--wait')
    assert done.status == 1 and 'cannot be prepared; see warmfsctl status' in done.err
    faults.clear()
    wait_until(lambda: Done('warm', mount.point, '--wait').status == 0, what='better times')
    assert class_status(mount)['ready'] == 1


def test_warm_and_drain_refused(mount, workdir):
    for verb in ('warm', 'drain'):
        assert 'there is: one, two too' in refused(verb, mount.point, 'three')
        assert 'give MOUNT' in refused(verb, status=2)
        assert 'give MOUNT' in refused(verb, mount.point, 'one', 'more', status=2)
        assert 'no warmfs is mounted there' in refused(verb, mount.source)
    assert [one['ready'] for one in status(mount)['classes']] == [3, 2]


def test_no_classes(warm):
    mount = warm()
    assert 'has no class' in refused('warm', mount.point)
    assert 'no class' in ctl('explain', mount.point / 'x')


def test_not_for_everybody(mount, workdir):
    """The permission and what to do about it, for somebody who may not."""
    program = for_everybody(workdir)

    def attempt():
        done = Done('drain', mount.point, program=program)
        return done.status, done.err
    code, err = as_user(12345, attempt)
    assert code == 1 and 'run it as root' in err
    assert as_user(12345, lambda: Done('status', mount.point, program=program).status) == 0


def test_read_only_mount(warm):
    mount = warm('ro', 'match=*.seg', 'size=64K')
    assert 'class default' in ctl('status', mount.point)
    assert 'mount it without ro' in refused('warm', mount.point)


# seal

def test_seal(mount):
    path = mount.point / 'dir' / 'a.two'
    path.parent.mkdir()
    write_all(path, b'x' * 1000)
    assert os.stat(mount.src / 'dir/a.two').st_size > 1000
    assert ctl('seal', path) == 'dir/a.two: sealed: a plain file now\n'
    assert os.stat(mount.src / 'dir/a.two').st_size == 1000
    assert os.getxattr(path, 'user.warmfs.state') == b'sealed'
    assert ctl('seal', mount.point, 'dir/a.two') == 'dir/a.two: a plain file already\n'
    assert path.read_bytes() == b'x' * 1000
    found = class_status(mount, 'two too')
    assert (found['live'], found['sealed']) == (0, 1)


def test_seal_while_written(mount):
    """The application goes on as if nothing had happened."""
    path = mount.point / 'a.two'
    with open(path, 'wb', buffering=0) as file:
        file.write(b'one')
        ctl('seal', path)
        file.write(b'two')
        os.fsync(file.fileno())
        assert path.read_bytes() == b'onetwo'
    assert (mount.src / 'a.two').read_bytes() == b'onetwo'


def test_seal_stream(warm):
    mount = warm('match=*.seg', 'size=1M', 'kind=stream', 'linger=3600s')
    path = mount.point / 'a.seg'
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b'x' * 100)
    assert 'somebody has it open' in refused('seal', path)
    os.close(fd)
    assert 'plain file now' in ctl('seal', path)
    assert os.stat(path).st_blocks * 512 < 64 * KI


def test_seal_refused(mount, workdir):
    (mount.point / 'dir').mkdir()
    os.symlink('/etc', mount.point / 'link')
    assert 'No such file' in refused('seal', mount.point / 'absent')
    assert 'no warmfs is mounted there' in refused('seal', '/etc/passwd')
    assert 'not below the mount point' in refused('seal', mount.point, '/etc/passwd', status=2)
    assert 'not below the mount point' in refused('seal', mount.point, status=2)
    assert 'give FILE' in refused('seal', status=2)
    assert 'not a path below' in talk(mount, 'seal dir/../../x\n')[0]
    assert 'error' in talk(mount, 'seal link/passwd\n')[0]
    assert 'not a path below' in talk(mount, 'seal /\n')[0]
    assert 'cannot be asked for' in refused('seal', mount.point / 'a\nb')


# explain

def test_explain(mount):
    text = ctl('explain', mount.point / 'a.one')
    assert 'class one: match=*.one matches: a segment of kind mapped, 256K' in text
    assert 'class two too: match=**/*.two does not match' in text
    assert '3 of 3 ready: it would be served at once' in text
    assert 'no class: dir/a.one would be a plain file' in ctl('explain', mount.point, 'dir/a.one')
    ctl('drain', mount.point, 'one')
    assert 'none ready: it would wait for at most 5000 ms, and then get an unprepared file' in \
        ctl('explain', mount.point / 'new.one')
    assert 'match=**/*.two matches' in ctl('explain', mount.point / 'no/such/dir/a.two')
    assert not (mount.point / 'new.one').exists()


def test_explain_over_the_source(warm):
    mount = warm('match=*.seg', 'size=64K', over=True)
    assert 'matches: a segment' in ctl('explain', mount.point / 'a.seg')
    relative = Done('explain', 'a.seg', cwd=mount.point)
    assert relative.status == 0 and 'matches: a segment' in relative.out


# check

def test_check(warm):
    mount = warm('match=*.seg', 'size=64K', 'kind=append')
    write_all(mount.point / 'a.seg', b'x' * 10)
    mount.kill()
    mount.close()
    before = os.stat(mount.source / 'a.seg').st_size
    assert before > 10
    assert Done('check', '--dry-run', mount.source).status == 4
    assert os.stat(mount.source / 'a.seg').st_size == before
    assert Done('check', mount.source).status == 1
    assert os.stat(mount.source / 'a.seg').st_size == 10
    assert Done('check', mount.source).status == 0
    assert 'give one SOURCE' in refused('check', status=2)
    assert Done('check', '/does/not/exist').status == 8


# presets

def test_presets(workdir):
    presets = warmfs.TREE / 'mount-helpers/presets'
    assert ctl('presets', f'--dir={presets}').split() == sorted(path.stem for path in presets.glob('*.conf'))
    assert ctl('presets', 'etcd', f'--dir={presets}') == (presets / 'etcd.conf').read_text()
    assert 'those that there are' in refused('presets', 'nothing', f'--dir={presets}')
    assert 'one NAME' in refused('presets', 'a', 'b', status=2)
    assert 'NAME is one' in refused('presets', '../etcd', status=2)
    assert 'No such file' in refused('presets', f'--dir={workdir}/absent')


# On a terminal

def test_progress_bar(warm, faults):
    """--wait on a terminal shows how far it is, and takes that away."""
    mount = warm('match=*.seg', 'size=256K', 'ahead=3', faults=faults)
    mount.wait_settled(3)
    ctl('drain', mount.point)
    faults.set('fallocate delay_ms=hold path=.warmfs')
    parent, child = pty.openpty()
    process = subprocess.Popen([str(CTL), 'warm', str(mount.point), '--wait'], stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = b''
    try:
        while b'0 of 3' not in shown or b'[' not in shown:
            assert select.select([parent], [], [], 30 * warmfs.SLOW)[0], shown
            shown += os.read(parent, 4096)
        faults.clear()
        process.wait(60 * warmfs.SLOW)
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    assert process.returncode == 0 and class_status(mount)['ready'] == 3


# Completion

def complete(*words):
    script = warmfs.TREE / 'mount-helpers/warmfsctl.bash-completion'
    command = f'. {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _warmfsctl; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return warmfs.run('bash', '-c', command, 'bash', *words).split('\n')[:-1]


def test_completion(mount):
    assert complete('warmfsctl', 'st') == ['status']
    assert set(complete('warmfsctl', '')) >= {'status', 'warm', 'drain', 'seal', 'explain', 'check'}
    assert complete('warmfsctl', 'warm', str(mount.point)[:-1]) == [str(mount.point)]
    assert complete('warmfsctl', 'drain', mount.point, 'on') == ['one']
    assert complete('warmfsctl', 'warm', '--w') == ['--wait']
