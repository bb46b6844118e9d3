"""Compiling files with OpenVINO, and running them.

What it does in silence (2026.4), and what stands against it here: importing the package sends usage
statistics; a processor with bfloat16 computes float32 files in it; a precision that the device does
not have becomes another one; all cores are taken and pinned; ``infer(feeds)`` takes a tensor of a
wrong shape or leaves out one that is missing, and computes on an empty one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from converter.model.errors import Code, StageError
from converter.model.records import TensorInfo
from converter.plugins.runnable import Interface, Runnable

Array = NDArray[Any]

NAME = "OpenVINO"
# As OpenVINO names the types of elements → as ONNX Runtime writes them.
_TYPES = {
    "f32": "float", "f64": "double", "f16": "float16", "bf16": "bfloat16", "i8": "int8",
    "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16",
    "u32": "uint32", "u64": "uint64", "boolean": "bool", "string": "string",
    "f8e4m3": "float8e4m3fn", "f8e5m2": "float8e5m2",
}  # fmt: skip
# What NumPy does not know crosses as the whole numbers that have its bits.
_NARROW: dict[str, tuple[Any, Any]] = {
    "bf16": (np.dtype(ml_dtypes.bfloat16), np.dtype(np.uint16)),
    "f8e4m3": (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(np.uint8)),
    "f8e5m2": (np.dtype(ml_dtypes.float8_e5m2), np.dtype(np.uint8)),
}
_WORDS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
_HALVES = frozenset({"bf16", "f16"})
# Layers of a compiled graph that multiply; what moves compressed weights is in their precision.
_MULTIPLYING = frozenset({
    "Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNCell", "RNNSeq",
    "ScaledDotProductAttention",
})  # fmt: skip
_USAGE = "openvino_telemetry"


def package() -> Any:
    """The package ``openvino``.

    Raises:
        ImportError: it is not installed, or broken.
    """
    with _no_usage_statistics():
        return importlib.import_module("openvino")


@cache
def core() -> Any:
    """The one of this process: each that is used for a CPU sets the stack of signal handlers.

    At its end it gives that memory back, and the stack that was before it is in use again: of two
    that end in the order in which they came, the second leaves one that is gone, and the next
    signal ends the process with SIGSEGV (2026.4). One that never ends cannot.

    Raises:
        ImportError: as ``package``.
    """
    return package().Core()


@contextmanager
def _no_usage_statistics() -> Iterator[None]:
    """Within it OpenVINO finds no package to send them with, and uses its own stub (2026.4)."""
    if "openvino" in sys.modules:
        yield
        return
    missing = object()
    before = sys.modules.get(_USAGE, missing)
    # An entry that is None makes an import of that name fail, as if nothing were installed.
    sys.modules[_USAGE] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[_USAGE]
        else:
            sys.modules[_USAGE] = before  # type: ignore[assignment]


def opened(file: Path, threads: int, device: str, precision: str, interface: Interface) -> Compiled:
    """A file that is compiled for one device, in one precision, and is what it should be.

    Raises:
        StageError: as ``open`` of the provider.
    """
    model = read(file)
    _held(model, interface)
    try:
        compiled = core().compile_model(model, device, _configuration(device, threads, precision))
    except RuntimeError as error:
        # Looking for devices loads the libraries of all: only where something is wrong.
        _present(device)
        raise _refused(error) from error
    _as_asked(compiled, model, device, precision)
    # Cases and figures in another precision than the usual one say so.
    where = device if precision == "f32" else f"{device} {precision}"
    return Compiled(compiled, f"{NAME} {where}", interface)


def read(file: Path) -> Any:
    """The model of a file, as OpenVINO reads it.

    Raises:
        StageError: SESSION.
    """
    weights = file.with_suffix(".bin")
    # Its own message for that names neither.
    if file.suffix == ".xml" and not weights.is_file():
        raise StageError(
            Code.SESSION,
            f"{weights.name} is missing: the weights of {file.name}",
            "an OpenVINO IR is two files; keep them together, under one name",
        )
    try:
        return core().read_model(str(file))
    except RuntimeError as error:
        raise _refused(error) from error


def _refused(error: RuntimeError) -> StageError:
    why = reason(str(error))
    return StageError(Code.SESSION, f"OpenVINO cannot load the file: {why}", _hint(why))


def _hint(why: str) -> str:
    if "No conversion rule found" in why:
        return "OpenVINO does not have that operator: express it otherwise in forward, or leave out"
    return "the log has all that it says; ONNX Runtime loads the ONNX file"


def reason(text: str) -> str:
    """One line of what OpenVINO says: without its C++ sources, conditions and headings."""
    lines = [line.strip() for line in text.splitlines()]
    headings = ("Exception from ", "Check '", "FrontEnd API failed", "Model wasn't", "Summary:")
    said = [line.removeprefix("-- ") for line in lines if line and not line.startswith(headings)]
    # What follows are addresses of documentation.
    return " ".join(said[:2])[:500] or " ".join(lines)[:500] or "no reason given"


def _present(device: str) -> None:
    # `HETERO:GPU,CPU` and `GPU.1` are of a device, too.
    found = list(core().available_devices)
    if device.split(".")[0].split(":")[0] not in {name.split(".")[0] for name in found}:
        raise StageError(
            Code.EP_UNAVAILABLE,
            f"OpenVINO has no device {device} here; available: {', '.join(found)}",
            "install the driver of the device, or state one that is available (options: device)",
        )


def _configuration(device: str, threads: int, precision: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
    if device.split(".")[0] != "CPU":
        return asked
    # One request at a time, on cores that others need, too.
    asked |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    if precision == "f32":
        # Else activations of compressed weights are quantised, and attention caches held in uint8.
        asked |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "KV_CACHE_PRECISION": "f32"}
    return asked


def _as_asked(compiled: Any, model: Any, device: str, precision: str) -> None:
    """Raise unless it is compiled for the device and the precision that were asked for."""
    devices = [str(name) for name in compiled.get_property("EXECUTION_DEVICES")]
    if [name.split(".")[0] for name in devices] != [device.split(".")[0]]:
        raise StageError(
            Code.EP_UNAVAILABLE,
            f"OpenVINO computes the file on {', '.join(devices)}, not on {device}",
            f"state the one device (options: device: {devices[0]})",
        )
    found = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    if found == precision:
        found = _computed_in(compiled, model, precision)
    if found != precision:
        wanted = _WORDS[precision]
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"OpenVINO computes in {_WORDS.get(found, found)} on this device ({device}); "
            f"{wanted} was requested",
            f"{device} has no {wanted} arithmetic for this file: state another precision "
            "(options: precision), or another device",
        )


def _computed_in(compiled: Any, model: Any, precision: str) -> str:
    """The precision of the layers that multiply, whatever the property says.

    One layer in half precision is enough to make float32 wrong, unless the file itself has it so;
    of half precision one layer must be there, where any layer multiplies floats.
    """
    # The precision that a layer tells itself (`runtimePrecision`) is that of compressed weights,
    # which are widened before they are multiplied; activations are its first input.
    found = {
        str(layer.input(0).get_element_type().get_type_name())
        for layer in compiled.get_runtime_model().get_ops()
        if layer.get_rt_info()["layerType"].astype(str) in _MULTIPLYING
    }
    if precision == "f32":
        return min(found & _HALVES - _halves_of(model), default=precision)
    floats = found & {"f32", *_HALVES}
    return precision if precision in floats or not floats else "f32"


def _halves_of(model: Any) -> set[str]:
    """In which half precisions the operators of a file compute by themselves."""
    # Weights that are held so are converted before they are used.
    computing = (op for op in model.get_ops() if op.get_type_name() not in ("Constant", "Convert"))
    types = {
        str(port.get_element_type().get_type_name()) for op in computing for port in op.outputs()
    }
    return types & _HALVES


def _held(model: Any, interface: Interface) -> None:
    """Raise unless the model has that interface: names, dtypes and, of inputs, open axes.

    What an output's axes are, its numbers show.
    """
    inputs, outputs = _by_name(model.inputs), _by_name(model.outputs)
    for told in interface.inputs:
        if told.name not in inputs:
            raise StageError(
                Code.INPUT_DROPPED,
                f"OpenVINO has no input '{told.name}' of this file; it has: {_listed(inputs)}",
                "it leaves out inputs that nothing uses: use it in forward, or do not declare it",
            )
        _same_type(told, inputs[told.name], "input")
        _same_axes(told, _shape(inputs[told.name]))
    for told in interface.outputs:
        if told.name not in outputs:
            raise StageError(
                Code.OUTPUT_STRUCTURE,
                f"OpenVINO has no output '{told.name}' of this file; it has: {_listed(outputs)}",
            )
        _same_type(told, outputs[told.name], "output")


def _by_name(ports: Sequence[Any]) -> dict[str, Any]:
    # Of several names one tensor may have all.
    return {str(name): port for port in ports for name in port.names}


def _listed(ports: Mapping[str, Any]) -> str:
    return ", ".join(ports) or "none"


def _type(port: Any) -> str:
    name = str(port.element_type.get_type_name())
    return _TYPES.get(name, name)


def _same_type(told: TensorInfo, port: Any, kind: str) -> None:
    if told.dtype == "string":
        # 2026.4 frees the strings of `Identity` twice, and has no other operator on them.
        raise StageError(
            Code.SESSION,
            f"{kind} '{told.name}' holds strings, with which OpenVINO ends the process",
            "look strings up before the model: give it their numbers",
        )
    written = {"float32": "float", "float64": "double"}
    names = {name: name.replace("_", "") for name in ("float8_e4m3fn", "float8_e5m2")}
    wanted = (written | names).get(told.dtype, told.dtype)
    if _type(port) != wanted:
        raise StageError(
            Code.SESSION,
            f"{kind} '{told.name}' is {_type(port)} in OpenVINO, and {told.dtype} in the ONNX file",
            "the types of inputs and outputs are part of a file: it must keep them",
        )


def _shape(port: Any) -> list[int | str | None]:
    # Open axes have no names here.
    return [dim.get_length() if dim.is_static else None for dim in port.partial_shape]


def _same_axes(told: TensorInfo, found: Sequence[int | str | None]) -> None:
    frozen = [
        axis
        for axis, (wanted, got) in enumerate(zip(told.shape, found, strict=False))
        if got is not None and got != wanted
    ]
    if len(told.shape) == len(found) and not frozen:
        return
    raise StageError(
        Code.DIM_SPECIALISED,
        f"input '{told.name}' is {_written(found)} in OpenVINO, and {_written(told.shape)} in the "
        "ONNX file",
        "an axis that is open in the ONNX file must stay open",
    )


def _written(shape: Sequence[int | str | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


class Compiled(Runnable):
    """A compiled file.

    Args:
        provider: what it is called in cases and figures.
    """

    def __init__(self, compiled: Any, provider: str, interface: Interface) -> None:
        self._openvino = package()
        self._compiled = compiled
        # Runs that are prepared have requests of their own: a request has one set of inputs.
        self._request = compiled.create_infer_request()
        self._inputs, self._outputs = _by_name(compiled.inputs), _by_name(compiled.outputs)
        self.provider = provider
        self.active = [self.provider]
        self.inputs = [told.name for told in interface.inputs]
        self.outputs = [told.name for told in interface.outputs]
        ports = {**self._inputs, **self._outputs}
        self.types = {name: f"tensor({_type(ports[name])})" for name in self.inputs + self.outputs}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs in the order of the ONNX file.

        Raises:
            RuntimeError: an input is missing, unknown or does not fit, or OpenVINO fails.
        """
        lent = self._set(self._request, feeds)
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise RuntimeError(reason(str(error))) from error
        del lent  # the memory of the inputs
        return [self._array(name) for name in self.outputs]

    def prepared(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """A run with nothing left to do but to run: outputs stay where OpenVINO has them.

        Raises:
            RuntimeError: as ``run``, but for what a run alone shows.
        """
        request = self._compiled.create_infer_request()
        lent = self._set(request, feeds)
        infer = request.infer

        def call(_lent: object = lent) -> None:
            infer(share_outputs=True)

        return call

    def declared(self) -> dict[str, list[int | str | None]]:
        """The shapes of inputs; an open axis is ``None``, since OpenVINO does not name it."""
        return {name: _shape(self._inputs[name]) for name in self.inputs}

    def _set(self, request: Any, feeds: Mapping[str, Array]) -> list[Any]:
        """Give a request its inputs; what is returned must be kept until it has run."""
        # What is not set is taken to be empty, without a word.
        if missing := [name for name in self.inputs if name not in feeds]:
            raise RuntimeError(f"input '{missing[0]}' is not fed")
        lent = []
        for name, array in feeds.items():
            if name not in self._inputs:
                raise RuntimeError(f"there is no input '{name}', but {_listed(self._inputs)}")
            try:
                lent.append(self._tensor(array))
                request.set_tensor(self._inputs[name], lent[-1])
            except RuntimeError as error:
                raise RuntimeError(f"input '{name}': {reason(str(error))}") from error
        return lent

    def _tensor(self, array: Array) -> Any:
        """The array as OpenVINO takes it; it lends its memory."""
        # A copy has one axis where the array has none.
        whole = np.ascontiguousarray(array).reshape(array.shape)
        for name, (dtype, bits) in _NARROW.items():
            if whole.dtype == dtype:
                kind = getattr(self._openvino.Type, name)
                return self._openvino.Tensor(whole.view(bits), list(whole.shape), kind)
        return self._openvino.Tensor(whole, shared_memory=True)

    def _array(self, name: str) -> Array:
        """A copy of an output: the next run writes into the same memory."""
        tensor = self._request.get_tensor(self._outputs[name])
        kind = str(tensor.element_type.get_type_name())
        array = np.array(tensor.data)
        if kind in _NARROW:
            # OpenVINO calls bfloat16 float16 here.
            dtype, bits = _NARROW[kind]
            return np.array(array.view(bits).view(dtype))
        return array
