"""What the fork server imports once, so that each job starts with it: libraries, nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import ModuleType

from converter.model.errors import ConfigError
from converter.plugins import loader, providers

# The pipeline is ours and runs nothing when imported; no model is imported.
# `import torch` takes 1.5 s of CPU and the others one more (torch 2.15); a fork of a process that
# has them takes 0.03 s.
_TORCHVISION, _COMPILER = "torchvision", "torch._dynamo"
LIBRARIES = (
    "torch",
    _TORCHVISION,
    "onnx",
    "onnxruntime",
    "converter.worker.pipeline.derive",
)


def preload(further: Iterable[str] = ()) -> None:
    """Import what every job needs. One that is missing or broken is the job's to report."""
    for library in (*LIBRARIES, *of_plugins("simplifiers"), *further):
        # No other: it would keep the stand-in.
        with _without_compiler() if library == _TORCHVISION else nullcontext():
            _import(library)
    # Each job asks which provider verifies its file: that reads the metadata of all distributions,
    # and imports the modules of all providers.
    with suppress(ConfigError):
        providers.standard()


def preload_for(exporters: Iterable[str]) -> None:
    """Import what the jobs of some exporters need besides, where it is not there yet."""
    for library in of_plugins("exporters", frozenset(exporters)):
        _import(library)


def of_plugins(kind: str, only: frozenset[str] | None = None) -> Iterator[str]:
    """What plugins want imported. One that cannot be loaded is told where it is asked for."""
    for name, plugin in loader.found(kind).items():
        try:
            if only is None or name in only:
                yield from getattr(plugin.load(), "PRELOAD", ())
        except ConfigError:
            continue


def _import(library: str) -> None:
    # All that a broken library may raise at its import: it must not end the server, which every job
    # needs.
    with suppress(ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError):
        importlib.import_module(library)


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Within it torchvision is imported without torch._dynamo, which takes 1.2 s of its 1.5.

    It imports it for one function, which it calls where it compiles an operator of detectors; that
    finds the real one then.
    """
    package, utils = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    vars(utils)["is_compile_supported"] = _is_compile_supported
    vars(package).update(utils=utils, __path__=[])
    stand_ins = {module.__name__: module for module in (package, utils)}
    if not stand_ins.keys() & sys.modules.keys():
        sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _is_compile_supported(device_type: str) -> bool:
    utils = importlib.import_module(f"{_COMPILER}.utils")
    return bool(utils.is_compile_supported(device_type))
