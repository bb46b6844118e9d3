"""The default CPU execution provider of ONNX Runtime."""

NAME = "CPUExecutionProvider"
OPTIONS: dict[str, str] = {}
DEVICE = "cpu"
FALLBACKS: tuple[str, ...] = ()
INSTALL = "install the extra `cpu` (package onnxruntime)"
LOAD_HINT = "install onnxruntime again, in a fresh environment"


def prepare() -> None:
    """Nothing."""
