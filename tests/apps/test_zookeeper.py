# SPDX-License-Identifier: Apache-2.0
"""ZooKeeper with its transaction log (dataLogDir) on warmfs, mounted over it:

    warmfs -o preset=zookeeper /var/lib/zookeeper/log /var/lib/zookeeper/log

ZooKeeper makes every log file under its final name, version-2/log.ZXID, writes a header of 16 bytes at once, and then
one zero byte preAllocSize further on (64 MB by default), where the file is to end; it writes up to there, fdatasync
after every group of transactions, and then moves the end on in the same way. So `size` is a little more than
preAllocSize. The file must be born empty: a server that is killed before it has written the header starts again with
an empty log file, but not with one full of zeroes, as a `mapped` segment would be.

Snapshots are in another directory (dataDir) here. Each begins a new log file, after snapCount transactions or less.
"""

import os
import pathlib
import re
import socket
import struct

import pytest

from application import PoolShare, clean_environment, find_program, free_ports
from ledger import PREFIX, Ledger
from warmfs import MI, SLOW, TestError, preset

SEGMENT = MI
# A file ends there, then at twice that, and at last beyond the segment.
PREALLOCATED = 768 * 1024
# A put is two transactions; a file takes from half as many to that many of them, so up to 1 MiB and more.
SNAP_COUNT = 800
VALUE_BYTES = (1, 6000)

JARS = pathlib.Path('/usr/share/java')
LOG_HEADER = struct.pack('>4siq', b'ZKLG', 2, 0)


class ZooKeeper:
    """A server of its own, with its log in `log`; its snapshots, settings and output are in `workdir`."""

    def __init__(self, workdir, log, start):
        self.log = log
        self.data = workdir / 'zookeeper'
        self.settings = workdir / 'zoo.cfg'
        self.output = workdir / 'zookeeper.log'
        self.start_application = start
        self.port = None
        self.server = None
        self.data.mkdir()

    @property
    def logs(self):
        return self.log / 'version-2'

    def snapshots(self):
        return list((self.data / 'version-2').glob('snapshot.*'))

    def start(self, *properties):
        [self.port] = free_ports(1)
        self.settings.write_text(
            f'dataDir={self.data}\ndataLogDir={self.log}\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n'
            f'snapCount={SNAP_COUNT}\npreAllocSize={PREALLOCATED // 1024}\nadmin.enableServer=false\n')
        self.server = self.start_application(
            find_program('java'), '-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData',
            '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', *properties,
            '-cp', ':'.join(str(find_jar(name)) for name in ('zookeeper.jar', 'slf4j-simple.jar')),
            'org.apache.zookeeper.server.quorum.QuorumPeerMain', self.settings,
            environment=clean_environment(HOME='/nonexistent'), log_path=self.output)
        self.server.wait_until(self.serves, 60, 'it serves')

    def serves(self):
        """Asked without a session, which would be a transaction."""
        try:
            with socket.create_connection(('127.0.0.1', self.port), 10 * SLOW) as connection:
                connection.sendall(b'srvr')
                with connection.makefile('rb') as stream:
                    return b'Mode: standalone' in stream.read()
        except OSError:
            return False

    def connect(self):
        return Client(self.port)

    def kill(self):
        self.server.kill()


def find_jar(name):
    path = JARS / name
    if not path.exists():
        raise TestError(f'{path} is not there (mount-helpers/install-deps --tests installs it)')
    return path


# The wire format: big-endian numbers, and bytes with their length before them; 32 bits of length before each packet.

CREATE, GET_DATA, SET_DATA, GET_CHILDREN = 1, 4, 5, 8
NODE_EXISTS = -110
ANY_VERSION = -1
EVERYONE = struct.pack('>ii', 1, 31)


def packed(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack('>i', len(data)) + data


class Reader:
    """Takes an answer apart."""

    def __init__(self, data):
        self.data = data

    def number(self):
        value, = struct.unpack_from('>i', self.data)
        self.data = self.data[4:]
        return value

    def bytes(self):
        length = max(0, self.number())
        value, self.data = self.data[:length], self.data[length:]
        return value


class Client:
    """One session."""

    def __init__(self, port):
        self.connection = socket.create_connection(('127.0.0.1', port), 30 * SLOW)
        self.stream = self.connection.makefile('rb')
        self.n_requests = 0
        self._send(struct.pack('>iqiq', 0, 0, 30000, 0) + packed(bytes(16)) + b'\0')
        self._receive()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stream.close()
        self.connection.close()

    def _send(self, data):
        self.connection.sendall(packed(data))

    def _receive(self):
        length = self._read(4)
        return self._read(struct.unpack('>i', length)[0])

    def _read(self, length):
        data = self.stream.read(length)
        if len(data) < length:
            raise ConnectionResetError('the server is gone')
        return data

    def ask(self, kind, path, body=b'', allowed=()):
        """What follows the header of the answer."""
        self.n_requests += 1
        self._send(struct.pack('>ii', self.n_requests, kind) + packed(f'/{path}') + body)
        number, _, error = struct.unpack_from('>iqi', answer := self._receive())
        assert number == self.n_requests
        if error and error not in allowed:
            raise TestError(f'request {kind} for {path}: error {error}')
        return Reader(answer[16:])

    def create(self, path, allowed=()):
        acl = EVERYONE + packed('world') + packed('anyone')
        self.ask(CREATE, path, packed(b'') + acl + struct.pack('>i', 0), allowed)

    def put(self, key, value):
        self.create(key)
        self.ask(SET_DATA, key, packed(value) + struct.pack('>i', ANY_VERSION))

    def get(self, key):
        return self.ask(GET_DATA, key, b'\0').bytes()

    def keys(self):
        """Without those that were created and no more: of an unacknowledged put, that may be what is there."""
        answer = self.ask(GET_CHILDREN, PREFIX.rstrip('/'), b'\0')
        names = [PREFIX + answer.bytes().decode() for _ in range(answer.number())]
        return {name for name in names if self.get(name)}


def make_parent(zookeeper):
    with zookeeper.connect() as client:
        client.create(PREFIX.rstrip('/'), allowed=[NODE_EXISTS])


def lose_snapshots(zookeeper):
    """Takes away all that is not the log: now that has to give everything."""
    for path in zookeeper.snapshots():
        path.unlink()


TRUST_THE_LOG = '-Dzookeeper.snapshot.trust.empty=true'


@pytest.fixture
def log(workdir):
    path = workdir / 'log'
    path.mkdir(mode=0o700)
    return path


@pytest.mark.limit(200)
def test_kill_and_remount(warm, start, report, workdir, log, seed):
    """SIGKILL under load, twice; then the log alone gives everything, without warmfs and through a new daemon."""
    # The preset, but of small segments, as log files are small here.
    options = preset('zookeeper', workdir, size=SEGMENT, ahead=4)
    mount = warm(*options, source=log, over=True)
    mount.wait_ready(4)
    zookeeper = ZooKeeper(workdir, log, start)
    zookeeper.start()
    share = PoolShare(mount)
    make_parent(zookeeper)
    ledger = Ledger(seed, VALUE_BYTES)
    ledger.write_and_kill(zookeeper, 4000)
    made = share.read()
    check_logs(zookeeper, made['hits'] + made['waits'], at_least=10)
    report(str(share))
    share.require(at_least=8)
    zookeeper.start()
    ledger.verify(zookeeper)

    ledger.write_and_kill(zookeeper, 500)
    check_stopped(mount, zookeeper)
    lose_snapshots(zookeeper)
    zookeeper.start(TRUST_THE_LOG)
    ledger.verify(zookeeper)
    zookeeper.kill()

    lose_snapshots(zookeeper)
    mount = warm(*options, source=log, over=True)
    zookeeper.start(TRUST_THE_LOG)
    ledger.verify(zookeeper)
    assert mount.wait_ready(4)['adopted'] > 0
    ledger.write_and_kill(zookeeper, 500)
    check_stopped(mount, zookeeper)


def log_sizes(directory):
    return {path.name: path.stat().st_size for path in directory.iterdir()}


def check_logs(zookeeper, n_segments, at_least):
    """Every log file came through the class; some ended with their first preallocation, some grew out of it."""
    sizes = log_sizes(zookeeper.logs)
    assert len(sizes) >= at_least
    assert n_segments == len(sizes), (n_segments, sizes)
    assert any(size == len(LOG_HEADER) + PREALLOCATED for size in sizes.values()), sizes
    assert any(size > SEGMENT for size in sizes.values()), sizes


def check_stopped(mount, zookeeper):
    """Without warmfs, the directory has what ZooKeeper would have left in it, to the byte."""
    sizes = log_sizes(zookeeper.logs)
    mount.stop()
    assert not os.path.ismount(zookeeper.log)
    assert {path.name for path in zookeeper.log.iterdir()} == {'.warmfs', 'version-2'}
    assert log_sizes(zookeeper.logs) == sizes
    for path in zookeeper.logs.iterdir():
        assert re.fullmatch(r'log\.[0-9a-f]+', path.name)
        assert path.stat().st_mode & 0o777 == 0o644
        with open(path, 'rb') as file:
            # A server that was killed when it had just made the file has not come to its header.
            assert file.read(len(LOG_HEADER)) in (LOG_HEADER, b''), path
