from __future__ import annotations

import pytest

from converter import schemas


@pytest.mark.parametrize("name", sorted(schemas.texts()))
def test_the_schemas_follow_the_types(name: str) -> None:
    text = (schemas.FOLDER / name).read_text(encoding="utf-8")
    assert text == schemas.texts()[name], "run `python -m converter.schemas` and commit the result"


def test_a_source_may_be_a_name() -> None:
    source = schemas.config()["$defs"]["ModelSpec"]["properties"]["source"]
    assert "string" in [choice.get("type") for choice in source["anyOf"]]


def test_the_manifest_is_closed_and_versioned() -> None:
    manifest = schemas.manifest()
    assert manifest["additionalProperties"] is False
    assert manifest["properties"]["schema_version"]["const"] == "2"
