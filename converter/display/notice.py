"""What stands on a terminal while nothing else does: ``reading the configuration …``.

The line is cleared by whoever prints next, and has no other trace: no log gets it.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

_CLEARED = "\r\x1b[K"


def show(text: str, terminal: TextIO | None = None) -> None:
    """Show a text in place of the one before."""
    _put(f"{_CLEARED}{text}", terminal or sys.stderr)


def clear(terminal: TextIO | None = None) -> None:
    """Leave an empty line; does nothing to one that is empty."""
    _put(_CLEARED, terminal or sys.stderr)


def _put(codes: str, terminal: TextIO) -> None:
    if not terminal.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return
    try:
        terminal.write(codes)
        terminal.flush()
    except (OSError, UnicodeEncodeError):  # a terminal that has gone, or one without an ellipsis
        pass
