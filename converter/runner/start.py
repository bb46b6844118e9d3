"""From a valid configuration to a run: what it needs of other runs, its jobs, its context."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from converter.config import validation
from converter.config.point import Point
from converter.finalize import baseline, history, publication
from converter.layout import trust
from converter.layout.interrupts import Interrupts
from converter.model.batch import BatchSpec
from converter.model.errors import ConfigError, ExitCode
from converter.model.job import Job
from converter.plan import jobs
from converter.plan.jobs import Plan
from converter.plugins import executors
from converter.runner import loop
from converter.runner.context import RunContext
from converter.storage import exclusive, location


@dataclass(frozen=True)
class Origin:
    """What a run was asked for with.

    Attributes:
        overrides: what the command line changed.
        sha256: of the unresolved configuration.
        command: what the user typed.
        folder: the directory of the run, or of the sweep that it is a point of, absolute.
        point: the folder name of a sweep's point; empty for a run.
        interrupts: signals are noted there while it runs.
        later: gives the configuration of each later point of the sweep.
        config_dir: the folder of configurations that the command named.
    """

    experiment: str
    overrides: list[str]
    sha256: str
    command: str
    folder: Path
    point: str
    interrupts: Interrupts = field(default_factory=Interrupts)
    later: Callable[[], Iterator[dict[str, Any]]] = lambda: iter(())
    config_dir: str | None = None


def run(
    spec: BatchSpec,
    origin: Origin,
    directory: Callable[[], Path],
    *,
    compared_with: str | None,
    again: str = "",
    resumes: bool = False,
) -> ExitCode:
    """Run a configuration to its end.

    Args:
        directory: gives the run directory; called when nothing stands against the run.
        compared_with: ``latest``, a run directory or a manifest.
        again: how to go on where the run was stopped; by default ``resume``.
        resumes: the directory holds the beginning of this run.

    Raises:
        ConfigError: the baseline cannot be read, there is no such executor, or the machines that it
            needs are not there or not fit.
        RunError: a folder is held by another run or cannot be written.
    """
    cwd = Path.cwd()
    home = history.home(origin.folder, origin.experiment)
    targets = [location.parse(target.path) for target in spec.publish_to]
    # Before the directory is made: a run that is refused leaves none.
    for place in [home, *targets] if spec.exclusive else []:
        exclusive.hold(place)
    notes = _check(spec)
    # Before anything runs: `latest` may lead to another run by the end of this one.
    earlier = baseline.find(compared_with, home, origin.point)
    made = directory()
    context = RunContext(
        directory=made,
        experiment=origin.experiment,
        overrides=origin.overrides,
        config_sha256=origin.sha256,
        command=origin.command,
        spec=spec,
        home=home,
        point=origin.point,
        baseline=earlier,
        store=location.parse(spec.store.path, cwd) if spec.store.use else None,
        again=again,
        resumes=resumes,
        interrupts=origin.interrupts,
        later=partial(_later, spec, origin, cwd),
        config_dir=origin.config_dir,
    )
    return loop.run(_planned(spec, made, cwd, notes), context)


def _later(own: BatchSpec, origin: Origin, cwd: Path) -> Iterator[Sequence[Job]]:
    """The jobs of each later point that uses the same store; a wrong one is told at its turn."""
    for config in origin.later():
        try:
            spec = validation.parse(config, sweep=True)
        except ConfigError:
            continue
        if spec.store == own.store:
            yield _planned(spec, origin.folder, cwd, ()).jobs


def _planned(spec: BatchSpec, directory: Path, cwd: Path, notes: Sequence[str]) -> Plan:
    trusted = trust.parse(os.environ.get(trust.VARIABLE, ""), cwd)
    planned = jobs.build(spec, run_dir=directory, cwd=cwd, trust=trusted)
    return replace(planned, notes=[*notes, *planned.notes])


def _check(spec: BatchSpec) -> list[str]:
    """Look at what lies outside of this run; what could not be looked at, a sentence each.

    Raises:
        ConfigError: a folder is not what its target says, or a machine is not there or not fit.
    """
    if spec.store.use:
        publication.check_store(spec.store.path)
    notes = [note for target in spec.publish_to for note in publication.check(target)]
    executors.check(spec.executor)
    return [*notes, *executors.unsandboxed(spec.executor)]


def of_point(
    point: Point,
    command: str,
    claimed: Callable[[Path], None] = lambda _: None,
    *,
    again: str = "",
    spec: BatchSpec | None = None,
) -> ExitCode:
    """Run one composed configuration to its end.

    Args:
        command: what the user typed.
        claimed: is told the run directory once it is made.
        again: how to go on where it was stopped.
        spec: what the configuration was parsed to, where that was done.

    Raises:
        ConfigError: the configuration is wrong, or its baseline cannot be read.
        RunError: a folder is held by another run or cannot be written.
    """
    if spec is None:
        spec = validation.parse(point.config, sweep=point.sweep)
    origin = Origin(
        experiment=point.experiment,
        overrides=point.overrides,
        sha256=point.sha256,
        command=command,
        folder=point.folder,
        point=point.name,
        interrupts=point.interrupts,
        later=point.later,
        config_dir=point.config_dir,
    )

    def directory() -> Path:
        place = point.claim()
        claimed(place)
        return place

    return run(spec, origin, directory, compared_with=spec.baseline, again=again)
