"""One library, imported in a process of its own: it may be what is broken.

``main`` prints what it found as one line of JSON. Nothing is caught: how the process ends is part
of the finding.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from converter.processes.preload import preload


def main(library: str) -> None:
    """Import one of ``LIBRARIES``, or all of them (``worker``), and print what they say."""
    print(json.dumps(_all() if library == WORKER else {library: LIBRARIES[library]()}))


# Imports stand in the functions: this module must load where a library is broken.
def _torch() -> dict[str, Any]:
    import torch

    available = torch.cuda.is_available()
    return {
        "cuda_build": torch.version.cuda,
        "cuda_available": available,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if available
        else [],
    }


def _torchvision() -> dict[str, Any]:
    return {"version": importlib.import_module("torchvision").__version__}


def _onnx() -> dict[str, Any]:
    import onnx

    return {"opset": onnx.defs.onnx_opset_version()}


def _onnxruntime() -> dict[str, Any]:
    import onnxruntime

    return {"providers": onnxruntime.get_available_providers(), "opset": _highest_opset()}


def _highest_opset() -> int | None:
    """The newest opset of which ONNX Runtime runs a model."""
    import onnx

    from converter.model.errors import StageError
    from converter.worker.runtime.session import Session
    from converter.worker.runtime.starting import one_node

    # From above: the first that loads is the newest.
    for opset in range(onnx.defs.onnx_opset_version(), 0, -1):
        try:
            Session(one_node(opset))
        except StageError:
            continue
        return opset
    return None


def _all() -> dict[str, Any]:
    """All that a worker imports, in its order; then the devices that ONNX Runtime has."""
    preload()
    said = {name: library() for name, library in LIBRARIES.items()}
    importlib.import_module("converter.worker.pipeline.pipeline")
    said["onnxruntime"]["failures"] = _failures(said["onnxruntime"]["providers"])
    return said


def _failures(built: Sequence[str]) -> dict[str, str]:
    """By the name of a provider why it does not start.

    Tried are those that are in the build, for a device of their own, and need no other provider:
    the builds for a GPU list some whose libraries few have installed.
    """
    from converter.plugins import loader, providers

    found = {}
    for plugin in loader.found("providers").values():
        if not plugin.built_in:
            continue
        provider = providers.load(plugin.name)
        if provider.DEVICE != "cpu" and not provider.FALLBACKS and provider.NAME in built:
            found[plugin.name] = _failure(plugin.name)
    return {name: why for name, why in found.items() if why}


def _failure(provider: str) -> str:
    from converter.model.errors import StageError
    from converter.worker.runtime.session import Session
    from converter.worker.runtime.starting import one_node

    try:
        # That the provider is listed says nothing: whether it starts shows only in a session.
        Session(one_node(17), provider=provider)
    except StageError as error:
        return error.message
    return ""


WORKER = "worker"
# In the order in which a worker imports them.
LIBRARIES: dict[str, Callable[[], dict[str, Any]]] = {
    "torch": _torch,
    "torchvision": _torchvision,
    "onnx": _onnx,
    "onnxruntime": _onnxruntime,
}
