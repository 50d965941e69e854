# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ on warmfs, mounted over the directory of its nodes:

    warmfs -o preset=rabbitmq /var/lib/rabbitmq/mnesia /var/lib/rabbitmq/mnesia

Quorum queues share a log, quorum/NODE/N.wal, which is made as N.tmp; classic queues share a store of messages,
msg_store_persistent/N.rdq. Slow to start, so only in the long run.
"""

import contextlib
import os
import pathlib
import shutil

import pytest

from application import PoolShare, clean_environment, find_program, free_ports, run_as
from warmfs import MI, preset, wait_until

BIN = pathlib.Path('/usr/lib/rabbitmq/bin')
MESSAGES = 220

pytestmark = pytest.mark.skipif(not os.environ.get('WARMFS_TEST_LONG'), reason='only in the long run')

DECLARE = """
Declare = fun(Name, Arguments) ->
    rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, Name), true, false, Arguments, none, <<"test">>) end,
Declare(<<"quorum">>, [{<<"x-queue-type">>, longstr, <<"quorum">>}]),
Declare(<<"classic">>, []), ok.
"""
PUBLISH = """
Publish = fun(Name) ->
    Message = rabbit_basic:message(rabbit_misc:r(<<"/">>, exchange, <<>>), Name, [{delivery_mode, 2}],
                                   binary:copy(<<"x">>, 1000000)),
    rabbit_basic:publish(rabbit_basic:delivery(false, false, Message, undefined)) end,
[begin Publish(<<"quorum">>), Publish(<<"classic">>), timer:sleep(20) end || _ <- lists:seq(1, %d)], ok.
"""
COUNT = """
[begin {ok, Queue} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, Name)),
       integer_to_binary(proplists:get_value(messages, rabbit_amqqueue:info(Queue, [messages]))) end
 || Name <- [<<"quorum">>, <<"classic">>]].
"""


class RabbitMq:
    def __init__(self, workdir, mnesia, start):
        port, mapper = free_ports(2)
        config = workdir / 'rabbitmq.conf'
        config.write_text(f'listeners.tcp.1 = 127.0.0.1:{port}\nraft.wal_max_size_bytes = {8 * MI}\n')
        self.environment = clean_environment(
            HOME=str(workdir), RABBITMQ_MNESIA_BASE=str(mnesia), RABBITMQ_NODENAME=f'test{os.getpid()}@localhost',
            RABBITMQ_LOG_BASE=str(workdir), RABBITMQ_LOGS='-', RABBITMQ_CONFIG_FILE=str(config),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(workdir / 'plugins'), ERL_EPMD_PORT=str(mapper),
            RABBITMQ_DIST_PORT=str(free_ports(1)[0]))
        self.mapper = start(find_program('epmd'), environment=self.environment, log_path=workdir / 'epmd.log')
        self.log_path = workdir / 'rabbitmq.log'
        self.start_application = start
        self.server = None

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            self.log_path.unlink()
        self.server = self.start_application(BIN / 'rabbitmq-server', environment=self.environment,
                                             log_path=self.log_path)
        self.server.wait_until(lambda: 'Server startup complete' in self.server.log(), 180, 'it is ready')

    def eval(self, expression):
        return run_as(None, BIN / 'rabbitmqctl', 'eval', expression, seconds=180, environment=self.environment).strip()

    def wait_count(self, count):
        """Until both queues have that many messages."""
        wanted = f'[<<"{count}">>,<<"{count}">>]'
        wait_until(lambda: self.eval(COUNT) == wanted, 120, wanted)


@pytest.mark.limit(600)
def test_preset(warm, start, report, workdir):
    """More than nine files of ten come from the pools; after a stop, and without warmfs, the messages are there."""
    assert shutil.which('rabbitmq-server')
    mnesia = workdir / 'mnesia'
    mnesia.mkdir()
    mount = warm(*preset('rabbitmq', workdir, size='17M', ahead=4), source=mnesia, over=True)
    rabbit = RabbitMq(workdir, mnesia, start)
    mount.wait_ready(4, 'rabbitmq-quorum')
    rabbit.start()
    shares = {name: PoolShare(mount, f'rabbitmq-{name}') for name in ('quorum', 'classic')}
    assert rabbit.eval(DECLARE) == 'ok'
    assert rabbit.eval(PUBLISH % MESSAGES) == 'ok'
    for share in shares.values():
        share.read()
    report(', '.join(f'{name}: {share}' for name, share in shares.items()))
    for share in shares.values():
        share.require(at_least=10)
    rabbit.wait_count(MESSAGES)
    rabbit.server.process.terminate()
    rabbit.server.wait(120)
    mount.stop()
    rabbit.start()
    rabbit.wait_count(MESSAGES)
    rabbit.server.process.terminate()
    rabbit.server.wait(120)
