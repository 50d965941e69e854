# SPDX-License-Identifier: Apache-2.0
import contextlib

import pytest

from paths import Ground


@pytest.fixture(scope='session')
def ground():
    """All mounts; they must have survived every case, and end cleanly."""
    with contextlib.ExitStack() as stack:
        made = Ground(stack)
        yield made
        made.stop()
