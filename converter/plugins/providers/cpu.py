"""The default CPU execution provider of ONNX Runtime."""

NAME = "CPUExecutionProvider"
OPTIONS: dict[str, str] = {}
DEVICE = "cpu"
BEHIND: tuple[str, ...] = ()
INSTALL = "install the extra `cpu` (package onnxruntime)"
LIBRARIES = "install onnxruntime again, in a fresh environment"


def prepare() -> None:
    """Nothing."""
