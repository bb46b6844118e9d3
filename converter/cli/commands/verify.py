"""``python -m converter verify RUN_DIR NAME[/ARTIFACT]``: verify a file again, against its source.

The job of the run is done once more up to its reference, in a process of its own, and the file is
compared with that: an archive can be checked on a new ONNX Runtime, and so can a file that was
made elsewhere. Exit code 0 when it is right, 1 when it is not, 2 when there is nothing to verify.

``verify DIR [--key PUBLIC_KEY]``: of a folder, or a URL, that was published, every file is hashed,
and every signature checked.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converter.cli.arguments import Parser
from converter.cli.commands._arguments import onnx_file, usage
from converter.display import notice
from converter.display.columns import Table, table
from converter.display.screen import Screen
from converter.finalize import mirror, published
from converter.finalize.published import Checked
from converter.inspection import text
from converter.layout import signing
from converter.model.errors import ExitCode
from converter.model.plaintext import plain, readable_json
from converter.model.records import JobResult, OutputCheck
from converter.model.verified import sizes
from converter.runner import rechecking
from converter.runner.recorded import (
    package_changes,
    recorded_result,
)
from converter.storage import location, objects
from converter.storage.location import Url

SUMMARY = (
    "verify a file against its source: RUN_DIR NAME[/ARTIFACT] [--model FILE] [--json]; "
    "or what was published: DIR or URL [--key PUBLIC_KEY]"
)

_HEAD = ("case", "output", "shape", "max abs", "rel L2", "bound", "passed")
_LOG_LINES = 15


def main(argv: Sequence[str]) -> int:
    """Verify one file and print what came of it.

    Raises:
        ConfigError: there is no such run, model or file.
        RunError: the temporary folder cannot be made.
    """
    parser = Parser(prog="python -m converter verify", description=SUMMARY)
    parser.add_argument(
        "run",
        metavar="DIR",
        help="a run, such as outputs/zoo/latest, or a folder or URL of publish_to",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="a model of that run, or NAME/ARTIFACT"
    )
    parser.add_argument(
        "--key", metavar="FILE", type=Path, help="the public key (PEM) that DIR must be signed by"
    )
    parser.add_argument("--model", metavar="FILE", type=Path, help="default: the published file")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.name is None or arguments.key is not None:
        return _published(arguments)
    if arguments.model is not None:
        onnx_file("verify", arguments.model)
    notice.show("loading torch …")
    run = Path(arguments.run)
    found = rechecking.verify(run, arguments.name, arguments.model)
    notice.clear()
    result, file = found.result, found.file
    verdict = _verdict(result)
    if arguments.json:
        print(readable_json(_record(result, file, verdict)))
    else:
        screen = Screen(sys.stdout)
        told = "\n".join(_explain(result, verdict))
        if tables := _table(result):
            screen(str(file), *tables)
            screen(told)
        else:
            screen(str(file), told)
    for note in _notes(run, arguments.name, result):
        print(note, file=sys.stderr)
    # Of a wrong file the table says where; its log has no more.
    if verdict == "not verified" and found.log:
        log = map(plain, found.log)
        print("the end of its log:", *log, sep="\n    ", file=sys.stderr)
    return ExitCode.OK if verdict == "right" else ExitCode.MODELS_FAILED


def _published(arguments: argparse.Namespace) -> int:
    """Check the files and the signatures of a published folder, and print what came of it."""
    if arguments.name is not None or arguments.model is not None:
        raise usage("verify", "--key is for a folder that was published: it takes no model.")
    if arguments.key is not None and (why := signing.missing()):
        raise usage("verify", f"{why}.", f"{signing.INSTALL}.")
    try:
        place = location.parse(arguments.run, Path())
    except ValueError as error:
        raise usage("verify", f"{location.masked(arguments.run)} {error}.") from error
    try:
        if isinstance(place, Url):
            found = _fetched(place, arguments.key)
        else:
            found = _checked(place, arguments.key)
    except OSError as error:
        raise usage("verify", f"{error.strerror or error}: {error.filename}.") from error
    except ValueError as error:
        raise usage("verify", f"{error}.") from error
    verdict = "wrong" if found.problems else "right"
    if arguments.json:
        told = {"folder": arguments.run, "verdict": verdict, **dataclasses.asdict(found)}
        print(readable_json(told))
    else:
        print(*map(plain, found.problems), sep="\n", end="\n" if found.problems else "")
        print(f"{verdict}: {found.files} files in {found.sets} sets, {found.signed} of them signed")
        for note in found.notes:
            print(plain(f"note: {note}"), file=sys.stderr)
    if arguments.key is None and found.signed:
        print("note: no signature was checked: say --key PUBLIC_KEY", file=sys.stderr)
    return ExitCode.OK if not found.problems else ExitCode.MODELS_FAILED


def _checked(folder: Path, key: Path | None) -> Checked:
    if not published.is_one(folder):
        what = "is no published folder" if folder.exists() else "does not exist"
        hint = "Name a folder of `publish_to`, or a run and a model: verify RUN_DIR NAME."
        raise usage("verify", f"{folder} {what}.", hint)
    return published.check(folder, key)


def _fetched(place: Url, key: Path | None) -> Checked:
    """Of a prefix: it is brought here, and goes again."""
    there = objects.opened(place)
    if not mirror.is_one(there):
        hint = "Name a URL of `publish_to`, or one set of it: URL/MODEL/VERSION."
        raise usage("verify", f"{place} is no published place.", hint)
    notice.show(f"reading {place} …")
    with tempfile.TemporaryDirectory() as folder:
        problems, notes = mirror.bring(there, Path(folder))
        try:
            found = published.check(Path(folder), key)
        except OSError as error:
            # Of the copy nobody knows, and it is gone.
            here = Path(str(error.filename))
            if here.is_relative_to(folder):
                error.filename = str(place / here.relative_to(folder))
            raise
    notice.clear()
    found.problems += problems
    found.notes += [*notes, *there.patience.told(place)]
    return found


def _verdict(result: JobResult) -> str:
    if result.error is None:
        return "right"
    # Only the stage `verify` judges the file. A failure before it, a crash or a limit says nothing
    # about the file: it is neither right nor wrong.
    judged = result.status == "failed" and result.error.stage == "verify"
    return "wrong" if judged else "not verified"


def _record(result: JobResult, file: Path, verdict: str) -> dict[str, Any]:
    return {
        "name": result.name,
        "artifact": result.artifact,
        "file": str(file),
        "verdict": verdict.replace(" ", "_"),
        "error": result.error.model_dump(mode="json") if result.error else None,
        "verify": result.verify.model_dump(mode="json"),
    }


def _table(result: JobResult) -> list[Table]:
    """A line for each output of each case; none where there are none."""
    rows = [
        (case.label, output.name, "x".join(map(str, output.shape)) or "scalar", *_numbers(output))
        for case in result.verify.cases
        for output in case.outputs
    ]
    return [table(_HEAD, rows, left=3, shrinks=(0, 1, 2))] if rows else []


def _numbers(output: OutputCheck) -> tuple[str, ...]:
    # Both are zero for integers and booleans: they must be equal.
    bound = f"{output.atol:.2g}+{output.rtol:.2g}" if output.atol or output.rtol else "equal"
    errors = (output.max_abs, output.rel_l2)
    shown = ("-" if error is None else f"{error:.1e}" for error in errors)
    return (*shown, bound, "yes" if output.passed else "NO")


def _explain(result: JobResult, verdict: str) -> list[str]:
    lines = []
    if any(case.outputs for case in result.verify.cases):
        lines.append("bound a+r: each |onnx - torch| <= a + r |torch|\n")
    for axis in result.verify.dynamic:
        kind = "dynamic" if axis.symbolic else "FIXED in the file"
        right = "right" if axis.passed else "NOT right"
        head = f"axis {axis.axis} of {axis.input} ({axis.declared})"
        tried = sizes(axis.sizes_tested)
        lines += text.wrap(f"{head}: {kind}, {right} at {tried}", "", "    ")
    if result.verify.domain is not None:
        title = "verified on" if result.error is None else "tried on"
        lines += ["", title, *text.domain(result.verify.domain), ""]
    if (metric := result.verify.metric) is not None:
        lines.append(
            f"{metric.name} on {metric.samples} samples: {metric.torch:.6g} in PyTorch, "
            f"{metric.onnx:.6g} in the file (drop {metric.drop:.3g}, allowed {metric.max_drop:g})"
        )
    if result.error is None:
        lines.append(f"right: {len(result.verify.cases)} cases")
        if result.verify.reason:
            lines.append(f"    {result.verify.reason}")
        return lines
    lines.append(f"{verdict}: {result.error.code}: {result.error.message}")
    if result.error.hint:
        lines.append(f"    {result.error.hint}")
    if result.verify.faulty_stage == "runtime":
        lines.append("    right without ONNX Runtime's optimisations: they are at fault")
    return lines


def _notes(run: Path, name: str, result: JobResult) -> list[str]:
    """What else has changed since the run; packages, where a file is not right."""
    notes = []
    recorded = recorded_result(run, name)
    then = recorded.weights_sha256 if recorded else None
    if then and result.weights_sha256 and then != result.weights_sha256:
        notes.append("note: the source's weights are not those of the run")
    return notes if result.error is None else [*notes, *package_changes(run)]
