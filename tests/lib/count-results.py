# SPDX-License-Identifier: Apache-2.0
"""Adds up JUnit files and prints `N passed, N failed, N skipped` as the last line.

Exit status 1 if anything failed, or if every test that mounts was skipped.
"""

import argparse
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def outcomes(path):
    """(name, outcome) of every test case in a file."""
    for case in ElementTree.parse(path).iter('testcase'):
        name = f"{case.get('classname') or ''}::{case.get('name')}"
        if case.find('failure') is not None or case.find('error') is not None:
            yield name, 'failed'
        elif case.find('skipped') is not None:
            yield name, 'skipped'
        else:
            yield name, 'passed'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('directory', type=pathlib.Path)
    parser.add_argument('--broken', type=int, default=0, help='steps that could not be run')
    options = parser.parse_args()

    counts = {'passed': 0, 'failed': options.broken, 'skipped': 0}
    mounts = {'passed': 0, 'failed': 0, 'skipped': 0}
    print()
    for path in sorted(options.directory.glob('*.xml')):
        here = {'passed': 0, 'failed': 0, 'skipped': 0}
        for name, outcome in outcomes(path):
            here[outcome] += 1
            if outcome == 'failed':
                print(f'FAILED {path.stem} {name}')
        print(f'{path.stem:20} ' + ', '.join(f'{n} {what}' for what, n in here.items()))
        for what, n in here.items():
            counts[what] += n
            if path.stem.startswith(('integration', 'apps')):
                mounts[what] += n
    all_mounts_skipped = mounts['skipped'] > 0 and mounts['passed'] + mounts['failed'] == 0
    if all_mounts_skipped:
        print('every test that mounts was skipped: that is a failure')
        counts['failed'] += 1
    print(', '.join(f'{n} {what}' for what, n in counts.items()))
    sys.exit(1 if counts['failed'] else 0)


if __name__ == '__main__':
    main()
