# SPDX-License-Identifier: Apache-2.0
"""Starting, watching and stopping warmfs from tests.

Whatever a test starts here is registered in LIVE until it has ended, so that the time limit of a test
(tests/conftest.py) can end it by force: a filesystem that does not answer must not hang the suite. Mounts
are made in a mount namespace of their own (enter_private_mounts) and processes die with the one that
started them, so nothing survives a killed test run.

Environment:
  WARMFS_BIN         the daemon (default: build/fs/warmfs)
  WARMFS_FAULTY_SYS  faulty-sys.so (default: build/tests/lib/faulty-sys.so)
  WARMFS_PROVIDERS   modules of segment providers (default: tests/providers beside the daemon's directory)
  WARMFS_TEST_DIR    where sources and mount points are made (default: /var/tmp)
  WARMFS_TEST_SLOW   factor on all time limits, for sanitizer builds (default: 1)
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import pickle
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import traceback

import threads

TREE = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get('WARMFS_BIN', TREE / 'build/fs/warmfs'))
FAULTY_SYS = pathlib.Path(os.environ.get('WARMFS_FAULTY_SYS', TREE / 'build/tests/lib/faulty-sys.so'))
PROVIDERS = pathlib.Path(os.environ.get('WARMFS_PROVIDERS', BINARY.parents[1] / 'tests/providers'))
TEST_DIR = os.environ.get('WARMFS_TEST_DIR', '/var/tmp')
SLOW = float(os.environ.get('WARMFS_TEST_SLOW', '1'))

KI = 1024
MI = 1024 * KI
GI = 1024 * MI

libc = ctypes.CDLL(None, use_errno=True)

# Everything that has an abort(): what the time limit ends.
LIVE = []

CLONE_NEWNS = 0x00020000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1


class TestError(AssertionError):
    """What the harness found wrong, as opposed to what a test found."""

    __test__ = False


def check(result):
    """The result of a libc call, or OSError."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def enter_private_mounts():
    """Moves this process into a mount namespace of its own: mounts end with the last process in it."""
    check(libc.unshare(CLONE_NEWNS))
    # In a chroot / is no mount point (EINVAL); then it is the tests' own unmounting that counts.
    if libc.mount(b'none', b'/', None, MS_REC | MS_PRIVATE, None) < 0 and ctypes.get_errno() != errno.EINVAL:
        check(-1)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def links_of(path):
    """How many names a file has; 0 if it is not there any more."""
    try:
        return os.lstat(path).st_nlink
    except FileNotFoundError:
        return 0


def wait_until(condition, seconds=20, what=None):
    """Polls until condition() is true and returns its value; fails after that long.

    `what` is for the message: text, or a function that gives it.
    """
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TestError(f'waited {seconds * SLOW:.0f} s for {what() if callable(what) else what}')
        time.sleep(0.01)


CLOCK_REALTIME_COARSE = 5


def tick():
    """Until every time of a file that is taken from now on is later than those before; the earliest that can be. The kernel
    takes them from a clock that goes in steps, which are long where the host is busy."""
    before = time.time_ns()
    while (now := time.clock_gettime_ns(CLOCK_REALTIME_COARSE)) <= before:
        time.sleep(0.002)
    return now


def error_name(code):
    return errno.errorcode.get(code, str(code))


def run(*argv, **options):
    """A short command that has to succeed; its standard output."""
    done = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60 * SLOW, **options)
    if done.returncode != 0:
        raise TestError(f'{argv}: exit status {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


# Mounts

class MountEntry:
    """One line of mountinfo."""

    def __init__(self, line):
        before, after = line.split(' - ')
        fields = before.split()
        self.id = int(fields[0])
        self.dev = fields[2]
        self.point = re.sub(r'\\([0-7]{3})', lambda match: chr(int(match[1], 8)), fields[4])
        self.options = fields[5].split(',')
        self.fstype, self.source = after.split()[:2]
        self.super_options = after.split()[2].split(',')


def mounts_at(point):
    """The mounts stacked at a path, the one in sight last. Asks the mount table, never the filesystem."""
    wanted = str(point)
    entries = [MountEntry(line) for line in pathlib.Path('/proc/self/mountinfo').read_text().splitlines()]
    return [entry for entry in entries if entry.point == wanted]


def umount(point, flags=0):
    check(libc.umount2(os.fsencode(point), flags))


@contextlib.contextmanager
def connection_control(dev):
    """The kernel's files about a FUSE mount, which need not be in sight otherwise. `dev` as mountinfo has it."""
    minor = dev.split(':')[1]
    control = tempfile.mkdtemp(prefix='warmfs-fusectl-')
    try:
        check(libc.mount(b'fusectl', os.fsencode(control), b'fusectl', 0, None))
        try:
            yield pathlib.Path(control, minor)
        finally:
            umount(control, MNT_DETACH)
    finally:
        os.rmdir(control)


def abort_connection(dev):
    """Makes the kernel answer everything that waits on a FUSE mount."""
    with connection_control(dev) as control, contextlib.suppress(OSError):
        (control / 'abort').write_text('1')


def unanswered_requests(dev):
    """How many requests of a FUSE mount the daemon has not answered yet, those included that nobody waits for."""
    with connection_control(dev) as control:
        return int((control / 'waiting').read_text())


def loop_devices_of(image):
    return run('losetup', '--noheadings', '--output', 'NAME', '--associated', image).split()


@contextlib.contextmanager
def loop_device(image, *options):
    """A loop device for a file that must have none; when this ends it has none again, and may be changed.

    Not by `mount -o loop`: umount does not wait for the device's end, which comes late if somebody else looks at it just
    then, and the next mount takes the same one again, with what its cache has of the file as it was.
    """
    device = run('losetup', '--find', '--show', *options, image).strip()
    try:
        found = loop_devices_of(image)
        if found != [device]:
            raise TestError(f'{image} belongs to {found}, not to {device} alone')
        yield device
    finally:
        run('losetup', '--detach', device)
        wait_until(lambda: not loop_devices_of(image), what=f'the end of {device}')


@contextlib.contextmanager
def mounted_image(image, point, *options):
    """Mounts what is in a file, with a loop device that has ended with the mount."""
    with loop_device(image) as device, mounted(device, point, *options):
        yield point


@contextlib.contextmanager
def mounted(device, point, *options):
    point.mkdir(exist_ok=True)
    run('mount', *options, device, point)
    try:
        yield point
    finally:
        run('umount', point)


@contextlib.contextmanager
def loop_fs(fstype, size, directory, mkfs_options=(), mount_options=''):
    """A fresh filesystem (ext4 or xfs) of that many bytes on a loop device; yields its mount point."""
    image = new_file(f'{fstype}-', '.img', directory)
    point = pathlib.Path(tempfile.mkdtemp(prefix=f'{fstype}-', dir=directory))
    mounted = False
    try:
        os.truncate(image, size)
        if fstype == 'ext4':
            run('mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0,nodiscard', *mkfs_options,
                image)
        else:
            run(f'mkfs.{fstype}', '-q', '-f', *mkfs_options, image)
        options = 'loop' + (',' + mount_options if mount_options else '')
        run('mount', '-t', fstype, '-o', options, image, point)
        mounted = True
        shutil.rmtree(point / 'lost+found', ignore_errors=True)
        os.chmod(point, 0o755)
        yield point
    finally:
        if mounted:
            # A filesystem in use is a leak of the test; take it away all the same.
            try:
                umount(point)
            except OSError:
                umount(point, MNT_DETACH)
        point.rmdir()
        image.unlink()


# Processes

class Child:
    """A function run in a forked process, as another user if wanted.

    result() gives what it returned or raises what it raised. A child may block in the filesystem for ever:
    it is waited for with a bound, and killed.
    """

    def __init__(self, function, *args, uid=None, gid=None, groups=(), umask=None, before=None):
        self.name = getattr(function, '__name__', 'child')
        self.status = None
        self.answer = b''
        self.closed = False
        self.pipe, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            self._run(writer, function, args, uid, gid, groups, umask, before)
        os.close(writer)
        os.set_blocking(self.pipe, False)
        LIVE.append(self)

    @staticmethod
    def _run(writer, function, args, uid, gid, groups, umask, before):
        try:
            die_with_parent()
            if before:
                before()
            if uid is not None:
                os.setgroups(list(groups))
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
                die_with_parent()
            if umask is not None:
                os.umask(umask)
            answer = (True, function(*args))
        except BaseException as error:
            answer = (False, error)
            if not isinstance(error, OSError):
                traceback.print_exc()
        try:
            data = pickle.dumps(answer)
        except Exception:
            data = pickle.dumps((False, TestError(repr(answer[1]))))
        view = memoryview(data)
        while view:
            view = view[os.write(writer, view):]
        os._exit(0)

    def _collect(self):
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.pipe, 65536):
                self.answer += chunk
            self.closed = True

    def alive(self):
        if self.status is None:
            self._collect()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended(status)
        return self.status is None

    def _ended(self, status):
        self.status = status
        self._collect()
        os.close(self.pipe)
        LIVE.remove(self)

    def wait(self, seconds=30):
        """The exit status as waitpid has it."""
        wait_until(self._ends, seconds, f'the end of {self.name}')
        return self.status

    def _ends(self):
        # Its end closes the pipe, if it has no children of its own: no need to look for it again and again.
        if self.status is None and becomes_readable(self.pipe, 0.02):
            self._collect()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid and self.closed:
                pid, status = os.waitpid(self.pid, 0)
            if pid:
                self._ended(status)
        return not self.alive()

    def result(self, seconds=30):
        self.wait(seconds)
        if not self.answer:
            raise TestError(f'{self.name} died: {describe_status(self.status)}')
        good, value = pickle.loads(self.answer)
        if good:
            return value
        raise value

    def kill(self, number=signal.SIGKILL):
        if self.status is None:
            os.kill(self.pid, number)

    abort = kill

    def states(self):
        """Of all its threads: R, S, D, T, Z, as ps shows them."""
        return threads.states(self.pid)

    def sleeping(self):
        """Whether every thread of it is blocked in the kernel."""
        return all(state in 'SD' for state in self.states())


def as_user(uid, function, *args, gid=None, groups=(), umask=None):
    """Runs the function as another user and gives its result."""
    return Child(function, *args, uid=uid, gid=uid if gid is None else gid, groups=groups,
                 umask=umask).result()


def in_child(function, *args, **options):
    return Child(function, *args, **options).result()


def describe_status(status):
    if os.WIFSIGNALED(status):
        return f'killed by {signal.Signals(os.WTERMSIG(status)).name}'
    return f'exit status {os.WEXITSTATUS(status)}'


def raw_open(path, flags, mode=0o666):
    """open(2) as it is: no second try after EINTR. The descriptor, or -errno."""
    fd = libc.open(os.fsencode(path), flags, ctypes.c_uint(mode))
    return fd if fd >= 0 else -ctypes.get_errno()


# Faults

class Faults:
    """The rule file of faulty-sys.so (its comment has the language)."""

    def __init__(self, directory):
        self.path = pathlib.Path(directory) / 'faults'
        self.hit_path = pathlib.Path(directory) / 'faults.hits'
        self.set()

    def set(self, *rules):
        """Replaces all rules; calls held by the old ones go on."""
        fresh = self.path.with_suffix('.new')
        fresh.write_text(''.join(rule + '\n' for rule in rules))
        fresh.rename(self.path)

    def clear(self):
        self.set()

    def hits(self, call=None):
        """The reports of applied rules, all or of one call, as 'CALL PATH' lines."""
        try:
            lines = self.hit_path.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if call is None or line.split(' ')[0] == call]

    def wait_hit(self, call=None, at_least=1):
        wait_until(lambda: len(self.hits(call)) >= at_least, what=f'{at_least} faults in {call}')

    def environment(self):
        if not FAULTY_SYS.exists():
            raise TestError(f'{FAULTY_SYS} is not built')
        asan = os.environ.get('ASAN_OPTIONS', '')
        return {
            'LD_PRELOAD': str(FAULTY_SYS),
            'WARMFS_FAULTS': str(self.path),
            # The sanitizer's library comes after the preloaded one, and that is well.
            'ASAN_OPTIONS': (asan + ':' if asan else '') + 'verify_asan_link_order=0',
        }


# The daemon

SUSPICIOUS = re.compile(r'ERROR: (Address|Leak|Memory)Sanitizer|WARNING: ThreadSanitizer|runtime error:|'
                        r'-CRITICAL \*\*|-WARNING \*\*|Assertion|assertion|fuse: bad |stack smashing|'
                        r'double free|corrupted')

COUNTER_LINE = re.compile(r'\bclass (\S+): ((?:\w+=\w+ ?)+)')


def warmfs_command(*args, faults=None, binary=None):
    # glib's own allocator would hide mistakes from the sanitizers, and its locks from one of them.
    environment = dict(os.environ, G_DEBUG='fatal-criticals', G_SLICE='always-malloc')
    if faults:
        environment.update(faults.environment())
    return [str(binary or BINARY), *[str(arg) for arg in args]], environment


PRESETS = TREE / 'mount-helpers/presets'


def preset(name, directory=None, **changes):
    """The options for a preset (several: name:name); with changes, of a copy in that directory whose classes have these
    values instead: what an operator does who has set up the application otherwise."""
    if not changes:
        return f'preset={name}', f'preset_dir={PRESETS}'
    text = (PRESETS / f'{name}.conf').read_text()
    for key, value in changes.items():
        text, count = re.subn(rf'^{key}=.*$', f'{key}={value}', text, flags=re.MULTILINE)
        if count == 0:
            raise TestError(f'preset {name} has no {key}=')
    pathlib.Path(directory, f'{name}.conf').write_text(text)
    return f'preset={name}', f'preset_dir={directory}'


class Mount:
    """One mounted warmfs.

    `source` is the backing directory; `src` reaches it also when the mount lies over it; `point` is the
    mount point. Options are given as strings: Mount(dir, dir2, 'match=*.log', 'size=1M'). `before` is
    called in the daemon's process before it starts; `binary` is another daemon than BINARY.
    """

    def __init__(self, source, point, *options, config=None, faults=None, before=None, workdir,
                 foreground=True, binary=None):
        self.source = pathlib.Path(source)
        self.point = pathlib.Path(point)
        # As the mount table has it. Found out now: later it might have to ask the mount.
        self.table_point = os.path.realpath(point)
        self.options = list(options)
        # Other tests keep the disk busy, too: preparing is not to wait for them.
        if not any(option.startswith('yield=') for option in self.options):
            self.options.insert(0, 'yield=off')
        if config is not None:
            path = new_file('classes-', '.conf', workdir)
            path.write_text(config)
            self.options.append(f'config={path}')
        self.faults = faults
        self.before = before
        self.binary = binary
        self.foreground = foreground
        self.log_path = new_file('stderr-', '.log', workdir)
        self.process = None
        self.source_fd = -1
        self.dev = None
        self._start()

    # Starting

    def argv(self):
        args = ['-f'] if self.foreground else []
        for option in self.options:
            args += ['-o', option]
        return args + [self.source, self.point]

    def _start(self):
        self.source_fd = os.open(self.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.src = pathlib.Path(f'/proc/{os.getpid()}/fd/{self.source_fd}')
        command, environment = warmfs_command(*self.argv(), faults=self.faults, binary=self.binary)
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment, preexec_fn=self._prepare_process)
        LIVE.append(self)
        try:
            # In the background, the command ends when everything stands; in the foreground, the log says so.
            wait_until(lambda: self.process.poll() is not None or
                       (self.foreground and b'serving' in self.log_path.read_bytes()), what='the mount')
            if self.foreground and self.process.poll() is not None:
                raise TestError(f'warmfs ended with {self.process.returncode}\n{self.report()}')
            self.dev = mounts_at(self.table_point)[-1].dev
        except BaseException:
            self.abort()
            self._forget()
            raise

    def _prepare_process(self):
        die_with_parent()
        if self.before:
            self.before()

    # Looking

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors='replace')

    def messages(self):
        """The log without the counters."""
        return [line for line in self.log().splitlines() if not COUNTER_LINE.search(line)]

    def log_lines(self, pattern):
        return [line for line in self.messages() if re.search(pattern, line)]

    def report(self):
        """What to show of the log when something went wrong: of the counters, only the last."""
        counters = {line.split(':')[1]: line for line in self.log().splitlines() if COUNTER_LINE.search(line)}
        return '\n'.join([f'--- log of the mount at {self.point}', *self.messages()[-60:], *counters.values()])

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def wait_answered(self):
        """Until the daemon is through with all that it was asked, closes included: for those the kernel does not wait."""
        wait_until(lambda: unanswered_requests(self.dev) == 0, what='the answers to all requests')

    def wait_closed(self, name):
        """Until nobody has a file that was closed, not even the daemon: with its last name, its blocks go."""
        self.wait_answered()
        # New segments are mapped until a worker finds the time.
        maps = pathlib.Path(f'/proc/{self.pid}/maps')
        wait_until(lambda: f'/{name}\n' not in maps.read_text(), what=f'the end of the mapping of {name}')

    @property
    def private(self):
        """SOURCE/.warmfs, which the mount hides."""
        return self.src / '.warmfs'

    @property
    def pool(self):
        return self.private / 'pool'

    def pool_names(self, prefix=''):
        return sorted(name for name in os.listdir(self.pool) if name.startswith(prefix))

    def ready_files(self):
        """Those that nobody has: a live segment's file has its name there too, beside the application's."""
        return [path for path in (self.pool / name for name in self.pool_names('ready-'))
                if links_of(path) == 1]

    def counters(self, name=None):
        """The counters, as a dict, of the one class or the named one; asked of the daemon now."""
        before = len(self._counter_lines(name))
        deadline = time.monotonic() + 20 * SLOW
        while True:
            self.process.send_signal(signal.SIGUSR1)
            pause = time.monotonic() + 0.5
            while time.monotonic() < min(pause, deadline):
                lines = self._counter_lines(name)
                if len(lines) > before:
                    return lines[-1]
                time.sleep(0.005)
            if time.monotonic() >= deadline or not self.alive():
                raise TestError(f'no counters on SIGUSR1\n{self.report()}')

    def last_counters(self, name=None):
        """The last ones logged; after a stop, those of the whole run."""
        return self._counter_lines(name)[-1]

    def _counter_lines(self, name):
        # A line without its end is still being written.
        whole = self.log().rpartition('\n')[0]
        found = []
        for match in COUNTER_LINE.finditer(whole):
            if name is None or match[1] == name:
                found.append({key: int(value) if value.isdigit() else value for key, value in
                              (word.split('=') for word in match[2].split())})
        return found

    def wait_counters(self, name=None, seconds=30, **wanted):
        """Waits until the counters have at least these values; returns them all."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            found = self.counters(name)
            if all(found[key] >= value for key, value in wanted.items()):
                return found
            if time.monotonic() > deadline:
                raise TestError(f'waited in vain for {wanted}, have {found}\n{self.report()}')
            time.sleep(0.03)

    def wait_ready(self, count, name=None, seconds=30):
        return self.wait_counters(name, seconds, ready=count)

    def wait_settled(self, count, seconds=30):
        """Waits until the pool holds exactly that many ready files, which the daemon counts, and nothing half-made."""
        wait_until(lambda: len(self.ready_files()) == count and not self.pool_names('warming')
                   and self._ready_of_all_classes() == count,
                   seconds, lambda: f'{count} segments in the pool: it has {self.pool_names()}')

    def _ready_of_all_classes(self):
        self.counters()
        classes = {match[1] for match in COUNTER_LINE.finditer(self.log())}
        return sum(self.last_counters(name)['ready'] for name in classes)

    # Ending

    def stop(self, number=signal.SIGTERM, seconds=30):
        """Ends the daemon the clean way and requires that it was one."""
        if self.process is None:
            return
        self.process.send_signal(number)
        self.wait_exit(seconds)

    def wait_exit(self, seconds=30):
        try:
            self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            report = self.report()
            self.abort()
            self._forget()
            raise TestError(f'warmfs did not end within {seconds * SLOW:.0f} s\n{report}') from None
        status = self.process.returncode
        left = [entry for entry in mounts_at(self.table_point) if entry.dev == self.dev]
        self._detach()
        self._forget()
        if status != 0:
            raise TestError(f'warmfs ended with status {status}\n{self.report()}')
        if left:
            raise TestError(f'still mounted after the daemon ended\n{self.report()}')
        self.check_log()

    def check_log(self):
        if found := SUSPICIOUS.search(self.log()):
            raise TestError(f'the log has {found[0]!r}\n{self.log()}')

    def kill(self):
        """SIGKILL, and the dead mount stays."""
        self.process.kill()
        self.process.wait()

    def abort(self):
        """Ends it by force, from any thread; whoever waits on the mount gets an error."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        # Its number is only its own while it is mounted: after that it may be that of another test's mount.
        if any(entry.dev == self.dev for entry in mounts_at(self.table_point)):
            abort_connection(self.dev)
        self._detach()

    def _detach(self):
        for entry in mounts_at(self.table_point):
            if entry.dev == self.dev or (self.dev is None and entry.fstype.startswith('fuse')):
                umount(self.table_point, MNT_DETACH)

    def _forget(self):
        if self.process is not None and self.process.poll() is None:
            self.process.wait()
        if self in LIVE:
            LIVE.remove(self)
        if self.source_fd >= 0:
            os.close(self.source_fd)
            self.source_fd = -1
        self.process = None

    def close(self):
        """Ends it, whatever its state; for clean-up after a failed test or a kill."""
        if self.process is None:
            return
        self.abort()
        self._forget()


class Refused:
    """The outcome of a start that had to fail."""

    def __init__(self, done):
        self.status = done.returncode
        self.stderr = done.stderr
        self.lines = done.stderr.splitlines()


def start_refused(*args, **options):
    """Runs warmfs with these arguments, to its end."""
    command, environment = warmfs_command(*args)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=environment, timeout=20 * SLOW, **options)
    except subprocess.TimeoutExpired as error:
        raise TestError(f'{command} runs on, it was to be refused: {error.stderr}') from None
    return Refused(done)


# What files look like

def stat_facts(path, follow=False):
    """What must be the same for two files made in the same way."""
    status = os.stat(path, follow_symlinks=follow)
    return {
        'mode': oct(status.st_mode), 'nlink': status.st_nlink, 'uid': status.st_uid, 'gid': status.st_gid,
        'size': status.st_size, 'rdev': status.st_rdev,
    }


def snapshot(directory):
    """Everything below a directory, itself included, that a refused start must not change."""
    found = {}
    for root, dirs, files in os.walk(directory):
        for name in ['.'] + dirs + files:
            path = os.path.join(root, name)
            status = os.lstat(path)
            found[os.path.relpath(path, directory)] = (
                status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_ino, status.st_nlink,
                status.st_mtime_ns, status.st_ctime_ns)
    return found


def generation(path):
    """Tells an inode from a later one with the same number."""
    fd = os.open(path, os.O_RDONLY)
    try:
        answer = fcntl.ioctl(fd, 0x80087601, bytes(8))
        return os.fstat(fd).st_ino, struct.unpack('<I', answer[:4])[0]
    finally:
        os.close(fd)


def extents(path):
    """The file's extents as (logical, length, flags), in bytes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        limit = 512
        request = bytearray(struct.pack('=QQIIII', 0, 2**64 - 1, 1, 0, limit, 0) + bytes(56 * limit))
        fcntl.ioctl(fd, 0xC020660B, request)
        count = struct.unpack_from('=I', request, 20)[0]
        found = []
        for i in range(count):
            logical, _, length, _, _, flags = struct.unpack_from('=QQQQQI', request, 32 + 56 * i)
            found.append((logical, length, flags))
        return found
    finally:
        os.close(fd)


EXTENT_UNWRITTEN = 0x800


def resident_share(path):
    """The share of the file's pages that are in the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                              ctypes.c_long]
        address = libc.mmap(None, size, 1, 1, fd, 0)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), 'mmap')
        pages = (size + 4095) // 4096
        flags = (ctypes.c_ubyte * pages)()
        try:
            check(libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), flags))
        finally:
            libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
        return sum(flag & 1 for flag in flags) / pages
    finally:
        os.close(fd)


def unflushed_pages(path):
    """How many pages of the file are not on the disk yet; None where the kernel does not say (before Linux 6.5)."""
    fd = os.open(path, os.O_RDONLY)
    try:
        whole = (ctypes.c_uint64 * 2)(0, 0)
        found = (ctypes.c_uint64 * 5)()
        if libc.syscall(451, fd, ctypes.byref(whole), found, 0) < 0:
            return None
        return found[1] + found[2]
    finally:
        os.close(fd)


ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 1, 2, 4, 8, 16, 32


def acl(*entries):
    """The bytes of a POSIX ACL's extended attribute, of (tag, permissions[, id]) entries."""
    data = struct.pack('<I', 2)
    for tag, permissions, *rest in entries:
        data += struct.pack('<HHI', tag, permissions, rest[0] if rest else 0xffffffff)
    return data


def xattrs(path):
    """All extended attributes that are about permissions or of users."""
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if not name.startswith('security.selinux'):
            found[name] = os.getxattr(path, name, follow_symlinks=False)
    return found


def write_all(path, data, flags=os.O_WRONLY | os.O_CREAT, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def touch(path, mode=0o644):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, mode))


def new_file(prefix, suffix, directory):
    fd, path = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=directory)
    os.close(fd)
    return pathlib.Path(path)


def make_workdir():
    path = pathlib.Path(tempfile.mkdtemp(prefix='warmfs-test-', dir=TEST_DIR)).resolve()
    # Other users walk through it.
    path.chmod(0o755)
    return path


def remove_workdir(path):
    shutil.rmtree(path, ignore_errors=True)


def readable(fd, seconds):
    return becomes_readable(fd, seconds * SLOW)


def becomes_readable(fd, seconds):
    """Also of a descriptor that select(2) has no bit for."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
