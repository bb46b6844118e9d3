"""Open ONNX Runtime sessions on execution providers, without its silent fallbacks.

ONNX Runtime's Python layer answers a provider that does not start, or fails in a run, with another
session on the CPU and a line on stdout. That is off here: what a session computes, its provider
computes, or the error says why not.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from converter.model.errors import Code, StageError
from converter.plugins import providers
from converter.plugins.providers import Provider
from converter.worker.runtime import runtime_errors

# ONNX Runtime's exceptions have no common base of their own.
RuntimeErrors = (
    state.EPFail, state.EngineError, state.Fail, state.InvalidArgument, state.InvalidGraph,
    state.InvalidProtobuf, state.ModelRequiresCompilation, state.NoModel, state.NoSuchFile,
    state.NotImplemented, state.RuntimeException, RuntimeError,
)  # fmt: skip
_OPSET = 17  # every ONNX Runtime that has a provider runs it


def require(provider: str, stated: Mapping[str, Mapping[str, Any]] | None = None) -> Provider:
    """The provider's module.

    Args:
        stated: by the name of a provider what its ``Options`` are made of.

    Raises:
        StageError: EP_UNAVAILABLE, when this build of ONNX Runtime, or this machine, has it not.
    """
    plugin = providers.load(provider)
    if providers.is_runtime(plugin):
        if providers.is_elsewhere(plugin):
            options = providers.options(plugin, (stated or {}).get(provider, {}))
            why = plugin.missing(options)
        else:
            why = plugin.available()
        if why:
            raise StageError(Code.EP_UNAVAILABLE, why, plugin.INSTALL)
        return plugin
    # ONNX Runtime takes a missing provider with a warning and runs on the CPU.
    if plugin.NAME not in ort.get_available_providers():
        available = ", ".join(ort.get_available_providers())
        raise StageError(
            Code.EP_UNAVAILABLE,
            f"{plugin.NAME} is not available; available: {available}",
            plugin.INSTALL,
        )
    return plugin


def start(
    model: str | bytes,
    provider: str,
    options: ort.SessionOptions,
    stated: Mapping[str, Mapping[str, Any]],
) -> ort.InferenceSession:
    """A session whose first provider is the one that was asked for.

    Args:
        model: path of a file, or a serialised model without external data.
        provider: name of a module of ``converter.plugins.providers``.
        stated: by the name of a provider what its ``Options`` are made of.

    Raises:
        StageError: EP_UNAVAILABLE, when the provider is not in this build or does not start;
            SESSION, when ONNX Runtime refuses the model.
    """
    plugin = require(provider)
    # Before the first session: some libraries are found only if they were loaded already.
    plugin.prepare()
    try:
        session = _open(model, provider, options, stated)
    except RuntimeErrors as error:
        # A provider that refuses the smallest model too says nothing of this one.
        if provider != providers.standard() and (why := _refusal_of_all(provider, stated)):
            raise _dead(provider, plugin, why) from error
        why = first_line(error)
        raise StageError(
            Code.SESSION, f"ONNX Runtime cannot load the file: {why}", runtime_errors.hint(why)
        ) from error
    active = session.get_providers()[0]
    if active != plugin.NAME:  # some providers are left out with a warning
        raise _dead(provider, plugin, f"ONNX Runtime fell back to {active}")
    return session


def _open(
    model: str | bytes,
    provider: str,
    options: ort.SessionOptions,
    stated: Mapping[str, Mapping[str, Any]],
) -> ort.InferenceSession:
    listed = []
    # Those that may take nodes that the first leaves; each with its own options.
    for name in (provider, *providers.load(provider).FALLBACKS):
        plugin = providers.load(name)
        listed.append((plugin.NAME, providers.options(plugin, stated.get(name, {}))))
    return ort.InferenceSession(model, options, providers=listed, enable_fallback=False)


def _refusal_of_all(provider: str, stated: Mapping[str, Mapping[str, Any]]) -> str:
    """What the provider says of a model of one node; empty where it takes it."""
    try:
        _open(one_node(_OPSET), provider, ort.SessionOptions(), stated)
    except RuntimeErrors as error:
        return first_line(error)
    return ""


def _dead(provider: str, plugin: Provider, why: str) -> StageError:
    missing = _missing_library(provider)
    return StageError(
        Code.EP_UNAVAILABLE,
        f"{plugin.NAME} did not start: {missing or why}",
        plugin.LOAD_HINT,
    )


def _missing_library(provider: str) -> str:
    """What keeps a provider of this build from loading, in the words of the dynamic loader.

    ONNX Runtime says it in its log only. Empty when its library loads, or when it is not there.
    """
    folder = Path(ort.__file__).parent / "capi"
    library = folder / f"libonnxruntime_providers_{provider}.so"
    # Built in, such as the CPU's, or of another package.
    if not library.is_file():
        return ""
    try:
        # The libraries of providers take symbols from this one, which must be there for all.
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return ""


def first_line(error: BaseException) -> str:
    """The first line of a message; of one of ONNX Runtime its reason."""
    text = str(error).strip()
    if text.startswith(runtime_errors.PREFIX):
        return runtime_errors.reason(text)
    return text.splitlines()[0][:500] if text else type(error).__name__


def one_node(opset: int) -> bytes:
    """A model of one node; its IR version is one that every ONNX Runtime in use reads."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    # Relu is in every opset.
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
