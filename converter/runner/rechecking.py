"""A file of a run, or one that claims to be the same, compared with its source once more."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from converter.config import standard
from converter.layout import delivery
from converter.model.errors import ConfigError, Problem, RunError
from converter.model.job import Composed, Job, Recheck
from converter.model.records import JobResult
from converter.plugins import executors
from converter.plugins.executors import Finished
from converter.runner.recorded import confines_of, elsewhere, published, recorded_job

_LOG_LINES = 15


@dataclass(frozen=True)
class Rechecked:
    """What came of it.

    Attributes:
        file: that was looked at.
        log: the last lines of the log of its job.
    """

    file: Path
    result: JobResult
    log: list[str]


def verify(run: Path, name: str, model: Path | None) -> Rechecked:
    """Do the job of a run once more up to its reference, and compare a file with that.

    Args:
        name: a model of the run, or ``NAME/ARTIFACT``.
        model: the file; by default the published one.

    Raises:
        ConfigError: there is no such run, model or file.
        RunError: the temporary folder cannot be made.
    """
    job = recorded_job("verify", run, name)
    if isinstance(job, Composed):
        _check_composed(job, model)
    elif model is None:
        model = published("verify", run, job.label, "Name one with --model FILE.")
    elif not model.is_file():
        raise ConfigError(Problem("verify", f"{model} is no file."))
    try:
        with tempfile.TemporaryDirectory(prefix="converter-verify-") as folder:
            if isinstance(job, Composed):
                return _composed(job, run, Path(folder))
            assert model is not None, "it was found above"
            return recheck(Recheck, run, job, model, Path(folder))
    except OSError as error:
        raise RunError(f"no room for temporary files: {error}; TMPDIR chooses where") from error


def recheck(kind: type[Recheck], run: Path, job: Job, file: Path, work: Path) -> Rechecked:
    """Compare a file with the source of a job, in a process of its own.

    Args:
        kind: of the job that does it.
        work: a folder for its staging folder and its log.

    Raises:
        OSError: nothing can be written there.
    """
    parent = _parent(run, job)
    changed = {"file": str(file.absolute()), "parent_file": parent and str(parent)}
    return _done(run, kind.model_validate({**elsewhere(job, work), **changed}), file, work)


def _done(run: Path, asked: Job, file: Path, work: Path) -> Rechecked:
    """What becomes of a job whose folder is ``work``."""
    # Under a supervisor: a file that crashes or hangs ONNX Runtime ends that process, and this one
    # says so.
    executor = executors.create(standard.executor(workers=1, retries=0, **confines_of(run)))
    # Closed at once, not when the generator is collected: no process may outlive the command.
    with closing(executor.run([asked])) as events:
        result = next(event.result for event in events if isinstance(event, Finished))
    # Before the temporary folder goes, and the log with it.
    log = (work / delivery.LOG).read_text(encoding="utf-8", errors="replace")
    return Rechecked(file, result, log.splitlines()[-_LOG_LINES:])


def _check_composed(job: Composed, model: Path | None) -> None:
    if model is not None:
        hint = f"Leave --model out, or verify a graph: {_graphs(job)}."
        raise ConfigError(Problem("verify", f"{job.name} runs several files.", hint))


def _graphs(job: Composed) -> str:
    return ", ".join(part.name for part in job.graphs.values())


def _composed(job: Composed, run: Path, work: Path) -> Rechecked:
    """Run the published files of the graphs together again."""
    found = {
        name: run / delivery.MODELS / part.name / part.target for name, part in job.graphs.items()
    }
    for part in found.values():
        if not part.is_file():
            needs = f"{part} is no file: {job.name} needs {_graphs(job)}."
            raise ConfigError(Problem("verify", needs))
    changed = elsewhere(job, work)
    parts = {name: Job.model_validate(elsewhere(part, work)) for name, part in job.graphs.items()}
    others = {key: changed[key] for key in ("trust", "model_dir", "staging_dir")}
    files = {name: str(path.absolute()) for name, path in found.items()}
    # Whatever is there is judged: its hash is not that of the record where it was replaced.
    asked = job.model_copy(
        update={**others, "graphs": parts, "graph_files": files, "graph_hashes": {}}
    )
    return _done(run, asked, run / delivery.MODELS / job.name, work)


def _parent(run: Path, job: Job) -> Path | None:
    """The published file that an artifact was made from, where it is still there."""
    # Absolute, as all paths of a job are: its executor may run it somewhere else.
    path = (run / delivery.MODELS / job.name / f"{job.name}.onnx").absolute()
    return path if job.parent and path.is_file() else None
