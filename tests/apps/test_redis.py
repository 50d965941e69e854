# SPDX-License-Identifier: Apache-2.0
"""Redis with its append-only file on warmfs, mounted over its directory:

    warmfs -o preset=redis /var/lib/redis /var/lib/redis

Redis 7 appends to appendonlydir/appendonly.aof.N.incr.aof. BGREWRITEAOF opens the next one, N + 1, writes what
memory holds to temp-rewriteaof-PID.aof in the directory itself, renames that to appendonlydir/appendonly.aof.N.base.rdb
(or .base.aof), and removes the files before. All are born empty and only grow. `**/*.aof` also has the temporary file
come from the pool (and is no preset); the manifest, appendonly.aof.manifest and temp-appendonly.aof.manifest, is small and matches neither.
"""

import contextlib
import os
import re
import socket

import pytest

from application import PoolShare, find_program, run_as
from ledger import PREFIX, Ledger
from warmfs import MI, SLOW, TestError, preset

SEGMENT = MI
# Of one to 4 KiB, 2 KiB on average: a segment is full after some 500.
VALUE_BYTES = (1, 4096)
REWRITES = 14

VARIANTS = {
    # Pattern, and how many of its files one rewrite makes.
    'increments': ('**/*.incr.aof', 1),
    'rewrites-too': ('**/*.aof', 2),
}

NAMES = re.compile(r'appendonly\.aof\.(\d+\.(base\.rdb|incr\.aof)|manifest)')


class Redis:
    """A server without a port, whose directory is `data`; what is in `run` is its socket."""

    def __init__(self, data, run, start):
        self.data = data
        self.socket = run / 'redis.sock'
        self.log_path = run / 'redis.log'
        self.start_application = start
        self.server = None

    @property
    def aof(self):
        return self.data / 'appendonlydir'

    def start(self):
        self.socket.unlink(missing_ok=True)
        self.server = self.start_application(
            find_program('redis-server'), '--port', '0', '--unixsocket', self.socket, '--dir', self.data,
            '--save', '', '--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0',
            log_path=self.log_path)
        self.server.wait_until(self.accepts, 60, 'it has loaded its data')

    def accepts(self):
        try:
            with self.connect() as client:
                return client.ask('PING') == 'PONG'
        except (OSError, TestError):
            return False

    def connect(self):
        return Client(self.socket)

    def kill(self):
        self.server.kill()

    def stop(self):
        self.server.process.terminate()
        assert self.server.wait() == 0, self.server.log()[-4000:]

    def rewriting(self):
        with self.connect() as client:
            facts = dict(line.split(':') for line in client.ask('INFO', 'persistence').decode().split() if ':' in line)
        return facts['aof_rewrite_in_progress'] != '0' or facts['aof_last_bgrewrite_status'] != 'ok'

    def begin_rewrite(self):
        with self.connect() as client:
            client.ask('BGREWRITEAOF')

    def rewrite(self):
        self.begin_rewrite()
        self.server.wait_until(lambda: not self.rewriting(), 30, 'the rewrite is done')

    def slow_down_rewrites(self, microseconds):
        """The next one takes so much longer for each key."""
        with self.connect() as client:
            client.ask('CONFIG', 'SET', 'rdb-key-save-delay', microseconds)


class Client:
    """One connection, speaking RESP."""

    def __init__(self, path):
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(30 * SLOW)
            connection.connect(os.fspath(path))
            self.stream = stack.enter_context(connection.makefile('rwb'))
            self.stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        # What could not be sent to a server that is gone is not sent at the end either.
        with contextlib.suppress(OSError):
            self.stack.close()

    def ask(self, *words):
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.stream.write(b'*%d\r\n' % len(encoded) + b''.join(b'$%d\r\n%b\r\n' % (len(word), word) for word in encoded))
        self.stream.flush()
        return self._answer()

    def _answer(self):
        line = self.stream.readline()
        if not line.endswith(b'\r\n'):
            raise ConnectionResetError('the server is gone')
        sign, rest = line[:1], line[1:-2]
        if sign == b'+':
            return rest.decode()
        if sign == b':':
            return int(rest)
        if sign == b'$':
            return self._bulk(int(rest))
        if sign == b'*':
            return [self._answer() for _ in range(int(rest))]
        raise TestError(line.decode(errors='replace'))

    def _bulk(self, length):
        """The value, or None."""
        if length < 0:
            return None
        data = self.stream.read(length + 2)
        if len(data) < length + 2:
            raise ConnectionResetError('the server is gone')
        return data[:-2]

    def put(self, key, value):
        assert self.ask('SET', key, value) == 'OK'

    def get(self, key):
        return self.ask('GET', key)

    def keys(self):
        return {key.decode() for key in self.ask('KEYS', PREFIX + '*')}


def kill_in_rewrite(redis, ledger):
    """SIGKILL, to the server and to the child that writes the new base, with two increments in use."""
    n_increments = len(list(redis.aof.glob('*.incr.aof')))
    # So long that it is not over before the kill, however slow the disk is.
    redis.slow_down_rewrites(100000)
    redis.begin_rewrite()
    ledger.wait_more(200)
    assert redis.rewriting()
    assert len(list(redis.aof.glob('*.incr.aof'))) == n_increments + 1
    ledger.kill()


def aof_sizes(directory):
    return {path.name: path.stat().st_size for path in directory.iterdir()}


@pytest.fixture
def data(workdir):
    path = workdir / 'data'
    path.mkdir(mode=0o700)
    return path


@pytest.mark.limit(200)
@pytest.mark.parametrize('variant', VARIANTS)
def test_kill_and_remount(warm, start, report, workdir, data, seed, variant):
    """SIGKILL in a rewrite under load, a kill of an idle server, and a new daemon: nothing acknowledged is missing."""
    pattern, files_per_rewrite = VARIANTS[variant]
    changes = {'match': pattern} if variant == 'rewrites-too' else {}
    options = preset('redis', workdir, size=SEGMENT, ahead=4, **changes)
    mount = warm(*options, source=data, over=True)
    mount.wait_ready(4)
    redis = Redis(data, workdir, start)
    redis.start()
    share = PoolShare(mount)
    ledger = Ledger(seed, VALUE_BYTES)
    ledger.begin(redis)
    for _ in range(REWRITES):
        ledger.wait_more(150)
        redis.rewrite()
    # Beyond the capacity of a segment.
    ledger.wait_more(1500)
    assert max(aof_sizes(redis.aof).values()) > SEGMENT
    kill_in_rewrite(redis, ledger)
    share.read()
    report(str(share))
    share.require(at_least=REWRITES * files_per_rewrite)
    redis.start()
    ledger.verify(redis)

    ledger.begin(redis)
    ledger.wait_more(300)
    redis.rewrite()
    ledger.wait_more(300)
    ledger.end()
    redis.kill()
    check_stopped(mount, data)

    mount = warm(*options, source=data, over=True)
    redis.start()
    ledger.verify(redis)
    assert mount.wait_ready(4)['adopted'] > 0
    ledger.begin(redis)
    redis.rewrite()
    ledger.wait_more(300)
    ledger.end()
    redis.stop()
    check_stopped(mount, data)


def check_stopped(mount, data):
    """Without warmfs, the directory has what Redis would have left in it, to the byte, and Redis accepts it."""
    aof = data / 'appendonlydir'
    sizes = aof_sizes(aof)
    mount.stop()
    assert not os.path.ismount(data)
    assert aof_sizes(aof) == sizes
    assert all(NAMES.fullmatch(name) for name in sizes), sizes
    # A killed rewrite leaves its file behind.
    left = {path.name for path in data.iterdir()} - {'.warmfs', 'appendonlydir'}
    assert all(re.fullmatch(r'temp-rewriteaof-\d+\.aof', name) for name in left), left
    for path in aof.glob('*.incr.aof'):
        assert path.read_bytes()[-2:] in (b'', b'\r\n')
        assert path.stat().st_mode & 0o777 == 0o644
    answer = run_as(None, find_program('redis-check-aof'), aof / 'appendonly.aof.manifest')
    assert 'All AOF files and manifest are valid' in answer, answer
