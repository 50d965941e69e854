# SPDX-License-Identifier: Apache-2.0
"""Power cuts, on a disk that remembers every write and flush (recording.py).

Writers that keep account (crash-load.c) run on a mount over a filesystem on that disk. Then, for many flushes, the disk
is put together as a power cut after it could have left it: with all that came before the flush, and some of the writes
after it, whole or torn (replay.py). Each is mounted, recovered by `warmfs --check`, and compared with the accounts
(history.py). The same on the bare filesystem shows what the test asks for; a writer that promises syncs it never made
shows that losses are noticed. What comes after a power cut, a recovery or a mount, is recorded in its turn, and cut.

WARMFS_TEST_SEED repeats the load and the cuts (not what the kernel makes of them); with WARMFS_TEST_LONG there is
one after each flush.
"""

import os
import random
import shutil
import subprocess

import pytest

import warmfs
from history import PATTERN_BYTES, Account, AfterPowerCut, check_directory
from recording import FILESYSTEMS, TOOLS, recording_mount
from replay import DiskLog, Replay, choose_cuts, copy_sparse, every_cut
from warmfs import KI, mounted_image

SEED = int(os.environ.get('WARMFS_TEST_SEED', random.randrange(1 << 32)))
LONG = bool(os.environ.get('WARMFS_TEST_LONG'))
CAPACITY = 256 * KI
N_WRITERS = 2
N_OPS = 2000 if LONG else 1500
OPTIONS = ('match=*.seg', f'size={CAPACITY}', 'ahead=2', 'linger=100')

# Writes go to memory first, and to the file at any time.
TRANSIENT = ('transient=on', 'transient_pool_size=3', 'commit_interval=5', 'flush_interval=50')

# Filesystem, kind, how many cuts.
VARIANTS = {
    'ext4-append': ('ext4', 'append', 120),
    'xfs-append': ('xfs', 'append', 60),
    'ext4-transient': ('ext4', 'transient', 20),
    'ext4-mapped': ('ext4', 'mapped', 40),
    'ext4-stream': ('ext4', 'stream', 40),
    'ext4-native': ('ext4', 'native', 40),
}
# How many cuts that the power goes after again, and how often it does, each time.
N_FIRST, N_AGAIN = (12, 60) if LONG else (2, 8)


def write_accounts(workdir, directory, source, kind, log, broken):
    """Runs the writers to their end: their accounts."""
    pattern = workdir / 'pattern'
    pattern.write_bytes(random.Random(SEED).randbytes(PATTERN_BYTES))
    writers = []
    for number in range(N_WRITERS):
        words = [f'dir={directory}', f'account={workdir}/account-{number}', f'pattern={pattern}', f'log={log}',
                 f'kind={kind}', f'writer={number}', f'seed={SEED}', f'ops={N_OPS}', f'capacity={CAPACITY}',
                 f'broken={int(broken)}', *([f'source={source}'] if source else [])]
        (workdir / f'account-{number}').touch()
        writers.append(subprocess.Popen([TOOLS / 'crash-load', *words], stdin=subprocess.DEVNULL,
                                        preexec_fn=warmfs.die_with_parent))
    assert [writer.wait() for writer in writers] == [0] * N_WRITERS
    return [Account(workdir / f'account-{number}', number, pattern.read_bytes()) for number in range(N_WRITERS)]


class Recorded:
    """A load, recorded: the image it began with, the log, where in it the load begins, and the accounts."""

    def __init__(self, warm, workdir, fstype, kind, broken=False):
        more = TRANSIENT if kind == 'transient' else ()
        kind = 'append' if kind == 'transient' else kind
        self.workdir = workdir
        self.filesystem = FILESYSTEMS[fstype]
        self.base = self.filesystem.make_image(workdir)
        with recording_mount(workdir / 'load', self.base) as (top, self.log_path):
            if kind == 'native':
                self.start = self.log_path.stat().st_size
                self.accounts = write_accounts(workdir, top / 'source', None, kind, self.log_path, broken)
                return
            mount = warm(*OPTIONS, *more, f'kind={kind}', source=top / 'source', point=workdir / 'mnt')
            mount.wait_settled(2)
            self.start = self.log_path.stat().st_size
            self.accounts = write_accounts(workdir, mount.point, mount.src, kind, self.log_path, broken)
            mount.stop()

    def cuts(self, log, count):
        return choose_cuts(log, self.start, count, self.filesystem.whole_bytes, random.Random(SEED))

    def every_cut(self, log):
        return every_cut(log, self.start, self.filesystem.whole_bytes, random.Random(SEED))


def recover(source):
    """What is wrong with the recovery."""
    command, environment = warmfs.warmfs_command('--check', source)
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    return [] if done.returncode in (0, 1) else [f'--check: status {done.returncode}: {done.stderr}']


def examine(image, workdir, accounts, moment):
    """How many files were compared, and what is wrong with them."""
    with mounted_image(image, workdir / 'cut') as top:
        wrong = recover(top / 'source')
        checked, more = check_directory(accounts, moment, top / 'source')
    return checked, wrong + more


def cut_and_check(recorded, n_cuts, until_found=False):
    """What is wrong after that many cuts; None: after all there are."""
    checked, found, n_done = 0, [], 0
    with DiskLog(recorded.log_path) as log, Replay(log, recorded.base, recorded.workdir) as replay:
        for cut in recorded.cuts(log, n_cuts) if n_cuts else recorded.every_cut(log):
            moment = AfterPowerCut(log, cut.n_flushes, cut.log_end)
            n, wrong = examine(replay.image_of(cut), recorded.workdir, recorded.accounts, moment)
            n_done += 1
            checked += n
            found += [f'{cut}: {what}' for what in wrong]
            if found and until_found:
                break
    print(f'{n_done} power cuts, {checked} files compared')
    assert checked > 0 or found
    return found


@pytest.mark.limit(7200 if LONG else 300)
@pytest.mark.parametrize('variant', VARIANTS)
def test_power_cuts(warm, workdir, variant):
    print(f'WARMFS_TEST_SEED={SEED}')
    fstype, kind, n_cuts = VARIANTS[variant]
    found = cut_and_check(Recorded(warm, workdir, fstype, kind), None if LONG else n_cuts)
    assert not found, "\n".join(found)


@pytest.mark.limit(300)
@pytest.mark.parametrize('kind', ['append', 'native'])
def test_promises_not_kept_are_noticed(warm, workdir, kind):
    print(f'WARMFS_TEST_SEED={SEED}')
    assert cut_and_check(Recorded(warm, workdir, 'ext4', kind, broken=True), 60, until_found=True) != []


# The power goes again

def contents(source):
    """Everything of the files that anybody sees."""
    return {path.name: (path.lstat().st_nlink, path.read_bytes()) for path in source.glob('*.seg')}


def recovered(image, workdir):
    """The files after a recovery that nothing interrupts, and what is wrong with that."""
    with mounted_image(image, workdir / 'cut') as top:
        wrong = recover(top / 'source')
        return contents(top / 'source'), wrong


def difference(found, expected):
    return [f'{name}: {describe(found.get(name))}, must be {describe(expected.get(name))}'
            for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]


def describe(file):
    return 'absent' if file is None else f'{file[0]} links, {len(file[1])} bytes, ending in {file[1][-8:].hex()}'


def check_only(warm, source, workdir):
    assert recover(source) == []


def mount_and_prepare(warm, source, workdir):
    """A mount that recovers, fills its pool, and ends."""
    mount = warm(*OPTIONS, 'kind=append', source=source, point=workdir / 'mnt')
    mount.wait_settled(2)
    mount.stop()


def cut_again(warm, workdir, filesystem, image, expected, action, dice):
    """What differs from the expected files when the power goes during an action on this disk."""
    directory = workdir / f'again-{action.__name__}'
    with recording_mount(directory, image) as (top, log_path):
        start = log_path.stat().st_size
        action(warm, top / 'source', workdir)
    found = []
    with DiskLog(log_path) as log, Replay(log, image, directory) as replay:
        for cut in choose_cuts(log, start, N_AGAIN, filesystem.whole_bytes, dice):
            files, wrong = recovered(replay.image_of(cut), workdir)
            found += [f'{cut} during {action.__name__}: {what}' for what in wrong + difference(files, expected)]
    shutil.rmtree(directory)
    return found


@pytest.mark.limit(3600 if LONG else 300)
@pytest.mark.parametrize('fstype', FILESYSTEMS)
def test_power_cuts_while_recovering(warm, workdir, fstype):
    """Wherever recovery, or a mount that also prepares segments, was cut off: the next one ends as the first would have."""
    print(f'WARMFS_TEST_SEED={SEED}')
    recorded = Recorded(warm, workdir, fstype, 'append')
    dice = random.Random(SEED)
    found = []
    with DiskLog(recorded.log_path) as log, Replay(log, recorded.base, workdir) as replay:
        for cut in recorded.cuts(log, N_FIRST):
            image = workdir / 'first.img'
            copy_sparse(replay.image_of(cut), image)
            expected, wrong = recovered(replay.cut, workdir)
            for action in (check_only, mount_and_prepare):
                found += cut_again(warm, workdir, recorded.filesystem, image, expected, action, dice)
            image.unlink()
            found += [f'{cut}: {what}' for what in wrong]
    assert not found, "\n".join(found)
