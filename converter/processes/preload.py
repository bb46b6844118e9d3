"""What the fork server imports once, so that each job starts with it: libraries, nothing else."""

from __future__ import annotations

import importlib

from converter.plugins import loader

# The pipeline is ours and runs nothing when imported; no model is imported.
LIBRARIES = (
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "converter.worker.pipeline.pipeline",
)


def preload() -> None:
    """Import what every job needs. One that is missing or broken is the job's to report."""
    plugins = [plugin.load() for plugin in loader.found("simplifiers").values()]
    for library in (*LIBRARIES, *(name for plugin in plugins for name in plugin.PRELOAD)):
        try:
            importlib.import_module(library)
        except (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError):
            continue
