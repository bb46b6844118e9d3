"""A file of a run, or one that claims to be the same, compared with its source once more."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from converter.config import standard
from converter.layout import delivery
from converter.model.errors import ConfigError, Problem, RunError
from converter.model.job import Composed, Job, JobResult, Recheck
from converter.plugins import executors
from converter.plugins.executors import Finished
from converter.runner.recorded import elsewhere, published, recorded_job

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
        return _composed(job, run, model)
    if model is None:
        model = published("verify", run, job.label, "Name one with --model FILE.")
    elif not model.is_file():
        raise ConfigError(Problem("verify", f"{model} is no file."))
    return _verify(job, model, _parent(run, job))


def _composed(job: Composed, run: Path, model: Path | None) -> Rechecked:
    """Run the published files of the graphs together again."""
    graphs = ", ".join(part.name for part in job.graphs.values())
    if model is not None:
        hint = f"Leave --model out, or verify a graph: {graphs}."
        raise ConfigError(Problem("verify", f"{job.name} runs several files.", hint))
    found = {
        name: run / delivery.MODELS / part.name / part.target for name, part in job.graphs.items()
    }
    for part in found.values():
        if not part.is_file():
            raise ConfigError(Problem("verify", f"{part} is no file: {job.name} needs {graphs}."))

    def moved(work: Path) -> Job:
        changed = elsewhere(job, work)
        parts = {
            name: Job.model_validate(elsewhere(part, work)) for name, part in job.graphs.items()
        }
        others = {key: changed[key] for key in ("trust", "model_dir", "staging_dir")}
        files = {name: str(path.absolute()) for name, path in found.items()}
        # Whatever is there is judged: its hash is not that of the record where it was replaced.
        return job.model_copy(
            update={**others, "graphs": parts, "graph_files": files, "graph_hashes": {}}
        )

    return _done(moved, run / delivery.MODELS / job.name)


def _parent(run: Path, job: Job) -> Path | None:
    """The published file that an artifact was made from, where it is still there."""
    # Absolute, as all paths of a job are: its executor may run it somewhere else.
    path = (run / delivery.MODELS / job.name / f"{job.name}.onnx").absolute()
    return path if job.parent and path.is_file() else None


def _verify(job: Job, file: Path, parent: Path | None) -> Rechecked:
    def moved(work: Path) -> Job:
        changed = {"file": str(file.absolute()), "parent_file": parent and str(parent)}
        return Recheck.model_validate({**elsewhere(job, work), **changed})

    return _done(moved, file)


def _done(moved: Callable[[Path], Job], file: Path) -> Rechecked:
    """What becomes of a job in a temporary folder."""
    try:
        with tempfile.TemporaryDirectory(prefix="converter-verify-") as folder:
            work = Path(folder)
            # Under a supervisor: a file that crashes or hangs ONNX Runtime ends that process, and
            # this one says so.
            executor = executors.create(standard.executor(workers=1, retries=0))
            # Closed at once, not when the generator is collected: no process may outlive the
            # command.
            with closing(executor.run([moved(work)])) as events:
                result = next(event.result for event in events if isinstance(event, Finished))
            # Before the temporary folder goes, and the log with it.
            log = (work / delivery.LOG).read_text(encoding="utf-8", errors="replace")
            return Rechecked(file, result, log.splitlines()[-_LOG_LINES:])
    except OSError as error:
        raise RunError(f"no room for temporary files: {error}; TMPDIR chooses where") from error
