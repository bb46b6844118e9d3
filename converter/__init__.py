"""Declarative batch converter from PyTorch to ONNX that verifies what it converts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
