"""The interface of a file: rank, dtype and sizes of its inputs and outputs, in all cases.

What a file declares is what its users rely on, and ONNX Runtime looks at little of it: an output
may declare another rank, or the symbol of an axis that has another size. Here it is compared with
the request and with what the source returned.

A symbol stands for one size in one call. ``2*height`` and ``past + 1`` are read as what they say
where their symbols are known. An axis without a size or a symbol promises nothing.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.inputs import cases, dtypes
from converter.worker.inputs.cases import Case
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure

# Sizes of one axis: one for each case.
Sizes = NDArray[np.int64]

# What to do where a shape of the file stays what it was in the traced example.
FROZEN_SHAPE = (
    "a shape was frozen while tracing: no int(), len() or loop over x.shape, and no operator with "
    "a fixed output size, such as adaptive pooling, on a dynamic axis"
)
# Any two sizes fit a rule such as 2*height + 1.
_SIZES_FOR_A_RULE = 3
_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


# `References` stands in a room above this one, and imports point down only: hence a protocol.
class Run(Protocol):
    """What went into the source in one case, and what it returned."""

    @property
    def case(self) -> Case: ...

    @property
    def inputs(self) -> dict[str, Array]: ...

    @property
    def outputs(self) -> list[Array]: ...


@dataclass(frozen=True)
class _Tensor:
    """An input or output of a file.

    Attributes:
        name: the request's, or the file's where the request has none.
        arrays: what it was in each case.
        declared: the symbols that the request gives to its axes.
    """

    kind: str
    name: str
    value: ValueInfoProto
    arrays: list[Array]
    declared: Mapping[int, str]

    @property
    def dims(self) -> Any:
        return self.value.type.tensor_type.shape.dim

    @property
    def ranks(self) -> list[int]:
        return sorted({array.ndim for array in self.arrays})

    @property
    def ranked(self) -> bool:
        """Whether the file declares the rank that the tensor has, or none."""
        stated = self.value.type.tensor_type.HasField("shape")
        return not stated or self.ranks == [len(self.dims)]

    def sizes(self, axis: int) -> Sizes:
        return np.asarray([array.shape[axis] for array in self.arrays], np.int64)

    def axis(self, axis: int) -> str:
        return f"axis {axis} of {self.kind} {self.name}"


def _tensors(model: ModelProto, job: Job, runs: Sequence[Run]) -> Iterator[_Tensor]:
    """Inputs of the request, by name, then outputs, by position."""
    given = {value.name: value for value in model.graph.input}
    for name in job.inputs:
        # One that is a sequence or an optional has no axes.
        if name in given and given[name].type.HasField("tensor_type"):
            arrays = [run.inputs[name] for run in runs]
            yield _Tensor("input", name, given[name], arrays, job.dynamic_axes.get(name, {}))
    for place, value in enumerate(model.graph.output):
        # One output too many has an error of its own, which counts them.
        if value.type.HasField("tensor_type") and all(place < len(run.outputs) for run in runs):
            name = job.outputs[place] if place < len(job.outputs) else value.name
            # The axes go by name: of an output that is called like an input they are the input's.
            axes = {} if name in job.inputs else job.dynamic_axes.get(name, {})
            yield _Tensor("output", name, value, [run.outputs[place] for run in runs], axes)


class _Symbols:
    """What symbols stand for: sizes, and the axis that they were taken from.

    Attributes:
        requested: those that the request gives to inputs.
        of_outputs: those that it gives to outputs alone.
    """

    def __init__(self, job: Job, runs: Sequence[Run]) -> None:
        self._sizes: dict[str, Sizes] = {}
        self._places: dict[str, str] = {}
        for name, axes in job.dynamic_axes.items():
            for axis, symbol in axes.items() if name in job.inputs else ():
                sizes = np.asarray([run.inputs[name].shape[axis] for run in runs], np.int64)
                self.hold(symbol, sizes, f"axis {axis} of input {name}")
        self.requested = list(self._sizes)
        stated = {symbol for axes in job.dynamic_axes.values() for symbol in axes.values()}
        self.of_outputs = stated - {*self.requested}

    def hold(self, symbol: str, sizes: Sizes, place: str) -> bool:
        """Whether the symbol stands for these sizes; one that is not known does from now on."""
        known = self.sizes(symbol)
        if known is None:
            self._sizes[symbol], self._places[symbol] = sizes, place
        return known is None or np.array_equal(known, sizes)

    def sizes(self, symbol: str) -> Sizes | None:
        """Those of a symbol, or of an expression of known symbols."""
        if symbol in self._sizes:
            return self._sizes[symbol]
        try:
            # Parsed and never evaluated: the text stands in a file that anybody may have made.
            value = self._value(ast.parse(symbol, mode="eval").body)
        except (SyntaxError, ValueError, KeyError, RecursionError):
            return None
        # A rule without symbols (`3 + 1`) is one number for all cases.
        first = next(iter(self._sizes.values()), value)
        return np.broadcast_to(value, first.shape)

    def _value(self, node: ast.expr) -> Sizes:
        if isinstance(node, ast.Name):
            return self._sizes[node.id]
        # By type, since True is an int.
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return np.asarray(node.value, np.int64)
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left), self._value(node.right)
            # A size of zero is tried as well: NumPy warns of the division and gives 0.
            with np.errstate(divide="ignore"):
                return np.asarray(_OPERATORS[type(node.op)](left, right), np.int64)
        # Any other syntax is unknown, like a symbol that is.
        raise KeyError(ast.dump(node))

    def says(self, symbol: str, case: int) -> str:
        """The size that a symbol stands for in a case, and where it has it from."""
        sizes = self.sizes(symbol)
        size = None if sizes is None else sizes[case]
        place = self._places.get(symbol)
        return f"is {size} there" if place is None else f"is that of {place}, {size} there"

    def rule(self, sizes: Sizes) -> str | None:
        """A symbol of the request, or a multiple of one and a rest, that has these sizes."""
        # Only what can stand in a rule: a name with a dash in it would read as a difference.
        named = [*filter(str.isidentifier, self.requested)]
        # One that has just these sizes before one that they could be computed of.
        named.sort(key=lambda symbol: not np.array_equal(self._sizes[symbol], sizes))
        for symbol in named:
            base = self._sizes[symbol]
            distinct, places = np.unique(base, return_index=True)
            if len(distinct) < _SIZES_FOR_A_RULE:
                continue
            # Two sizes give the line; it is a rule only if all the others lie on it.
            one, two = places[:2]
            factor, left = divmod(int(sizes[two] - sizes[one]), int(base[two] - base[one]))
            rest = int(sizes[one] - factor * base[one])
            if left == 0 and factor >= 1 and np.array_equal(factor * base + rest, sizes):
                term = symbol if factor == 1 else f"{factor}*{symbol}"
                return f"{term} {'+' if rest > 0 else '-'} {abs(rest)}" if rest else term
        return None


def correct(model: ModelProto, job: Job, runs: Sequence[Run]) -> None:
    """Make true, in place, what an exporter or the request says of axes and PyTorch does not keep.

    Dynamic axes get their declared symbols where those are true. One that has other sizes than its
    symbol gets the rule that it follows (``2*height``), or a symbol of its own. A size that is not
    kept is left open: exporters write that of the example where it depends on values. A declared
    axis that is a number stays, for ``judge`` to tell.
    """
    # First the declared names, for which dynamo has its own (`s77`).
    structure.name_axes(model, job.dynamic_axes)
    # After the renaming: from here on symbols of the request mean what the request says.
    symbols = _Symbols(job, runs)
    # No symbol of ours may be one that the file or the request uses already.
    taken = structure.symbols(model) | {*symbols.requested}
    for tensor in _tensors(model, job, runs):
        if tensor.kind == "output" and not tensor.ranked and len(tensor.ranks) == 1:
            _rewrite(tensor)
        for axis in range(len(tensor.dims) if tensor.ranked else 0):
            _correct_axis(tensor, axis, symbols, taken)


def _rewrite(tensor: _Tensor) -> None:
    """Give an output the rank that it has, and the sizes that several cases agree on."""
    print(f"output {tensor.name}: {len(tensor.dims)} axes in the file, has {tensor.ranks[0]}")
    del tensor.dims[:]
    for axis in range(tensor.ranks[0]):
        sizes, dim = tensor.sizes(axis), tensor.dims.add()
        # One case shows one size, which says nothing of others.
        if len(sizes) > 1 and (sizes == sizes[0]).all():
            dim.dim_value = int(sizes[0])


def _correct_axis(tensor: _Tensor, axis: int, symbols: _Symbols, taken: set[str]) -> None:
    dim, sizes, declared = tensor.dims[axis], tensor.sizes(axis), tensor.declared.get(axis)
    place = tensor.axis(axis)
    if dim.HasField("dim_value"):
        if tensor.kind == "output" and declared is None and (sizes != dim.dim_value).any():
            print(f"{place}: {dim.dim_value} in the file, is {_listed(sizes)}")
            dim.Clear()
        return
    offered = [symbol for symbol in (declared, dim.dim_param) if symbol]
    if not offered:
        return
    # A symbol that an exporter made up tells users nothing: a rule lets them compute the size.
    if declared is None and tensor.kind == "output" and symbols.sizes(dim.dim_param) is None:
        rule = symbols.rule(sizes)
        if rule is not None:
            dim.dim_param = rule
            return
    # What was declared comes first; the exporter's own symbol is the next best that is true.
    for symbol in offered:
        if symbols.hold(symbol, sizes, place):
            dim.dim_param = symbol
            return
    # A name of its own only where no rule is known: a rule lets users compute the size.
    own = symbols.rule(sizes) or _own(tensor, axis, taken)
    symbols.hold(own, sizes, place)
    print(f"{place}: not {' or '.join(offered)}, now {own}")
    dim.dim_param = own


def _own(tensor: _Tensor, axis: int, taken: set[str]) -> str:
    """A symbol that nothing else in the file has."""
    own = f"{tensor.name}_dim_{axis}"
    while own in taken:
        own += "_"
    taken.add(own)
    return own


def judge(model: ModelProto, job: Job, runs: Sequence[Run]) -> StageError | None:
    """The first thing that the file declares and does not keep, or that was requested otherwise.

    Returns:
        OUTPUT_STRUCTURE, or DIM_SPECIALISED for a declared axis that is a number in the file.
    """
    # Rank comes first: with other axes there are no sizes to compare.
    wrong = mistyped(model, job, runs)
    if wrong is not None:
        return wrong
    symbols = _Symbols(job, runs)
    errors = (
        _axis_error(tensor, axis, symbols, job, runs)
        for tensor in _tensors(model, job, runs)
        for axis in range(len(tensor.dims))
    )
    return next((error for error in errors if error is not None), None)


def mistyped(model: ModelProto, job: Job, runs: Sequence[Run]) -> StageError | None:
    """The first tensor of another rank or dtype than it has, for which no file can be run."""
    for tensor in _tensors(model, job, runs):
        if not tensor.ranked and len(tensor.ranks) > 1:
            return _ranks_error(tensor, job, runs)
        info, array = structure.tensor_info(tensor.value), tensor.arrays[0]
        dtype = dtypes.of(array)
        has = f"the request has {dtype} {_shape(array.shape)}"
        if tensor.kind == "output":
            has = f"{_source(job)} returns {dtype} {_shape(array.shape)}"
        if not tensor.ranked or info.dtype not in (dtype, "undefined"):
            return StageError(
                Code.OUTPUT_STRUCTURE,
                f"{tensor.kind} {tensor.name} is {info.dtype} {_shape(info.shape)} in the file; "
                f"{has}",
                f"declare {tensor.kind} {info.name} as {dtype} with "
                f"{_axes(array.ndim)} in the file",
            )
    return None


def _ranks_error(tensor: _Tensor, job: Job, runs: Sequence[Run]) -> StageError:
    """An output that has several ranks in the source, with a case of each.

    No file can say so: ONNX demands a rank of every output.
    """
    ranks = [array.ndim for array in tensor.arrays]
    shown = [runs[ranks.index(rank)] for rank in tensor.ranks]
    has = [
        f"{_axes(rank)} {case}" for rank, case in zip(tensor.ranks, _told(shown, job), strict=True)
    ]
    squeeze = "squeeze(-1) names the axis to drop; .squeeze() drops each axis of size 1"
    if job.source.onnx:
        squeeze = "a Squeeze without axes drops each axis of size 1"
    return StageError(
        Code.OUTPUT_STRUCTURE,
        f"output {tensor.name} has {', '.join(has[:-1])} and {has[-1]} in {_source(job)}: "
        "a file declares one rank",
        f"keep each axis whose size may change: {squeeze}",
    )


def _told(runs: Sequence[Run], job: Job) -> list[str]:
    """Cases by the sizes in which they differ (``at B=1``), by name where they are alike."""
    sizes = {
        symbol: [run.inputs[name].shape[axis] for run in runs]
        for symbol, ((name, axis), *_) in cases.symbols(job).items()
    }
    sizes = {symbol: found for symbol, found in sizes.items() if len({*found}) > 1}
    places = list(zip(*sizes.values(), strict=True))
    if len({*places}) < len(runs):
        return [f"in case {run.case}" for run in runs]
    return ["at " + ", ".join(map("{}={}".format, sizes, place)) for place in places]


def _axis_error(
    tensor: _Tensor, axis: int, symbols: _Symbols, job: Job, runs: Sequence[Run]
) -> StageError | None:
    dim, sizes, declared = tensor.dims[axis], tensor.sizes(axis), tensor.declared.get(axis)
    place = tensor.axis(axis)
    if dim.HasField("dim_value"):
        if (sizes == dim.dim_value).all():
            return None
        return _fixed(tensor, axis, dim.dim_value, job)
    symbol = dim.dim_param
    if not symbol:
        return None
    # A symbol of the request may not stand for another axis; one that only the file has is its own
    # affair.
    taken = symbols.requested if tensor.kind == "input" else symbols.of_outputs
    if symbol in taken and declared not in (None, symbol):
        return StageError(
            Code.OUTPUT_STRUCTURE,
            f"{place} is called {symbol} in the file; the request calls it {declared}, and "
            f"{symbol} is another axis",
            f"call it {declared} in the file",
        )
    if symbols.hold(symbol, sizes, place):
        return None
    case = int(np.argmax(symbols.sizes(symbol) != sizes))
    own = symbols.rule(sizes) or f"{tensor.name}_dim_{axis}"
    return StageError(
        Code.OUTPUT_STRUCTURE,
        f"{place} is called {symbol} in the file and is {sizes[case]} in case {runs[case].case}; "
        f"{symbol} {symbols.says(symbol, case)}",
        f"give it a symbol of its own in the file, such as {own}, or leave it open",
    )


def _fixed(tensor: _Tensor, axis: int, size: int, job: Job) -> StageError:
    """An axis whose number in the file is not, or not always, its size."""
    listed, declared = _listed(tensor.sizes(axis)), tensor.declared.get(axis)
    has = f"the request has {listed} there"
    if tensor.kind == "output":
        has = f"{_source(job)}'s output has {listed} there"
    # A comma stands between several sizes.
    if declared is not None and "," in listed:
        return StageError(
            Code.DIM_SPECIALISED,
            f"{tensor.axis(axis)} ({declared}) is not dynamic in the file, which says {size}; "
            f"{has}",
            FROZEN_SHAPE,
        )
    return StageError(
        Code.OUTPUT_STRUCTURE,
        f"{tensor.axis(axis)} is {size} in the file; {has}",
        "the file declares a size that it does not keep: leave that axis open",
    )


def notes(model: ModelProto, job: Job, runs: Sequence[Run]) -> list[str]:
    """What a right file's interface says otherwise than the request, in a sentence each."""
    symbols = _Symbols(job, runs)
    found = []
    for tensor in _tensors(model, job, runs):
        shape = structure.tensor_info(tensor.value).shape
        for axis, says in enumerate(shape if tensor.ranked else ()):
            declared, place = tensor.declared.get(axis), tensor.axis(axis)
            if isinstance(says, int):
                continue
            if tensor.kind == "input" and declared is None:
                size = _listed(tensor.sizes(axis))
                found.append(
                    f"{place} is {says or 'open'} in the file and not in dynamic_axes: "
                    f"verified at {size} only"
                )
            elif declared is not None and not symbols.hold(declared, tensor.sizes(axis), place):
                found.append(
                    f"{place} is declared {declared} and has other sizes: it is "
                    f"{says or 'open'} in the file"
                )
    return found


def _source(job: Job) -> str:
    """Whose outputs a file is compared with."""
    return "the original file" if job.source.onnx else "PyTorch"


def _listed(sizes: Sizes) -> str:
    return ", ".join(map(str, np.unique(sizes)))


def _axes(count: int) -> str:
    return f"{count or 'no'} {'axes' if count > 1 else 'axis'}"


def _shape(shape: Sequence[int | str | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
