"""What one job may take of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from converter.layout import environment
from converter.model.batch import ExecutorSpec
from converter.processes import sandbox
from converter.processes.sandbox import OFF, Sandbox

_MIB = 1 << 20
# The rest is for what is foreseen too low, for the page cache that saves reading weights again, and
# for others.
_TOGETHER = 2 / 3


@dataclass(frozen=True)
class Limits:
    """What one job may take; ``memory_bytes`` counts all its processes, ``None`` is no limit.

    Attributes:
        sandbox: what it may do to the machine.
    """

    timeout_s: float
    grace_s: float
    memory_bytes: int | None
    sandbox: Sandbox = OFF


def of(spec: ExecutorSpec) -> Limits:
    """The limits of a configuration, on this machine."""
    memory = of_this_machine() if spec.memory_mb == "auto" else None
    if isinstance(spec.memory_mb, int):
        memory = spec.memory_mb * _MIB
    return Limits(spec.timeout_s, spec.grace_s, memory, sandbox.of(spec))


def budget(spec: ExecutorSpec) -> int | None:
    """The bytes that all jobs together may be expected to hold; ``None``: nobody counts."""
    if spec.memory_budget_mb == "auto":
        return int(_TOGETHER * environment.memory_bytes())
    return spec.memory_budget_mb * _MIB if spec.memory_budget_mb is not None else None


def of_this_machine() -> int:
    """The bytes that one job may hold where the configuration says ``auto``."""
    return int(0.85 * environment.memory_bytes())
