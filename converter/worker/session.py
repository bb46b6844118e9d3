"""Open and run ONNX Runtime sessions, without its silent fallbacks."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from converter.errors import Code, StageError
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
        plugin = importlib.import_module(f"converter.providers.{provider}")
        if plugin.NAME not in ort.get_available_providers():
            available = ", ".join(ort.get_available_providers())
            raise StageError(
                Code.EP_UNAVAILABLE, f"{plugin.NAME} is not available; available: {available}"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
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
        self.provider = self._session.get_providers()[0]
        if self.provider != plugin.NAME:
            raise StageError(
                Code.EP_UNAVAILABLE,
                f"{plugin.NAME} was asked for, ONNX Runtime fell back to {self.provider}",
            )
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs in graph order; raises one of ``RuntimeErrors``."""
        return [np.asarray(output) for output in self._session.run(None, dict(feeds))]


def first_line(error: BaseException) -> str:
    """The first line of a message, without ONNX Runtime's prefix of codes."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    if line.startswith("[ONNXRuntimeError]"):
        line = line.split(" : ", 3)[-1]
    return line[:500]
