"""Manifests as runs leave them, made by hand: for the tests of what is read from one."""

from __future__ import annotations

from typing import Any

from converter.model.errors import Code
from converter.model.job import (
    STAGES,
    Branch,
    CaseCheck,
    Domain,
    DynamicCheck,
    ErrorRecord,
    FileInfo,
    InputDomain,
    Latency,
    OnnxInfo,
    OutputCheck,
    SimplifyRecord,
    StageRecord,
    SymbolDomain,
    TensorInfo,
    VerifyRecord,
)
from converter.model.manifest import (
    ArtifactRow,
    Environment,
    Manifest,
    Request,
    RunInfo,
    WeightsInfo,
    counts,
    models_of,
)
from converter.model.spec import InputSpec

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
NO_FILE: dict[str, Any] = {"files": [], "onnx": None}
_MESSAGE = "input factor is not in the graph (it has: x)"


def ok(
    name: str, *, nodes: int = 8, opset: int = 17, size: int = 1_000_000, **changes: Any
) -> ArtifactRow:
    """A row of a converted model; ``changes`` replace its fields."""
    onnx = OnnxInfo(
        exporter="torchscript",
        opset=opset,
        opsets={"ai.onnx": opset},
        ir_version=8,
        producer="pytorch 2.15.0",
        parameters=26765,
        inputs=[TensorInfo(name="image", dtype="float32", shape=["batch", 3, None])],
        outputs=[TensorInfo(name="scores", dtype="float32", shape=[])],
        nodes=nodes,
        ops={"Conv": nodes},
        simplify=SimplifyRecord(
            applied=True,
            nodes_before=nodes + 7,
            nodes_after=nodes,
            ops_before={"Conv": nodes, "Constant": 7},
            ops_after={"Conv": nodes},
        ),
    )
    files = [
        FileInfo(path=f"models/{name}/{name}.onnx", bytes=size, sha256="0" * 64),
        FileInfo(path=f"models/{name}/{name}.onnx.data", bytes=5, sha256="1" * 64),
    ]
    fields = {
        "status": "ok",
        "files": files,
        "onnx": onnx,
        "verify": _verified(),
        "attempts": 1,
    }
    return _row(name, opset, fields | changes)


def failed(name: str, *, message: str = _MESSAGE, mark: str = "aa", **changes: Any) -> ArtifactRow:
    """A row of a model that failed; ``mark`` is the fingerprint of the cause."""
    error = ErrorRecord(
        stage="check",
        code=Code.INPUT_DROPPED,
        message=message,
        hint="declare it under constants",
        log=f"models/{name}/log.txt",
        fingerprint=mark,
    )
    return _row(name, 17, {"status": "failed", "error": error, "attempts": 1} | changes)


def fp16(row: ArtifactRow, **changes: Any) -> ArtifactRow:
    """The row of a model's ONNX file as that of its variant in half precision."""
    made = {"id": "fp16", "precision": "float16", "parent": "onnx"}
    if row.files:
        path = f"models/{row.name}/{row.name}.fp16.onnx"
        made["files"] = [FileInfo(path=path, bytes=row.bytes // 2, sha256="2" * 64)]
    return ArtifactRow.model_validate(dict(row) | made | changes)


def verified_on(unreached: int = 1, **changes: Any) -> Domain:
    """The domain of a model with one symbol and one input; ``changes`` replace its fields."""
    fields: dict[str, Any] = {
        "symbols": [SymbolDomain(symbol="batch", traced=2, sizes=[1, 2, 3, 5, 7, 8], refused=[0])],
        "inputs": [
            InputDomain(
                name="image", dtype="float32", low=-41.5, high=38.0, patterns=["normal", "large"]
            )
        ],
        "branches_seen": 14,
        "unreached": [
            Branch(file="head.py", line=41 + i, text=f"if T > {16 + i}", outcome="true")
            for i in range(unreached)
        ],
    }
    return Domain.model_validate(fields | changes)


def with_domain(row: ArtifactRow, domain: Domain) -> ArtifactRow:
    """The row, verified on that domain."""
    verify = row.verify.model_copy(update={"domain": domain})
    return row.model_copy(update={"verify": verify})


def timed(provider: str = CPU, p50: float = 2.0, **changes: Any) -> Latency:
    fields = {
        "provider": provider,
        "status": "measured",
        "shapes": {"image": [1, 3, 8]},
        "threads": 2,
        "warmup": 10,
        "iterations": 300,
        "stable": True,
        "mean_ms": p50 * 1.1,
        "std_ms": p50 / 10,
        "p50_ms": p50,
        "p90_ms": p50 * 1.2,
        "p99_ms": p50 * 1.5,
        "throughput": 1000 / p50,
        "torch_p50_ms": p50 * 2,
        "speedup": 2.0,
        "nodes_per_provider": {provider: 8},
    }
    return Latency.model_validate(fields | changes)


def manifest_of(*rows: ArtifactRow, **changes: Any) -> Manifest:
    """A finished run of these rows; ``changes`` replace fields of its ``run``."""
    models = models_of(rows)
    wrong = any(model.status not in ("ok", "xfail", "skipped") for model in models)
    run: dict[str, Any] = {
        "id": "20261121T020000Z-0a1b2c",
        "experiment": "zoo",
        "started_at": "2026-11-21T02:00:00.000Z",
        "finished_at": "2026-11-21T03:02:05.000Z",
        "complete": True,
        "exit_code": int(wrong),
        "overrides": ["+experiment=zoo", "select=[a*]"],
        "config_sha256": "2" * 64,
        "counts": counts(models),
    }
    environment = Environment(
        os="Linux",
        python="3.11.7",
        cpu="A processor",
        cores=2,
        memory_bytes=25_000_000_000,
        packages={"torch": "2.15.0", "onnx": "1.23.2", "onnxruntime": "1.31.1", "timm": None},
    )
    info = RunInfo.model_validate(run | changes)
    return Manifest(run=info, environment=environment, models=models)


def _verified() -> VerifyRecord:
    def output(error: float) -> OutputCheck:
        return OutputCheck(
            name="scores",
            shape=[1, 10],
            dtype="float32",
            max_abs=error,
            rel_l2=error,
            atol=2e-5,
            rtol=2e-5,
            passed=True,
        )

    cases = [
        CaseCheck(label=label, shapes={"image": [1, 3, 8]}, provider=CPU, outputs=[output(error)])
        for label, error in (("traced", 1e-6), ("second", 3e-6))
    ]
    axis = DynamicCheck(
        input="image", axis=0, declared="batch", symbolic=True, sizes_tested=[2, 5], passed=True
    )
    return VerifyRecord(status="passed", cases=cases, dynamic=[axis])


def _row(name: str, opset: int, fields: dict[str, Any]) -> ArtifactRow:
    base = {
        "name": name,
        "source": f"torchvision/{name}",
        "request": Request(
            opset=opset,
            exporter="auto",
            training="eval",
            simplify=True,
            inputs={"image": InputSpec(shape=[1, 3, 8])},
            dynamic_axes={"image": {0: "batch"}},
            device="cpu",
            seed=0,
            weights=WeightsInfo(kind="random"),
            conditioned=True,
        ),
        "stages": {
            stage: StageRecord()
            if stage == "benchmark"
            else StageRecord(status="ok", seconds=0.5, peak_rss_bytes=500_000_000)
            for stage in STAGES
        },
    }
    return ArtifactRow.model_validate(base | fields)
