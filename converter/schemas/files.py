"""All files that ``python -m converter.schemas`` writes."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from converter.finalize.zoo_index import Index
from converter.model.manifest import Manifest
from converter.schemas import configuration, keys
from converter.schemas.documented import Node
from converter.sweep.record import Sweep

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMAS = DOCS / "schemas"
KEYS = "keys.md"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_RECORDS: dict[str, type[BaseModel]] = {"manifest": Manifest, "index": Index, "sweep": Sweep}


def texts(built_in: bool = True) -> dict[str, str]:
    """File name → content.

    Args:
        built_in: without the plugins that other distributions announce.
    """
    written = configuration.schemas(built_in)
    schemas = {**written, **{name: _record(name, kind) for name, kind in _RECORDS.items()}}
    found = {
        f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }
    return {**found, KEYS: keys.page(written)}


def place(name: str) -> Path:
    """Where a file of that name lies in a checkout."""
    return (DOCS if name == KEYS else SCHEMAS) / name


def _record(name: str, kind: type[BaseModel]) -> Node:
    """Of a file as it is written: ``manifest.json``, ``index.json``, ``sweep.json``."""
    body = kind.model_json_schema(mode="serialization")
    return {"$schema": _DIALECT, "$id": configuration.URN + name, **body}
