"""The JSON Schemas of configuration, manifest, index and sweep.

``python -m converter.schemas`` writes them.

They are under version control, for editors and for programs that read a manifest; a test
says when they no longer follow the types.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from converter.config import standard
from converter.finalize.zoo_index import Index
from converter.model.batch import BatchSpec
from converter.model.manifest import Manifest
from converter.model.spec import Frozen
from converter.plugins import loader
from converter.sweep.record import Sweep

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config() -> dict[str, Any]:
    """Of an experiment or of ``config.yaml``; a model's file is ``#/$defs/ModelSpec``."""
    schema = BatchSpec.model_json_schema()
    _default_plugins(schema)
    # What Hydra reads of a file, before the typed layer sees it.
    schema["properties"] |= {"defaults": {"type": "array"}, "hydra": {"type": "object"}}
    # Of these one plugin is chosen at a time, and its options lie beside the keys of the group.
    groups = {"Simplifier": "simplifiers", "Variant": "variants", "Executor": "executors"}
    for group, kind in groups.items():
        _add_options(schema["$defs"][f"{group}Spec"], _options(kind).values())
    # Of these several may take part in one run: each finds its options under its own name.
    for group, kind in {"Exporter": "exporters", "Benchmark": "providers"}.items():
        schema["$defs"][f"{group}Spec"]["properties"]["options"] = {
            "type": "object",
            "properties": {name: one.model_json_schema() for name, one in _options(kind).items()},
            "additionalProperties": False,
        }
    return {"$schema": _DIALECT, **schema}


def _default_plugins(schema: dict[str, Any]) -> None:
    """What a file need not say, since ``config.yaml`` and its presets do, and how they say it."""
    usual = standard.plain()
    for name in schema.pop("required"):
        about = schema["properties"][name]
        about["default"] = usual[name]
        group = schema["$defs"].get(about.get("$ref", "").rpartition("/")[2], {})
        for key in group.pop("required", []):
            group["properties"][key]["default"] = usual[name][key]


def _options(kind: str) -> dict[str, type[Frozen]]:
    return {name: loader.options_of(p.load()) for name, p in loader.found(kind).items()}


def _add_options(group: dict[str, Any], options: Iterable[type[Frozen]]) -> None:
    """The keys that plugins add to their group; which of them fits depends on the plugin."""
    for one in options:
        group["properties"] |= one.model_json_schema().get("properties", {})
    # The types take any key there, for the plugin to judge. Here all plugins have been asked: an
    # editor may call any other key a typo.
    group["additionalProperties"] = False


def manifest() -> dict[str, Any]:
    """Of ``manifest.json``, as it is written."""
    return {"$schema": _DIALECT, **Manifest.model_json_schema(mode="serialization")}


def index() -> dict[str, Any]:
    """Of ``index.json`` in the folder that ``publish_to`` names."""
    return {"$schema": _DIALECT, **Index.model_json_schema(mode="serialization")}


def sweep() -> dict[str, Any]:
    """Of ``sweep.json``, as it is written."""
    return {"$schema": _DIALECT, **Sweep.model_json_schema(mode="serialization")}


def texts() -> dict[str, str]:
    """File name → content."""
    schemas = {"config": config(), "manifest": manifest(), "index": index(), "sweep": sweep()}
    return {
        f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
