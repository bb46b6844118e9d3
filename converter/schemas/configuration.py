"""The schemas of the YAML files that people write: a model, an experiment, a preset of each group.

They say what an editor should accept, which is more than the typed layer does: Hydra merges files
before that sees them. So a file may leave out any key that another one states, and put an
interpolation in the place of any value.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from converter.config import standard
from converter.model.base import Frozen
from converter.model.batch import BatchSpec
from converter.model.errors import Code
from converter.plan import graphs, request
from converter.plugins import loader
from converter.schemas.documented import Node, example, named, schema_of

# The draft that the language servers of editors support in full; 2020-12 adds nothing used here.
DIALECT = "http://json-schema.org/draft-07/schema#"
# A schema is read from a copy beside somebody's files, and from no server: a URN names it without
# promising a place.
URN = "urn:onnx-zoo-converter:schema:"
GROUPS = {
    "exporter": "ExporterSpec",
    "simplifier": "SimplifierSpec",
    "variant": "VariantSpec",
    "verify": "RunVerifySpec",
    "benchmark": "BenchmarkSpec",
    "executor": "ExecutorSpec",
}
"""A group → the definition that its presets follow."""
ROOTS = {"model": "ModelSpec", "experiment": "BatchSpec", **GROUPS}
"""A schema → the definition at its root."""

# The keys that plugins add to a group stand among its own, or under `options` by their name.
_AMONG = {
    "SimplifierSpec": "simplifiers", "VariantSpec": "variants", "ExecutorSpec": "executors",
    "PublishSpec": "layouts",
}  # fmt: skip
_UNDER = {"ExporterSpec": "exporters", "BenchmarkSpec": "providers"}
# What items of a list leave out no other file can add: Hydra replaces a list.
_WHOLE = ("VerifyCase",)
_ABOUT = ("title", "description", "default", "examples")
_INTERPOLATION = {
    "description": "An interpolation such as `${seed}`, or `???`: to be given on the command line.",
    "type": "string",
    "pattern": r"\$\{|^\?\?\?$",
}
_DEFAULTS: Node = {
    "description": "The files that this one builds on, in order; `_self_` is this one.",
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "additionalProperties": {
                    # YAML 1.1 reads an unquoted `off` as false.
                    "anyOf": [
                        {"type": "string"},
                        {"type": "null"},
                        {"const": False},
                        {"type": "array", "items": {"type": "string"}},
                    ]
                },
            },
        ]
    },
    "default": [],
    "examples": [["seeds", {"override /verify": "strict"}, "_self_"]],
}


def schemas(built_in: bool) -> dict[str, Node]:
    """The schema of each kind of file.

    Args:
        built_in: without the plugins that other distributions announce.
    """
    definitions = _definitions(built_in)
    return {name: _file(name, root, definitions) for name, root in ROOTS.items()}


def _file(name: str, root: str, definitions: Node) -> Node:
    """The schema of one kind of file, with the definitions that it refers to and no others."""
    body = copy.deepcopy(definitions[root])
    body["properties"]["defaults"] = _DEFAULTS
    if name == "experiment":
        body["properties"]["hydra"] = {
            "description": "Settings of Hydra's own, such as the folder of a run.",
            "type": "object",
            "default": {},
            "examples": [{"run": {"dir": "outputs/mine"}}],
        }
    used: dict[str, Any] = {}
    waiting = list(_references(body))
    while waiting:
        if (other := waiting.pop()) not in used:
            used[other] = definitions[other]
            waiting += _references(used[other])
    return {
        "$schema": DIALECT,
        "$id": URN + name,
        "title": f"A preset of the group {name}" if name in GROUPS else f"The file of one {name}",
        **{key: value for key, value in body.items() if key != "title"},
        "definitions": dict(sorted(used.items())),
    }


def _references(node: Any) -> Iterator[str]:
    """The names of all definitions that a schema refers to."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield named(node)
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _definitions(built_in: bool) -> Node:
    """All types by their names, in the form in which files may say them."""
    found = schema_of(BatchSpec)
    definitions: Node = found.pop("definitions")
    definitions["BatchSpec"] = found
    _per_model_only(definitions)
    _plugin_names(definitions, built_in)
    _plugin_options(definitions, built_in)
    _usual_plugins(definitions)
    _short_forms(definitions)
    for definition in definitions.values():
        for about in definition.get("properties", {}).values():
            if "examples" not in about and (value := example(about, definitions)) is not None:
                about["examples"] = [value]
    loose = {name: _loose(node, name in _WHOLE) for name, node in definitions.items()}
    return {**loose, "Interpolation": _INTERPOLATION}


def _per_model_only(definitions: Node) -> None:
    """A run's ``verify`` has no cases: they name the inputs of a model."""
    whole = definitions["VerifySpec"]
    keys = {k: v for k, v in whole["properties"].items() if k not in ("shapes", "cases")}
    definitions["RunVerifySpec"] = {**whole, "properties": copy.deepcopy(keys)}
    definitions["BatchSpec"]["properties"]["verify"]["$ref"] = "#/definitions/RunVerifySpec"


def _plugin_names(definitions: Node, built_in: bool) -> None:
    """Keys that name a plugin list those that there are."""
    exporters = list(_plugins("exporters", built_in))
    choices = {
        ("ExporterSpec", "name"): ["auto", *exporters],
        ("ExporterSpec", "order"): exporters,
        ("ModelSpec", "exporter"): ["auto", *exporters],
        ("SimplifierSpec", "name"): list(_plugins("simplifiers", built_in)),
        ("ExecutorSpec", "name"): list(_plugins("executors", built_in)),
        ("VariantSpec", "plugin"): list(_plugins("variants", built_in)),
        ("PublishSpec", "layout"): list(_plugins("layouts", built_in)),
        ("BenchmarkSpec", "providers"): list(_plugins("providers", built_in)),
        ("BatchSpec", "reports"): list(_plugins("reports", built_in)),
        ("Expect", "code"): [str(code) for code in Code],
    }
    for (definition, key), names in choices.items():
        about = definitions[definition]["properties"][key]
        _choose(about, names)
        if about.get("type") == "array":
            about["examples"] = [names[:2]]
    # A variant may have any name, so that these are no more than examples.
    for definition, key in (("BatchSpec", "variant"), ("ModelSpec", "variants")):
        about = definitions[definition]["properties"][key]
        about["examples"] = [list(_plugins("variants", built_in))]


def _choose(node: Node, names: list[str]) -> None:
    """Turn the text in a node, or in its items, into a choice."""
    if node.get("type") == "string":
        node.pop("minLength", None)
        node["enum"] = names
    elif "items" in node:
        _choose(node["items"], names)
    for choice in node.get("anyOf", []):
        _choose(choice, names)


def _plugins(kind: str, built_in: bool) -> dict[str, loader.Plugin]:
    """Those that a configuration may name."""
    # An exporter of files that are ONNX already is never chosen.
    names = request.exporters() if kind == "exporters" else loader.names(kind)
    found = loader.found(kind)
    return {name: found[name] for name in names if found[name].built_in or not built_in}


def _of_plugins(abouts: dict[str, Node]) -> Node:
    """One key, which several plugins may have: each with a meaning, or a default, of its own."""
    by_meaning: dict[str, list[str]] = {}
    for name, about in abouts.items():
        by_meaning.setdefault(_lowered(about["description"]), []).append(name)
    said = [
        f"{', '.join(f'`{name}`' for name in names)}: {meaning.rstrip('.')}"
        for meaning, names in by_meaning.items()
    ]
    first, *others = abouts.values()
    kinds = [{k: v for k, v in about.items() if k not in _ABOUT} for about in abouts.values()]
    distinct = [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]
    merged = {k: v for k, v in first.items() if k in _ABOUT}
    merged |= distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
    merged["description"] = f"Option of {'; of '.join(said)}."
    # The one that holds depends on the plugin.
    if any(other.get("default") != first.get("default") for other in others):
        merged.pop("default", None)
    return merged


def _plugin_options(definitions: Node, built_in: bool) -> None:
    """The keys that plugins add to their groups; which of them fits depends on the plugin."""
    for definition, kind in _AMONG.items():
        group = definitions[definition]
        group["additionalProperties"] = False
        found: dict[str, dict[str, Node]] = {}
        for name, options in _options(kind, built_in).items():
            for key, about in _described(name, options, definitions)["properties"].items():
                found.setdefault(key, {})[name] = about
        group["properties"] |= {key: _of_plugins(abouts) for key, abouts in found.items()}
    for definition, kind in _UNDER.items():
        by_name = {
            name: _described(name, options, definitions)
            for name, options in _options(kind, built_in).items()
        }
        about = definitions[definition]["properties"]["options"]
        about |= {"properties": by_name, "additionalProperties": False}
        several = (name for name, one in by_name.items() if one["properties"])
        about["examples"] = [{name: by_name[name]["examples"][0]} for name in several][:1] or [{}]


def _options(kind: str, built_in: bool) -> dict[str, type[Frozen]]:
    return {
        name: loader.options_of(p.load()) for name, p in sorted(_plugins(kind, built_in).items())
    }


def _described(name: str, options: type[Frozen], definitions: Node) -> Node:
    """The schema of a plugin's options; other distributions need not describe theirs."""
    node = schema_of(options)
    properties = node.setdefault("properties", {})
    definitions |= node["definitions"]
    for key, about in properties.items():
        about.setdefault("description", f"{key} of {name}.")
        about.setdefault("examples", [example(about, definitions)])
    some = {key: about["examples"][0] for key, about in list(properties.items())[:1]}
    text = f"Options of `{name}`." if properties else f"`{name}` has no options."
    return {
        "description": text,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "default": {},
        "examples": [some],
    }


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _usual_plugins(definitions: Node) -> None:
    """The defaults that the types leave to ``config.yaml`` and its presets."""
    usual = standard.plain()
    run = definitions["BatchSpec"]
    for name in run["required"]:
        about = run["properties"][name]
        about["default"] = usual[name]
        group = definitions.get(named(about), {})
        for key in group.get("required", []):
            group["properties"][key]["default"] = usual[name][key]


def _short_forms(definitions: Node) -> None:
    """What may be said shorter, and what JSON's types cannot say of YAML's."""
    run = definitions["BatchSpec"]["properties"]
    source = {"description": "Short for `source:`.", "type": "string", "minLength": 1}
    run["models"]["additionalProperties"] = {"anyOf": [source, {"$ref": "#/definitions/ModelSpec"}]}
    # `off` is false to Hydra (YAML 1.1) and text to editors (YAML 1.2).
    _also(run["benchmark"], {"description": "Measure nothing.", "enum": [False, "off"]})
    _trees(definitions)
    # `all`, or a mapping of mappings and lists.
    forms = definitions["ModelSpec"]["properties"]["dynamic_axes"]["anyOf"]
    axes = next(form["additionalProperties"] for form in forms if "additionalProperties" in form)
    axes["anyOf"][0]["propertyNames"] = {"pattern": "^[0-9]+$"}
    _graphs(definitions)


def _graphs(definitions: Node) -> None:
    """A graph has the keys of a model, but for those that all graphs share."""
    whole = definitions["ModelSpec"]
    keys = {key: about for key, about in whole["properties"].items() if key not in graphs.SHARED}
    said = "One graph of a model: what it leaves out is that of the model."
    definitions["GraphSpec"] = {
        **whole, "description": said, "properties": copy.deepcopy(keys)
    }  # fmt: skip
    whole["properties"]["graphs"]["additionalProperties"] = {"$ref": "#/definitions/GraphSpec"}


def _trees(definitions: Node) -> None:
    """An input may be a list or a mapping of inputs, or an object that is made of them."""
    below = {"anyOf": [{"type": "object"}, {"type": "array"}]}
    plain = {"anyOf": [*below["anyOf"], {"type": "number"}, {"type": "boolean"}]}
    by_key = {
        "type": "object",
        "patternProperties": {"^_target_$": {"type": "string"}, "^pass$": {"type": "string"}},
        "additionalProperties": plain,
        "not": {"required": ["shape"]},  # a tensor has one, and is described beside this
    }
    tree = {
        # In words, since a schema that holds itself has no end where it is written as a table.
        "$comment": "tree of inputs",
        "description": "A list or a mapping of inputs; with `_target_`, what makes one of them.",
        "anyOf": [{"type": "array", "items": below, "minItems": 1}, by_key],
    }
    inputs = definitions["ModelSpec"]["properties"]["inputs"]["anyOf"][0]
    inputs["additionalProperties"] = {"anyOf": [{"$ref": "#/definitions/InputSpec"}, tree]}


def _also(node: Node, choice: Node) -> None:
    """Accept one form more; what is said about the key stays outside of the choices."""
    if node.keys() - {*_ABOUT} != {"anyOf"}:
        only = {key: node.pop(key) for key in list(node) if key not in _ABOUT}
        node["anyOf"] = [only]
    node["anyOf"].append(choice)


def _loose(node: Node, whole: bool = False) -> Node:
    """The schema with an interpolation in the place of any value, and no key that must be there."""
    loose = {key: value for key, value in node.items() if whole or key != "required"}
    loose.pop("title", None)
    if "properties" in loose:
        loose["properties"] = {key: _value(inner) for key, inner in loose["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(loose.get(key), dict):
            loose[key] = _value(loose[key])
    if "anyOf" in loose:
        loose["anyOf"] = [_loose(choice) for choice in loose["anyOf"]]
    return loose


def _value(node: Node) -> Node:
    loose = _loose(node)
    if not _takes_any_text(loose):
        _also(loose, {"$ref": "#/definitions/Interpolation"})
    return loose


def _takes_any_text(node: Node) -> bool:
    if "anyOf" in node:
        return any(_takes_any_text(choice) for choice in node["anyOf"])
    if node.keys() <= {*_ABOUT}:
        return True
    return node.get("type") == "string" and not {"enum", "pattern"} & node.keys()
