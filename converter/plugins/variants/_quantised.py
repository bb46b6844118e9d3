"""What all quantised variants share: the parent made ready for ONNX Runtime's quantizer.

The quantizer itself raises no opset for scales per channel, names no node, writes what it infers
beside its input, and starts sessions that take all cores: all of that is done here.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import onnx
from onnx import ModelProto, inliner, numpy_helper

from converter.plugins.variants import Given, NothingToConvertError
from converter.worker.onnxfile import checking, structure
from converter.worker.onnxfile.quantised import TRANSPOSED

# From here on QuantizeLinear and DequantizeLinear have an axis: scales per channel.
PER_CHANNEL = 13
# What only the quantizer reads, so that it does not write the model into files to infer its shapes.
_INFERRED = ("onnx.infer", "onnxruntime.quant")
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
# What a model may compute with instead of what a variant quantises.
_COMPUTING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}) | _RECURRENT
_LARGEST = (2 << 30) - (64 << 20)


def ready(parent: Path, opset: int, given: Given) -> ModelProto:
    """The model with its weights, shapes that are inferred, and a name for every node.

    ``given.made`` says where its opset was raised.

    Args:
        parent: the float32 file; it is only read.
        opset: the least that the default domain needs.

    Raises:
        ValueError: it cannot be brought to that opset, or is too large for the quantizer.
    """
    model = checking.load(parent)
    if structure.weight_bytes(model) > _LARGEST:
        raise ValueError("the file holds 2 GiB of weights or more, which the quantizer cannot take")
    if model.functions:
        model = inliner.inline_local_functions(model)
    found = structure.opsets(model).get("ai.onnx", 0)
    if found < opset:
        model = _raised(model, opset)
        said = f"opset raised from {found} to {opset}, which quantisation needs"
        notes = [*given.made.notes, said]
        given.made = given.made.model_copy(update={"notes": notes})
    _name(model)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    model.metadata_props.add(key=_INFERRED[0], value=_INFERRED[1])
    return model


@contextlib.contextmanager
def explained(options: str) -> Iterator[None]:
    """Say in a sentence where ONNX Runtime's quantizer fails.

    Args:
        options: those that leave nodes in float32.

    Raises:
        ValueError: it does.
    """
    try:
        yield
    # It has no common type for what it cannot do.
    except (
        ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError,
        RuntimeError, TypeError, ValueError, onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:  # fmt: skip
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"ONNX Runtime's quantizer fails on this model: {why}; leave in float32 what it fails "
            f"on ({options})"
        ) from error


def finished(model: ModelProto, parent: Path) -> ModelProto:
    """The model without the traces of the quantizer, and with what the parent says of itself."""
    own = onnx.load(parent, format="protobuf", load_external_data=False)
    for index in reversed(range(len(model.metadata_props))):
        if model.metadata_props[index].key == _INFERRED[0]:
            del model.metadata_props[index]
    # The quantizer puts its own name over that of the exporter.
    model.producer_name, model.producer_version = own.producer_name, own.producer_version
    # Weights that could be fed by their name are integers of another name now.
    fed = {value.name for value in structure.fed_inputs(own)}
    held = {tensor.name for tensor in model.graph.initializer}
    for index in reversed(range(len(model.graph.input))):
        if model.graph.input[index].name not in fed | held:
            del model.graph.input[index]
    # Types that were inferred for float32 would be claims about a file that is int8 now.
    model.graph.ClearField("value_info")
    used = {node.domain or "ai.onnx" for node in structure.nodes(model.graph)}
    for index in reversed(range(len(model.opset_import))):
        # It imports domains that no operator is of, and a reader must know all of them.
        domain = model.opset_import[index].domain or "ai.onnx"
        if domain not in used and domain not in structure.opsets(own):
            del model.opset_import[index]
    return model


def _raised(model: ModelProto, opset: int) -> ModelProto:
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    try:
        raised = onnx.version_converter.convert_version(model, opset)
    # onnx has no common type for what its converter refuses.
    except (RuntimeError, ValueError, IndexError, onnx.checker.ValidationError) as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"quantisation needs opset {opset}, and onnx cannot raise this file to it ({why}); "
            f"export the model at opset {opset} or above"
        ) from error
    kept = [value.name for value in raised.graph.input if value.name in inputs]
    if kept != inputs or [value.name for value in raised.graph.output] != outputs:
        raise ValueError(
            f"quantisation needs opset {opset}, and raising the file to it changes its inputs or "
            f"outputs; export the model at opset {opset} or above"
        )
    return raised


def _name(model: ModelProto) -> None:
    """Give every node a name of its own: nodes are left out, and told, by name."""
    taken = {node.name for node in structure.nodes(model.graph)}
    seen: set[str] = set()
    for node in model.graph.node:
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        # By what it gives, which is unique: the same file gets the same names everywhere.
        first = next((name for name in node.output if name), node.op_type)
        name = base = f"{node.op_type}_{first}"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        seen.add(name)
        node.name = name


def nodes_of(model: ModelProto, operators: Iterable[str]) -> list[str]:
    """Names of the nodes of these operators, in order."""
    wanted = set(operators)
    return [node.name for node in model.graph.node if not node.domain and node.op_type in wanted]


def nothing(
    model: ModelProto, taken: Collection[str], left_out: Collection[str] = (), advice: str = ""
) -> str:
    """Why a model has nothing to quantise, in a sentence.

    Args:
        taken: operators that would have been quantised.
        left_out: nodes that stay in float32 because the configuration says so.
        advice: what to do about layers that are no such operators.
    """
    own = {node.op_type for node in model.graph.node}
    inner = {node.op_type for node in structure.nodes(model.graph)} - own
    asked = ", ".join(sorted(taken)) or "no operator"
    if any(node.op_type in taken and node.name in left_out for node in model.graph.node):
        return f"nothing to quantise: all nodes of {asked} are in node_block_list"
    if own & set(taken):
        found = ", ".join(sorted(own & set(taken)))
        return f"nothing to quantise: {found} in this model has no float32 weights of its own"
    if inner & set(taken):
        return (
            f"nothing to quantise: {', '.join(sorted(inner & set(taken)))} only in the bodies of "
            "loops or branches, which the quantizer does not enter"
        )
    layers = sorted(own & _COMPUTING)
    if not layers:
        held = ", ".join(sorted(own)[:5]) or "no operator"
        return f"nothing to quantise: the model computes with {held}"
    held = ", ".join(layers)
    said = f"nothing to quantise: {asked} would be, and the model computes with {held}"
    return f"{said}; {advice}" if advice else said


def refuse_recurrent(model: ModelProto) -> None:
    """Refuse a model whose weights are mostly those of recurrent layers: they have no static form.

    Raises:
        NothingToConvertError: they are.
    """
    sizes = {
        tensor.name: math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    total = sum(sizes.values())
    held: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in _RECURRENT:
            # Shared ones count once.
            own = sum(sizes.pop(name, 0) for name in node.input)
            held[node.op_type] = held.get(node.op_type, 0) + own
    if not held or 2 * sum(held.values()) <= total:
        return
    lstm = "int8_dynamic quantises LSTM" if "LSTM" in held else "GRU and RNN have no form in 8 bits"
    raise NothingToConvertError(
        f"{sum(held.values()) / total:.0%} of the weights are those of {', '.join(sorted(held))}, "
        f"for which ONNX Runtime has no static form in 8 bits; {lstm}"
    )


def require(model: ModelProto, nodes: Iterable[str]) -> None:
    """Raise where a model has no node of a name.

    Raises:
        ValueError: it has not.
    """
    missing = set(nodes) - {node.name for node in model.graph.node}
    if missing:
        raise ValueError(f"node_block_list: the model has no node {', '.join(sorted(missing))}")


def split_gemms(model: ModelProto, names: Collection[str]) -> None:
    """Make MatMul and Add of these nodes where they are Gemms with weights of their own.

    The weight keeps its name; where the Gemm transposes it, its axes change places and the name
    says so.
    """
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for index in reversed(range(len(model.graph.node))):
        node = model.graph.node[index]
        if node.op_type != "Gemm" or node.name not in names:
            continue
        set_ = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if set_.get("alpha", 1.0) != 1.0 or set_.get("beta", 1.0) != 1.0 or set_.get("transA", 0):
            continue
        weight = node.input[1]
        if set_.get("transB", 0):
            flipped = f"{weight}{TRANSPOSED}"
            if flipped not in held:
                values = numpy_helper.to_array(held[weight]).T
                model.graph.initializer.append(numpy_helper.from_array(values.copy(), flipped))
                held[flipped] = model.graph.initializer[-1]
            weight = flipped
        bias = node.input[2] if len(node.input) > 2 else ""
        output = node.output[0]
        product = f"{output}/product" if bias else output
        matmul = onnx.helper.make_node("MatMul", [node.input[0], weight], [product], node.name)
        del model.graph.node[index]
        if bias:
            added = onnx.helper.make_node("Add", [product, bias], [output], f"{node.name}/bias")
            model.graph.node.insert(index, added)
        model.graph.node.insert(index, matmul)
    _drop_unused(model)


def _drop_unused(model: ModelProto) -> None:
    used = set(structure.references(model.graph))
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name not in used:
            del model.graph.initializer[index]
