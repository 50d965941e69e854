# SPDX-License-Identifier: Apache-2.0
"""Modes, owners, set-id bits, extended attributes and POSIX ACLs."""

import mmap
import os
import shutil
import struct
import subprocess

from calls import AT_SYMLINK_NOFOLLOW, faccessat2, fallocate, fchmodat2
from cases import ALL, Area, Difference, call, facts, opened
from paths import EXTRA_GROUP, GROUP, STRANGER, USER
from warmfs import ACL_GROUP, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER, ACL_USER, ACL_USER_OBJ, acl, as_user, touch

area = Area()

MODES = (0, 0o400, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777)


def path_case(name, act):
    """Clearing of set-id bits: by the owner, who is not root, and by root."""
    def case(place):
        found = []
        for mode in (0o4755, 0o2755, 0o6755, 0o2644, 0o6777, 0o1755):
            for who in ('user', 'root'):
                path = place.make(f'{mode:o}-{who}')
                os.chown(path, USER, GROUP)
                os.chmod(path, mode)
                value = as_user(USER, call, act, path, gid=GROUP) if who == 'user' else call(act, path)
                found.append((path.name, value, facts(path)))
        return found
    case.__name__ = f'set_id_after_{name}'
    area.case(kinds=ALL, root=True, splices=name == 'copy')(case)


def with_fd(act, flags=os.O_RDWR):
    def run(path):
        fd = os.open(path, flags)
        try:
            return act(fd)
        finally:
            os.close(fd)
    return run


def store(fd):
    with mmap.mmap(fd, 10) as mapping:
        mapping[0] = 65


for name, act in {
    'write': with_fd(lambda fd: os.write(fd, b'x')), 'append': with_fd(lambda fd: os.write(fd, b'x'), os.O_WRONLY | os.O_APPEND),
    'direct_write': with_fd(lambda fd: os.pwrite(fd, mmap.mmap(-1, 4096), 0), os.O_WRONLY | os.O_DIRECT),
    'empty_write': with_fd(lambda fd: os.write(fd, b'')),
    'truncate': lambda path: os.truncate(path, 3), 'ftruncate': with_fd(lambda fd: os.ftruncate(fd, 20)),
    'open_trunc': with_fd(lambda fd: None, os.O_WRONLY | os.O_TRUNC), 'fallocate': with_fd(lambda fd: fallocate(fd, 0, 0, 9000)),
    'punch': with_fd(lambda fd: fallocate(fd, 3, 0, 5)), 'chown': lambda path: os.chown(path, -1, GROUP),
    'chown_nothing': lambda path: os.chown(path, -1, -1), 'copy': with_fd(lambda fd: os.copy_file_range(fd, fd, 2, 0, 5)),
    'store': with_fd(store), 'utime': os.utime, 'read': with_fd(lambda fd: os.read(fd, 1), os.O_RDONLY),
    'xattr': lambda path: os.setxattr(path, 'user.x', b''), 'link': lambda path: os.link(path, str(path) + '2'),
}.items():
    path_case(name, act)


@area.case(kinds=ALL, root=True)
def write_by_stranger_clears(place):
    path = place.make()
    os.chmod(path, 0o6777)
    fd = os.open(path, os.O_RDWR)
    return as_user(STRANGER, with_fd(lambda fd: os.write(fd, b'x')), path), facts(path), os.write(fd, b'y'), facts(path)


@area.case(kinds=ALL, root=True)
def set_group_id_without_execute(place):
    """It stays only for members of that group, and for root."""
    found = []
    acts = {'write': with_fd(lambda fd: os.write(fd, b'x')), 'truncate': lambda path: os.truncate(path, 3),
            'open_trunc': with_fd(lambda fd: None, os.O_WRONLY | os.O_TRUNC), 'fallocate': with_fd(lambda fd: fallocate(fd, 0, 0, 9000)),
            'chown': lambda path: os.chown(path, -1, GROUP), 'chown_nothing': lambda path: os.chown(path, -1, -1)}
    for name, act in acts.items():
        for owner, group in ((USER, STRANGER), (USER, EXTRA_GROUP), (STRANGER, STRANGER), (STRANGER, EXTRA_GROUP)):
            for mode in (0o2666, 0o2766, 0o6666):
                path = place.make(f'{name}-{owner}-{group}-{mode:o}')
                os.chown(path, owner, group)
                os.chmod(path, mode)
                found.append((path.name, act(path) if name == 'write' else None, oct(os.stat(path).st_mode)))
                found.append((as_user(USER, lambda: call(act, path), gid=GROUP, groups=[EXTRA_GROUP]), oct(os.stat(path).st_mode)))
    return found


@area.case(kinds=ALL, root=True)
def capability_cleared(place):
    found = []
    for name, act in (('write', with_fd(lambda fd: os.write(fd, b'x'))), ('truncate', lambda path: os.truncate(path, 1)),
                      ('chown', lambda path: os.chown(path, 1, 1)), ('chmod', lambda path: os.chmod(path, 0o700))):
        path = place.make(name)
        os.setxattr(path, 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0))
        found.append((call(act, path), call(os.getxattr, path, 'security.capability')))
    return found


@area.case(kinds=ALL)
def chmod_each(place):
    path = place.make()
    os.mkdir(place / 'd')
    return [(oct(mode), call(os.chmod, name, mode), facts(name)) for mode in MODES for name in (path, place / 'd')]


@area.case(kinds=ALL, root=True)
def chown_each(place):
    path = place.make()
    os.mkdir(place / 'd')
    found = []
    for owner, group in ((USER, GROUP), (-1, EXTRA_GROUP), (STRANGER, -1), (-1, -1), (0, 0), (2**31, 2**32 - 2)):
        for name in (path, place / 'd'):
            os.chmod(name, 0o6775)
            found.append((owner, group, call(os.chown, name, owner, group), facts(name)))
    return found


@area.case(kinds=ALL, root=True)
def change_by_users(place):
    names = []
    for owner, group in ((USER, GROUP), (USER, STRANGER), (STRANGER, GROUP), (0, 0)):
        path = place.make(f'{owner == USER}-{group}')
        os.chown(path, owner, group)
        os.chmod(path, 0o6755 if owner == 0 else 0o644)
        names.append(path)

    def work():
        found = []
        for path in names:
            for mode in (0o600, 0o6755, 0o2755, 0o1777, 0o2644):
                found.append((path.name, oct(mode), call(os.chmod, path, mode), facts(path)))
            for owner, group in ((-1, EXTRA_GROUP), (-1, STRANGER), (0, -1), (USER, GROUP), (-1, -1), (STRANGER, GROUP)):
                call(os.chmod, path, 0o6775)
                found.append((path.name, owner, group, call(os.chown, path, owner, group), facts(path)))
        return found
    return as_user(USER, work, gid=GROUP, groups=[EXTRA_GROUP])


@area.case(root=True)
def access_matrix(place):
    names = []
    for owner, group in ((USER, STRANGER), (STRANGER, GROUP), (STRANGER, EXTRA_GROUP), (STRANGER, STRANGER)):
        for mode in (0, 0o400, 0o040, 0o004, 0o200, 0o020, 0o002, 0o100, 0o010, 0o001, 0o770, 0o707, 0o077, 0o750):
            name = place / f'{owner == USER}-{group}-{mode:o}'
            touch(name)
            os.chown(name, owner, group)
            os.chmod(name, mode)
            names.append(name)

    def work():
        return [(name.name, [opened(name, flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC)],
                 [os.access(name, how) for how in (os.R_OK, os.W_OK, os.X_OK, os.F_OK)])
                for name in names]
    return as_user(USER, work, gid=GROUP, groups=[EXTRA_GROUP]), work()


@area.case(root=True)
def directory_matrix(place):
    modes = (0, 0o4, 0o1, 0o5, 0o2, 0o3, 0o6, 0o7)
    for mode in modes:
        directory = place / f'{mode:o}'
        os.mkdir(directory)
        touch(directory / 'file', 0o666)
        os.chmod(directory / 'file', 0o666)
        os.mkdir(directory / 'sub')
        os.chmod(directory, mode)

    def work():
        found = []
        for mode in modes:
            d = place / f'{mode:o}'
            found.append((oct(mode), call(os.listdir, d), call(os.stat, d / 'file') if mode & 1 == 0 else opened(d / 'file'), opened(d / 'new', os.O_CREAT | os.O_WRONLY),
                          call(os.mkdir, d / 'dir'), call(os.rmdir, d / 'sub'), call(os.rename, d / 'file', d / 'moved'),
                          call(os.symlink, 'x', d / 'link'), call(os.chdir, d), opened(d, os.O_DIRECTORY), call(os.unlink, d / 'moved')))
        return found
    return as_user(USER, work, gid=GROUP)


@area.case()
def access_flags(place):
    touch(place / 'file', 0o600)
    os.symlink('absent', place / 'link')
    return [(name, how, flags, call(faccessat2, place / name, how, flags)) for name in ('file', 'link', 'absent') for how in (0, 1, 2, 4, 8)
            for flags in (0, AT_SYMLINK_NOFOLLOW, 0x200, 0x40)] + [call(fchmodat2, place / 'file', 0o640, AT_SYMLINK_NOFOLLOW),
            call(fchmodat2, place / 'link', 0o640, AT_SYMLINK_NOFOLLOW), facts(place / 'file')]


@area.case(kinds=('plain', 'append', 'stream'), root=True)
def setgid_directory(place):
    os.mkdir(place / 'd')
    os.chown(place / 'd', 0, EXTRA_GROUP)
    os.chmod(place / 'd', 0o2777)

    def work():
        found = []
        for mode in (0o644, 0o2775, 0o2665, 0o6755):
            name = f'd/{mode:o}'
            os.close(place.create(name, mode=mode))
            found.append(facts(place.file(name)))
        for name, make in (('dir', os.mkdir), ('fifo', os.mkfifo), ('link', lambda p: os.symlink('x', p))):
            make(place / 'd' / name)
            found.append(facts(place / 'd' / name))
        return found
    seen = [as_user(USER, work, gid=GROUP)]
    subprocess.run(['find', place / 'd', '-mindepth', '1', '-delete'])
    return seen + [as_user(USER, work, gid=GROUP, groups=[EXTRA_GROUP])]


@area.case(root=True)
def set_id_programs(place):
    shutil.copy('/usr/bin/id', place / 'id')
    os.chown(place / 'id', STRANGER, EXTRA_GROUP)
    os.chmod(place / 'id', 0o6755)

    def work():
        return subprocess.run([place / 'id'], capture_output=True, text=True).stdout
    return as_user(USER, work, gid=GROUP)


@area.case(differs=[Difference('The daemon opens what is executed, and has no more rights than its user', lambda native: [*native[:2], 'EACCES', 'EACCES', native[4]],
                               paths=('user',))])
def programs_without_right(place):
    shutil.copy('/bin/true', place / 'true')
    found = []
    for mode in (0o755, 0o644, 0o111, 0o100, 0o000):
        os.chmod(place / 'true', mode)
        found.append(call(lambda: subprocess.run([place / 'true']).returncode))
    return found


# Extended attributes

@area.case(kinds=ALL)
def attribute_life(place):
    path = place.make()
    fd = os.open(path, os.O_RDONLY)
    found = [call(os.getxattr, path, 'user.a'), call(os.setxattr, path, 'user.a', b'1', os.XATTR_REPLACE), call(os.setxattr, path, 'user.a', b'1', os.XATTR_CREATE),
             call(os.setxattr, path, 'user.a', b'2', os.XATTR_CREATE), call(os.setxattr, path, 'user.a', b'', os.XATTR_REPLACE), os.getxattr(path, 'user.a'),
             call(os.setxattr, fd, 'user.b', b'\0\xff\0'), os.getxattr(path, 'user.b'), sorted(os.listxattr(fd)), call(os.removexattr, path, 'user.a'),
             call(os.removexattr, path, 'user.a'), sorted(os.listxattr(path))]
    os.rename(path, place / 'moved')
    os.link(place / 'moved', place / 'hard')
    return found + [os.getxattr(place / 'hard', 'user.b'), sorted(os.listxattr(fd))]


@area.case()
def attribute_limits(place):
    touch(place / 'file')
    return [(name[:12], size, call(os.setxattr, place / 'file', name, b'v' * size))
            for name in ('user.n', 'user.' + 'n' * 250, 'user.' + 'n' * 251, 'user.', 'user', '', '.', 'bogus.n', 'system.n', 'User.n')
            for size in (0, 1, 1000, 5000, 65536, 65537)] + sorted(name[:12] for name in os.listxattr(place / 'file'))


@area.case()
def many_attributes(place):
    touch(place / 'file')
    found = [call(os.setxattr, place / 'file', f'user.attribute-{i}', b'%d' % i) for i in range(100)]
    kept = sorted(os.listxattr(place / 'file'))
    return found, kept, [os.getxattr(place / 'file', name) for name in kept]


@area.case()
def attributes_of_objects(place):
    os.mkdir(place / 'd')
    os.mkfifo(place / 'fifo')
    os.symlink('d', place / 'link')
    os.symlink('absent', place / 'dangling')
    return [(name, attribute, call(os.setxattr, place / name, attribute, b'x', follow_symlinks=False), call(os.getxattr, place / name, attribute, follow_symlinks=False),
             call(os.listxattr, place / name, follow_symlinks=False), call(os.setxattr, place / name, attribute, b'y'), call(os.removexattr, place / name, attribute, follow_symlinks=False))
            for name in ('d', 'fifo', 'link', 'dangling', 'absent') for attribute in ('user.x', 'trusted.x', 'security.x')]


@area.case(root=True)
def attributes_and_rights(place):
    for name, mode in (('open', 0o666), ('readable', 0o644), ('closed', 0o600), ('writable', 0o222)):
        touch(place / name)
        os.chmod(place / name, mode)
        for attribute in ('user.x', 'trusted.x', 'security.x'):
            os.setxattr(place / name, attribute, b'root')
    os.mkdir(place / 'sticky')
    os.chmod(place / 'sticky', 0o1777)

    def work():
        return [(name, attribute, call(os.getxattr, place / name, attribute), call(os.setxattr, place / name, attribute, b'mine'), call(os.removexattr, place / name, attribute),
                 sorted(call(os.listxattr, place / name)))
                for name in ('open', 'readable', 'closed', 'writable', 'sticky') for attribute in ('user.x', 'trusted.x', 'security.x', 'user.new')]
    return as_user(USER, work)


# ACLs

ACCESS, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'
FULL = acl((ACL_USER_OBJ, 6), (ACL_USER, 6, USER), (ACL_GROUP_OBJ, 4), (ACL_GROUP, 2, EXTRA_GROUP), (ACL_MASK, 6), (ACL_OTHER, 0))
MINIMAL = acl((ACL_USER_OBJ, 7), (ACL_GROUP_OBJ, 5), (ACL_OTHER, 1))


@area.case(kinds=ALL)
def acl_and_mode(place):
    path = place.make()
    found = []
    for step in (lambda: os.setxattr(path, ACCESS, FULL), lambda: os.chmod(path, 0o640), lambda: os.chmod(path, 0o777), lambda: os.setxattr(path, ACCESS, MINIMAL),
                 lambda: os.setxattr(path, ACCESS, FULL), lambda: os.removexattr(path, ACCESS), lambda: os.removexattr(path, ACCESS),
                 lambda: os.setxattr(path, DEFAULT, FULL), lambda: os.setxattr(path, ACCESS, b''), lambda: os.setxattr(path, ACCESS, b'\2\0\0\0')):
        found.append((call(step), facts(path), call(os.getxattr, path, ACCESS), sorted(os.listxattr(path))))
    return found


@area.case()
def wrong_acls(place):
    touch(place / 'file')
    wrong = (b'x', b'\1\0\0\0', FULL[:-1], FULL + b'x' * 8, acl((ACL_USER_OBJ, 6)), acl((ACL_USER_OBJ, 6), (ACL_USER, 6, USER), (ACL_GROUP_OBJ, 4), (ACL_OTHER, 0)),
             acl((ACL_USER_OBJ, 9), (ACL_GROUP_OBJ, 4), (ACL_OTHER, 0)), acl((ACL_OTHER, 0), (ACL_GROUP_OBJ, 4), (ACL_USER_OBJ, 6)),
             acl((ACL_USER_OBJ, 6), (ACL_USER, 6, 5), (ACL_USER, 6, 5), (ACL_GROUP_OBJ, 4), (ACL_MASK, 6), (ACL_OTHER, 0)))
    return [(call(os.setxattr, place / 'file', ACCESS, data), call(os.setxattr, place, DEFAULT, data), facts(place / 'file')) for data in wrong]


@area.case(kinds=ALL)
def default_acl_inherited(place):
    found = []
    for name, entries in (('full', FULL), ('minimal', MINIMAL)):
        os.mkdir(place / name)
        os.setxattr(place / name, DEFAULT, entries)
        for umask in (0, 0o077):
            os.umask(umask)
            for mode in (0o666, 0o600, 0o777, 0o2711):
                new = f'{name}/{umask:o}-{mode:o}'
                os.close(place.create(new, mode=mode))
                os.mkdir(place / (new + 'd'), mode)
                os.mkfifo(place / (new + 'p'), mode)
                for path in (place.file(new), place / (new + 'd'), place / (new + 'p')):
                    found.append((path.name, facts(path), call(os.getxattr, path, ACCESS), call(os.getxattr, path, DEFAULT)))
    return found


@area.case(kinds=ALL, root=True)
def acl_decides(place):
    names = []
    for i, entries in enumerate((FULL, MINIMAL, acl((ACL_USER_OBJ, 7), (ACL_USER, 0, USER), (ACL_GROUP_OBJ, 7), (ACL_MASK, 7), (ACL_OTHER, 7)),
                                 acl((ACL_USER_OBJ, 0), (ACL_USER, 7, USER), (ACL_GROUP_OBJ, 0), (ACL_MASK, 1), (ACL_OTHER, 0)),
                                 acl((ACL_USER_OBJ, 0), (ACL_GROUP_OBJ, 0), (ACL_GROUP, 4, GROUP), (ACL_GROUP, 2, EXTRA_GROUP), (ACL_MASK, 7), (ACL_OTHER, 7)))):
        names.append(place.make(str(i)))
        os.setxattr(names[-1], ACCESS, entries)

    def work():
        return [[(opened(name, flags), os.access(name, how)) for flags, how in ((os.O_RDONLY, 4), (os.O_WRONLY, 2), (os.O_RDWR, 6))] for name in names]
    return (as_user(USER, work, gid=STRANGER), as_user(STRANGER, work, gid=GROUP), as_user(STRANGER, work, gid=GROUP, groups=[EXTRA_GROUP]),
            as_user(STRANGER, work), as_user(STRANGER, call, os.setxattr, names[0], ACCESS, MINIMAL))


@area.case(root=True)
def acl_of_foreign_group(place):
    """Who is not in the file's group loses its set-group-id bit by setting an ACL."""
    touch(place / 'file')
    os.chown(place / 'file', USER, STRANGER)
    os.chmod(place / 'file', 0o2755)
    return as_user(USER, call, os.setxattr, place / 'file', ACCESS, FULL, gid=GROUP), facts(place / 'file')


test_permission = area.test()
