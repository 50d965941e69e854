# SPDX-License-Identifier: Apache-2.0
import contextlib
import os
import signal
import subprocess

import warmfs


class Program:
    """One run of a program, with all its processes; the time limit of the test can end it."""

    def __init__(self, *argv):
        self.process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        start_new_session=True, preexec_fn=warmfs.die_with_parent)
        warmfs.LIVE.append(self)

    def abort(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def finish(self):
        """Its status and what it said."""
        try:
            text = self.process.communicate()[0]
        finally:
            self.abort()
            self.process.wait()
            warmfs.LIVE.remove(self)
        return self.process.returncode, text
