"""Whether the integers of a quantised file stand for the weights of its float32 file.

Quantisation changes outputs by so much that a damaged weight is lost in it: at 30 dB, and more so
where no threshold applies, one tensor of a deep network may be negated or zeroed. The integers
themselves show it: times their scale each lies within one step of the weight that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking, quantised, structure
from converter.worker.onnxfile.quantised import Weight
from converter.worker.runtime.session import Session
from converter.worker.verify import counterparts
from converter.worker.verify.counterparts import Unnamed

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
# Rounding to the nearest is off by half a step. Ranges that are not symmetric cut off half a step
# more, blocks of four bits a whole one.
_STEPS = 1.01
# Scales are float32: a bias of 2^31 steps is known to so much of itself only.
_OF_FLOAT32 = 2.0**-22
# Of an activation in the float32 file: so much of its norm may be beyond the range that it is
# quantised in. Calibration by entropy cuts off a few percent.
_CUT_OFF = 0.5
_ALL = (-np.inf, np.inf)


@dataclass(frozen=True)
class Compared:
    """What became of the comparison.

    Attributes:
        wrong: the first weight that is another one, in a sentence; empty: all are right.
        weights: how many were compared.
        unknown: names of those that have no counterpart in the float32 file. One with as many
            elements as a weight of that file that has none either is wrong.
    """

    wrong: str
    weights: int = 0
    unknown: tuple[str, ...] = ()


def compare(parent: Path, derived: Path) -> Compared:
    """Compare all weights of a quantised file with those that it was made from.

    By name, and by their numbers where no name tells. Weights that stayed floats have to be equal.
    """
    model = checking.load(derived)
    wide = dict(structure.constants(checking.load(parent).graph))
    wrong = _scale(model)
    if wrong:
        return Compared(wrong)
    named: list[str] = []
    unnamed: list[Unnamed] = []
    for weight in quantised.weights(model):
        tensor, off = wide.get(weight.source), None
        if tensor is not None and tensor.data_type in _FLOATS:
            off = _off(weight, numpy_helper.to_array(tensor).astype(np.float64))
        if off:
            return Compared(off)
        if off is None:
            unnamed.append(Unnamed(weight.name, weight.elements, weight.floats, _near))
        else:
            named.append(weight.source)
    for name, tensor in _floats(model.graph, quantised.scales(model)):
        if name not in wide:
            unnamed += counterparts.floats(name, tensor)
            continue
        got, want = numpy_helper.to_array(tensor), numpy_helper.to_array(wide[name])
        if got.shape != want.shape or not np.array_equal(got, want, equal_nan=True):
            return Compared(f"weight '{name}' is another one than in the float32 file")
        named.append(name)
    found = counterparts.match(unnamed, wide, named)
    return Compared(found.wrong, len(named) + found.found, found.unknown)


def _floats(graph: GraphProto, scales: set[str]) -> Iterator[tuple[str, TensorProto]]:
    """Weights that stayed floats, and constants that nodes take."""
    used = counterparts.used(graph)
    for name, tensor in structure.constants(graph):
        if tensor.data_type in _FLOATS and name in used and name not in scales:
            yield name, tensor


def _off(weight: Weight, want: NDArray[np.float64]) -> str | None:
    """What is wrong with a weight; empty: nothing; ``None``: it cannot be compared."""
    found = weight.floats()
    if found is None:
        return None
    got, step = found
    if weight.transposed:
        want = want.T
    if got.size != want.size:
        return f"weight '{weight.source}' has {got.size} elements, the float32 file has {want.size}"
    # Recurrent weights change their number of axes on the way.
    want = want.reshape(got.shape)
    off = ~_near(got, want, step)
    if not off.any():
        return ""
    place = tuple(int(index) for index in np.unravel_index(np.argmax(off), off.shape))
    return (
        f"weight '{weight.source}'{list(place)} stands for {got[place]:.6g}, the float32 file has "
        f"{want[place]:.6g}, which is more than one step of {step[place]:.3g} away "
        f"({off.mean():.0%} of its elements are)"
    )


def _near(
    got: NDArray[np.float64], want: NDArray[np.float64], step: NDArray[np.float64]
) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(got - want) <= _STEPS * step + _OF_FLOAT32 * np.abs(want)
    return near


def _scale(model: ModelProto) -> str:
    """A scale that no quantiser writes, or a pair that does not give back what it was given."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for name in sorted(quantised.scales(model) & held.keys()):
        values = numpy_helper.to_array(held[name])
        # Blocks of four bits have negative scales: their largest element is -8 steps.
        if not np.isfinite(values).all() or not values.all():
            return f"scale '{name}' is zero or not finite"
    for node in model.graph.node:
        before = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if before is None or before.op_type != "QuantizeLinear":
            continue
        for place, what in ((1, "scale"), (2, "zero point")):
            one, other = (_value(part, place, held) for part in (before, node))
            if one is not None and other is not None and not np.array_equal(one, other):
                return (
                    f"tensor '{before.input[0]}' is quantised with another {what} than it is "
                    "dequantised with"
                )
    return ""


def _value(node: NodeProto, place: int, held: Mapping[str, TensorProto]) -> NDArray[Any] | None:
    name = node.input[place] if place < len(node.input) else ""
    return numpy_helper.to_array(held[name]) if name in held else None


def cut_off(parent: Path, derived: Path, feeds: Mapping[str, Array]) -> str:
    """The first activation that lies outside of its range, in a sentence; empty: none does.

    Args:
        feeds: one set of inputs, as the parent takes them.

    Raises:
        StageError: SESSION, when ONNX Runtime refuses the parent.
    """
    model, wide = checking.load(derived), checking.load(parent)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {name for node in wide.graph.node for name in node.output}
    nodes = {
        node.input[0]: node
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] in made
    }
    if not nodes:  # ranges that are taken as the file runs
        return ""
    outputs = {value.name for value in wide.graph.output}
    kept = {name: _kept(name, wide) for name in nodes if name not in outputs}
    for name in nodes:
        if name not in outputs:
            wide.graph.output.add(name=name)
    session = Session(wide.SerializeToString(), optimise=False)
    for name, values in zip(session.outputs, session.run(feeds), strict=True):
        if name in nodes and values.size:
            ends = kept.get(name, _ALL)
            found = _lost(name, values.astype(np.float64), nodes[name], held, ends)
            if found:
                return found
    return ""


def _kept(name: str, wide: ModelProto) -> tuple[float, float]:
    """Between which numbers a tensor matters: whoever reads it may cut off what is beyond.

    ONNX Runtime's quantizer gives it the range of what they give, which loses nothing.
    """
    constants = dict(structure.constants(wide.graph))
    readers = [node for node in structure.nodes(wide.graph) if name in node.input]
    if not readers or any(node.op_type not in ("Relu", "Clip") for node in readers):
        return _ALL
    ends = [quantised.limits(node, constants) for node in readers]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _lost(
    name: str,
    values: NDArray[np.float64],
    node: NodeProto,
    held: Mapping[str, TensorProto],
    ends: tuple[float, float] = _ALL,
) -> str:
    """What the integers of a tensor lose of it, in a sentence; empty: little.

    Args:
        ends: between which its values matter.
    """
    share = _beyond(values, node, held, ends)
    if share <= _CUT_OFF:
        return ""
    scale, zero = _value(node, 1, held), _value(node, 2, held)
    assert scale is not None, "there is a share only of what has a scale and a zero point"
    assert zero is not None, "there is a share only of what has a scale and a zero point"
    step, offset = float(scale.ravel()[0]), float(zero.ravel()[0])
    limits = np.iinfo(zero.dtype)
    low, high = (limits.min - offset) * step, (limits.max - offset) * step
    inside = np.linalg.norm(np.clip(values, low, high) - values) <= _CUT_OFF / 2 * np.linalg.norm(
        values
    )
    if inside:
        return (
            f"tensor '{name}' is quantised in steps of {step:.3g} (its range is {low:.3g} to "
            f"{high:.3g}), too coarse for the {np.abs(values).max():.3g} at most that the float32 "
            "file gives there"
        )
    return (
        f"tensor '{name}' is quantised in a range that holds {1 - share:.0%} of what the float32 "
        "file gives there"
    )


def _beyond(
    values: NDArray[np.float64],
    node: NodeProto,
    held: Mapping[str, TensorProto],
    ends: tuple[float, float],
) -> float:
    """Of the norm of a tensor the share that its integers lose, from 0 to 1."""
    scale, zero = _value(node, 1, held), _value(node, 2, held)
    values = np.clip(values, *ends)
    norm = float(np.linalg.norm(values))
    if scale is None or scale.size != 1 or zero is None or not norm:
        return 0.0
    limits = np.iinfo(zero.dtype)
    step, offset = float(scale.ravel()[0]), float(zero.ravel()[0])
    back = (np.clip(np.rint(values / step) + offset, limits.min, limits.max) - offset) * step
    return min(1.0, float(np.linalg.norm(np.clip(back, *ends) - values)) / norm)
