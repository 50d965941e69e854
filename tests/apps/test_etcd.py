# SPDX-License-Identifier: Apache-2.0
"""etcd with its data directory on warmfs, mounted over it:

    warmfs -o preset=etcd /var/lib/etcd/default /var/lib/etcd/default

etcd's WAL pipeline makes the next segment as member/wal/0.tmp or 1.tmp, sizes it (64,000,000 bytes), and renames it
when the one in use is full. That is what `mapped` segments are for. The very first file is another matter:
member/wal.tmp/0000000000000000-0000000000000000.wal is opened and *sought to its end* before it is sized, so that it
must be born empty. Leave it out, or give it a class of kind `stream`, as the preset does; as a `mapped` segment it would
begin with 64 MB of zeroes, and etcd would not start again.
"""

import base64
import http.client
import json
import os

import pytest

from application import PoolShare, clean_environment, find_program, free_ports
from ledger import PREFIX, Ledger
from warmfs import SLOW, TestError, preset

SEGMENT = 64000000
VALUE_BYTES = 128 * 1024

OPTIONS = ('match=**/wal/*.tmp', f'size={SEGMENT}', 'kind=mapped', 'ahead=4')


class Etcd:
    """A cluster of one member, on free ports of the loopback."""

    def __init__(self, data, log_path, start):
        self.data = data
        self.log_path = log_path
        self.start_application = start
        self.port = self.peer_port = None
        self.server = None

    @property
    def wal(self):
        return self.data / 'member/wal'

    def wal_files(self):
        return sorted(self.wal.glob('*.wal'))

    def start(self):
        self.port, self.peer_port = free_ports(2)
        client, peer = f'http://127.0.0.1:{self.port}', f'http://127.0.0.1:{self.peer_port}'
        self.server = self.start_application(
            find_program('etcd'), '--name=default', f'--data-dir={self.data}', f'--listen-client-urls={client}',
            f'--advertise-client-urls={client}', f'--listen-peer-urls={peer}',
            f'--initial-advertise-peer-urls={peer}', f'--initial-cluster=default={peer}',
            environment=clean_environment(HOME='/nonexistent'), log_path=self.log_path)
        self.server.wait_until(self.is_healthy, 60, 'it is healthy')

    def is_healthy(self):
        try:
            with self.connect() as client:
                return client.ask('GET', '/health')['health'] == 'true'
        except (OSError, http.client.HTTPException, TestError, ValueError):
            return False

    def connect(self):
        return Client(self.port)

    def kill(self):
        self.server.kill()


class Client:
    """One connection to etcd's JSON gateway."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30 * SLOW)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.connection.close()

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body=json.dumps(body) if body else None)
        response = self.connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise TestError(f'{path}: {response.status} {data[:500]}')
        return json.loads(data)

    def put(self, key, value):
        return self.ask('POST', '/v3/kv/put', {'key': encode(key.encode()), 'value': encode(value)})

    def get(self, key):
        """The value, or None."""
        found = self.ask('POST', '/v3/kv/range', {'key': encode(key.encode())}).get('kvs', [])
        return base64.b64decode(found[0].get('value', '')) if found else None

    def keys(self):
        first, end = PREFIX.encode(), PREFIX[:-1].encode() + bytes([ord(PREFIX[-1]) + 1])
        found = self.ask('POST', '/v3/kv/range', {'key': encode(first), 'range_end': encode(end), 'keys_only': True})
        return {base64.b64decode(pair['key']).decode() for pair in found.get('kvs', [])}


def encode(data):
    return base64.b64encode(data).decode()


@pytest.fixture
def data(workdir):
    path = workdir / 'data'
    path.mkdir(mode=0o700)
    return path


def check_segments(etcd, n_segments, at_least):
    """Every segment but the first came through the class; etcd cuts one after the record that fills it."""
    files = etcd.wal_files()
    assert len(files) >= at_least
    assert n_segments >= len(files) - 1, (n_segments, files)
    for path in files:
        assert SEGMENT <= path.stat().st_size < SEGMENT + 16 * VALUE_BYTES, path


def lose_database(etcd):
    """Takes away all that is not the log: now that has to give everything."""
    assert not list((etcd.data / 'member/snap').glob('*.snap'))
    (etcd.data / 'member/snap/db').unlink()


@pytest.mark.limit(600)
def test_kill_and_remount(warm, start, report, workdir, data, seed):
    """SIGKILL in the middle of puts, twice; the second time the log alone gives everything, through a new daemon."""
    mount = warm(*OPTIONS, source=data, over=True)
    etcd = Etcd(data, workdir / 'etcd.log', start)
    etcd.start()
    share = PoolShare(mount)
    ledger = Ledger(seed, (VALUE_BYTES, VALUE_BYTES))
    ledger.write_and_kill(etcd, 2500)
    made = share.read()
    check_segments(etcd, made['hits'] + made['waits'], at_least=5)
    etcd.start()
    ledger.verify(etcd)
    share.read()
    report(str(share))
    share.require(at_least=4)

    ledger.write_and_kill(etcd, 500)
    mount.stop()
    check_plain_source(data)
    lose_database(etcd)
    mount = warm(*OPTIONS, source=data, over=True)
    etcd.start()
    ledger.verify(etcd)
    assert mount.wait_ready(4)['adopted'] > 0


@pytest.mark.limit(300)
def test_first_segment_as_stream(warm, start, report, workdir, data, seed):
    """The preset: the very first WAL file is born empty, and so every one can come from a pool."""
    mount = warm(*preset('etcd'), source=data, over=True)
    etcd = Etcd(data, workdir / 'etcd.log', start)
    etcd.start()
    shares = [PoolShare(mount, name) for name in ('etcd-first-wal', 'etcd-wal')]
    ledger = Ledger(seed, (VALUE_BYTES, VALUE_BYTES))
    ledger.write_and_kill(etcd, 1000)
    first, pipeline = (share.read() for share in shares)
    assert first['hits'] + first['waits'] == 1
    check_segments(etcd, pipeline['hits'] + pipeline['waits'], at_least=2)
    report(f'of the pipeline {shares[1]}')
    shares[1].require(at_least=1)
    lose_database(etcd)
    etcd.start()
    ledger.verify(etcd)


def check_plain_source(data):
    """Without warmfs, the directory has what etcd would have left in it."""
    assert not os.path.ismount(data)
    assert {path.name for path in data.iterdir()} == {'.warmfs', 'member'}
    for path in (data / 'member/wal').iterdir():
        assert path.suffix in ('.wal', '.tmp')
        assert path.stat().st_mode & 0o777 == 0o600
