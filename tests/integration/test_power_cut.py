# SPDX-License-Identifier: Apache-2.0
"""A power cut: the disk as it is at one moment, taken elsewhere, mounted, recovered, and looked at.

The copies are of a loop device's image, so each is what a disk without a cache of its own would keep.
WARMFS_TEST_SEED repeats a run.
"""

import os
import random
import subprocess

import pytest

import warmfs
from warmfs import MI

SEED = int(os.environ.get('WARMFS_TEST_SEED', random.randrange(1 << 32)))
SIZE = 1 * MI
N_CUTS = 24
FILESYSTEMS = {'ext4': (64 * MI, []), 'xfs': (320 * MI, ['-o', 'nouuid'])}


class Log:
    """One file: what was written to it, and how much of that a sync has acknowledged."""

    def __init__(self, path, dice):
        self.name = path.name
        self.dice = dice
        # Of one that nobody can map, warmfs relies on more.
        access = dice.choice([os.O_RDWR, os.O_WRONLY])
        self.fd = os.open(path, access | os.O_CREAT | os.O_EXCL)
        self.data = bytearray()
        self.synced = 0
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def append(self):
        record = self.dice.randbytes(self.dice.choice([1, 100, 4096, self.dice.randrange(1, 20000)]))
        if self.dice.random() < 0.4:
            record += bytes(self.dice.choice([1, 7, 5000]))
        assert os.pwrite(self.fd, record, len(self.data)) == len(record)
        self.data += record

    def zero_the_end(self):
        """The byte that shows the synced length goes; the length must not."""
        if self.synced and self.synced == len(self.data):
            count = self.dice.randrange(1, min(self.synced, 6000) + 1)
            os.pwrite(self.fd, bytes(count), self.synced - count)
            self.data[self.synced - count:] = bytes(count)
            return count
        return 0

    def sync(self, broken):
        if not broken:
            os.fdatasync(self.fd)
        self.synced = len(self.data)


def copy_of_a_moment(image, copy):
    """The filesystem may write by itself just then (its log, and what that is about), and a copy with half of that is a
    disk that never was."""
    def copied():
        before = os.stat(image).st_mtime_ns
        # Most of it are holes.
        warmfs.run('cp', '--sparse=auto', image, copy)
        return os.stat(image).st_mtime_ns == before

    warmfs.wait_until(copied, 60, f'{image} to be left alone while it is copied')


def losses(image, point, mount_options, logs, loose_tail):
    """What the copy lacks, after it was recovered."""
    found = []
    with warmfs.mounted_image(image, point, *mount_options):
        source = point / 'source'
        command, environment = warmfs.warmfs_command('--check', source)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            found.append(f'--check: {done.returncode}: {done.stderr}')
        for log in logs:
            path = source / log.name
            data = path.read_bytes() if path.exists() else b''
            if os.stat(path).st_nlink != 1:
                found.append(f'{log.name}: not a plain file')
            if not log.synced <= len(data) <= len(log.data):
                found.append(f'{log.name}: {len(data)} bytes, synced {log.synced}, written {len(log.data)}')
            sure = log.synced - loose_tail.get(log.name, 0)
            if data[:sure] != log.data[:sure]:
                found.append(f'{log.name}: synced bytes are gone')
        if os.stat(source).st_nlink and not found:
            ready = [name for name in os.listdir(source / '.warmfs/pool') if os.stat(
                source / '.warmfs/pool' / name).st_nlink > 1]
            if ready:
                found.append(f'still live: {ready}')
    return found


@pytest.mark.limit(240)
@pytest.mark.parametrize('broken', [False, True], ids=['', 'broken'])
@pytest.mark.parametrize('fstype', FILESYSTEMS)
def test_power_cut(warm, workdir, fstype, broken):
    print(f'WARMFS_TEST_SEED={SEED}')
    dice = random.Random(SEED)
    size, mount_options = FILESYSTEMS[fstype]
    found = []
    with warmfs.loop_fs(fstype, size, workdir) as top:
        image = next(path for path in workdir.iterdir() if path.is_file() and path.stat().st_size == size)
        (top / 'source').mkdir()
        mount = warm('match=*.log', f'size={SIZE}', 'kind=append', 'ahead=2', source=top / 'source',
                     point=workdir / 'mnt')
        mount.wait_settled(2)
        logs = []
        cut_point = workdir / 'cut'
        cut_point.mkdir()
        for number in range(N_CUTS):
            if number % 6 == 0:
                logs.append(Log(mount.point / f'{number}.log', dice))
            loose_tail = {}
            for _ in range(dice.randrange(1, 8)):
                log = dice.choice(logs)
                log.append()
                if dice.random() < 0.7:
                    log.sync(broken)
            for log in logs:
                log.sync(broken)
                if dice.random() < 0.3:
                    loose_tail[log.name] = log.zero_the_end()
                if dice.random() < 0.3:
                    log.append()
            # What is written back by itself, of data that nobody has synced, is there as well.
            if dice.random() < 0.5 and not broken:
                for log in logs:
                    copy = os.open(mount.src / log.name, os.O_RDONLY)
                    subprocess.run(['sync', '-d', f'/proc/{os.getpid()}/fd/{copy}'], check=False)
                    os.close(copy)
            copy_of_a_moment(image, workdir / 'copy')
            found += losses(workdir / 'copy', cut_point, mount_options, logs, loose_tail)
        for log in logs:
            os.close(log.fd)
        mount.stop()
        for log in logs:
            assert (top / 'source' / log.name).read_bytes() == log.data
    if broken:
        assert found, 'syncs that were none were not noticed'
    else:
        assert found == []
