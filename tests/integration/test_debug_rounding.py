"""Files in float16: the first node that 16 bits are not enough for, and what keeps it right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest

from converter.model.job import Debug, DebugVariant, Derived, Job, Variant
from converter.model.records import JobResult
from converter.plugins.variants import fp16
from converter.worker.pipeline import debugging_variant

pytestmark = pytest.mark.integration
FP16 = Variant(
    id="fp16",
    plugin="fp16",
    format="onnx",
    precision="float16",
    optional=False,
    cast_io=False,
    options=fp16.Options().model_dump(),
)


def debugged(derived: Derived) -> tuple[JobResult, Path]:
    fields = {name: getattr(derived, name) for name in Derived.model_fields}
    job = DebugVariant.model_validate({**fields, "variants": []})
    return debugging_variant.run(job, lambda news: None), Path(job.staging_dir) / Debug.FOLDER


@pytest.mark.parametrize(
    ("name", "op", "why", "kept"),
    [
        ("Squared", "Mul", "float16 ends at 65504", '["/Mul", "/ReduceMean", "/Sqrt"]'),
        ("Variance", "Sub", "nearly cancel to", '["/Mul", "/ReduceMean", '),
        ("Vanished", "Mul", "the smallest float16, and become 0", '["/Mul_1"]'),
    ],
)
def test_the_node_the_reason_and_what_to_keep_in_float32_are_told(
    name: str, op: str, why: str, kept: str, tiny_job: Callable[..., Job]
) -> None:
    result, folder = debugged(jobs.followed(tiny_job(name, variants=[FP16])))
    assert (result.status, result.error) == ("ok", None)
    text = (folder / "report.md").read_text()
    assert f"# {op} in float16 gives another result than the same {op} in float32" in text
    assert "Comparison: float16 against float32." in text
    assert why in text
    assert "With this in float32 the file is right; it was verified:" in text
    assert f"variants: {{fp16: {{node_block_list: {kept}" in text
    script = folder / "repro.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("largest error ")


def test_a_variant_that_is_right_has_nothing_to_show(tiny_job: Callable[..., Job]) -> None:
    result, folder = debugged(jobs.followed(tiny_job("Net", variants=[FP16])))
    assert (result.status, result.files, folder.exists()) == ("ok", [], False)
    assert result.stages["verify"].warnings == ["the file is right on all cases"]
