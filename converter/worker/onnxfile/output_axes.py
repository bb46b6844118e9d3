"""Declared dynamic axes of outputs, against what PyTorch makes of them.

Of an input a declaration is a promise that any size will do, and cases test it. Of an output it is
a claim about what the model does: true where the size moves in some case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converter.model.dims import Dims, bounds, within
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.inputs import cases
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile.interface import Run


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
        # The axes go by name: of an output that is called like an input they are the input's.
        if name in job.inputs or name not in job.outputs:
            continue
        place = job.outputs.index(name)
        for axis, symbol in axes.items():
            shapes = [arrays[place].shape for arrays in outputs]
            # An output that has fewer axes in some case is told by `interface`.
            sizes = {shape[axis] for shape in shapes if axis < len(shape)}
            yield _Axis(name, place, axis, symbol, sorted(sizes))


def check_claims(job: Job, runs: Sequence[Run]) -> None:
    """Raise where PyTorch's output has another size than its symbol's rule in ``dims``.

    Raises:
        StageError: DIM_SPECIALISED.
    """
    dims = cases.rules(job)
    for name, axes in job.dynamic_axes.items():
        if name in job.inputs or name not in job.outputs:
            continue
        for axis, symbol in axes.items():
            if symbol in dims.specs and symbol not in dims.inputs:
                _check_claim(job, dims, runs, (name, axis, symbol))


def _check_claim(job: Job, dims: Dims, runs: Sequence[Run], claim: tuple[str, int, str]) -> None:
    name, axis, symbol = claim
    place, spec = job.outputs.index(name), dims.specs[symbol]
    for run in runs:
        shape = run.outputs[place].shape
        if axis >= len(shape):
            continue
        sizes = {s: run.inputs[at[0][0]].shape[at[0][1]] for s, at in cases.symbols(job).items()}
        leaves = {leaf: sizes[leaf] for leaf in dims.leaves if leaf in sizes}
        expected = dims.assigned(leaves).get(symbol) if spec.equals else shape[axis]
        at = ", ".join(f"{s} = {sizes[s]}" for s in dims.leaves_of(symbol) if s in sizes)
        gives = "gives no such size" if expected is None else f"is {expected}"
        gives += f" at {at}" if at else ""
        # Of a free variable nobody knows the value in this case.
        known = all(leaf in sizes for leaf in dims.leaves_of(symbol)) or not spec.equals
        has = f"PyTorch's output {name} has {shape[axis]} on axis {axis}"
        if known and expected != shape[axis]:
            raise StageError(
                Code.DIM_SPECIALISED,
                f"dims.{symbol}: {spec.equals} {gives}; {has}",
                "state the size that the model gives",
            )
        if not within(shape[axis], spec):
            raise StageError(
                Code.DIM_SPECIALISED,
                f"dims.{symbol} ({bounds(spec)}): {has} in case {run.case}",
                "state the sizes that the model gives",
            )


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
        # It moved: what it is called is judged by `interface`.
        if len(axis.sizes) != 1:
            continue
        says = f"{axis} is declared dynamic, but PyTorch's output has {axis.sizes[0]} there"
        if axis.symbol in moved:
            raise StageError(
                Code.DIM_SPECIALISED,
                f"{says} at every size of {axis.symbol} that was tried",
                f"remove axis {axis.axis} of {axis.name} from dynamic_axes",
            )
        # Without dynamic inputs nothing could have moved it.
        if moved:
            notes.append(f"{Code.DIM_SPECIALISED}: {says} in every case")
    return notes
