# SPDX-License-Identifier: Apache-2.0
"""The log of block-recorder.c, and the disks that a power cut could have left according to it."""

import bisect
import contextlib
import errno
import mmap
import os
import struct

# Record of block-recorder.c.
RECORD_FORMAT = struct.Struct('=QQQ')
WRITE, ZERO, FLUSH = 1, 2, 3

# Of ext4's superblock, which has two sectors under one checksum, every filesystem relies on it that disks do not tear it:
# nothing may be torn in the first block.
NEVER_TORN_BYTES = 4096

# How what follows the last flush gets to the disk.
MANNERS = ('none', 'first', 'some', 'torn')


class Record:
    """`start` to `end` is its place in the log, its data the last `length` bytes of it."""

    __slots__ = ('type', 'offset', 'length', 'start', 'end')

    def __init__(self, kind, offset, length, start, end):
        self.type, self.offset, self.length, self.start, self.end = kind, offset, length, start, end


class DiskLog:
    def __init__(self, path):
        self.file = open(path, 'rb')
        self.data = mmap.mmap(self.file.fileno(), 0, prot=mmap.PROT_READ)
        self.records = []
        position = 0
        while position < len(self.data):
            kind, offset, length = RECORD_FORMAT.unpack_from(self.data, position)
            end = position + RECORD_FORMAT.size + (length if kind == WRITE else 0)
            self.records.append(Record(kind, offset, length, position, end))
            position = end
        self.flush_indexes = [i for i, record in enumerate(self.records) if record.type == FLUSH]
        self.flush_ends = [self.records[i].end for i in self.flush_indexes]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.data.close()
        self.file.close()

    def flushes_before(self, position):
        """How many flushes are in the log when it is that long."""
        return bisect.bisect_right(self.flush_ends, position)

    def between(self, n_flushes):
        """The records after that many flushes, up to the next."""
        first = self.flush_indexes[n_flushes - 1] + 1 if n_flushes > 0 else 0
        last = self.flush_indexes[n_flushes] if n_flushes < len(self.flush_indexes) else len(self.records)
        return self.records[first:last]

    def payload(self, record):
        return self.data[record.end - record.length:record.end]


class Cut:
    """One power cut: after that many flushes, with `extras`: (record, what of its data is there, as (start, end), or None
    for all of it). `log_end`: nothing later in the log is there."""

    def __init__(self, n_flushes, manner, extras, log_end):
        self.n_flushes = n_flushes
        self.manner = manner
        self.extras = extras
        self.log_end = log_end

    def __str__(self):
        return f'cut after flush {self.n_flushes}, {self.manner} of the next {len(self.extras)} writes'


def whole_pieces(record, whole_bytes):
    """A write's data in pieces, (start, end), that end where the disk has a multiple of so many bytes."""
    first = whole_bytes - record.offset % whole_bytes
    edges = [0, *range(first, record.length, whole_bytes), record.length]
    return list(zip(edges, edges[1:]))


def torn(record, whole_bytes, random):
    """What of a write came through: up to a point, or here and there."""
    if record.type != WRITE or record.offset < NEVER_TORN_BYTES:
        return None
    pieces = whole_pieces(record, whole_bytes)
    if len(pieces) < 2:
        return None
    if random.random() < 0.5:
        return pieces[:random.randrange(len(pieces))]
    return [piece for piece in pieces if random.random() < 0.5]


def make_cut(log, n_flushes, manner, whole_bytes, random):
    following = log.between(n_flushes)
    if manner == 'none':
        chosen = []
    elif manner == 'first':
        chosen = following[:random.randrange(len(following) + 1)]
    else:
        share = random.choice((0.1, 0.5, 0.9))
        chosen = [record for record in following if random.random() < share]
    extras = [(record, torn(record, whole_bytes, random) if manner == 'torn' and random.random() < 0.5 else None)
              for record in chosen]
    log_end = log.flush_ends[n_flushes - 1] if n_flushes > 0 else 0
    return Cut(n_flushes, manner, extras, max([log_end] + [record.end for record in chosen]))


def choose_cuts(log, start, count, whole_bytes, random):
    """That many cuts, in order, from the position `start` of the log on: spread over all flushes there are."""
    flushes = range(log.flushes_before(start), len(log.flush_ends) + 1)
    points = []
    while len(points) < count:
        points += random.sample(flushes, min(len(flushes), count - len(points)))
    return [make_cut(log, n_flushes, random.choice(MANNERS), whole_bytes, random) for n_flushes in sorted(points)]


def every_cut(log, start, whole_bytes, random):
    """One after each flush from the position `start` on."""
    return choose_cuts(log, start, len(log.flush_ends) + 1 - log.flushes_before(start), whole_bytes, random)


def copy_sparse(source, target):
    """Copies a file, holes as holes."""
    with open(source, 'rb') as reader, open(target, 'wb') as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        position = 0
        while position < size:
            try:
                position = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            end = os.lseek(reader.fileno(), position, os.SEEK_HOLE)
            os.lseek(writer.fileno(), position, os.SEEK_SET)
            while position < end:
                position += os.sendfile(writer.fileno(), reader.fileno(), position, end - position)


class Replay:
    """The disk as of one flush, which goes on with the cuts; each gets a copy to mount."""

    def __init__(self, log, base, directory):
        self.log = log
        self.running = directory / 'running.img'
        self.cut = directory / 'cut.img'
        copy_sparse(base, self.running)
        self.fd = os.open(self.running, os.O_RDWR | os.O_CLOEXEC)
        self.n_applied = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        for path in (self.running, self.cut):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _apply(self, fd, record, pieces=None):
        if record.type == ZERO:
            # The image has only holes where nothing was written, and the copies need to stay small.
            position, left = record.offset, record.length
            while left:
                n = os.pwrite(fd, bytes(min(left, 1 << 20)), position)
                position, left = position + n, left - n
        elif record.type == WRITE and pieces is None:
            os.pwrite(fd, self.log.payload(record), record.offset)
        elif record.type == WRITE:
            payload = self.log.payload(record)
            for start, end in pieces:
                os.pwrite(fd, payload[start:end], record.offset + start)

    def image_of(self, cut):
        """The path of the disk after this cut. Cuts come in order; the path is good until the next."""
        while self.n_applied < cut.n_flushes:
            for record in self.log.between(self.n_applied):
                self._apply(self.fd, record)
            self.n_applied += 1
        copy_sparse(self.running, self.cut)
        with open(self.cut, 'r+b', buffering=0) as file:
            for record, pieces in cut.extras:
                self._apply(file.fileno(), record, pieces)
        return self.cut
