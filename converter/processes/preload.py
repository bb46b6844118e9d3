"""What the fork server imports once, so that each job starts with it: libraries, nothing else."""

from __future__ import annotations

import importlib

# The pipeline is ours and runs nothing when imported; no plugin and no model is.
LIBRARIES = (
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "converter.worker.pipeline.pipeline",
)


def preload() -> None:
    """Import what every job needs. One that is missing or broken is the job's to report."""
    for library in LIBRARIES:
        try:
            importlib.import_module(library)
        except (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError):
            continue
