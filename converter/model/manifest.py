"""The manifest: the record of a run that other programs rely on (schema_version "2").

Within a schema version fields may be added, never removed or renamed. Paths are
relative to the run directory. ``docs/schemas/manifest.schema.json`` is generated from
these types by ``python -m converter.schemas``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from converter.model.artifact import ONNX, label
from converter.model.base import Frozen
from converter.model.changes import Comparison
from converter.model.inputs import InputSpec
from converter.model.job import Job
from converter.model.plaintext import PlainText, plain
from converter.model.records import (
    AccuracyRecord,
    CheckRecord,
    ErrorRecord,
    ExporterAttempt,
    FileInfo,
    JobResult,
    Latency,
    MadeRecord,
    NodeInfo,
    OnnxInfo,
    Spent,
    StageName,
    StageRecord,
    Status,
    Try,
    VerifyRecord,
    WeightsOrigin,
)
from converter.model.source import UNTRAINED, Checkpoint
from converter.model.spec import DataSpec, DimSpec, MetricSpec

SCHEMA_VERSION = "2"


class Git(Frozen):
    commit: str
    dirty: bool


SandboxKind = Literal["off", "not offered", "of each node", "files", "files and network"]
"""What of the machine the code of models was kept from, the least first."""


class RunInfo(Frozen):
    """One command. ``counts`` has a key for each status that occurs.

    Attributes:
        narrowed: ``select`` left models of the experiment out: never a baseline.
        ended_by: what kept the run from doing all that was asked for.
        complete: nothing is left to do.
        undone: what was not yet done behind the last model when this was written: publishing,
            removing old runs, the person's commands. `resume` does it.
        problems: what went wrong after the last model: publishing, removing old runs.
        sandbox: what of the machine jobs were kept from: writing elsewhere than in their own
            folders and caches (``files``), TCP; ``of each node``: the ``landlock`` of a row's node
            says it. Of a run that was resumed the least. ``null``: before 0.2.
        config_dir: what ``--config-dir`` named; from where the command was started, if it lies
            there.
    """

    id: str
    experiment: str
    started_at: str
    finished_at: str | None = None
    complete: bool = False
    narrowed: bool = False
    exit_code: int | None = None
    ended_by: Literal["deadline", "signal", "failure"] | None = None
    undone: list[str] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    overrides: list[PlainText] = Field(default_factory=list)
    config_sha256: str
    git: Git | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    baseline: str | None = None
    sandbox: SandboxKind | None = None
    config_dir: PlainText | None = None

    @property
    def converted(self) -> bool:
        """Whether all models came to their ends, whatever is left to do with them."""
        return self.complete or (self.ended_by is None and bool(self.undone))


class Gpu(Frozen):
    name: str
    memory_bytes: int | None = None
    driver: str | None = None


class Environment(Frozen):
    """A machine, and what is installed there.

    Attributes:
        landlock: the version of Landlock that its kernel offers to sandboxes; 0: none.
    """

    os: str
    python: str
    cpu: str
    cores: int
    memory_bytes: int
    gpus: list[Gpu] = Field(default_factory=list)
    landlock: int = 0
    packages: dict[str, str | None]


class WeightsInfo(Frozen):
    """Where the weights came from.

    Attributes:
        name: of pretrained weights; ``conditioned`` where random ones were to be.
        sha256: of the file; of a checkpoint of several files that of their list.
        published: of pretrained weights, what the library says of them.
    """

    kind: Literal["random", "enum", "checkpoint", "embedded"]
    name: str | None = None
    path: str | None = None
    sha256: str | None = None
    published: WeightsOrigin | None = None


class Request(Frozen):
    """What was asked for, after inheritance. Without ``outputs`` the exporter names them."""

    opset: int | None
    exporter: str
    training: str
    simplify: bool
    inputs: dict[str, InputSpec]
    outputs: list[str] = Field(default_factory=list)
    complex: Literal["pairs"] | None = None
    dynamic_axes: dict[str, dict[int, str]]
    every_axis: bool = False
    dims: dict[str, DimSpec] = Field(default_factory=dict)
    frozen: dict[str, int] = Field(default_factory=dict)
    device: str
    seed: int
    weights: WeightsInfo
    data: DataSpec | None = None
    metric: MetricSpec | None = None
    conditioned: bool | None = None


class RuntimeInfo(Frozen):
    """Where files of a run were to run: ONNX Runtime on a provider, or a runtime of its own.

    Attributes:
        provider: as the configuration calls it.
        name: of the runtime, for people.
        session: what ``verify.cases`` call it.
        missing: why this machine has it not, where that showed before anything ran.
        lacks: by precision why it has no files of it, whatever the model.
    """

    provider: str
    name: str
    session: str
    missing: PlainText | None = None
    lacks: dict[str, PlainText] = Field(default_factory=dict)


class ArtifactRecord(Frozen):
    """One artifact of a model: the ONNX file that it was exported to, or what derives from it.

    Attributes:
        id: ``onnx`` for the file of the exporter, else the name of the variant.
        format: of its files: ``onnx``.
        precision: of its weights and its computation: ``float32``, ``float16``.
        parent: id of the artifact that it was made from.
        optional: its failure does not fail the model.
        runtimes: the providers that it was to run on, the one that verifies it first; none of a
            model that has no file of its own.
        files: the one to open first, then those that belong to it.
        onnx: what describes an ONNX file; ``None`` of another format.
        made: how a variant was made.
        accuracy: of a quantised file.
        files_read: data that the user's own code read while it built and ran the model, and code
            that the key does not cover; relative to the folder where the run was started where
            they are below it.
        not_stored: why the result is used and not kept in the store.
        node: the machine of a cluster that it was made on; ``None``: on that of the runner.
        spent: when it was made and what that took; ``None``: not by this run.
        other_tries: what else ran for it: tries that were lost, with the reason, and latencies.
    """

    id: str = ONNX
    format: str = "onnx"
    precision: str = "float32"
    parent: str | None = None
    optional: bool = False
    runtimes: list[str] = Field(default_factory=list)
    job_key: str | None = None
    status: Status
    cached: bool = False
    cache_miss_reason: str | None = None
    attempts: int = 0
    failing_since: str | None = None
    error: ErrorRecord | None = None
    stages: dict[StageName, StageRecord]
    attempts_by_exporter: list[ExporterAttempt] = Field(default_factory=list)
    files: list[FileInfo] = Field(default_factory=list)
    onnx: OnnxInfo | None = None
    check: CheckRecord = CheckRecord()
    verify: VerifyRecord = VerifyRecord()
    made: MadeRecord | None = None
    accuracy: AccuracyRecord | None = None
    latency: list[Latency] = Field(default_factory=list)
    files_read: list[str] = Field(default_factory=list)
    not_stored: str | None = None
    node: NodeInfo | None = None
    spent: Spent | None = None
    other_tries: list[Try] = Field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(part.bytes for part in self.files)


class _Asked(Frozen):
    """What is the same for all artifacts of a model."""

    name: str
    source: str
    tags: list[str] = Field(default_factory=list)
    license: str | None = None
    request: Request


class ArtifactRow(_Asked, ArtifactRecord):
    """One artifact with what its model was asked for: a line of a table."""

    @property
    def label(self) -> str:
        """``resnet18``, ``resnet18/fp16``."""
        return label(self.name, self.id)


class ModelRecord(_Asked):
    """One model of the configuration: exactly one row each, always.

    Attributes:
        status: of the worst artifact that is not optional.
        decided_by: that artifact's id.
        failing_since: that artifact's.
    """

    status: Status
    decided_by: str = ONNX
    failing_since: str | None = None
    artifacts: list[ArtifactRecord] = Field(min_length=1)

    @property
    def rows(self) -> list[ArtifactRow]:
        """A row for each artifact, in their order."""
        asked = {key: getattr(self, key) for key in _Asked.model_fields}
        # Not validated again: both parts are records already.
        return [
            ArtifactRow.model_construct(**asked, **dict(artifact)) for artifact in self.artifacts
        ]


# Worst first. A model of which nothing is wrong but that a variant does not suit it is ok.
_WORST: tuple[Status, ...] = (
    "crashed", "timeout", "oom", "failed", "not_run", "xpass", "xfail", "ok", "skipped",
)  # fmt: skip


def model_of(rows: Sequence[ArtifactRow]) -> ModelRecord:
    """One model, of the rows of all its artifacts."""
    first = rows[0]
    # All may be optional: one has to stand for the model.
    counted = [row for row in rows if not row.optional] or [first]
    worst = min(counted, key=lambda row: _WORST.index(row.status))
    fields = ArtifactRecord.model_fields
    return ModelRecord(
        **{key: getattr(first, key) for key in _Asked.model_fields},
        status=worst.status,
        decided_by=worst.id,
        failing_since=worst.failing_since,
        artifacts=[
            ArtifactRecord.model_construct(**{key: getattr(row, key) for key in fields})
            for row in rows
        ],
    )


def models_of(rows: Iterable[ArtifactRow]) -> list[ModelRecord]:
    """The models of rows, in the order of their first ones."""
    found: dict[str, list[ArtifactRow]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return [model_of(of_model) for of_model in found.values()]


class Cost(Frozen):
    """What the processes of this run took: every try of every job, latencies too.

    Attributes:
        cpu_hours: of all their processes, without those of tries whose end nobody saw.
        gpu_hours: of jobs on a GPU, each for every GPU that it could use.
        job_hours: of wall-clock, by the name of a node; empty: the machine of the runner.
    """

    cpu_hours: float
    gpu_hours: float
    job_hours: dict[str, float] = Field(default_factory=dict)


def cost_of(rows: Iterable[ArtifactRow]) -> Cost:
    """The sum over the rows of a run."""
    cpu = gpu = 0.0
    hours: dict[str, float] = {}
    for one in (each for row in rows for each in tries_of(row)):
        if one.spent is None:
            continue
        cpu += (one.spent.cpu_seconds or 0.0) / 3600
        gpu += one.gpus * one.spent.seconds / 3600
        hours[one.node] = hours.get(one.node, 0.0) + one.spent.seconds / 3600
    told = {name: round(value, 4) for name, value in sorted(hours.items())}
    return Cost(cpu_hours=round(cpu, 4), gpu_hours=round(gpu, 4), job_hours=told)


def tries_of(row: ArtifactRow) -> list[Try]:
    """All that ran for an artifact in this run, the try that made it first."""
    gpus = 0
    if row.request.device == "cuda":
        gpus = len(row.node.gpus) if row.node is not None else 1
    node = row.node.name if row.node is not None else ""
    return [Try(attempt=row.attempts, node=node, gpus=gpus, spent=row.spent), *row.other_tries]


class Manifest(Frozen):
    """The record of a run.

    Attributes:
        cost: ``None``: of an earlier version of the converter.
        runtimes: where its files were to run, the one that all ONNX files are verified on first.
    """

    schema_version: Literal["2"] = "2"
    run: RunInfo
    environment: Environment
    runtimes: list[RuntimeInfo] = Field(default_factory=list)
    models: list[ModelRecord]
    comparison: Comparison | None = None
    cost: Cost | None = None

    @property
    def rows(self) -> list[ArtifactRow]:
        """A row for each artifact of each model, in their order."""
        # Made once: all reports ask for them, each several times. Kept as `cached_property` would,
        # which a copy with other models would get as well.
        known: tuple[list[ModelRecord], list[ArtifactRow]] | None = self.__dict__.get("_rows")
        if known is None or known[0] is not self.models:
            known = self.models, [row for model in self.models for row in model.rows]
            self.__dict__["_rows"] = known
        return list(known[1])


def request_of(job: Job, result: JobResult | None = None) -> Request:
    """The request of a job, with what only the worker could know (device, weights' hash)."""
    return Request(
        opset=job.opset,
        exporter=job.exporter,
        training=job.training,
        simplify=job.simplifier is not None,
        inputs=job.inputs,
        outputs=job.outputs,
        complex=job.complex,
        dynamic_axes=job.dynamic_axes,
        every_axis=job.every_axis,
        dims=job.dims,
        frozen=job.frozen,
        device=(result and result.device) or job.device,
        seed=job.seed,
        weights=_weights_of(job, result),
        data=job.data,
        metric=job.metric,
        conditioned=result.conditioned if result else None,
    )


def _weights_of(job: Job, result: JobResult | None) -> WeightsInfo:
    sha256 = result.weights_sha256 if result else None
    # A checkpoint first: it may be loaded into a script, which has weights of its own as well.
    if isinstance(job.weights, Checkpoint):
        return WeightsInfo(kind="checkpoint", path=job.weights.checkpoint, sha256=sha256)
    if job.source.kind in ("torchscript", "exported_program", "onnx"):
        return WeightsInfo(kind="embedded", path=job.source.path, sha256=sha256)
    if job.weights in UNTRAINED:
        stated = None if job.weights == "random" else job.weights
        # Of a model with several graphs the hash says that all have the same.
        return WeightsInfo(kind="random", name=stated, sha256=sha256)
    origin = result.weights_origin if result else None
    return WeightsInfo(kind="enum", name=job.weights, sha256=sha256, published=origin)


def row_of(job: Job, result: JobResult, runtimes: Sequence[str] = ()) -> ArtifactRow:
    """Join what was asked for with what came of it.

    Args:
        runtimes: the providers that the file was to run on.
    """
    return ArtifactRow(
        name=job.name,
        id=job.artifact,
        format=job.format,
        precision=job.precision,
        parent=job.parent,
        optional=job.optional,
        runtimes=list(runtimes),
        source=str(job.source),
        tags=job.tags,
        license=job.license,
        status=result.status,
        attempts=result.attempts,
        request=request_of(job, result),
        error=result.error,
        stages=result.stages,
        attempts_by_exporter=result.attempts_by_exporter,
        files=result.files,
        onnx=result.onnx,
        check=result.check,
        verify=result.verify,
        made=result.made,
        accuracy=result.accuracy,
        latency=result.latency,
        files_read=result.files_read,
        not_stored=result.not_stored,
        node=result.node,
        spent=result.spent,
        other_tries=result.other_tries,
    )


def counts(models: Iterable[ModelRecord | ArtifactRow]) -> dict[str, int]:
    """How many there are by status, sorted by status."""
    return dict(sorted(Counter(model.status for model in models).items()))


# Quoted names, paths and numbers.
_PARTICULAR = re.compile(r"""'[^']*'|"[^"]*"|(?:[\w.~-]*/)+[\w.-]*|\d+(?:\.\d+)?(?:e[+-]?\d+)?""")


def fingerprint(stage: str | None, code: str, kind: str | None, message: str) -> str:
    """Twelve hex digits that are equal for failures of the same cause.

    Numbers, quoted names and paths differ between models that fail alike: they are left out,
    and so are colours.
    """
    text = _PARTICULAR.sub("·", plain(message))
    return hashlib.sha256(f"{stage}|{code}|{kind}|{text}".encode()).hexdigest()[:12]


def dump(model: Frozen) -> str:
    """Indented JSON with a final newline; the order of fields is that of the types."""
    # Names and messages as they are read. No lone surrogate is left in them, which UTF-8 cannot
    # hold: `PlainText` has replaced it.
    return model.model_dump_json(indent=2) + "\n"


def awaits_benchmark(row: ArtifactRow) -> bool:
    """Whether a file is published whose latency was asked for and is not measured."""
    published = bool(row.files) and row.status in ("ok", "xpass")
    return published and row.stages["benchmark"].status == "not_run"


def not_run_stages(record: Sequence[StageName]) -> dict[StageName, StageRecord]:
    """The stages of a job that never started."""
    return {name: StageRecord() for name in record}
