"""What one job may take of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one job may take; ``memory_bytes`` counts all its processes, ``None`` is no limit."""

    timeout_s: float
    grace_s: float
    memory_bytes: int | None
