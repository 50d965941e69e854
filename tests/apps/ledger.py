# SPDX-License-Identifier: Apache-2.0
"""What a key-value server acknowledged, and whether all of it is there after a crash.

A server here has `server` (the running Application), kill(), and connect(): a client, a context manager with
put(key, value), get(key) and keys(). Its put raises TestError for an answer that is no yes, and OSError or
HTTPException once the server is gone.
"""

import hashlib
import http.client
import random
import threading

from warmfs import TestError

PREFIX = 'warmfs/'
WRITERS = 4


def value_of(seed, key, sizes):
    generator = random.Random(f'{seed} {key}')
    return generator.randbytes(generator.randint(*sizes))


class Writer(threading.Thread):
    """Puts one key after the other until the server is gone, and remembers the digests of those acknowledged."""

    def __init__(self, server, name, seed, sizes):
        super().__init__(daemon=True)
        self.connect = server.connect
        self.prefix = f'{PREFIX}{name}-'
        self.seed = seed
        self.sizes = sizes
        self.tried = set()
        self.acknowledged = {}
        self.enough = False
        self.error = None

    def run(self):
        try:
            with self.connect() as client:
                for number in range(10**6):
                    if self.enough:
                        return
                    self._put(client, f'{self.prefix}{number:06}')
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def _put(self, client, key):
        value = value_of(self.seed, key, self.sizes)
        self.tried.add(key)
        try:
            client.put(key, value)
        except TestError:
            # An answer, but not a yes: on a slow machine etcd gives up a request. It may still be done.
            pass
        else:
            self.acknowledged[key] = hashlib.sha256(value).digest()


class Ledger:
    """All that was put, by all writers. The values are random, of `sizes` (smallest, largest) bytes."""

    def __init__(self, seed, sizes):
        self.seed = seed
        self.sizes = sizes
        self.n_rounds = 0
        self.server = None
        self.writers = []
        self.tried = set()
        self.acknowledged = {}

    def begin(self, server):
        self.n_rounds += 1
        self.server = server
        self.writers = [Writer(server, f'{self.n_rounds}-{i}', self.seed, self.sizes) for i in range(WRITERS)]
        for writer in self.writers:
            writer.start()

    def wait_more(self, more):
        """Until that many more are acknowledged, with all writers at work."""
        wanted = self._count() + more
        self.server.server.wait_until(lambda: self._count() >= wanted, 300, f'{more} more puts')

    def end(self):
        """The writers finish the puts they are at; then nothing is under way."""
        for writer in self.writers:
            writer.enough = True
        writers = self.writers
        self._collect()
        errors = [writer.error for writer in writers if writer.error]
        assert not errors, errors

    def kill(self):
        """SIGKILL for the server, while it takes puts."""
        self.server.kill()
        writers = self.writers
        self._collect()
        assert all(writer.error for writer in writers)

    def write_and_kill(self, server, at_least):
        """Puts until that many are acknowledged, and kills the server while it takes more."""
        self.begin(server)
        try:
            self.wait_more(at_least)
        finally:
            self.kill()

    def _count(self):
        assert all(writer.is_alive() for writer in self.writers), [writer.error for writer in self.writers]
        return sum(len(writer.acknowledged) for writer in self.writers)

    def _collect(self):
        for writer in self.writers:
            writer.join(20)
            assert not writer.is_alive()
            self.tried |= writer.tried
            self.acknowledged.update(writer.acknowledged)
        self.writers = []

    def verify(self, server):
        """Nothing that was acknowledged is missing, nothing is there that was not tried, every value is right."""
        with server.connect() as client:
            keys = client.keys()
            lost = self.acknowledged.keys() - keys
            assert not lost, f'{len(lost)} of {len(self.acknowledged)} acknowledged keys are lost: {sorted(lost)[:5]}'
            assert keys <= self.tried
            for key in sorted(keys):
                digest = self.acknowledged.get(key) or self._digest(key)
                assert hashlib.sha256(client.get(key)).digest() == digest, key

    def _digest(self, key):
        return hashlib.sha256(value_of(self.seed, key, self.sizes)).digest()
