# SPDX-License-Identifier: Apache-2.0
"""Full disks, failing calls, impatient and dying applications, and a dying daemon."""

import contextlib
import errno
import mmap
import os
import pathlib
import resource
import signal
import stat
import threading

import pytest

import warmfs
from warmfs import (KI, MI, error_name, generation, mounts_at, raw_open, touch, wait_until, write_all)

SIZE = MI
CREATE = os.O_RDWR | os.O_CREAT
# Longer than any test may take: only what is tested ends a wait.
PATIENT = 'timeout=600s'
# Holds every warming, from its first write on.
HOLD = 'pwrite delay_ms=hold path=.warmfs/pool'


def create(path, flags=CREATE):
    """Creates with one open(2); the size and blocks, or the name of the errno."""
    fd = raw_open(path, flags, 0o644)
    if fd < 0:
        return error_name(-fd)
    status = os.fstat(fd)
    os.close(fd)
    return status.st_size, status.st_blocks * 512


def is_segment(result, size=SIZE):
    return isinstance(result, tuple) and result[0] == size and result[1] >= size


def is_zero(path):
    data = path.read_bytes()
    return data.count(0) == len(data)


@pytest.fixture
def held(warm, faults):
    """A mount whose warming never ends, until faults.clear()."""
    def start(*options, **named):
        faults.set(HOLD)
        return warm('match=**/*.seg', f'size={SIZE}', *(options or (PATIENT, 'ahead=1')), faults=faults, **named)
    return start


def start_waiter(children, mount, path, flags=CREATE, waiting=1):
    """A process that waits in open(2) for its segment."""
    child = children.start(create, path, flags)
    wait_waiting(mount, waiting)
    return child


def wait_waiting(mount, count):
    mount.wait_counters(waits=count)
    wait_until(lambda: mount.counters()['waits'] >= count)


# A full disk

@pytest.fixture
def disk(workdir, stack):
    """An ext4 of 200 MiB without blocks reserved for root."""
    return stack.enter_context(warmfs.loop_fs('ext4', 200 * MI, workdir, mkfs_options=['-m', '0', '-N', '8000']))


def fill(directory, leave=0):
    """Makes a file that takes all the space there is natively now, but for so much."""
    path = pathlib.Path(directory) / 'filler'
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        space = os.fstatvfs(fd)
        # At once: what the pool gives back in the meantime is not for this file.
        size = space.f_bavail * space.f_frsize - leave
        while size > 0:
            try:
                os.posix_fallocate(fd, 0, size)
                break
            except OSError as error:
                assert error.errno == errno.ENOSPC
                size -= 16 * KI
    finally:
        os.close(fd)
    return path


@pytest.mark.parametrize('kind', ['mapped', 'stream'])
@pytest.mark.parametrize('on_timeout', ['cold', 'fail'])
def test_create_on_full_disk(warm, disk, kind, on_timeout):
    """ENOSPC at the create, and nothing half-made stays."""
    mount = warm('match=*.seg', 'size=32M', f'kind={kind}', 'ahead=0', f'on_timeout={on_timeout}', source=disk)
    fill(mount.src, leave=16 * MI)
    free = os.statvfs(disk).f_bfree
    for i in range(3):
        assert create(mount.point / f'{i}.seg') == 'ENOSPC'
    assert os.listdir(mount.point) == ['filler']
    wait_until(lambda: mount.pool_names() == [] and abs(os.statvfs(disk).f_bfree - free) < 64, what='the end of what was half-made')
    counters = mount.counters()
    assert (counters['taken'], counters['failed'], counters['timeouts']) == (0, 3, 0)
    os.unlink(mount.point / 'filler')
    wait_until(lambda: os.statvfs(disk).f_bfree > free, what='the space of the removed file')
    size, allocated = create(mount.point / 'a.seg')
    assert size == (32 * MI if kind == 'mapped' else 0)
    assert allocated >= 32 * MI


def remove_closed(mount, name):
    """Removes a file of which the daemon has heard that it was closed: the kernel tells it, but does not wait."""
    mount.wait_closed(name)
    os.unlink(mount.point / name)


@pytest.mark.parametrize('what', ['segment', 'plain'])
def test_removed_file_makes_room(warm, disk, what):
    """What natively holds: the space of a closed file is there when its unlink returns."""
    mount = warm('match=*.seg', 'size=32M', 'ahead=0', source=disk)
    for i in range(10):
        fill(mount.point, leave=MI)
        remove_closed(mount, 'filler')
        if what == 'segment':
            assert is_segment(create(mount.point / 'a.seg'), 32 * MI), i
            remove_closed(mount, 'a.seg')
        else:
            fd = os.open(mount.point / 'plain', CREATE)
            os.posix_fallocate(fd, 0, 32 * MI)
            os.close(fd)
            remove_closed(mount, 'plain')


def test_ready_segment_on_full_disk(warm, disk):
    """What is ready is handed out although there is no space left, and can be written to its end."""
    mount = warm('match=*.seg', 'size=16M', 'ahead=2', 'reserve=0%', source=disk)
    mount.wait_settled(2)
    fd = os.open(mount.point / 'filler', os.O_WRONLY | os.O_CREAT)
    os.close(fd)
    assert is_segment(create(mount.point / 'a.seg'), 16 * MI)
    mount.wait_settled(2)
    fill(mount.src)
    fd = os.open(mount.point / 'a.seg', os.O_RDWR)
    for offset in range(0, 16 * MI, MI):
        assert os.pwrite(fd, b'\xff' * MI, offset) == MI
    os.fsync(fd)
    os.close(fd)


def test_pool_gives_way_to_segment(warm, disk):
    """A waiting create of one class gets the space that another's pool holds."""
    mount = warm(source=disk, config='''
[warmfs]
reserve=0%
[class rare]
match=*.rare
size=30M
ahead=3
[class wanted]
match=*.wanted
size=40M
ahead=0
''')
    mount.wait_ready(3, 'rare')
    fill(mount.src, leave=10 * MI)
    assert is_segment(create(mount.point / 'a.wanted'), 40 * MI)
    assert is_zero(mount.point / 'a.wanted')
    assert len(mount.pool_names('ready-')) < 3


@pytest.mark.parametrize('what', ['mkdir', 'create', 'symlink'])
def test_pool_gives_way_to_plain_files(warm, disk, what):
    """A full disk is not full as long as the pool has something."""
    mount = warm('match=*.seg', 'size=30M', 'ahead=3', source=disk)
    mount.wait_settled(3)
    fill(mount.src)
    for i in range(100):
        if what == 'mkdir':
            os.mkdir(mount.point / f'{i}')
        elif what == 'create':
            # So many long names that the directory itself needs blocks.
            for j in range(20):
                touch(mount.point / f'{i}-{j}-{"x" * 200}')
        else:
            os.symlink('x' * 900, mount.point / f'{i}')
    assert len(mount.pool_names('ready-')) < 3
    assert mount.counters()['gave_way'] >= 1


def test_pool_gives_way_to_plain_data(warm, disk):
    """df says there is space; an application that goes on trying can use it."""
    mount = warm('match=*.seg', 'size=30M', 'ahead=3', source=disk)
    mount.wait_settled(3)
    fill(mount.src, leave=MI)

    def write():
        try:
            write_all(mount.point / 'plain', b'x' * 20 * MI)
            return True
        except OSError as error:
            assert error.errno == errno.ENOSPC
            return False
    wait_until(write, 30, 'space for a plain file')
    assert os.stat(mount.point / 'plain').st_size == 20 * MI


def test_reserve_is_kept(warm, disk):
    """Preparing ahead stops in time, and goes on once there is space again."""
    # Without the reserve of 20 MiB there would be room for three.
    fill(disk, leave=70 * MI)
    mount = warm('match=*.seg', 'size=20M', 'ahead=8', 'reserve=10%', source=disk)
    wait_until(lambda: mount.counters()['ready'] == 2 and not mount.pool_names('warming'))
    space = os.statvfs(disk)
    assert space.f_bavail * space.f_frsize >= space.f_blocks * space.f_frsize // 10
    assert len(mount.log_lines('(?i)no space')) <= 1
    os.unlink(disk / 'filler')
    mount.wait_settled(8)


# Failing calls

ONE_OF_TWO = '''
[class good]
match=**/*.good
size=1M
folio=64K
ahead=2
[class bad]
match=**/*.bad
size=1M
folio=128K
ahead=2
timeout=600s
'''


@pytest.mark.parametrize('error', ['EIO', 'ENOSPC', 'EDQUOT', 'EROFS', 'ENOMEM', 'EPERM'])
def test_warmer_fails_for_one_class(warm, faults, error):
    """Its waiters are let go with the error; the other class does not notice; afterwards all is well."""
    faults.set(f'pwrite errno={error} len={128 * KI} path=.warmfs/pool')
    mount = warm(config=ONE_OF_TWO, faults=faults)
    mount.wait_ready(2, 'good')
    for i in range(3):
        assert create(mount.point / f'{i}.bad') == error
        assert is_segment(create(mount.point / f'{i}.good'))
    assert sorted(os.listdir(mount.point)) == [f'{i}.good' for i in range(3)]
    mount.wait_ready(2, 'good')
    assert mount.counters('good')['failed'] == 0
    assert mount.counters('bad')['failed'] == 3
    assert mount.counters('bad')['ready'] == 0
    faults.clear()
    assert is_segment(create(mount.point / 'a.bad'))
    mount.wait_ready(2, 'bad')
    assert len(mount.pool_names()) == 4


@pytest.mark.parametrize('rule, seen', [
    ('openat errno=EMFILE path=warming', 'EMFILE'),
    ('openat errno=EACCES path=warming', 'EACCES'),
    ('fallocate errno=ENOSPC path=.warmfs/pool', 'ENOSPC'),
    ('fallocate errno=EIO path=.warmfs/pool', 'EIO'),
    ('fsync errno=EIO path=.warmfs/pool', 'EIO'),
    ('mmap errno=ENOMEM path=.warmfs/pool', 'ENOMEM'),
    ('ftruncate errno=EIO path=.warmfs/pool', 'EIO'),
    ('madvise errno=ENOMEM len=1048576', 'ENOMEM'),
])
def test_one_call_fails(warm, faults, rule, seen):
    """Whichever step fails: a clean error, nothing left over, and the next create works."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=0', PATIENT, faults=faults)
    faults.set(rule)
    assert create(mount.point / 'a.seg') == seen
    assert os.listdir(mount.point) == []
    wait_until(lambda: mount.pool_names() == [])
    faults.clear()
    assert is_segment(create(mount.point / 'a.seg'))
    counters = mount.counters()
    assert (counters['taken'], counters['failed']) == (1, 1)


def test_publishing_fails(warm, faults):
    """The segment is not lost: the next create gets it."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', PATIENT, faults=faults)
    mount.wait_settled(1)
    faults.set('renameat2 errno=EIO path=a.seg')
    prepared = generation(mount.ready_files()[0])
    assert create(mount.point / 'a.seg') == 'EIO'
    assert os.listdir(mount.point) == []
    faults.clear()
    wait_until(lambda: prepared in {generation(path) for path in mount.ready_files()})
    for name in ('b.seg', 'c.seg'):
        assert is_segment(create(mount.point / name))
        assert is_zero(mount.point / name)
    assert prepared in {generation(mount.src / name) for name in ('b.seg', 'c.seg')}


@pytest.mark.parametrize('rule', [
    'fallocate errno=EOPNOTSUPP', 'fallocate errno=ENOSYS', 'madvise errno=EINVAL',
    'pwrite errno=EIO count=1 path=.warmfs/pool', 'pwrite errno=EINTR count=3 path=.warmfs/pool',
])
def test_call_is_done_without(warm, faults, rule):
    """What an older kernel or another filesystem lacks, or what passes, keeps no segment from being made."""
    faults.set(rule)
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', PATIENT, faults=faults)
    mount.wait_settled(1)
    assert is_segment(create(mount.point / 'a.seg'))
    assert is_zero(mount.point / 'a.seg')
    assert faults.hits()


@pytest.mark.parametrize('error', ['EIO', 'ENOMEM', 'EMFILE'])
def test_passing_error_is_tried_again(warm, faults, error):
    """What may be gone in a moment does not reach the application if it is."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=0', PATIENT, faults=faults)
    faults.set(f'pwrite errno={error} count=1 path=.warmfs/pool')
    assert is_segment(create(mount.point / 'a.seg'))
    assert is_zero(mount.point / 'a.seg')
    assert len(faults.hits('pwrite')) == 1


@pytest.mark.parametrize('error', ['ENOSPC', 'EDQUOT', 'EROFS'])
def test_lasting_error_is_not_tried_again(warm, faults, error):
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=0', PATIENT, faults=faults)
    faults.set(f'pwrite errno={error} path=.warmfs/pool')
    assert create(mount.point / 'a.seg') == error
    assert len(faults.hits('pwrite')) == 1


def test_sync_error_reaches_the_application(warm, faults):
    mount = warm('match=*.seg', f'size={SIZE}', faults=faults)
    fd = os.open(mount.point / 'a.seg', CREATE, 0o644)
    os.pwrite(fd, b'x', 0)
    faults.set('fsync errno=EIO path=a.seg', 'fdatasync errno=ENOSPC path=a.seg')
    with pytest.raises(OSError, match='Input/output'):
        os.fsync(fd)
    with pytest.raises(OSError, match='No space'):
        os.fdatasync(fd)
    faults.clear()
    os.fsync(fd)
    os.close(fd)


def small_files_only():
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * KI, 64 * KI))


def test_file_size_limit_of_the_daemon(warm):
    """A limit that the daemon was started under is an error of the call, not its end."""
    mount = warm('match=*.seg', f'size={SIZE}', 'ahead=1', PATIENT, 'passthrough=off', before=small_files_only)
    assert create(mount.point / 'a.seg') == 'EFBIG'
    write_all(mount.point / 'plain', b'data')
    for change in (lambda: write_all(mount.point / 'plain', bytes(KI * 200)),
                   lambda: os.truncate(mount.point / 'plain', 200 * KI)):
        with pytest.raises(OSError, match='too large'):
            change()
    assert mount.alive()
    assert (mount.point / 'plain').exists()


def test_nobody_hears_the_answer(warm, faults, children):
    """The connection ends while the daemon opens a file, which it lets go of then."""
    mount = warm('match=*.seg', 'size=64K', 'ahead=0', 'attr_timeout=60', faults=faults)
    touch(mount.point / 'file')
    mount.wait_answered()
    faults.set('openat count=1 delay_ms=hold')
    child = children.start(raw_open, mount.point / 'file', os.O_RDWR, 0o644)
    faults.wait_hit('openat')
    warmfs.abort_connection(mount.dev)
    assert child.result() < 0
    faults.clear()
    assert mount.process.wait(30 * warmfs.SLOW) == 0
    mount.check_log()


# Impatience

def create_with_handler(path, restart):
    """A create in a process that handles SIGUSR1."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR1, not restart)
    return create(path)


def interrupt(mount, child, number=signal.SIGUSR1):
    """Sends a signal to a process that waits in a create, which heeds it no more when the daemon has been told of it."""
    child.kill(number)
    wait_until(lambda: 'D' in child.states(), what='the interrupt')
    # The kernel hands out an interrupt before any other request.
    os.statvfs(mount.point)


@pytest.mark.parametrize('restart', [False, True], ids=['', 'SA_RESTART'])
def test_handled_signal(held, faults, children, restart):
    """A create goes on waiting over signals that the process handles, and succeeds, as natively."""
    mount = held(PATIENT, 'ahead=0')
    child = children.start(create_with_handler, mount.point / 'a.seg', restart)
    wait_waiting(mount, 1)
    interrupt(mount, child)
    for _ in range(10):
        child.kill(signal.SIGUSR1)
    os.statvfs(mount.point)
    assert child.alive()
    assert mount.counters()['waiting'] == 1
    faults.clear()
    assert is_segment(child.result())
    assert is_zero(mount.point / 'a.seg')
    counters = mount.counters()
    assert (counters['cancelled'], counters['timeouts'], counters['taken']) == (0, 0, 1)


def test_handled_signal_and_timeout(held, faults, children):
    """Nor does a signal change when the wait is over."""
    mount = held('timeout=1s', 'on_timeout=fail', 'ahead=0')
    child = children.start(create_with_handler, mount.point / 'a.seg', False)
    wait_waiting(mount, 1)
    child.kill(signal.SIGUSR1)
    assert child.result() == 'EAGAIN'
    assert mount.counters()['timeouts'] == 1
    faults.clear()


def test_stopped_waiter(held, faults, children):
    """Stopped and continued, as a shell does it."""
    mount = held(PATIENT, 'ahead=0')
    child = start_waiter(children, mount, mount.point / 'a.seg')
    interrupt(mount, child, signal.SIGSTOP)
    child.kill(signal.SIGCONT)
    faults.clear()
    assert is_segment(child.result())


def create_in_thread(path):
    results = []
    thread = threading.Thread(target=lambda: results.append(create(path)))
    thread.start()
    thread.join()
    return results[0]


def create_unprotected(path, function):
    """With every signal's own action, and no core."""
    for number in DEADLY:
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return function(path)


# SIGQUIT and SIGABRT are those with a core.
DEADLY = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGQUIT, signal.SIGABRT]


@pytest.mark.parametrize('function', [create, create_in_thread])
@pytest.mark.parametrize('number', [signal.SIGKILL, *DEADLY], ids=lambda number: number.name)
def test_killed_waiter(held, faults, children, number, function):
    """It dies at once, leaves no file, and the segment that was being made goes to the pool."""
    mount = held(PATIENT, 'ahead=0')
    child = children.start(create_unprotected, mount.point / 'a.seg', function)
    wait_waiting(mount, 1)
    faults.wait_hit('pwrite')
    child.kill(number)
    assert warmfs.describe_status(child.wait()) == f'killed by {number.name}'
    mount.wait_counters(cancelled=1)
    assert os.listdir(mount.point) == []
    counters = mount.counters()
    assert (counters['cancelled'], counters['timeouts'], counters['failed']) == (1, 0, 0)
    making = mount.pool_names('warming')
    assert len(making) == 1
    inode = os.stat(mount.pool / making[0]).st_ino
    faults.clear()
    mount.wait_counters(ready=1, expired=1, prepared=1)
    assert is_segment(create(mount.point / 'b.seg'))
    assert os.stat(mount.point / 'b.seg').st_ino == inode
    assert mount.counters()['hits'] == 1
    assert is_zero(mount.point / 'b.seg')


def test_killed_after_a_handled_signal(held, faults, children):
    """The kernel tells of the first signal only: it dies when the wait is over."""
    mount = held(PATIENT, 'ahead=0')
    child = children.start(create_with_handler, mount.point / 'a.seg', False)
    wait_waiting(mount, 1)
    interrupt(mount, child)
    child.kill()
    faults.clear()
    assert warmfs.describe_status(child.wait()) == 'killed by SIGKILL'
    assert mount.counters()['waiting'] == 0


@pytest.mark.parametrize('kind', ['mapped', 'stream'])
def test_timeout_cold(warm, faults, kind):
    """After the timeout an unprepared file of the same kind."""
    faults.set('pwrite delay_ms=hold path=.warmfs/pool', 'fsync delay_ms=hold path=.warmfs/pool')
    mount = warm('match=*.seg', f'size={SIZE}', f'kind={kind}', 'ahead=1', 'timeout=200', faults=faults)
    for i in range(3):
        result = create(mount.point / f'{i}.seg')
        assert result[0] == (SIZE if kind == 'mapped' else 0)
        assert is_zero(mount.point / f'{i}.seg')
        assert stat.S_IMODE(os.stat(mount.point / f'{i}.seg').st_mode) == 0o644
        write_all(mount.point / f'{i}.seg', b'x' * 100_000, os.O_WRONLY)
    counters = mount.counters()
    assert (counters['timeouts'], counters['waits'], counters['hits'], counters['failed']) == (3, 3, 0, 0)
    faults.clear()
    mount.wait_counters(ready=1)
    result = create(mount.point / 'warm.seg')
    assert result[1] >= SIZE
    assert mount.counters()['hits'] == 1


def test_timeout_fail(held, faults):
    """Or EAGAIN, if the class says so, and no file."""
    mount = held('timeout=200ms', 'on_timeout=fail', 'ahead=1')
    for i in range(3):
        assert create(mount.point / f'{i}.seg') == 'EAGAIN'
    assert os.listdir(mount.point) == []
    assert mount.counters()['timeouts'] == 3
    faults.clear()
    mount.wait_counters(ready=1)
    assert is_segment(create(mount.point / 'a.seg'))


def test_late_segments_do_not_pile_up(held, faults):
    """What was made for those who had gone is used for those who come."""
    mount = held('timeout=100ms', 'on_timeout=fail', 'ahead=2')
    for i in range(10):
        assert create(mount.point / f'{i}.seg') == 'EAGAIN'
    faults.clear()
    mount.wait_counters(ready=2)
    wait_until(lambda: not mount.pool_names('warming'))
    assert len(mount.pool_names()) <= 4
    assert mount.counters()['ready'] == len(mount.pool_names())


def test_slow_cold_file_delays_nobody(warm, faults, children):
    """While an unprepared file takes its time, other waits end when they should."""
    # The warmer's writes never end; nor does the reservation of `slow`.
    faults.set(HOLD, f'fallocate delay_ms=hold len={2 * MI} after=2 path=.warmfs/pool')
    mount = warm(faults=faults, config="""
[class slow]
match=**/*.slow
size=2M
ahead=0
timeout=200
[class patient]
match=**/*.patient
size=1M
ahead=0
timeout=600s
[class quick]
match=**/*.quick
size=1M
ahead=0
timeout=300
on_timeout=fail
""")
    for name in ('a', 'b', 'c'):
        (mount.point / name).mkdir()
    slow = children.start(create, mount.point / 'a/x.slow')
    # Twice by the warmer (the device's zeroes, then the blocks), then by the cold way.
    faults.wait_hit('fallocate')
    patient = children.start(create, mount.point / 'b/x.patient')
    mount.wait_counters('patient', waits=1)
    assert create(mount.point / 'c/x.quick') == 'EAGAIN'
    patient.kill()
    assert warmfs.describe_status(patient.wait()) == 'killed by SIGKILL'
    assert slow.alive()
    faults.clear()
    assert slow.result()[0] == 2 * MI


# Together

@pytest.mark.parametrize('exclusive', [False, True])
def test_one_name_at_once(held, faults, children, exclusive):
    """Many creates of one name: one file; with O_EXCL one winner."""
    mount = held(PATIENT, 'ahead=0')

    def work():
        fd = raw_open(mount.point / 'a.seg', CREATE | (os.O_EXCL if exclusive else 0), 0o644)
        return error_name(-fd) if fd < 0 else os.fstat(fd).st_ino
    for _ in range(8):
        children.start(work)
    wait_waiting(mount, 1)
    faults.clear()
    results = [child.result() for child in children]
    inode = os.stat(mount.point / 'a.seg').st_ino
    if exclusive:
        assert sorted(map(str, results)) == sorted([str(inode)] + ['EEXIST'] * 7)
    else:
        assert results == [inode] * 8
    assert is_segment(create(mount.point / 'a.seg'))
    assert mount.counters()['taken'] == 1


@pytest.mark.parametrize('exclusive', [False, True])
def test_name_appears_while_waiting(held, faults, children, exclusive):
    """Somebody else makes the name, in the source itself: it is opened as it is, or EEXIST."""
    mount = held(PATIENT, 'ahead=0')
    child = start_waiter(children, mount, mount.point / 'a.seg', CREATE | (os.O_EXCL if exclusive else 0))
    write_all(mount.src / 'a.seg', b'theirs')
    faults.clear()
    result = child.result()
    assert result == 'EEXIST' if exclusive else result[0] == 6
    assert (mount.point / 'a.seg').read_bytes() == b'theirs'
    mount.wait_counters(ready=1)
    assert mount.counters()['taken'] == 0
    assert is_segment(create(mount.point / 'b.seg'))
    assert mount.counters()['hits'] == 1


def test_directory_appears_while_waiting(held, faults, children):
    mount = held(PATIENT, 'ahead=0')
    child = start_waiter(children, mount, mount.point / 'a.seg')
    (mount.src / 'a.seg').mkdir()
    faults.clear()
    assert child.result() in ('EISDIR', 'EEXIST')
    assert os.listdir(mount.point / 'a.seg') == []


def test_parent_renamed_while_waiting(held, faults, children):
    """The file comes into being in the directory, whatever that is called by now."""
    mount = held(PATIENT, 'ahead=0')
    (mount.point / 'old').mkdir()
    child = start_waiter(children, mount, mount.point / 'old/a.seg')
    rename = children.start(os.rename, mount.point / 'old', mount.point / 'new')
    with contextlib.suppress(warmfs.TestError):
        # The kernel may make it wait for the create.
        wait_until(lambda: not rename.alive(), 2)
    faults.clear()
    assert is_segment(child.result())
    rename.result()
    assert os.listdir(mount.point) == ['new']
    assert os.listdir(mount.point / 'new') == ['a.seg']
    assert os.stat(mount.point / 'new/a.seg').st_size == SIZE


def test_parent_renamed_below_while_waiting(held, faults, children):
    mount = held(PATIENT, 'ahead=0')
    (mount.point / 'old').mkdir()
    child = start_waiter(children, mount, mount.point / 'old/a.seg')
    os.rename(mount.src / 'old', mount.src / 'new')
    faults.clear()
    assert is_segment(child.result())
    assert os.listdir(mount.src / 'new') == ['a.seg']


def test_parent_removed_while_waiting(held, faults, children):
    """ENOENT, and the segment is there for somebody else."""
    mount = held(PATIENT, 'ahead=0')
    (mount.point / 'd').mkdir()
    child = start_waiter(children, mount, mount.point / 'd/a.seg')
    os.rmdir(mount.src / 'd')
    faults.clear()
    assert child.result() == 'ENOENT'
    mount.wait_counters(ready=1)
    assert is_segment(create(mount.point / 'b.seg'))
    assert mount.counters()['hits'] == 1


def test_removed_and_made_again_while_waiting(held, faults, children):
    """rmdir through the mount waits for the create, as for a slow disk; then the directory is not empty."""
    mount = held(PATIENT, 'ahead=0')
    (mount.point / 'd').mkdir()
    child = start_waiter(children, mount, mount.point / 'd/a.seg')
    rmdir = children.start(os.rmdir, mount.point / 'd')
    wait_until(rmdir.sleeping)
    faults.clear()
    assert is_segment(child.result())
    with pytest.raises(OSError, match='not empty'):
        rmdir.result()


def test_rename_over_a_name_being_made(held, faults, children):
    """As above: one after the other, and no file is lost."""
    mount = held(PATIENT, 'ahead=0')
    (mount.point / 'd').mkdir()
    write_all(mount.point / 'plain', b'plain')
    child = start_waiter(children, mount, mount.point / 'd/a.seg')
    rename = children.start(os.rename, mount.point / 'plain', mount.point / 'd/a.seg')
    wait_until(rename.sleeping)
    faults.clear()
    assert is_segment(child.result())
    rename.result()
    assert (mount.point / 'd/a.seg').read_bytes() == b'plain'
    assert os.listdir(mount.point) == ['d']


def blocked_creates(root, count):
    """Threads that each create in a directory of their own; run in a child."""
    results = [None] * count

    def work(i):
        results[i] = create(root / f'd{i}/a.seg')
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.limit(120)
def test_blocked_creates_block_nobody_else(held, faults, children):
    """Two hundred creates wait; everything else goes on."""
    count = 200
    mount = held(PATIENT, 'ahead=0', 'threads=1')
    (mount.point / 'elsewhere').mkdir()
    touch(mount.point / 'elsewhere/file')
    for i in range(count):
        (mount.point / f'd{i}').mkdir()
    child = children.start(blocked_creates, mount.point, count)
    wait_waiting(mount, count)
    for i in range(50):
        os.stat(mount.point / 'elsewhere/file')
        assert 'file' in os.listdir(mount.point / 'elsewhere')
        write_all(mount.point / f'elsewhere/plain-{i}', b'data')
        os.mkdir(mount.point / f'elsewhere/dir-{i}')
        os.rename(mount.point / f'elsewhere/plain-{i}', mount.point / f'elsewhere/dir-{i}/moved')
        assert (mount.point / f'elsewhere/dir-{i}/moved').read_bytes() == b'data'
    assert len(os.listdir(mount.point)) == count + 1
    os.statvfs(mount.point)
    assert child.alive()
    faults.clear()
    assert all(is_segment(result) for result in child.result(60))
    counters = mount.counters()
    assert (counters['taken'], counters['waits']) == (count, count)
    assert len({os.stat(mount.point / f'd{i}/a.seg').st_ino for i in range(count)}) == count


# The end

def slow_bad(warm, faults):
    """A mount whose class `bad` is so slow that every wait outlasts the test, but no single call does."""
    mount = warm(config=ONE_OF_TWO, faults=faults)
    mount.wait_ready(2, 'good')
    mount.wait_ready(2, 'bad')
    faults.set(f'pwrite delay_ms=1500 len={128 * KI} path=.warmfs/pool')
    return mount


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT], ids=['SIGTERM', 'SIGINT'])
def test_stop_with_waiting_creates(warm, faults, children, number):
    """They end with an error, the daemon ends cleanly and soon, and the pool is kept."""
    mount = slow_bad(warm, faults)
    for i in range(10):
        (mount.point / f'd{i}').mkdir()
        children.start(create, mount.point / f'd{i}/x.bad')
    mount.wait_counters('bad', waits=8)
    assert [child.alive() for child in children].count(True) == 8
    mount.stop(number, seconds=20)
    results = [child.result() for child in children]
    assert results.count('ESHUTDOWN') == 8
    assert len([result for result in results if is_segment(result)]) == 2
    names = os.listdir(mount.source / '.warmfs/pool')
    assert len(names) == 2
    assert all(name.startswith('ready-') for name in names)
    made = [path for path in mount.source.glob('d*/x.bad')]
    assert len(made) == 2


def test_stop_with_creates_in_one_directory(warm, faults, children):
    """Those that the kernel keeps waiting for each other end as well."""
    mount = slow_bad(warm, faults)
    for i in range(10):
        children.start(create, mount.point / f'{i}.bad')
    mount.wait_counters('bad', waits=1)
    mount.stop(seconds=20)
    results = [child.result() for child in children]
    assert 'ESHUTDOWN' in results
    assert all(is_segment(result) or result in ('ESHUTDOWN', 'ENOTCONN', 'ECONNABORTED') for result in results)


def test_two_signals(warm, faults, children):
    """Impatience does no harm."""
    mount = slow_bad(warm, faults)
    for i in range(3):
        (mount.point / f'd{i}').mkdir()
        children.start(create, mount.point / f'd{i}/x.bad')
    mount.wait_counters('bad', waits=1)
    mount.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(ProcessLookupError):
        mount.process.send_signal(signal.SIGINT)
    mount.wait_exit(20)


def test_lazy_umount_with_waiting_creates(held, faults, children):
    """A detached mount ends when the last create has."""
    mount = held(PATIENT, 'ahead=0')
    child = start_waiter(children, mount, mount.point / 'a.seg')
    warmfs.umount(mount.point, warmfs.MNT_DETACH)
    assert mount.alive()
    faults.clear()
    assert is_segment(child.result())
    mount.wait_exit()
    assert os.stat(mount.source / 'a.seg').st_size == SIZE


def test_killed_daemon_with_waiting_creates(held, faults, children):
    """Even then they are let go, by the kernel."""
    mount = held(PATIENT, 'ahead=0')
    for i in range(5):
        (mount.point / f'd{i}').mkdir()
        children.start(create, mount.point / f'd{i}/a.seg')
    wait_waiting(mount, 5)
    mount.kill()
    assert {child.result() for child in children} <= {'ENOTCONN', 'ECONNABORTED'}
    mount.close()
    assert list(mount.source.glob('d*/a.seg')) == []


def test_killed_daemon(warm):
    """Passthrough goes on without it; the next mount takes over the pool and finds every file."""
    options = ('match=*.seg', f'size={SIZE}', 'ahead=2')
    mount = warm(*options)
    mount.wait_settled(2)
    fd = os.open(mount.point / 'a.seg', CREATE, 0o644)
    plain = os.open(mount.point / 'plain', CREATE, 0o644)
    os.pwrite(fd, b'before', 0)
    memory = mmap.mmap(fd, SIZE)
    mount.wait_settled(2)
    prepared = {generation(path) for path in mount.ready_files()}
    mount.kill()
    with pytest.raises(OSError, match='not connected'):
        os.stat(mount.point / 'a.seg')
    for handle in (fd, plain):
        assert os.pwrite(handle, b'after', 100) == 5
        assert os.pread(handle, 5, 100) == b'after'
    memory[200:206] = b'mapped'
    memory.flush()
    mount.close()
    assert mounts_at(mount.point) == []

    mount = warm(*options)
    assert mount.wait_ready(2)['adopted'] == 2
    assert {generation(path) for path in mount.ready_files()} == prepared
    assert (mount.point / 'a.seg').read_bytes()[:6] == b'before'
    os.pwrite(fd, b'still', 300)
    data = (mount.point / 'a.seg').read_bytes()
    assert (data[100:105], data[200:206], data[300:305]) == (b'after', b'mapped', b'still')
    assert (mount.point / 'plain').read_bytes()[100:] == b'after'
    memory.close()
    os.close(fd)
    os.close(plain)
    assert is_segment(create(mount.point / 'b.seg'))
    assert is_zero(mount.point / 'b.seg')


@pytest.mark.limit(120)
def test_killed_again_and_again(warm, children):
    """At any moment of many creates: no file is lost that was there, none is handed out twice, none is dirty."""
    written = {}

    def work(point, round_number):
        made = []
        for i in range(10_000):
            name = f'{round_number}-{i}.seg'
            try:
                fd = os.open(point / name, CREATE | os.O_EXCL, 0o644)
            except OSError:
                return made
            try:
                status = os.fstat(fd)
                dirty = os.pread(fd, 100, 0).count(0) != 100
            except OSError:
                dirty, status = False, None
            os.pwrite(fd, name.encode(), 0)
            os.close(fd)
            made.append((name, dirty, status and status.st_size))
        return made
    for round_number in range(8):
        mount = warm('match=*.seg', f'size={SIZE}', 'ahead=3', 'threads=2')
        child = children.start(work, mount.point, round_number)
        mount.wait_counters(taken=5 + 3 * round_number)
        mount.kill()
        made = child.result()
        mount.close()
        assert len(made) >= 5
        for name, dirty, size in made:
            assert not dirty, name
            assert size in (SIZE, None)
            written[name] = True
        for name in written:
            assert (mount.source / name).read_bytes()[:len(name)] == name.encode()
        found = {path.name for path in mount.source.glob('*.seg')}
        assert set(written) <= found
        inodes = [os.stat(mount.source / name).st_ino for name in found]
        assert len(set(inodes)) == len(inodes)
        for name in found - set(written):
            # Made, but the application never heard of it: whole or full-sized, and clean.
            written[name] = True
            (mount.source / name).write_bytes(name.encode() + bytes(SIZE - len(name)))
