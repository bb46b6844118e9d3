"""Manifests made by hand: what a run would have left."""

from __future__ import annotations

from typing import Any

from converter.model.errors import Code
from converter.model.manifest import (
    ArtifactRow,
    Environment,
    Manifest,
    Request,
    RunInfo,
    WeightsInfo,
    models_of,
    not_run_stages,
)
from converter.model.records import (
    STAGES,
    CaseCheck,
    ErrorRecord,
    FileInfo,
    Latency,
    OnnxInfo,
    OutputCheck,
    TensorInfo,
    VerifyRecord,
)


def environment(**changes: Any) -> Environment:
    values: dict[str, Any] = {
        "os": "Linux",
        "python": "3.11.2",
        "cpu": "a processor",
        "cores": 2,
        "memory_bytes": 1 << 34,
        "packages": {"torch": "2.14.0", "onnx": "1.23.2", "onnxruntime": "1.31.1"},
    }
    return Environment.model_validate({**values, **changes})


def manifest(*rows: ArtifactRow, day: int = 1, complete: bool = True, **changes: Any) -> Manifest:
    """A run of the experiment ``zoo`` on a day of November."""
    run = RunInfo(
        id=f"run-{day}",
        experiment="zoo",
        started_at=f"2026-11-{day:02}T02:00:00.000Z",
        finished_at=f"2026-11-{day:02}T03:00:00.000Z" if complete else None,
        complete=complete,
        exit_code=0,
        config_sha256="0" * 64,
    )
    return Manifest(run=run, environment=changes.pop("env", environment()), models=models_of(rows))


def request(**changes: Any) -> Request:
    values: dict[str, Any] = {
        "opset": 17,
        "exporter": "auto",
        "training": "eval",
        "simplify": True,
        "inputs": {},
        "dynamic_axes": {},
        "device": "cpu",
        "seed": 0,
        "weights": WeightsInfo(kind="random"),
    }
    return Request(**{**values, **changes})


def artifact(
    name: str = "m", size: int = 1000, sha256: str = "a" * 64, **changes: Any
) -> dict[str, Any]:
    """The file of a row, and what describes it: fields of the row."""
    values: dict[str, Any] = {
        "exporter": "torchscript",
        "opset": 17,
        "opsets": {"": 17},
        "ir_version": 8,
        "producer": "pytorch",
        "parameters": 10,
        "inputs": [TensorInfo(name="x", dtype="float32", shape=["batch", 3])],
        "outputs": [TensorInfo(name="y", dtype="float32", shape=["batch", 10])],
        "nodes": 3,
        "ops": {"Conv": 2, "Relu": 1},
    }
    file = FileInfo(path=f"models/{name}/{name}.onnx", bytes=size, sha256=sha256)
    return {"files": [file], "onnx": OnnxInfo(**{**values, **changes})}


def checked(max_abs: float, atol: float = 1e-3) -> VerifyRecord:
    output = OutputCheck(
        name="y", shape=[1], dtype="float32", max_abs=max_abs, atol=atol, rtol=0.0, passed=True
    )
    case = CaseCheck(label="traced", shapes={}, provider="cpu", outputs=[output])
    return VerifyRecord(status="passed", cases=[case])


def timed(p50: float, half: float = 0.01, stable: bool = True, **changes: Any) -> Latency:
    """A median with a confidence interval of ``half`` its value on either side."""
    values: dict[str, Any] = {
        "provider": "cpu",
        "status": "measured",
        "threads": 2,
        "stable": stable,
        "p50_ms": p50,
        "ci95_ms": [p50 * (1 - half), p50 * (1 + half)],
    }
    return Latency(**{**values, **changes})


def row(name: str = "m", status: str = "ok", **changes: Any) -> ArtifactRow:
    values: dict[str, Any] = {
        "name": name,
        "source": name,
        "status": status,
        "attempts": 1,
        "request": request(),
        "stages": not_run_stages(STAGES),
    }
    made = artifact(name) if status == "ok" else {}
    return ArtifactRow(**{**values, **made, **changes})


def failing(name: str = "m", status: str = "failed", **changes: Any) -> ArtifactRow:
    error: dict[str, Any] = {
        "stage": "export",
        "code": Code.EXPORT_UNSUPPORTED,
        "message": f"{name} uses an operator without ONNX form",
        "fingerprint": "f" * 12,
    }
    error |= changes.pop("error", {})
    return row(name, status, error=ErrorRecord(**error), **changes)
