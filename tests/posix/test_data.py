# SPDX-License-Identifier: Apache-2.0
"""What files hold: sparse ones, large ones, mapped ones, copied ones; and the locks on them."""

import ctypes
import faulthandler
import fcntl
import mmap
import os
import resource
import signal
import struct
import zlib

from calls import FALLOC_COLLAPSE, FALLOC_INSERT, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_UNSHARE, FALLOC_ZERO_RANGE, fallocate
from cases import ALL, Area, Difference, call, content, facts, opened
from warmfs import check, error_name, libc, wait_until, write_all

area = Area()
PAGE = 4096
FICLONE, FIEMAP, FIBMAP = 0x40049409, 0xC020660B, 1


# Sparse files

def holes(fd):
    """The file as (is data, from, to)."""
    found, at, end = [], 0, os.fstat(fd).st_size
    while at < end:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            data = end
        if data > at:
            found.append((False, at, data))
        if data < end:
            at = os.lseek(fd, data, os.SEEK_HOLE)
            found.append((True, data, at))
        else:
            at = end
    return found


@area.case(kinds=('plain', 'stream'))
def holes_and_data(place):
    fd = place.create()
    found = [holes(fd)]
    for offset in (0, 20 * PAGE, 1 << 20, 40 * PAGE):
        os.pwrite(fd, b'x' * PAGE, offset)
        os.fsync(fd)
        found.append(holes(fd))
    for step in (lambda: os.ftruncate(fd, 2 << 20), lambda: os.ftruncate(fd, 21 * PAGE), lambda: fallocate(fd, 3, 0, PAGE), lambda: os.ftruncate(fd, 1 << 20)):
        step()
        found.append(holes(fd))
    return found


@area.case()
def holes_and_stores(place):
    """What is stored through a mapping is data at once, also for who looks with another descriptor."""
    fd = place.create()
    os.ftruncate(fd, 1 << 20)
    mapping = mmap.mmap(fd, 1 << 20)
    reader = os.open(place.file(), os.O_RDONLY)
    found = []
    for page in (5, 100, 20, 6):
        mapping[page * PAGE + 3] = 65
        found += [holes(reader), os.lseek(fd, page * PAGE, os.SEEK_DATA), os.lseek(fd, page * PAGE, os.SEEK_HOLE)]
    os.close(fd)
    mapping[200 * PAGE] = 65
    return found + [holes(reader), mapping[5 * PAGE + 2:5 * PAGE + 5]]


@area.case(kinds=ALL)
def seek_edges(place):
    fd = os.open(place.make(), os.O_RDWR)
    found = []
    for whence in (0, 1, 2, os.SEEK_DATA, os.SEEK_HOLE, 9):
        for offset in (0, 5, 9, 10, 11, -1, -20, 2**40, -2**63):
            os.lseek(fd, 3, os.SEEK_SET)
            found.append((offset, whence, call(os.lseek, fd, offset, whence)))
    return found


@area.case(kinds=ALL, differs=[Difference('The largest file of FUSE is larger; a write there fails all the same', lambda native: 2**63 - 1)])
def seek_past_the_largest_file(place):
    fd = os.open(place.make(), os.O_RDWR)
    return call(os.lseek, fd, 2**63 - 1, os.SEEK_SET)


@area.case(kinds=ALL)
def punched_and_zeroed(place):
    fd = place.create()
    os.pwrite(fd, b'x' * (16 * PAGE), 0)
    os.ftruncate(fd, 16 * PAGE)
    found = []
    for mode, offset, length in ((FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, PAGE, PAGE), (FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, 100, 50),
                                 (FALLOC_ZERO_RANGE, 4 * PAGE + 10, PAGE), (FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, 15 * PAGE, 4 * PAGE), (FALLOC_ZERO_RANGE, 15 * PAGE, 4 * PAGE),
                                 (FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, 18 * PAGE, 90 * PAGE), (0, 30 * PAGE, PAGE), (FALLOC_KEEP_SIZE, 40 * PAGE, PAGE),
                                 (0, 0, PAGE), (FALLOC_PUNCH_HOLE, 0, PAGE), (0, 0, 0), (0, -1, 5), (0, 5, -1), (0, 2**62, 2**62), (0, 2**63 - 1, 1), (256, 0, PAGE)):
        found.append((mode, offset, length, call(fallocate, fd, mode, offset, length), facts(fd), hash_of(fd)))
    return found


def hash_of(fd):

    return zlib.crc32(os.pread(fd, 1 << 20, 0))


@area.case(differs=[Difference('FUSE has no message for it', lambda native: ['ENOTSUP'] * 3)])
def unusual_allocations(place):
    fd = place.create()
    os.pwrite(fd, b'x' * (16 * PAGE), 0)
    return [call(fallocate, fd, mode, PAGE, PAGE) for mode in (FALLOC_COLLAPSE, FALLOC_INSERT, FALLOC_UNSHARE)]


@area.case()
def allocation_of_no_file(place):
    os.mkfifo(place / 'fifo')
    return [call(fallocate, os.open(place, os.O_RDONLY), 0, 0, 1), call(fallocate, os.open(place / 'fifo', os.O_RDWR), 0, 0, 1),
            call(fallocate, os.open(place / 'f', os.O_CREAT | os.O_RDONLY), 0, 0, 1)]


@area.case(differs=[Difference('FUSE does not tell where blocks are; tools then use SEEK_HOLE', lambda native: ['ENOTSUP', native[1], 'ENOTSUP'])])
def block_maps(place):
    write_all(place / 'file', b'x' * PAGE)
    write_all(place / 'other', b'')
    fd, other = os.open(place / 'file', os.O_RDWR), os.open(place / 'other', os.O_RDWR)
    request = bytearray(struct.pack('=QQIIII', 0, 2**64 - 1, 1, 0, 0, 0))
    answers = [call(fcntl.ioctl, fd, FIEMAP, request), call(fcntl.ioctl, fd, FIBMAP, bytearray(4)), call(fcntl.ioctl, other, FICLONE, fd)]
    return [answer if isinstance(answer, str) else 'ok' for answer in answers]


@area.case()
def unknown_ioctls(place):
    write_all(place / 'file', b'x')
    fd = os.open(place / 'file', os.O_RDWR)
    return call(fcntl.ioctl, fd, 0x5401, bytearray(64)), call(fcntl.ioctl, fd, FICLONE, -1), struct.unpack('i', fcntl.ioctl(fd, 0x541B, bytes(4)))


# Large files

@area.case(kinds=ALL)
def far_offsets(place):
    path = place.make()
    fd = os.open(path, os.O_RDWR)
    found = []
    for offset in (2**31 - 1, 2**31, 2**32 + 5, 2**40, 2**43, 16 * 2**40 - PAGE - 1, 16 * 2**40 - PAGE, 16 * 2**40, 2**62, 2**63 - 1, -1):
        found.append((offset, call(os.pwrite, fd, b'end', offset), call(os.pread, fd, 9, offset), facts(path)))
        call(os.ftruncate, fd, 10)
    for size in (2**31, 2**40, 16 * 2**40 - PAGE, 16 * 2**40, 2**63 - 1, -1, 0):
        found.append((size, call(os.ftruncate, fd, size), call(os.truncate, path, size), facts(path)))
    return found


@area.case(kinds=ALL)
def file_size_limit(place):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fd = os.open(place.make(), os.O_RDWR)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
    return [call(os.pwrite, fd, b'x' * 100, 9950), call(os.pwrite, fd, b'x', 10000), call(os.ftruncate, fd, 10001), call(os.ftruncate, fd, 10000),
            call(os.posix_fallocate, fd, 0, 10001), call(os.truncate, place.file(), 20000), facts(fd), call(os.pwrite, fd, b'y', 0)]


@area.case(kinds=ALL)
def vectors(place):
    path = place.make(data=b'')
    fd = os.open(path, os.O_RDWR)
    many = [b'%d' % (i % 10) for i in range(1024)]
    buffers = [bytearray(3), bytearray(0), bytearray(100)]
    return [os.writev(fd, many), call(os.writev, fd, many + [b'x']), os.pwritev(fd, [b'a', b'', b'bc'], 2), os.preadv(fd, buffers, 1), buffers,
            call(os.preadv, fd, buffers, -1), os.pread(fd, 10, 1020), call(os.pwritev, fd, [], 0), call(os.preadv, fd, [bytearray(9)], 2000), facts(fd)]


@area.case(kinds=ALL)
def write_flags(place):
    fd = os.open(place.make(), os.O_RDWR)
    RWF_APPEND = 16
    return [os.pwritev(fd, [b'1'], 0, os.RWF_DSYNC), os.pwritev(fd, [b'2'], 1, os.RWF_SYNC), call(os.pwritev, fd, [b'end'], 0, RWF_APPEND), content(place.file()),
            call(os.pwritev, fd, [b'x'], 0, 1 << 20), call(os.preadv, fd, [bytearray(3)], 0, 1 << 20)]


@area.case(kinds=ALL)
def big_transfers(place):
    path = place.make(data=b'')
    data = bytes(range(256)) * 20000
    fd = os.open(path, os.O_RDWR)
    return os.write(fd, data), os.pread(fd, len(data) + 5, 0) == data, os.pwrite(fd, data[:777777], 333333), os.pread(fd, 2000000, 333000)[333:777777 + 333] == data[:777777]


@area.case(kinds=ALL)
def truncated_tails_are_zero(place):
    fd = os.open(place.make(data=b'x' * 9000), os.O_RDWR)
    found = []
    for size in (5000, 9000, 100, 4096, 8192, 70000, 10, 66000):
        os.ftruncate(fd, size)
        found.append((facts(fd), hash_of(fd)))
    os.pwrite(fd, b'y', 80000)
    return found + [hash_of(fd), content(place.file()).rstrip(b'\0')[:3]]


@area.case(kinds=ALL, differs=[Difference('What is answered over io_uring is sent too late for the cache to be kept exact', lambda native: ['EINVAL'] * 3,
                                          paths=('io_uring',), kinds=('append',))])
def spliced(place):
    fd = os.open(place.make(), os.O_RDWR)
    pipe = os.pipe()
    return [call(os.sendfile, os.open('/dev/null', os.O_WRONLY), fd, 0, 5), call(os.splice, fd, pipe[1], 5, offset_src=0), call(os.copy_file_range, fd, fd, 2, 0, 5)]


@area.case(kinds=ALL, splices=True)
def copies_in_kernel(place):
    one, two = os.open(place.make('one', b'0123456789' * 1000), os.O_RDWR), os.open(place.make('two', b''), os.O_RDWR)
    reader, appender = os.open(place.file('one'), os.O_RDONLY), os.open(place.file('two'), os.O_WRONLY | os.O_APPEND)
    found = [os.copy_file_range(one, two, 5000, 3, 7), hash_of(two), os.copy_file_range(one, two, 99999, 9000, 7), os.copy_file_range(one, two, 9, 10**6, 0), facts(two),
             call(os.copy_file_range, one, one, 100, 0, 50), call(os.copy_file_range, one, one, 100, 0, 200), call(os.copy_file_range, one, reader, 5, 0, 0),
             call(os.copy_file_range, one, appender, 5, 0, 0), call(os.copy_file_range, one, os.open(place, os.O_RDONLY), 5, 0, 0), hash_of(one)]
    pipe = os.pipe()
    found += [os.sendfile(two, one, 100, 500), os.splice(one, pipe[1], 50, offset_src=5), os.splice(pipe[0], two, 50, offset_dst=20), hash_of(two), facts(two)]
    return found


@area.case(kinds=ALL)
def advice(place):
    fd = os.open(place.make(), os.O_RDWR)
    return [call(os.posix_fadvise, fd, 0, 0, how) for how in range(6)] + [call(os.posix_fadvise, fd, 0, 0, 99), os.fsync(fd), os.fdatasync(fd),
            check(libc.syncfs(fd)), check(libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(0), 7)), content(place.file())]


# Mappings

def dies_of(act):
    """The signal that ends it, or 0."""
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        act()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@area.case(kinds=ALL)
def mapping_and_file(place):
    """Each sees the other's changes at once."""
    path = place.make(data=b'0' * 9000)
    fd, other = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    shared, again, private = mmap.mmap(fd, 9000), mmap.mmap(other, 9000), mmap.mmap(fd, 9000, mmap.MAP_PRIVATE)
    shared[5] = 65
    found = [again[5], os.pread(other, 8, 0), os.pwrite(other, b'BB', 6), shared[4:9], again[4:9]]
    private[100] = 66
    found += [shared[100], os.pread(fd, 1, 100), private[100], os.write(os.open(path, os.O_WRONLY | os.O_APPEND), b'tail'), facts(fd)]
    os.close(fd)
    os.close(other)
    os.unlink(path)
    again[8999] = 67
    return found + [shared[8990:]]


@area.case(kinds=ALL)
def mapping_past_the_end(place):
    fd = os.open(place.make(data=b'x' * 5000), os.O_RDWR)
    mapping = mmap.mmap(fd, 0)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    address = libc.mmap(None, 4 * PAGE, 3, mmap.MAP_SHARED, fd, 0)
    found = [ctypes.string_at(address + 4990, 20)]
    ctypes.memset(address + 5005, 65, 3)
    found += [os.pread(fd, 99, 4995), facts(fd)]
    os.ftruncate(fd, 3 * PAGE)
    found += [ctypes.string_at(address + 2 * PAGE, 5)]
    os.ftruncate(fd, 100)
    found += [ctypes.string_at(address + 95, 10), mapping[90:105]]
    os.ftruncate(fd, 200)
    return found + [os.pread(fd, 300, 90), ctypes.string_at(address + 90, 120)]


@area.case(kinds=('plain', 'mapped', 'stream'))
def mapping_of_nothing_there(place):
    fd = os.open(place.make(data=b'x' * 5000), os.O_RDWR)
    mapping = mmap.mmap(fd, 5000)
    os.ftruncate(fd, 10)
    return dies_of(lambda: mapping[4500]), dies_of(lambda: mapping[5])


@area.case(kinds=ALL)
def mapping_rights(place):
    path = place.make()
    reader, writer, both = (os.open(path, flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR))
    found = []
    for fd in (reader, writer, both, os.open(place, os.O_RDONLY), os.open(path, os.O_PATH)):
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            for prot in (mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_EXEC):
                libc.mmap.restype = ctypes.c_void_p
                libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
                address = libc.mmap(None, 10, prot, flags, fd, 0)
                found.append(error_name(ctypes.get_errno()) if address == ctypes.c_void_p(-1).value else 'ok')
    return found


@area.case(kinds=ALL)
def mapping_shared_by_processes(place):
    fd = os.open(place.make(data=b'0' * PAGE), os.O_RDWR)
    mapping = mmap.mmap(fd, PAGE)
    pids = []
    for i in range(4):
        pid = os.fork()
        if pid == 0:
            for j in range(i, PAGE, 4):
                mapping[j] = 65 + i
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    return mapping[:8], content(place.file()) == b'ABCD' * (PAGE // 4)


@area.case(kinds=ALL)
def mapping_advice(place):
    fd = os.open(place.make(data=b'x' * 4 * PAGE), os.O_RDWR)
    mapping = mmap.mmap(fd, 4 * PAGE)
    mapping[0] = 65
    found = [call(mapping.madvise, how) for how in (mmap.MADV_WILLNEED, mmap.MADV_DONTNEED, mmap.MADV_SEQUENTIAL, 22, 23)]
    found += [mapping[:3], call(mapping.madvise, mmap.MADV_REMOVE, PAGE, PAGE), hash_of(fd), facts(fd)]
    return found


# Locks

def locked(fd, kind, start=0, length=0, command=fcntl.F_SETLK):
    return call(lambda: fcntl.fcntl(fd, command, struct.pack('hhqqi4x', kind, 0, start, length, 0)) and 'ok')


F_OFD_SETLK = 37


def elsewhere(act):
    """In a process of its own, which keeps nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, repr(act()).encode())
        os._exit(0)
    os.close(writer)
    answer = b''
    while chunk := os.read(reader, 4096):
        answer += chunk
    os.waitpid(pid, 0)
    os.close(reader)
    return answer


@area.case(kinds=ALL)
def record_locks(place):
    path = place.make()
    fd = os.open(path, os.O_RDWR)

    def matrix():
        other = os.open(path, os.O_RDWR)
        return [locked(other, kind, start, 5) for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK) for start in (0, 3, 10, 20, 100)]
    found = [locked(fd, fcntl.F_WRLCK, 0, 10), elsewhere(matrix), locked(fd, fcntl.F_RDLCK, 5, 20), elsewhere(matrix), locked(fd, fcntl.F_UNLCK, 3, 4),
             elsewhere(matrix), locked(fd, fcntl.F_WRLCK, -5, 2), locked(fd, 9), locked(fd, fcntl.F_WRLCK, 2**62, 0), elsewhere(matrix)]
    os.close(os.open(path, os.O_RDONLY))
    return found + [elsewhere(matrix), locked(os.open(path, os.O_RDONLY), fcntl.F_WRLCK), locked(os.open(path, os.O_WRONLY), fcntl.F_RDLCK)]


@area.case(kinds=ALL)
def locks_of_open_files(place):
    """OFD locks and flock: of the open file, not of the process."""
    path = place.make()
    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    found = []
    for lock in (lambda fd, kind: locked(fd, kind, command=F_OFD_SETLK),
                 lambda fd, kind: call(fcntl.flock, fd, {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}[kind] | fcntl.LOCK_NB)):
        for first, second in ((fcntl.F_RDLCK, fcntl.F_RDLCK), (fcntl.F_WRLCK, fcntl.F_RDLCK), (fcntl.F_RDLCK, fcntl.F_WRLCK), (fcntl.F_WRLCK, fcntl.F_WRLCK)):
            found.append((lock(one, first), lock(two, second), lock(os.dup(one), fcntl.F_WRLCK), elsewhere(lambda: lock(os.open(path, os.O_RDWR), fcntl.F_RDLCK))))
            lock(one, fcntl.F_UNLCK)
            lock(two, fcntl.F_UNLCK)
        copy = os.dup(one)
        lock(one, fcntl.F_WRLCK)
        os.close(copy)
        found.append(lock(two, fcntl.F_WRLCK))
        os.rename(path, str(path) + '.moved')
        found.append(elsewhere(lambda: lock(os.open(str(path) + '.moved', os.O_RDWR), fcntl.F_WRLCK)))
        os.rename(str(path) + '.moved', path)
        lock(one, fcntl.F_UNLCK)
    return found


@area.case(kinds=ALL)
def lock_wakes_waiter(place):
    path = place.make()
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        other = os.open(path, os.O_RDWR)
        os.write(writer, b'1')
        fcntl.flock(other, fcntl.LOCK_EX)
        os.write(writer, content(path)[:1])
        os._exit(0)
    os.read(reader, 1)
    os.pwrite(fd, b'G', 0)
    fcntl.flock(fd, fcntl.LOCK_UN)
    got = os.read(reader, 1)
    os.waitpid(pid, 0)
    return got


@area.case(kinds=ALL)
def lock_dies_with_process(place):
    path = place.make()

    def take():
        fd = os.open(path, os.O_RDWR)
        return locked(fd, fcntl.F_WRLCK), call(fcntl.flock, os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    return elsewhere(take), elsewhere(take), take()


def lease_of(fd):
    return call(fcntl.fcntl, fd, fcntl.F_GETLEASE)


def take_lease(fd, kind):
    return call(fcntl.fcntl, fd, fcntl.F_SETLEASE, kind)


@area.case(kinds=ALL)
def leases(place):
    """Who may have one: for reading while nobody can write, for writing while nobody else has it open."""
    path = place.make()
    found = []
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        fd = os.open(path, flags)
        found.append([(take_lease(fd, kind), lease_of(fd), take_lease(fd, fcntl.F_UNLCK)) for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK)])
        os.close(fd)
    for mine in (os.O_RDONLY, os.O_RDWR):
        for others in (os.O_RDONLY, os.O_WRONLY):
            fd, other = os.open(path, mine), os.open(path, others)
            found.append([(take_lease(fd, kind), lease_of(fd), take_lease(fd, fcntl.F_UNLCK)) for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK)])
            os.close(other)
            os.close(fd)
    return found


@area.case(kinds=ALL)
def lease_broken(place):
    """He who has one is told when another process opens the file, and that one waits, or not, as it likes."""
    path = place.make()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    found = []
    for kind, flags in ((fcntl.F_RDLCK, os.O_RDONLY), (fcntl.F_RDLCK, os.O_WRONLY), (fcntl.F_WRLCK, os.O_RDONLY), (fcntl.F_WRLCK, os.O_WRONLY)):
        fd = os.open(path, os.O_RDONLY)
        found.append((take_lease(fd, kind), elsewhere(lambda: opened(path, flags | os.O_NONBLOCK))))
        told = signal.sigtimedwait([signal.SIGIO], 0)
        found.append((told is not None, lease_of(fd)))
        pid = os.fork()
        if pid == 0:
            os._exit(0 if opened(path, flags) == 'ok' else 1)
        if told:
            take_lease(fd, fcntl.F_UNLCK)
        found.append(os.waitpid(pid, 0)[1])
        os.close(fd)
    return found


@area.case()
def locks_of_directories(place):
    os.mkdir(place / 'd')
    one, two = os.open(place / 'd', os.O_RDONLY), os.open(place / 'd', os.O_RDONLY)
    found = [call(fcntl.flock, one, fcntl.LOCK_EX | fcntl.LOCK_NB), call(fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB),
             elsewhere(lambda: call(fcntl.flock, os.open(place / 'd', os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)),
             call(fcntl.flock, one, fcntl.LOCK_SH), call(fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB),
             locked(two, fcntl.F_RDLCK), locked(two, fcntl.F_WRLCK), take_lease(one, fcntl.F_RDLCK)]
    os.rmdir(place / 'd')
    return found + [call(fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB), call(fcntl.flock, one, fcntl.LOCK_UN), call(fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)]


@area.case(kinds=ALL)
def lock_upgraded_and_refused(place):
    """Conversion of flock, a deadlock of record locks that is seen, and who holds what (F_GETLK)."""
    path = place.make()
    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    found = [call(fcntl.flock, one, fcntl.LOCK_SH), call(fcntl.flock, two, fcntl.LOCK_SH), call(fcntl.flock, one, fcntl.LOCK_EX | fcntl.LOCK_NB)]
    os.close(two)
    found.append(call(fcntl.flock, one, fcntl.LOCK_EX | fcntl.LOCK_NB))
    locked(one, fcntl.F_WRLCK, 0, 5)

    def who():
        answer = fcntl.fcntl(os.open(path, os.O_RDWR), fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 3, 10, 0))
        kind, whence, start, length, pid = struct.unpack('hhqqi4x', answer)
        return kind, whence, start, length, pid == os.getppid()
    found.append(elsewhere(who))
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_RDWR)
        locked(fd, fcntl.F_WRLCK, 100, 5)
        os.write(ready[1], b'1')
        # Waits for the parent's.
        locked(fd, fcntl.F_WRLCK, 0, 5, fcntl.F_SETLKW)
        os._exit(0)
    os.read(ready[0], 1)
    wait_until(lambda: any('->' in line and f' {pid} ' in line for line in open('/proc/locks')), what='the child to wait')
    found.append(locked(one, fcntl.F_WRLCK, 100, 5, fcntl.F_SETLKW))
    locked(one, fcntl.F_UNLCK)
    return found + [os.waitpid(pid, 0)[1]]


test_data = area.test()
