# SPDX-License-Identifier: Apache-2.0
"""`warmfs --check`: what it shows on a terminal, how it is stopped, what it refuses, and what it exits with."""

import contextlib
import fcntl
import os
import pathlib
import re
import signal
import struct
import subprocess
import termios

import pytest

import warmfs
from warmfs import MI, SLOW, snapshot, wait_until, write_all

SIZE = 8 * MI
OPTIONS = ('match=**/*.seg', f'size={SIZE}', 'kind=append', 'ahead=0', 'linger=3600s')
# Read in pieces of this size.
PIECE = MI
CLEAN, CORRECTED, LEFT, TROUBLE, STOPPED = 0, 1, 4, 8, 32


def data_of(name):
    """600 bytes. The zeros are not to be seen in the file's end: only a record says that they belong to it."""
    return name.encode() * 100 + bytes(100)


class LeftLive:
    """A source whose daemon was killed with segments live."""

    def __init__(self, warm, *names, synced=False):
        mount = warm(*OPTIONS)
        self.source = mount.source
        self.names = names
        # Open until the end: a closed one is sealed when a newer one is taken.
        with contextlib.ExitStack() as files:
            for name in names:
                file = files.enter_context(open(mount.point / name, 'wb', buffering=0))
                file.write(data_of(name))
                if synced:
                    os.fsync(file.fileno())
            mount.kill()
        mount.close()
        assert self.n_live() == len(names)
        if synced:
            # As after a reboot: each is read for its end.
            (self.source / '.warmfs/live').unlink()

    def n_live(self):
        return len([path for path in (self.source / '.warmfs/pool').iterdir() if path.stat().st_nlink == 2])

    def n_sealed(self):
        """How many are plain files; the others must be as they were."""
        found = 0
        for name in self.names:
            status = (self.source / name).stat()
            if status.st_nlink == 1:
                assert (self.source / name).read_bytes() == data_of(name)
                found += 1
            else:
                assert status.st_size > SIZE
        return found


@pytest.fixture
def left_live(warm):
    return lambda *names, **options: LeftLive(warm, *names, **options)


@pytest.fixture
def unread(left_live):
    """Three whose ends have to be looked for."""
    return left_live('a.seg', 'b.seg', 'c.seg', synced=True)


def check(*args, faults=None):
    command, environment = warmfs.warmfs_command('--check', *args, faults=faults)
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60 * SLOW, check=False)


# On a terminal

class Terminal:
    """A command whose controlling terminal and standard error is this one. `columns`: its width."""

    def __init__(self, *args, faults=None, columns=80):
        self.output = b''
        self.master, end = os.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
        os.set_blocking(self.master, False)
        command, environment = warmfs.warmfs_command('--check', *args, faults=faults)
        self.process = subprocess.Popen(command, env=environment, stdin=end, stdout=end, stderr=end,
                                        preexec_fn=self._take_terminal)
        os.close(end)
        warmfs.LIVE.append(self)

    @staticmethod
    def _take_terminal():
        warmfs.die_with_parent()
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def read(self):
        # EIO: nobody has the other end any more.
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self.master, 65536):
                self.output += data
        return self.output.decode()

    def press(self, key):
        os.write(self.master, key)

    def wait_pending(self, number):
        def pending():
            status = pathlib.Path(f'/proc/{self.process.pid}/status').read_text()
            sets = re.findall(r'^(?:Sig|Shd)Pnd:\t([0-9a-f]+)$', status, re.MULTILINE)
            return any(int(text, 16) >> (number - 1) & 1 for text in sets)
        wait_until(pending, what=f'signal {number}')

    def wait(self):
        """Its exit status."""
        # A terminal that nobody reads is full at some time.
        wait_until(lambda: self.read() is not None and self.process.poll() is not None, 60, 'the end of the check')
        self.read()
        return self.process.returncode

    def screen(self):
        """The lines that one sees in the end."""
        lines, column = [''], 0
        for part in re.findall(r'\r|\n|\x1b\[K|[^\r\n\x1b]+', self.read()):
            if part == '\r':
                column = 0
            elif part == '\n':
                lines.append('')
                column = 0
            elif part == '\x1b[K':
                lines[-1] = lines[-1][:column]
            else:
                lines[-1] = lines[-1][:column].ljust(column) + part + lines[-1][column + len(part):]
                column += len(part)
        return lines

    def bars(self):
        """(segments done, per cent) of each bar that was shown."""
        return [(int(done), int(share)) for done, share in
                re.findall(r'\r\x1b\[K\[[# ]+\] (\d+) of \d+ segments, (\d+)%', self.read())]

    def abort(self):
        if self.process.poll() is None:
            self.process.kill()

    def close(self):
        self.abort()
        self.process.wait()
        warmfs.LIVE.remove(self)
        os.close(self.master)


@pytest.fixture
def terminal(stack):
    def start(*args, **options):
        started = Terminal(*args, **options)
        stack.callback(started.close)
        return started
    return start


def require_clean_screen(lines, n_sealed):
    """Nothing but whole log lines: none has a piece of the bar in it."""
    assert lines[-1] == ''
    assert all(line.startswith('warmfs: ') for line in lines[:-1]), lines
    assert not any('#' in line or '%' in line for line in lines), lines
    assert len([line for line in lines if re.search(r' sealed to \d+ bytes$', line)]) == n_sealed


def test_bar(unread, terminal):
    """It moves within a segment, never back, and lines stand above it."""
    shown = terminal(unread.source, columns=120)
    assert shown.wait() == CORRECTED
    bars = shown.bars()
    assert bars[0] == (0, 0)
    assert bars == sorted(bars)
    for done in range(3):
        assert len({share for n, share in bars if n == done}) >= 4, bars
    require_clean_screen(shown.screen(), 3)
    assert unread.n_sealed() == 3


def test_bar_is_there_while_a_segment_is_read(unread, terminal, faults):
    faults.set(f'pread delay_ms=hold len={PIECE} after=5')
    shown = terminal(unread.source, faults=faults)
    faults.wait_hit('pread')
    wait_until(lambda: shown.screen()[-1].startswith('['), what='the bar')
    assert re.fullmatch(r'\[#+ +\] 0 of 3 segments, 20%', shown.screen()[-1])
    faults.clear()
    assert shown.wait() == CORRECTED
    require_clean_screen(shown.screen(), 3)


@pytest.mark.parametrize('columns', [10, 40, 0])
def test_narrow_terminal(unread, terminal, columns):
    """What would not fit into a line could not be taken away again."""
    shown = terminal('--dry-run', unread.source, columns=columns)
    assert shown.wait() == LEFT
    pieces = [piece for piece in re.split(r'\r|\n|\x1b\[K', shown.read()) if not piece.startswith('warmfs:')]
    assert max(len(piece) for piece in pieces) < (columns or 80)
    lines = [line for line in shown.screen() if line]
    assert all(line.startswith('warmfs: ') for line in lines)


def test_no_bar_without_terminal(unread):
    done = check(unread.source)
    assert done.returncode == CORRECTED
    assert done.stdout == ''
    assert not re.search(r'[\r\x1b\[%#]', done.stderr)
    require_clean_screen(done.stderr.split('\n'), 3)


def test_nothing_to_do_shows_nothing(warm, terminal):
    mount = warm(*OPTIONS, 'ahead=2')
    mount.wait_settled(2)
    mount.stop()
    shown = terminal(mount.source)
    assert shown.wait() == CLEAN
    assert shown.read() == ''


# Stopped

@pytest.mark.parametrize('call', ['pread', 'ftruncate', 'fsync', 'unlinkat'])
def test_interrupt_key(left_live, terminal, faults, call):
    """Ends between two steps: what is begun is done, what is not is as it was, and the next check goes on."""
    left = left_live('a.seg', 'b.seg', 'c.seg', synced=call == 'pread')
    rule = f'pread delay_ms=hold len={PIECE} after={SIZE // PIECE + 2}' if call == 'pread' else \
        f'{call} delay_ms=hold after=1'
    faults.set(rule)
    shown = terminal(left.source, faults=faults)
    faults.wait_hit(call)
    shown.press(b'\x03')
    shown.wait_pending(signal.SIGINT)
    faults.clear()
    assert shown.wait() == STOPPED
    n_sealed = 1 if call == 'pread' else 2
    lines = [line for line in shown.screen() if line]
    assert lines[-1].endswith(
        f'--check: stopped by SIGINT after {n_sealed} segments; the rest is as it was: run it again')
    assert left.n_sealed() == n_sealed
    assert left.n_live() == 3 - n_sealed
    done = check(left.source)
    assert (done.returncode, done.stderr.count(' sealed to ')) == (CORRECTED, 3 - n_sealed)
    assert left.n_sealed() == 3
    assert check(left.source).returncode == CLEAN


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_signal(unread, terminal, faults, number):
    faults.set(f'pread delay_ms=hold len={PIECE}')
    shown = terminal(unread.source, faults=faults)
    faults.wait_hit('pread')
    shown.process.send_signal(number)
    faults.clear()
    assert shown.wait() == STOPPED
    assert f'stopped by {number.name} after 0 segments' in shown.read()
    assert unread.n_sealed() == 0
    assert check(unread.source).returncode == CORRECTED


def test_stopped_then_mounted(warm, unread, terminal, faults):
    """After a check that was stopped a mount goes on as well."""
    faults.set(f'pread delay_ms=hold len={PIECE}')
    shown = terminal(unread.source, faults=faults)
    faults.wait_hit('pread')
    shown.press(b'\x03')
    shown.wait_pending(signal.SIGINT)
    faults.clear()
    assert shown.wait() == STOPPED
    mount = warm(*OPTIONS)
    assert {path.name: path.read_bytes() for path in mount.point.iterdir()} == {
        name: data_of(name) for name in unread.names}


@pytest.mark.parametrize('synced', [False, True])
@pytest.mark.parametrize('call', ['ftruncate', 'fsync', 'unlinkat'])
def test_killed(left_live, terminal, faults, call, synced):
    """At any of its calls: the next one ends as this one would have."""
    left = left_live('a.seg', 'b.seg', synced=synced)
    for after in (0, 1):
        faults.set(f'{call} delay_ms=hold after={after}')
        shown = terminal(left.source, faults=faults)
        wait_until(lambda shown=shown, before=after: len(faults.hits(call)) > before or shown.process.poll() is not None,
                   what=call)
        shown.abort()
        shown.wait()
    assert check(left.source).returncode in (CLEAN, CORRECTED)
    assert left.n_sealed() == 2


# Refused, and exit status

def require_refused(source, words, unchanged):
    before = snapshot(unchanged)
    for more in ([], ['--dry-run']):
        done = check(*more, source)
        assert done.returncode == TROUBLE
        assert done.stderr.count('\n') == 1
        assert words in done.stderr
    assert snapshot(unchanged) == before


@pytest.mark.parametrize('over', [True, False])
def test_served(warm, over):
    """By a mount over it, or elsewhere; also a directory in the mount is not to be taken for a source."""
    mount = warm(*OPTIONS, over=over)
    (mount.point / 'directory').mkdir()
    write_all(mount.point / 'a.seg', b'data')
    require_refused(mount.source, 'served by', mount.src)
    require_refused(mount.point, 'mounted there', mount.src)
    require_refused(mount.point / 'directory', 'mounted there', mount.src)
    assert (mount.point / 'a.seg').read_bytes() == b'data'


def test_dead_mount_over_it(warm):
    mount = warm(*OPTIONS, over=True)
    write_all(mount.point / 'a.seg', b'data')
    mount.kill()
    require_refused(mount.source, 'umount it first', mount.src)
    mount.close()
    assert check(mount.source).returncode == CORRECTED


def test_checked_by_another(unread, terminal, faults):
    """Two at once: the second is refused."""
    faults.set(f'pread delay_ms=hold len={PIECE}')
    first = terminal(unread.source, faults=faults)
    faults.wait_hit('pread')
    require_refused(unread.source, 'already served by another warmfs', unread.source)
    faults.clear()
    assert first.wait() == CORRECTED


def test_statuses(left_live, faults):
    left = left_live('a.seg', 'b.seg')
    before = snapshot(left.source)
    looked = check('--dry-run', left.source)
    assert (looked.returncode, looked.stderr.count('would be sealed to 600 bytes')) == (LEFT, 2)
    assert snapshot(left.source) == before
    faults.set('ftruncate errno=EIO count=1')
    failed = check(left.source, faults=faults)
    assert failed.returncode == LEFT
    assert 'Input/output error; left as it is' in failed.stderr
    faults.clear()
    assert (left.n_sealed(), left.n_live()) == (1, 1)
    assert check(left.source).returncode == CORRECTED
    assert left.n_sealed() == 2
    assert check(left.source).returncode == CLEAN
    assert check('--dry-run', left.source).returncode == CLEAN
    assert check(left.source / 'absent').returncode == TROUBLE


def test_dry_run_of_a_read_only_source(left_live, stack, workdir):
    """Such as a disk that is only to be looked at."""
    left = left_live('a.seg', synced=True)
    point = workdir / 'read-only'
    point.mkdir()
    warmfs.run('mount', '--bind', left.source, point)
    stack.callback(warmfs.umount, point)
    warmfs.run('mount', '-o', 'remount,bind,ro', point)
    before = snapshot(left.source)
    looked = check('--dry-run', point)
    assert (looked.returncode, looked.stderr.count('would be sealed to 600 bytes')) == (LEFT, 1)
    assert check(point).returncode in (LEFT, TROUBLE)
    assert snapshot(left.source) == before


@pytest.mark.parametrize('more', [[], ['--dry-run']])
def test_never_served(workdir, more):
    """Nothing to do, and nothing is made."""
    for directory in (workdir / 'never', workdir / 'other/.warmfs'):
        directory.mkdir(parents=True)
    before = snapshot(workdir)
    for source in (workdir / 'never', workdir / 'other'):
        done = check(*more, source)
        assert (done.returncode, done.stdout, done.stderr) == (CLEAN, '', '')
    assert snapshot(workdir) == before
