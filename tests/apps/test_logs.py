# SPDX-License-Identifier: Apache-2.0
"""Plain log files, rotated in logrotate's way, on warmfs mounted over their directory:

    warmfs -o preset=logs /var/log/nginx /var/log/nginx

nginx and rsyslog open a log with O_WRONLY|O_CREAT|O_APPEND, write without syncing, and open it anew when they are told
to, after logrotate has renamed the old one.
"""

import os
import signal
import socket
import urllib.request

import pytest

from application import PoolShare, find_program, free_ports, port_is_open
from warmfs import KI, SLOW, preset, wait_until

ROTATIONS = 12


@pytest.fixture
def logs(workdir):
    path = workdir / 'log'
    path.mkdir()
    return path


@pytest.fixture
def mount(warm, workdir, logs):
    mount = warm(*preset('logs', workdir, size='256K', ahead=3), source=logs, over=True)
    mount.wait_ready(3)
    return mount


def check(mount, share, report, logs, expected):
    """Every line is there once, in the files as they are without warmfs; none has blocks that it does not need."""
    share.read()
    report(str(share))
    share.require(at_least=ROTATIONS - 1)
    mount.stop()
    found = []
    for number in range(ROTATIONS):
        path = logs / (f'x.log.{number}' if number < ROTATIONS - 1 else 'x.log')
        found += path.read_text().splitlines()
        assert path.stat().st_blocks * 512 <= path.stat().st_size + 64 * KI
    assert len(found) == len(expected)
    assert all(line in text for line, text in zip(expected, found))


def rotate(mount, logs, number, reopen):
    mount.wait_ready(2)
    os.rename(logs / 'x.log', logs / f'x.log.{number}')
    reopen()
    wait_until((logs / 'x.log').exists, 30, 'the new log file')


@pytest.mark.limit(120)
def test_nginx(mount, start, report, workdir, logs):
    port, = free_ports(1)
    config = workdir / 'nginx.conf'
    config.write_text(f"""
daemon off;
master_process off;
pid {workdir}/nginx.pid;
error_log stderr;
events {{}}
http {{
    log_format short '$request_uri';
    access_log {logs}/x.log short;
    client_body_temp_path {workdir}/body;
    proxy_temp_path {workdir}/proxy;
    fastcgi_temp_path {workdir}/fastcgi;
    uwsgi_temp_path {workdir}/uwsgi;
    scgi_temp_path {workdir}/scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }}
}}
""")
    share = PoolShare(mount)
    nginx = start(find_program('nginx', os.defpath, '/usr/sbin'), '-c', config, '-p', workdir,
                  log_path=workdir / 'nginx.log')
    nginx.wait_until((logs / 'x.log').exists, 30, 'its log')
    nginx.wait_until(lambda: port_is_open(port), 30, 'it listens')
    lines = []
    for number in range(ROTATIONS):
        for request in range(20):
            lines.append(f'/{number}/{request}')
            assert urllib.request.urlopen(f'http://127.0.0.1:{port}{lines[-1]}', timeout=30 * SLOW).status == 204
        wait_until(lambda: lines[-1] in (logs / 'x.log').read_text(), 30, 'the last line')
        if number < ROTATIONS - 1:
            rotate(mount, logs, number, lambda: nginx.process.send_signal(signal.SIGUSR1))
    nginx.process.send_signal(signal.SIGQUIT)
    nginx.wait(30)
    check(mount, share, report, logs, lines)


@pytest.mark.limit(120)
def test_rsyslog(mount, start, report, workdir, logs):
    device = workdir / 'device'
    config = workdir / 'rsyslog.conf'
    config.write_text(f"""
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{device}" RateLimit.Interval="0")
template(name="short" type="string" string="%msg%\\n")
*.* action(type="omfile" file="{logs}/x.log" template="short" asyncWriting="off")
""")
    share = PoolShare(mount)
    rsyslog = start(find_program('rsyslogd', os.defpath, '/usr/sbin'), '-n', '-f', config, '-i', workdir / 'rsyslog.pid',
                    log_path=workdir / 'rsyslog.log')
    rsyslog.wait_until(device.exists, 30, 'its socket')
    lines = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.settimeout(30 * SLOW)
        one.connect(str(device))
        for number in range(ROTATIONS):
            for line in range(20):
                lines.append(f'line {number}-{line}.')
                one.send(f'<13>test: {lines[-1]}'.encode())
            wait_until(lambda: (logs / 'x.log').exists() and lines[-1] in (logs / 'x.log').read_text(), 30,
                       'the last line')
            if number < ROTATIONS - 1:
                mount.wait_ready(2)
                os.rename(logs / 'x.log', logs / f'x.log.{number}')
                # It opens the new one with the next line.
                rsyslog.process.send_signal(signal.SIGHUP)
                wait_until(lambda: not holds_open(rsyslog.pid, f'x.log.{number}'), 30, 'it lets go of the old one')
    rsyslog.process.terminate()
    rsyslog.wait(30)
    check(mount, share, report, logs, lines)


def holds_open(pid, name):
    found = []
    for fd in os.listdir(f'/proc/{pid}/fd'):
        try:
            found.append(os.readlink(f'/proc/{pid}/fd/{fd}'))
        except OSError:
            pass
    return any(path.endswith('/' + name) for path in found)
