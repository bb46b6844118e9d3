"""What a run is called, where it goes and what it needs of other runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from converter.config import standard
from converter.finalize.baseline import Baseline
from converter.layout.interrupts import Interrupts
from converter.model.batch import BatchSpec
from converter.model.job import Job
from converter.storage.location import Location


@dataclass(frozen=True)
class RunContext:
    """What a run is called and where it goes.

    Attributes:
        directory: the run directory, absolute; made when it does not exist.
        experiment: ``adhoc`` when none was chosen.
        overrides: what the command line changed.
        config_sha256: of the unresolved configuration.
        command: what the user typed, for the log.
        spec: the configuration that the plan was made from.
        home: the folder of the experiment's runs.
        point: the folder name of a sweep's point; empty for a run.
        baseline: what to compare with, read before anything ran.
        store: where the store is; ``None`` where none is used.
        again: how to go on where the run was stopped; by default ``resume``.
        resumes: the directory holds the beginning of this run.
        interrupts: signals are noted there while it runs.
        later: gives the jobs of each later point of the sweep.
        config_dir: the folder of configurations that the command named.
    """

    directory: Path
    experiment: str
    overrides: list[str]
    config_sha256: str
    command: str
    spec: BatchSpec = field(default_factory=standard.spec)
    home: Path | None = None
    point: str = ""
    baseline: Baseline | None = None
    store: Location | None = None
    again: str = ""
    resumes: bool = False
    interrupts: Interrupts = field(default_factory=Interrupts)
    later: Callable[[], Iterator[Sequence[Job]]] = lambda: iter(())
    config_dir: str | None = None
