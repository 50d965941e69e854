# SPDX-License-Identifier: Apache-2.0
"""System calls that Python does not have, or not as they are."""

import ctypes
import os
import struct

from warmfs import check, libc

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x100, 0x400, 0x1000
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE, FALLOC_ZERO_RANGE, FALLOC_INSERT, FALLOC_UNSHARE = \
    1, 2, 8, 16, 32, 64
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
SYS_OPENAT2 = 437
SYS_FACCESSAT2 = 439
SYS_FCHMODAT2 = 452


def at(path):
    return os.fsencode(path)


def renameat2(old, new, flags=0):
    check(libc.renameat2(AT_FDCWD, at(old), AT_FDCWD, at(new), flags))


def linkat(old, new, flags=0, old_fd=AT_FDCWD):
    check(libc.linkat(old_fd, at(old), AT_FDCWD, at(new), flags))


def fallocate(fd, mode, offset, length):
    check(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def openat2(dir_fd, path, flags, resolve, mode=0):
    how = struct.pack('=QQQ', flags, mode, resolve)
    return check(libc.syscall(SYS_OPENAT2, dir_fd, at(path), how, ctypes.c_size_t(len(how))))


def faccessat2(path, mode, flags=0):
    check(libc.syscall(SYS_FACCESSAT2, AT_FDCWD, at(path), mode, flags))


def fchmodat2(path, mode, flags=0):
    check(libc.syscall(SYS_FCHMODAT2, AT_FDCWD, at(path), mode, flags))


def name_to_handle_at(path):
    """Whether there is one: 0."""
    handle, mount = ctypes.create_string_buffer(struct.pack('=Ii', 128, 0), 136), ctypes.c_int()
    return check(libc.name_to_handle_at(AT_FDCWD, at(path), handle, ctypes.byref(mount), 0))


class Timespec(ctypes.Structure):
    _fields_ = [('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long)]


def utimensat(path, atime, mtime, flags=0):
    times = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    check(libc.utimensat(AT_FDCWD, at(path), times, flags))


STATX_BASIC, STATX_BTIME = 0x7ff, 0x800


class Statx:
    """struct statx, as a path's or (with an empty path and a descriptor) an open file's."""

    def __init__(self, path, dir_fd=AT_FDCWD, flags=AT_SYMLINK_NOFOLLOW, mask=STATX_BASIC | STATX_BTIME):
        data = ctypes.create_string_buffer(256)
        check(libc.statx(dir_fd, at(path), flags, mask, data))
        (self.mask, self.blksize, self.attributes, self.nlink, self.uid, self.gid, self.mode, self.ino, self.size,
         self.blocks, self.attributes_mask) = struct.unpack_from('=IIQIIIHxxQQQQ', data.raw)
        stamps = [struct.unpack_from('=qI', data.raw, 64 + 16 * i) for i in range(4)]
        self.atime, self.btime, self.ctime, self.mtime = (s * 10**9 + ns for s, ns in stamps)


class Dirent(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('reclen', ctypes.c_ushort),
                ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]


libc.fdopendir.restype = libc.readdir.restype = libc.opendir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long


class DirStream:
    """readdir, telldir, seekdir, rewinddir."""

    def __init__(self, path):
        self.stream = ctypes.c_void_p(libc.opendir(at(path)))

    def entry(self):
        found = libc.readdir(self.stream)
        return ctypes.cast(found, ctypes.POINTER(Dirent)).contents if found else None

    def next(self):
        entry = self.entry()
        return entry.name if entry else None

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return libc.telldir(self.stream)

    def seek(self, position):
        libc.seekdir(self.stream, ctypes.c_long(position))

    def rewind(self):
        libc.rewinddir(self.stream)

    def close(self):
        libc.closedir(self.stream)
