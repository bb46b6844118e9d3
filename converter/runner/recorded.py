"""A model of a finished run, to be done again: its job, its result, what has changed since."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from converter.config import saved
from converter.layout import delivery, runfiles, trust
from converter.model.batch import ExecutorSpec
from converter.model.errors import ConfigError, Problem
from converter.model.job import Composed, Derived, Job, asked
from converter.model.records import JobResult
from converter.model.wording import did_you_mean
from converter.plan import packages


def recorded_job(command: str, run: Path, name: str) -> Job:
    """The job of an artifact as a run recorded it: ``resnet18``, ``resnet18/fp16``.

    Raises:
        ConfigError: there is no such run or model, or the record cannot be read.
    """
    folder = run / delivery.MODELS
    if not run.is_dir():
        siblings = sorted(path.name for path in run.parent.glob("*/"))
        raise _refusal(
            command, f"there is no run directory {run}.", did_you_mean(run.name, siblings)
        )
    # `resnet18/job.json` of a model, and one level deeper `resnet18/fp16/job.json` of a variant.
    found = [*folder.glob(f"*/{delivery.JOB}"), *folder.glob(f"*/*/{delivery.JOB}")]
    known = sorted(str(path.parent.relative_to(folder)) for path in found)
    if not known:
        points = [path.parent.name for path in sorted(run.glob(f"*/{delivery.MODELS}"))]
        hint = f"It is a sweep, take one of its points: {', '.join(points)}." if points else ""
        raise _refusal(command, f"{run} holds no models of a run.", hint)
    if name not in known:
        raise _refusal(command, f"{run} has no model '{name}'.", did_you_mean(name, known))
    path = folder / name / delivery.JOB
    try:
        # The types refuse keys that they do not know: the record of a variant is no plain `Job`.
        content = path.read_bytes()
        kind = Derived if "/" in name else Composed if _composed(content) else Job
        job = kind.model_validate_json(content)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        hint = "It must be as this version of the converter wrote it."
        raise _refusal(command, f"{path} cannot be read: {reason}.", hint) from error
    # What is verified or run is what the record says: under another name its verdict would be taken
    # for that of another model.
    if job.label != name:
        hint = "Its folder was renamed, or the record copied from another model."
        raise _refusal(command, f"{path} is the record of '{job.label}', not of '{name}'.", hint)
    return job


def confines_of(run: Path) -> dict[str, Any]:
    """The limits and the sandbox that a run gave its jobs; empty: its configuration is unreadable.

    Returns:
        Keys of the executor, for a job of the run that is done again.
    """
    try:
        found = saved.read(run.absolute())
        stated = ExecutorSpec.model_validate(found.config["executor"])
    except (ConfigError, KeyError, ValueError):
        return {}
    # Relative ones count from where the run was started.
    writable = [str(found.cwd / path) for path in stated.writable]
    return {
        "timeout_s": stated.timeout_s,
        "grace_s": stated.grace_s,
        "memory_mb": stated.memory_mb,
        "sandbox": stated.sandbox,
        "writable": writable,
    }


def _composed(content: bytes) -> bool:
    """Whether it is the record of a job that runs graphs together."""
    found = json.loads(content)
    return isinstance(found, dict) and "graphs" in found


def published(command: str, run: Path, name: str, hint: str = "") -> Path:
    """The file of an artifact in its run.

    Raises:
        ConfigError: there is no such run or artifact, or it has no file.
    """
    job = recorded_job(command, run, name)
    if isinstance(job, Composed):
        graphs = ", ".join(part.name for part in job.graphs.values())
        raise _refusal(command, f"{name} has no file of its own.", f"Its graphs have: {graphs}.")
    path = run / delivery.MODELS / job.label / job.target
    if not path.is_file():
        raise _refusal(command, f"{name} has no published file in {run}.", hint)
    return path


def elsewhere(job: Job, folder: Path) -> dict[str, Any]:
    """The job, to be done outside its run: with files in ``folder``, using the current trust."""
    changed = {
        # Not the list in `job.json`, which may have come with a run from anywhere: only the
        # environment of now can trust code.
        "trust": trust.parse(os.environ.get(trust.VARIABLE, ""), Path.cwd()),
        "model_dir": str(folder),
        "staging_dir": str(folder / delivery.STAGING),
    }
    return {**asked(job), **changed}


def recorded_result(run: Path, name: str) -> JobResult | None:
    """What became of a model in its run; an archive may not say."""
    try:
        return runfiles.read_result(run / delivery.MODELS / name / delivery.RESULT)
    except (OSError, ValidationError):
        return None


def package_changes(run: Path) -> list[str]:
    """The packages that have another version now than in the run, a line each."""
    try:
        made = runfiles.read(run).environment.packages
    except (OSError, ValidationError):
        return []
    here = packages.versions()
    return [
        f"note: {package} {before} then, {here.get(package) or 'none'} now"
        for package, before in made.items()
        # A package that the run did not have had no hand in its files.
        if before and before != here.get(package)
    ]


def _refusal(command: str, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(command, message, hint))
