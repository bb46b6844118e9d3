"""A wrong model of a run, done again to find where it begins to be wrong."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from converter.config import standard
from converter.layout import delivery
from converter.model.errors import ConfigError, Problem, RunError
from converter.model.job import Composed, Debug, Derived
from converter.model.records import JobResult
from converter.plugins import executors
from converter.plugins.executors import Finished
from converter.runner import newfolder
from converter.runner.recorded import elsewhere, recorded_job, recorded_result

_LOG_LINES = 15
_REPORT = "report.md"


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


def debug(run: Path, name: str, folder: Path) -> Debugged:
    """Do the job of a run again up to its wrong file, and write what shows where it is wrong.

    Args:
        folder: a new or an empty one; it appears whole, and only where there is something to show.

    Raises:
        ConfigError: there is no such run or model, or the folder is in use.
        RunError: nothing can be written beside the folder.
    """
    job = recorded_job("debug", run, name)
    if isinstance(job, Composed | Derived):
        message = f"{name} is made from other files of {job.name}."
        raise ConfigError(Problem("debug", message, f"Name the model: {job.name}."))
    if job.source.kind == "onnx":
        message = f"{name} is an ONNX file already: there is no PyTorch to compare it with."
        raise ConfigError(Problem("debug", message))
    newfolder.refuse_used("debug", folder)
    folder = folder.absolute()
    before = recorded_result(run, name)
    tried = [one.exporter for one in before.attempts_by_exporter] if before else []
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converter-", dir=folder.parent) as scratch:
            work = Path(scratch)
            # The last that was tried is the one that the row shows.
            chosen = {"exporters": tried[-1:] or job.exporters[:1], "variants": []}
            asked = Debug.model_validate({**elsewhere(job, work), **chosen})
            executor = executors.create(standard.executor(workers=1, retries=0))
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


def _title(report: Path) -> str:
    """Of a report in Markdown, with the first node that is wrong."""
    lines = report.read_text(encoding="utf-8").splitlines()
    code = lines.index("```")
    return "\n".join(
        [lines[0].removeprefix("# "), *(f"    {line}" for line in lines[code + 1 :][:1])]
    )
