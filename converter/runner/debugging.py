"""A wrong model of a run, done again to find where it begins to be wrong."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.config import standard
from converter.display import notice
from converter.layout import delivery
from converter.model.artifact import FULL, ONNX, REDUCED
from converter.model.batch import BatchSpec
from converter.model.changes import Change, Comparison
from converter.model.errors import Code, ConfigError, Problem, RunError
from converter.model.job import Composed, Debug, DebugVariant, Derived, Job
from converter.model.records import JobResult
from converter.plugins import executors, providers
from converter.plugins.executors import Finished
from converter.runner import newfolder
from converter.runner.recorded import (
    confines_of,
    elsewhere,
    published,
    recorded_job,
    recorded_result,
)

_LOG_LINES = 15
_REPORT = "report.md"
# Other codes say themselves what is wrong.
_WRONG = (str(Code.VERIFY_VALUE), str(Code.VERIFY_NONFINITE))


@dataclass(frozen=True)
class Debugged:
    """What came of it.

    Attributes:
        title: what was found, a sentence; empty: the file is right.
        log: the last lines of the log of its job.
    """

    result: JobResult
    title: str
    log: list[str]


def debug(run: Path, name: str, folder: Path, **limits: Any) -> Debugged:
    """Do the job of a run again up to its wrong file, and write what shows where it is wrong.

    Args:
        folder: a new or an empty one; it appears whole, and only where there is something to show.
        limits: keys of the executor, in place of those of the run.

    Raises:
        ConfigError: there is no such run or model, or the folder is in use.
        RunError: nothing can be written beside the folder.
    """
    job = recorded_job("debug", run, name)
    if isinstance(job, Composed):
        graphs = ", ".join(part.name for part in job.graphs.values())
        raise ConfigError(Problem("debug", f"{name} has no file.", f"Name a graph: {graphs}."))
    if job.source.kind == "onnx":
        message = f"{name} is an ONNX file already: there is no PyTorch to compare it with."
        raise ConfigError(Problem("debug", message))
    newfolder.refuse_used("debug", folder)
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converter-", dir=folder.parent) as scratch:
            work = Path(scratch)
            asked = _asked(job, run, work)
            executor = executors.create(
                standard.executor(workers=1, retries=0, **{**_confines(run), **limits})
            )
            # No process may outlive the command.
            with closing(executor.run([asked])) as events:
                result = next(e.result for e in events if isinstance(e, Finished))
            log = (work / delivery.LOG).read_text(encoding="utf-8", errors="replace")
            title = ""
            if result.error is None and result.files:
                made = work / delivery.STAGING / Debug.FOLDER
                newfolder.check(made, result)
                title = _title(made / _REPORT)
                newfolder.install(made, folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error
    return Debugged(result, title, log.splitlines()[-_LOG_LINES:])


def _confines(run: Path) -> dict[str, Any]:
    """Those of the run, with its time twice: for the conversion, and for looking into the file."""
    found = confines_of(run)
    return {**found, "timeout_s": 2 * found["timeout_s"]} if found else {}


def _asked(job: Job, run: Path, work: Path) -> Debug | DebugVariant:
    """The job that does one of a run again.

    Raises:
        ConfigError: it is a variant that is not looked into, or what it was made from is gone.
    """
    if not isinstance(job, Derived):
        return _model(job, run, work, _wrong_on(recorded_result(run, job.name)))
    if job.format == ONNX and job.precision in REDUCED:
        parent = published("debug", run, job.name, f"{job.label} is made from it.")
        own = {"plugin": job.plugin, "options": job.options, "parent_file": str(parent.absolute())}
        return DebugVariant.model_validate({**elsewhere(job, work), **own, "variants": []})
    if job.precision == FULL and ONNX in providers.formats(providers.load(job.provider)):
        # The same runtime reads the file that it was made from.
        return _model(recorded_job("debug", run, job.name), run, work, [job.provider])
    message = f"{job.label} is {job.precision} in the format {job.format}."
    hint = (
        f"Of variants, ONNX files in {' and '.join(REDUCED)} are looked into, and float32 files of "
        "a runtime that reads ONNX files too."
    )
    raise ConfigError(Problem("debug", message, hint))


def _model(job: Job, run: Path, work: Path, elsewhere_wrong: list[str]) -> Debug:
    """The job that makes a model's file again.

    Args:
        elsewhere_wrong: providers to look at if it is right on the standard one.
    """
    before = recorded_result(run, job.name)
    tried = [one.exporter for one in before.attempts_by_exporter] if before else []
    chosen = {
        # The last that was tried is the one that the row shows.
        "exporters": tried[-1:] or job.exporters[:1],
        "variants": [],
        "providers": elsewhere_wrong,
    }
    return Debug.model_validate({**elsewhere(job, work), **chosen})


def _wrong_on(result: JobResult | None) -> list[str]:
    """The providers that a run found a file wrong on; it may be right on all others."""
    verdicts = result.verify.providers if result is not None else []
    return [verdict.provider for verdict in verdicts if verdict.status == "failed"]


def _title(report: Path) -> str:
    """Of a report in Markdown, with the first node that is wrong and what it was compared with."""
    lines = report.read_text(encoding="utf-8").splitlines()
    # The fence is longer where the node has backticks in its names.
    first = next(at for at, line in enumerate(lines) if line.startswith("```"))
    node = lines[first + 1]
    comparison = next(line for line in lines if line.startswith("Comparison: "))
    return f"{lines[0].removeprefix('# ')}\n    {node}\n    {comparison}"


def newly_wrong(
    found: Comparison,
    directory: Path,
    spec: BatchSpec,
    stopped: Callable[[], bool],
    log: Callable[[str], None],
) -> Comparison:
    """Look into what has become wrong since the baseline, as far as ``debug_budget_s`` goes.

    Nothing of the run depends on it: what is not found is logged, and no more.

    Args:
        directory: of the run, whose ``models/NAME/debug`` gets what shows it.
        stopped: whether the run has to end.

    Returns:
        The comparison, in which what was found stands behind the change.
    """
    end = time.monotonic() + spec.compare.debug_budget_s
    changes: list[Change] = []
    for change in found.changes:
        left = end - time.monotonic()
        asked = change.kind == "newly_failing" and change.detail.startswith(_WRONG)
        if asked and change.artifact == ONNX and left > 0 and not stopped():
            told = _looked_into(directory, change.model, spec, left, log)
            detail = f"{change.detail}; {told}" if told else change.detail
            change = change.model_copy(update={"detail": detail})
        changes.append(change)
    return found.model_copy(update={"changes": changes})


def _looked_into(
    directory: Path, name: str, spec: BatchSpec, seconds: float, log: Callable[[str], None]
) -> str:
    """What a model's file is wrong in, and where that stands; empty: it is not known."""
    folder = directory / delivery.MODELS / name / Debug.FOLDER
    limits = {
        "timeout_s": seconds,
        "sandbox": spec.executor.sandbox,
        "writable": spec.executor.writable,
    }
    notice.show(f"looking into {name}, which has become wrong …")
    try:
        done = debug(directory, name, folder, **limits)
    except (ConfigError, RunError) as error:
        log(f"debug of {name}: {error}")
        return ""
    finally:
        notice.clear()
    if done.result.error is not None:
        log(f"debug of {name}: {done.result.error.code}: {done.result.error.message}")
    if not done.title:
        return ""
    return f"{done.title.splitlines()[0]}: {(folder / _REPORT).relative_to(directory)}"
