# SPDX-License-Identifier: Apache-2.0
"""MariaDB with its binary log on warmfs, mounted over the directory of log_bin:

    warmfs -o preset=mysql /var/lib/mysql-binlog /var/lib/mysql-binlog

NAME.000001 and so on grow by write, with a sync for every group of commits; the next begins at max_binlog_size, at FLUSH
BINARY LOGS and at every start.
"""

import re

import pytest

from application import PoolShare, find_program, run_as
from warmfs import preset

ROUNDS = 13
ROWS = 8


class MariaDb:
    def __init__(self, workdir, binlog, start):
        self.socket = workdir / 'mysql.sock'
        self.data = workdir / 'data'
        self.log_path = workdir / 'mariadb.log'
        self.binlog = binlog
        self.start_application = start
        self.server = None
        run_as(None, find_program('mariadb-install-db'), '--no-defaults', '--user=root', f'--datadir={self.data}',
               '--skip-test-db', '--auth-root-authentication-method=normal', seconds=120)

    def start(self):
        self.socket.unlink(missing_ok=True)
        self.server = self.start_application(
            find_program('mariadbd', '/usr/sbin', '/usr/bin'), '--no-defaults', '--user=root', f'--datadir={self.data}',
            f'--socket={self.socket}', '--skip-networking', '--skip-grant-tables', f'--log-bin={self.binlog}/binlog',
            '--sync-binlog=1', '--binlog-format=ROW', '--max-binlog-size=1G', log_path=self.log_path)
        self.server.wait_until(self.socket.exists, 120, 'its socket')

    def ask(self, statement):
        return run_as(None, find_program('mariadb'), '--no-defaults', '-B', '-N', f'--socket={self.socket}', '-e', statement)


@pytest.mark.limit(300)
def test_preset(warm, start, report, workdir):
    """More than nine logs of ten come from the pool; after a kill of the server, and without warmfs, every row is in them."""
    binlog = workdir / 'binlog'
    binlog.mkdir()
    mount = warm(*preset('mysql', workdir, size='1M'), source=binlog, over=True)
    mount.wait_ready(2)
    mariadb = MariaDb(workdir, binlog, start)
    mariadb.start()
    share = PoolShare(mount)
    mariadb.ask('create database d; create table d.t(number int primary key, filler longblob)')
    for number in range(ROUNDS):
        mount.wait_ready(1)
        rows = ','.join(f"({number * ROWS + row}, repeat('x', 200000))" for row in range(ROWS))
        mariadb.ask(f'insert into d.t values {rows}; flush binary logs')
    share.read()
    report(str(share))
    share.require(at_least=ROUNDS)
    mariadb.ask("insert into d.t values (1000000, 'last')")
    mariadb.server.kill()
    mount.stop()

    files = sorted(path for path in binlog.iterdir() if re.fullmatch(r'binlog\.\d{6}', path.name))
    assert len(files) >= ROUNDS + 1
    text = run_as(None, find_program('mariadb-binlog'), '--no-defaults', '-v', '--base64-output=decode-rows', *files)
    numbers = [int(match[1]) for match in re.finditer(r'^###   @1=(\d+)$', text, re.MULTILINE)]
    assert numbers == [*range(ROUNDS * ROWS), 1000000]
    mariadb.start()
    assert mariadb.ask('select count(*) from d.t').strip() == str(ROUNDS * ROWS + 1)
