"""The opset of a model raised to where ONNX has its operators in a type.

ONNX has bfloat16 for MatMul, Add or Softmax from opset 13 on, for LayerNormalization from 17, for
Conv, MaxPool, HardSwish and the recurrent operators from 22. A file that says so at a lower opset
is refused by ONNX Runtime and by strict type inference, though the checker takes it (onnx 1.23).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx
from onnx import ModelProto, helper, version_converter

from converter.worker.inputs.reduced import Reduced
from converter.worker.onnxfile import structure

# Casts and constants are in bfloat16 from here on, which no file of it does without.
_LEAST = 13
# What is in bfloat16 later only (TopK 24, Einsum 28) stays float32: hardly any runtime reads that.
_MOST = 22


def needed(model: ModelProto, kind: Reduced, blocked: Collection[str]) -> int:
    """The lowest opset, up to 22, at which ONNX has all that it has of a model in a type."""
    held = {node.op_type for node in structure.nodes(model.graph) if not node.domain}
    first: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        formals = (*schema.inputs, *schema.outputs)
        # A schema that has no such type at any opset asks for nothing.
        if not schema.domain and any(kind.typed in formal.types for formal in formals):
            first[schema.name] = min(schema.since_version, first.get(schema.name, _MOST + 1))
    wanted = [first[op] for op in held - set(blocked) if first.get(op, _MOST + 1) <= _MOST]
    return max([_LEAST, *wanted])


def raised(model: ModelProto, opset: int) -> ModelProto:
    """The model at an opset that is at least this one; ``model`` is not changed.

    Raises:
        ValueError: it cannot be raised.
    """
    before = structure.opsets(model).get("ai.onnx", 0)
    if before >= opset:
        return model
    # Without its weights, which would be copied three times; it drops metadata, too, so that only
    # nodes and versions are taken over.
    bare = structure.skeleton(model)
    try:
        new = version_converter.convert_version(bare, opset)
    # A RuntimeError of its C++ adapters: BatchNormalization in training mode below opset 14.
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"it needs opset {opset}, and the model's opset {before} cannot be raised "
            f"({_said(error)}): export at opset {opset}"
        ) from error
    result = ModelProto()
    result.CopyFrom(model)
    result.ClearField("opset_import")
    result.opset_import.extend(new.opset_import)
    result.ir_version = max(model.ir_version, helper.find_min_ir_version_for(new.opset_import))
    result.graph.ClearField("node")
    result.graph.node.extend(new.graph.node)
    result.graph.initializer.extend(_added(new.graph.initializer, bare.graph.initializer))
    return result


def _added(
    after: Iterable[onnx.TensorProto], before: Iterable[onnx.TensorProto]
) -> list[onnx.TensorProto]:
    held = {tensor.name for tensor in before}
    return [tensor for tensor in after if tensor.name not in held]


def _said(error: Exception) -> str:
    """What an adapter says, without the place in its C++ source."""
    return " ".join(str(error).split()).rpartition(" failed: ")[2]
