# SPDX-License-Identifier: Apache-2.0
"""What the benchmark starts and mounts, each a context manager that undoes itself."""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import signal
import struct
import subprocess
import time

POLL_S = 0.05
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 20
FILL_TIMEOUT_S = 600

CLONE_NEWNS = 0x00020000
MS_REC_PRIVATE = 0x4000 | 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_TOPDIR_FL = 0x00020000

libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """Something could not be run."""


class NotMeasured(Exception):
    """Something needed is not on this machine, and may well be missing."""


def enter_private_mounts():
    """A mount namespace of our own: what is mounted in it is gone with its last process."""
    # In a chroot / is no mount point (EINVAL); then it is our own unmounting that counts.
    if libc.unshare(CLONE_NEWNS) < 0 or (libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) < 0
                                         and ctypes.get_errno() != errno.EINVAL):
        raise BenchError(f"a mount namespace: {os.strerror(ctypes.get_errno())}")


def die_with_parent():
    """A benchmark that is killed outright takes its daemons with it."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run(*command, timeout_s=300):
    """Runs a command to its end and returns its standard output."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, text=True, timeout=timeout_s)
    except FileNotFoundError as error:
        raise BenchError(f"{command[0]}: not found") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{' '.join(command)}: did not end in {timeout_s} s") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise BenchError(f"{' '.join(command)}: {reason[0]}")
    return done.stdout


def spread_subdirectories(path):
    """Asks ext4 to place each subdirectory in a block group of its own (chattr +T): otherwise
    what one competitor unlinks slows the creates of the next."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, struct.pack("i", 0)))[0]
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", flags | FS_TOPDIR_FL))
    except OSError:
        pass  # not ext4, and no such trouble
    finally:
        os.close(fd)


class Daemon:
    """A filesystem server in the foreground, with its log in a file."""

    def __init__(self, name, command, mountpoint, log, environment=None):
        self.name = name
        self.command = command
        self.mountpoint = mountpoint
        self.log = log
        self.environment = {**os.environ, **(environment or {})}
        self.process = None

    def __enter__(self):
        with open(self.log, "wb") as log:
            # Out of the terminal's reach: an interrupt must not end it before the benchmark has
            # let go of the mount.
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.environment,
                                            start_new_session=True, preexec_fn=die_with_parent)
        try:
            self.wait(self.mounted, START_TIMEOUT_S, "mount")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def mounted(self):
        return os.path.ismount(self.mountpoint)

    def wait(self, condition, timeout_s, what):
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} ended with {self.process.returncode}: "
                                 f"{self.last_words()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} did not {what} in {timeout_s} s: "
                                 f"{self.last_words()}")
            time.sleep(POLL_S)

    def log_lines(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read().splitlines()

    def last_words(self):
        return "; ".join(self.log_lines()[-3:]) or "(it said nothing)"

    def stop(self):
        """Politely first; then whatever it takes to leave nothing mounted and nothing running."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not end in {STOP_TIMEOUT_S} s after SIGTERM: killed")
            self.process.kill()
            self.process.wait()
        # Not ismount(): the stat of a dead server's mount point fails.
        while libc.umount2(os.fsencode(self.mountpoint), MNT_DETACH) == 0:
            pass


class Warmfs(Daemon):
    """warmfs with one class, for names that end in .seg."""

    def __init__(self, binary, source, mountpoint, log, size_bytes, ahead, kind="mapped", more="",
                 environment=None):
        options = f"match=**/*.seg,size={size_bytes},kind={kind},ahead={ahead}{more}"
        super().__init__("warmfs", [binary, "-f", "-o", options, source, mountpoint], mountpoint,
                         log, environment)
        self.ahead = ahead

    def counters(self):
        """The class's counters, which SIGUSR1 makes warmfs log."""
        pattern = re.compile(r"warmfs: class \S+: (.*)")

        def lines():
            return [found[1] for found in map(pattern.search, self.log_lines()) if found]

        before = len(lines())
        self.process.send_signal(signal.SIGUSR1)
        self.wait(lambda: len(lines()) > before, START_TIMEOUT_S, "log its counters")
        pairs = (word.partition("=") for word in lines()[-1].split())
        return {key: int(value) for key, _, value in pairs if value.isdigit()}

    def wait_full(self):
        """Until the pool is full and its preparation no longer disturbs what is timed."""
        self.wait(lambda: self.counters().get("ready", 0) >= self.ahead, FILL_TIMEOUT_S,
                  "fill its pool")
        time.sleep(POLL_S)


def require_fuse_io_uring():
    """FUSE talks through io_uring only where the administrator has said so."""
    switch = "/sys/module/fuse/parameters/enable_uring"
    try:
        with open(switch, encoding="utf-8") as file:
            on = file.read().strip() in ("Y", "1")
    except OSError as error:
        raise NotMeasured("this kernel has no io_uring for FUSE") from error
    if not on:
        raise NotMeasured(f"io_uring for FUSE is off in {switch}")


@contextlib.contextmanager
def loop_filesystem(image, size_bytes, mountpoint, fill):
    """ext4 on a loop device with direct I/O, over an image whose every block is written: a flush
    costs what it does on a disk, and the outer filesystem has nothing to allocate."""
    fill(image, size_bytes)
    os.mkdir(mountpoint)
    device = run("losetup", "--direct-io=on", "--show", "-f", image).strip()
    try:
        if run("losetup", "-n", "-O", "DIO", device).strip() != "1":
            raise BenchError(f"{device} does no direct I/O on {image}")
        # A discard would punch holes into the image.
        run("mkfs.ext4", "-qF", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device)
        run("mount", "-o", "nodiscard", device, mountpoint)
    finally:
        # A device in use goes with its mount, however that ends.
        run("losetup", "-d", device)
    try:
        yield
    finally:
        run("umount", mountpoint)


def libfuse_source(top):
    """The source tree of libfuse that meson unpacks for the fallback build."""
    with open(os.path.join(top, "subprojects", "libfuse.wrap"), encoding="utf-8") as wrap:
        directory = re.search(r"^directory\s*=\s*(\S+)", wrap.read(), re.MULTILINE)[1]
    return os.path.join(top, "subprojects", directory)


def build_passthrough_hp(source, build, output):
    """Builds libfuse's example against the libfuse that warmfs itself was linked with."""
    example = os.path.join(source, "example", "passthrough_hp.cc")
    if not os.path.exists(example):
        raise NotMeasured(f"{example} is not there")
    if os.path.exists(output) and os.path.getmtime(output) > os.path.getmtime(example):
        return
    built = os.path.join(build, "subprojects", os.path.basename(source))
    library = os.path.join(built, "lib", "libfuse3.a")
    flags = [f"-I{source}/include", f"-I{source}/lib", f"-I{built}"]
    if os.path.exists(library):
        flags += [library, "-pthread", "-ldl"]
        with open(os.path.join(built, "fuse_config.h"), encoding="utf-8") as config:
            if re.search(r"#define HAVE_URING\b", config.read()):
                flags += ["-luring", "-lnuma"]
    else:
        flags = run("pkg-config", "--cflags", "--libs", "fuse3").split() + ["-pthread"]
    run("g++", "-std=c++17", "-O2", "-w", "-o", output + ".new", example, *flags)
    os.rename(output + ".new", output)
