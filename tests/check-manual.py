#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether the manual pages and README.md say of every option what the tables in the code say. Usage: check-manual.py
SOURCE_ROOT. Says each thing that is missing, and where to add it."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(sys.argv[1])
MAN = ROOT / 'mount-helpers/man'
CLASS_TABLE = 'alloc/segment-class.c'
MOUNT_TABLE = 'fs/fs-options.c'
STRING = r'"(?:[^"\\]|\\.)*"'

problems = []


def complain(where, what):
    problems.append(f'{where}: {what}')


def literal(text, defines):
    """The value of string literals and macros that stand one after the other; None if it is not known here."""
    value = ''
    for word in re.findall(rf'{STRING}|\w+', text):
        if word.startswith('"'):
            value += word[1:-1].replace('\\"', '"')
        elif word in defines:
            value += defines[word]
        else:
            return None
    return value


def read_table(path, name):
    """The rows of an array of structures: (key, what is allowed, default or None)."""
    text = (ROOT / path).read_text()
    defines = {}
    for match in re.finditer(rf'^#define\s+(\w+)\s+(?:\\\n\s*)?((?:{STRING}\s*)+)$', text, re.MULTILINE):
        defines[match[1]] = literal(match[2], {})
    body = re.search(rf'\b{name}\[\]\s*=\s*{{\n(.*?)\n}};', text, re.DOTALL)
    if not body:
        sys.exit(f'{path}: no table {name}: has it another name now? Then tell {sys.argv[0]}')
    rows = []
    for row in re.finditer(rf'{{\s*({STRING})\s*,\s*\w+\s*,\s*(.*?)\s*}},?', body[1], re.DOTALL):
        fields = re.split(rf',\s*(?=(?:[^"]|{STRING})*$)', row[2])
        default = literal(fields[1], defines) if len(fields) > 1 and fields[1] != 'NULL' else None
        rows.append((row[1][1:-1], literal(fields[0], defines), default))
    if not rows:
        sys.exit(f'{path}: the table {name} has no rows that {sys.argv[0]} can read')
    return rows


def read_words(name):
    """The elements of a list of names in the table of options."""
    body = re.search(rf'\b{name}\[\]\s*=\s*{{(.*?)}};', (ROOT / MOUNT_TABLE).read_text(), re.DOTALL)
    return re.findall(r'"([^"]+)"', body[1])


def plain(roff):
    """A page's text without its markup, blanks made equal."""
    lines = []
    for line in roff.splitlines():
        if line.startswith('.\\"'):
            continue
        line = re.sub(r'^\.(?:[BI]|BI|BR|IR|RB|RI|TP|PP|SH)\b ?', '', line)
        line = re.sub(r'\\f.|\\c', '', line).replace('\\-', '-').replace('\\~', ' ').replace('\\e', '\\')
        lines.append(line.replace(' "', '').replace('" ', '').replace('"', ''))
    return ' '.join(' '.join(lines).split())


def entries(page):
    """What follows each .TP, by the key in its tag."""
    found = {}
    for part in re.split(r'^\.TP\n', page, flags=re.MULTILINE)[1:]:
        tag = part.partition('\n')[0]
        key = re.match(r'\.BI? "?(\w+)=?', tag)
        if key:
            found[key[1]] = plain(re.split(r'^\.(?:SH|RE)', part, flags=re.MULTILINE)[0])
    return found


def check_keys(rows, table, page_name, documented, readme):
    for key, allowed, default in rows:
        where = f'mount-helpers/man/{page_name}'
        if key not in documented:
            complain(where, f'{key}= of {table} is missing: add ".TP", ".BI {key}= VALUE" and what it means')
            continue
        if allowed and f'Allowed: {allowed}.' not in documented[key]:
            complain(where, f'{key}= has to say "Allowed: {allowed}."')
        if default and not default.startswith('/') and f'Default: {default}.' not in documented[key]:
            complain(where, f'{key}= has to say "Default: {default}."')
        if not re.search(rf'^\| [^|\n]*`{key}(?:=[^`]*)?`', readme, re.MULTILINE):
            complain('README.md', f'the tables of options have no row for {key}= of {table}')
    return {key for key, _, _ in rows}


def check_pages():
    for page in sorted(MAN.iterdir()):
        done = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', page], capture_output=True, text=True,
                              env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C.UTF-8', 'MANWIDTH': '80'})
        if done.returncode != 0 or done.stderr:
            complain(page.relative_to(ROOT), f'man --warnings: {done.stderr or done.returncode}')


def main():
    readme = (ROOT / 'README.md').read_text()
    pages = {path.name: path.read_text() for path in MAN.iterdir()}
    documented = entries(pages['warmfs.conf.5'])
    known = check_keys(read_table(CLASS_TABLE, 'OPTIONS'), CLASS_TABLE, 'warmfs.conf.5', documented, readme)
    known |= check_keys(read_table(MOUNT_TABLE, 'mount_keys'), MOUNT_TABLE, 'warmfs.conf.5', documented, readme)
    for key in documented.keys() - known:
        complain('mount-helpers/man/warmfs.conf.5', f'{key}= is in no table of the code any more')

    commands = plain(pages['warmfs.8'])
    for word in read_words('kernel_options') + ['config', 'preset', 'remount']:
        if not re.search(rf'(?<![\w-]){re.escape(word)}(?![\w-])', commands):
            complain('mount-helpers/man/warmfs.8', f'the option {word} is missing')
    helper = plain(pages['mount.warmfs.8'])
    for name, letter in re.findall(r'^\t\t{ "([a-z-]+)", (?:is_helper \? 0 : )?(\'.\'|0),', (ROOT / MOUNT_TABLE).read_text(),
                                   re.MULTILINE):
        if f'--{name}' not in commands + helper:
            complain('mount-helpers/man', f'neither warmfs.8 nor mount.warmfs.8 has --{name} ({letter})')
    check_pages()
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


main()
