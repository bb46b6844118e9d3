"""Which share of the machine's cores a job has now: more than its own once others have ended.

At the end of a batch the last jobs would keep to the threads that they were given beside others,
while all other cores are idle. The runner says how many threads each may use in four bytes that the
server of the jobs, and so each of them, has inherited.
"""

from __future__ import annotations

import os
import sys
from io import FileIO

from converter.layout import environment

_BYTES = 4
_inherited: int | None = None


def made() -> FileIO:
    """What is told through, for a server to inherit its descriptor."""
    return FileIO(os.memfd_create("converter-share"), "r+")


def tell(shared: FileIO, jobs: int) -> None:
    """Say how many jobs divide the cores among them from their next stages on."""
    threads = max(1, environment.cores() // max(1, jobs))
    os.pwrite(shared.fileno(), threads.to_bytes(_BYTES, sys.byteorder), 0)


def inherit(descriptor: int) -> None:
    """Hear, in this process and in what it forks, what is told through a descriptor."""
    global _inherited
    _inherited = descriptor


def threads(own: int) -> int:
    """The threads that a job may use now.

    Args:
        own: those of the job itself; that is all where nobody tells.
    """
    if _inherited is None:
        return own
    try:
        told = int.from_bytes(os.pread(_inherited, _BYTES, 0), sys.byteorder)
    except OSError:  # a model has closed it
        return own
    # A model may have written to it, too.
    return max(own, min(told, environment.cores()))
