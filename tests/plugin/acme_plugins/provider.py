"""A provider: the CPU without its memory arena."""

NAME = "CPUExecutionProvider"
OPTIONS: dict[str, str] = {"arena_extend_strategy": "kSameAsRequested"}
DEVICE = "cpu"
BEHIND: tuple[str, ...] = ()
INSTALL = "install onnxruntime"
LIBRARIES = "install onnxruntime again"


def prepare() -> None:
    """Nothing."""
