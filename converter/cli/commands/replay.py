"""``python -m converter replay RUN_DIR NAME[/ARTIFACT]``: one job again, in the foreground.

It runs in this very process, without limits or a sandbox, and prints all that the job's log would
hold. The run directory is only read. With ``--pdb`` the debugger opens where a stage raised.
"""

from __future__ import annotations

import faulthandler
import pdb
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from converter.cli.arguments import Parser
from converter.cli.commands._arguments import usage
from converter.display.summary import EXPECTED
from converter.model.errors import ConfigError, ExitCode, Problem, RunError
from converter.model.job import Composed, Derived, Job
from converter.model.records import JobResult, WorkerEvent
from converter.plan import variants
from converter.processes.outcome import apply_expect, left
from converter.runner.recorded import (
    elsewhere,
    package_changes,
    recorded_job,
    recorded_result,
)

SUMMARY = "run one job in the foreground: RUN_DIR NAME[/ARTIFACT] [--pdb] [--keep DIR]"


def main(argv: Sequence[str]) -> int:
    """Run one job and print what came of it.

    Raises:
        ConfigError: there is no such run or model, or it makes no file; --keep is in use.
        RunError: the folder cannot be made.
    """
    parser = Parser(prog="python -m converter replay", description=SUMMARY)
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="such as outputs/zoo/latest")
    parser.add_argument("name", metavar="NAME", help="a model of that run, or NAME/ARTIFACT")
    parser.add_argument("--pdb", action="store_true", help="debug where a stage raises")
    parser.add_argument(
        "--keep", metavar="DIR", type=Path, help="leave the files here, wrong ones too"
    )
    arguments = parser.parse_args(argv)
    job = recorded_job("replay", arguments.run, arguments.name)
    if isinstance(job, Composed):
        graphs = ", ".join(part.name for part in job.graphs.values())
        message = f"{job.name} runs the files of several graphs together."
        hint = f"Replay a graph ({graphs}), or run verify {arguments.run} {job.name}."
        raise ConfigError(Problem("replay", message, hint))
    parent = recorded_job("replay", arguments.run, job.name) if job.parent else None
    try:
        with _folder(arguments.keep) as folder:
            result = _replay(job, parent, Path(folder).absolute(), arguments.pdb)
    except OSError as error:
        raise RunError(f"the files of the replay cannot be written: {error}") from error
    _tell(arguments.run, result)
    return ExitCode.OK if result.status in EXPECTED else ExitCode.MODELS_FAILED


def _folder(keep: Path | None) -> nullcontext[Path] | tempfile.TemporaryDirectory[str]:
    """Where the files go; a temporary folder is gone afterwards."""
    if keep is None:
        return tempfile.TemporaryDirectory(prefix="converter-replay-")
    # A file of before would look like one of this replay.
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise usage("--keep", f"{keep} is in use.", "Name a new or an empty folder.")
    keep.mkdir(parents=True, exist_ok=True)
    return nullcontext(keep)


def _replay(job: Job, parent: Job | None, folder: Path, debug: bool) -> JobResult:
    """Run the job; what it is made from first, whose references no run keeps."""
    # A native crash ends this process: what it leaves is the Python stack.
    faulthandler.enable()
    # Into the folder itself: nothing is published, and a person looks for the files there.
    made = Job.model_validate({**elsewhere(job, folder), "staging_dir": str(folder)})
    if not isinstance(job, Derived) or parent is None:
        return _run(made, debug)
    # A parent keeps references for the precisions of its variants only: it has to know of this one,
    # and need not do the work for others.
    wanted = [variant for variant in parent.variants if variant.id == job.artifact]
    where = folder / "parent"
    where.mkdir()
    before = {**elsewhere(parent, where), "staging_dir": str(where), "variants": wanted}
    result = _run(Job.model_validate(before), debug)
    # Without them there is nothing to verify the variant on. What became of its parent is the
    # answer.
    if result.references is None:
        return result
    derived = job.model_copy(
        update={
            "model_dir": str(folder),
            "staging_dir": str(folder),
            "parent_file": str(where / result.files[0].path),
            "references": str(where / result.references.path),
            "references_sha256": result.references.sha256,
        }
    )
    return _run(variants.from_parent(derived, result.files), debug)


def _run(job: Job, debug: bool) -> JobResult:
    from converter.worker.pipeline import derive, pipeline  # torch and the rest: seconds

    news: list[WorkerEvent] = []

    def emit(item: WorkerEvent) -> None:
        news.append(item)
        if isinstance(item, str):
            print(f"== {item}", file=sys.stderr, flush=True)

    try:
        stop = _post_mortem if debug else None
        if isinstance(job, Derived):
            result = derive.run(job, emit, stop)
        else:
            result = pipeline.run(job, emit, stop)
    # The stage recorder catches `Exception`, and this is none. In a run it would end the process of
    # the job; here it must not end ours, which has yet to say what happened.
    except SystemExit as error:
        result = left(job, news, error)
    return apply_expect(result, job.expect)


def _post_mortem(error: Exception) -> None:
    """Open the debugger in the frame that raised first: ours may only have found words for it."""
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    print(f"== {type(first).__name__}: {first}\n== 'q' goes on", file=sys.stderr, flush=True)
    pdb.post_mortem(first.__traceback__)


def _tell(run: Path, result: JobResult) -> None:
    seconds = sum(stage.seconds or 0.0 for stage in result.stages.values())
    print(f"{result.label}: {_words(result)} ({seconds:.1f} s)")
    if result.error is not None and result.error.hint:
        print(f"    {result.error.hint}")
    then = recorded_result(run, result.label)
    # Other versions are worth a word only where something else came out.
    if then is not None and _words(then) != _words(result):
        print(f"    in the run: {_words(then)}")
        for note in package_changes(run):
            print(note, file=sys.stderr)


def _words(result: JobResult) -> str:
    error = result.error
    return f"{result.status}: {error.code}: {error.message}" if error else result.status
