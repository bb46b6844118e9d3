"""What the fork server imports once, so that each job starts with it: libraries, nothing else."""

from __future__ import annotations

import importlib

LIBRARIES = ("torch", "torchvision", "onnx", "onnxruntime", "onnxsim")


def preload() -> None:
    """Import the heavy libraries. One that is missing or broken is the job's to report."""
    for library in LIBRARIES:
        try:
            importlib.import_module(library)
        except (ImportError, OSError, RuntimeError):
            continue
