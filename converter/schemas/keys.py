"""``docs/keys.md``: a table of keys for each kind of mapping, from the schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from converter.schemas.documented import Node, named

_HEAD = """\
# Keys

Every key of the configuration. `python -m converter.schemas` writes this page from the types, with
the schemas that [editors](editor.md) read.

Any value may be an interpolation (`${seed}`). A key of a model that is left out, or `null`, is that
of the registry, then that of the run.
"""
# Definition → heading; in this order on the page, behind what the run itself has.
HEADINGS = {
    "BatchSpec": "Run",
    "ExporterSpec": "Exporter",
    "SimplifierSpec": "Simplifier",
    "VariantSpec": "Variant",
    "RunVerifySpec": "Verify",
    "BenchmarkSpec": "Benchmark",
    "ExecutorSpec": "Executor",
    "CompareSpec": "Compare",
    "PublishSpec": "Publish",
    "SignSpec": "Sign",
    "StoreSpec": "Store",
    "ModelSpec": "Model",
    "Call": "Call",
    "Generate": "Generate",
    "Source": "Source",
    "Checkpoint": "Checkpoint",
    "InputSpec": "Input",
    "ImageSpec": "Image",
    "DataSpec": "Data",
    "MetricSpec": "Metric",
    "OutputSpec": "Output",
    "DimSpec": "Rule of sizes",
    "OpsetRange": "Opset range",
    "ExportSpec": "Export",
    "VerifySpec": "Verify of a model",
    "AccuracySpec": "Accuracy of a variant",
    "VerifyCase": "Case",
    "CaseInput": "Input of a case",
    "Expect": "Expect",
}
_WHERE = {
    "BatchSpec": "An experiment (`experiment/NAME.yaml`), `config.yaml`, the command line.",
    "ExporterSpec": "`exporter:`, `exporter/NAME.yaml`.",
    "SimplifierSpec": "`simplifier:`, `simplifier/NAME.yaml`.",
    "VariantSpec": "`variant.NAME:`, `variant/NAME.yaml`, `models.NAME.variants.NAME:`.",
    "RunVerifySpec": "`verify:`, `verify/NAME.yaml`; [more for a model](#verify-of-a-model).",
    "BenchmarkSpec": "`benchmark:`, `benchmark/NAME.yaml`; `benchmark: off` measures nothing.",
    "ExecutorSpec": "`executor:`, `executor/NAME.yaml`.",
    "PublishSpec": "`publish_to:`, or each item of a list there; a path alone is its `path`.",
    "ModelSpec": "`models.NAME:`, `model/NAME.yaml`.",
}
_BARE = {"integer": "whole number", "number": "number", "string": "text", "null": "`null`"}
_BARE |= {"boolean": "true or false", "object": "mapping"}
# Longer lists of what may be written are not repeated here.
_MOST = 12
# Of Hydra, and in the files alone.
_OF_FILES = ("defaults", "hydra")


def page(schemas: dict[str, Node]) -> str:
    """The page, from the schemas of the files that people write."""
    experiment = schemas["experiment"]
    sections = {"BatchSpec": experiment, **experiment["definitions"]}
    # Of a graph all keys are keys of a model, and stand there.
    for name in ("Interpolation", "GraphSpec"):
        sections.pop(name)
    # Types that are new have no heading yet, and may not be lost.
    order = sorted(sections, key=lambda name: [*HEADINGS, name].index(name))
    return "\n".join([_HEAD, *(_section(name, sections[name]) for name in order)])


def _section(name: str, node: Node) -> str:
    where = [_WHERE[name], ""] if name in _WHERE else []
    said = [] if name == "BatchSpec" else [node["description"], ""]
    table = ["| key | type | default | what it does |", "|---|---|---|---|"]
    table += [_row(key, about) for key, about in _keys(node)]
    return "\n".join([f"## {_heading(name)}", "", *where, *said, *table, ""])


def _heading(name: str) -> str:
    return HEADINGS.get("ModelSpec" if name == "GraphSpec" else name, name)


def _keys(node: Node) -> Iterator[tuple[str, Node]]:
    for key, about in node.get("properties", {}).items():
        if key in _OF_FILES:
            continue
        yield key, about
        # Options of plugins: by the name of the plugin, then by theirs.
        for name, options in _objects(about):
            for option, inner in options.get("properties", {}).items():
                yield f"{key}.{name}.{option}", inner


def _objects(about: Node) -> Iterator[tuple[str, Node]]:
    for choice in about.get("anyOf", [about]):
        for name, inner in choice.get("properties", {}).items():
            for option in inner.get("anyOf", [inner]):
                yield name, option


def _row(key: str, about: Node) -> str:
    default = _literal(about["default"]) if "default" in about else "–"
    shown = about["examples"][0]
    example = f" Example: {_literal(shown)}" if shown != about.get("default") else ""
    cells = [f"`{key}`", _type(about), default, about["description"] + example]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _literal(value: Any) -> str:
    """A value as it may be written in YAML, on one line."""
    return f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return value if isinstance(value, str) and _plain(value) else json.dumps(value)


def _plain(text: str) -> bool:
    """Whether YAML takes the text for text without quotes, in a list too."""
    try:
        return bool(yaml.safe_load(f"[{text}]") == [text])
    except yaml.YAMLError:
        return False


def _type(node: Node) -> str:
    *words, last = _words(node)
    return f"{', '.join(words)} or {last}" if words else last


def _words(node: Node) -> list[str]:
    """What may stand there, each alternative in words."""
    if "$comment" in node:
        return [node["$comment"]]
    if "anyOf" in node:
        return [word for choice in node["anyOf"] for word in _words(choice)]
    if "$ref" in node:
        if (name := named(node)) == "Interpolation":  # said once, at the top
            return []
        heading = _heading(name).lower()
        return [f"[{heading}](#{heading.replace(' ', '-')})"]
    if "const" in node:
        return [_literal(node["const"])]
    if "enum" in node:
        # False stands there for `off`, and the word itself beside it.
        known = ["`off`"] if False in node["enum"] else [_literal(word) for word in node["enum"]]
        return known if len(known) <= _MOST else [_BARE["string"]]
    kind = node.get("type")
    if kind == "array":
        return [f"list of {_type(node['items'])}"]
    if kind == "object" and isinstance(node.get("additionalProperties"), dict):
        keys = "axes" if "pattern" in node.get("propertyNames", {}) else "names"
        return [f"mapping of {keys} to {_type(node['additionalProperties'])}"]
    return ["any value" if kind is None else _BARE[kind] + _bounds(node)]


def _bounds(node: Node) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if "exclusiveMaximum" in node:
        high = f"{node['exclusiveMaximum'] - 1}"
    if low is not None and high is not None:
        return f" ({low} to {high})"
    if low is not None:
        return f" ({low} or more)"
    if "exclusiveMinimum" in node:
        return f" (above {node['exclusiveMinimum']})"
    return ""
