"""A letter for each status, where there is no room for the word."""

from __future__ import annotations

LETTERS = {
    "ok": ".", "failed": "F", "crashed": "C", "timeout": "T", "oom": "M", "skipped": "s",
    "xfail": "x", "xpass": "X", "not_run": "-", "absent": " ",
}  # fmt: skip
