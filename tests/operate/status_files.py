# SPDX-License-Identifier: Apache-2.0
"""Reading MOUNT/.warmfs."""

import json
import re

SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def read(mount, name):
    return (mount.point / '.warmfs' / name).read_text()


def status(mount):
    return json.loads(read(mount, 'status.json'))


def class_status(mount, name='default'):
    return next(one for one in status(mount)['classes'] if one['name'] == name)


def parse_metrics(text):
    """(name, frozenset of labels) -> value."""
    found = {}
    for line in text.splitlines():
        if line.startswith('#'):
            continue
        name, labels, value = SAMPLE.match(line).groups()
        key = name, frozenset(LABEL.findall(labels or ''))
        assert key not in found, line
        found[key] = float(value)
    return found


class Metrics:
    def __init__(self, text):
        self.samples = parse_metrics(text)

    def get(self, name, **labels):
        return self.samples[name, frozenset(labels.items())]
