# SPDX-License-Identifier: Apache-2.0
"""Power cuts, on a disk that remembers every write and flush (block-recorder.c).

Writers that keep account (crash-load.c) run on a mount over a filesystem on that disk. Then, for many flushes, the disk
is put together as a power cut after it could have left it: with all that came before the flush, and some of the writes
after it, whole or torn (replay.py). Each is mounted, recovered by `warmfs --check`, and compared with the accounts
(history.py). The same on the bare filesystem shows what the test asks for; a writer that promises syncs it never made
shows that losses are noticed.

WARMFS_TEST_SEED repeats the load and the cuts (not what the kernel makes of them); with WARMFS_TEST_LONG there are
thousands of cuts.
"""

import contextlib
import os
import pathlib
import random
import subprocess

import pytest

import warmfs
from history import PATTERN_BYTES, Account, AfterPowerCut, check_directory
from replay import DiskLog, Replay, choose_cuts, copy_sparse
from warmfs import KI, MI, wait_until

TOOLS = pathlib.Path(os.environ.get('WARMFS_CRASH_TOOLS', warmfs.TREE / 'build/tests/crash'))
SEED = int(os.environ.get('WARMFS_TEST_SEED', random.randrange(1 << 32)))
LONG = bool(os.environ.get('WARMFS_TEST_LONG'))
CAPACITY = 256 * KI
N_WRITERS = 2
N_OPS = 6000 if LONG else 1500
FILESYSTEMS = {'ext4': (64 * MI, ['mkfs.ext4', '-q', '-F']), 'xfs': (320 * MI, ['mkfs.xfs', '-q', '-f'])}

# Filesystem, kind, how many cuts.
VARIANTS = {
    'ext4-append': ('ext4', 'append', 120),
    'xfs-append': ('xfs', 'append', 60),
    'ext4-mapped': ('ext4', 'mapped', 40),
    'ext4-stream': ('ext4', 'stream', 40),
    'ext4-native': ('ext4', 'native', 40),
}


def run(*argv):
    done = subprocess.run([str(arg) for arg in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout.strip()


@contextlib.contextmanager
def mounted(device, point, *options):
    point.mkdir(exist_ok=True)
    run('mount', *options, device, point)
    try:
        yield point
    finally:
        run('umount', point)


def make_base(workdir, fstype):
    """An image of the empty filesystem, with the directory that is to be served."""
    size, mkfs = FILESYSTEMS[fstype]
    base = workdir / 'base.img'
    with open(base, 'wb') as file:
        file.truncate(size)
    run(*mkfs, base)
    with mounted(base, workdir / 'top', '-o', 'loop') as top:
        (top / 'source').mkdir()
    return base


def detach(device):
    run('losetup', '--detach', device)
    attached = pathlib.Path('/sys/block', pathlib.Path(device).name, 'loop')
    wait_until(lambda: not attached.exists(), 20, f'{device} to be free')


@contextlib.contextmanager
def recording_disk(workdir, base):
    """A loop device whose every write and flush goes to the log: yields the path of both."""
    image, log, point = workdir / 'disk.img', workdir / 'disk.log', workdir / 'recorder'
    copy_sparse(base, image)
    log.touch()
    point.mkdir()
    with subprocess.Popen([TOOLS / 'block-recorder', image, log, point], stdin=subprocess.DEVNULL,
                          preexec_fn=warmfs.die_with_parent) as recorder:
        device = None
        try:
            wait_until((point / 'disk').exists, 20, 'the block recorder')
            device = run('losetup', '--find', '--show', '--direct-io=on', point / 'disk')
            yield device, log
        finally:
            try:
                if device:
                    detach(device)
                run('umount', point)
                recorder.wait(20)
            finally:
                recorder.kill()


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


def record(warm, workdir, fstype, kind, broken):
    """The base image, the log, where in it the load begins, and the accounts."""
    base = make_base(workdir, fstype)
    with recording_disk(workdir, base) as (device, log), mounted(device, workdir / 'top') as top:
        if kind == 'native':
            start = log.stat().st_size
            accounts = write_accounts(workdir, top / 'source', None, kind, log, broken)
        else:
            mount = warm('match=*.seg', f'size={CAPACITY}', f'kind={kind}', 'ahead=2', 'linger=100',
                         source=top / 'source', point=workdir / 'mnt')
            mount.wait_settled(2)
            start = log.stat().st_size
            accounts = write_accounts(workdir, mount.point, mount.src, kind, log, broken)
            mount.stop()
    return base, log, start, accounts


def recover(source):
    """What is wrong with the recovery."""
    command, environment = warmfs.warmfs_command('--check', source)
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    return [] if done.returncode in (0, 1) else [f'--check: status {done.returncode}: {done.stderr}']


def examine(image, workdir, accounts, moment):
    """How many files were compared, and what is wrong with them."""
    with mounted(image, workdir / 'cut', '-o', 'loop') as top:
        wrong = recover(top / 'source')
        checked, more = check_directory(accounts, moment, top / 'source')
    return checked, wrong + more


def cut_and_check(workdir, base, log_path, start, accounts, n_cuts):
    checked, found = 0, []
    log = DiskLog(log_path)
    replay = Replay(log, base, workdir)
    try:
        for cut in choose_cuts(log, start, n_cuts, random.Random(SEED)):
            moment = AfterPowerCut(log, cut.n_flushes, cut.log_end)
            n, wrong = examine(replay.image_of(cut), workdir, accounts, moment)
            checked += n
            found += [f'{cut}: {what}' for what in wrong]
    finally:
        replay.close()
        log.close()
    print(f'{n_cuts} power cuts, {checked} files compared')
    assert checked > 0
    return found


@pytest.mark.limit(3600 if LONG else 300)
@pytest.mark.parametrize('variant', VARIANTS)
def test_power_cuts(warm, workdir, variant):
    print(f'WARMFS_TEST_SEED={SEED}')
    fstype, kind, n_cuts = VARIANTS[variant]
    recorded = record(warm, workdir, fstype, kind, broken=False)
    found = cut_and_check(workdir, *recorded, n_cuts * (10 if LONG else 1))
    assert not found, "\n".join(found)


@pytest.mark.limit(300)
@pytest.mark.parametrize('kind', ['append', 'native'])
def test_promises_not_kept_are_noticed(warm, workdir, kind):
    print(f'WARMFS_TEST_SEED={SEED}')
    recorded = record(warm, workdir, 'ext4', kind, broken=True)
    assert cut_and_check(workdir, *recorded, 60) != []
