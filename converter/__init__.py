"""Declarative batch converter from PyTorch to ONNX that verifies what it converts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Before anything imports ONNX Runtime, here and in what this process starts: since 1.31 the import
# itself begins to report its use to its maker, with an id of the machine that it keeps in
# `~/.cache`, and leaves `.ses` in the folder of temporary files. Who has set it is obeyed.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from converter.api import (
        ConversionFailed,
        Converted,
        Run,
        convert,
        load_manifest,
        run,
        verify,
    )
    from converter.model.errors import ConfigError, RunError

__all__ = [
    "ConfigError", "ConversionFailed", "Converted", "Run", "RunError", "convert", "load_manifest",
    "run", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The API, imported when somebody asks for it: the command line starts without it."""
    if name == "__version__":
        # Kept: it is in every key, and metadata is read from a file.
        return globals().setdefault(name, _version())
    if name not in __all__:
        raise AttributeError(f"module 'converter' has no attribute '{name}'")
    from importlib import import_module

    home = "converter.model.errors" if name in ("ConfigError", "RunError") else "converter.api"
    return getattr(import_module(home), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("onnx-zoo-converter")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0+checkout"
