"""Simplify a checked model, trusting nothing that comes back.

The simplifier runs in a child process. Its result ships only if the graph keeps its
interface (inputs, outputs, names, dtypes, symbolic dimensions, opset) here and its
numbers in ``converter.worker.verify.verification``; otherwise the unsimplified file ships, and the
manifest says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto

from converter.model.records import SimplifyRecord, TensorInfo
from converter.plugins import simplifiers
from converter.worker.onnxfile import outside, structure
from converter.worker.recording import isolation

# A 1.6 KB model of doubling Concats made onnxsim run for 12 s and take 3.4 GB.
_SECONDS = 300.0
_MEMORY_BYTES = 4 << 30
# Above this the simplifier gets the structure without weights: the time goes into copying
# them, and a message over 2 GiB cannot be passed on at all.
_WHOLE_BYTES = 64 << 20


@dataclass(frozen=True)
class Simplified:
    """The simplified model, or ``None`` with the reason in ``record.reverted_reason``."""

    model: ModelProto | None
    record: SimplifyRecord


def simplify(
    model: ModelProto,
    simplifier: str,
    options: Mapping[str, Any],
    declared: set[str],
    scratch: Path,
) -> Simplified:
    """Simplify ``model``, which may be emptied of its weights: load it again to use it.

    Args:
        model: checked; its large weights may lie in files of ``scratch``.
        simplifier: name of a module of ``converter.plugins.simplifiers``.
        options: of that plugin.
        declared: symbols that the configuration gave to dynamic axes: they must stay.
        scratch: folder for what passes between the processes.
    """
    # Before the model may lose its weights to the simplifier.
    before = _interface(model)
    nodes_before = len(list(structure.nodes(model.graph)))
    ops_before = structure.op_histogram(model)
    props = list(model.metadata_props)
    whole = structure.weight_bytes(model) <= _WHOLE_BYTES
    try:
        result = _run(simplifier, options, model, scratch, whole=whole)
        if not whole:
            result = structure.graft(model, result)
        # onnxsim 0.8 notes options and counts under nineteen keys: what it did is in the record.
        del result.metadata_props[:]
        result.metadata_props.extend(props)
        # Users of the file rely on its interface, and no comparison of numbers would show a new
        # name.
        changed = _difference(before, _interface(result), declared)
        if changed:
            raise ValueError(f"{simplifier} changed {changed}")
        # onnxsim calls its result ok whatever happened (0.8.1), so nobody has checked it yet.
        # On the skeleton: with its weights the checker takes a hundred times as long (vit_b_16).
        onnx.checker.check_model(structure.skeleton(result))
    except isolation.ChildError as error:
        return _reverted(f"{simplifier} {error}", nodes_before, ops_before)
    except (ValueError, onnx.checker.ValidationError) as error:
        return _reverted(str(error).splitlines()[0], nodes_before, ops_before)
    record = SimplifyRecord(
        applied=True,
        nodes_before=nodes_before,
        nodes_after=len(list(structure.nodes(result.graph))),
        ops_before=ops_before,
        ops_after=structure.op_histogram(result),
    )
    return Simplified(result, record)


def reverted(record: SimplifyRecord, reason: str) -> SimplifyRecord:
    """The record of a simplification that was taken back after the fact."""
    # The record is of the file that ships, which is the one before.
    kept = {"nodes_after": record.nodes_before, "ops_after": record.ops_before}
    return record.model_copy(update={"applied": False, "reverted_reason": reason, **kept})


def _reverted(reason: str, nodes: int, ops: dict[str, int]) -> Simplified:
    record = SimplifyRecord(
        applied=False,
        reverted_reason=reason,
        nodes_before=nodes,
        nodes_after=nodes,
        ops_before=ops,
        ops_after=ops,
    )
    return Simplified(None, record)


def _run(
    simplifier: str, options: Mapping[str, Any], model: ModelProto, scratch: Path, *, whole: bool
) -> ModelProto:
    output = scratch / "simplified.onnx"
    plugin = simplifiers.load(simplifier)
    chosen = plugin.Options.model_validate(options)

    def work() -> None:
        subject = model if whole else structure.skeleton(model)
        outside.read(subject, scratch)  # in the child alone
        output.write_bytes(plugin.simplify(subject, chosen).SerializeToString())

    isolation.call(
        work, seconds=_SECONDS, memory_bytes=_MEMORY_BYTES, log=scratch / "simplifier.log"
    )
    result = ModelProto()
    try:
        result.ParseFromString(output.read_bytes())
    except (FileNotFoundError, DecodeError) as error:  # it may end its process, or write anything
        raise isolation.ChildError("left no ONNX model") from error
    output.unlink()
    return result


@dataclass(frozen=True)
class _Interface:
    """What users of a file rely on."""

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    opsets: dict[str, int]
    dropouts: int


def _interface(model: ModelProto) -> _Interface:
    nodes = structure.nodes(model.graph)
    # A simplifier may drop the import of a domain that no node uses any more.
    return _Interface(
        structure.graph_inputs(model),
        structure.graph_outputs(model),
        {"ai.onnx": structure.opsets(model).get("ai.onnx", 0)},
        # With an input that says whether it trains: onnxslim removes it even where it does, and
        # numbers cannot tell, since dropout is compared with its ratio at zero.
        # Counted, because the session's optimisations take Dropout out of either file.
        sum(node.op_type == "Dropout" and len(node.input) > 2 for node in nodes),
    )


def _difference(before: _Interface, after: _Interface, declared: set[str]) -> str | None:
    """What differs, in a few words, or ``None``."""
    if before.opsets != after.opsets:
        return f"the opset from {before.opsets} to {after.opsets}"
    if before.dropouts != after.dropouts:
        return f"the dropout of training mode: {before.dropouts} before, {after.dropouts} after"
    for what, old, new in (
        ("inputs", before.inputs, after.inputs),
        ("outputs", before.outputs, after.outputs),
    ):
        if len(old) != len(new):
            return f"the graph's {what}: {len(old)} before, {len(new)} after"
        for left, right in zip(old, new, strict=True):
            if left.name != right.name or left.dtype != right.dtype:
                return f"{what}: {left.name} {left.dtype} became {right.name} {right.dtype}"
            if not _same_dims(left, right, declared):
                return f"the shape of {left.name} from {left.shape} to {right.shape}"
    return None


def _same_dims(before: TensorInfo, after: TensorInfo, declared: set[str]) -> bool:
    """Sizes and declared symbols stay; one that an exporter made up may become a number."""
    # An exporter that states no shape has promised none.
    if not before.shape:
        return True
    if len(before.shape) != len(after.shape):
        return False
    return all(
        old == new or old is None or (isinstance(old, str) and old not in declared)
        for old, new in zip(before.shape, after.shape, strict=True)
    )
