# SPDX-License-Identifier: Apache-2.0
"""What the daemon may still do once it serves, in each of its threads."""

import os
import pathlib
import re

import pytest

import threads
import warmfs

UNIT = warmfs.TREE / 'mount-helpers/systemd/warmfs@.service.in'
CAPABILITIES = ('chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable '
                'net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot '
                'sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease '
                'audit_write audit_control setfcap').split()
# From before our first line: ThreadSanitizer's own thread.
FOREIGN_THREADS = 1 if b'__tsan_init' in warmfs.BINARY.read_bytes() else 0


def kept():
    """The capabilities that the unit of systemd leaves, which are those that the daemon keeps."""
    names = re.findall(r'CAP_(\w+)', ' '.join(re.findall(r'^CapabilityBoundingSet=(.*)$', UNIT.read_text(),
                                                         re.MULTILINE)))
    return sum(1 << CAPABILITIES.index(name.lower()) for name in names)


def fields(status):
    return dict(line.split(':\t', 1) for line in status.splitlines() if ':\t' in line)


def capabilities(found):
    return {name: int(found[name], 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')}


def expected():
    """As many of them as a program that we start has."""
    own = fields(pathlib.Path('/proc/self/status').read_text())
    permitted, bounding = int(own['CapPrm'], 16), int(own['CapBnd'], 16)
    left = kept()
    return {'CapInh': 0, 'CapPrm': permitted & left, 'CapEff': permitted & left, 'CapBnd': bounding & left,
            'CapAmb': 0}


def check_threads(mount):
    found = {}
    for thread, status in threads.read_each(mount.pid, 'status').items():
        of_it = fields(status)
        found[thread] = capabilities(of_it), of_it['NoNewPrivs']
    assert len(found) > 2
    wrong = {name: facts for name, facts in found.items() if facts != (expected(), '1')}
    assert len(wrong) <= FOREIGN_THREADS and mount.pid not in wrong, wrong


@pytest.mark.parametrize('options', [
    ['kind=mapped'],
    ['kind=append', 'transient=on', 'transient_pool_size=2'],
    ['kind=stream'],
    ['kind=mapped', 'io_uring'],
], ids=lambda options: options[0].removeprefix('kind=') + ('-uring' if 'io_uring' in options else ''))
def test_every_thread_has_what_serving_needs(warm, options):
    mount = warm('match=*.seg', 'size=1M', 'ahead=1', *options)
    mount.wait_ready(1)
    (mount.point / 'a.seg').write_bytes(bytes(4096))
    check_threads(mount)


def make_files(directory):
    (directory / 'u.seg').write_bytes(b'x' * 4096)
    (directory / 'plain').write_bytes(b'y')
    return os.stat(directory / 'u.seg').st_uid, os.stat(directory / 'plain').st_uid


def test_nothing_comes_back_after_serving_a_user(warm):
    """Who makes a file for a user becomes that user for a moment."""
    mount = warm('match=*.seg', 'size=1M', 'ahead=1')
    mount.point.chmod(0o777)
    assert warmfs.as_user(1234, make_files, mount.point) == (1234, 1234)
    check_threads(mount)


def test_what_root_may_do_it_may_still(warm):
    mount = warm('match=*.seg', 'size=1M', 'ahead=1')
    (mount.point / 'program').write_bytes(b'')
    capability = bytes.fromhex('0000000201000000000000000000000000000000')
    os.setxattr(mount.point / 'program', 'security.capability', capability)
    os.setxattr(mount.point / 'program', 'trusted.word', b'1')
    os.mknod(mount.point / 'null', 0o20666, os.makedev(1, 3))
    os.chown(mount.point / 'program', 1234, 4321)
    os.chmod(mount.point / 'program', 0o6755)
    assert os.getxattr(mount.src / 'program', 'trusted.word') == b'1'
    assert os.stat(mount.src / 'null').st_rdev == os.makedev(1, 3)
    assert warmfs.stat_facts(mount.src / 'program')['mode'] == oct(0o106755)
    mount.stop()
