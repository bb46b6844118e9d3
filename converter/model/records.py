"""What a worker reports of a job, stage by stage: ``JobResult``, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field

from converter.model.artifact import ONNX, label
from converter.model.base import Frozen
from converter.model.errors import Code
from converter.model.plaintext import PlainText
from converter.model.spec import AccuracySpec

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


class Spent(Frozen):
    """When a job ran and what it took; of several tries, the last one.

    Attributes:
        started_at: UTC, by the clock of the machine that it ran on.
        seconds: from its start to its end.
        cpu_seconds: of all its processes that have ended; ``None``: nobody was left to say.
    """

    started_at: str
    seconds: float
    cpu_seconds: float | None


class Try(Frozen):
    """A process that ran for an artifact beside the one that its row is about.

    Attributes:
        provider: whose latency it took; empty: it made the file.
        attempt: counted from 1.
        node: the name of its machine; empty: that of the runner, or it never came to one.
        gpus: that it could use, as far as that is known.
        reason: why nothing was taken of it; empty: it came to its end.
        spent: what is known of it. Of a process that went with its node it is what the runner saw.
    """

    provider: str = ""
    attempt: int
    node: str = ""
    gpus: int = 0
    reason: PlainText = ""
    spent: Spent | None = None

    @property
    def words(self) -> str:
        """``attempt 1 on gpu01 was given up: the node gpu01 was lost``."""
        where = f" on {self.node}" if self.node else ""
        return f"attempt {self.attempt}{where} was given up: {self.reason}"


class NodeInfo(Frozen):
    """The machine of a cluster that a job ran on.

    Attributes:
        id: as the cluster calls it; one machine may be several of its nodes.
        address: of its network interface, as the cluster knows it.
        gpus: those that the job could use.
        packages: the versions that are not those of the manifest's environment; ``None``: not
            installed there. ``python`` stands among them.
        landlock: the version of Landlock that its kernel offers to sandboxes; 0: none.
    """

    id: str
    name: str
    address: str
    cpu: str
    cores: int
    gpus: list[str] = Field(default_factory=list)
    packages: dict[str, str | None] = Field(default_factory=dict)
    landlock: int = 0


class Apart(Frozen):
    """A job begins, or has ended, what is none of its own result: its time limit stands still."""

    begins: bool


WorkerEvent = StageName | ExporterAttempt | Apart
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
        agreement: share of whole numbers and truths that are PyTorch's, of the worst such output;
            ``None``: there is none.
        samples: that the figures are of: real samples, else all cases but patterns of values, and
            further draws (``drawn 1``), whose outputs are those of the float32 file.
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
        same_graph: without its quantisers, and with the weights of its parent, the file gives what
            that gives; ``None``: it could not be tried.
        gate: whether thresholds were ``applied``, or the figures are ``shown`` alone.
        reason: why they are shown alone.
    """

    sqnr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    agreement: float | None = None
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
    same_graph: bool | None = None
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
        node: where it was taken; ``None``: on the machine of the runner.
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
    node: NodeInfo | None = None


class WeightsOrigin(Frozen):
    """What a library says of the weights that it publishes; ``None``: it says nothing.

    Attributes:
        url: that they are downloaded from; ``hf-hub:NAME`` of the hub of Hugging Face.
        origin: a page: how they were trained, or whose they are.
        license: an identifier, or the address of a text. That of the library's code is another one.
    """

    library: str
    url: str
    origin: str | None = None
    license: str | None = None


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
        node: where it ran; ``None``: on the machine of the runner.
        spent: ``None``: it was run in the process of the runner.
        other_tries: those of which nothing was taken, and of a finished job its latencies.
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
    weights_origin: WeightsOrigin | None = None
    conditioned: bool | None = None
    files_read: list[str] = Field(default_factory=list)
    references: FileInfo | None = None
    precisions: list[str] = Field(default_factory=list)
    not_stored: PlainText | None = None
    node: NodeInfo | None = None
    spent: Spent | None = None
    other_tries: list[Try] = Field(default_factory=list)

    @property
    def label(self) -> str:
        """``resnet18``, ``resnet18/fp16``."""
        return label(self.name, self.artifact)
