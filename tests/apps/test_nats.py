# SPDX-License-Identifier: Apache-2.0
"""NATS JetStream on warmfs, mounted over its store_dir:

    warmfs -o preset=nats /var/lib/nats /var/lib/nats

A stream's messages go to jetstream/ACCOUNT/streams/STREAM/msgs/N.blk, of 8 MB at most; each is made when the one before
is full, and grows by pwrite.
"""

import json
import socket

import pytest

from application import PoolShare, find_program, free_ports, port_is_open
from warmfs import MI, SLOW, TestError, preset

MESSAGE_BYTES = 500000
# Sixteen to a block.
MESSAGES = 16 * 14


class Client:
    """As much of the protocol as the test needs: one request at a time."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port), timeout=30 * SLOW)
        self.input = self.socket.makefile('rb')
        assert self.input.readline().startswith(b'INFO ')
        self.socket.sendall(b'CONNECT {"verbose":false}\r\nSUB _INBOX.x 1\r\nPING\r\n')
        assert self.input.readline() == b'PONG\r\n'

    def close(self):
        self.input.close()
        self.socket.close()

    def ask(self, subject, body=b''):
        self.socket.sendall(f'PUB {subject} _INBOX.x {len(body)}\r\n'.encode() + body + b'\r\n')
        while (line := self.input.readline()).startswith(b'PING'):
            self.socket.sendall(b'PONG\r\n')
        if not line.startswith(b'MSG '):
            raise TestError(f'{subject}: {line}')
        answer = json.loads(self.input.read(int(line.split()[-1]) + 2))
        if 'error' in answer:
            raise TestError(f'{subject}: {answer}')
        return answer


class Nats:
    def __init__(self, workdir, store, start):
        self.port, = free_ports(1)
        config = workdir / 'nats.conf'
        config.write_text(f'listen: 127.0.0.1:{self.port}\njetstream {{ store_dir: "{store}", max_file: 1G }}\n')
        self.server = start(find_program('nats-server'), '-c', config, log_path=workdir / 'nats.log')
        self.server.wait_until(lambda: port_is_open(self.port), 60, 'it listens')

    def stop(self):
        self.server.process.terminate()
        self.server.wait(30)


def message(number):
    return str(number).encode().rjust(20, b'.') * (MESSAGE_BYTES // 20)


@pytest.mark.limit(120)
def test_preset(warm, start, report, workdir):
    """More than nine blocks of ten come from the pool; stopped and begun again, without warmfs, all messages are there."""
    store = workdir / 'store'
    store.mkdir()
    mount = warm(*preset('nats'), source=store, over=True)
    mount.wait_ready(4)
    nats = Nats(workdir, store, start)
    client = Client(nats.port)
    share = PoolShare(mount)
    client.ask('$JS.API.STREAM.CREATE.T', json.dumps(
        {'name': 'T', 'subjects': ['t.>'], 'storage': 'file', 'retention': 'limits', 'num_replicas': 1}).encode())
    for number in range(MESSAGES):
        if number % 16 == 0:
            mount.wait_ready(2)
        assert client.ask('t.x', message(number))['seq'] == number + 1
    client.close()
    share.read()
    report(str(share))
    share.require(at_least=12)
    nats.stop()
    mount.stop()

    blocks = sorted(store.glob('jetstream/*/streams/T/msgs/*.blk'))
    assert len(blocks) >= 12
    assert all(block.stat().st_size <= 8 * MI for block in blocks)
    # What was reserved and not used has been given back, but for less than the filesystem gives out at a time.
    assert sum(block.stat().st_blocks * 512 for block in blocks) < (MESSAGES + 16) * MESSAGE_BYTES
    nats = Nats(workdir, store, start)
    client = Client(nats.port)
    state = client.ask('$JS.API.STREAM.INFO.T')['state']
    assert (state['messages'], state['first_seq'], state['last_seq']) == (MESSAGES, 1, MESSAGES)
    client.close()
    nats.stop()
