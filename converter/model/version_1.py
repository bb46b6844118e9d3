"""Records of version 1 of the schema, in which a model had one artifact, as those of version 2."""

from __future__ import annotations

import json
from typing import Any

_OF_MODEL = ("name", "source", "tags", "request")
_OF_FILE = ("path", "bytes", "sha256")


def manifest(text: bytes) -> bytes:
    """A manifest as this version reads it; what is none, or is not of version 1, stays as it is."""
    found = _mapping(text)
    if found.get("schema_version") != "1":
        return text
    models = found.get("models")
    if isinstance(models, list):  # else whoever validates it says so
        models = [_model(row) for row in models]
    return _text(found | {"schema_version": "2", "models": models})


def model(text: bytes) -> bytes:
    """A line of ``results.jsonl`` as this version reads it."""
    found = _mapping(text)
    # A line has no version of its own: a list of artifacts is what version 2 added. A torn line has
    # neither, and is left to whoever validates it.
    return text if "artifacts" in found or "request" not in found else _text(_model(found))


def result(text: bytes) -> bytes:
    """A ``result.json`` as this version reads it."""
    found = _mapping(text)
    # In version 1 `artifact` is the record of the file, or null; in version 2 the id of the
    # artifact.
    return text if isinstance(found.get("artifact", ""), str) else _text(_artifact(found))


def _mapping(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # whoever validates it says so
        return {}
    return found if isinstance(found, dict) else {}


def _text(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode()


def _model(row: Any) -> Any:
    if not isinstance(row, dict) or "artifacts" in row:
        return row
    asked = {key: row[key] for key in _OF_MODEL if key in row}
    artifact = {key: value for key, value in row.items() if key not in _OF_MODEL}
    return asked | {
        "status": row.get("status"),
        "failing_since": row.get("failing_since"),
        "artifacts": [_artifact(artifact)],
    }


def _artifact(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its one file in ``files``, its description in ``onnx``, fields renamed."""
    rest = {key: value for key, value in record.items() if key != "artifact"}
    held = record.get("artifact")
    checked = _held(_held(record, "stages"), "check").get("status")
    # Version 1 had no record of the check: the stage tells what it came to.
    if checked in ("ok", "failed"):
        rest["check"] = {"status": "passed" if checked == "ok" else "failed"}
    verify = _held(rest, "verify")
    if "guilty_stage" in verify:
        renamed = {("faulty_stage" if k == "guilty_stage" else k): v for k, v in verify.items()}
        rest["verify"] = renamed
    if not isinstance(held, dict):
        return rest
    first = {key: held[key] for key in _OF_FILE if key in held}
    data = held.get("external_data")
    told = {k: v for k, v in held.items() if k not in (*_OF_FILE, "external_data")}
    return rest | {"files": [first, *(data if isinstance(data, list) else [])], "onnx": told}


def _held(record: dict[str, Any], key: str) -> dict[str, Any]:
    found = record.get(key)
    return found if isinstance(found, dict) else {}
