"""A provider: the CPU without its memory arena."""

from converter.model.base import Frozen

NAME = "CPUExecutionProvider"


class Options(Frozen):
    """What it may be told."""

    arena_extend_strategy: str = "kSameAsRequested"


DEVICE = "cpu"
FALLBACKS: tuple[str, ...] = ()
INSTALL = "install onnxruntime"
LOAD_HINT = "install onnxruntime again"


def prepare() -> None:
    """Nothing."""
