"""``python -m converter resume RUN_DIR``: finish an interrupted run.

The run's own configuration, as it was composed then, is planned again. Finished rows stay where
their key and their files are unchanged, failed ones too; the others are done. Exit codes are
those of a run.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.config import saved, validation
from converter.display import notice, summary
from converter.layout import claim
from converter.model.errors import ConfigError, Problem, RunError
from converter.runner import resuming, start
from converter.sweep import journal
from converter.sweep.record import SWEEP, Sweep

_LISTED = 3  # runs of a hint
SUMMARY = "finish an interrupted run: RUN_DIR"


def main(argv: Sequence[str]) -> int:
    """Finish the run of a directory.

    Raises:
        ConfigError: there is no run in it, or its configuration is not valid any more.
        RunError: it is held by another process or cannot be written.
    """
    parser = Parser(prog="python -m converter resume", description=SUMMARY)
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="such as outputs/zoo/2026-…")
    directory: Path = parser.parse_args(argv).run.resolve()  # `latest` is a link
    _check(directory)
    before = resuming.earlier(directory)
    # A run that was killed after its manifest, before its reports, still has its lock file.
    ended = not (directory / claim.LOCK).exists()
    if ended and before and resuming.is_whole(before):
        journal.refresh(directory.parent)  # its sweep may have been killed before it noted this
        print(f"complete, nothing to resume: {summary.totals(before.models)}\n{directory}")
        assert before.run.exit_code is not None, "it is whole"
        return before.run.exit_code
    notice.show("preparing the run …")
    found = saved.read(directory)
    try:
        # Relative paths of the configuration start there, those in `kwargs` too.
        os.chdir(found.cwd)
    except OSError as error:
        message = f"the folder of the run's command, {found.cwd}, cannot be entered"
        raise RunError(f"{message}: {error.strerror}") from error
    origin = start.Origin(
        experiment=found.experiment,
        overrides=found.overrides,
        sha256=found.sha256,
        command=shlex.join(["python", "-m", "converter", "resume", *argv]),
        folder=directory.parent if found.point else directory,
        point=found.point,
        config_dir=found.config_dir,
    )
    # A point of a sweep was planned leniently; any other has passed the strict rules before.
    spec = validation.parse(found.config, sweep=True)
    stated = spec.baseline
    if before is not None:  # `latest` may be another run by now
        stated = before.run.baseline and str(directory / before.run.baseline)
    try:
        return start.run(spec, origin, lambda: directory, compared_with=stated, resumes=True)
    finally:
        # Whatever came of it: `sweep.json` says of each point what its manifest says.
        if found.point:
            journal.refresh(directory.parent)


def _check(directory: Path) -> None:
    if not directory.is_dir():
        raise ConfigError(Problem("resume", f"there is no run directory {directory}."))
    if (holder := claim.held_by(directory)) is not None:
        raise RunError(f"{directory} is held by {holder}: it is running; wait for it.")
    if (directory / saved.FOLDER).is_dir():
        return
    # Where there are none either, `saved.read` says that no run has begun here.
    runs = sorted(path.parent for path in directory.glob(f"*/{saved.FOLDER}"))
    sweep = journal.read(directory)
    if runs or sweep:
        is_sweep = sweep or (directory / SWEEP).exists()
        kind = "is a sweep: resume a point" if is_sweep else "holds several runs"
        # `latest` is a link to one of the others.
        unfinished = [run.name for run in runs if not run.is_symlink() and not _is_complete(run)]
        hint = f"Those that are not complete: {', '.join(unfinished) or 'none'}."
        if sweep and (never := [each.name for each in sweep.points if each.state == "not_run"]):
            hint += f" Never begun: {', '.join(never)}. {_again(sweep, runs)}"
        raise ConfigError(Problem("resume", f"{directory} {kind}.", hint))
    message = f"{directory} is not a run directory: it has no folder {saved.FOLDER}."
    raise ConfigError(Problem("resume", message, _near(directory)))


def _again(sweep: Sweep, runs: Sequence[Path]) -> str:
    """How the points of a sweep are begun that never were, in a sentence."""
    begun = saved.read(runs[0]) if runs else None
    folder = ["--config-dir", begun.config_dir] if begun and begun.config_dir else []
    command = shlex.join(["python", "-m", "converter", *folder, "-m", *sweep.sweep.overrides])
    where = f" in {begun.cwd}" if begun and begun.cwd != Path.cwd() else ""
    return (
        f"Start the sweep again for them{where}, in a new folder; what is done comes from the "
        f"store: {command}"
    )


def _near(directory: Path) -> str:
    """Run directories below a folder, else below ``outputs``; the latest ones."""
    for folder in (directory, Path("outputs")):
        found = {path.parent.resolve() for path in folder.glob(f"*/*/{saved.FOLDER}")}
        if found:
            latest = sorted(found, key=lambda run: run.name)[-_LISTED:]
            return f"There are {', '.join(str(_shown(run)) for run in reversed(latest))}."
    return "Name the folder of a run, such as outputs/zoo/2026-…"


def _shown(path: Path) -> Path:
    """Relative to where the command was started, if it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _is_complete(directory: Path) -> bool:
    found = resuming.earlier(directory)
    return found is not None and found.run.complete
