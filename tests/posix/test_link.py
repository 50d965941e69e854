# SPDX-License-Identifier: Apache-2.0
"""Hard links, symbolic links, unlink."""

import os
import stat

from calls import AT_SYMLINK_FOLLOW, linkat, utimensat
from cases import ALL, Area, call, content, facts, moved, opened, times
from paths import EXTRA_GROUP, GROUP, STRANGER, USER
from warmfs import as_user, touch, write_all

area = Area()


@area.case(kinds=ALL)
def second_name(place):
    path = place.make()
    os.mkdir(place / 'd')
    other, third = place.file('other'), place / 'd/plain'
    os.link(path, other)
    os.link(other, third)
    same = len({(os.stat(p).st_dev, os.stat(p).st_ino) for p in (path, other, third)})
    found = [same, [facts(p) for p in (path, other, third)]]
    write_all(other, b'ab')
    os.chmod(third, 0o600)
    os.setxattr(path, 'user.x', b'1')
    os.utime(third, ns=(5, 7))
    found += [[(facts(p), content(p), os.getxattr(p, 'user.x'), os.stat(p).st_mtime_ns) for p in (path, other, third)]]
    os.truncate(third, 3)
    found += [[os.stat(p).st_size for p in (path, other, third)]]
    os.unlink(path)
    found += [opened(path), [(facts(p), content(p)) for p in (other, third)]]
    os.rename(other, third)
    return found + [opened(other), facts(third), sorted(os.listdir(place))]


@area.case(kinds=ALL)
def names_open_together(place):
    """All descriptors of one file see the same, whichever name they came by."""
    path, other = place.make(), place.file('other')
    one = os.open(path, os.O_RDWR)
    os.link(path, other)
    two = os.open(other, os.O_RDWR | os.O_APPEND)
    found = [facts(one), facts(two), os.write(two, b'end'), facts(one), os.pwrite(one, b'START', 0), os.pread(two, 20, 0), facts(path),
             facts(other)]
    os.unlink(path)
    found += [facts(one), os.write(two, b'!'), facts(other), facts(two), os.ftruncate(one, 4), facts(other), content(other)]
    os.close(one)
    found += [os.write(two, b'?'), facts(other)]
    os.close(two)
    return found + [facts(other), content(other)]


@area.case(kinds=ALL)
def linked_while_open_and_unlinked(place):
    path, other = place.make(), place.file('other')
    fd = os.open(path, os.O_RDWR)
    os.link(path, other)
    os.unlink(path)
    os.link(other, path)
    os.unlink(other)
    found = [facts(fd), facts(path), os.write(fd, b'xy'), content(path)]
    os.unlink(path)
    return found + [facts(fd), call(linkat, f'/proc/self/fd/{fd}', path, AT_SYMLINK_FOLLOW), os.listdir(place)]


@area.case(kinds=ALL)
def link_after_write_shows_size(place):
    fd = place.create()
    os.ftruncate(fd, 0)
    found = []
    for i in range(4):
        os.write(fd, b'x' * 1000)
        os.link(place.file(), place.file(f'l{i}'))
        found.append([facts(place.file(f'l{j}')) for j in range(i + 1)])
    return found


@area.case()
def link_errors(place):
    write_all(place / 'file', b'x')
    touch(place / 'there')
    os.mkdir(place / 'd')
    os.symlink('file', place / 'link')
    os.symlink('absent', place / 'dangling')
    os.symlink('loop', place / 'loop')
    tries = [('file', 'there'), ('file', 'd'), ('file', 'link'), ('file', 'dangling'), ('absent', 'x'), ('d', 'x'), ('file', 'absent/x'),
             ('file', 'there/x'), ('file', 'x' * 256), ('file', 'file'), ('file/', 'x'), ('file', 'x/'), ('loop/x', 'x'), ('', 'x'),
             ('file', ''), ('file', '.'), ('d/.', 'x'), ('dangling', 'dangling2'), ('link', 'link2'), ('file', 'loop/x')]
    found = [(old, new, call(linkat, f'{place.directory}/{old}' if old else '', f'{place.directory}/{new}' if new else ''))
             for old, new in tries]
    found += [(old, call(linkat, place / old, place / f'follow-{old}', AT_SYMLINK_FOLLOW)) for old in ('link', 'dangling', 'loop', 'd')]
    return found, {name: facts(place / name) for name in sorted(os.listdir(place))}


@area.case()
def special_files_can_be_linked(place):
    os.mkfifo(place / 'fifo')
    os.symlink('x', place / 'link')
    return [(call(os.link, place / name, place / (name + '2'), follow_symlinks=False), facts(place / name), facts(place / (name + '2')))
            for name in ('fifo', 'link')]


@area.case()
def link_to_another_filesystem(place):
    touch(place / 'file')
    return [call(os.link, place / 'file', '/dev/shm/warmfs-posix-x'), call(os.link, '/proc/version', place / 'x'),
            call(os.rename, place / 'file', '/dev/shm/warmfs-posix-x'), call(os.rename, '/proc/version', place / 'x'),
            sorted(os.listdir(place))]


@area.case(root=True)
def link_rights(place):
    """Into directories without the right to write; and the kernel's protection of others' files."""
    for name, owner, mode in (('mine', USER, 0o600), ('readable', STRANGER, 0o644), ('writable', STRANGER, 0o666),
                              ('set-id', STRANGER, 0o6777), ('secret', STRANGER, 0o600)):
        touch(place / name)
        os.chown(place / name, owner, GROUP)
        os.chmod(place / name, mode)
    for name, mode in (('open', 0o777), ('closed', 0o755), ('unsearchable', 0o666)):
        os.mkdir(place / name)
        os.chmod(place / name, mode)

    def work():
        return [(name, directory, call(os.link, place / name, place / directory / name))
                for name in ('mine', 'readable', 'writable', 'set-id', 'secret') for directory in ('open', 'closed', 'unsearchable')]
    return as_user(USER, work, gid=STRANGER)


@area.case(kinds=ALL)
def times_of_linking(place):
    path = place.make()
    os.mkdir(place / 'd')
    found = [moved(path, lambda: os.link(path, place / 'd/a')), moved(place / 'd', lambda: os.link(path, place / 'd/b')),
             moved(path, lambda: os.unlink(place / 'd/a')), moved(place / 'd', lambda: os.unlink(place / 'd/b'))]
    fd = os.open(path, os.O_RDONLY)
    return found + [moved(fd, lambda: os.unlink(path))]


@area.case()
def many_names(place):
    touch(place / 'file')
    for i in range(500):
        os.link(place / 'file', place / f'l{i}')
    found = [facts(place / 'l499')['nlink'], len({os.stat(place / f'l{i}').st_ino for i in range(500)})]
    for i in range(0, 500, 2):
        os.unlink(place / f'l{i}')
    return found + [facts(place / 'file')['nlink'], facts(place / 'l499')['nlink']]


@area.case()
def unlink_errors(place):
    touch(place / 'file')
    os.mkdir(place / 'd')
    os.symlink('d', place / 'dirlink')
    os.symlink('loop', place / 'loop')
    names = ('absent', 'd', 'file/', 'file/x', 'd/', 'dirlink/', 'absent/x', 'loop/x', 'x' * 256, '.', '..', 'd/..', 'dirlink', 'loop',
             'file', 'file')
    return [(name, call(os.unlink, f'{place.directory}/{name}')) for name in names], sorted(os.listdir(place))


@area.case(kinds=ALL, root=True)
def unlink_rights(place):
    directories = []
    for mode in (0o755, 0o777, 0o1777, 0o733, 0o666):
        for owner in (USER, STRANGER):
            directory = place / f'{mode:o}-{owner == USER}'
            os.mkdir(directory)
            for who in (USER, STRANGER):
                name = directory / os.path.basename(place.file(f'of-{who == USER}'))
                touch(name)
                os.chown(name, who, GROUP)
            os.chown(directory, owner, GROUP)
            os.chmod(directory, mode)
            directories.append(directory)

    def work():
        return [(directory.name, [call(os.unlink, directory / os.path.basename(place.file(f'of-{mine}'))) for mine in (True, False)])
                for directory in directories]
    return as_user(USER, work)


# Symbolic links

@area.case()
def symlink_targets(place):
    found = []
    for length in (1, 59, 60, 61, 255, 1000, 4000, 4094, 4095, 4096):
        target = 't' * length
        name = place / f'l{length}'
        value = call(os.symlink, target, name)
        found.append((length, value, os.readlink(name) == target if value is None else None,
                      os.lstat(name).st_size if value is None else None))
    return found


@area.case()
def symlink_errors(place):
    touch(place / 'file')
    os.mkdir(place / 'd')
    os.symlink('x', place / 'dangling')
    os.symlink('loop', place / 'loop')
    names = ('file', 'd', 'dangling', 'absent/x', 'file/x', 'loop/x', 'x' * 256, 'new/', '.', '', 'new')
    return [(name, call(os.symlink, 'target', f'{place.directory}/{name}' if name else '')) for name in names] + [
        call(os.symlink, '', place / 'empty'), sorted(os.listdir(place))]


@area.case()
def readlink_of_others(place):
    touch(place / 'file')
    os.mkdir(place / 'd')
    os.mkfifo(place / 'fifo')
    os.symlink('target', place / 'link')
    os.symlink('d', place / 'dirlink')
    return [(name, call(os.readlink, f'{place.directory}/{name}')) for name in ('file', 'd', 'fifo', 'link', 'link/', 'dirlink/', 'absent')]


@area.case()
def symlink_bytes(place):
    targets = (b'\xff\xfe', b'a\nb', '€'.encode(), b'/', b'//', b'../..', b'.', b' ', b'%n')
    for i, target in enumerate(targets):
        os.symlink(target, os.fsencode(place / f'{i}'))
    return [os.readlink(os.fsencode(place / f'{i}')) for i in range(len(targets))]


@area.case()
def symlink_resolution(place):
    os.makedirs(place / 'a/b')
    write_all(place / 'a/b/file', b'deep')
    os.symlink('a/b', place / 'rel')
    os.symlink(place / 'a', place / 'abs')
    os.symlink('../../rel/file', place / 'a/b/round')
    os.symlink('..', place / 'a/b/up')
    return [content(place / name) for name in ('rel/file', 'abs/b/file', 'a/b/round', 'rel/up/b/file', 'abs/b/up/b/round')] + [
        call(os.stat, place / 'rel/../b/file') and 'ok', sorted(os.listdir(place / 'rel/')), sorted(os.listdir(place / 'a/b/up'))]


@area.case()
def symlink_attributes(place):
    write_all(place / 'file', b'x')
    os.symlink('file', place / 'link')
    found = [facts(place / 'link'), call(os.chown, place / 'link', -1, -1, follow_symlinks=False),
             call(utimensat, place / 'link', (11, 22), (33, 44), 0x100), times(place / 'link')[:2], stat.S_IMODE(os.stat(place / 'file').st_mode)]
    os.utime(place / 'link', ns=(55, 66))
    return found + [times(place / 'link')[1], times(place / 'file')[:2], call(os.chmod, place / 'link', 0o600), facts(place / 'file')]


@area.case(root=True)
def symlink_owner(place):
    os.symlink('file', place / 'mine')
    os.chown(place / 'mine', USER, GROUP, follow_symlinks=False)
    found = [facts(place / 'mine')]

    def work():
        os.symlink('x', place / 'made')
        return [facts(place / 'made'), call(os.chown, place / 'made', -1, EXTRA_GROUP, follow_symlinks=False),
                call(os.chown, place / 'made', 0, -1, follow_symlinks=False), facts(place / 'made')]
    return found + [as_user(USER, work, gid=GROUP, groups=[EXTRA_GROUP]), as_user(STRANGER, call, os.unlink, place / 'made')]


@area.case(root=True)
def protected_symlinks(place):
    """In a sticky directory that all may write to, others' links may not be followed, if the system says so."""
    os.mkdir(place / 'tmp')
    os.chmod(place / 'tmp', 0o1777)
    touch(place / 'target')
    for name, owner in (('mine', USER), ('theirs', STRANGER), ('of-root', 0)):
        os.symlink('../target', place / 'tmp' / name)
        os.chown(place / 'tmp' / name, owner, owner, follow_symlinks=False)
        touch(place / 'tmp' / (name + '-file'), 0o666)
        os.chmod(place / 'tmp' / (name + '-file'), 0o666)
        os.chown(place / 'tmp' / (name + '-file'), owner, owner)
        os.mkfifo(place / 'tmp' / (name + '-fifo'))
        os.chmod(place / 'tmp' / (name + '-fifo'), 0o666)
        os.chown(place / 'tmp' / (name + '-fifo'), owner, owner)

    def work():
        return [(name, opened(place / 'tmp' / name), opened(place / 'tmp' / (name + '-file'), os.O_CREAT | os.O_RDWR),
                 opened(place / 'tmp' / (name + '-fifo'), os.O_CREAT | os.O_RDWR)) for name in ('mine', 'theirs', 'of-root')]
    return as_user(USER, work)


@area.case()
def times_of_symlinks(place):
    os.symlink('x', place / 'link')
    os.mkdir(place / 'd')
    return [moved(place / 'link', lambda: os.readlink(place / 'link')), moved(place / 'd', lambda: os.symlink('x', place / 'd/new')),
            moved(place / 'link', lambda: os.rename(place / 'link', place / 'moved') or os.rename(place / 'moved', place / 'link'))]


test_link = area.test()
