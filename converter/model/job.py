"""What crosses the boundary between the runner and a worker: ``Job`` in, ``JobResult`` out.

Both are frozen and survive JSON unchanged: an executor may run a job on another machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from converter.model.errors import Code
from converter.model.plaintext import PlainText
from converter.model.spec import (
    AccuracySpec,
    Argument,
    Call,
    Checkpoint,
    DataSpec,
    Device,
    DimSpec,
    Expect,
    ExportSpec,
    Frozen,
    Generate,
    InputSpec,
    MetricSpec,
    Source,
    Training,
    VerifySpec,
)

Status = Literal[
    "ok", "failed", "crashed", "timeout", "oom", "skipped", "xfail", "xpass", "not_run"
]
StageName = Literal[
    "load", "reference", "export", "derive", "check", "simplify", "verify", "benchmark", "publish"
]
FaultyStage = Literal["export", "simplify", "runtime"]
StageStatus = Literal["ok", "failed", "skipped", "not_run", "not_requested"]
ALL_STAGES: tuple[StageName, ...] = get_args(StageName)
STAGES: tuple[StageName, ...] = tuple(name for name in ALL_STAGES if name != "derive")
"""Of a conversion."""


ONNX = "onnx"
"""The id of the artifact that a model is exported to, and its format; the others derive from it."""


PRECISIONS = ("float32", "float16", "bfloat16", "int8", "int4")
"""Those that can be verified."""
QUANTISED = ("int8", "int4")
"""Those whose error is no rounding: files are judged by how much of the signal is left."""


def rounding_of(precision: str) -> str:
    """The precision whose rounding is measured for a file; a quantised one computes in float32."""
    return "float32" if precision in QUANTISED else precision


def label(name: str, artifact: str) -> str:
    """How an artifact is called: ``resnet18``, ``resnet18/fp16``."""
    return name if artifact == ONNX else f"{name}/{artifact}"


class Variant(Frozen):
    """A further artifact that is asked for, made from the ONNX file.

    Attributes:
        id: as the configuration calls it.
        plugin: of ``converter.plugins.variants``.
        suffix: of its main file, and those of what belongs to it (``companions``).
        provider: of ``converter.plugins.providers``: opens and verifies its files.
        partial: some of it is of ``precision``, as much as is right; else most of it has to be.
        options: all of the plugin's, the defaults too.
    """

    id: str
    plugin: str
    format: str
    precision: str
    partial: bool = False
    suffix: str = ".onnx"
    companions: list[str] = Field(default_factory=list)
    provider: str = ""
    optional: bool
    cast_io: bool
    rtol: float | None = None
    atol: float | None = None
    accuracy: AccuracySpec | None = None
    options: dict[str, Any]


class FirstGraph(Frozen):
    """How the first of several graphs of a model is run: the weights of all are fitted on it."""

    call: str | Call | None = None
    inputs: dict[str, InputSpec]
    arguments: list[Argument] = Field(default_factory=list)
    constants: dict[str, Any] = Field(default_factory=dict)
    complex: Literal["pairs"] | None = None
    complex_inputs: list[str] = Field(default_factory=list)


class Job(Frozen):
    """One model with everything resolved: no default is left to look up, all paths absolute.

    Attributes:
        entry: the entry of ``models:`` that it is a graph of; empty: it is one by itself.
        call: what of the model is run and exported; none: ``forward``.
        first: of a model with several graphs the first one; none: it has one.
        inputs: the inputs of the file, flat.
        arguments: what ``forward`` gets of them; none: each is one, in its place.
        complex: ``pairs``: complex outputs are pairs of reals in the file, and the inputs of
            ``complex_inputs`` too, whose entries in ``inputs`` are those pairs.
        dynamic_axes: input or output name → axis → symbol; the list form has been named.
        every_axis: ``dynamic_axes: all``: they are all axes of the inputs; the worker keeps those
            that PyTorch takes at other sizes.
        dims: the rule of each symbol that has one; the worker adds those that it finds.
        assumed: symbols whose rule, or a part of it, was found and not stated.
        frozen: symbols that are numbers on purpose, with the size of the example.
        constant_outputs: those of ``outputs`` that need not depend on the inputs' values.
        exporters: to try, in order; ``exporter_options`` has all options of each that has any.
        simplifier: ``None`` when simplification was not requested.
        simplifier_options: all options of that plugin, the defaults too.
        threads: intra-op threads that torch and ONNX Runtime may use.
        provider_options: of the execution providers that a file is to run on.
        trust: what ``CONVERTER_TRUST`` listed when the run started.
        model_dir: where the published file, log and records of this model go.
        staging_dir: on the same file system; only complete files leave it.
        artifact: the id of what is made; ``format`` and ``precision`` are its own, ``parent`` the
            id of what it is made from.
        partial: some of it is of ``precision``, as much as is right; else most of it has to be.
        suffix, companions: of its main file, and of what belongs to it.
        provider: what opens and verifies it, of ``converter.plugins.providers``; empty: the one
            that all ONNX files are verified on.
        optional: a failure does not fail the model.
        cast_io: inputs and outputs are of ``precision`` too, where the model's are float32.
        accuracy: what a quantised file has to keep; ``None``: the usual.
        variants: what derives from this job's file.
    """

    # Of the class: neither the record nor the key of a job names our modules.
    ENTRY: ClassVar[str] = "converter.worker.pipeline.pipeline:run"
    STAGES: ClassVar[tuple[StageName, ...]] = STAGES

    name: str
    entry: str = ""
    artifact: str = ONNX
    format: str = "onnx"
    precision: str = "float32"
    partial: bool = False
    suffix: str = ".onnx"
    companions: list[str] = Field(default_factory=list)
    provider: str = ""
    parent: str | None = None
    optional: bool = False
    cast_io: bool = False
    accuracy: AccuracySpec | None = None
    variants: list[Variant] = Field(default_factory=list)
    source: Source
    kwargs: dict[str, Any] = Field(default_factory=dict)
    weights: str | Checkpoint = "random"
    call: str | Call | None = None
    first: FirstGraph | None = None
    inputs: dict[str, InputSpec]
    arguments: list[Argument] = Field(default_factory=list)
    complex: Literal["pairs"] | None = None
    complex_inputs: list[str] = Field(default_factory=list)
    constants: dict[str, Any] = Field(default_factory=dict)
    outputs: list[str] = Field(default_factory=list)
    constant_outputs: list[str] = Field(default_factory=list)
    data: DataSpec | None = None
    metric: MetricSpec | None = None
    dynamic_axes: dict[str, dict[int, str]] = Field(default_factory=dict)
    every_axis: bool = False
    dims: dict[str, DimSpec] = Field(default_factory=dict)
    assumed: list[str] = Field(default_factory=list)
    frozen: dict[str, int] = Field(default_factory=dict)
    opset: int | None
    training: Training = "eval"
    # What was asked for, which the row shows. `exporters` is what will run.
    exporter: str = "auto"
    exporters: list[str]
    exporter_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    simplifier: str | None = None
    simplifier_options: dict[str, Any] = Field(default_factory=dict)
    device: Device = "auto"
    seed: int = 0
    export: ExportSpec = ExportSpec()
    verify: VerifySpec = VerifySpec()
    expect: Expect | None = None
    tags: list[str] = Field(default_factory=list)
    license: str | None = None
    threads: int = 1
    provider_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    trust: list[str] = Field(default_factory=list)
    model_dir: str
    staging_dir: str

    @property
    def label(self) -> str:
        """``resnet18``, ``resnet18/fp16``."""
        return label(self.name, self.artifact)

    @property
    def key(self) -> str:
        """The key of the configuration that states it."""
        if not self.entry:
            return f"models.{self.name}"
        return f"models.{self.entry}.graphs.{self.name.removeprefix(f'{self.entry}.')}"

    @property
    def target(self) -> str:
        """The file that it makes: ``resnet18.onnx``."""
        return f"{self.stem}{self.suffix}"

    @property
    def stem(self) -> str:
        """What the names of all its files begin with: ``resnet18``."""
        return self.name

    @property
    def belongings(self) -> list[str]:
        """The names of the files that may go with its main one."""
        if self.format == ONNX:
            return [f"{self.target}.data"]
        return [f"{self.stem}{suffix}" for suffix in self.companions]


def asked(job: Job) -> dict[str, Any]:
    """The fields that every job has: for another one of the same artifact."""
    return {name: getattr(job, name) for name in Job.model_fields}


class Derived(Job):
    """A job that makes an artifact from another one of its model, which is there.

    Attributes:
        plugin: of ``converter.plugins.variants``; ``options`` are its own.
        parent_file: absolute; what belongs to it lies beside it.
        parent_files: the hashes of all its files, by name.
        references: the file with the cases that the model was run on, absolute.
        references_sha256: of that file.
    """

    ENTRY: ClassVar[str] = "converter.worker.pipeline.derive:run"
    STAGES: ClassVar[tuple[StageName, ...]] = (
        "load", "derive", "check", "verify", "benchmark", "publish",
    )  # fmt: skip

    @property
    def stem(self) -> str:
        """What the names of all its files begin with: ``resnet18.fp16``."""
        return f"{self.name}.{self.artifact}"

    plugin: str
    options: dict[str, Any] = Field(default_factory=dict)
    parent_file: str = ""
    parent_files: dict[str, str] = Field(default_factory=dict)
    references: str = ""
    references_sha256: str = ""


class Composed(Job):
    """A job that runs the files of several graphs of one model together, and makes nothing.

    Attributes:
        graphs: the job of each graph, by the graph's name in the configuration.
        generate, chain: how they are run together; one of them is stated.
        graph_files: by the graph's name its file, absolute.
        graph_hashes: by the graph's name the hashes of all its files, by their names.
        graph_weights: by the graph's name the hash of the weights that its file was made with.
    """

    ENTRY: ClassVar[str] = "converter.worker.pipeline.compose:run"
    STAGES: ClassVar[tuple[StageName, ...]] = ("load", "reference", "verify")

    graphs: dict[str, Job]
    generate: Generate | None = None
    chain: list[str] = Field(default_factory=list)
    graph_files: dict[str, str] = Field(default_factory=dict)
    graph_hashes: dict[str, dict[str, str]] = Field(default_factory=dict)
    graph_weights: dict[str, str | None] = Field(default_factory=dict)


class Recheck(Job):
    """A job whose file exists: ``file``, absolute, is verified again and nothing is made.

    Attributes:
        parent_file: what it was made from, where it derives from another file and that is there.
    """

    ENTRY: ClassVar[str] = "converter.worker.pipeline.recheck:run"

    file: str
    parent_file: str | None = None


class Bundle(Recheck):
    """A job that verifies ``file`` and lays it out for others, in ``FOLDER`` of its staging folder.

    The result's files are those of the folder, by their paths in it.
    """

    ENTRY: ClassVar[str] = "converter.worker.pipeline.bundling:run"
    FOLDER: ClassVar[str] = "bundle"

    @staticmethod
    def samples(labels: Sequence[str]) -> list[int]:
        """Which of the verified cases go along: the traced example and the second sample."""
        others = range(1, len(labels))
        return [0, *([n for n in others if labels[n] == "second"] or others)[:1]]


class ErrorRecord(Frozen):
    """Why a row is not ok.

    Attributes:
        type: the exception's class, or ``None`` where there was no exception.
        log: path of the log, relative to the run directory.
        fingerprint: equal for rows that failed for the same cause.
    """

    stage: StageName | None
    code: Code
    type: str | None = None
    message: PlainText
    hint: PlainText = ""
    log: str | None = None
    fingerprint: str = ""


class StageRecord(Frozen):
    status: StageStatus = "not_run"
    seconds: float | None = None
    peak_rss_bytes: int | None = None
    warnings: list[PlainText] = Field(default_factory=list)


class ExporterAttempt(Frozen):
    """One exporter of the order: what came of it."""

    exporter: str
    status: Literal["ok", "failed"]
    code: Code | None = None
    message: PlainText | None = None


WorkerEvent = StageName | ExporterAttempt
"""What a worker reports before its result: a stage that begins, an exporter that is done."""


class TensorInfo(Frozen):
    """A graph input or output; a symbolic dimension is its name, an unknown one ``None``."""

    name: str
    dtype: str
    shape: list[int | str | None]


class FileInfo(Frozen):
    path: str
    bytes: int
    sha256: str


class SimplifyRecord(Frozen):
    applied: bool
    reverted_reason: PlainText | None = None
    nodes_before: int | None = None
    nodes_after: int | None = None
    ops_before: dict[str, int] = Field(default_factory=dict)
    ops_after: dict[str, int] = Field(default_factory=dict)


class OnnxInfo(Frozen):
    """What describes an ONNX file."""

    exporter: str
    opset: int
    opsets: dict[str, int]
    ir_version: int
    producer: str
    parameters: int
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    nodes: int
    ops: dict[str, int]
    simplify: SimplifyRecord | None = None


class CheckRecord(Frozen):
    """Whether a file is sound and is what it is called, whatever it computes.

    Attributes:
        precision_weights: share of the elements of float weights that are held in the precision of
            the artifact; ``None`` where it is that of the parent.
        precision_nodes: share of the nodes with floats that compute in it.
        precision_macs: share of the multiplications of matrix products and convolutions in it.
    """

    status: Literal["passed", "failed", "not_run"] = "not_run"
    precision_weights: float | None = None
    precision_nodes: float | None = None
    precision_macs: float | None = None

    @classmethod
    def of(cls, stages: Mapping[StageName, StageRecord]) -> CheckRecord:
        """What the stage `check` came to."""
        # A job that failed before this stage has no verdict: `failed` would blame the file.
        came_to = stages["check"].status if "check" in stages else "not_run"
        if came_to not in ("ok", "failed"):
            return cls()
        return cls(status="passed" if came_to == "ok" else "failed")


class OutputCheck(Frozen):
    """One output of one case. Errors are against the PyTorch reference; ``None``: not computed.

    ``unpaired``: detections without a counterpart in the file; the errors are those of the others.
    ``not_compared``: what was wrong with the output before any error could be computed.
    """

    name: str
    shape: list[int]
    dtype: str
    max_abs: float | None = None
    max_rel: float | None = None
    rel_l2: float | None = None
    cosine: float | None = None
    atol: float
    rtol: float
    passed: bool
    unpaired: int | None = None
    not_compared: Literal["dtype", "shape", "empty", "not finite"] | None = None


class CaseCheck(Frozen):
    label: str
    shapes: dict[str, list[int]]
    provider: str
    outputs: list[OutputCheck]


class DynamicCheck(Frozen):
    """A declared dynamic axis: is the final graph symbolic there, and right at other sizes?"""

    input: str
    axis: int
    declared: str
    symbolic: bool
    sizes_tested: list[int]
    passed: bool


class Sensitivity(Frozen):
    """How far the reference moves when the input does; the root mean square of its outputs."""

    input_delta: float | None = None
    output_rms: float | None = None


class MutationRecord(Frozen):
    """Damaged copies of the file: each with one initializer changed, and what became of them.

    What is neither noticed nor equivalent passed although a comparison could tell.

    Attributes:
        noticed: rejected by the verification.
        equivalent: their outputs differ from the sound file's by no more than rounding might.
        reason: why there is nothing to damage.
    """

    applied: int = 0
    noticed: int = 0
    equivalent: int = 0
    reason: str | None = None


class SymbolDomain(Frozen):
    """The sizes of a dynamic axis on which a file was verified.

    Attributes:
        traced: its size in the traced example.
        sizes: all sizes that were verified, in order.
        refused: sizes that PyTorch itself refuses, or at which its outputs are not finite.
        rule: which sizes it may have, behind its name: ``64 to 2048, multiples of 32``,
            ``= past + 1``; of others nothing is promised. ``None``: any.
        assumed: the rule, or a part of it, was found by trying PyTorch and not stated.
    """

    symbol: str
    traced: int
    sizes: list[int] = Field(default_factory=list)
    refused: list[int] = Field(default_factory=list)
    rule: PlainText | None = None
    assumed: bool = False


class InputDomain(Frozen):
    """The values of an input on which a file was verified.

    Attributes:
        low, high: the least and the greatest value; ``None`` of booleans and empty inputs.
        patterns: by name: ``normal``, ``large``, ``zeros``, ``left-aligned``, …
    """

    name: str
    dtype: str
    low: float | None = None
    high: float | None = None
    patterns: list[str] = Field(default_factory=list)


class Branch(Frozen):
    """A way through the model's own Python code that no case took.

    Attributes:
        file: relative to the folder it was imported from.
        line: of the condition.
        text: its source: ``if T > 16``.
        outcome: what never happened: ``true``, ``false``, ``no turn`` or ``a turn`` of a loop, or
            ``another value`` of what became a Python number, or ``an effect of its number`` where
            others changed nothing; ``false at turn 3`` of a loop around it; ``each way of all
            parts`` of ``if a and b``.
    """

    file: str
    line: int
    text: PlainText
    outcome: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} `{self.text}` ({self.outcome})"


class Domain(Frozen):
    """On what a file was verified: ``ok`` means right there.

    Attributes:
        branches_seen: outcomes of conditions in the model's own code that the cases took.
        unreached: those that no case took.
        limits: where a file stops being right: ``right up to T = 64: head.py:41``.
        left_out: cases that the budget did not reach, by label; samples beyond their limit.
        dropped: cases that PyTorch refuses, or at which it is not finite: label and reason.
        claims: symbols of outputs alone, with the rule that they keep: ``= 4 * h``.
        frozen: symbols that are numbers in the file on purpose, with their size.
    """

    symbols: list[SymbolDomain] = Field(default_factory=list)
    inputs: list[InputDomain] = Field(default_factory=list)
    branches_seen: int = 0
    unreached: list[Branch] = Field(default_factory=list)
    limits: list[PlainText] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list)
    dropped: list[PlainText] = Field(default_factory=list)
    claims: dict[str, PlainText] = Field(default_factory=dict)
    frozen: dict[str, int] = Field(default_factory=dict)


class MetricRecord(Frozen):
    """A score on real samples, of PyTorch's outputs and of the file's; higher is better.

    Attributes:
        name: of the function.
        samples: how many it was given.
        torch, onnx: the two scores.
        drop: by how much the file's is lower; negative where it is higher.
        max_drop: what was allowed.
    """

    name: PlainText
    samples: int
    torch: float
    onnx: float
    drop: float
    max_drop: float
    passed: bool


class ProviderVerdict(Frozen):
    """What came of a file on one runtime or execution provider.

    Attributes:
        provider: as the configuration calls it.
        version: of the packages that ran it: ``openvino 2026.4.1``.
        status: ``unavailable``: this machine has it not.
        reason: why it is not ``passed``, or what was noted.
    """

    provider: str
    version: str = ""
    status: Literal["passed", "failed", "unavailable"]
    code: Code | None = None
    reason: PlainText | None = None


class CalibrationRecord(Frozen):
    """What the ranges of a quantised file were taken from.

    Attributes:
        kind: the user's ``data``, or inputs that were drawn.
        name: of the data.
        method: how ranges follow from samples.
        samples: how many.
    """

    kind: Literal["data", "drawn"]
    method: str = ""
    name: PlainText = ""
    samples: int = 0


class CurvePoint(Frozen):
    """One try on the way to a file that is good enough.

    Attributes:
        float_nodes: how many nodes stayed in float.
        sqnr_db: signal to quantisation noise ratio, in decibels.
        error: why the file was refused; ``None``: it was not.
    """

    float_nodes: int
    sqnr_db: float | None = None
    error: PlainText | None = None


class MadeRecord(Frozen):
    """How a variant was made, as its plugin tells it.

    Attributes:
        float_nodes: nodes that stayed in float since the file was not good enough with them.
        curve: the tries, in order.
        notes: what its users should know: a raised opset, sizes that are fixed.
        tools: by their names the versions of the programs that made it.
    """

    calibration: CalibrationRecord | None = None
    float_nodes: list[PlainText] = Field(default_factory=list)
    curve: list[CurvePoint] = Field(default_factory=list)
    notes: list[PlainText] = Field(default_factory=list)
    tools: dict[str, str] = Field(default_factory=dict)


class AccuracyRecord(Frozen):
    """How much of PyTorch's outputs a quantised file keeps.

    Attributes:
        sqnr_db: signal to quantisation noise ratio against PyTorch, in decibels, of the worst
            output in the worst sample; 200 without noise.
        cosine: of the worst sample.
        top1_agreement: share of rows of class scores whose largest class is the same; ``None``: no
            output has rows of numbers.
        samples: cases that the figures are of: real samples, else all but patterns of values.
        output: the one with the least ``sqnr_db``; ``sample`` is the case.
        slice_db: the same ratio of the worst slice of an output (a channel, a column) over all
            samples; ``slice`` names it. ``None``: none has 32 elements.
        parent_rel_l2: the relative L2 distance to the outputs of the file that it was made from.
        simulation_db: ``sqnr_db`` of the file computed in floats, without optimisations; kernels
            that are more than 1 dB worse do not compute what the file says.
        asked: the thresholds.
        weights_compared: weights that are, within one step, those of the parent; ``None``: that was
            not at hand.
        weights: so many there are; the others, such as folded ones, have no counterpart in it.
        gate: whether thresholds were ``applied``, or the figures are ``shown`` alone.
        reason: why they are shown alone.
    """

    sqnr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    samples: int = 0
    output: str = ""
    sample: PlainText = ""
    slice_db: float | None = None
    slice: PlainText = ""
    parent_rel_l2: float | None = None
    simulation_db: float | None = None
    gate: Literal["applied", "shown"] = "shown"
    asked: AccuracySpec = AccuracySpec()
    weights_compared: int | None = None
    weights: int | None = None
    reason: PlainText | None = None


class VerifyRecord(Frozen):
    """What was verified of the file.

    ``arithmetic``: ``emulated`` where no device computed in the file's float16 or bfloat16: the
    verdict is that of float32 arithmetic which rounds every result to it.

    ``faulty_stage``: what made the numbers wrong, or those of a simplified file that did not ship.

    ``providers``: a verdict for each runtime that the file was verified on.
    """

    status: Literal["passed", "failed", "vacuous", "not_measured"] = "not_measured"
    reason: PlainText | None = None
    arithmetic: Literal["native", "emulated"] | None = None
    faulty_stage: FaultyStage | None = None
    sensitivity: Sensitivity | None = None
    cases: list[CaseCheck] = Field(default_factory=list)
    dynamic: list[DynamicCheck] = Field(default_factory=list)
    mutation: MutationRecord | None = None
    metric: MetricRecord | None = None
    domain: Domain | None = None
    providers: list[ProviderVerdict] = Field(default_factory=list)


class Latency(Frozen):
    """Latency of one model on one execution provider; times in milliseconds.

    Attributes:
        provider: as the configuration calls it.
        active: the providers of the session, as ONNX Runtime calls them, this one first.
        budget_s: seconds that warm-up and measurement together might take.
        warmup: calls that were made and not counted.
        stable: ``ci95_ms``, the 95 % confidence interval of the median, is within 2 % of it.
        throughput: samples a second, a sample being one entry of the first input's first axis.
        nodes_per_provider: of the graph as ONNX Runtime divided it, before it fuses nodes.
        torch_p50_ms: of PyTorch eager on the same device.
        speedup: that over ``p50_ms``; ``None`` where a median is not stable or was disturbed.
        notes, torch_notes: what makes the file's figures, or PyTorch's, doubtful: a busy machine.
        remarks: what casts no doubt and is to be known, such as why there is no speedup.
    """

    provider: str
    status: Literal["measured", "unavailable", "failed", "not_requested"]
    reason: PlainText | None = None
    shapes: dict[str, list[int]] = Field(default_factory=dict)
    threads: int | None = None
    io_binding: bool | None = None
    warmup: int | None = None
    iterations: int | None = None
    stable: bool | None = None
    mean_ms: float | None = None
    std_ms: float | None = None
    min_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    throughput: float | None = None
    session_load_ms: float | None = None
    nodes_per_provider: dict[str, int] = Field(default_factory=dict)
    torch_p50_ms: float | None = None
    speedup: float | None = None
    active: list[str] = Field(default_factory=list)
    budget_s: float | None = None
    ci95_ms: list[float] = Field(default_factory=list)
    torch_stable: bool | None = None
    notes: list[PlainText] = Field(default_factory=list)
    torch_notes: list[PlainText] = Field(default_factory=list)
    remarks: list[PlainText] = Field(default_factory=list)


class JobResult(Frozen):
    """What became of a job: the worker's own account, or the supervisor's if it left none.

    Attributes:
        artifact: the id of the artifact that was to be made.
        files: of the artifact, the one to open first; paths are names in the staging folder, and
            relative to the run directory once they are published.
        files_read: files of the user's that the model's code opened for reading: of a worker all,
            absolute, code too; of a finished job data, and what the key does not cover.
        references: the file of the cases that variants are verified on; its path is a name in the
            staging folder.
        precisions: for which of them the file has bounds.
        not_stored: why the result is used and not kept in the store.
    """

    name: str
    artifact: str = ONNX
    status: Status
    attempts: int = 1
    error: ErrorRecord | None = None
    stages: dict[StageName, StageRecord] = Field(default_factory=dict)
    attempts_by_exporter: list[ExporterAttempt] = Field(default_factory=list)
    files: list[FileInfo] = Field(default_factory=list)
    onnx: OnnxInfo | None = None
    check: CheckRecord = CheckRecord()
    verify: VerifyRecord = VerifyRecord()
    made: MadeRecord | None = None
    accuracy: AccuracyRecord | None = None
    latency: list[Latency] = Field(default_factory=list)
    device: str | None = None
    weights_sha256: str | None = None
    conditioned: bool | None = None
    files_read: list[str] = Field(default_factory=list)
    references: FileInfo | None = None
    precisions: list[str] = Field(default_factory=list)
    not_stored: PlainText | None = None

    @property
    def label(self) -> str:
        """``resnet18``, ``resnet18/fp16``."""
        return label(self.name, self.artifact)
