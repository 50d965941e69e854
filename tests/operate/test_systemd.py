# SPDX-License-Identifier: Apache-2.0
"""The unit under a real systemd: the first process of namespaces of its own, over a copy of this system that goes away.

In the long run only (WARMFS_TEST_LONG). It is skipped where systemd does not come up.
"""

import os
import shutil
import subprocess

import pytest

import warmfs
from warmfs import SLOW, TREE

UNIT = TREE / 'mount-helpers/systemd/warmfs@.service.in'
CTL = warmfs.BINARY.parents[1] / 'mount-helpers/warmfsctl'

pytestmark = [
    pytest.mark.limit(300),
    pytest.mark.skipif(not os.environ.get('WARMFS_TEST_LONG'), reason='only in the long run'),
    pytest.mark.skipif(SLOW > 1, reason='what the unit forbids, sanitizers need'),
    pytest.mark.skipif(not os.path.exists('/lib/systemd/systemd'), reason='there is no systemd'),
]

# $1: a directory with `files` (to be laid over the system), `data` (the source) and `out`.
OUTSIDE = r'''
set -e
cd "$1"
mkdir -p ram root
mount -t tmpfs tmpfs ram
mkdir ram/upper ram/work
mount -t overlay -o lowerdir=/,upperdir=ram/upper,workdir=ram/work overlay root
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs root/$place; done
for node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0' 'fuse 10 229'; do
	set -- "$1" $node
	mknod -m 666 "root/dev/$2" c "$3" "$4"
done
ln -s /proc/self/fd root/dev/fd
cp -a files/. root/
mkdir -p root/srv/data root/srv/out
mount --bind data root/srv/data
mount --bind out root/srv/out
cd root/etc/systemd/system
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
	systemd-sysctl.service systemd-modules-load.service systemd-remount-fs.service systemd-binfmt.service; do
	ln -sf /dev/null $unit
done
cd "$OLDPWD"
: > root/etc/fstab
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot root /lib/systemd/systemd --system --unit=trial.target
'''

TRIAL_SERVICE = '''
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /usr/local/bin/trial
StandardOutput=file:/srv/out/said
StandardError=file:/srv/out/errors
TimeoutStartSec=240
ExecStopPost=/usr/bin/systemctl --no-block exit 0
'''

TRIAL_TARGET = '''
[Unit]
Requires=basic.target trial.service
After=basic.target
'''

# Each line that it says: what was done, and what was to be seen then.
INSIDE = r'''
unit=warmfs@srv-data.service
config=/etc/warmfs/srv-data.conf
fact() { systemctl show $unit -p "$1" --value; }
state() { echo $(fact ActiveState) $(fact Result) $(findmnt -rno FSTYPE --mountpoint /srv/data | tail -n 1); }
wait_restart() {
	for i in $(seq 600); do
		[ "$(fact NRestarts)" -ge "$1" ] && [ "$(fact ActiveState)" = active ] && break
		sleep 0.1
	done
}
ready() { warmfsctl status --json /srv/data | grep -o '"ready":[0-9]*'; }
echo booted
systemctl start $unit; echo started $? $(state) $(ready) $(fact StatusText)
touch /srv/data/a.seg; echo size $(stat -c %s /srv/data/a.seg)
sed -i s/ahead=3/ahead=4/ $config; systemctl reload $unit; echo reloaded $? $(grep -o 'ahead=4' /srv/data/.warmfs/config)
echo nonsense >> $config; systemctl reload $unit; echo refused $? $(state)
sed -i /nonsense/d $config
kill -KILL $(fact MainPID); wait_restart 1; echo killed $(state) $(stat -c %s /srv/data/a.seg)
kill -STOP $(fact MainPID); wait_restart 2; echo stuck $(state)
systemctl restart $unit; echo restarted $? $(state)
systemctl stop $unit; echo stopped $? $(state)
systemctl start $unit; umount /srv/data
for i in $(seq 600); do [ "$(fact ActiveState)" = inactive ] && break; sleep 0.1; done; echo unmounted $(state)
rm $config; systemctl start $unit; echo without $?
'''


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def said(workdir):
    files = workdir / 'files'
    units = files / 'etc/systemd/system'
    for name in ('data', 'out'):
        (workdir / name).mkdir()
    write(units / 'warmfs@.service', UNIT.read_text().replace('@bindir@', '/usr/local/bin')
          .replace('WatchdogSec=60s', 'WatchdogSec=6s'))
    write(units / 'trial.service', TRIAL_SERVICE)
    write(units / 'trial.target', TRIAL_TARGET)
    write(files / 'etc/warmfs/srv-data.conf', '[class seg]\nmatch=*.seg\nsize=1M\nahead=3\n')
    write(files / 'etc/warmfs/srv-data.env', 'WARMFS_OPTIONS=-o wait_warm\n')
    write(files / 'usr/local/bin/trial', INSIDE)
    write(workdir / 'boot', OUTSIDE)
    for program in (warmfs.BINARY, CTL):
        shutil.copy(program, files / 'usr/local/bin')
    done = subprocess.run(['unshare', '--mount', '--propagation', 'private', '--pid', '--cgroup', '--uts', '--ipc', '--fork',
                           '--kill-child', 'bash', workdir / 'boot', workdir], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=280)
    out = workdir / 'out/said'
    lines = out.read_text().splitlines() if out.exists() else []
    if lines[:1] != ['booted']:
        pytest.skip(f'systemd does not come up here: {done.stderr}')
    print((workdir / 'out/errors').read_text())
    return dict(line.partition(' ')[::2] for line in lines)


def test_unit(said):
    """Ready when it is mounted and warm; reloaded, killed, stuck, restarted, stopped, unmounted by hand."""
    assert said['started'] == '0 active success fuse.warmfs "ready":3 serving'
    assert said['size'] == str(warmfs.MI)
    assert said['reloaded'] == '0 ahead=4'
    assert said['refused'] == '1 active success fuse.warmfs'
    assert said['killed'] == f'active success fuse.warmfs {warmfs.MI}'
    assert said['stuck'] == 'active success fuse.warmfs'
    assert said['restarted'] == '0 active success fuse.warmfs'
    # What is in sight then is what was there before.
    for what in ('stopped', 'unmounted'):
        assert said[what].removeprefix('0 ').split()[:2] == ['inactive', 'success']
        assert 'fuse' not in said[what]
    assert said['without'] == '1'
