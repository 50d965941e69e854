# SPDX-License-Identifier: Apache-2.0
"""chattr on segments. What flags do to a file is for tests/posix to show."""

import fcntl
import os
import struct

import pytest

from warmfs import MI, links_of, write_all

GETFLAGS, SETFLAGS, IMMUTABLE, APPEND = 0x80086601, 0x40086602, 0x10, 0x20
CLASS = ('match=*.seg', f'size={1 * MI}', 'linger=3600s', 'ahead=0')


def set_flags(path, flags):
    fd = os.open(path, os.O_RDONLY)
    others = struct.unpack('I', fcntl.ioctl(fd, GETFLAGS, bytes(4)))[0] & ~(IMMUTABLE | APPEND)
    fcntl.ioctl(fd, SETFLAGS, struct.pack('I', others | flags))
    os.close(fd)


@pytest.mark.parametrize('flags', [IMMUTABLE, APPEND], ids=['immutable', 'append_only'])
@pytest.mark.parametrize('kind', ['append', 'stream'])
def test_becomes_plain_first(warm, stack, kind, flags):
    """Cutting it, and taking its second name away, could not be done any more."""
    mount = warm(*CLASS, f'kind={kind}')
    fd = os.open(mount.point / 'a.seg', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b'data')
    source = mount.src / 'a.seg'
    assert links_of(source) == 2
    set_flags(mount.point / 'a.seg', flags)
    # So that it can be removed whatever happens.
    stack.callback(lambda: source.exists() and set_flags(source, 0))
    assert (links_of(source), source.read_bytes()) == (1, b'data')
    if flags == APPEND:
        os.write(fd, b' and more')
    os.close(fd)
    assert (mount.point / 'a.seg').read_bytes() == source.read_bytes()
    set_flags(mount.point / 'a.seg', 0)
    os.unlink(mount.point / 'a.seg')
    write_all(mount.point / 'a.seg', b'another')
    assert (mount.point / 'a.seg').read_bytes() == b'another'
