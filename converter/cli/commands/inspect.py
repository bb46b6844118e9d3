"""``python -m converter inspect MODEL.onnx [--diff OTHER.onnx]``: what an ONNX file holds.

``inspect RUN_DIR NAME[/ARTIFACT] [--diff NAME[/ARTIFACT]]`` looks at published files of a run.

Nothing is run, and external data is opened only to compare it and only in the folder of the model,
so a file from a stranger may be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converter.cli.arguments import Parser
from converter.cli.commands._arguments import onnx_file, usage
from converter.inspection import difference, sidebyside, text
from converter.inspection.content import Content
from converter.model.errors import ExitCode, StageError
from converter.model.plaintext import readable_json
from converter.runner.recorded import published

SUMMARY = "what a file holds: MODEL.onnx, or RUN_DIR NAME [--diff OTHER] [--json]"

# What `--no-nodes` leaves out of the JSON, in the form of pydantic's `exclude`: `__all__` stands
# for each entry of a list.
_CONTENT: dict[str, Any] = {"nodes": True, "functions": {"__all__": {"nodes"}}}
_PAIR: dict[str, Any] = {"nodes": True, "before": {"nodes"}, "after": {"nodes"}}
_NODES: dict[type, dict[str, Any]] = {
    Content: _CONTENT,
    difference.Difference: {
        "nodes": True,
        "functions": {"__all__": _PAIR},
        "before": _CONTENT,
        "after": _CONTENT,
    },
}


def main(argv: Sequence[str]) -> int:
    """Print one file, or two beside each other.

    Raises:
        ConfigError: a file is missing, damaged or not ONNX.
    """
    parser = Parser(prog="python -m converter inspect", description=SUMMARY)
    parser.add_argument("model", metavar="MODEL.onnx", type=Path, help="or a run directory")
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="of a run: the model, or NAME/ARTIFACT"
    )
    parser.add_argument(
        "--diff", metavar="OTHER", type=Path, help="what this file, or name, has (+) and not (-)"
    )
    parser.add_argument("--no-nodes", action="store_true", help="leave out the lists of nodes")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    paths = [arguments.model, *([arguments.diff] if arguments.diff else [])]
    if arguments.name is not None:
        # Of a run `--diff` is a name, of which argparse has made a path.
        names = [arguments.name, *(str(path) for path in paths[1:])]
        paths = [published("inspect", arguments.model, name) for name in names]
    contents = [_read(onnx_file("inspect", path), len(paths) > 1) for path in paths]
    nodes = not arguments.no_nodes
    shown = contents[0] if len(contents) == 1 else difference.compare(*contents)
    if arguments.json:
        record = shown.model_dump(mode="json", exclude=None if nodes else _NODES[type(shown)])
        print(readable_json(record))
    elif isinstance(shown, Content):
        print(text.render(shown, nodes))
    else:
        print(sidebyside.render(shown, nodes))
    return ExitCode.OK


def _read(path: Path, external: bool) -> Content:
    from converter.worker.onnxfile import (
        inspection,  # it imports onnx, which help need not wait for
    )

    try:
        return inspection.read(path, external)
    except StageError as error:
        raise usage("inspect", f"{error}.", "It must be an ONNX model.") from error
