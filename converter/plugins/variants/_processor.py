"""Whether sums of 8-bit products saturate on this machine's processor.

x86 before VNNI adds pairs of products of 8 bits in 16: two of 255 × 127 do not fit. Weights of 7
bits (``reduce_range``) do.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
_SAFE = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


@cache
def saturates() -> bool:
    """True also where the processor does not say: 7 bits are right everywhere."""
    if platform.machine().lower() not in _X86:
        return False
    try:
        said = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:  # another system
        return True
    return without_vnni(said)


def resolved(value: bool | None) -> bool:
    """What ``reduce_range`` is where nothing states it."""
    return saturates() if value is None else value


def without_vnni(cpuinfo: str) -> bool:
    """The same, of the text of ``/proc/cpuinfo``."""
    lines = [line.split() for line in cpuinfo.splitlines() if line.startswith("flags")]
    # Of several kinds of processors the least.
    return not lines or any(_SAFE.isdisjoint(flags) for flags in lines)
