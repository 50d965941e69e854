# SPDX-License-Identifier: Apache-2.0
"""Applications that end with their test, before the mounts they use; and a report of what they got."""

import os
import random

import pytest

import application


@pytest.fixture
def seed():
    value = int(os.environ.get('WARMFS_SEED', random.randrange(2**32)))
    print(f'WARMFS_SEED={value}')
    return value


@pytest.fixture
def start(warm):
    """Starts applications: start(program, argument, ..., log_path=...)."""
    started = []

    def start_one(*argv, **options):
        started.append(application.Application(*argv, **options))
        return started[-1]

    yield start_one
    for one in reversed(started):
        one.close()


@pytest.fixture
def report(record_property):
    """Says something in the summary of the run: report('17 of 17 segments came ready')."""
    return lambda text: record_property('application', text)


def pytest_terminal_summary(terminalreporter):
    lines = [f'{test.nodeid.rpartition("::")[2]}: {text}'
             for outcome in ('passed', 'failed') for test in terminalreporter.stats.get(outcome, [])
             if test.when == 'call' for key, text in test.user_properties if key == 'application']
    if lines:
        terminalreporter.section('segments from the pool')
        for line in lines:
            terminalreporter.write_line(line)
