"""What goes wrong in phase 2 of a run costs a measurement, never a file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.layout import runfiles

pytestmark = [pytest.mark.faults, pytest.mark.e2e]

Command = Callable[..., "subprocess.CompletedProcess[str]"]
# Good until its file is published.
MODELS = """
import ctypes, os, signal, time
import torch

class Good(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)
        self.measured = os.path.exists(f"run/models/{name}/{name}.onnx")

    def forward(self, x):
        if self.measured:
            self.misbehave()
        return self.linear(x)

    def misbehave(self):
        pass

class Crashes(Good):
    def misbehave(self):
        ctypes.string_at(0)

class Hangs(Good):
    def misbehave(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(300)
"""


def test_a_crash_and_a_hang_cost_only_their_measurements(
    converter_command: Command, tmp_path: Path
) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    models = {"crash": "Crashes", "hang": "Hangs", "good": "Good"}
    entries = [
        f"+models.{name}={{source: {{file: models.py, name: {kind}}}, kwargs: {{name: {name}}}, "
        "inputs: {x: {shape: [2, 8]}}}"
        for name, kind in models.items()
    ]
    limits = ["executor.timeout_s=8", "executor.grace_s=0.5", "benchmark.budget_s=0.1"]
    trust = {"CONVERTER_TRUST": str(tmp_path)}
    done = converter_command(*entries, *limits, "hydra.run.dir=run", **trust)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row.name: row for row in runfiles.read(tmp_path / "run").rows}
    assert {row.status for row in rows.values()} == {"ok"}
    for name, row in rows.items():
        assert (tmp_path / f"run/models/{name}/{name}.onnx").exists()
        assert row.stages["benchmark"].status == ("ok" if name == "good" else "failed")
    assert rows["good"].latency[0].status == "measured"
    (crash,), (hang,) = rows["crash"].latency, rows["hang"].latency
    assert (crash.status, hang.status) == ("failed", "failed")
    assert crash.reason is not None
    assert crash.reason.startswith("SIGNAL: killed by SIGSEGV in stage benchmark; log: File")
    assert hang.reason is not None
    assert hang.reason.startswith("TIMEOUT: timed out after 8 s in stage benchmark")
    assert "models.py" in (tmp_path / "run/models/crash/log.txt").read_text()
    assert "latency cpu failed: SIGNAL: killed by SIGSEGV" in done.stdout
    assert runfiles.read(tmp_path / "run").run.complete


def test_a_provider_that_is_absent_fails_the_model_and_keeps_its_file(
    converter_command: Command, tmp_path: Path
) -> None:
    words = ("+experiment=smoke", "select=[single_conv]", "benchmark.providers=[cpu,openvino_ep]")
    done = converter_command(*words, "benchmark.budget_s=0.1", "hydra.run.dir=run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "OpenVINOExecutionProvider is not available; available: " in done.stdout
    assert "install onnxruntime-openvino in a fresh environment" in done.stdout
    (row,) = runfiles.read(tmp_path / "run").rows
    assert (row.status, row.error and row.error.code) == ("failed", "EP_UNAVAILABLE")
    assert [entry.status for entry in row.latency] == ["measured", "unavailable"]
    assert (tmp_path / "run" / row.files[0].path).exists()

    again = converter_command(
        *words, "benchmark.budget_s=0.1", "benchmark.optional=true", "hydra.run.dir=again"
    )
    assert again.returncode == 0, again.stdout + again.stderr
    (row,) = runfiles.read(tmp_path / "again").rows
    assert row.status == "ok"
    assert [entry.status for entry in row.latency] == ["measured", "unavailable"]
