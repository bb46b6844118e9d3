"""``python -m converter view MODEL.onnx``: the graph in Netron, in the browser of this machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.cli.commands._arguments import onnx_file, usage
from converter.model.errors import ExitCode, StageError

SUMMARY = "open an ONNX file in Netron: MODEL.onnx [--port N] [--no-browser]"


def main(argv: Sequence[str]) -> int:
    """Serve a file on this machine until Ctrl-C.

    Raises:
        ConfigError: there is no such file, it is not ONNX, netron is not installed, or the port
            is taken.
    """
    parser = Parser(prog="python -m converter view", description=SUMMARY)
    parser.add_argument("model", metavar="MODEL.onnx", type=Path)
    parser.add_argument("--port", type=int, help="default: one that is free")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    arguments = parser.parse_args(argv)
    model = onnx_file("view", arguments.model)
    _read(model)
    try:
        import netron
    except ImportError as error:
        hint = "Install it: python -m pip install netron (the extra `view` has it)."
        raise usage("view", "the package netron is not installed.", hint) from error
    logging.getLogger("netron").setLevel(logging.WARNING)  # the address is printed below
    try:
        host, port = netron.start(
            str(model), ("localhost", arguments.port), browse=not arguments.no_browser
        )
    # Python's sockets raise OverflowError for a port above 65535.
    except (OSError, OverflowError) as error:
        message = f"port {arguments.port} cannot be used: {str(error).rstrip('.')}."
        raise usage("view", message, "Name another, or none.") from error
    # Flushed: the process waits from here on, and a pipe would hold the line back.
    print(f"http://{host}:{port}/ shows {model}; Ctrl-C ends it.", flush=True)
    netron.wait()  # returns at Ctrl-C
    return ExitCode.OK


def _read(path: Path) -> None:
    """Raise where the file is no ONNX model: Netron would open it, and show an empty page."""
    from converter.worker.onnxfile import structure  # it imports onnx, which help need not wait for

    try:
        structure.read(path)
    except StageError as error:
        raise usage("view", f"{error}.", "It must be an ONNX model.") from error
