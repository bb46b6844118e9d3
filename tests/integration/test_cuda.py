"""What only a machine with a CUDA device can show: ``python -m pytest -m gpu``.

It needs the extra ``gpu``. One run of two small networks on both providers.
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
CUDA = "CUDAExecutionProvider"


def run(command: Command, folder: Path, *words: str) -> dict[str, ArtifactRow]:
    done = command(*words, "hydra.run.dir=run")
    assert done.returncode == 0, done.stdout + done.stderr
    return {row.label: row for row in runfiles.read(folder / "run").rows}


def test_both_providers_in_one_run(converter_command: Command, tmp_path: Path) -> None:
    models = "include=[torchvision/resnet18,torchvision/mobilenet_v3_small]"
    rows = run(converter_command, tmp_path, models, "benchmark=cpu_cuda", "benchmark.budget_s=2")
    for name, row in rows.items():
        cpu, cuda = row.latency
        assert (cpu.status, cuda.status) == ("measured", "measured"), cuda.reason
        assert (cpu.io_binding, cuda.io_binding) == (False, True)
        assert (cuda.provider, cuda.active[0]) == ("cuda", CUDA)
        assert cuda.nodes_per_provider[CUDA] > 0.9 * sum(cuda.nodes_per_provider.values()), name
        assert cuda.torch_p50_ms
        assert cpu.torch_p50_ms
        assert cuda.p50_ms is not None
        assert cpu.p50_ms is not None
        assert cuda.p50_ms < cpu.p50_ms


def test_the_file_is_verified_on_the_device(converter_command: Command, tmp_path: Path) -> None:
    """TF32 would miss the strict bounds."""
    words = ("include=[torchvision/resnet18]", "benchmark=cuda", "benchmark.budget_s=0.5")
    (row,) = run(converter_command, tmp_path, *words).values()
    on_cuda = [case for case in row.verify.cases if case.provider == CUDA]
    on_cpu = [case for case in row.verify.cases if case.provider != CUDA]
    assert [case.label for case in on_cuda] == [case.label for case in on_cpu]
    assert all(output.passed for case in on_cuda for output in case.outputs)
    worst = max(output.rel_l2 or 0.0 for case in on_cuda for output in case.outputs)
    assert worst < 1e-5


def test_a_dynamic_batch_on_the_device(converter_command: Command, tmp_path: Path) -> None:
    words = ("+model=conv_bn_relu_dynamic", "benchmark=cuda", "benchmark.batch_sizes=[1,8]")
    (row,) = run(converter_command, tmp_path, *words, "benchmark.budget_s=0.5").values()
    assert [entry.shapes["input"][0] for entry in row.latency] == [2, 1, 8]
    assert {entry.status for entry in row.latency} == {"measured"}
