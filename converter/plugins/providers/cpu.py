"""The default CPU execution provider of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from converter.model.base import Frozen
from converter.model.records import CheckRecord

NAME = "CPUExecutionProvider"
TITLE = "onnxruntime"
FORMATS = ("onnx", "ort")


class Options(Frozen):
    """None that change a result."""


DEVICE = "cpu"
VERIFIES = True
FALLBACKS: tuple[str, ...] = ()
INSTALL = "install the extra `cpu` (package onnxruntime)"
LOAD_HINT = "install onnxruntime again, in a fresh environment"


def prepare() -> None:
    """Nothing."""


def check(file: Path, parent: Path, precision: str) -> CheckRecord:
    """Whether a file of ONNX Runtime's own format is whole, and its list of operators complete.

    Raises:
        StageError: CHECKER.
    """
    from converter.plugins.providers import _ort_format

    return _ort_format.check(file, parent, precision)
