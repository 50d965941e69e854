# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells of the threads of a process."""

import pathlib


def read_each(pid, name):
    """/proc/PID/task/TID/NAME by TID. A thread that ends meanwhile is left out; a process that has ended has none."""
    found = {}
    try:
        for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
            try:
                found[int(task.name)] = (task / name).read_text()
            except (FileNotFoundError, ProcessLookupError):
                pass
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def names(pid):
    """TID -> name."""
    return {thread: text.strip() for thread, text in read_each(pid, 'comm').items()}


def states(pid):
    """R, S, D, T, Z, as ps shows them."""
    return [text.rpartition(')')[2].split()[0] for text in read_each(pid, 'stat').values()]
