"""What the fork server imports once, so that each job starts with it: libraries, nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator

from converter.model.errors import ConfigError
from converter.plugins import loader

# The pipeline is ours and runs nothing when imported; no model is imported.
# `import torch` takes 4 to 5.5 s and torchvision 3 to 4 s more (torch 2.15); a fork of a process
# that has them takes 0.03 s.
LIBRARIES = (
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "converter.worker.pipeline.derive",
)


def preload(further: Iterable[str] = ()) -> None:
    """Import what every job needs. One that is missing or broken is the job's to report."""
    # All that a broken library may raise at its import: it must not end the server, which every job
    # needs.
    for library in (*LIBRARIES, *of_simplifiers(), *further):
        try:
            importlib.import_module(library)
        except (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError):
            continue


def of_simplifiers() -> Iterator[str]:
    """What simplifiers want imported. One that cannot be loaded is told where it is asked for."""
    for plugin in loader.found("simplifiers").values():
        try:
            yield from getattr(plugin.load(), "PRELOAD", ())
        except ConfigError:
            continue
