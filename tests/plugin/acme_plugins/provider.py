"""A provider: the CPU without its memory arena."""

NAME = "CPUExecutionProvider"
OPTIONS: dict[str, str] = {"arena_extend_strategy": "kSameAsRequested"}
DEVICE = "cpu"
FALLBACKS: tuple[str, ...] = ()
INSTALL = "install onnxruntime"
LOAD_HINT = "install onnxruntime again"


def prepare() -> None:
    """Nothing."""
