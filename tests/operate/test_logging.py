# SPDX-License-Identifier: Apache-2.0
"""What is logged, where to, and how much of it."""

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess

import pytest

import warmfs
from warmfs import SLOW, touch, wait_until

CLASS = 'match=*.seg,size=1M,ahead=1'


class Journal:
    """The end of journald."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.entries = []

    def read(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.entries.append(parse_entry(self.socket.recv(1 << 20)))
        return self.entries

    def find(self, text):
        return [entry for entry in self.read() if text in entry['MESSAGE']]

    def wait(self, text):
        return wait_until(lambda: self.find(text), what=lambda: f'{text}, have {self.entries}')[0]


def parse_entry(data):
    """The fields of an entry; a value with newlines comes with its length."""
    fields = {}
    while data:
        name, equals, rest = data.partition(b'\n')[0].partition(b'=')
        if equals:
            data = data[len(name) + 1 + len(rest) + 1:]
        else:
            length = int.from_bytes(data[len(name) + 1:len(name) + 9], 'little')
            rest = data[len(name) + 9:len(name) + 9 + length]
            data = data[len(name) + 9 + length + 1:]
        fields[name.decode()] = rest.decode()
    return fields


@pytest.fixture
def journal():
    """One at its well-known place, seen in this namespace only."""
    warmfs.run('mount', '-t', 'tmpfs', 'tmpfs', '/run')
    try:
        os.makedirs('/run/systemd/journal')
        one = Journal('/run/systemd/journal/socket')
        yield one
        one.socket.close()
    finally:
        warmfs.umount('/run', warmfs.MNT_DETACH)


@pytest.fixture
def place(workdir):
    (workdir / 'source').mkdir()
    (workdir / 'mnt').mkdir()
    return workdir


def test_journal(place, mounted, journal):
    """Of a daemon in the background, everything; a newline in a path makes no second entry or field."""
    source = place / 'two\nlines'
    source.mkdir()
    mnt = mounted(place / 'mnt')
    warmfs.run(warmfs.BINARY, '-o', CLASS, source, mnt.point)
    entry = journal.wait('serving')
    assert entry['PRIORITY'] == '5' and entry['SYSLOG_IDENTIFIER'] == 'warmfs'
    assert entry['WARMFS_SOURCE'] == str(source) and entry['WARMFS_MOUNT'] == str(mnt.point)
    assert 'WARMFS_CLASS' not in entry
    warmfs.umount(mnt.point)
    assert journal.wait('class default: taken=0')['WARMFS_CLASS'] == 'default'
    journal.wait('served')
    mnt.wait_gone()


def test_journal_behind_standard_error(place, mounted, journal, monkeypatch, stack):
    """As a service: standard error is the journal's, and what can have fields has them."""
    mnt = mounted(place / 'mnt')
    with open(place / 'stderr', 'wb') as log:
        status = os.fstat(log.fileno())
        monkeypatch.setenv('JOURNAL_STREAM', f'{status.st_dev}:{status.st_ino}')
        process = subprocess.Popen([warmfs.BINARY, '-f', '-o', CLASS, place / 'source', mnt.point], stderr=log,
                                   preexec_fn=warmfs.die_with_parent)
    stack.callback(process.wait, 30 * SLOW)
    stack.callback(process.terminate)
    assert journal.wait('serving')['WARMFS_MOUNT'] == str(mnt.point)
    assert 'serving' not in (place / 'stderr').read_text()


def test_fields_of_a_failure(place, mounted, journal, faults):
    """What failed, on which file, and why, can be searched for."""
    faults.set('pwrite errno=EROFS path=/warming-')
    mnt = mounted(place / 'mnt')
    argv, environment = warmfs.warmfs_command('-o', 'match=*.seg,size=1M,ahead=0', place / 'source', mnt.point,
                                              faults=faults)
    warmfs.run(*argv, env=environment)
    assert not {'ERRNO', 'WARMFS_OPERATION', 'WARMFS_PATH'} & set(journal.wait('serving'))
    with pytest.raises(OSError, match='Read-only'):
        touch(mnt.point / 'a.seg')
    entry = journal.wait('cannot prepare a segment for a.seg')
    assert entry['ERRNO'] == str(errno.EROFS) and entry['WARMFS_OPERATION'] == 'prepare'
    assert entry['WARMFS_PATH'] == 'a.seg' and entry['WARMFS_CLASS'] == 'default'


def test_standard_error(warm, journal):
    """In the foreground it is that, journal or not."""
    mount = warm(CLASS)
    assert mount.log_lines('serving')
    mount.stop()
    assert journal.read() == []


def test_level(place, stack, mounted):
    """Below it there is silence, but for what is asked for."""
    mnt = mounted(place / 'mnt')
    log = place / 'stderr'
    with open(log, 'wb') as file:
        process = subprocess.Popen(
            [warmfs.BINARY, '-f', '-o', CLASS + ',log_level=error,passthrough=off', place / 'source', mnt.point],
            stderr=file, preexec_fn=warmfs.die_with_parent)
    stack.callback(process.wait, 30 * SLOW)
    stack.callback(process.terminate)
    wait_until(mnt.entry, what='the mount')
    touch(mnt.point / 'a.seg')
    assert log.read_text() == ''
    os.kill(process.pid, signal.SIGUSR1)
    wait_until(lambda: 'class default: taken=1' in log.read_text(), what='the counters')
    process.terminate()
    process.wait(30 * SLOW)
    assert len(log.read_text().splitlines()) == 1


def test_summary(warm):
    """The last line says what it was good for."""
    mount = warm(CLASS)
    mount.wait_ready(1)
    touch(mount.point / 'a.seg')
    mount.wait_ready(1)
    touch(mount.point / 'b.seg')
    mount.stop()
    last = mount.log().splitlines()[-1]
    assert re.search(rf'served {mount.source} at {mount.point} for [\d.]+ s: 2 of 2 new segments came ready from the '
                     r'pool \(100.0 %\), 0 waits, 0 timeouts, 0 preparations failed', last), last


def test_crowds(warm, faults):
    """Of what fails again and again, the first lines are written; then only how many there were."""
    faults.set('pwrite errno=EROFS path=/warming-')
    mount = warm('match=*.seg,size=1M,ahead=0', faults=faults)
    for i in range(500):
        with contextlib.suppress(OSError):
            touch(mount.point / f'{i}.seg')
    errors = mount.counters()['errors']
    mount.stop()
    written = mount.log_lines('cannot prepare a segment')
    left_out = sum(int(match[1]) for match in re.finditer(r'log: (\d+) more', mount.log()))
    assert errors >= 500
    assert len(written) < errors
    assert len(written) + left_out >= errors
