"""What is asked of a worker to look into a model or a variant, and what is not looked into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converter.layout import delivery
from converter.model.errors import ConfigError
from converter.model.job import Debug, DebugVariant, Derived, Job
from converter.runner import debugging


def recorded(folder: Path, kind: type[Job] = Job, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "name": "a",
        "source": {"registry": "torchvision/resnet18"},
        "inputs": {},
        "opset": 17,
        "exporters": ["torchscript"],
        "model_dir": str(folder),
        "staging_dir": str(folder),
    }
    job = kind.model_validate({**fields, **changes})
    place = folder / delivery.MODELS / job.label
    place.mkdir(parents=True)
    (place / delivery.JOB).write_text(job.model_dump_json(by_alias=True))


def variant(folder: Path, name: str, **changes: Any) -> Derived:
    recorded(folder)
    recorded(folder, Derived, artifact=name, parent="onnx", plugin=name, **changes)
    found = debugging.recorded_job("debug", folder, f"a/{name}")
    assert isinstance(found, Derived)
    return found


def test_a_variant_of_16_bits_is_made_again_from_its_file(tmp_path: Path) -> None:
    job = variant(tmp_path, "fp16", precision="float16", options={"op_block_list": ["Mul"]})
    with pytest.raises(ConfigError, match="a has no published file"):
        debugging._asked(job, tmp_path, tmp_path / "work")
    (tmp_path / "models/a/a.onnx").touch()
    asked = debugging._asked(job, tmp_path, tmp_path / "work")
    assert isinstance(asked, DebugVariant)
    assert asked.parent_file == str(tmp_path / "models/a/a.onnx")
    assert (asked.plugin, asked.options) == ("fp16", {"op_block_list": ["Mul"]})


def test_of_a_runtime_that_reads_onnx_the_model_is_looked_into_there(tmp_path: Path) -> None:
    job = variant(tmp_path, "openvino_ir", format="openvino_ir", provider="openvino")
    asked = debugging._asked(job, tmp_path, tmp_path / "work")
    assert isinstance(asked, Debug)
    assert (asked.label, asked.providers) == ("a", ["openvino"])


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "int8"},
        {"format": "ncnn", "provider": "ncnn"},
        {"format": "openvino_ir", "provider": "openvino", "precision": "float16"},
    ],
)
def test_other_variants_are_refused_with_those_that_are_not(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    job = variant(tmp_path, "other", **changes)
    with pytest.raises(ConfigError) as refused:
        debugging._asked(job, tmp_path, tmp_path / "work")
    assert "a/other is " in str(refused.value)
    assert "ONNX files in float16 and bfloat16 are looked into" in str(refused.value)
