"""Where a file of 16-bit floats leaves their range: ONNX Runtime's CPU does not show it.

A CPU computes the file's float16 operators in float32 and drops the casts between them, so that a
result of 10^5 goes on as a finite number, where a device that computes in float16 has infinity and
then NaN. The tensors of the float32 file that it was made from have the same names and show the
magnitudes. bfloat16 ends where float32 does, so that little is ever found there.

What is judged are the results of operators. Inside a kernel convolutions, matrix products,
reductions and normalisations add up in float32 on most hardware, and nothing here looks there: a
sum that passes 65504 on its way to a smaller result is no overflow.

A mask (-1e9, or the least float32) becomes minus infinity in float16, which is what it stands for;
elements as large as a constant of the file that reached them through additions, products and
choices are therefore left out. It is an overflow only where a later operator makes NaN of it
(0 × inf, or a softmax over a row that is masked altogether), which a CPU shows too.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from converter.model.errors import StageError
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import BFLOAT16, Reduced
from converter.worker.onnxfile import checking, precision, structure
from converter.worker.runtime.session import Session

MARGIN = 0.9
"""Of the range: a device rounds otherwise, which was seen to move results by some per cent."""

_PREFIX = "converter.overflow/"
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
# What hands an element on, alone or together with a mask.
_HANDS_ON = {
    "Add", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather",
    "GatherElements", "GatherND", "Identity", "Max", "Min", "Mul", "Neg", "Pad", "Reshape",
    "ScatterElements", "ScatterND", "Slice", "Split", "Squeeze", "Sub", "Tile", "Transpose",
    "Trilu", "Unsqueeze", "Where",
}  # fmt: skip
# What gives elements that it was given: none is the first to be too large. It saves a third of
# the time, which goes into opening the sessions.
_GIVEN = {
    "Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Relu", "Reshape", "Slice",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
# Elements of at least this share of a constant are that constant: a mask to which scores are added.
# Halved, because what is added to a mask may also pull it towards zero.
_SHARE = 0.5
MOST_BYTES = 1 << 30
"""A serialised model ends at 2 GiB: weights beyond this much are kept outside of it."""
# ONNX Runtime maps the weights that lie in a file; of a serialised model it makes two copies.
_INLINE_BYTES = 1 << 25


@dataclass(frozen=True)
class Overflow:
    """The first result that 16 bits cannot hold, or nearly not.

    Attributes:
        tensor: its name in the float32 file.
        op: type of the node that gives it, ``input`` for an input of the graph.
        node: name of that node, of the tensor where it has none.
        largest: the largest magnitude among its finite elements, in float32; infinity or NaN where
            float32 is within range and the file's own constants are not.
        kind: float16 or bfloat16.
    """

    tensor: str
    op: str
    node: str
    largest: float
    kind: Reduced

    def __str__(self) -> str:
        if math.isfinite(self.largest):
            end = self.kind.largest
            value = f"{self.largest:.2g}"
            # Two digits may round it to the other side of the end, which would contradict the
            # sentence.
            if (float(value) > end) != (self.largest > end):
                value = f"{self.largest:.6g}"
            near = "" if self.largest > end else ", which is too near"
            return f"{self.op} '{self.node}' gives {value}, {self.kind.name} ends at {end:g}{near}"
        value = "NaN" if math.isnan(self.largest) else "infinity"
        return f"{self.op} '{self.node}' gives {value} where the float32 file is finite"


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the derived file that is of 16 bits.

    Attributes:
        name: in that file.
        source: the tensor of the parent that it holds, perhaps through casts.
        mask: elements from this magnitude on come from a constant; infinity: none do.
    """

    name: str
    source: str
    mask: float


@contextmanager
def opened(parent: Path, derived: Path, kind: Reduced) -> Iterator[Overflows]:
    """What looks for overflows of two files, which are loaded once for all inputs.

    Args:
        parent: the float32 file that ``derived`` was made from.
        derived: its intermediate results have the names that they have in ``parent``.
        kind: of whose range the question is.

    Raises:
        StageError: SESSION, when ONNX Runtime refuses one of the files.
    """
    # Both with their weights, since the probes compute with them.
    wide, narrow = checking.load(parent), checking.load(derived)
    tensors = _tensors(wide, narrow, kind)
    makers = {name: node for node in wide.graph.node for name in node.output}
    with ExitStack() as stack:
        if not tensors:
            yield Overflows([], {}, [], kind)
            return
        # Only the parent tells a mask by its size: in the derived file it is infinite, or a
        # converter's limit.
        probes = [_Probe(wide, {tensor.source: tensor.mask for tensor in tensors})]
        # Of bfloat16 there is hardly a kernel that would show anything.
        if kind is not BFLOAT16 or _computes(narrow):
            probes.append(_Probe(narrow, {tensor.name: math.inf for tensor in tensors}))
        del wide, narrow  # the sessions hold copies of the weights
        runs = [stack.enter_context(probe.running()) for probe in probes]
        yield Overflows(tensors, makers, runs, kind)


@dataclass(frozen=True)
class Overflows:
    """Looks for tensors that leave the range of their 16 bits (``opened``)."""

    _tensors: list[_Tensor]
    _makers: Mapping[str, NodeProto]
    _runs: list[Callable[[Mapping[str, Array]], dict[str, _Seen]]]
    _kind: Reduced

    def first(self, feeds: Mapping[str, Array], *, both: bool = True) -> Overflow | None:
        """The first tensor, in the order of the parent, that leaves the range, or nearly.

        What follows an overflow is mostly its consequence.
        """
        return next(self.all(feeds, both=both), None)

    def all(self, feeds: Mapping[str, Array], *, both: bool = True) -> Iterator[Overflow]:
        """The tensors that leave the range, or nearly, in the order of the parent.

        One leaves it where an element of the parent is finite and beyond the largest number, or
        where the derived file gives infinity or NaN and the parent does not. Elements that are
        infinite in the parent are meant to be. Both files run once without optimisations, with a
        few numbers for each tensor as further outputs; tensors inside of loops and branches are not
        seen.

        Args:
            feeds: one set of inputs, as the parent takes them.
            both: the derived file runs too; else only what the parent shows is told, in half the
                time.
        """
        seen = [run(feeds) for run in self._runs[: 1 + both]]
        for tensor in self._tensors:
            want = seen[0][tensor.source]
            got = seen[1][tensor.name] if len(seen) > 1 else want
            largest = _beyond(tensor, want, got, self._kind)
            if largest is not None:
                node = self._makers.get(tensor.source)
                op, name = (node.op_type, node.name) if node else ("input", "")
                yield Overflow(tensor.source, op, name or tensor.source, largest, self._kind)


def _computes(model: ModelProto) -> bool:
    """Whether ONNX Runtime has a kernel for each operator in its type."""
    try:
        Session(structure.skeleton(model).SerializeToString(), optimise=False)
    except StageError:
        return False
    return True


@dataclass(frozen=True)
class _Seen:
    """Of one tensor: the largest magnitude below the mask's, how many are infinite, or NaN."""

    largest: float
    infinite: int
    nan: int


def _beyond(tensor: _Tensor, want: _Seen, got: _Seen, kind: Reduced) -> float | None:
    # Finite and too large in float32 is the plain case: a device has infinity there.
    if want.largest > MARGIN * kind.largest:
        return want.largest
    if got.nan > want.nan:
        return math.nan
    # A mask may become infinite. Only NaN that comes of it is an overflow.
    if got.infinite > want.infinite and math.isinf(tensor.mask):
        return math.inf
    return None


def _tensors(parent: ModelProto, derived: ModelProto, kind: Reduced) -> list[_Tensor]:
    """The tensors of 16 bits of the derived file that the parent has too, in the parent's order."""
    # Inputs before all results: one that is too large is the first overflow.
    order = [value.name for value in parent.graph.input]
    order += [name for node in parent.graph.node for name in node.output if name]
    places = {name: place for place, name in enumerate(order)}
    masks = _masks(parent.graph, kind)
    origin = _origins(derived.graph, places)
    weights = {tensor.name for tensor in parent.graph.initializer}
    given = {
        name
        for node in parent.graph.node
        # No operator gives a weight: one that is too large shows where it is first handed on.
        if node.op_type in _GIVEN and node.input[0] not in weights
        for name in node.output
    }
    found = []
    types = _types(derived)
    reduced = {name for name, element in types.items() if element == kind.element}
    for node in derived.graph.node:
        if node.op_type == "Cast" and node.output[0] not in places and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
    # Only what the file computes in 16 bits can overflow: islands in float32 keep their numbers.
    for name in types:
        if name in reduced and name in origin and name not in given:
            source = origin[name]
            found.append(_Tensor(name, source, masks.get(source, math.inf)))
    # Sorted, since the derived file may have its nodes in another order.
    return sorted(found, key=lambda tensor: places[tensor.source])


def _origins(derived: GraphProto, known: Collection[str]) -> dict[str, str]:
    """Each tensor of the derived file that a tensor of the parent is, perhaps through casts."""
    origin = {name: name for name in known}
    # Casts alone: anything else in between computes.
    casts = [node for node in derived.node if node.op_type == "Cast"]
    for node in casts:
        if node.input[0] in origin:
            origin.setdefault(node.output[0], origin[node.input[0]])
    for node in reversed(casts):  # before an output that stays float32
        if node.output[0] in origin:
            origin.setdefault(node.input[0], origin[node.output[0]])
    return origin


def _types(model: ModelProto) -> dict[str, int]:
    """Of all inputs and results their element types, as inferred; weights are left out."""
    # Local functions are inlined there: what is inside of one is no result of this graph.
    types = precision.declared_types(precision.infer_types(model).graph)
    # Inputs too: one beyond the range overflows before any operator has seen it.
    names = {value.name for value in model.graph.input}.union(_results(model.graph))
    return {name: kind.tensor_type.elem_type for name, kind in types.items() if name in names}


def _results(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.op_type != "Constant":
            yield from filter(None, node.output)


def _masks(graph: GraphProto, kind: Reduced) -> dict[str, float]:
    """Tensors that constants beyond 16 bits reach → the magnitude where their elements begin."""
    # In topological order, as the checker demands, so that one pass reaches every tensor.
    begins = dict(_large(graph, kind))
    for node in graph.node:
        own = [_begin(a.t, kind) for a in node.attribute if a.HasField("t")]
        reached = [begins[name] for name in node.input if name in begins]
        reached += [begin for begin in own if begin is not None]
        if reached and node.op_type in _HANDS_ON:
            # With two masks in one tensor the smaller magnitude leaves out both.
            begins.update(dict.fromkeys(node.output, min(reached)))
    return begins


def _large(graph: GraphProto, kind: Reduced) -> Iterator[tuple[str, float]]:
    for tensor in graph.initializer:
        begin = _begin(tensor, kind)
        if begin is not None:
            yield tensor.name, begin


def _begin(tensor: TensorProto, kind: Reduced) -> float | None:
    if tensor.data_type not in _FLOATS:
        return None
    values = numpy_helper.to_array(tensor)
    # Without a copy of each weight, and whatever is NaN in it.
    most = np.fmax.reduce(values, axis=None, initial=0.0)
    least = np.fmin.reduce(values, axis=None, initial=0.0)
    if most <= kind.largest and least >= -kind.largest:
        return None
    sizes = np.abs(values.astype(np.float64))
    # An infinite constant is infinite in both files, as its author meant it.
    large = sizes[(sizes > kind.largest) & np.isfinite(sizes)]
    return _SHARE * float(large.min()) if large.size else None


class _Probe:
    """A model that gives a few numbers for each of some tensors, and none of its own outputs.

    Args:
        model: changed in place.
        tensors: by name the magnitude from which elements are left out.
    """

    def __init__(self, model: ModelProto, tensors: Mapping[str, float]) -> None:
        self._names = list(tensors)
        # A few numbers for each tensor: the tensors themselves as outputs would all be held at
        # once.
        nodes: list[NodeProto] = []
        for place, (name, mask) in enumerate(tensors.items()):
            out, limit = f"{_PREFIX}{place}", f"{_PREFIX}inf"
            if math.isfinite(mask):
                limit = f"{out}/limit"
                tensor = numpy_helper.from_array(np.array(mask, np.float32), limit)
                model.graph.initializer.append(tensor)
            nodes += _probes(name, out, limit)
        model.graph.initializer.extend(
            [
                # [-1] makes one axis of any shape, of a scalar too.
                numpy_helper.from_array(np.array([-1], np.int64), f"{_PREFIX}flat"),
                numpy_helper.from_array(np.array([0], np.float32), f"{_PREFIX}none"),
                numpy_helper.from_array(np.array(0, np.float32), f"{_PREFIX}zero"),
                numpy_helper.from_array(np.array(math.inf, np.float32), f"{_PREFIX}inf"),
            ]
        )
        model.graph.node.extend(nodes)
        # The file's own outputs are no part of the question, and would only be copied.
        del model.graph.output[:]
        outputs = [f"{_PREFIX}{place}" for place in range(len(self._names))]
        model.graph.output.extend(map(helper.make_empty_tensor_value_info, outputs))
        self._model = model

    @contextmanager
    def running(self) -> Iterator[Callable[[Mapping[str, Array]], dict[str, _Seen]]]:
        """What runs the model on one set of inputs after the other."""
        with session_of(self._model) as session:
            del self._model  # the session holds its own copy of the weights

            def run(feeds: Mapping[str, Array]) -> dict[str, _Seen]:
                # The same feeds go to both files; the derived one may take 16 bits.
                known = {name: feed for name, feed in feeds.items() if name in session.types}
                rows = session.run(session.typed(known, cast=True))
                return {
                    name: _Seen(float(row[0]), int(row[1]), int(row[2]))
                    for name, row in zip(self._names, rows, strict=True)
                }

            yield run


def _probes(name: str, out: str, limit: str) -> Iterator[NodeProto]:
    """Nodes that give [largest magnitude below a limit, infinite, NaN] of a tensor of floats."""
    made = helper.make_node
    wide, size = f"{out}/wide", f"{out}/size"
    # In float32, in which infinity and NaN of 16 bits stay what they are.
    yield made("Cast", [name], [f"{out}/float"], to=TensorProto.FLOAT)
    yield made("Reshape", [f"{out}/float", f"{_PREFIX}flat"], [f"{out}/flat"])
    # One more element: ONNX Runtime reduces no empty tensor.
    yield made("Concat", [f"{out}/flat", f"{_PREFIX}none"], [wide], axis=0)
    yield made("Abs", [wide], [size])
    yield made("Less", [size, limit], [f"{out}/held"])  # false for NaN too
    yield made("Where", [f"{out}/held", size, f"{_PREFIX}zero"], [f"{out}/values"])
    yield made("ReduceMax", [f"{out}/values"], [f"{out}/largest"], keepdims=1)
    yield made("Equal", [size, f"{_PREFIX}inf"], [f"{out}/is_inf"])
    yield made("IsNaN", [size], [f"{out}/is_nan"])
    for kind in ("inf", "nan"):
        yield made("Cast", [f"{out}/is_{kind}"], [f"{out}/ones_{kind}"], to=TensorProto.FLOAT)
        yield made("ReduceSum", [f"{out}/ones_{kind}"], [f"{out}/{kind}"], keepdims=1)
    yield made("Concat", [f"{out}/largest", f"{out}/inf", f"{out}/nan"], [out], axis=0)


@contextmanager
def session_of(model: ModelProto) -> Iterator[Session]:
    """A session without optimisations that holds little; a large model goes to it as a file."""
    # Each weight of 16 bits is cast to a copy in float32 at each run: an arena would keep them all.
    if structure.weight_bytes(model) < _INLINE_BYTES:
        yield Session(model.SerializeToString(), optimise=False, arena=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save_model(model, path, save_as_external_data=True, location="weights")
        yield Session(path, optimise=False, arena=False)
