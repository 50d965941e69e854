# SPDX-License-Identifier: Apache-2.0
"""Prometheus on warmfs, mounted over its --storage.tsdb.path:

    warmfs -o preset=prometheus /var/lib/prometheus /var/lib/prometheus

A new segment of the write-ahead log, wal/NNNNNNNN, begins when one is full, and with each start.
"""

import json
import urllib.parse
import urllib.request

import pytest

from application import PoolShare, find_program, free_ports
from warmfs import MI, SLOW, preset, wait_until

STARTS = 12


class Prometheus:
    def __init__(self, workdir, data, start):
        self.port, = free_ports(1)
        config = workdir / 'prometheus.yml'
        config.write_text(f"""
global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}
scrape_configs: [{{job_name: itself, static_configs: [{{targets: ['127.0.0.1:{self.port}'], labels: {{run: 'all'}}}}]}}]
""")
        self.server = start(find_program('prometheus'), f'--config.file={config}', f'--storage.tsdb.path={data}',
                            f'--web.listen-address=127.0.0.1:{self.port}', log_path=workdir / 'prometheus.log')
        self.server.wait_until(self.is_ready, 60, 'it is ready')

    def get(self, path, **query):
        url = f'http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}'
        with urllib.request.urlopen(url, timeout=30 * SLOW) as answer:
            return answer.read()

    def is_ready(self):
        try:
            return self.get('/-/ready')
        except OSError:
            return False

    def samples(self):
        """The times of all samples of one series that the log was the only one to keep, of all instances."""
        answer = json.loads(self.get('/api/v1/query', query='process_start_time_seconds{run="all"}[1h]'))
        return {time for series in answer['data']['result'] for time, _ in series['values']}

    def stop(self):
        self.server.process.terminate()
        self.server.wait(30)


@pytest.mark.limit(200)
def test_preset(warm, start, report, workdir):
    """More than nine logs of ten come from the pool, and no sample of the first and the last run is lost, without warmfs either."""
    data = workdir / 'data'
    data.mkdir()
    # Twelve files that stay: of the preset's 128M each, their reservations might be too much for the disk.
    mount = warm(*preset('prometheus', workdir, size='8M'), source=data, over=True)
    seen = set()
    share = PoolShare(mount, 'prometheus-wal')
    for number in range(STARTS):
        mount.wait_ready(1, 'prometheus-wal')
        prometheus = Prometheus(workdir, data, start)
        # It takes seconds until the first one.
        if number in (0, STARTS - 1):
            before = set(seen)
            wait_until(lambda: prometheus.samples() - before, 60, 'samples')
            seen |= prometheus.samples()
        prometheus.stop()
    share.read()
    report(str(share))
    share.require(at_least=STARTS)
    mount.stop()
    logs = [path for path in (data / 'wal').iterdir() if path.name.isdigit()]
    assert len(logs) >= STARTS
    assert all(path.stat().st_blocks * 512 < MI for path in logs)
    prometheus = Prometheus(workdir, data, start)
    assert seen <= prometheus.samples()
    prometheus.stop()
