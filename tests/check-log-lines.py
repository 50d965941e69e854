#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What failed is logged with its parts (log_failure), which the journal keeps as fields: a line that says why, by g_strerror,
and has none, is refused. Usage: check-log-lines.py SOURCE_ROOT"""

import pathlib
import re
import sys

CALL = re.compile(r'\blog_(?:error|warning|notice|debug)\s*\(')
# Strings, whose parentheses are not the call's.
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def calls(text):
    """The line of each call, and what is between its parentheses."""
    text = STRING.sub(lambda found: '"' + '.' * (len(found[0]) - 2) + '"', text)
    for found in CALL.finditer(text):
        depth, end = 1, found.end()
        while depth > 0:
            depth += {'(': 1, ')': -1}.get(text[end], 0)
            end += 1
        yield text.count('\n', 0, found.start()) + 1, text[found.end():end]


def main():
    wrong = [f'{path}:{line}: use log_failure for what failed'
             for room in ('alloc', 'fs') for path in sorted(pathlib.Path(sys.argv[1], room).glob('*.c'))
             for line, words in calls(path.read_text()) if 'g_strerror' in words]
    print('\n'.join(wrong), end='\n' if wrong else '')
    return bool(wrong)


sys.exit(main())
