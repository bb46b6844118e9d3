"""The JSON Schema of the configuration types, each key with what its docstring says of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from converter.schemas import docstrings

Node = dict[str, Any]


def schema_of(kind: type[BaseModel]) -> Node:
    """The schema of a type; what it refers to stands under ``definitions``."""
    found = kind.model_json_schema(
        schema_generator=_Documented, ref_template="#/definitions/{model}"
    )
    definitions = found.pop("$defs", {})
    return {**found, "definitions": definitions}


class _Documented(GenerateJsonSchema):
    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        """As it is: the keys of an example stand in the order in which people write them."""
        return value

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        kind: type[BaseModel] = schema["cls"]
        found["description"] = docstrings.summary(kind)
        lines = docstrings.lines(kind)
        for name, field in kind.model_fields.items():
            key = field.alias or name
            # Made by the program, and no key of a file.
            if key not in found["properties"]:
                continue
            about = found["properties"][key]
            # The name of the field in other words: an editor would show it in place of the key.
            about.pop("title", None)
            if line := lines.get(name):
                about["description"] = line.description
                # Editors would show what a shared type says of itself instead.
                for choice in about.get("anyOf", []):
                    choice.pop("description", None)
                if line.examples:
                    about["examples"] = line.examples
            if not field.is_required():
                about["default"] = _default(field)
        return found


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    # Each key in there has a default of its own.
    return {} if isinstance(value, BaseModel) else value


def example(node: Node, definitions: Node) -> Any:
    """A value that may be written there, other than the default where the type knows another.

    ``None`` where nothing tells one.
    """
    if "examples" in node:
        return node["examples"][0]
    if "$ref" in node:
        return example(definitions[named(node)], definitions)
    if "anyOf" in node:
        found = (example(choice, definitions) for choice in node["anyOf"])
        return next((value for value in found if value is not None), None)
    default = node.get("default")
    if "enum" in node:
        # The last: the usual choice comes first.
        return next((value for value in reversed(node["enum"]) if value != default), default)
    if node.get("type") == "boolean":
        return default is not True
    if node.get("type") == "array":
        item = example(node["items"], definitions)
        return None if item is None else [item]
    for key, about in node.get("properties", {}).items():
        return {key: example(about, definitions)}
    return default


def named(node: Node) -> str:
    """The name of the definition that a node refers to; empty where it refers to none."""
    return str(node.get("$ref", "")).rpartition("/")[2]
