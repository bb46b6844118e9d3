"""What a file says of itself: from what it was made, with which weights, how exactly."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import onnx
import pytest
import torch

import converter
from converter.worker.onnxfile import simplification

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]

_PLAIN = ("converter.version", "converter.name", "converter.license")


def said(done: Any) -> dict[str, Any]:
    props = {prop.key: prop.value for prop in onnx.load(done.path).metadata_props}
    return {
        key.removeprefix("converter."): value if key in _PLAIN else json.loads(value)
        for key, value in props.items()
        if key.startswith("converter.")
    }


def test_a_file_says_what_it_is(convert: Convert) -> None:
    done = convert("Net", dynamic_axes=jobs.BATCH)
    found = said(done)
    assert set(found) == {
        "name", "source", "weights", "made", "version", "verified", "tolerance",
    }  # fmt: skip
    assert found["name"] == "model"
    assert found["made"] == {"exporter": done.result.onnx.exporter, "simplifier": None}
    code = Path(__file__).with_name("tiny.py")
    assert found["source"] == {
        "name": "target:tiny.Net",
        "code_sha256": hashlib.sha256(code.read_bytes()).hexdigest(),
    }
    assert found["weights"] == {"name": "random", "seed": 0}
    assert found["version"] == converter.__version__
    (case, *_) = done.result.verify.cases
    assert [(each["atol"], each["rtol"]) for each in found["tolerance"]] == [
        (float(f"{output.atol:.1e}"), float(f"{output.rtol:.1e}")) for output in case.outputs
    ]


def test_a_tolerance_that_was_stated_is_said(convert: Convert) -> None:
    found = said(convert("Net", verify={"rtol": 0.01, "atol": 0.02}))
    assert found["tolerance"] == [{"atol": 0.02, "rtol": 0.01}]


def test_a_source_that_is_a_file_is_said_without_its_folder(
    convert: Convert, tmp_path: Path
) -> None:
    code = tmp_path / "net.py"
    code.write_text("import torch\n\n\ndef Net():\n    return torch.nn.Linear(3, 4)\n")
    source = {"file": str(code), "name": "Net"}
    found = said(convert(source, trust=[str(tmp_path)]))
    assert found["source"]["name"] == "file:net.py"
    assert found["source"]["code_sha256"] == hashlib.sha256(code.read_bytes()).hexdigest()


def test_weights_of_a_file_are_said_by_their_hash(convert: Convert, tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 4)
    path = tmp_path / "w.pt"
    torch.save(module.state_dict(), path)
    code = tmp_path / "net.py"
    code.write_text("import torch\n\n\ndef Net():\n    return torch.nn.Linear(3, 4)\n")
    source = {"file": str(code), "name": "Net"}
    done = convert(source, trust=[str(tmp_path)], weights={"checkpoint": str(path)})
    assert said(done)["weights"] == {
        "name": "checkpoint",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert str(tmp_path).encode() not in done.path.read_bytes()


@pytest.mark.parametrize("simplifier", ["onnxsim", "onnxslim"])
def test_what_a_simplifier_says_is_no_part_of_the_file(convert: Convert, simplifier: str) -> None:
    done = convert("Net", simplifier=simplifier, license="MIT")
    keys = [prop.key for prop in onnx.load(done.path).metadata_props]
    assert [key for key in keys if not key.startswith("converter.")] == []
    found = said(done)
    assert found["license"] == "MIT"
    assert found["made"]["simplifier"] == f"{simplifier} {importlib.metadata.version(simplifier)}"
    assert done.result.onnx.simplify.applied


def test_a_simplification_that_was_taken_back_is_not_said(
    convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object) -> str:
        return "an output"

    monkeypatch.setattr(simplification, "_difference", changed)
    done = convert("Net", simplifier="onnxsim")
    assert not done.result.onnx.simplify.applied
    assert said(done)["made"]["simplifier"] is None
