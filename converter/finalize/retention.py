"""``keep``: how many runs of an experiment stay on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from converter.finalize import history
from converter.layout import claim
from converter.layout.delivery import LATEST
from converter.layout.runfiles import MANIFEST

_REMOVED = ".removed-"


def prune(home: Path, experiment: str, keep: int, needed: Collection[Path]) -> list[Path]:
    """Remove all but the newest runs; a sweep counts as one.

    What ``latest`` leads to, what the next night will be compared with, what a process is running
    in, and what is needed stays in any case.

    Args:
        home: the folder of the experiment's runs.
        needed: absolute paths of, or within, directories that must stay.

    Returns:
        What was removed.

    Raises:
        OSError: it cannot be removed.
    """
    nights = history.nights(home, experiment)
    points = {
        path.parent.name for night in nights for path in night.directory.glob(f"*/{MANIFEST}")
    }
    # Each point of a sweep has a baseline of its own.
    next_baselines = [history.latest(home, point) for point in ("", *points)]
    stays = [*needed, (home / LATEST).resolve(), *filter(None, next_baselines)]
    removed = []
    for folder in home.glob(f"{_REMOVED}*"):  # what a killed run had begun to remove
        shutil.rmtree(folder)
    for night in nights[keep:]:
        folder = night.directory
        held = any(claim.held_by(path) is not None for path in _runs(folder))
        if held or any(path.resolve().is_relative_to(folder.resolve()) for path in stays):
            continue
        # Under another name first: a run that is half gone must not look like one.
        gone = folder.rename(folder.with_name(f"{_REMOVED}{folder.name}"))
        shutil.rmtree(gone)
        removed.append(folder)
    return removed


def _runs(folder: Path) -> Iterator[Path]:
    """The folder of a run, or of each point of a sweep too."""
    yield folder
    yield from (path.parent for path in folder.glob(f"*/{claim.LOCK}"))
