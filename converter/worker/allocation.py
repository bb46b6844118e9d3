"""Keep the memory of freed tensors for the next ones, instead of handing it back each time.

glibc takes blocks above 32 MiB from the system and returns them when they are freed, so that each
large activation costs a page fault for every 4 KiB of it: for a network on an image of 768 x 768
that was 40 % of the time (two cores, a virtual machine).
"""

from __future__ import annotations

import ctypes

# malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Blocks up to here come from the heap; so much of it may stay free at its end.
_BLOCK, _FREE = 256 << 20, 512 << 20
_library = ctypes.CDLL(None)


def keep_freed() -> None:
    """Hold on to what is freed; an allocator other than glibc's stays as it is."""
    if (mallopt := getattr(_library, "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _FREE)


def release() -> None:
    """Hand back what is held and not in use."""
    if (trim := getattr(_library, "malloc_trim", None)) is not None:
        trim(0)
