# SPDX-License-Identifier: Apache-2.0
"""What a writer did (crash-load.c), and which states of its files that allows after a crash.

A Moment says, of every operation, whether it must have survived and whether it can have. What must survive is certain;
of what can, any part may be there: each byte is the last certain one, or that of a later write that covers it, or zero
where a file was still shorter. A write that was synced by itself (O_DSYNC, msync) is certain, and what came before it in
the same place is gone; what came before it elsewhere is not certain for that.
"""

import collections
import pathlib
import struct

PATTERN_BYTES = 1 << 20

# Op of crash-load.c.
OP_FORMAT = struct.Struct('=IIQQIIQQIIQ')
CREATE, WRITE, TRUNCATE, SYNC, SYNC_DIR, RENAME, UNLINK = range(1, 8)
BEGUN, DONE = 1, 2

Op = collections.namedtuple('Op', 'type file offset length pattern n_zeros begun_at ended_at synced state')

SECTOR = 512


def end_of(op):
    return op.offset + op.length


class AfterPowerCut:
    """The disk has all that was written before its flush number `n_flushes` was answered, and perhaps more, up to
    the position `log_end` of the recorder's log. `log` is a replay.DiskLog."""

    def __init__(self, log, n_flushes, log_end):
        self.log = log
        self.n_flushes = n_flushes
        self.log_end = log_end

    def possible(self, op):
        return op.begun_at < self.log_end

    def promised(self, op):
        return op.state == DONE and self.log.flushes_before(op.ended_at) <= self.n_flushes

    def survives_by_itself(self, op):
        return bool(op.synced) and self.promised(op)

    def n_certain(self, ops, sync_type):
        """How many of them, the first ones, a sync has made certain."""
        return max((i for i, op in enumerate(ops) if op.type == sync_type and self.promised(op)), default=0)


class AfterDaemonKill:
    """The kernel lives: all that was answered is there."""

    def possible(self, op):
        return True

    def promised(self, op):
        return op.state == DONE

    def survives_by_itself(self, op):
        return self.promised(op)

    def n_certain(self, ops, sync_type):
        return sum(op.state == DONE for op in ops)


class FileHistory:
    """The operations on one file."""

    def __init__(self, account, number):
        self.account = account
        self.number = number
        self.ops = []

    def name(self, n_names):
        return f'w{self.account.writer}-{self.number:04}-{n_names}.seg'

    def names(self):
        """Every name it may ever have had."""
        return [self.name(i) for i in range(1 + sum(op.type == RENAME for op in self.ops))]

    def _possible_ops(self, moment):
        return [op for op in self.ops if moment.possible(op)]

    def possible_names(self, moment):
        """What it can be called; None: it can be absent."""
        ops = self._possible_ops(moment)
        certain = moment.n_certain(ops, SYNC_DIR)
        renames, name, found = 0, None, []
        for i, op in enumerate(ops):
            if i == certain:
                found = [name]
            if op.type in (CREATE, RENAME):
                renames += op.type == RENAME
                name = self.name(renames)
            elif op.type == UNLINK:
                name = None
            found.append(name)
        return set(found) if len(ops) > certain else {name}

    def describe(self, moment):
        """Its operations, a line each, with what the moment makes of them."""
        kinds = {CREATE: 'create', WRITE: 'write', TRUNCATE: 'truncate', SYNC: 'sync', SYNC_DIR: 'sync the directory',
                 RENAME: 'rename', UNLINK: 'unlink'}
        return '\n'.join(f'  {kinds[op.type]} {op.offset}+{op.length} zeros {op.n_zeros}{" synced" * op.synced}'
                         f' log {op.begun_at}-{op.ended_at} {"promised" if moment.promised(op) else ""}'
                         for op in self._possible_ops(moment))

    def find(self, moment, present):
        """Its name among those present, and what is wrong with it."""
        allowed = self.possible_names(moment)
        mine = [name for name in self.names() if name in present]
        if len(mine) > 1:
            return None, f'{mine[0]}: also present as {mine[1:]}'
        found = mine[0] if mine else None
        if found in allowed:
            return found, None
        wanted = ' or '.join(sorted(str(name) for name in allowed))
        return found, f'{self.names()[0]}: found as {found}, must be {wanted}'

    def _bytes(self, op):
        data = self.account.pattern[op.pattern:op.pattern + op.length - op.n_zeros]
        return data + bytes(op.n_zeros)

    def _certain_content(self, ops):
        content = bytearray()
        for op in ops:
            if op.type == CREATE:
                content = bytearray(op.length)
            elif op.type == WRITE:
                content += bytes(max(0, end_of(op) - len(content)))
                content[op.offset:end_of(op)] = self._bytes(op)
            elif op.type == TRUNCATE:
                del content[op.length:]
                content += bytes(op.length - len(content))
        return content

    def content_error(self, moment, data):
        """What is wrong with these contents, or None."""
        ops = self._possible_ops(moment)
        certain = moment.n_certain(ops, SYNC)
        content = self._certain_content(ops[:certain])
        shortest = longest = len(content)
        layers = []
        for op in ops[certain:]:
            must = moment.survives_by_itself(op)
            if op.type == CREATE:
                # Only SYNC_DIR makes the name certain; a file that is there has the length it was born with.
                shortest = longest = op.length
            elif op.type == WRITE:
                layers.append((op.offset, end_of(op), self._bytes(op), must))
                shortest = max(shortest, end_of(op)) if must else shortest
                longest = max(longest, end_of(op))
            elif op.type == TRUNCATE:
                layers.append((op.length, None, None, False))
                shortest = min(shortest, op.length)
                longest = max(longest, op.length)
        if not shortest <= len(data) <= longest:
            return f'length {len(data)}, must be {shortest} to {longest}'
        return content_mismatch(data, bytes(content) + bytes(longest - len(content)), layers)


def content_mismatch(data, base, layers):
    """The first place where `data` is neither `base` nor what a layer (start, end, bytes or zeros, must) brings."""
    edges = {0, len(data)}
    for start, end, _, _ in layers:
        edges.update(edge for edge in (start, end) if edge is not None and edge < len(data))
    edges = sorted(edges)
    for start, end in zip(edges, edges[1:]):
        piece = data[start:end]
        if piece == base[start:end]:
            # Nearly always; but a layer that must be there has to be looked at.
            if not any(must and first < end and last > start for first, last, _, must in layers):
                continue
        choices = [base[start:end]]
        for first, last, content, must in layers:
            if first < end and (last is None or last > start):
                if must:
                    choices.clear()
                choices.append(content[start - first:end - first] if content is not None else bytes(end - start))
        wrong = first_wrong(piece, choices)
        if wrong is not None:
            return (f'byte {start + wrong} of {len(data)} is {piece[wrong]:#04x}, must be '
                    + ' or '.join(sorted({f'{choice[wrong]:#04x}' for choice in choices})))
    return None


def first_wrong(piece, choices):
    """The first byte that none of the choices has there."""
    for start in range(0, len(piece), SECTOR):
        part = piece[start:start + SECTOR]
        if any(choice[start:start + SECTOR] == part for choice in choices):
            continue
        for i, byte in enumerate(part, start):
            if all(choice[i] != byte for choice in choices):
                return i
    return None


class Account:
    """All that one writer did."""

    def __init__(self, path, writer, pattern):
        self.writer = writer
        self.pattern = pattern
        self.ops = []
        self.files = {}
        for fields in OP_FORMAT.iter_unpack(pathlib.Path(path).read_bytes()):
            op = Op(*fields[:-1])
            if op.state not in (BEGUN, DONE):
                break
            self.ops.append(op)
            self.files.setdefault(op.file, FileHistory(self, op.file)).ops.append(op)


def check_directory(accounts, moment, directory):
    """Compares the files of a directory with what the accounts allow: (how many were compared, what is wrong)."""
    present = {path.name: path for path in directory.iterdir() if path.name.endswith('.seg')}
    checked, wrong = 0, []
    for file in (file for account in accounts for file in account.files.values()):
        name, error = file.find(moment, present)
        if error:
            wrong.append(error)
        for other in file.names():
            path = present.pop(other, None)
            if path is None or other != name:
                continue
            checked += 1
            status = path.lstat()
            if status.st_nlink != 1:
                wrong.append(f'{name}: {status.st_nlink} links')
            error = file.content_error(moment, path.read_bytes())
            if error:
                wrong.append(f'{name}: {error}\n{file.describe(moment)}')
    wrong += [f'{name}: nobody made it' for name in present]
    return checked, wrong
