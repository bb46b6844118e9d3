"""The runs of an experiment that are on the disk: which there are, and which came last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.layout.delivery import LATEST
from converter.layout.runfiles import MANIFEST

OUTPUTS = "outputs"


@dataclass(frozen=True)
class PastRun:
    """A run, or a sweep with all its points.

    Attributes:
        directory: below the folder of the experiment.
        started_at: of the run, or of the first point; sorts by time.
    """

    directory: Path
    started_at: str


def home(folder: Path, experiment: str) -> Path:
    """The folder of an experiment's runs.

    Args:
        folder: the directory of the run or of the sweep. One that was chosen elsewhere is not
            beside the others: they are in ``outputs``.
    """
    return folder.parent if folder.parent.name == experiment else Path.cwd() / OUTPUTS / experiment


def latest(home: Path, point: str) -> Path | None:
    """The directory to compare with: where the link leads, or the same point of the last sweep.

    A run of a few models is no night: where the link leads to one that was narrowed by ``select``,
    or to nothing any more, it is the newest complete run that was not.

    Args:
        point: the folder name of a sweep's point; empty for a run.
    """
    if not point:
        run = _run(home / LATEST)
        if run and not run.get("narrowed"):
            # Where it leads now: at the end of this run it leads to this run.
            return (home / LATEST).resolve()
    runs = [
        (str(run["started_at"]), folder / point)
        for folder in folders(home)
        if (run := _run(folder / point)) and _converted(run) and "started_at" in run
        if not run.get("narrowed")
    ]
    # Times in ISO 8601 and UTC sort as text.
    return max(runs)[1] if runs else None


def _converted(run: dict[str, Any]) -> bool:
    """``RunInfo.converted`` of a run of whatever version."""
    return bool(run.get("complete") or (run.get("undone") and not run.get("ended_by")))


def is_newer(directory: Path, other: Path) -> bool:
    """Whether a run started after another one, or the other is none."""
    run, others = _run(directory) or {}, _run(other) or {}
    # `>=`: where both are one run, the link that leads to it may be made again.
    return str(run.get("started_at", "")) >= str(others.get("started_at", ""))


def nights(home: Path, experiment: str) -> list[PastRun]:
    """All runs and sweeps of an experiment, the newest first; nothing else that lies there."""
    found = []
    for folder in folders(home):
        runs = [_run(folder)] if (folder / MANIFEST).exists() else _points(folder)
        started = [
            str(run["started_at"])
            for run in runs
            if run and run.get("experiment") == experiment and "started_at" in run
        ]
        # All that lies in it has to be of this experiment: `keep` removes the folder as a whole.
        if started and len(started) == len(runs):
            found.append(PastRun(folder, min(started)))
    return sorted(found, key=lambda night: night.started_at, reverse=True)


def _points(folder: Path) -> list[dict[str, Any] | None]:
    return [_run(path.parent) for path in sorted(folder.glob(f"*/{MANIFEST}"))]


def folders(home: Path) -> Iterator[Path]:
    """Those in which a run or a sweep may lie."""
    if home.is_dir():
        for path in sorted(home.iterdir()):
            # `latest` is a link to one of them, and `.removed-…` a run that is half gone.
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                yield path


def _run(directory: Path) -> dict[str, Any] | None:
    """The part ``run`` of a manifest; ``None`` where there is none that can be read."""
    try:
        # Not validated: a run of another version of the converter is a run of the experiment too.
        run = json.loads((directory / MANIFEST).read_bytes())["run"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return run if isinstance(run, dict) else None
