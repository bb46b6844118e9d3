"""LiteRT, once TensorFlow Lite (package ``ai-edge-litert``), in a Python of its own.

Its converter onnx2tf pins other versions of NumPy, onnx and ONNX Runtime than the ones here, so
that it needs an environment of its own: ``python`` names it. What crosses is files.
"""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.model.base import Frozen
from converter.model.errors import Code, StageError
from converter.model.records import CheckRecord
from converter.plugins.runnable import Interface, Runnable

if TYPE_CHECKING:
    # Of the plugins the parent process imports the modules, and never numpy.
    from numpy.typing import NDArray

NAME = "LiteRT"
FORMATS = ("litert",)
# In the other Python: `versions` tells them.
PACKAGES = ("ai-edge-litert", "onnx2tf")
DEVICE = "cpu"
FALLBACKS: tuple[str, ...] = ()
INSTALL = (
    "make an environment of Python 3.12 or later, install onnx2tf there (2.6 or later; it brings "
    "ai-edge-litert and no TensorFlow), and name its Python: benchmark.options.litert.python=PATH"
)
LOAD_HINT = INSTALL
LAYOUT = ".layout.json"

_SCRIPT = Path(__file__).with_name("_litert_process.py")
_PROBE_S = 60.0
_PROBE = (
    "import importlib.metadata as m, json, sys\n"
    "found = {}\n"
    "for name in sys.argv[1:]:\n"
    "    try: found[name] = m.version(name)\n"
    "    except m.PackageNotFoundError: pass\n"
    "print(json.dumps(found))"
)
# Numbers of its types.
_FLOAT32, _FLOAT16 = 0, 1
_LEAST = 0.5
# As ONNX Runtime writes them.
_TYPES = {"float32": "float", "float64": "double", "bool_": "bool", "bool": "bool"}


class Options(Frozen):
    """Where LiteRT is installed.

    Attributes:
        python: the Python that has ai-edge-litert and onnx2tf; empty: this one. Example:
            ``/opt/litert/bin/python``.
    """

    python: str = ""


def prepare() -> None:
    """Nothing: its process is started for each file."""


def available() -> str:
    """Why this Python has it not."""
    return missing({"python": ""})


def missing(options: Mapping[str, str]) -> str:
    """Why the Python that the options name has it not."""
    python = options["python"] or sys.executable
    found = _installed(python)
    if found is None:
        return f"LiteRT is not available: {python} is no Python that starts"
    absent = [name for name in PACKAGES if name not in found]
    return f"LiteRT is not installed: {python} has no {' and no '.join(absent)}" if absent else ""


def decided_by(options: Mapping[str, str]) -> dict[str, str]:
    """What decides a file beside the packages here, for the key of its job."""
    return dict(_installed(options["python"] or sys.executable) or {})


def versions(options: Mapping[str, str]) -> str:
    """What runs its files, with its version."""
    found = _installed(options["python"] or sys.executable) or {}
    name = PACKAGES[0]
    return f"{name} {found[name]}" if name in found else ""


@cache
def _installed(python: str) -> dict[str, str] | None:
    """The versions of its packages in a Python; ``None``: it does not start."""
    command = [python, "-c", _PROBE, *PACKAGES, "numpy", "onnx"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_PROBE_S, check=True, env=_environment()
        )
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return found


def convert(request: Mapping[str, Any], python: str, folder: Path) -> dict[str, Any]:
    """Have the other Python convert a file; what it tells.

    Raises:
        ValueError: it does not convert; a sentence that says why.
    """
    asked = folder / "request.json"
    asked.write_text(json.dumps(dict(request)))
    command = [python or sys.executable, str(_SCRIPT), "convert", str(asked)]
    # Its messages belong to the log; the limits of the job count its processes.
    done = subprocess.run(
        command, stdout=subprocess.PIPE, cwd=folder, env=_environment(), check=False
    )
    try:
        told: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    except (ValueError, IndexError):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise ValueError(f"onnx2tf ended with {how}; the log has what it said") from None
    if "error" in told:
        raise ValueError(f"onnx2tf: {told['error']}")
    return told


def _environment() -> dict[str, str]:
    # What is on the path of this Python must not be found by the other.
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def open(  # noqa: A001 - the name that the contract of runtimes has
    file: Path, *, threads: int, options: Mapping[str, str], interface: Interface
) -> Runnable:
    """A file in a process of its own.

    Raises:
        StageError: SESSION, where LiteRT refuses it, or it has other inputs and outputs than
            ``interface``.
    """
    process = _Process(file, options["python"] or sys.executable, threads)
    if "error" in process.told:
        raise StageError(
            Code.SESSION,
            f"LiteRT cannot load the file: {process.told['error']}",
            "the log has what it said",
        )
    for kind, tensors in (("inputs", interface.inputs), ("outputs", interface.outputs)):
        asked, found = {tensor.name for tensor in tensors}, set(process.told[kind])
        if asked != found:
            names = f"{', '.join(sorted(found))}, and not {', '.join(sorted(asked))}"
            raise StageError(Code.SESSION, f"{file.name} has the {kind} {names}")
    return _File(process, _orders(file), interface)


def _orders(file: Path) -> dict[str, list[int]]:
    layout = file.with_suffix(LAYOUT)
    if not layout.is_file():
        return {}
    found: dict[str, list[int]] = json.loads(layout.read_text())["transpose_to_onnx"]
    return found


def check(file: Path, parent: Path, precision: str) -> CheckRecord:
    """Whether it holds floats of its precision.

    Raises:
        StageError: CHECKER, where LiteRT does not load it; PRECISION_NOT_REACHED.
    """
    try:
        held = weights(file.read_bytes())
    except (struct.error, ValueError) as error:
        raise StageError(Code.CHECKER, f"{file.name} is no file of LiteRT: {error}") from error
    floats = sum(held.get(kind, 0) for kind in (_FLOAT32, _FLOAT16))
    share = held.get(_FLOAT16 if precision == "float16" else _FLOAT32, 0) / floats if floats else 1
    if share < _LEAST:
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"only {share:.0%} of the elements of float weights are {precision}",
            "report it to onnx2tf with the model, and leave this variant out",
        )
    return CheckRecord(status="passed", precision_weights=round(share, 4))


def weights(content: bytes) -> dict[int, int]:
    """How many elements of each type the constants of a file have.

    The fields and numbers of types are those of TensorFlow's ``tensorflow/lite/schema/schema.fbs``,
    version 3; how a table is read, those of FlatBuffers.

    Raises:
        ValueError, struct.error: it is no such file, or ends too early.
    """
    if content[4:8] != b"TFL3":
        raise ValueError("it has no TFL3 in its first eight bytes")
    (root,) = struct.unpack_from("<I", content)
    buffers = _vector(content, _field(content, root, 4))
    found: dict[int, int] = {}
    for graph in _vector(content, _field(content, root, 2)):
        for tensor in _vector(content, _field(content, graph, 0)):
            place, kind = _field(content, tensor, 2), _field(content, tensor, 1)
            (index,) = struct.unpack_from("<I", content, place) if place else (0,)
            # Buffer 0 stands for none. A large file has the data behind, at an offset.
            data = buffers[index]
            if not index or not any(_field(content, data, i) for i in (0, 1)):
                continue
            (number,) = struct.unpack_from("<b", content, kind) if kind else (0,)
            found[number] = found.get(number, 0) + _elements(content, _field(content, tensor, 0))
    return found


def _field(content: bytes, table: int, index: int) -> int:
    """Where a field of a table is; 0: it is not stated."""
    (back,) = struct.unpack_from("<i", content, table)
    (size,) = struct.unpack_from("<H", content, table - back)
    if 4 + 2 * index >= size:
        return 0
    (offset,) = struct.unpack_from("<H", content, table - back + 4 + 2 * index)
    return table + int(offset) if offset else 0


def _vector(content: bytes, place: int) -> list[int]:
    """Where the tables of a vector are."""
    if not place:
        return []
    start = place + struct.unpack_from("<I", content, place)[0]
    (count,) = struct.unpack_from("<I", content, start)
    if start + 4 * count > len(content):
        raise ValueError("it ends too early")
    places = range(start + 4, start + 4 + 4 * count, 4)
    return [at + struct.unpack_from("<I", content, at)[0] for at in places]


def _elements(content: bytes, place: int) -> int:
    """The product of a shape."""
    if not place:
        return 1
    start = place + struct.unpack_from("<I", content, place)[0]
    (rank,) = struct.unpack_from("<I", content, start)
    return math.prod(struct.unpack_from(f"<{rank}i", content, start + 4))


class _Process:
    """The other Python with a file loaded; it ends with its standard input."""

    def __init__(self, file: Path, python: str, threads: int) -> None:
        self._child = subprocess.Popen(
            [python, str(_SCRIPT), "serve", str(file), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(),
        )  # fmt: skip
        self.told = self._answer()

    def ask(self, command: Mapping[str, Any]) -> None:
        """Have a command done.

        Raises:
            RuntimeError: it was not.
        """
        assert self._child.stdin is not None, "it was asked for"
        try:
            self._child.stdin.write(json.dumps(command) + "\n")
            self._child.stdin.flush()
        except OSError as error:
            raise RuntimeError(f"LiteRT's process has ended: {error}") from error
        told = self._answer()
        if "error" in told:
            raise RuntimeError(f"LiteRT: {told['error']}")

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None, "it was asked for"
        line = self._child.stdout.readline()
        if not line:
            code = self._child.wait()
            how = f"signal {-code}" if code < 0 else f"code {code}"
            return {"error": f"its process ended with {how}; the log has what it said"}
        found: dict[str, Any] = json.loads(line)
        return found

    def __del__(self) -> None:
        if self._child.stdin is not None:
            self._child.stdin.close()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


class _File(Runnable):
    """What a process of LiteRT runs."""

    def __init__(
        self, process: _Process, orders: Mapping[str, list[int]], interface: Interface
    ) -> None:
        self._process, self._orders = process, orders
        self._folder = tempfile.TemporaryDirectory(prefix="litert-")
        self.provider = f"{NAME} CPU"
        self.active = [self.provider]
        self.inputs = [tensor.name for tensor in interface.inputs]
        self.outputs = [tensor.name for tensor in interface.outputs]
        told = {**process.told["inputs"], **process.told["outputs"]}
        kinds = {name: told[name]["dtype"] for name in (*self.inputs, *self.outputs)}
        self.types = {name: f"tensor({_TYPES.get(kind, kind)})" for name, kind in kinds.items()}

    def declared(self) -> dict[str, list[int | str | None]]:
        shapes = {name: self._process.told["inputs"][name]["shape"] for name in self.inputs}
        return {
            name: [None if size < 0 else size for size in shape] for name, shape in shapes.items()
        }

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        import numpy

        outputs = {name: self._path(f"out{i}") for i, name in enumerate(self.outputs)}
        self._process.ask({"inputs": self._written(feeds), "outputs": outputs})
        found = [numpy.load(outputs[name], allow_pickle=False) for name in self.outputs]
        return [
            array.transpose(self._orders[name]) if name in self._orders else array
            for name, array in zip(self.outputs, found, strict=True)
        ]

    def prepared(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """A run of the inputs that are placed now; each call crosses a pipe, and no file."""
        self._process.ask({"inputs": self._written(feeds)})
        return lambda: self._process.ask({})

    def _written(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        import numpy

        paths = {}
        for i, name in enumerate(self.inputs):
            if name not in feeds:
                raise RuntimeError(f"the input {name} is missing")
            paths[name] = self._path(f"in{i}")
            numpy.save(paths[name], feeds[name], allow_pickle=False)
        return paths

    def _path(self, name: str) -> str:
        return str(Path(self._folder.name) / f"{name}.npy")
