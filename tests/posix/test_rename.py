# SPDX-License-Identifier: Apache-2.0
"""rename and renameat2."""

import itertools
import os

from calls import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, DirStream, renameat2
from cases import ALL, Area, call, content, facts, moved, opened
from paths import GROUP, STRANGER, USER
from warmfs import as_user, touch, write_all

area = Area()

OBJECTS = ('file', 'other', 'hard', 'empty', 'full', 'link', 'dangling', 'fifo', 'absent')


def tree(place):
    found = {}
    for path, dirs, files in os.walk(place):
        for name in dirs + files:
            full = os.path.join(path, name)
            found[os.path.relpath(full, place)] = facts(full)
    return found


def make_objects(directory):
    os.mkdir(directory)
    write_all(directory / 'file', b'file')
    write_all(directory / 'other', b'other!')
    os.link(directory / 'file', directory / 'hard')
    os.mkdir(directory / 'empty')
    os.makedirs(directory / 'full/sub')
    os.symlink('file', directory / 'link')
    os.symlink('nowhere', directory / 'dangling')
    os.mkfifo(directory / 'fifo')


def pairs_case(name, flags):
    """Each object onto each other one."""
    def case(place):
        found = {}
        for i, (old, new) in enumerate(itertools.product(OBJECTS, OBJECTS)):
            directory = place / str(i)
            make_objects(directory)
            found[old, new] = call(renameat2, directory / old, directory / new, flags), tree(directory)
        return found
    case.__name__ = name
    area.case()(case)


pairs_case('onto_each', 0)
pairs_case('onto_each_noreplace', RENAME_NOREPLACE)
pairs_case('onto_each_exchange', RENAME_EXCHANGE)


@area.case()
def flag_combinations(place):
    touch(place / 'a')
    touch(place / 'b')
    return [(flags, call(renameat2, place / 'a', place / 'b', flags))
            for flags in (RENAME_NOREPLACE | RENAME_EXCHANGE, RENAME_EXCHANGE | RENAME_WHITEOUT, 8, 0x80000000, RENAME_NOREPLACE | 8)]


@area.case()
def whiteout(place):
    write_all(place / 'a', b'x')
    return [call(renameat2, place / 'a', place / 'b', RENAME_WHITEOUT), tree(place),
            call(renameat2, place / 'absent', place / 'b', RENAME_WHITEOUT)]


@area.case()
def into_oneself(place):
    os.makedirs(place / 'a/b/c')
    touch(place / 'a/file')
    tries = (('a', 'a/x'), ('a', 'a/b/c/x'), ('a/b', 'a'), ('a', 'a/b'), ('a/file', 'a/file/x'), ('.', 'x'), ('..', 'x'), ('a/.', 'x'),
             ('a', '.'), ('a', 'a/..'), ('a', 'x/'), ('x', 'a/'), ('a/file', 'y/'), ('a/file/', 'y'), ('a/b/c', 'a/b/../c/'))
    return [(old, new, call(os.rename, f'{place.directory}/{old}', f'{place.directory}/{new}')) for old, new in tries], tree(place)


@area.case()
def errors(place):
    touch(place / 'file')
    os.mkdir(place / 'd')
    os.symlink('loop', place / 'loop')
    tries = (('absent', 'x'), ('file', 'absent/x'), ('file/x', 'y'), ('file', 'd/x/y'), ('loop/x', 'y'), ('file', 'loop/y'), ('', 'x'),
             ('file', ''), ('file', 'n' * 256), ('n' * 256, 'x'), ('file', 'n' * 255), ('n' * 255, 'file'), ('loop', 'loop2'))
    return [(old[:5], new[:5], call(os.rename, f'{place.directory}/{old}' if old else '', f'{place.directory}/{new}' if new else ''))
            for old, new in tries], tree(place)


@area.case(kinds=ALL)
def replaces(place):
    """By a file of the kind, and one of the kind."""
    found = []
    for i, (old_name, new_name) in enumerate((('a', None), (None, 'b'), ('a', 'b'))):
        os.mkdir(place / str(i))
        old = place.make(f'{i}/old') if old_name else place / f'{i}/plain-old'
        new = place.make(f'{i}/new', b'new') if new_name else place / f'{i}/plain-new'
        if not old_name:
            write_all(old, b'plain')
        if not new_name:
            write_all(new, b'plain')
        held = os.open(new, os.O_RDWR)
        os.rename(old, new)
        found += [facts(new), content(new), facts(held), os.pread(held, 20, 0), opened(old), call(os.write, held, b'zz')]
        os.close(held)
        found += [facts(new), content(new)]
    return found


@area.case(kinds=ALL)
def over_and_over(place):
    """As a file that is rewritten safely."""
    target = place.file('target')
    for i in range(50):
        fd = place.create(f'new{i}')
        os.write(fd, b'%d' % i)
        os.ftruncate(fd, 2)
        os.fsync(fd)
        os.close(fd)
        os.rename(place.file(f'new{i}'), target)
        assert content(target) == (b'%d' % i).ljust(2, b'\0'), i
    return facts(target), content(target), os.listdir(place)


@area.case(kinds=ALL)
def open_files_follow(place):
    path = place.make()
    os.mkdir(place / 'd')
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    found = []
    for i, new in enumerate((place.file('second'), place / 'd/plain', place.file('d-third'))):
        os.rename(path, new)
        path = new
        os.write(fd, b'%d' % i)
        found += [facts(fd), facts(path), content(path)]
    os.close(fd)
    return found + [facts(path), content(path), sorted(os.listdir(place))]


@area.case(kinds=ALL)
def to_itself(place):
    path, other = place.make(), place.file('other')
    os.link(path, other)
    return [call(os.rename, path, path), call(os.rename, path, other), sorted(os.listdir(place)), facts(path), content(other),
            call(renameat2, path, other, RENAME_EXCHANGE), call(renameat2, path, path, RENAME_NOREPLACE), content(path)]


@area.case(kinds=ALL)
def exchanged(place):
    path = place.make()
    write_all(place / 'plain', b'plain')
    os.makedirs(place / 'd/e')
    one, two = os.open(path, os.O_RDWR), os.open(place / 'plain', os.O_RDWR)
    renameat2(path, place / 'plain', RENAME_EXCHANGE)
    found = [content(path), content(place / 'plain'), os.write(one, b'AB'), os.write(two, b'CD'), content(path), content(place / 'plain'),
             facts(path), facts(place / 'plain')]
    renameat2(path, place / 'd', RENAME_EXCHANGE)
    return found + [sorted(os.listdir(path)), content(place / 'd'), call(os.listdir, place / 'd'), opened(path / 'e', os.O_DIRECTORY)]


@area.case()
def directories_in_use(place):
    os.makedirs(place / 'a/b')
    touch(place / 'a/b/file')
    os.mkdir(place / 'elsewhere')
    fd = os.open(place / 'a/b', os.O_RDONLY)
    os.chdir(place / 'a/b')
    os.rename(place / 'a', place / 'elsewhere/moved')
    touch('new')
    return [sorted(os.listdir(fd)), opened('file', dir_fd=fd), os.path.relpath(os.getcwd(), place), os.listdir('..'),
            sorted(os.listdir(place / 'elsewhere/moved/b')), os.stat('..').st_ino == os.stat(place / 'elsewhere/moved').st_ino,
            os.stat('../..').st_ino == os.stat(place / 'elsewhere').st_ino]


@area.case()
def replaced_directory_in_use(place):
    os.mkdir(place / 'old')
    os.mkdir(place / 'new')
    touch(place / 'new/file')
    fd = os.open(place / 'old', os.O_RDONLY)
    os.rename(place / 'new', place / 'old')
    return [os.listdir(fd), facts(fd)['nlink'], opened('x', os.O_CREAT | os.O_WRONLY, dir_fd=fd), os.listdir(place / 'old'),
            call(os.mkdir, 'y', dir_fd=fd)]


@area.case()
def link_counts_of_directories(place):
    for name in ('a', 'b', 'a/sub'):
        os.mkdir(place / name)

    def counts():
        return [os.stat(place / name).st_nlink for name in ('a', 'b')] + [os.stat(place).st_nlink]
    found = [counts()]
    os.rename(place / 'a/sub', place / 'b/sub')
    found.append(counts())
    os.mkdir(place / 'a/sub')
    os.rename(place / 'a/sub', place / 'b/sub')
    found.append(counts())
    touch(place / 'a/x')
    renameat2(place / 'a/x', place / 'b/sub', RENAME_EXCHANGE)
    return found + [counts()]


@area.case(kinds=ALL)
def moved_times(place):
    path = place.make()
    os.mkdir(place / 'd')
    os.mkdir(place / 'e')
    found = []
    for watched in (path, place / 'd', place / 'e'):
        found.append(moved(watched, lambda: (os.rename(path, place / 'd/x'), os.rename(place / 'd/x', path))))
    os.rename(path, place / 'd/x')
    fd = os.open(place / 'd/x', os.O_RDONLY)
    found.append(moved(fd, lambda: os.rename(place / 'd/x', path)))
    held = place.make('held')
    held_fd = os.open(held, os.O_RDONLY)
    found.append(moved(held_fd, lambda: os.rename(path, held)))
    found.append(moved(place / 'd', lambda: os.rename(place / 'd', place / 'f') or os.rename(place / 'f', place / 'd')))
    return found


@area.case(root=True)
def rights(place):
    """Of the directories on both sides, of sticky ones, and of directories that get another parent."""
    tries = []
    for mode in (0o755, 0o777, 0o1777, 0o666, 0o733):
        for owner in (USER, STRANGER):
            for kind in ('file', 'dir'):
                for to in (0o777, 0o755):
                    directory = place / f'{mode:o}-{owner == USER}-{kind}-{to:o}'
                    os.mkdir(directory)
                    os.mkdir(directory / 'from')
                    os.mkdir(directory / 'to')
                    touch(directory / 'from/x') if kind == 'file' else os.mkdir(directory / 'from/x')
                    os.chown(directory / 'from/x', owner, GROUP)
                    os.chown(directory / 'from', STRANGER, GROUP)
                    os.chmod(directory / 'from', mode)
                    os.chmod(directory / 'to', to)
                    tries.append(directory)
    return as_user(USER, lambda: [(d.name, call(os.rename, d / 'from/x', d / 'to/x')) for d in tries])


@area.case(root=True)
def sticky_targets(place):
    """What must not be removed must not be replaced."""
    os.mkdir(place / 'tmp')
    os.chmod(place / 'tmp', 0o1777)
    for name, owner in (('mine', USER), ('theirs', STRANGER), ('mine2', USER), ('theirs2', STRANGER)):
        write_all(place / 'tmp' / name, name.encode())
        os.chown(place / 'tmp' / name, owner, owner)
    tries = (('theirs', 'mine'), ('mine', 'theirs'), ('theirs', 'new'), ('mine', 'mine2'), ('mine2', 'new'))
    def work():
        return [(old, new, call(os.rename, place / 'tmp' / old, place / 'tmp' / new)) for old, new in tries] + [
            call(renameat2, place / 'tmp/new', place / 'tmp/theirs', RENAME_EXCHANGE)]
    return as_user(USER, work), sorted(os.listdir(place / 'tmp'))


@area.case()
def seen_by_open_listing(place):
    """Entries that do not change are seen once, whatever is renamed meanwhile."""
    for i in range(500):
        touch(place / f'stay-{i}')
        touch(place / f'move-{i}')
    stream = DirStream(place)
    names = [stream.next() for _ in range(50)]
    for i in range(500):
        os.rename(place / f'move-{i}', place / f'gone-{i}')
    names += stream.rest()
    stream.close()
    stay = sorted(name for name in names if name.startswith(b'stay'))
    return len(stay), len(set(stay)), sorted(os.listdir(place))


@area.case()
def inode_stays(place):
    touch(place / 'file')
    os.mkdir(place / 'd')
    before = os.stat(place / 'file').st_ino, os.stat(place / 'd').st_ino
    os.rename(place / 'd', place / 'e')
    os.rename(place / 'file', place / 'e/file')
    return before == (os.stat(place / 'e/file').st_ino, os.stat(place / 'e').st_ino)


test_rename = area.test()
