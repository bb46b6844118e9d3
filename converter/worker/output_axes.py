"""Declared dynamic axes of outputs: what PyTorch makes of them, and what a file says.

Of an input a declaration is a promise that any size will do, and cases test it. Of an output it is
a claim about what the model does: true where the size moves in some case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from converter.errors import Code, StageError
from converter.job import Job, TensorInfo
from converter.worker import cases, structure
from converter.worker.inputs import Array


@dataclass(frozen=True)
class _Axis:
    """A declared axis of an output, and its sizes in all cases."""

    name: str
    place: int
    axis: int
    symbol: str
    sizes: list[int]

    def __str__(self) -> str:
        return f"axis {self.axis} of output {self.name} ({self.symbol})"


def _declared(job: Job, outputs: Sequence[Sequence[Array]]) -> Iterator[_Axis]:
    """``outputs`` are those of PyTorch in each case."""
    for name, axes in job.dynamic_axes.items():
        if name in job.inputs or name not in job.outputs:
            continue
        place = job.outputs.index(name)
        for axis, symbol in axes.items():
            shapes = [arrays[place].shape for arrays in outputs]
            sizes = {shape[axis] for shape in shapes if axis < len(shape)}
            yield _Axis(name, place, axis, symbol, sorted(sizes))


def still(job: Job, outputs: Sequence[Sequence[Array]]) -> list[str]:
    """The symbols of inputs that moved while an axis of an output with the same symbol did not."""
    moved = cases.symbols(job)
    symbols = [axis.symbol for axis in _declared(job, outputs) if len(axis.sizes) == 1]
    return [symbol for symbol in dict.fromkeys(symbols) if symbol in moved]


def unmoved(job: Job, outputs: Sequence[Sequence[Array]]) -> list[str]:
    """Notes on axes that have one size in all cases, though other sizes were tried.

    An axis with a symbol of its own may depend on values (as many boxes as were found), so that
    the cases do not settle it: that is a note. One that has the symbol of an input is to follow it.

    Raises:
        StageError: DIM_SPECIALISED, for an axis with the symbol of an input that moved;
            OUTPUT_STRUCTURE, for one that the output does not have.
    """
    moved = cases.symbols(job)
    notes = []
    for axis in _declared(job, outputs):
        if not axis.sizes:
            raise StageError(
                Code.OUTPUT_STRUCTURE,
                f"{axis} is declared dynamic, but PyTorch's output has fewer axes",
                f"remove axis {axis.axis} of {axis.name} from dynamic_axes",
            )
        if len(axis.sizes) != 1:
            continue
        says = f"{axis} is declared dynamic, but PyTorch's output has {axis.sizes[0]} there"
        if axis.symbol in moved:
            raise StageError(
                Code.DIM_SPECIALISED,
                f"{says} at every size of {axis.symbol} that was tried",
                f"remove axis {axis.axis} of {axis.name} from dynamic_axes",
            )
        if moved:
            notes.append(f"{Code.DIM_SPECIALISED}: {says} in every case")
    return notes


def frozen(
    job: Job, outputs: Sequence[Sequence[Array]], found: Sequence[TensorInfo]
) -> StageError | None:
    """The first axis that is a number in the file, and in PyTorch's outputs another or several.

    Args:
        found: the outputs of the file, which are matched by position.
    """
    for axis in _declared(job, outputs):
        shape = found[axis.place].shape if axis.place < len(found) else []
        # A file from elsewhere may leave even the number of axes open.
        size = shape[axis.axis] if axis.axis < len(shape) else None
        if len(axis.sizes) > 1 and isinstance(size, int):
            return StageError(
                Code.DIM_SPECIALISED,
                f"{axis} is not dynamic in the file, which says {size}; PyTorch's output has "
                f"{', '.join(map(str, axis.sizes))} there",
                "a shape was frozen while tracing: no int(), len() or loop over x.shape",
            )
    for place, number, size, sizes in _untrue(outputs, found):
        return StageError(
            Code.OUTPUT_STRUCTURE,
            f"axis {number} of output {found[place].name} is {size} in the file; PyTorch's output "
            f"has {', '.join(map(str, sizes))} there",
            "the file declares a size that it does not keep: leave that axis open",
        )
    return None


def open_untrue(model: ModelProto, job: Job, outputs: Sequence[Sequence[Array]]) -> None:
    """Leave open, in place, what outputs declare and do not keep; declared dynamic axes stay."""
    kept = {(axis.place, axis.axis) for axis in _declared(job, outputs)}
    found = structure.graph_outputs(model)
    for place, axis, size, sizes in _untrue(outputs, found):
        if (place, axis) not in kept:
            print(f"axis {axis} of output {found[place].name}: {size} in the file, is {sizes}")
            model.graph.output[place].type.tensor_type.shape.dim[axis].Clear()


def _untrue(
    outputs: Sequence[Sequence[Array]], found: Sequence[TensorInfo]
) -> Iterator[tuple[int, int, int, list[int]]]:
    """Output, axis, size in the file and sizes in PyTorch's outputs, where they differ."""
    for place, info in enumerate(found):
        shapes = [arrays[place].shape for arrays in outputs if place < len(arrays)]
        for axis, size in enumerate(info.shape):
            sizes = {shape[axis] for shape in shapes if axis < len(shape)}
            if isinstance(size, int) and sizes - {size}:
                yield place, axis, size, sorted(sizes)
