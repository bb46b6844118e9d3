"""The library that fails the Nth call (``nth_call.c``): built, and told what to fail."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).with_name("nth_call.c")
STATE = "NTH_CALL_STATE"
KINDS = ("open", "write", "fsync", "rename", "link", "mkdir", "unlink", "attributes", "read")
# All that change something.
CHANGES = KINDS[:-1]
MODES = ("count", "once", "on", "kill")
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
_TRACED, _WORDS = 4096, 256


class _State(ctypes.Structure):
    """As in ``nth_call.c``."""

    _fields_ = (
        ("armed", ctypes.c_int32),
        ("mode", ctypes.c_int32),
        ("count", ctypes.c_int64),
        ("at", ctypes.c_int64),
        ("error", ctypes.c_int32),
        ("kinds", ctypes.c_uint32),
        ("folder", ctypes.c_char * 1024),
        ("trace", (ctypes.c_char * _WORDS) * _TRACED),
    )


def why_not() -> str | None:
    """Why there can be no shim here, or ``None``."""
    return None if shutil.which("cc") else "there is no C compiler (cc)"


class Shim:
    """Args: folder: takes the library and its state; it must be of no trial."""

    def __init__(self, folder: Path) -> None:
        self._library, self._path = folder / "nth_call.so", folder / "nth_call.state"
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", self._library, SOURCE, "-ldl"]
        subprocess.run(command, check=True)
        self._path.write_bytes(bytes(ctypes.sizeof(_State)))
        with self._path.open("r+b") as file:
            self._state = _State.from_buffer(mmap.mmap(file.fileno(), 0))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs so that it and all that it starts has the library."""
        return {"LD_PRELOAD": str(self._library), STATE: str(self._path)}

    def arm(self, folder: Path, kinds: Iterable[str], mode: str, at: int, error: str) -> None:
        """Count calls of these kinds below a folder from here on, and fail the one of a number.

        Args:
            at: counted from 1.
            error: the name of an errno.
        """
        state = self._state
        state.folder = os.fsencode(folder)
        state.kinds = sum(1 << KINDS.index(kind) for kind in kinds)
        state.mode, state.at = MODES.index(mode), at
        state.error, state.count = getattr(errno, error), 0
        state.armed = 1

    def disarm(self) -> list[str]:
        """Fail nothing any more; gives the calls that were counted: process, call and path."""
        self._state.armed = 0
        told = self._state.trace[: min(self._state.count, _TRACED)]
        return [bytes(line).split(b"\0")[0].decode() for line in told]
