"""Declarative batch converter from PyTorch to ONNX that proves what it converts."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """``__version__``, read from the installed distribution when somebody asks for it."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("onnx-zoo-converter")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0+checkout"
