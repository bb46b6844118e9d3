"""``python -m converter list [GLOB]``: what the registry offers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import registry
from converter.cli.arguments import Parser
from converter.display.columns import Labelled
from converter.display.screen import Screen
from converter.inspection.text import wrap
from converter.model.errors import ConfigError, ExitCode, Problem

SUMMARY = "the registry: name, task, parameters, default inputs; [GLOB] [--json]"


def main(argv: Sequence[str]) -> int:
    """Print the entries whose name matches a glob.

    Raises:
        ConfigError: none does.
    """
    parser = Parser(prog="python -m converter list", description=SUMMARY)
    parser.add_argument("glob", nargs="?", default="*", help="such as 'torchvision/resnet*'")
    parser.add_argument("--json", action="store_true", help="one JSON list")
    arguments = parser.parse_args(argv)
    entries = [entry for name in registry.names(arguments.glob) if (entry := registry.find(name))]
    if not entries:
        close = registry.nearest(arguments.glob.replace("*", ""))
        hint = f"Did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(Problem("list", f"nothing matches '{arguments.glob}'.", hint))
    if arguments.json:
        # `default=str`: a default in a builder's signature may be any literal, and bytes or a set
        # are no JSON.
        print(json.dumps([_record(entry) for entry in entries], indent=2, default=str))
    else:
        _table(entries, Screen(sys.stdout))
    return ExitCode.OK


def _record(entry: registry.Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "task": entry.task,
        "parameters": dict(entry.parameters),
        "inputs": {name: dict(spec) for name, spec in entry.inputs.items()},
        "outputs": list(entry.outputs),
    }


def _table(entries: list[registry.Entry], screen: Screen) -> None:
    """A line for each entry, or more where it does not fit. No name is cut: people copy them."""
    lines: list[str] = []
    rows = [(entry.name, entry.task, _inputs(entry.inputs)) for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for entry, (name, task, inputs) in zip(entries, rows, strict=True):
        parameters = ", ".join(f"{key}={value!r}" for key, value in entry.parameters.items())
        line = f"{name:<{widths[0]}}  {task:<{widths[1]}}  {inputs}"
        whole = f"{line}  ({parameters})" if parameters else line
        # Long names and many inputs do not fit: first the parameters go below, then the inputs too.
        if len(whole) <= screen.width:
            lines.append(whole)
            continue
        long = len(line) > screen.width
        lines.append(f"{name}  {task}" if long else line)
        for text in [inputs, f"({parameters})"] if long else [f"({parameters})"]:
            lines += wrap(text, "    ", "    ", screen.width)
    screen(Labelled(tuple(lines), widths[0]))


def _inputs(inputs: Mapping[str, Mapping[str, Any]]) -> str:
    """Such as ``input 1x3x224x224``; the dtype is named where it is not float32."""
    return ", ".join(
        f"{name} {'x'.join(map(str, spec['shape'])) or 'scalar'}"
        + (f" {spec['dtype']}" if spec.get("dtype", "float32") != "float32" else "")
        for name, spec in inputs.items()
    )
