"""``python -m converter simplify IN.onnx OUT.onnx``: one file made smaller, and verified.

A run of one model whose source is the file: ONNX Runtime's results of the file as it came are the
reference, and what the simplifier made is compared with them on the cases and sizes of any run.
Exit code 0: OUT.onnx is there; 1: the simplification was taken back, or the file does not run, and
nothing was written; 2: the command is wrong.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from converter.cli.arguments import Parser
from converter.cli.commands._arguments import onnx_file, usage
from converter.display import notice
from converter.display.columns import Table, table
from converter.display.screen import Screen
from converter.model.errors import ExitCode, StageError

if TYPE_CHECKING:
    from converter.api.single import Converted
    from converter.model.records import OnnxInfo, SimplifyRecord

SUMMARY = "make a file smaller, verified: IN.onnx OUT.onnx [--simplifier NAME]"

_EXAMPLES = """\
  simplify net.onnx net-small.onnx
  simplify net.onnx net-small.onnx --simplifier onnxslim --input x=1x3x64x64
  simplify net.onnx net-small.onnx verify=strict
  simplify -- -net.onnx net-small.onnx        a name that begins with a dash

KEY=VALUE is any key of a configuration. Inputs are those of the file; --input is
for one whose sizes the file leaves open, or whose values have a range.
"""


def main(argv: Sequence[str]) -> int:
    """Simplify one file.

    Raises:
        ConfigError: what was asked for is not possible; nothing was started.
        RunError: a folder cannot be written.
    """
    arguments, source, output, stated = _parsed(argv)
    # Now: help answers without pydantic and Hydra.
    from converter.api import request, single

    onnx_file("simplify", source)
    name = request.output_of(output)
    _refuse_overwriting(source, output)
    given = dict(map(request.input_of, arguments.input))
    if len(given) < len(arguments.input):
        raise usage("--input", "two inputs have one name.")
    asked = request.Request(name, {"onnx": str(source)}, inputs=given)
    overrides = ["simplify=true", *stated]
    if arguments.simplifier is not None:
        overrides.insert(0, f"simplifier={arguments.simplifier}")
    command = shlex.join(["python", "-m", "converter", "simplify", *argv])
    notice.show("simplifying …")
    try:
        made = single.of_request(asked, None, overrides, quiet=True, command=command)
    except single.Interrupted as interrupted:
        return interrupted.code
    except single.ConversionFailed as failed:
        notice.clear()
        print(f"{failed}\n{output} was not written", file=sys.stderr)
        return failed.run.exit_code or ExitCode.MODELS_FAILED
    notice.clear()
    info = made.record.rows[0].onnx
    if info is None or info.simplify is None:
        raise usage("simplify", "an override switches the simplifier off.", "Remove it.")
    return _told(source, output, made, info, info.simplify)


def _told(
    source: Path, output: Path, made: Converted, info: OnnxInfo, simplify: SimplifyRecord
) -> int:
    """Say what became of the file, and write it where it was simplified."""
    from converter.api import single

    if not simplify.applied:
        print(f"reverted: {simplify.reverted_reason}", file=sys.stderr)
        print(f"{source} is right as it is; {output} was not written", file=sys.stderr)
        return ExitCode.MODELS_FAILED
    screen = Screen(sys.stdout)
    screen(f"{source} → {output}, opset {info.opset}", _changes(simplify))
    single.written(made, output.parent)
    screen("\n" + "\n".join(_verdict(source, output, made)))
    return ExitCode.OK


def _changes(simplify: SimplifyRecord) -> Table:
    """How many nodes of each operator there were, and are."""
    before, after = simplify.ops_before, simplify.ops_after
    rows = [
        (name, str(before.get(name, 0)), str(after.get(name, 0)))
        for name in sorted({**before, **after}, key=lambda name: (-before.get(name, 0), name))
    ]
    total = ("nodes in all", str(simplify.nodes_before), str(simplify.nodes_after))
    return table(("operator", "before", "after"), [*rows, total], left=1, shrinks=(0,))


def _verdict(source: Path, output: Path, made: Converted) -> Iterator[str]:
    from converter.model.verified import sizes

    verify = made.verify
    yield f"verified: {output} gives what {source} gives, in {len(verify.cases)} cases"
    for symbol in verify.domain.symbols if verify.domain is not None else []:
        yield f"    at {symbol.symbol} = {sizes(symbol.sizes)}"
    if verify.reason:
        yield f"    {verify.reason}"


def _refuse_overwriting(source: Path, output: Path) -> None:
    """Raise where the file, or weights that lie beside it, would be overwritten.

    Raises:
        ConfigError: they would, or the file is no ONNX model.
    """
    from converter.worker.onnxfile import inspection  # it imports onnx

    same = "the file would be overwritten before anybody could compare it with its simplification."
    if output.exists() and output.samefile(source):
        raise usage("simplify", same, f"Write beside it: {source.stem}-simplified.onnx")
    try:
        held = inspection.read(source).initializers
    except StageError as error:
        raise usage("simplify", f"{error}.", "It must be an ONNX model.") from error
    weights = {(source.parent / one.external).resolve() for one in held if one.external}
    taken = weights & {output.resolve(), output.with_name(f"{output.name}.data").resolve()}
    if taken:
        message = f"{source} keeps its weights in {taken.pop().name}, which {output.name} needs."
        raise usage("simplify", message, "Choose another name for the new file.")


def _parsed(argv: Sequence[str]) -> tuple[argparse.Namespace, Path, Path, list[str]]:
    """The options, the two files and the overrides; what follows ``--`` is no option."""
    words = list(argv)
    place = words.index("--") if "--" in words else len(words)
    parser = _parser()
    # `parse_intermixed_args` itself takes what follows `--` for options (Python 3.11).
    arguments = parser.parse_intermixed_args(words[:place])
    named = [*arguments.words, *words[place + 1 :]]
    if len(named) < 2:
        parser.error("IN.onnx and OUT.onnx are required")
    return arguments, Path(named[0]), Path(named[1]), named[2:]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m converter simplify",
        usage="%(prog)s [options] IN.onnx OUT.onnx [KEY=VALUE ...]",
        description=SUMMARY,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--simplifier", metavar="NAME", help="onnxsim (default) or onnxslim")
    parser.add_argument(
        "--input",
        metavar="NAME=SHAPE[:DTYPE][:LOW..HIGH]",
        action="append",
        default=[],
        help="x=1x3x64x64",
    )
    return parser
