# SPDX-License-Identifier: Apache-2.0
"""warmfsctl set and reload: other values without unmounting, all of them or none."""

import os
import threading

import pytest

import threads
import warmfs
from status_files import class_status, read, status
from test_warmfsctl import CONFIG, Done, complete, ctl, for_everybody, refused, talk
from warmfs import KI, as_user, touch, wait_until


@pytest.fixture
def mount(warm):
    mount = warm(config=CONFIG)
    wait_until(lambda: ready(mount) == [3, 2], what='full pools')
    return mount


def ready(mount):
    return [one['ready'] for one in status(mount)['classes']]


def config_path(mount):
    line = next(line for line in read(mount, 'config').splitlines() if line.startswith('# config='))
    return line.removeprefix('# config=')


def rewrite(mount, text):
    with open(config_path(mount), 'w') as file:
        file.write(text)


def in_force(mount, name):
    """key -> (value, origin) of a group of MOUNT/.warmfs/config."""
    group = read(mount, 'config').split(f'[{name}]\n')[1].split('\n[')[0]
    pairs = (line.partition(' # ')[::2] for line in group.splitlines() if line)
    return {left.strip().partition('=')[0]: (left.strip().partition('=')[2], origin) for left, origin in pairs}


# set

def test_set(mount):
    assert ctl('set', mount.point, 'one', 'ahead=5') == 'class one: now ahead=5, was 3\n'
    wait_until(lambda: ready(mount) == [5, 2], what='the deeper pool')
    assert in_force(mount, 'class one')['ahead'] == ('5', 'set')
    assert class_status(mount, 'one')['ahead'] == 5
    ctl('set', mount.point, 'two too', 'ahead=1')
    wait_until(lambda: ready(mount) == [5, 1] and len(mount.pool_names('ready-')) == 6, what='the smaller pool')
    assert ctl('set', mount.point, 'two too', 'ahead=1') == 'nothing is different\n'
    assert mount.log_lines('class one: now ahead=5, was 3')


def test_set_is_seen(mount):
    """Where each value is looked at."""
    ctl('set', mount.point, 'one', 'timeout=77')
    ctl('set', mount.point, 'one', 'on_timeout=fail')
    ctl('drain', mount.point, 'one')
    assert 'at most 77 ms, and then fail with EAGAIN' in ctl('explain', mount.point / 'a.one')
    ctl('set', mount.point, 'two too', 'linger=0')
    touch(mount.point / 'a.two')
    wait_until(lambda: os.getxattr(mount.point / 'a.two', 'user.warmfs.state') == b'sealed', what='no lingering')
    ctl('warm', mount.point, 'one', '--wait')
    ctl('set', mount.point, 'one', 'ahead=1')
    ctl('set', mount.point, 'one', 'quota=256K')
    wait_until(lambda: ready(mount)[0] == 1, what='the quota')
    assert ctl('set', mount.point, 'one', 'quota=none') == 'class one: now quota=none, was 256K\n'
    ctl('set', mount.point, 'one', 'quota=256K')
    assert 'needs 512K, but quota=256K' in refused('set', mount.point, 'one', 'ahead=2')


def test_set_refused(mount):
    before = read(mount, 'config')
    assert 'class "one": ahead=65: out of range; allowed:' in refused('set', mount.point, 'one', 'ahead=65')
    assert 'did you mean ahead?' in refused('set', mount.point, 'one', 'ahaed=1')
    assert 'unknown key' in refused('set', mount.point, 'one', '=1')
    assert 'size=1M: cannot change from 256K while it is mounted, because' in \
        refused('set', mount.point, 'one', 'size=1M')
    assert 'mount it again' in refused('set', mount.point, 'two too', 'match=*.three')
    assert 'both match some paths' in refused('set', mount.point, 'two too', 'match=**')
    assert 'classes are: one, two too' in refused('set', mount.point, 'two', 'ahead=1')
    assert 'give MOUNT, CLASS and KEY=VALUE' in refused('set', mount.point, 'one', status=2)
    assert 'give MOUNT, CLASS and KEY=VALUE' in refused('set', mount.point, 'one', 'ahead', status=2)
    assert 'give MOUNT, CLASS and KEY=VALUE' in refused('set', mount.point, status=2)
    assert '[warmfs] rate=much: allowed: bytes per second' in refused('set', mount.point, 'rate=much')
    assert '[warmfs] ahead=3: no such key; allowed: threads, reserve' in refused('set', mount.point, 'ahead=3')
    assert 'provider_dir=/x: cannot change from' in refused('set', mount.point, 'provider_dir=/x')
    assert 'classes are: one, two too' in refused('set', mount.point, 'three', 'rate=1M')
    assert 'no warmfs is mounted there' in refused('set', mount.source, 'one', 'ahead=1')
    assert 'classes are' in talk(mount, 'set one ahead\n')[0]
    assert 'give one argument' in talk(mount, 'set\n')[0]
    assert read(mount, 'config') == before and ready(mount) == [3, 2]


def test_set_without_class(warm):
    mount = warm()
    assert 'has no class' in refused('set', mount.point, 'one', 'ahead=1')
    assert 'without config=FILE' in refused('reload', mount.point)
    assert 'has no class' in talk(mount, 'reload\n')[0]


def test_not_for_everybody(mount, workdir):
    program = for_everybody(workdir)

    def attempt():
        done = Done('set', mount.point, 'one', 'ahead=1', program=program)
        return done.status, done.err
    code, err = as_user(12345, attempt)
    assert code == 1 and 'run it as root' in err


def workers(mount):
    return list(threads.names(mount.pid).values()).count('warmfs-alloc')


def test_set_of_the_mount(mount):
    """What concerns all classes."""
    before = {key: value for key, (value, _) in in_force(mount, 'warmfs').items()}
    assert ctl('set', mount.point, 'rate=64M') == 'mount: now rate=64M, was none\n'
    assert in_force(mount, 'warmfs')['rate'] == ('64M', 'set')
    assert ctl('set', mount.point, 'rate=64M') == 'nothing is different\n'
    more = workers(mount) + 2
    ctl('set', mount.point, f'threads={more - 1}')
    assert workers(mount) == more
    ctl('set', mount.point, 'attr_timeout=3')
    ctl('set', mount.point, 'yield=on')
    assert ctl('set', mount.point, 'log_level=error') == 'mount: now log_level=error, was notice\n'
    ctl('set', mount.point, 'reserve=90%')
    assert not mount.log_lines('now reserve')
    ctl('set', mount.point, 'log_level=notice')
    assert mount.log_lines('now log_level=notice, was error')
    assert ctl('set', mount.point, 'rate=none') == 'mount: now rate=none, was 64M\n'
    ctl('set', mount.point, 'rate=64M')
    # All of it is gone with the next reload, which the file says nothing of.
    ctl('reload', mount.point)
    assert {key: value for key, (value, _) in in_force(mount, 'warmfs').items()} == before


def test_reserve_is_seen(warm, workdir, stack):
    """What is kept free is looked at anew, and the pool goes away, or comes."""
    source = stack.enter_context(warmfs.loop_fs('ext4', 64 * warmfs.MI, workdir))
    mount = warm('match=*.seg', 'size=1M', 'ahead=3', source=source)
    mount.wait_settled(3)
    ctl('set', mount.point, 'reserve=90%')
    touch(mount.point / 'a.seg')
    with open(mount.point / 'filler', 'wb') as filler:
        os.posix_fallocate(filler.fileno(), 0, 8 * warmfs.MI)
    mount.wait_settled(0)
    ctl('set', mount.point, 'reserve=0%')
    ctl('warm', mount.point)
    mount.wait_settled(3)


def test_lock_is_seen(warm):
    mount = warm('match=*.seg', 'size=64K', 'ahead=2')
    mount.wait_settled(2)
    ctl('set', mount.point, 'default', 'lock=on')
    ctl('drain', mount.point)
    ctl('warm', mount.point, '--wait')
    wait_until(lambda: class_status(mount)['locked_bytes'] == 128 * KI, what='locked segments')
    ctl('set', mount.point, 'default', 'lock=off')
    ctl('drain', mount.point)
    wait_until(lambda: class_status(mount)['locked_bytes'] == 0, what='none')


def test_lock_budget_is_seen(warm):
    mount = warm('match=*.seg', 'size=64K', 'ahead=1', 'lock=on', 'lock_active=4', 'lock_budget=1M')
    for number in range(4):
        mount.wait_settled(1)
        touch(mount.point / f'{number}.seg')
    mount.wait_settled(1)
    wait_until(lambda: class_status(mount)['locked_bytes'] == 320 * KI, what='locked segments')
    assert ctl('set', mount.point, 'lock_budget=200K') == 'mount: now lock_budget=200K, was 1M\n'
    assert class_status(mount)['locked_bytes'] == 192 * KI


def test_interval_is_seen(warm):
    """Not only when the old one is over."""
    mount = warm('match=*.seg', 'size=64K', 'kind=append', 'transient=on', 'commit_interval=3600s', 'commit_least_pages=0',
                 'flush_interval=3600s')
    mount.wait_settled(2)
    fd = os.open(mount.point / 'a.seg', os.O_WRONLY | os.O_CREAT)
    os.write(fd, b'x' * 100)
    assert class_status(mount)['transient']['uncommitted_bytes'] == 100
    ctl('set', mount.point, 'default', 'commit_interval=1')
    wait_until(lambda: class_status(mount)['transient']['uncommitted_bytes'] == 0, what='the commit')
    os.close(fd)


# reload

def test_reload_of_the_mount(mount):
    """The group of the mount comes and goes with the file."""
    path = config_path(mount)
    rewrite(mount, '[warmfs]\nrate=32M\nreserve=7%\nwait_warm=on\n' + CONFIG.replace('ahead=3', 'ahead=1'))
    assert sorted(ctl('reload', mount.point).splitlines()) == [
        'class one: now ahead=1, was 3', 'mount: now rate=32M, was none', 'mount: now reserve=7%, was 5%',
        'mount: now wait_warm=on, was off']
    assert in_force(mount, 'warmfs')['rate'] == ('32M', f'{path}:2')
    rewrite(mount, CONFIG)
    assert 'mount: now rate=none, was 32M' in ctl('reload', mount.point)
    assert in_force(mount, 'warmfs')['rate'] == ('none', 'default')


def test_reload(mount):
    ctl('set', mount.point, 'one', 'timeout=1')
    assert ctl('set', mount.point, 'one', 'recycle=off')
    rewrite(mount, '# another line\n' + CONFIG.replace('ahead=3', 'ahead=1').replace('linger=3600s', 'linger=1s\nquota=2M'))
    assert sorted(ctl('reload', mount.point).splitlines()) == [
        'class one: now ahead=1, was 3', 'class one: now recycle=on, was off', 'class one: now timeout=5000, was 1',
        'class two too: now linger=1s, was 3600s', 'class two too: now quota=2M, was none']
    wait_until(lambda: ready(mount) == [1, 2], what='the smaller pool')
    path = config_path(mount)
    one, two = in_force(mount, 'class one'), in_force(mount, 'class two too')
    assert one['ahead'] == ('1', f'{path}:6') and one['timeout'] == ('5000', 'default')
    assert two['quota'] == ('2M', f'{path}:13')
    assert ctl('reload', mount.point) == 'nothing is different\n'


BAD = [
    (CONFIG.replace('ahead=3', 'ahead=5').replace('linger=3600s', 'linger=never'), 'linger=never: not a time'),
    (CONFIG.replace('ahead=3', 'ahead=5').replace('kind=append', 'kind=stream'), 'kind=stream: cannot change from append'),
    (CONFIG.replace('ahead=3', 'ahead=5') + '[class three]\nmatch=*.three\nsize=1M\n', '"three": cannot be added'),
    (CONFIG.replace('ahead=3', 'ahead=5').split('[class two')[0], '"two too": cannot be taken away'),
    (CONFIG.replace('ahead=3', 'ahead=5') + 'linger=1\n', 'linger comes twice'),
    (CONFIG.replace('ahead=3', 'ahead=5') + '[warmfs]\nrate=1M\npassthrough=off\n',
     '[warmfs] passthrough=off: cannot change from on while it is mounted, because it is settled with the kernel'),
    (CONFIG.replace('ahead=3', 'ahead=5') + '[warmfs]\nthreads=65\n', 'threads=65: allowed: 1 to 64'),
    (CONFIG.replace('ahead=3', 'ahead=5') + '[warmfs]\nrat=1M\n', 'rat=1M: no such key'),
    (CONFIG.replace('ahead=3', 'ahead=5').replace('*.one', '**.two'), 'both match some paths'),
    ('', 'holds no group'),
    ('ahead=1\0\n', 'not text'),
    ('#' * 1024 * 1024 + '#', 'too large'),
]


def test_reload_refused(mount):
    """All or nothing: each of these has something good in it, too."""
    before = read(mount, 'config')
    for text, what in BAD:
        rewrite(mount, text)
        err = refused('reload', mount.point)
        assert what in err, err
        assert read(mount, 'config') == before
    os.unlink(config_path(mount))
    assert 'cannot be opened' in refused('reload', mount.point)
    assert 'give MOUNT' in refused('reload', status=2)
    assert 'give MOUNT' in refused('reload', mount.point, 'one', status=2)
    assert ready(mount) == [3, 2]


def test_reload_large(mount):
    """As large as it may be, in many writes."""
    rewrite(mount, CONFIG.replace('ahead=3', 'ahead=4') + ('#' * 4000 + '\n') * 250)
    assert ctl('reload', mount.point) == 'class one: now ahead=4, was 3\n'


def test_reload_from_the_mount(warm, workdir):
    """The file lies in the mount itself."""
    source = workdir / 'source'
    source.mkdir()
    file = source / 'warmfs.conf'
    file.write_text(CONFIG)
    mount = warm(f'config={file}', source=source, over=True)
    file.write_text(CONFIG.replace('ahead=3', 'ahead=1'))
    assert ctl('reload', mount.point) == 'class one: now ahead=1, was 3\n'


def test_reload_with_options(warm):
    """What is not from the file stays as it is."""
    mount = warm('match=*.seg', 'size=64K', 'rate=100M', config=CONFIG)
    ctl('set', mount.point, 'default', 'ahead=3')
    rewrite(mount, CONFIG.replace('ahead=3', 'ahead=1'))
    assert ctl('reload', mount.point) == 'class one: now ahead=1, was 3\n'
    assert in_force(mount, 'class default')['ahead'] == ('3', 'set')
    assert in_force(mount, 'warmfs')['rate'] == ('100M', 'option')


def test_option_stands(warm):
    """What -o says, whatever the file says, now or later; which must be right all the same."""
    mount = warm('rate=10M', config='[warmfs]\nrate=20M\n' + CONFIG)
    assert in_force(mount, 'warmfs')['rate'] == ('10M', 'option')
    assert ctl('reload', mount.point) == 'nothing is different\n'
    ctl('set', mount.point, 'rate=40M')
    rewrite(mount, '[warmfs]\nrate=30M\n' + CONFIG)
    assert ctl('reload', mount.point) == 'mount: now rate=10M, was 40M\n'
    assert in_force(mount, 'warmfs')['rate'] == ('10M', 'option')
    rewrite(mount, '[warmfs]\nrate=fast\n' + CONFIG)
    assert 'rate=fast' in refused('reload', mount.point)


def test_reload_under_load(mount):
    """Somebody creates segments all the time, and none of what he asks for fails."""
    patient = CONFIG.replace('size=', 'timeout=600s\nsize=')
    failures, made = [], [0]
    over = threading.Event()

    def load():
        try:
            while not over.is_set():
                path = mount.point / f'{made[0]}.one'
                touch(path)
                assert os.stat(path).st_size == 256 * KI
                other = mount.point / f'{made[0]}.two'
                other.write_bytes(b'x' * 5000)
                assert other.read_bytes() == b'x' * 5000
                os.unlink(path)
                os.unlink(other)
                made[0] += 1
        except Exception as error:
            failures.append(error)

    rewrite(mount, patient)
    ctl('reload', mount.point)
    thread = threading.Thread(target=load)
    thread.start()
    try:
        for n in range(30):
            begun = made[0]
            values = (f'ahead={n % 6}', 'ahead=auto', 'recycle=off', 'ahead=2\nquota=3M')
            rewrite(mount, patient.replace('ahead=3', values[n % 4]).replace('3600s', f'{n % 3}s'))
            ctl('reload', mount.point)
            ctl('set', mount.point, 'two too', f'max_ahead={1 + n % 7}')
            read(mount, 'config')
            wait_until(lambda: made[0] > begun or failures, 60, what='files')
    finally:
        over.set()
        thread.join()
    assert failures == []
    rewrite(mount, CONFIG)
    ctl('reload', mount.point)
    wait_until(lambda: ready(mount) == [3, 2] and len(mount.ready_files()) == 5, what='the pools as at first')
    found = status(mount)['classes']
    assert [(one['failed'], one['timeouts']) for one in found] == [(0, 0), (0, 0)]


def test_completion(mount):
    assert complete('warmfsctl', 'se') == ['set', 'seal']
    assert complete('warmfsctl', 'rel') == ['reload']
    assert complete('warmfsctl', 'reload', str(mount.point)[:-1]) == [str(mount.point)]
    assert complete('warmfsctl', 'set', mount.point, 'on') == ['one']
    assert complete('warmfsctl', 'set', mount.point, 'one', 'ah') == ['ahead=']
    assert complete('warmfsctl', 'set', mount.point, 'ra') == ['rate=']
