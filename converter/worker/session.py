"""Open and run ONNX Runtime sessions, without its silent fallbacks."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from converter import providers
from converter.errors import Code, StageError
from converter.providers import Provider
from converter.worker.inputs import Array

# ONNX Runtime's exceptions have no common base of their own.
RuntimeErrors = (
    state.EPFail, state.EngineError, state.Fail, state.InvalidArgument, state.InvalidGraph,
    state.InvalidProtobuf, state.ModelRequiresCompilation, state.NoModel, state.NoSuchFile,
    state.NotImplemented, state.RuntimeException, RuntimeError,
)  # fmt: skip
_ERRORS_ONLY = 3


class Session:
    """A model loaded by one execution provider.

    Attributes:
        provider: the provider that is active, as ONNX Runtime calls it.
        active: all providers of the session; those after the first take what it leaves.
        inputs: names to feed, in graph order.
        outputs: names, in graph order.
    """

    def __init__(
        self, model: Path | bytes, *, provider: str = "cpu", optimise: bool = True, threads: int = 1
    ) -> None:
        """Load a model.

        Args:
            model: a file, or a serialised model without external data.
            provider: name of a module of ``converter.providers``.
            optimise: all graph optimisations, or none.
            threads: intra-op threads.

        Raises:
            StageError: EP_UNAVAILABLE, when the provider is not in this build or did not
                become active; SESSION, when ONNX Runtime refuses the model.
        """
        plugin = require(provider)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(
                str(model) if isinstance(model, Path) else model,
                options,
                providers=[(plugin.NAME, plugin.OPTIONS)],
            )
        except RuntimeErrors as error:
            raise StageError(
                Code.SESSION, f"ONNX Runtime cannot load the file: {first_line(error)}"
            ) from error
        self._device = plugin.DEVICE
        self.active = list(self._session.get_providers())
        self.provider = self.active[0]
        if self.provider != plugin.NAME:
            missing = _missing_library(provider)
            raise StageError(
                Code.EP_UNAVAILABLE,
                f"{plugin.NAME} was asked for, ONNX Runtime fell back to {self.provider}"
                + (f": {missing}" if missing else ""),
                plugin.INSTALL,
            )
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs in graph order; raises one of ``RuntimeErrors``."""
        return [np.asarray(output) for output in self._session.run(None, dict(feeds))]

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
        run, outputs, values = self._session.run, self.outputs, dict(feeds)
        if not self.binds:
            return lambda: run(outputs, values)
        binding = self._session.io_binding()
        for name, array in values.items():
            value = ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, self._device)
        bound = self._session.run_with_iobinding

        def call() -> None:
            bound(binding)
            binding.synchronize_outputs()

        return call


def require(provider: str) -> Provider:
    """The provider's module.

    Raises:
        StageError: EP_UNAVAILABLE, when this build of ONNX Runtime does not have it.
    """
    plugin = providers.load(provider)
    if plugin.NAME not in ort.get_available_providers():
        available = ", ".join(ort.get_available_providers())
        raise StageError(
            Code.EP_UNAVAILABLE,
            f"{plugin.NAME} is not available; available: {available}",
            plugin.INSTALL,
        )
    return plugin


def _missing_library(provider: str) -> str:
    """What keeps a provider of this build from loading, in the words of the dynamic loader.

    ONNX Runtime says it in its log only. Empty when its library loads, or when it is not there.
    """
    folder = Path(ort.__file__).parent / "capi"
    library = folder / f"libonnxruntime_providers_{provider}.so"
    if not library.is_file():
        return ""
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return ""


def first_line(error: BaseException) -> str:
    """The first line of a message, without ONNX Runtime's prefix of codes."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    if line.startswith("[ONNXRuntimeError]"):
        line = line.split(" : ", 3)[-1]
    return line[:500]
