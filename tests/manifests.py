"""Manifests as runs leave them, made by hand: for the tests of what is read from one."""

from __future__ import annotations

from typing import Any

from converter.model.errors import Code
from converter.model.inputs import InputSpec
from converter.model.manifest import (
    ArtifactRow,
    Environment,
    Manifest,
    Request,
    RunInfo,
    RuntimeInfo,
    WeightsInfo,
    counts,
    models_of,
)
from converter.model.records import (
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
    ProviderVerdict,
    SimplifyRecord,
    StageRecord,
    SymbolDomain,
    TensorInfo,
    VerifyRecord,
)

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


# Providers of the matrix that `deployed` makes, by their names in `verify.cases`.
OPENVINO, NCNN = "OpenVINO", "ncnn"
# With its device, as it says of itself.
_SESSIONS = {"cpu": CPU, "openvino": f"{OPENVINO} CPU", "ncnn": NCNN}
_VERSIONS = {"cpu": "onnxruntime 1.31.1", "openvino": "openvino 2026.4.1", "ncnn": "ncnn 1.0"}
_REACH = {"float32": 1e-6, "float16": 4e-4, "int8": 4e-2}
# Artifact → format, precision, size over that of float32, and what p50 is multiplied by there.
_ARTIFACTS: dict[str, tuple[str, str, float, dict[str, float]]] = {
    "onnx": ("onnx", "float32", 1.0, {"cpu": 1.0, "openvino": 0.8}),
    "fp16": ("onnx", "float16", 0.5, {"cpu": 1.1, "openvino": 0.9}),
    "int8": ("onnx", "int8", 0.27, {"cpu": 0.7, "openvino": 0.5}),
    "openvino_ir": ("openvino_ir", "float32", 1.01, {"openvino": 0.78}),
    "openvino_ir_fp16": ("openvino_ir", "float16", 0.51, {"openvino": 0.79}),
    "ncnn": ("ncnn", "float32", 1.0, {"ncnn": 1.3}),
    "ncnn_fp16": ("ncnn", "float16", 0.5, {"ncnn": 1.2}),
}


def runtimes() -> list[RuntimeInfo]:
    """Three, of which one has no int8."""
    lacks = {"int8": "ncnn2int8 is in no pip package"}
    return [
        RuntimeInfo(provider="cpu", name="onnxruntime", session=CPU),
        RuntimeInfo(provider="openvino", name="openvino", session=OPENVINO),
        RuntimeInfo(provider="ncnn", name="ncnn", session=NCNN, lacks=lacks),
    ]


def judged(provider: str, error: ErrorRecord | None = None, **changes: Any) -> ProviderVerdict:
    """The verdict of a provider: passed, or not for the reason of an error."""
    fields: dict[str, Any] = {
        "provider": provider,
        "version": _VERSIONS.get(provider, ""),
        "status": "passed" if error is None else "failed",
        "code": error.code if error else None,
        "reason": error.message if error else None,
    }
    return ProviderVerdict.model_validate(fields | changes)


def artifact(name: str, made: str, size: int = 40_000_000, p50: float = 10.0) -> ArtifactRow:
    """An artifact of a model that is right on all runtimes that read it, and timed there."""
    kind, precision, of_size, of_time = _ARTIFACTS[made]
    error = _REACH[precision]
    cases = [
        CaseCheck(
            label=label,
            shapes={"image": [1, 3, 8]},
            provider=_SESSIONS[provider],
            outputs=[_output(error * (1 + number), atol=10 * error)],
        )
        for provider in of_time
        for number, label in enumerate(("traced", "second"))
    ]
    verify = VerifyRecord(
        status="passed", cases=cases, providers=[judged(provider) for provider in of_time]
    )
    stem = name if made == "onnx" else f"{name}/{made}/{name}.{made}"
    row = ok(
        name,
        id=made,
        format=kind,
        precision=precision,
        parent=None if made == "onnx" else "onnx",
        optional=made != "onnx",
        runtimes=list(of_time),
        verify=verify,
        files=[FileInfo(path=f"models/{stem}", bytes=int(size * of_size), sha256="3" * 64)],
        latency=[timed(provider, p50 * factor) for provider, factor in of_time.items()],
    )
    return row if kind == "onnx" else row.model_copy(update={"onnx": None})


def refused(row: ArtifactRow, error: ErrorRecord, provider: str | None = None) -> ArtifactRow:
    """The row of a file that was not made, or is wrong on one provider when it is there."""
    if provider is None:
        verify = VerifyRecord(status="not_measured")
        changes = {"files": [], "onnx": None, "verify": verify, "latency": []}
    else:
        verdicts = [
            judged(provider, error) if v.provider == provider else v for v in row.verify.providers
        ]
        verify = row.verify.model_copy(update={"status": "failed", "providers": verdicts})
        changes = {"verify": verify}
    return row.model_copy(update={"status": "failed", "error": error, **changes})


def deployed(models: int = 34, **changes: Any) -> Manifest:
    """A run of models on three runtimes in three precisions, some of them refused."""
    rows = []
    for number in range(models):
        name, size = f"model_{number:02}", 300_000 * (number + 1) ** 2
        made = {key: artifact(name, key, size, 0.4 * (number + 1)) for key in _ARTIFACTS}
        if number % 9 == 3:
            left = ErrorRecord(
                stage="derive",
                code=Code.DERIVE,
                message=f"pnnx leaves {number} layers that ncnn does not have: aten::roll",
                hint="use another runtime for this model",
                fingerprint="layers",
                log=f"models/{name}/ncnn/log.txt",
            )
            made |= {key: refused(made[key], left) for key in ("ncnn", "ncnn_fp16")}
        if number % 17 == 5:
            none = ErrorRecord(
                stage="derive", code=Code.DERIVE, message="nothing to quantise", fingerprint="none"
            )
            made["int8"] = refused(made["int8"], none)
        if number == 7:
            wrong = ErrorRecord(
                stage="benchmark",
                code=Code.VERIFY_VALUE,
                message="case second (image 1×3×8): scores[0, 4] is 2, PyTorch 0.4",
                hint="it is right on cpu",
                fingerprint="wrong",
            )
            made["int8"] = refused(made["int8"], wrong, "openvino")
        rows += made.values()
    return manifest_of(*rows, **changes).model_copy(update={"runtimes": runtimes()})


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


def _output(error: float, atol: float = 2e-5) -> OutputCheck:
    return OutputCheck(
        name="scores",
        shape=[1, 10],
        dtype="float32",
        max_abs=error,
        rel_l2=error,
        atol=atol,
        rtol=2e-5,
        passed=True,
    )


def _verified() -> VerifyRecord:
    cases = [
        CaseCheck(label=label, shapes={"image": [1, 3, 8]}, provider=CPU, outputs=[_output(error)])
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
