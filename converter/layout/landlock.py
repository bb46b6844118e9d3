"""Landlock of Linux: a process gives up rights, for itself and for all that it starts.

Spoken to by its system calls, which no library that we need has:
https://docs.kernel.org/userspace-api/landlock.html. What is given up here is writing, and on
request TCP; reading and executing files is left as it is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

# The same on every architecture that Python runs on, but for Alpha.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_SET_NO_NEW_PRIVS = 38
# Version 1 (Linux 5.13 to 5.18) refuses every move of a file from one folder to another, also
# between two that may be written: jobs move what they made.
_LEAST = 2
OF_TCP = 4
NO_TCP = "this kernel's version of Landlock has no rules of TCP; Linux 6.7 or later has them"

# Rights of the file system that writing takes, by the version that brought them.
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
# To remove folders and files, and to make them: devices, sockets, pipes and links too.
_OF_FOLDERS = sum(1 << bit for bit in range(4, 13))
_REFER = 1 << 13
_RIGHTS = ((1, _WRITE_FILE | _OF_FOLDERS), (2, _REFER), (3, _TRUNCATE))
# Those that a rule about something else than a folder may name.
_OF_FILES = _WRITE_FILE | _TRUNCATE
# Not 1 << 15, IOCTL_DEV of version 5: GPUs are driven by it, and to read is free.

_BIND_TCP, _CONNECT_TCP = 1, 2
# Abstract Unix sockets, and signals: to processes that did not give up the same.
_SCOPES = 3


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_fs", ctypes.c_uint64),
        ("handled_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


@dataclass(frozen=True)
class Offer:
    """What the kernel offers.

    Attributes:
        version: of Landlock; 0: nothing that can be used.
        reason: why there is none, a clause; empty where there is one.
    """

    version: int
    reason: str = ""

    @property
    def tcp(self) -> bool:
        """Whether a process can give up TCP."""
        return self.version >= OF_TCP


@cache
def offered() -> Offer:
    """Ask the kernel; the answer does not change while it runs."""
    if sys.platform != "linux":
        return Offer(0, "Landlock is of Linux alone")
    try:
        return judged(_call(_CREATE_RULESET, None, 0, _VERSION_FLAG))
    except OSError as error:
        return Offer(0, _reason(error))


def judged(version: int) -> Offer:
    """What the answer of a kernel is worth."""
    if version < _LEAST:
        return Offer(
            0,
            f"this kernel has version {version} of Landlock, which refuses to move files between "
            "folders; Linux 5.19 or later has a newer one",
        )
    return Offer(version)


def _reason(error: OSError) -> str:
    if error.errno == errno.EOPNOTSUPP:
        return "Landlock is switched off in this kernel: its boot parameter lsm= has to list it"
    if error.errno == errno.ENOSYS:
        return "this kernel has no Landlock, or the container hides it"
    return f"the kernel refuses Landlock: {error.strerror}"


def rights(version: int, *, folder: bool = True) -> int:
    """The rights of writing that a version knows, as a mask; of a file fewer than of a folder."""
    known = sum(mask for since, mask in _RIGHTS if since <= version)
    return known if folder else known & _OF_FILES


def ruleset(version: int, *, tcp: bool) -> tuple[int, int, int]:
    """What is given up: masks of the file system, of the network and of scopes.

    Args:
        tcp: TCP is given up too, where the version can.
    """
    network = _BIND_TCP | _CONNECT_TCP if tcp and version >= OF_TCP else 0
    return rights(version), network, _SCOPES if version >= 6 else 0


def restrict(writable: Iterable[str], *, tcp: bool) -> None:
    """Give up, for ever, writing elsewhere than in some places, and TCP.

    For the calling thread and what it starts: the process should have no other one.

    Args:
        writable: folders, with all below them, and files; those that are not there are left out.
        tcp: whether TCP is given up too, where the kernel can.

    Raises:
        OSError: the kernel refuses; ``ENOSYS`` where it offers nothing.
    """
    version = offered().version
    if not version:
        raise OSError(errno.ENOSYS, offered().reason)
    stated = _Ruleset(*ruleset(version, tcp=tcp))
    # An older kernel refuses fields that it does not know, unless they are 0, which they are.
    made = _call(_CREATE_RULESET, ctypes.byref(stated), ctypes.sizeof(stated), 0)
    try:
        for place in writable:
            with _opened(place) as descriptor:
                if descriptor is not None:
                    _allow(made, descriptor, version)
        _no_new_privileges()
        _call(_RESTRICT_SELF, made, 0)
    finally:
        os.close(made)


def _allow(made: int, descriptor: int, version: int) -> None:
    folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    beneath = _PathBeneath(rights(version, folder=folder), descriptor)
    _call(_ADD_RULE, made, _PATH_BENEATH, ctypes.byref(beneath), 0)


@contextmanager
def _opened(place: str) -> Iterator[int | None]:
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _no_new_privileges() -> None:
    """The kernel asks for it: a program that changes the user must not run restricted."""
    _checked(_libc().prctl(_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))))


def _call(number: int, *arguments: object) -> int:
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *words))


def _checked(found: int) -> int:
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


@cache
def _libc() -> ctypes.CDLL:
    found = ctypes.CDLL(None, use_errno=True)
    found.syscall.restype = ctypes.c_long
    return found
