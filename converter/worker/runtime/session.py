"""Run ONNX Runtime sessions."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto

from converter.plugins import providers
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import REDUCED
from converter.worker.runtime import custom_ops, starting

# As ONNX Runtime writes the types that NumPy does not know, with our name of each.
_NARROW = {
    "tensor(bfloat16)": "bfloat16",
    "tensor(float8e4m3fn)": "float8_e4m3fn",
    "tensor(float8e5m2)": "float8_e5m2",
}
_ELEMENTS = {
    "bfloat16": TensorProto.BFLOAT16,
    "float8_e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8_e5m2": TensorProto.FLOAT8E5M2,
}
_REDUCED = {kind.typed: kind for kind in REDUCED.values()}
_FATAL_ONLY = 4  # errors are raised: in the log they would stand twice


class Session:
    """A model loaded by one execution provider.

    Attributes:
        provider: the provider that is active, as ONNX Runtime calls it.
        active: all providers of the session; those after the first take what it leaves.
        inputs: names to feed, in graph order.
        outputs: names, in graph order.
        types: of inputs and outputs, as ONNX Runtime writes them: ``tensor(float16)``.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        provider: str | None = None,
        optimise: bool = True,
        arena: bool = True,
        threads: int = 1,
        spins: bool = False,
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: a file, or a serialised model without external data.
            provider: name of a module of ``converter.plugins.providers``; ``None``: the one that
                files are verified on.
            optimise: all graph optimisations, or none.
            arena: keep memory from one operator to the next; without, each gives it back.
            threads: intra-op threads.
            spins: they look for work without a break, as they do for users: that is fastest, and
                takes the cores from whatever else runs.
            provider_options: by the name of a provider what its ``Options`` are made of.

        Raises:
            StageError: EP_UNAVAILABLE, when the provider is not in this build or does not start;
                SESSION, when ONNX Runtime refuses the model.
        """
        options = _options(optimise=optimise, arena=arena, threads=threads, spins=spins)
        custom_ops.register(options)
        provider = provider or providers.standard()
        content = str(model) if isinstance(model, Path) else model
        self._session = starting.start(content, provider, options, provider_options or {})
        self._device = providers.load(provider).DEVICE
        self.active = list(self._session.get_providers())
        # As ONNX Runtime says it, not as it was asked.
        self.provider = self.active[0]
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.inputs = [value.name for value in inputs]
        self.outputs = [value.name for value in outputs]
        self.types = {value.name: value.type for value in (*inputs, *outputs)}
        self._narrow_outputs = any(self.types[name] in _NARROW for name in self.outputs)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs in graph order; raises one of ``RuntimeErrors``."""
        values = {name: _fed(array) for name, array in feeds.items()}
        if not self._narrow_outputs:
            return [np.asarray(output) for output in self._session.run(None, values)]
        held = {name: _value(array) for name, array in feeds.items()}
        return [_array(value) for value in self._session.run_with_ort_values(None, held)]

    def typed(self, feeds: Mapping[str, Array], cast: bool) -> dict[str, Array]:
        """Inputs as the file takes them: float32 in 16 bits where it was made so (``cast``)."""
        return {
            name: array.astype(_REDUCED[self.types[name]].dtype)
            if cast and array.dtype == np.float32 and self.types.get(name) in _REDUCED
            else array
            for name, array in feeds.items()
        }

    def declared(self) -> dict[str, list[int | str | None]]:
        """Nothing: what an ONNX file declares is read from the file."""
        return {}

    def refuses(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """Nothing: ONNX has all shapes."""
        return ""

    def nodes_per_provider(self) -> dict[str, int]:
        """How many nodes each provider was given, before it fuses them."""
        assigned = self._session.get_provider_graph_assignment_info()
        counts = Counter[str]()
        for part in assigned:
            counts[part.ep_name] += len(part.get_nodes())
        return dict(counts)

    @property
    def binds(self) -> bool:
        """Whether ``prepared`` leaves inputs and outputs on a device of their own."""
        return self._device != "cpu"

    def prepared(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """A run with nothing left to do but to run; on a device, inputs and outputs stay there."""
        # Looked up once: what is timed is the call and nothing else.
        run, outputs = self._session.run, self.outputs
        if not self.binds and self._narrow_outputs:
            held = {name: _value(array) for name, array in feeds.items()}
            return lambda: self._session.run_with_ort_values(outputs, held)
        values = {name: _fed(array) for name, array in feeds.items()}
        if not self.binds:
            return lambda: run(outputs, values)
        binding = self._session.io_binding()
        for name, array in feeds.items():
            # Copied to the device once, and not part of the figure.
            value = _on_device(array, self._device)
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            # Without a shape: ONNX Runtime allocates what it computes.
            binding.bind_output(name, self._device)
        bound = self._session.run_with_iobinding

        def call() -> None:
            bound(binding)
            # A device works on after the call has returned.
            binding.synchronize_outputs()

        return call


def _options(*, optimise: bool, arena: bool, threads: int, spins: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Stated, since ONNX Runtime would take all cores, where its idle threads spin.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not spins:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY
    # Else `nodes_per_provider` has nothing to read.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    return options


def _fed(array: Array) -> Any:
    """What a session is fed: bfloat16 and float8 by their bits, NumPy's own types as they are."""
    return _value(array) if dtypes.is_narrow(array) else array


def _value(array: Array) -> ort.OrtValue:
    if not dtypes.is_narrow(array):
        return ort.OrtValue.ortvalue_from_numpy(array)
    # It reads the memory of the array, and a view of it keeps that alive.
    whole = np.ascontiguousarray(dtypes.bits(array))
    element = _ELEMENTS[array.dtype.name]
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(whole.reshape(array.shape), element)


def _on_device(array: Array, device: str) -> ort.OrtValue:
    # By bits only values of the processor can be made (1.31); each call copies them.
    narrow = dtypes.is_narrow(array)
    return _value(array) if narrow else ort.OrtValue.ortvalue_from_numpy(array, device, 0)


def _array(value: ort.OrtValue) -> Array:
    """An output; ONNX Runtime makes no array of bfloat16 or float8 (1.31)."""
    name = _NARROW.get(value.data_type())
    if name is None:
        return np.asarray(value.numpy())
    shape, (_, whole) = value.shape(), dtypes.NARROW[name]
    size = int(np.prod(shape)) * whole.itemsize
    held = ctypes.string_at(value.data_ptr(), size) if size else b""
    return dtypes.of_bits(np.frombuffer(held, whole).reshape(shape).copy(), name)
