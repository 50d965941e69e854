# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL with pg_wal on warmfs, mounted over the directory that initdb was or will be given with -X:

    warmfs -o preset=postgresql /var/lib/postgresql/wal /var/lib/postgresql/wal

PostgreSQL makes every segment as pg_wal/xlogtemp.PID (O_CREAT|O_EXCL), fills it, and renames it; `size` is what
`initdb --wal-segsize` said. With wal_init_zero=off it writes one byte at the end and the segment stays warm;
with wal_init_zero=on it writes zeroes over zeroes. With wal_recycle=on it makes few: it renames old ones, warm
as they are.
"""

import contextlib
import hashlib
import itertools
import os
import pathlib
import re
import shutil
import signal
import threading

import pytest

from application import PoolShare, descendants, find_program, run_as
from warmfs import MI, TestError, preset

USER = 'postgres'
SEGMENT = 16 * MI
OPTIONS = preset('postgresql')

SCALE = 5
CLIENTS = 4
TRANSACTIONS = 1000

SETTINGS = {
    'listen_addresses': "''",
    # Checkpoints come often, so that segments are removed or recycled, and full pages are logged again.
    'min_wal_size': '32MB',
    'max_wal_size': '64MB',
    'checkpoint_timeout': '30s',
    'shared_buffers': '64MB',
    'autovacuum': 'off',
    # What is in files is gone with them when a server is killed.
    'dynamic_shared_memory_type': 'mmap',
    'log_checkpoints': 'on',
    'restart_after_crash': 'off',
}

VARIANTS = {
    'recycle-off': {'wal_recycle': 'off', 'wal_init_zero': 'off'},
    'recycle-on': {'wal_recycle': 'on', 'wal_init_zero': 'off'},
    # Without WAL for others, PostgreSQL 15 writes its segments with O_DIRECT here.
    'init-zero-direct': {'wal_recycle': 'off', 'wal_init_zero': 'on', 'wal_sync_method': 'open_datasync',
                         'wal_level': 'minimal', 'max_wal_senders': '0'},
}

# What starting and stopping have it say, to clients above all.
EXPECTED_LOG = re.compile(r'the database system is (starting up|shutting down|not yet accepting connections)|'
                          r'terminating .* due to administrator command|'
                          r'could not (send data to|receive data from) client|connection to client lost')
BAD_LOG = re.compile(r'PANIC|FATAL|[Cc]orrupt|invalid page|checksum|could not|was terminated by signal')


def lsn_bytes(text):
    """A position in the WAL, of PostgreSQL's two hexadecimal halves."""
    high, low = text.split('/')
    return (int(high, 16) << 32) + int(low, 16)


class Cluster:
    """A database cluster of the test's own: data in `data`, WAL in `wal`, a socket in `run` and no port."""

    def __init__(self, workdir, wal, start):
        bindirs = sorted(pathlib.Path('/usr/lib/postgresql').glob('*/bin'), key=lambda path: float(path.parent.name))
        self.bindir = bindirs[-1] if bindirs else '/usr/bin'
        self.workdir = workdir
        self.wal = wal
        self.start_application = start
        self.data = workdir / 'data'
        self.run = workdir / 'run'
        self.server = None
        self.n_starts = 0
        for directory in (self.data, self.run):
            directory.mkdir(mode=0o700)
            shutil.chown(directory, USER, USER)

    def tool(self, name):
        return find_program(name, self.bindir)

    def command(self, name, *args, **options):
        return run_as(USER, self.tool(name), *args, **options)

    def client(self, name, *args, **options):
        return self.command(name, '-h', self.run, '-U', USER, *args, **options)

    def initialize(self, settings):
        self.command('initdb', '-D', self.data, '-X', self.wal, '-U', USER, '--auth=trust', '--no-sync',
                     '--data-checksums', '--encoding=UTF8', '--locale=C')
        with open(self.data / 'postgresql.conf', 'a', encoding='utf-8') as config:
            for key, value in {**SETTINGS, 'unix_socket_directories': f"'{self.run}'", **settings}.items():
                config.write(f'{key} = {value}\n')

    def start(self):
        self.n_starts += 1
        self.server = self.start_application(
            self.tool('postgres'), '-D', self.data, user=USER, end_signal=signal.SIGQUIT,
            log_path=self.workdir / f'server-{self.n_starts}.log')
        self.server.wait_until(self.accepts, 60, 'it accepts connections')

    def accepts(self):
        try:
            return self.client('psql', '-XAtq', '-c', 'SELECT 1', 'postgres', seconds=20) == '1\n'
        except TestError:
            return False

    def stop(self, mode):
        self.command('pg_ctl', 'stop', '-D', self.data, '-m', mode, '-t', '30')
        self.server.wait()

    def query(self, text):
        """The rows, as lists of strings."""
        answer = self.client('psql', '-XAtq', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-c', text, 'postgres')
        return [line.split('\t') for line in answer.splitlines()]

    def check_server_log(self):
        bad = [line for line in self.server.log().splitlines()
               if BAD_LOG.search(line) and not EXPECTED_LOG.search(line)]
        assert not bad, '\n'.join(bad)

    def segment_number(self):
        """Counted from 1, the number of the segment that is being written."""
        return lsn_bytes(self.query('SELECT pg_current_wal_insert_lsn()')[0][0]) // SEGMENT

    def redo_lsn(self):
        """Where the recovery of a stopped cluster will begin."""
        return re.search(r'REDO location:\s+(\S+)', self.command('pg_controldata', '-D', self.data))[1]


# Acknowledged inserts

def row_text(number):
    return hashlib.sha256(str(number).encode()).hexdigest() * 8


class Session(threading.Thread):
    """Inserts one row after the other through psql and remembers which were acknowledged."""

    def __init__(self, cluster, numbers, start):
        super().__init__(daemon=True)
        self.numbers = numbers
        self.tried = set()
        self.acknowledged = set()
        # Durable at some time before the last acknowledged insert.
        self.flush_lsn = None
        self.psql = start(cluster.tool('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', cluster.run, '-U', USER,
                          'postgres', piped=True, user=USER, log_path=cluster.workdir / 'psql.log')

    def run(self):
        for number in self.numbers:
            self.tried.add(number)
            try:
                self.psql.process.stdin.write(
                    f"INSERT INTO acknowledged VALUES ({number}, '{row_text(number)}') "
                    'RETURNING id, pg_current_wal_flush_lsn();\n')
                self.psql.process.stdin.flush()
                answer = self.psql.process.stdout.readline()
            except (OSError, ValueError):
                return
            if not answer.endswith('\n'):
                return
            # psql prints what the server has sent with the end of the command, so after the commit.
            returned, self.flush_lsn = answer.rstrip('\n').split('|')
            if int(returned) != number:
                return
            self.acknowledged.add(number)


class Ledger:
    """All rows that were tried and acknowledged, by all sessions."""

    def __init__(self, cluster, start):
        self.cluster = cluster
        self.start_application = start
        self.tried = set()
        self.acknowledged = set()
        self.sessions = []
        self.next_number = itertools.count(1)
        cluster.query('CREATE TABLE acknowledged (id bigint PRIMARY KEY, text text)')

    def begin(self):
        self.sessions = [Session(self.cluster, self.next_number, self.start_application) for _ in range(2)]
        for session in self.sessions:
            session.start()

    def count(self):
        return sum(len(session.acknowledged) for session in self.sessions)

    def wait_more(self, more):
        wanted = self.count() + more
        self.cluster.server.wait_until(lambda: self.count() >= wanted, 60, f'{more} more inserts are acknowledged')

    def end(self):
        """After the server has ended: the last position in the WAL that was seen to be durable."""
        for session in self.sessions:
            session.join(20)
            assert not session.is_alive()
            session.psql.close()
            self.tried |= session.tried
            self.acknowledged |= session.acknowledged
        return max((session.flush_lsn for session in self.sessions), key=lsn_bytes)

    def verify(self):
        """Nothing that was acknowledged is missing, nothing is there that was not tried, and every text is right."""
        rows = {int(number): text for number, text in self.cluster.query('SELECT id, text FROM acknowledged')}
        lost = self.acknowledged - rows.keys()
        assert not lost, f'{len(lost)} of {len(self.acknowledged)} acknowledged rows are lost: {sorted(lost)[:10]}'
        assert rows.keys() <= self.tried
        assert all(text == row_text(number) for number, text in rows.items())


# pgbench

def run_pgbench(cluster):
    cluster.client('pgbench', '-i', '-q', '-s', SCALE, 'postgres', seconds=60)
    answer = cluster.client('pgbench', '-n', '-c', CLIENTS, '-j', 2, '-t', TRANSACTIONS, 'postgres', seconds=90)
    assert f'actually processed: {CLIENTS * TRANSACTIONS}/{CLIENTS * TRANSACTIONS}\n' in answer


def verify_pgbench(cluster):
    """Every transaction is in the history, and all four tables have had the same ones."""
    rows = cluster.query('SELECT count(*), sum(delta), (SELECT sum(abalance) FROM pgbench_accounts), '
                         '(SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), '
                         '(SELECT count(*) FROM pgbench_accounts) FROM pgbench_history')
    count, delta, accounts, tellers, branches, n_accounts = (int(value) for value in rows[0])
    assert count == CLIENTS * TRANSACTIONS
    assert delta == accounts == tellers == branches
    assert n_accounts == 100000 * SCALE


def switch_segments(cluster, ledger, count):
    for _ in range(count):
        ledger.wait_more(200)
        cluster.query('SELECT pg_switch_wal()')


def crash(cluster, ledger):
    """An immediate stop in the middle of inserts; the WAL that recovery will need has to be readable."""
    ledger.wait_more(100)
    cluster.stop('immediate')
    flush_lsn = ledger.end()
    redo_lsn = cluster.redo_lsn()
    if lsn_bytes(redo_lsn) < lsn_bytes(flush_lsn):
        cluster.command('pg_waldump', '-q', '-p', cluster.wal, '-s', redo_lsn, '-e', flush_lsn)


def recover(cluster, ledger):
    cluster.start()
    assert 'automatic recovery in progress' in cluster.server.log()
    verify_pgbench(cluster)
    ledger.verify()
    cluster.check_server_log()


@pytest.fixture
def wal(workdir):
    path = workdir / 'wal'
    path.mkdir(mode=0o700)
    shutil.chown(path, USER, USER)
    return path


@pytest.mark.limit(400)
@pytest.mark.parametrize('variant', VARIANTS)
def test_crash_and_remount(warm, start, report, workdir, wal, variant):
    """Two crashes under load, the second recovered by a new daemon; all data is there after both."""
    settings = VARIANTS[variant]
    recycles = settings['wal_recycle'] == 'on'
    mount = warm(*OPTIONS, source=wal, over=True)
    cluster = Cluster(workdir, wal, start)
    cluster.initialize(settings)
    share = PoolShare(mount)

    cluster.start()
    run_pgbench(cluster)
    verify_pgbench(cluster)
    ledger = Ledger(cluster, start)
    ledger.begin()
    switch_segments(cluster, ledger, 12)
    n_segments = cluster.segment_number()
    crash(cluster, ledger)
    recover(cluster, ledger)
    made = share.read()
    report(str(share))
    share.require(at_least=4 if recycles else 12)
    if not recycles:
        # None was made in another way.
        assert made['hits'] + made['waits'] >= n_segments

    ledger.begin()
    crash(cluster, ledger)
    mount.stop()
    check_plain_source(wal)

    mount = warm(*OPTIONS, source=wal, over=True)
    recover(cluster, ledger)
    share = PoolShare(mount)
    ledger.begin()
    switch_segments(cluster, ledger, 4)
    cluster.stop('fast')
    cluster.check_server_log()
    ledger.end()
    cluster.start()
    ledger.verify()
    verify_pgbench(cluster)
    cluster.stop('fast')
    cluster.check_server_log()
    cluster.command('pg_checksums', '--check', '-D', cluster.data)
    assert share.read()['adopted'] > 0
    report(f'after a remount {share}')
    if not recycles:
        share.require(at_least=3)


@pytest.mark.limit(200)
def test_signals_while_waiting(warm, start, workdir, wal, faults):
    """Its processes signal each other all the time: a server that has to wait for each segment does not mind."""
    mount = warm('match=**/xlogtemp.*', f'size={SEGMENT}', 'ahead=0', 'timeout=600s', source=wal, over=True, faults=faults)
    cluster = Cluster(workdir, wal, start)
    cluster.initialize({'wal_recycle': 'off', 'wal_init_zero': 'off'})
    cluster.start()
    ledger = Ledger(cluster, start)
    ledger.begin()
    faults.set('fsync delay_ms=300 path=.warmfs/pool')
    for _ in range(6):
        waits = mount.counters()['waits']
        switch = start(cluster.tool('psql'), '-Xqc', 'SELECT pg_switch_wal()', '-h', cluster.run, '-U', USER, 'postgres',
                       user=USER, log_path=workdir / 'switch.log')
        cluster.server.wait_until(lambda: signal_all(cluster.server) and mount.counters()['waits'] > waits, 60,
                                  'it asks for a segment')
        cluster.server.wait_until(lambda: signal_all(cluster.server) and mount.counters()['waiting'] == 0, 60,
                                  'it has the segment')
        assert switch.wait() == 0, switch.log()
        ledger.wait_more(20)
    assert mount.counters()['cancelled'] == 0
    cluster.check_server_log()
    cluster.stop('fast')
    cluster.check_server_log()
    ledger.end()
    cluster.start()
    ledger.verify()
    cluster.stop('fast')


def signal_all(server):
    """What a reload sends, and what the processes send each other."""
    for pid in descendants(server.pid):
        for number in (signal.SIGHUP, signal.SIGUSR1):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    return True


def check_plain_source(wal):
    """Without warmfs, the directory has what PostgreSQL would have left in it."""
    assert not os.path.ismount(wal)
    segments = [path for path in wal.iterdir() if re.fullmatch(r'[0-9A-F]{24}', path.name)]
    assert segments
    for path in segments:
        assert path.stat().st_size == SEGMENT
        assert (path.owner(), path.stat().st_mode & 0o777) == (USER, 0o600)
    assert {path.name for path in wal.iterdir()} - {path.name for path in segments} <= {
        '.warmfs', 'archive_status', 'summaries'}
