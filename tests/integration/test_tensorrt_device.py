"""What only a GPU with TensorRT can show: ``python -m pytest -m gpu``.

It was written without either, and has not run yet.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.layout import runfiles
from converter.model.manifest import ArtifactRow

pytestmark = pytest.mark.gpu

Command = Callable[..., "subprocess.CompletedProcess[str]"]
MODEL = "+model=conv_bn_relu_dynamic"


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("tensorrt")


def run(command: Command, folder: Path, *words: str) -> dict[str, ArtifactRow]:
    done = command(*words, "hydra.run.dir=run")
    assert done.returncode == 0, done.stdout + done.stderr
    return {row.label: row for row in runfiles.read(folder / "run").rows}


def test_an_engine_is_built_verified_and_timed(converter_command: Command, tmp_path: Path) -> None:
    """TF32 would miss the bounds of float32."""
    words = ("variant=tensorrt", "benchmark=cuda", "benchmark.providers=[cpu,tensorrt]")
    rows = run(converter_command, tmp_path, MODEL, *words, "benchmark.budget_s=0.5")
    row = rows["conv_bn_relu_dynamic/tensorrt"]
    assert row.status == "ok"
    assert [Path(part.path).suffix for part in row.files] == [".engine", ".timing"]
    assert all(case.provider.startswith("TensorRT ") for case in row.verify.cases)
    assert {case.shapes["input"][0] for case in row.verify.cases} >= {1, 2}
    assert max(o.rel_l2 or 0.0 for case in row.verify.cases for o in case.outputs) < 1e-5
    assert row.check.precision_nodes == 1.0
    (latency,) = row.latency
    assert (latency.provider, latency.status, latency.io_binding) == ("tensorrt", "measured", True)


def test_a_float16_engine_computes_in_float16(converter_command: Command, tmp_path: Path) -> None:
    words = ("include=[torchvision/resnet18]", "variant=tensorrt", "variant.tensorrt.fp16=true")
    rows = run(converter_command, tmp_path, *words, "benchmark=off")
    row = rows["resnet18/tensorrt"]
    assert row.precision == "float16"
    assert row.check.precision_nodes is not None
    assert row.check.precision_nodes > 0.5
    worst = max(o.rel_l2 or 0.0 for case in row.verify.cases for o in case.outputs)
    assert 1e-5 < worst < 2e-2


def test_an_engine_of_the_same_timings_is_the_same(
    converter_command: Command, tmp_path: Path
) -> None:
    first = run(converter_command, tmp_path, MODEL, "variant=tensorrt", "benchmark=off")
    row = first["conv_bn_relu_dynamic/tensorrt"]
    timings = tmp_path / "run" / row.files[1].path
    kept = tmp_path / "kept.timing"
    kept.write_bytes(timings.read_bytes())
    words = (f"variant.tensorrt.timing_cache={kept}", "cache=off", "hydra.run.dir=again")
    done = converter_command(MODEL, "variant=tensorrt", "benchmark=off", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row.label: row for row in runfiles.read(tmp_path / "again").rows}
    # With nothing left to time the same kernels are chosen; the file may hold times of its own.
    assert rows["conv_bn_relu_dynamic/tensorrt"].files[1].sha256 == row.files[1].sha256
