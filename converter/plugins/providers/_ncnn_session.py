"""An ncnn model that runs in a process of its own, under the names of its ONNX file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from converter.model.errors import Code, StageError
from converter.model.records import TensorInfo
from converter.plugins.providers import _ncnn_server as server
from converter.plugins.providers._ncnn_files import Array, Binding, Tensor
from converter.plugins.runnable import Interface, Runnable

# As ONNX Runtime writes the types of tensors.
_TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)", "int32": "tensor(int32)"}
_MOST_IDS = 2**31
_TAIL_BYTES = 4096


class Session(Runnable):
    """A loaded model.

    ``run`` computes in another process, which a crash of ncnn ends alone. ``prepared`` computes in
    this one, so that what is timed is ncnn and nothing else; the other one has run the same inputs
    before.
    """

    provider = "ncnn"

    def __init__(self, told: Mapping[str, Any], binding: Binding, interface: Interface) -> None:
        """Load it.

        Args:
            told: what ``_ncnn_server.load`` takes.

        Raises:
            StageError: SESSION, where ncnn refuses the file or crashes over it.
        """
        self.active = [self.provider]
        self.inputs = [tensor.name for tensor in binding.inputs]
        self.outputs = [tensor.name for tensor in binding.outputs]
        tensors = (*binding.inputs, *binding.outputs)
        self.types = {tensor.name: _TYPES[tensor.dtype] for tensor in tensors}
        self._told = {
            **told,
            "inputs": [(tensor.blob, tensor.batch_axis) for tensor in binding.inputs],
            "outputs": [(tensor.blob, tensor.batch_axis) for tensor in binding.outputs],
        }
        self._binding = binding
        self._shapes = {value.name: value for value in interface.outputs}
        self._declared = {value.name: value.shape for value in interface.inputs}
        self._net: Any = None
        try:
            self._process = _Process(self._told)
        except RuntimeError as error:
            hint = "the log has what ncnn says of it; try `sizes: example`, or leave ncnn out"
            raise StageError(Code.SESSION, str(error), hint) from error

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs in the order of the interface.

        Raises:
            RuntimeError: ncnn refuses the inputs, fails, or crashes.
        """
        for name, declared in self._declared.items():
            _fits(name, feeds[name].shape, declared)
        found = self._process.ask([_held(feeds[t.name], t) for t in self._binding.inputs])
        return [
            _shaped(array, self._shapes[name])
            for name, array in zip(self.outputs, found, strict=True)
        ]

    def prepared(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """A run with the inputs in ncnn's memory already.

        Raises:
            RuntimeError: ncnn refuses the inputs, fails, or crashes.
        """
        self.run(feeds)
        if self._net is None:
            self._net = server.load(self._told)
        inputs = [
            (tensor.blob, server.blob(_held(feeds[tensor.name], tensor), tensor.batch_axis))
            for tensor in self._binding.inputs
        ]
        outputs = [tensor.blob for tensor in self._binding.outputs]
        return lambda: server.compute(self._net, inputs, outputs)

    def refuses(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """Why the file has no inputs of these shapes: it was made for those of the example."""
        wanted = self._binding.sizes
        if wanted is None or all(list(shapes[name]) == sizes for name, sizes in wanted.items()):
            return ""
        return "it was made for the sizes of the example alone (sizes: example)"


def _fits(name: str, shape: Sequence[int], declared: Sequence[int | str | None]) -> None:
    """Raise where ncnn would take an input's memory for a tensor of another shape.

    Raises:
        RuntimeError: the shape is not the one that the ONNX file declares.
    """
    if len(shape) != len(declared):
        raise RuntimeError(f"{name} has {len(shape)} axes, expected {len(declared)}")
    for axis, (size, wanted) in enumerate(zip(shape, declared, strict=True)):
        if isinstance(wanted, int) and size != wanted:
            raise RuntimeError(f"axis {axis} of {name} is {size}, expected {wanted}")


def _held(array: Array, tensor: Tensor) -> Array:
    """An input as ncnn takes it: ids are int32.

    Raises:
        RuntimeError: an id is too large.
    """
    if array.dtype != np.int64:
        return array
    if array.size and np.abs(array).max() >= _MOST_IDS:
        raise RuntimeError(f"{tensor.name}: ncnn takes int32, which {np.abs(array).max()} is not")
    return array.astype(np.int32)


def _shaped(array: Array, declared: TensorInfo) -> Array:
    """An output with the axes of the ONNX file: ncnn has none of size 1 in front, and no scalars.

    Where the numbers of elements differ it stays as it is, for the verdict to say so.
    """
    if array.ndim == len(declared.shape):
        return array
    sizes = [size if isinstance(size, int) else -1 for size in declared.shape]
    known = int(np.prod([size for size in sizes if size >= 0], dtype=np.int64))
    open_axes = sizes.count(-1)
    fits = array.size == known if not open_axes else known and array.size % known == 0
    return array.reshape(sizes) if fits and open_axes <= 1 else array


class _Process:
    """The process that computes."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        # A file: a pipe that nobody reads fills up and stops the process.
        with tempfile.TemporaryFile() as log:
            self._log = os.dup(log.fileno())
        # `-P`: else `import ncnn` finds the plugin beside the script.
        command = [sys.executable, "-P", str(Path(server.__file__))]
        self._popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._requests = cast(BinaryIO, self._popen.stdin)
        self._answers = cast(BinaryIO, self._popen.stdout)
        # Also where nobody closes it: a process must not outlive what asked for it.
        self._end = weakref.finalize(self, _end, self._popen, self._log)
        self.ask([], told)

    def ask(self, arrays: Sequence[Array], told: Mapping[str, Any] | None = None) -> list[Array]:
        """Its answer.

        Raises:
            RuntimeError: it refuses, or has ended.
        """
        try:
            server.send(self._requests, told or {}, arrays)
            answer, found = server.receive(self._answers)
        except (EOFError, OSError, ValueError) as error:
            raise RuntimeError(self._how_it_ended()) from error
        if "error" in answer:
            said = self._last_line()
            raise RuntimeError(f"{answer['error']}: {said}" if said else answer["error"])
        return found

    def _how_it_ended(self) -> str:
        code = self._popen.wait()
        said = self._last_line()
        # Python ignores SIGPIPE and has told what it was.
        how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"ncnn {how}: {said}" if said else f"ncnn {how}"

    def _last_line(self) -> str:
        size = os.fstat(self._log).st_size
        text = os.pread(self._log, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # Of two lines of ncnn the first tells: "layer … not exists", "network graph not ready".
        told = [line for line in lines if not line.startswith("network graph not ready")]
        return told[-1] if told else ""


def _end(process: subprocess.Popen[bytes], log: int) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                pass  # what was not sent is for nobody any more
    os.close(log)
