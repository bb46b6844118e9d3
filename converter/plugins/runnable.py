"""What a runtime of its own gives for a file: something that runs, under the names of ONNX.

ONNX Runtime's sessions have the same parts (``converter.worker.runtime.session``), so that whoever
judges or times a file does not ask what runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter.model.records import TensorInfo

if TYPE_CHECKING:
    # Of the plugins the parent process imports the modules, and never numpy.
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Interface:
    """What an ONNX file takes and gives; formats without names or axes are read by it."""

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]


class Runnable:
    """A file that a runtime has loaded.

    Attributes:
        provider: the runtime and where it computes, as it calls itself: ``OpenVINO CPU``.
        active: that, and whatever takes the parts that it leaves.
        inputs, outputs: names, in the order of the interface.
        types: of inputs and outputs, as ONNX Runtime writes them: ``tensor(float16)``.
        binds: ``prepared`` leaves inputs and outputs on a device of their own.
    """

    provider: str
    active: list[str]
    inputs: list[str]
    outputs: list[str]
    types: dict[str, str]
    binds: bool = False

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """All outputs in the order of the interface.

        Raises:
            RuntimeError: the runtime refuses the inputs, or fails.
        """
        raise NotImplementedError

    def prepared(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """A run with nothing left to do but to run: what is timed."""
        held = dict(feeds)
        return lambda: self.run(held)

    def typed(self, feeds: Mapping[str, NDArray[Any]], cast: bool) -> dict[str, NDArray[Any]]:
        """Inputs as the file takes them: float32 as float16 where it was made so (``cast``)."""
        halves = [name for name in feeds if cast and self.types.get(name) == "tensor(float16)"]
        return {
            name: array.astype("float16")
            if name in halves and array.dtype.name == "float32"
            else array
            for name, array in feeds.items()
        }

    def nodes_per_provider(self) -> dict[str, int]:
        """How many nodes each part of ``active`` was given; empty: the runtime does not tell."""
        return {}

    def declared(self) -> dict[str, list[int | str | None]]:
        """The shapes of inputs that the file itself declares; of others it says nothing."""
        return {}

    def refuses(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """Why the format has no inputs of these shapes, whatever the model; empty: it has."""
        return ""
