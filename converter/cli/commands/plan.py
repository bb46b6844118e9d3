"""``python -m converter plan OVERRIDES``: what a run would do, without doing it.

Every model with what would become of it: taken from the store, run and why, skipped, or failing
for what shows without running it: a file that is missing, code that is not trusted, a name that
does not exist. Nothing is written, no worker is started.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.display import notice
from converter.display.columns import Table, table
from converter.display.screen import Screen
from converter.model.errors import ConfigError, ConverterError, ExitCode, Problem
from converter.model.plaintext import readable_json

if TYPE_CHECKING:
    from converter.config.point import Point
    from converter.model.errors import StageError
    from converter.model.job import Job
    from converter.runner.reuse import CacheSession, Lookup

SUMMARY = "what a run would do: [OVERRIDE ...] [-m] [--json]"

_HELP = f"""\
usage: python -m converter plan [OVERRIDE ...] [-m] [--config-dir DIR] [--json]

{SUMMARY}
Overrides and options are those of a run: python -m converter --help.
Exit code 1: a model would fail for what shows already (trust, files, names), unexpectedly.
"""


@dataclass(frozen=True)
class _Intent:
    """What becomes of a model.

    Attributes:
        action: ``run``, ``fails`` (it would, and that shows already), ``stored`` or ``skipped``.
        reason: why not the one before; of ``fails`` what is wrong and what to do.
        unexpected: it fails, and the configuration does not expect that.
    """

    name: str
    action: str
    reason: str | None
    job_key: str | None
    unexpected: bool = False


def main(argv: Sequence[str]) -> int:
    """Print the plan of a run, or of each point of a sweep.

    Returns:
        1 where a model would fail that the configuration does not expect to.

    Raises:
        ConfigError: the configuration is wrong.
    """
    from converter.cli.command_line import parser
    from converter.sweep import launch

    # Taken out by hand: the parser is that of a run, which has no such flag.
    as_json = "--json" in argv
    words = [word for word in argv if word != "--json"]
    arguments = parser().parse_intermixed_args(words)
    if arguments.help:
        print(_HELP, end="")
        return ExitCode.OK
    if arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion:
        hint = "Leave out the word `plan`."
        raise ConfigError(Problem("usage", "this option shows a configuration.", hint))
    points: list[dict[str, object]] = []
    screen = Screen(sys.stdout)

    def task(point: Point) -> ExitCode:
        intents, notes = _intents(point)
        name = ",".join(point.overrides)
        points.append({"overrides": point.overrides, "models": [_as_json(i) for i in intents]})
        if not as_json:
            notice.clear()
            if point.sweep:
                screen(f"{name}:")
            if notes:
                screen("\n".join(f"note: {note}" for note in notes))
            screen(_table(intents), _total(intents) + "\n" * point.sweep)
        fails = any(intent.unexpected for intent in intents)
        return ExitCode.MODELS_FAILED if fails else ExitCode.OK

    def refuse(error: ConverterError, point: str) -> ExitCode:
        # A run tells of a wrong point and goes on with the next. Here nothing is lost by an end.
        raise error

    arguments.parser = parser()
    notice.show("looking at the models …")
    code = launch.run(arguments, task, refuse)
    if as_json:
        print(readable_json(points))
    return code


def _as_json(intent: _Intent) -> dict[str, object]:
    found = asdict(intent)
    del found["unexpected"]  # what the exit code tells
    return found


def _intents(point: Point) -> tuple[list[_Intent], list[str]]:
    """What becomes of each model, and what the person should know before a run."""
    from converter.cache import stores
    from converter.config import validation
    from converter.layout import environment, trust
    from converter.plan import foresight, jobs, packages, variants
    from converter.plan.looking import Looking
    from converter.runner.reuse import CacheSession, keys_for
    from converter.storage import location

    spec = validation.parse(point.config, sweep=point.sweep)
    cwd = Path.cwd()
    trusted = trust.parse(os.environ.get(trust.VARIABLE, ""), cwd)
    # No key has the run directory in it: any will do.
    planned = jobs.build(spec, run_dir=cwd, cwd=cwd, trust=trusted)
    place = location.parse(spec.store.path, cwd) if spec.store.use else None
    store = stores.opened(place) if place is not None else None
    looking = Looking(notice.show)
    cache = CacheSession(store, keys_for(environment.collect(packages.versions()), place, looking))
    found = {
        row.name: _Intent(row.name, "skipped", row.verify.reason, None) for row in planned.skipped
    }
    told = {name: [intent] for name, intent in found.items()}
    for job, looked in zip(planned.jobs, cache.look_up_all(planned.jobs), strict=True):
        told[job.name] = [_intent(job, looked, cache)]
        if looked.stored is None and (wrong := foresight.failures(job)):
            told[job.name] = [_failing(job, wrong)]
            continue
        for stub in variants.jobs_of(job):
            # The key of a variant is made of the hashes of its parent's files: it has none before
            # them.
            if looked.stored is None:
                why = f"{stub.parent} is to be made first"
                told[job.name].append(_Intent(stub.label, "run", why, None))
            else:
                derived = variants.from_parent(stub, looked.stored.result.files)
                told[job.name].append(_intent(derived, cache.look_up(derived), cache))
    for composed in planned.composed:
        graphs = [told[part.name][0] for part in composed.graphs.values()]
        told[composed.name] = [_together(composed.name, graphs)]
    return [intent for name in planned.order for intent in told[name]], planned.notes


def _together(name: str, graphs: Sequence[_Intent]) -> _Intent:
    """What becomes of the job that runs graphs together: it runs each time, if it can."""
    lacking = [graph for graph in graphs if graph.action in ("fails", "skipped")]
    if lacking:
        listed = ", ".join(f"{graph.name} {graph.action}" for graph in lacking)
        return _Intent(name, "skipped", f"there is no file to run: {listed}", None)
    return _Intent(name, "run", f"runs {', '.join(graph.name for graph in graphs)} together", None)


def _failing(job: Job, wrong: Sequence[StageError]) -> _Intent:
    # The first one is what a run would show.
    expected = job.expect is not None and job.expect.code == wrong[0].code
    told = []
    for error in wrong:
        hint = "as expected" if expected and error is wrong[0] else error.hint
        told.append(f"{error.code}: {error.message}" + (f"; {hint}" if hint else ""))
    return _Intent(job.label, "fails", "; also ".join(told), None, unexpected=not expected)


def _intent(job: Job, looked: Lookup, cache: CacheSession) -> _Intent:
    # A lookup without an entry gives a reason, unless there is no store to look into.
    if looked.stored is None and looked.reason is None:
        return _Intent(job.label, "run", "store.use is false", None)
    key = cache.key(job).digest
    if looked.stored is not None:
        return _Intent(job.label, "stored", f"built {looked.stored.entry.created_at}", key)
    return _Intent(job.label, "run", looked.reason, key)


def _table(intents: Sequence[_Intent]) -> Table:
    width = max(len(intent.name) for intent in intents)
    lines = [f"{i.action:<8} {i.name:<{width}}  {i.reason or ''}".rstrip() for i in intents]
    rows = [(intent.action, intent.name, intent.reason or "") for intent in intents]
    head = ("action", "model", "reason")
    return table(head, rows, left=2, shrinks=(1,), wraps=2, log="\n".join(lines))


def _total(intents: Sequence[_Intent]) -> str:
    number = Counter(intent.action for intent in intents)
    models = len({intent.name.partition("/")[0] for intent in intents})
    of = f"{models} model{'s' * (models != 1)}"
    if len(intents) > models:
        of = f"{of}, {len(intents)} artifacts"
    total = f"{of}: {number['run']} to run, {number['stored']} stored, {number['skipped']} skipped"
    return f"{total}, {number['fails']} would fail" if number["fails"] else total
