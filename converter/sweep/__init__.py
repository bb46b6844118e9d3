"""What a sweep leaves beside the runs of its points: ``sweep.json`` and ``sweep.html``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from converter.model.errors import ExitCode

# A sweep exits as the first of these that one of its points gave.
_WORST_FIRST = (
    ExitCode.CONFIG,
    ExitCode.RUN_FAILED,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.MODELS_FAILED,
    ExitCode.REGRESSION,
)


def worst(codes: Collection[ExitCode]) -> ExitCode:
    """The exit code of a sweep."""
    return next((code for code in _WORST_FIRST if code in codes), ExitCode.OK)


@dataclass
class SweepPoint:
    """One point of a sweep, and what became of it so far.

    Attributes:
        name: of its folder.
        overrides: all that it is composed with.
        swept: those of the swept keys: what tells it from the others.
        directory: of its run; ``None`` until there is one.
        exit_code: ``None`` until it has come to its end.
        problems: why there is no run, or why it could not go on.
    """

    name: str
    overrides: list[str]
    swept: list[str]
    directory: Path | None = None
    exit_code: ExitCode | None = None
    problems: list[str] = field(default_factory=list)
