"""Starts a program on a kernel that seems to have no Landlock: ``without_landlock.py PROGRAM …``.

A filter of system calls answers as such a kernel does, also to all that the program starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

_CREATE_RULESET = 444
_LOAD, _EQUALS, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_SET_SECCOMP, _FILTER, _SET_NO_NEW_PRIVS = 22, 2, 38


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("then", ctypes.c_uint8),
        ("otherwise", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


def hide() -> None:
    steps = (_Instruction * 4)(
        _Instruction(_LOAD, 0, 0, 0),  # the number of the system call
        _Instruction(_EQUALS, 0, 1, _CREATE_RULESET),
        _Instruction(_RETURN, 0, 0, _FAIL | errno.ENOSYS),
        _Instruction(_RETURN, 0, 0, _ALLOW),
    )
    program = _Program(len(steps), steps)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for words in ((_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.byref(program))):
        given = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in words]
        if prctl(*given):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    hide()
    os.execv(sys.argv[1], sys.argv[1:])
