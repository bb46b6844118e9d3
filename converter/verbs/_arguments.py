"""What several verbs are given: a file, a run directory and a model of that run."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from converter.configuration.wording import did_you_mean
from converter.errors import ConfigError, Problem
from converter.job import Job
from converter.run import delivery


def recorded_job(verb: str, run: Path, name: str) -> Job:
    """The job of a model as a run recorded it.

    Raises:
        ConfigError: there is no such run or model, or the record cannot be read.
    """
    folder = run / delivery.MODELS
    if not run.is_dir():
        siblings = _names(run.parent, "*/")
        raise usage(verb, f"there is no run directory {run}.", did_you_mean(run.name, siblings))
    known = [path.parent.name for path in sorted(folder.glob(f"*/{delivery.JOB}"))]
    if not known:
        points = [path.parent.name for path in sorted(run.glob(f"*/{delivery.MODELS}"))]
        hint = f"It is a sweep, take one of its points: {', '.join(points)}." if points else ""
        raise usage(verb, f"{run} holds no models of a run.", hint)
    if name not in known:
        raise usage(verb, f"{run} has no model '{name}'.", did_you_mean(name, known))
    path = folder / name / delivery.JOB
    try:
        return Job.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        hint = "It must be as this version of the converter wrote it."
        raise usage(verb, f"{path} cannot be read: {reason}.", hint) from error


def onnx_file(verb: str, path: Path) -> Path:
    """A file that the user named.

    Raises:
        ConfigError: it is not there.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        hint = did_you_mean(path.name, _names(path.parent, "*.onnx"))
        raise usage(verb, f"{path} {what}.", hint)
    return path


def usage(verb: str, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(verb, message, hint))


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))
