"""For every key of the configuration, at every depth, a value of every kind that it does not take.

They are generated from the schema of an experiment, so that a key that is new has its own at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Node = dict[str, Any]
Path = tuple[str | int, ...]

# A value of each kind, by the names of JSON Schema; no whole number, which any number may be.
VALUES: dict[str, Any] = {
    "string": "text",
    "number": 1.5,
    "boolean": True,
    "null": None,
    "array": ["text"],
    "object": {"some_key": "text"},
}
# What Hydra takes out of a file before anything is validated.
_OF_HYDRA = ("defaults", "hydra")
# Free names: of models, of their inputs, of an axis.
_NAME, _AXIS = "free", "0"


@dataclass(frozen=True)
class Wrong:
    """A configuration in which one value is of a wrong kind.

    Attributes:
        path: the keys that lead to the value; an index is a number.
        kind: of the value, as JSON Schema calls it.
        config: as parsed from YAML; apart from the value it is right.
    """

    path: Path
    kind: str
    config: dict[str, Any]

    @property
    def key(self) -> str:
        """As a message names it."""
        return ".".join(str(part) for part in self.path)

    def __str__(self) -> str:
        return f"{self.key}-{self.kind}"


def wrong_kinds(schema: Node) -> list[Wrong]:
    """All of them.

    Args:
        schema: of an experiment, as ``converter.schemas.configuration.schemas`` makes it.
    """
    generator = _Generator(schema["definitions"])
    properties = {k: v for k, v in schema["properties"].items() if k not in _OF_HYDRA}
    return [
        Wrong(path, kind, _with_source(path, around))
        for path, kind, around in generator.of_mapping({"properties": properties}, ())
    ]


class _Generator:
    def __init__(self, definitions: Node) -> None:
        self._definitions = definitions

    def of_mapping(self, node: Node, path: Path) -> Iterator[tuple[Path, str, Any]]:
        """Path, kind, and the mapping around the value with the other keys that it needs."""
        properties = node.get("properties", {})
        needed = {
            key: about["examples"][0]
            for key, about in properties.items()
            # Of an option of several plugins there may be several defaults.
            if "default" not in about and not _owner(about, "plugin")
        }
        for key, about in properties.items():
            names_it = next((name for name in ("name", "layout") if name in properties), "plugin")
            beside = needed | _owner(about, names_it)
            for where, kind, value in self.of_value(about, (*path, key)):
                yield where, kind, {**beside, key: value}
        free = node.get("additionalProperties")
        if isinstance(free, dict):
            name = _AXIS if "pattern" in node.get("propertyNames", {}) else _NAME
            for where, kind, value in self.of_value(free, (*path, name)):
                yield where, kind, {name: value}

    def of_value(self, node: Node, path: Path) -> Iterator[tuple[Path, str, Any]]:
        choices = list(self._choices(node))
        taken = {kind for choice in choices for kind in _taken(choice)}
        for kind, value in VALUES.items():
            if kind not in taken:
                yield path, kind, value
        for choice in choices:
            yield from self.of_mapping(choice, path)
            if "items" in choice:
                for where, kind, value in self.of_value(choice["items"], (*path, 0)):
                    yield where, kind, [value]

    def _choices(self, node: Node) -> Iterator[Node]:
        """The alternatives, but for the interpolation, which is text of a form of its own."""
        if "$comment" in node:  # a tree, whose parts are tried where it is not nested
            yield from ({"type": choice["type"]} for choice in node["anyOf"])
        elif "anyOf" in node:
            for choice in node["anyOf"]:
                yield from self._choices(choice)
        elif "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name != "Interpolation":
                yield from self._choices(self._definitions[name])
        else:
            yield node


def _owner(about: Node, names_it: str) -> dict[str, str]:
    """The choice of the plugin that an option belongs to: another one does not know the key."""
    found = re.match(r"Option of `(\w+)`", about.get("description", ""))
    return {names_it: found[1]} if found else {}


def _taken(node: Node) -> set[str]:
    if "enum" in node:
        return {_kind_of(value) for value in node["enum"]}
    if "const" in node:
        return {_kind_of(node["const"])}
    return {node["type"]} if "type" in node else set(VALUES)


def _kind_of(value: object) -> str:
    return "boolean" if isinstance(value, bool) else "string"


def _with_source(path: Path, config: Any) -> dict[str, Any]:
    """The configuration, with a model that there is."""
    whole = {"models": {_NAME: {}}, **config}
    if path[0] == "models" and len(path) < 3:
        return whole  # the value is in the place of the model
    model = {"source": "conv_bn_relu", **whole["models"][_NAME]}
    return {**whole, "models": {_NAME: model}}
