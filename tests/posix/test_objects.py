# SPDX-License-Identifier: Apache-2.0
"""What holds for objects of each type alike: files, directories, special files, symbolic links."""

import itertools
import os
import stat

from cases import Area, call, facts, moved
from paths import EXTRA_GROUP, GROUP, STRANGER, USER
from warmfs import as_user, touch

area = Area()

SPECIAL = {'fifo': stat.S_IFIFO, 'socket': stat.S_IFSOCK, 'block': stat.S_IFBLK, 'char': stat.S_IFCHR}
# Of which kinds the files are.
FILES = ('plain', 'append')
TYPES = ('file', 'dir', 'link', *SPECIAL)


def make(place, kind, name, owner=None):
    """One object; a file is of the case's kind, with the name of one."""
    path = place.file(name) if kind == 'file' else place / name
    if kind == 'file':
        os.close(place.create(name))
    elif kind == 'dir':
        os.mkdir(path)
    elif kind == 'link':
        os.symlink('nowhere', path)
    else:
        os.mknod(path, SPECIAL[kind] | 0o644, os.makedev(1, 3) if kind in ('block', 'char') else 0)
    if owner is not None:
        os.lchown(path, owner, owner)
    return path


def remove(path):
    os.rmdir(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)


# Each takes a path, and is told nothing but that.
MAKERS = {
    'mkdir': os.mkdir, 'mkfifo': os.mkfifo, 'symlink': lambda path: os.symlink('x', path), 'mknod': os.mknod,
    'device': lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    'socket': lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    'create': lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)),
}
CALLS = {
    'open': lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)), 'stat': lambda path: os.stat(path) and None,
    'lstat': lambda path: os.lstat(path) and None, 'chmod': lambda path: os.chmod(path, 0o640), 'chown': lambda path: os.chown(path, -1, -1),
    'lchown': lambda path: os.lchown(path, -1, -1), 'truncate': lambda path: os.truncate(path, 3), 'utime': os.utime, 'unlink': os.unlink,
    'rmdir': os.rmdir, 'readlink': os.readlink, 'getxattr': lambda path: os.getxattr(path, 'user.x'),
    'setxattr': lambda path: os.setxattr(path, 'user.x', b''), 'listxattr': os.listxattr, 'list': os.listdir, 'chdir': os.chdir,
    'access': lambda path: os.access(path, os.F_OK), 'statvfs': lambda path: os.statvfs(path) and None,
}


def all_calls(path, beside):
    """What each call says of a path; `beside` is a file that there is, for those that take two."""
    found = [(name, call(act, path)) for name, act in (*MAKERS.items(), *CALLS.items())]
    return found + [(name, call(act, path, str(beside) + '2'), call(act, beside, path))
                    for name, act in (('link', os.link), ('rename', os.rename))]


@area.case(kinds=FILES, root=True)
def through_each(place):
    """As if it were a directory."""
    touch(place / 'beside')
    os.symlink('loop', place / 'loop')
    paths = [make(place, kind, kind) for kind in TYPES if kind != 'dir'] + [place / 'loop', place / 'absent']
    return [(path.name, all_calls(path / 'x', place / 'beside')) for path in paths], sorted(os.listdir(place))


@area.case(kinds=FILES, root=True)
def made_onto_each(place):
    touch(place / 'beside')
    found = []
    for kind in TYPES:
        path = make(place, kind, kind)
        found.append((kind, [(name, call(act, path)) for name, act in MAKERS.items()], call(os.link, place / 'beside', path), facts(path)))
    return found


@area.case(root=True)
def longest_names_and_paths(place):
    """Of 255 bytes and of PATH_MAX with its end, and one more."""
    os.chdir(place.directory)
    touch('beside')
    deep = '/'.join(['d' * 200] * 20)
    os.makedirs(deep)
    longest = deep + '/' + 'p' * (4095 - len(deep) - 1)
    found = []
    for path in ('n' * 255, longest):
        for name, act in MAKERS.items():
            found.append((name, call(act, path), call(remove, path), call(act, path + 'x')))
        for name, act in CALLS.items():
            os.mkdir(path) if name in ('rmdir', 'list', 'chdir') else touch(path)
            found.append((name, call(act, path) if name != 'chdir' else None, call(act, path + 'x')))
            if os.path.lexists(path):
                remove(path)
        for name, act in (('link', os.link), ('rename', os.rename)):
            found.append((name, call(act, 'beside', path), call(act, path, 'back'), call(act, path + 'x', 'z'), call(act, 'beside', path + 'x')))
            for left in (path, 'back'):
                if os.path.lexists(left):
                    os.rename(left, 'beside')
    return found, len(longest)


@area.case(kinds=FILES, root=True)
def times_of_each(place):
    """What a change moves, of the object and of its directory; and that a refused one moves nothing."""
    os.mkdir(place / 'd')
    found = []
    for kind in TYPES:
        path = make(place, kind, f'd/{kind}', USER)
        os.chown(place / 'd', 0, 0)
        new = str(path) + '2'
        changes = {'lchown': lambda: os.lchown(path, USER, GROUP), 'rename': lambda: os.rename(path, new) or os.rename(new, path)}
        refused = {'lchown': lambda: os.lchown(path, STRANGER, -1), 'rename': lambda: os.rename(path, new)}
        if kind != 'link':
            changes |= {'chmod': lambda: os.chmod(path, 0o600), 'chown': lambda: os.chown(path, USER, USER)}
            refused |= {'chmod': lambda: os.chmod(path, 0o666)}
        if kind != 'dir':
            changes |= {'link': lambda: os.link(path, new, follow_symlinks=False), 'unlink': lambda: os.unlink(new)}
            refused |= {'link': lambda: os.link(path, new, follow_symlinks=False), 'unlink': lambda: os.unlink(path)}
        found += [(kind, name, moved(path, act)) for name, act in changes.items()]
        found += [(kind, name, moved(path, lambda: as_user(STRANGER, call, act))) for name, act in refused.items()]
        found += [moved(place / 'd', lambda: as_user(STRANGER, call, refused['rename'])), moved(place / 'd', lambda: remove(path))]
    return found


OWNERS = (USER, STRANGER, 0)


def sticky(place, name, owner):
    os.mkdir(place / name)
    os.chmod(place / name, 0o1777)
    os.chown(place / name, owner, owner)


@area.case(kinds=FILES, root=True)
def sticky_removal(place):
    """The owner of the object or of the directory may, and nobody else."""
    tries = []
    for i, (of_directory, owner) in enumerate(itertools.product(OWNERS, OWNERS)):
        sticky(place, f'{i}', of_directory)
        tries += [make(place, kind, f'{i}/{kind}', owner) for kind in TYPES]
    return as_user(USER, lambda: [(str(path.relative_to(place.directory)), call(remove, path)) for path in tries])


@area.case(kinds=FILES, root=True)
def sticky_renaming(place):
    """Out of a sticky directory, and over what is in one, by what comes from elsewhere."""
    tries = []
    for i, (of_directory, owner) in enumerate(itertools.product(OWNERS, OWNERS)):
        for kind in TYPES:
            room = f'{i}-{kind}'
            os.mkdir(place / room)
            os.chmod(place / room, 0o777)
            for name in ('from', 'to'):
                sticky(place, f'{room}/{name}', of_directory)
            os.mkdir(place / room / 'mine')
            os.chown(place / room / 'mine', USER, USER)
            of_user = 'dir' if kind == 'dir' else 'file'
            tries += [(make(place, kind, f'{room}/from/x', owner), place / room / 'mine/out'),
                      (make(place, of_user, f'{room}/mine/in', USER), make(place, kind, f'{room}/to/x', owner))]

    def work():
        return [(str(old.relative_to(place.directory)), call(os.rename, old, new)) for old, new in tries]
    return as_user(USER, work), [[os.path.lexists(path) for path in pair] for pair in tries]


@area.case(kinds=FILES, root=True)
def ownership_of_each(place):
    """By the owner, to groups that he is in and others; and set-id and sticky bits as he may set them."""
    paths = [make(place, kind, kind, USER) for kind in TYPES]
    for kind, path in zip(TYPES, paths):
        os.symlink(path.name, place / f'to-{kind}')

    def work():
        found = []
        for kind, path in zip(TYPES, paths):
            for name in (path, place / f'to-{kind}'):
                for group in (EXTRA_GROUP, GROUP, STRANGER):
                    found.append((kind, group, call(os.chown, name, -1, group), call(os.lchown, name, USER, group), facts(path)))
                for mode in (0o1644, 0o2755, 0o6711, 0o640):
                    found.append((kind, mode, call(os.chmod, name, mode), facts(path)))
        return found
    return as_user(USER, work, gid=GROUP, groups=[EXTRA_GROUP])


test_objects = area.test()
