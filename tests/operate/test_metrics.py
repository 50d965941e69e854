# SPDX-License-Identifier: Apache-2.0
"""What monitoring reads."""

import os
import shutil
import subprocess

import pytest

import warmfs
from status_files import Metrics, read
from warmfs import touch, write_all

openmetrics = pytest.importorskip('prometheus_client.openmetrics.parser')
prometheus = pytest.importorskip('prometheus_client.parser')


@pytest.fixture
def mount(warm):
    mount = warm(config='''
[class a"quoted"\\name]
match=*.seg
size=256K
ahead=2
[class logs]
match=*.log
size=256K
kind=append
ahead=1
''')
    mount.wait_settled(3)
    return mount


@pytest.mark.skipif(not shutil.which('promtool'), reason='promtool (package prometheus) is not there')
@pytest.mark.parametrize('busy', [False, True])
def test_promtool(mount, busy):
    if busy:
        for i in range(5):
            touch(mount.point / f'{i}.seg')
    done = subprocess.run(['promtool', 'check', 'metrics'], input=read(mount, 'metrics'), capture_output=True, text=True,
                          timeout=60 * warmfs.SLOW)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_no_class(warm):
    mount = warm()
    list(openmetrics.text_string_to_metric_families(read(mount, 'openmetrics')))
    names = {family.name for family in prometheus.text_string_to_metric_families(read(mount, 'metrics'))}
    assert 'warmfs_requests' in names and 'warmfs_hits' not in names


def values(families):
    return {(sample.name, frozenset(sample.labels.items())): sample.value
            for family in families for sample in family.samples}


def test_both_formats(mount):
    """Valid, and the same but for what happened between."""
    touch(mount.point / '1.seg')
    mount.wait_settled(3)
    strict = list(openmetrics.text_string_to_metric_families(read(mount, 'openmetrics')))
    plain = list(prometheus.text_string_to_metric_families(read(mount, 'metrics')))
    assert {family.name: family.type for family in strict} == {family.name: family.type for family in plain}
    moving = 'warmfs_requests_total'
    assert {key: value for key, value in values(strict).items() if key[0] != moving} == \
        {key: value for key, value in values(plain).items() if key[0] != moving}
    assert all(family.documentation.endswith('.') for family in strict)
    assert any(dict(labels).get('class') == 'a"quoted"\\name' for _, labels in values(strict))


def test_numbers(mount):
    for i in range(4):
        write_all(mount.point / f'{i}.log', b'x')
        mount.wait_settled(3)
    os.stat(mount.point / '0.log')
    touch(mount.point / 'plain')
    metrics = Metrics(read(mount, 'metrics'))
    one = {'class': 'logs'}
    assert metrics.get('warmfs_segments_ready', **one) == metrics.get('warmfs_segments_wanted', **one) == 1
    assert metrics.get('warmfs_taken_total', **one) == 4
    assert metrics.get('warmfs_hits_total', **one) + metrics.get('warmfs_misses_total', **one) == 4
    assert metrics.get('warmfs_create_seconds_count', **one) == 4
    assert metrics.get('warmfs_create_seconds_bucket', le='+Inf', **one) == 4
    assert metrics.get('warmfs_create_plain_seconds_count') == 1
    assert metrics.get('warmfs_prepare_seconds_count', **one) == 5
    assert metrics.get('warmfs_segments_live', **one) + metrics.get('warmfs_sealed_total', **one) == 4
    assert metrics.get('warmfs_segment_bytes', **one) == metrics.get('warmfs_pool_bytes', **one) == 256 * 1024
    assert metrics.get('warmfs_pool_resident_ratio', **one) > 0.98
    assert metrics.get('warmfs_requests_total', operation='create') == 5
    assert metrics.get('warmfs_opens_total', data_path='append') == 4
    assert metrics.get('warmfs_opens_total', data_path='passthrough') == 1


def test_histograms_add_up(mount):
    for i in range(20):
        touch(mount.point / f'{i}.seg')
    samples = Metrics(read(mount, 'metrics')).samples
    histograms = {}
    for (name, labels), value in samples.items():
        if name.endswith('_bucket'):
            labels = dict(labels)
            bound = float(labels.pop('le'))
            histograms.setdefault((name[:-7], frozenset(labels.items())), []).append((bound, value))
    assert len(histograms) == 7
    for (name, labels), buckets in histograms.items():
        counts = [count for _, count in sorted(buckets)]
        assert counts == sorted(counts)
        assert counts[-1] == samples[name + '_count', labels]
        total = samples[name + '_sum', labels]
        assert (total > 0) == (counts[-1] > 0)
        finite = sorted(buckets)[:-1]
        most = sum((now - before) * bound for (bound, now), before in zip(finite, [0, *counts]))
        assert total <= most or counts[-1] > counts[-2]
