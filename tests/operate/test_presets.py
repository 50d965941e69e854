# SPDX-License-Identifier: Apache-2.0
"""The presets as they are: that they load, and which names they take. Real applications are in tests/apps."""

import os

import pytest

import warmfs
from operator_tools import command
from warmfs import PRESETS, preset, start_refused, touch

MACHINE = '0123456789abcdef0123456789abcdef'

# Names that the application makes, by class, and names of its that have to be left alone.
NAMES = {
    'postgresql': ({'postgresql-wal': ['xlogtemp.4711', 'pg_wal/xlogtemp.1']},
                   ['000000010000000000000001', 'archive_status/000000010000000000000001.ready']),
    'etcd': ({'etcd-wal': ['member/wal/0.tmp', 'member/wal/1.tmp'],
              'etcd-first-wal': ['member/wal.tmp/0000000000000000-0000000000000000.wal']},
             ['member/snap/db', 'member/snap/db.tmp.1']),
    'redis': ({'redis-aof': ['appendonlydir/appendonly.aof.1.incr.aof']},
              ['appendonlydir/appendonly.aof.manifest', 'appendonlydir/appendonly.aof.1.base.rdb', 'temp-7.rdb']),
    'zookeeper': ({'zookeeper-log': ['version-2/log.1', 'version-2/log.10000002a']}, ['version-2/snapshot.0']),
    'mysql': ({'mysql-binlog': ['mysql-bin.000001', 'binlog.000012', 'host-relay-bin.000003']},
              ['mysql-bin.index', 'mysql-bin.state', 'mysql-bin.~rec~', 'ibdata1']),
    'nats': ({'nats-block': ['jetstream/$G/streams/T/msgs/1.blk']},
             ['jetstream/$G/streams/T/meta.inf', 'jetstream/$G/streams/T/msgs/1.idx']),
    'rabbitmq': ({'rabbitmq-quorum': ['rabbit@host/quorum/rabbit@host/00000001.tmp'],
                  'rabbitmq-classic': ['rabbit@host/msg_stores/vhosts/6/msg_store_persistent/1.rdq']},
                 ['rabbit@host/quorum/rabbit@host/meta.dets', 'rabbit@host/DECISION_TAB.TMP']),
    'prometheus': ({'prometheus-wal': ['wal/00000000'], 'prometheus-head': ['chunks_head/000001.tmp']},
                   ['queries.active', 'wal/checkpoint.00000002.tmp/00000000',
                    '01H.tmp-for-creation/chunks/000001']),
    'kafka': ({'kafka-log': ['topic-0/00000000000000000000.log']},
              ['topic-0/00000000000000000000.index', 'topic-0/00000000000000000000.timeindex', 'meta.properties']),
    'rocketmq': ({'rocketmq-commitlog': ['commitlog/00000000000000000000', 'store/commitlog/00000000001073741824']},
                 ['consumequeue/topic/0/00000000000000000000', 'index/20260101000000000', 'checkpoint']),
    'bookkeeper': ({'bookkeeper-journal': ['current/18c7f2a5b10.txn']}, ['current/VERSION', 'current/lastMark']),
    'journald': ({'journald': [f'{MACHINE}/system.journal', f'{MACHINE}/user-1000.journal']},
                 [f'{MACHINE}/system.journal~']),
    'logs': ({'logs': ['access.log', 'nginx/error.log']}, ['access.log.1', 'syslog']),
}


def test_all_are_here():
    assert {path.stem for path in PRESETS.iterdir()} == set(NAMES)
    assert all(path.suffix == '.conf' for path in PRESETS.iterdir())


@pytest.fixture
def place(workdir):
    (workdir / 'source').mkdir()
    (workdir / 'mnt').mkdir()
    return workdir


@pytest.mark.parametrize('name', sorted(NAMES))
def test_loads(place, name, helpers):
    """As it is, without a copy."""
    done = command('/sbin/mount.warmfs', place / 'source', place / 'mnt', '-f', '-o', ','.join(preset(name)))
    assert done.status == 0, done.stderr
    assert done.stderr == ''


@pytest.mark.parametrize('name', sorted(NAMES))
def test_names(warm, workdir, name):
    """What has to be taken is, by the class for it, and nothing else. Of small segments, but else as it is."""
    taken, left = NAMES[name]
    mount = warm(*preset(name, workdir, size='64K'))
    for path in [path for paths in taken.values() for path in paths] + left:
        (mount.point / path).parent.mkdir(parents=True, exist_ok=True)
        touch(mount.point / path)
    for class_name, paths in taken.items():
        assert mount.counters(class_name)['taken'] == len(paths)
    mount.stop()
    assert sum(mount.last_counters(class_name)['taken'] for class_name in taken) == sum(map(len, taken.values()))
    classes = {match[1] for match in warmfs.COUNTER_LINE.finditer(mount.log())}
    assert classes == set(taken)


def test_several(warm, workdir):
    """Two presets, and a class besides."""
    for name in ('mysql', 'nats'):
        preset(name, workdir, size='64K')
    mount = warm('preset=mysql:nats', f'preset_dir={workdir}', 'match=*.seg', 'size=64K')
    os.mkdir(mount.point / 'msgs')
    for name in ('binlog.000001', 'msgs/1.blk', 'x.seg'):
        touch(mount.point / name)
    for name in ('mysql-binlog', 'nats-block', 'default'):
        assert mount.counters(name)['taken'] == 1


@pytest.mark.parametrize('names, classes', [('etcd:rabbitmq', ('etcd-wal', 'rabbitmq-quorum')),
                                            ('etcd:prometheus', ('etcd-wal', 'prometheus-wal'))])
def test_those_that_do_not_go_together(place, names, classes):
    refused = start_refused('-f', '-o', ','.join(preset(names)), place / 'source', place / 'mnt')
    assert refused.status == 1 and len(refused.lines) == 1
    assert all(name in refused.lines[0] for name in classes), refused.lines
    assert os.listdir(place / 'source') == []


def test_unknown(place):
    refused = start_refused('-f', '-o', ','.join(preset('oracle')), place / 'source', place / 'mnt')
    assert refused.status == 1 and len(refused.lines) == 1
    assert 'oracle' in refused.lines[0] and 'postgresql' in refused.lines[0]
