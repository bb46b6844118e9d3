"""Hashes of all that a model holds, part by part: what no list of two files' differences shows.

Every field of every message is in one of the parts, those that this version of onnx does not
know too. What differs between files that mean the same is left out: how a tensor's values are
stored, and the order of what has names.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import uses_external_data

from converter.inspection.content import INTERFACE, REST
from converter.worker.onnxfile.tensordata import TensorData

# Field → its part; with the type of the message that holds it, and of the one around that.
_PARTS = {
    "doc_string": "doc strings",
    "metadata_props": "metadata",
    "device_configurations": "device configurations",
    "value_info": "types of inner values",
    "ModelProto.producer_name": "producer",
    "ModelProto.producer_version": "producer",
    "ModelProto.domain": "domain and version of the model",
    "ModelProto.model_version": "domain and version of the model",
    "ModelProto.training_info": "training information",
    "ModelProto.configuration": "device configurations",
    "GraphProto.name": "names of graphs",
    "GraphProto.quantization_annotation": "quantization annotations",
    "NodeProto.name": "names of nodes",
    "AttributeProto/TensorProto.name": "names of tensors in attributes",
    "AttributeProto/GraphProto.input": "inputs and outputs of subgraphs",
    "AttributeProto/GraphProto.output": "inputs and outputs of subgraphs",
    "ModelProto/GraphProto.input": INTERFACE,
    "ModelProto/GraphProto.output": INTERFACE,
}
# Lists whose order means nothing, because their entries are found by name.
_UNORDERED = {
    "attribute", "attribute_proto", "functions", "initializer", "metadata_props", "opset_import",
    "quant_parameter_tensor_names", "quantization_annotation", "sparse_initializer", "value_info",
}  # fmt: skip
_VALUES = {
    "raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data",
    "string_data",
}  # fmt: skip


def parts(model: ModelProto, data: TensorData) -> dict[str, str]:
    """Part → hash; a part that the model has nothing of is missing.

    Raises:
        ValueError: a tensor is damaged.
    """
    found = _Walk(data).message(model, "", None)
    return {part: digest.hex() for part, digest in sorted(found.items())}


class _Walk:
    def __init__(self, data: TensorData) -> None:
        self._data = data

    def message(self, message: Any, holder: str, inherited: str | None) -> dict[str, bytes]:
        """Part → hash, of a message and those in it."""
        kind = message.DESCRIPTOR.name
        found: dict[str, list[object]] = defaultdict(list)
        # Fields of a newer onnx: protobuf keeps them, and two files that differ in one are not
        # equal.
        found[inherited or REST] = [
            (field.field_number, field.wire_type, str(field.data))
            for field in UnknownFieldSet(message)
        ]
        hidden: set[str] = set()
        if isinstance(message, TensorProto):
            # What the hash covers is left out below, so that two ways of storing the same values
            # agree.
            found[inherited or REST].append(self._data.sha256(message))
            hidden = _storage(message)
        for field, value in message.ListFields():
            part = inherited or _part(holder, kind, field.name)
            if field.name in hidden or _is_default(field, kind, value):
                continue
            if field.message_type is None:
                found[part or REST].append((field.name, _plain(value)))
                continue
            for place, inner in self._entries(field.name, value, kind, part):
                for name, digest in inner.items():
                    found[name].append((field.name, place, digest))
        # `repr`, which tells -0.0 from 0.0 and bytes from text.
        return {
            name: hashlib.sha256(repr(entries).encode()).digest() for name, entries in found.items()
        }

    def _entries(
        self, field: str, value: Any, kind: str, part: str | None
    ) -> Iterator[tuple[int, dict[str, bytes]]]:
        if isinstance(value, Message):
            yield 0, self.message(value, kind, part)
            return
        inner = [self.message(entry, kind, part) for entry in value]
        if field in _UNORDERED:
            # By all that the entries hold: two lists of the same entries then agree in any order.
            inner.sort(key=lambda entry: (entry.get(REST, b""), sorted(entry.items())))
        yield from enumerate(inner)


def _part(holder: str, kind: str, field: str) -> str | None:
    # The most particular key first.
    keys = (f"{holder}/{kind}.{field}", f"{kind}.{field}", field)
    return next((_PARTS[key] for key in keys if key in _PARTS), None)


def _storage(tensor: TensorProto) -> set[str]:
    """The fields that say where the values are, but for those that contradict others."""
    values = _VALUES & {field.name for field, _ in tensor.ListFields()}
    external = uses_external_data(tensor)
    hidden = {"data_location", "external_data"} if external else {"data_location"}
    # Two places for one tensor's values contradict each other: then all of them count as they
    # stand.
    return hidden if len(values) + external > 1 else hidden | values


def _is_default(field: Any, kind: str, value: Any) -> bool:
    """Whether leaving the field out would mean the same; the default domain has two names."""
    if field.message_type or field.is_repeated or field.containing_oneof:
        return False
    domain = field.name == "domain" and kind != "ModelProto"
    default = repr(value) == repr(field.default_value)  # -0.0 equals 0.0, but is not the default
    return default or (domain and value == "ai.onnx")


def _plain(value: Any) -> object:
    """A number, text or bytes, or a list of them."""
    return value if isinstance(value, (str, bytes, int, float)) else list(value)
