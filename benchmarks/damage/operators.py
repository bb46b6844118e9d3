"""Damaged operators: removed, exchanged for a relative, rounded to float16 on the way."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from damage.editing import Damage, bypass, constants, insert_after, nodes, replace_constant

REMOVABLE = (
    "Clip", "Relu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Softmax", "LayerNormalization",
    "BatchNormalization", "Sqrt", "Exp", "Abs", "LeakyRelu", "Elu", "Floor", "Erf", "Neg",
)  # fmt: skip
RELATIVES = {
    "Greater": "GreaterOrEqual", "GreaterOrEqual": "Greater", "Less": "LessOrEqual",
    "LessOrEqual": "Less", "And": "Or", "Or": "And", "ReduceMean": "ReduceMax",
    "ReduceMax": "ReduceMean", "GlobalAveragePool": "GlobalMaxPool", "Min": "Max", "Max": "Min",
    "Floor": "Ceil", "Ceil": "Floor", "Add": "Sub", "Sub": "Add",
}  # fmt: skip


def of(model: ModelProto) -> Iterator[Damage]:
    held = constants(model.graph)
    for number, node in nodes(model, *REMOVABLE):
        yield Damage("removed", f"{node.op_type} {number}", partial(_bypass, number))
    for number, node in nodes(model, *RELATIVES):
        kind = "comparison" if "Greater" in node.op_type or "Less" in node.op_type else "relative"
        yield Damage(kind, f"{node.op_type} {number}", partial(_rename, number))
    for number, _ in nodes(model, "Where"):
        yield Damage("branches", f"Where {number}", partial(_exchange, number, 1, 2))
    for number, _ in nodes(model, "If"):
        yield Damage("branches", f"If {number}", partial(_swap_graphs, number))
    for number, node in nodes(model, "Sub", "Div", "Pow"):
        if not any(name in held for name in node.input):
            yield Damage("operands", f"{node.op_type} {number}", partial(_exchange, number, 0, 1))
    yield from _numbers(model)
    yield from _half(model)


def _bypass(number: int, model: ModelProto) -> None:
    bypass(model, number)


def _rename(number: int, model: ModelProto) -> None:
    node = model.graph.node[number]
    node.op_type = RELATIVES[node.op_type]


def _exchange(number: int, first: int, second: int, model: ModelProto) -> None:
    names = model.graph.node[number].input
    names[first], names[second] = names[second], names[first]


def _swap_graphs(number: int, model: ModelProto) -> None:
    for item in model.graph.node[number].attribute:
        item.name = {"then_branch": "else_branch", "else_branch": "then_branch"}[item.name]


def _numbers(model: ModelProto) -> Iterator[Damage]:
    """Thresholds, exponents, factors: constants of one element."""
    held = constants(model.graph)
    kinds = {
        "Clip": "threshold", "Greater": "threshold", "Less": "threshold", "Equal": "threshold",
        "GreaterOrEqual": "threshold", "LessOrEqual": "threshold", "Min": "threshold",
        "Max": "threshold", "Pow": "constant", "Mul": "constant", "Div": "constant",
        "Add": "constant", "Sub": "constant", "Where": "constant",
    }  # fmt: skip
    for number, node in nodes(model, *kinds):
        for place, name in enumerate(node.input):
            values = held.get(name)
            if values is None or values.size != 1 or values.dtype.kind not in "fi":
                continue
            factor = 1.5 if kinds[node.op_type] == "threshold" else 1.02
            if values.dtype.kind == "i":
                changed = values + 1
            elif np.abs(values).item() > 1e4:  # minus infinity, as masks write it
                changed = values * 0
            else:
                changed = values * values.dtype.type(factor) + values.dtype.type(0.01)
            yield Damage(
                kinds[node.op_type],
                f"{node.op_type} {number} ({values.item():.4g} to {changed.item():.4g})",
                partial(_constant, number, place, changed.astype(values.dtype)),
            )


def _constant(number: int, place: int, values: np.ndarray, model: ModelProto) -> None:
    replace_constant(model, number, place, values)


def _half(model: ModelProto) -> Iterator[Damage]:
    """Through float16 and back: each input, and what large operators compute."""
    floats = [
        value.name
        for value in model.graph.input
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    made = [
        node.output[0]
        for _, node in nodes(model, "Conv", "MatMul", "Gemm", "LayerNormalization", "Softmax")
        if node.output[0] not in {value.name for value in model.graph.output}
    ]
    typed = {item.name: item.type.tensor_type.elem_type for item in _inferred(model)}
    made = [name for name in made if typed.get(name, TensorProto.FLOAT) == TensorProto.FLOAT]
    for name in [*floats, *made[:1], *made[len(made) // 2 : len(made) // 2 + 1]]:
        yield Damage("float16", name, partial(_through_half, name))


def _inferred(model: ModelProto) -> list[onnx.ValueInfoProto]:
    return list(onnx.shape_inference.infer_shapes(model).graph.value_info)


def _through_half(value: str, model: ModelProto) -> None:
    def casts(source: str, target: str) -> list[NodeProto]:
        return [
            helper.make_node("Cast", [source], [f"{target}_half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{target}_half"], [target], to=TensorProto.FLOAT),
        ]

    insert_after(model, value, casts)
