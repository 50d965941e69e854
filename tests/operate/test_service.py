# SPDX-License-Identifier: Apache-2.0
"""As a service: what systemd is told and when, and the units."""

import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

import threads
import warmfs
from operator_tools import command
from warmfs import SLOW, TREE, wait_until

CLASS = 'match=*.seg,size=1M,ahead=3'
UNITS = TREE / 'mount-helpers/systemd'


class Manager:
    """The end of the service manager: keeps what the daemon says."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.said = []

    def hear(self):
        """Everything that was said up to now, a list of lines for each message."""
        try:
            while True:
                self.said.append(self.socket.recv(65536).decode().splitlines())
        except BlockingIOError:
            return self.said

    def count(self, line):
        return sum(line in message for message in self.hear())

    def wait(self, line, at_least=1):
        wait_until(lambda: self.count(line) >= at_least, 60, lambda: f'{at_least} of {line}, heard {self.said}')


@pytest.fixture
def manager(workdir, monkeypatch):
    """What the daemon is started by from here on."""
    address = str(workdir / 'notify')
    one = Manager(address)
    monkeypatch.setenv('NOTIFY_SOCKET', address)
    yield one
    one.socket.close()


@pytest.fixture
def place(workdir):
    (workdir / 'source').mkdir()
    (workdir / 'mnt').mkdir()
    return workdir


def start(place, stack, *options, faults=None, classes=CLASS):
    """A daemon that is not waited for. It ends with the test."""
    argv, environment = warmfs.warmfs_command('-f', '-o', classes, *options, place / 'source', place / 'mnt',
                                              faults=faults)
    with open(place / 'stderr', 'wb') as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                   preexec_fn=warmfs.die_with_parent)
    stack.callback(process.wait, 30 * SLOW)
    stack.callback(process.terminate)
    return process


def test_ready_when_mounted(place, mounted, manager, faults, stack):
    """Not while the start is under way, however long it takes; and the end is told, too."""
    mnt = mounted(place / 'mnt')
    faults.set('pwrite delay_ms=hold path=.warmfs')
    process = start(place, stack, faults=faults)
    faults.wait_hit('pwrite')
    assert manager.hear() == []
    faults.clear()
    manager.wait('READY=1')
    assert mnt.entry()
    assert 'READY=1' in manager.said[0]
    process.terminate()
    manager.wait('STOPPING=1')
    assert process.wait(30 * SLOW) == 0
    assert manager.count('READY=1') == manager.count('STOPPING=1') == 1


def test_ready_when_warm(place, mounted, manager, faults, stack):
    """With wait_warm, the manager hears how far it is, gives more time, and hears of the end."""
    mounted(place / 'mnt')
    faults.set('pwrite delay_ms=hold path=/warming-')
    start(place, stack, '-o', 'wait_warm', faults=faults)
    manager.wait('STATUS=warming: 0 of 3 segments are ready', at_least=2)
    assert all(any(re.fullmatch(r'EXTEND_TIMEOUT_USEC=\d+', line) for line in message) for message in manager.said)
    assert manager.count('READY=1') == 0
    faults.clear()
    manager.wait('READY=1')
    ready = [name for name in os.listdir(place / 'source/.warmfs/pool') if name.startswith('ready-')]
    assert len(ready) == 3


def test_name_without_a_file(place, mounted, monkeypatch, stack):
    name = f'warmfs-test-{os.getpid()}'
    manager = Manager(f'\0{name}')
    stack.callback(manager.socket.close)
    monkeypatch.setenv('NOTIFY_SOCKET', f'@{name}')
    mounted(place / 'mnt')
    start(place, stack)
    manager.wait('READY=1')


def test_manager_that_is_gone(place, mounted, monkeypatch, stack):
    """One line, and it serves."""
    monkeypatch.setenv('NOTIFY_SOCKET', str(place / 'nobody'))
    mnt = mounted(place / 'mnt')
    start(place, stack)
    wait_until(lambda: 'cannot tell the service manager' in (place / 'stderr').read_text(), what='the warning')
    assert mnt.entry()
    assert (mnt.point / 'x').exists() is False


def test_watchdog(place, mounted, manager, monkeypatch, faults, stack):
    """Told again and again, also while every preparation hangs at the disk; not any more when the daemon stands still."""
    monkeypatch.setenv('WATCHDOG_USEC', '600000')
    mounted(place / 'mnt')
    faults.set('pwrite delay_ms=hold path=/warming-')
    process = start(place, stack, faults=faults)
    faults.wait_hit('pwrite')
    manager.wait('WATCHDOG=1', at_least=manager.count('WATCHDOG=1') + 4)
    faults.clear()
    os.kill(process.pid, signal.SIGSTOP)
    stack.callback(os.kill, process.pid, signal.SIGCONT)
    # Who has asked the mount just then stands still as well, until it is answered.
    wait_until(lambda: 'T' in threads.states(process.pid) and set(threads.states(process.pid)) <= {'T', 'D'}, what='the stop')
    before = manager.count('WATCHDOG=1')
    other = Manager(str(place / 'other'))
    with other.socket:
        other.socket.setblocking(True)
        other.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            other.socket.recv(1)
    assert manager.count('WATCHDOG=1') == before


@pytest.mark.parametrize('number', [signal.SIGABRT, signal.SIGKILL])
def test_killed_by_the_manager(place, mounted, manager, monkeypatch, faults, stack, number):
    """What the watchdog is for: a daemon that does not answer says so, and ends when it is killed for that, although it has
    asked itself."""
    monkeypatch.setenv('WATCHDOG_USEC', '600000')
    mnt = mounted(place / 'mnt')
    process = start(place, stack, faults=faults, classes='noatime')
    manager.wait('WATCHDOG=1')
    faults.set('fstatvfs path=/source delay_ms=hold')
    faults.wait_hit('fstatvfs')
    wait_until(lambda: 'watchdog: the mount does not answer' in (place / 'stderr').read_text(), what='the complaint')
    process.send_signal(number)
    wait_until(lambda: process.poll() is not None, what='the end of the daemon')
    with pytest.raises(OSError, match='not connected'):
        os.statvfs(mnt.point)


def test_watchdog_of_another_process(place, mounted, manager, monkeypatch, stack):
    monkeypatch.setenv('WATCHDOG_USEC', '3000')
    monkeypatch.setenv('WATCHDOG_PID', '1')
    mnt = mounted(place / 'mnt')
    start(place, stack)
    manager.wait('READY=1')
    for _ in range(100):
        os.statvfs(mnt.point)
    assert manager.count('WATCHDOG=1') == 0


# The units

@pytest.fixture
def unit(workdir):
    """The service's unit as it would be installed, for /srv/log."""
    directory = workdir / 'units'
    directory.mkdir()
    text = (UNITS / 'warmfs@.service.in').read_text()
    assert set(re.findall(r'@\w+@', text)) == {'@bindir@'}
    programs = workdir / 'bin'
    programs.mkdir()
    for program in (warmfs.BINARY, warmfs.TREE / 'build/mount-helpers/warmfsctl'):
        (programs / program.name).symlink_to(program)
    (directory / 'warmfs@srv-log.service').write_text(text.replace('@bindir@', str(programs)))
    return directory / 'warmfs@srv-log.service'


def verify(path):
    return command('systemd-analyze', 'verify', '--man=no', path)


def complaints(outcome, path):
    """What it says about this unit; of the system's own it may say things as well."""
    return [line for line in outcome.stderr.splitlines() if path.name in line or str(path) in line]


def test_service_unit(unit):
    done = verify(unit)
    assert done.status == 0 and not complaints(done, unit), done.stderr
    text = unit.read_text()
    for needed in ('Type=notify', 'WatchdogSec=', 'DeviceAllow=/dev/fuse rw', 'CAP_SYS_ADMIN'):
        assert needed in text


def test_service_reload(unit, warm):
    """systemctl reload: the command that the unit gives for that."""
    mount = warm(config='[class one]\nmatch=*.one\nsize=64K\n')
    line = re.search(r'^ExecReload=(.*)$', unit.read_text(), re.MULTILINE)[1]
    found = re.search(r'^# config=(.*)$', (mount.point / '.warmfs/config').read_text(), re.MULTILINE)[1]
    with open(found, 'a') as file:
        file.write('ahead=1\n')
    done = command(*[word.replace('%f', str(mount.point)) for word in line.split(' ')]).require()
    assert done.stdout == 'class one: now ahead=1, was 2\n'


def test_service_unit_has_no_mount_namespace(unit):
    """Nothing that would keep the mount from the rest of the system; and beside that little is open."""
    hiding = re.findall(r'^(Protect(?:System|Home|Proc|Kernel\w+|ControlGroups)|Private(?:Tmp|Devices|Users)|'
                        r'(?:ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths|MountFlags|RootDirectory|Bind\w*Paths|'
                        r'TemporaryFileSystem|DynamicUser)=', unit.read_text(), re.MULTILINE)
    assert hiding == []
    done = command('systemd-analyze', 'security', '--offline=true', '--threshold=60', unit)
    assert done.status == 0, done.stdout + done.stderr


def test_mount_unit(workdir):
    path = workdir / 'var-lib-etcd.mount'
    shutil.copy(UNITS / path.name, path)
    done = verify(path)
    assert done.status == 0 and not complaints(done, path), done.stderr


def test_dead_mount_is_taken_away(unit, workdir, mounted):
    """The command of ExecStartPre= and ExecStopPost=: a mount of warmfs, and nothing else."""
    lines = re.findall(r"^Exec(?:StartPre|StopPost)=(/bin/sh -c '.*') sh %f$", unit.read_text(), re.MULTILINE)
    assert len(lines) == 2 and lines[0] == lines[1]
    script = re.fullmatch(r"/bin/sh -c '(.*)'", lines[0])[1]
    (workdir / 'source').mkdir()
    (workdir / 'mnt').mkdir()
    mnt = mounted(workdir / 'mnt')
    warmfs.run('mount', '-t', 'tmpfs', 'tmpfs', mnt.point)
    try:
        command('/bin/sh', '-c', script, 'sh', mnt.point).require()
        assert [entry.fstype for entry in warmfs.mounts_at(mnt.point)] == ['tmpfs']
    finally:
        warmfs.umount(mnt.point)
    warmfs.run(warmfs.BINARY, '-o', CLASS, workdir / 'source', mnt.point)
    os.kill(mnt.pid(), signal.SIGKILL)
    command('/bin/sh', '-c', script, 'sh', mnt.point).require()
    assert not mnt.entry()
