"""The default CPU execution provider of ONNX Runtime."""

from converter.model.spec import Frozen

NAME = "CPUExecutionProvider"
TITLE = "onnxruntime"


class Options(Frozen):
    """None that change a result."""


DEVICE = "cpu"
VERIFIES = True
FALLBACKS: tuple[str, ...] = ()
INSTALL = "install the extra `cpu` (package onnxruntime)"
LOAD_HINT = "install onnxruntime again, in a fresh environment"


def prepare() -> None:
    """Nothing."""
