"""``python -m converter convert SOURCE -o FILE.onnx``: one model, without a configuration.

The same pipeline and verdict as in a run: nothing is written to FILE unless it verified. What it
prints at the end is the configuration that does the same.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.model.errors import ConfigError, ExitCode, Problem

SUMMARY = "convert one model without YAML: SOURCE [-o FILE.onnx] [--input x=1x3x64x64]"

_EXAMPLES = """\
SOURCE is a name that `list` shows, FILE.py:CLASS, a .onnx, .pt or .pt2 file, or
the dotted name of a class or function. Naming a .py file trusts its folder for
this run.

  convert torchvision/resnet18 -o resnet18.onnx
  convert nets.py:Net --input x=1x3x64x64 --dynamic x:0=batch -o net.onnx
  convert nets.py:Bert --input ids=1x16:int64:0..30000 --variant fp16

KEY=VALUE is any key of a configuration (`benchmark=cpu`, `verify=strict`).
"""


def main(argv: Sequence[str]) -> int:
    """Convert one model.

    Raises:
        ConfigError: what was asked for is not possible; nothing was started.
        RunError: a folder cannot be written.
    """
    arguments = _parser().parse_intermixed_args(argv)
    # Now: help answers without pydantic and Hydra.
    from converter.api import request, single

    source, folder = request.source_of(arguments.source)
    given = dict(map(request.input_of, arguments.input))
    if len(given) < len(arguments.input):
        raise ConfigError(Problem("--input", "two inputs have one name."))
    output: Path | None = arguments.output
    asked = request.Request(
        name=request.output_of(output) if output is not None else request.name_of(source),
        source=source,
        inputs=given,
        dynamic_axes=request.dynamic_of(arguments.dynamic),
        weights=request.weights_of(arguments.weights) if arguments.weights else None,
        opset=arguments.opset,
        variants=arguments.variant,
        trust=folder,
    )
    if folder is not None:
        print(f"code of {folder} may run in this one run: its file was named\n")
    command = shlex.join(["python", "-m", "converter", "convert", *argv])
    try:
        made = single.of_request(asked, output, arguments.overrides, quiet=False, command=command)
    except single.Interrupted as interrupted:
        return interrupted.code
    except single.ConversionFailed as failed:
        # The run has told why.
        if output is not None:
            print(f"\n{output} was not written", file=sys.stderr)
        # A skipped model, or an expected failure: as expected, and there is no file.
        return failed.run.exit_code or ExitCode.MODELS_FAILED
    print()
    for path in made.files.values():
        print(f"verified: {path}")
    print(f"\nthe same in a configuration, say zoo/experiment/{asked.name}.yaml, run with")
    words = ["--config-dir", "zoo", f"+experiment={asked.name}", *arguments.overrides]
    trust = f"CONVERTER_TRUST={shlex.quote(str(folder))} " if folder is not None else ""
    print(f"{trust}{shlex.join(['python', '-m', 'converter', *words])}\n")
    print(made.yaml, end="")
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m converter convert",
        description=SUMMARY,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: the run's own")
    parser.add_argument(
        "--input",
        metavar="NAME=SHAPE[:DTYPE][:LOW..HIGH]",
        action="append",
        default=[],
        help="x=1x3x64x64",
    )
    parser.add_argument(
        "--dynamic", metavar="INPUT:AXIS=SYMBOL", action="append", default=[], help="x:0=batch"
    )
    parser.add_argument("--opset", type=int)
    parser.add_argument(
        "--variant", metavar="NAME", action="append", default=[], help="fp16: a further file"
    )
    parser.add_argument("--weights", metavar="NAME|FILE", help="pretrained, or a checkpoint")
    return parser
