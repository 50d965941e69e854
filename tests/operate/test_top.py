# SPDX-License-Identifier: Apache-2.0
"""warmfsctl top: plain text through a pipe, and on terminals of two sizes."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

import warmfs
from test_warmfsctl import CTL, Done, ctl, refused
from warmfs import SLOW, TestError, touch

CONTROL = re.compile(r'\x1b\[[?0-9;]*[A-Za-z]')


class Terminal:
    """warmfsctl top on a terminal of so many lines and columns."""

    def __init__(self, mount, lines, columns):
        self.parent, child = pty.openpty()
        self.seen = ''
        self.resize(lines, columns)
        self.process = subprocess.Popen([str(CTL), 'top', str(mount.point)], stdin=child, stdout=child,
                                        stderr=subprocess.PIPE)
        os.close(child)

    def resize(self, lines, columns):
        fcntl.ioctl(self.parent, termios.TIOCSWINSZ, struct.pack('HHHH', lines, columns, 0, 0))

    def picture(self, condition=lambda lines: True):
        """The lines of the next whole picture for which the condition holds."""
        deadline = time.monotonic() + 30 * SLOW
        while time.monotonic() < deadline:
            while '\x1b[H' in self.seen and '\x1b[J' in self.seen.split('\x1b[H', 1)[1]:
                whole, self.seen = self.seen.split('\x1b[H', 1)[1].split('\x1b[J', 1)
                lines = CONTROL.sub('', whole).replace('\r', '').split('\n')
                lines = lines[:-1] if lines[-1] == '' else lines
                if condition(lines):
                    return lines
            self._read()
        raise TestError(f'no such picture: {self.seen!r}')

    def _read(self):
        if select.select([self.parent], [], [], 1)[0]:
            # At the end of its last process a terminal says EIO.
            with contextlib.suppress(OSError):
                self.seen += os.read(self.parent, 65536).decode()

    def wait_text(self, text):
        warmfs.wait_until(lambda: self._read() or text in self.seen, 30, f'{text!r} in {self.seen!r}')

    def type(self, text):
        os.write(self.parent, text.encode())

    def local_modes(self):
        return termios.tcgetattr(self.parent)[3]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.parent)


@pytest.fixture
def mount(warm):
    mount = warm(config=''.join(f'''
[class number{i}]
match=*.{i}
size=64K
ahead=2
''' for i in range(8)))
    mount.wait_settled(16)
    return mount


@pytest.fixture
def terminal(mount):
    with contextlib.ExitStack() as stack:
        def start(*size):
            one = Terminal(mount, *size)
            stack.callback(one.close)
            return one
        yield start


def line_of(lines, name):
    return next(line for line in lines if line.startswith(name + ' '))


def test_plain(mount):
    for _ in range(3):
        touch(mount.point / 'a.1')
        os.unlink(mount.point / 'a.1')
        mount.wait_settled(16)
    text = ctl('top', mount.point, '--once')
    assert '\x1b' not in text
    lines = text.splitlines()
    assert str(mount.point) in lines[0] and 'passthrough on' in lines[0]
    assert all(len(line) <= 80 for line in lines[1:])
    assert '2/2' in line_of(lines, 'number1') and '100%' in line_of(lines, 'number1') and '[########' in text
    assert re.search(r' \d+(us|ms|s) +ok$', line_of(lines, 'number1'))
    assert line_of(lines, 'number2').split()[-3:] == ['-', '-', 'ok']
    ctl('drain', mount.point, 'number3')
    assert '....' in line_of(ctl('top', mount.point, '--once').splitlines(), 'number3')


def test_two_sizes(mount, terminal):
    top = terminal(30, 100)
    lines = top.picture()
    assert [line.split()[0] for line in lines[2:]] == [f'number{i}' for i in range(8)]
    wide = len(line_of(lines, 'number0'))
    assert 80 < wide <= 100
    # Smaller, at once; and every picture after that.
    top.resize(6, 60)
    top.process.send_signal(signal.SIGWINCH)
    lines = top.picture(lambda lines: len(lines) == 6)
    assert lines[-1] == '... and 5 more'
    assert max(map(len, lines)) <= 60
    lines = top.picture()
    assert len(lines) == 6 and max(map(len, lines)) <= 60
    top.resize(40, 132)
    top.process.send_signal(signal.SIGWINCH)
    lines = top.picture(lambda lines: len(lines) == 10)
    assert wide < len(line_of(lines, 'number0')) <= 132


def test_live(mount, terminal):
    """What happens now shows in a picture."""
    top = terminal(30, 100)
    top.picture()
    for i in range(5):
        touch(mount.point / f'{i}.4')
    busy = top.picture(lambda lines: ' - ' not in line_of(lines, 'number4'))
    assert float(line_of(busy, 'number4').split('/')[1].split()[3]) > 0
    top.picture(lambda lines: ' - ' in line_of(lines, 'number4'))


@pytest.mark.parametrize('how', ['q', 'SIGINT', 'SIGTERM'])
def test_end(terminal, how):
    """The terminal is as it was."""
    top = terminal(24, 80)
    top.picture()
    assert not top.local_modes() & termios.ECHO
    if how == 'q':
        top.type('xq')
    else:
        top.process.send_signal(getattr(signal, how))
    top.wait_text('\x1b[?1049l')
    assert top.process.wait(30 * SLOW) == 0
    assert '\x1b[?25h' in top.seen


def test_mount_ends(mount, terminal):
    top = terminal(24, 80)
    top.picture()
    mount.stop()
    top.wait_text('\x1b[?1049l')
    assert top.process.wait(30 * SLOW) == 1
    assert b'warmfsctl: top: ' in top.process.stderr.read()


def test_refused(mount, workdir):
    assert 'no warmfs is mounted there' in refused('top', workdir)
    assert 'one MOUNT' in refused('top', mount.point, mount.point, status=2)


def test_the_only_one(mount):
    """Without MOUNT, where there is no doubt; else it says which there are."""
    done = Done('top', '--once')
    assert done.status in (0, 1)
    assert str(mount.point) in done.out + done.err
