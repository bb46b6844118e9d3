"""What crosses the boundary between the runner and a worker: ``Job`` in, and out a ``JobResult``.

Both (the latter is in ``records``) are frozen and survive JSON unchanged: an executor may run a job
on another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from converter.model.artifact import ONNX, label
from converter.model.base import Device, Frozen, Training
from converter.model.inputs import Argument, InputSpec
from converter.model.records import STAGES, OutputCheck, StageName
from converter.model.source import Checkpoint, Source
from converter.model.spec import (
    AccuracySpec,
    Call,
    DataSpec,
    DimSpec,
    Expect,
    ExportSpec,
    Generate,
    MetricSpec,
    VerifySpec,
)


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


class Sibling(Frozen):
    """What the same model has otherwise at a later point of a sweep: how its file is made."""

    opset: int | None
    exporter: str
    exporters: list[str]
    exporter_options: dict[str, dict[str, Any]]
    simplifier: str | None
    simplifier_options: dict[str, Any]
    export: ExportSpec


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
        precisions: of variants that other runs made of it, whose bounds are kept as well.
        siblings: what else to make of the model once it is loaded and run, for later points of the
            sweep; each may take ``sibling_s`` seconds.
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
    precisions: list[str] = Field(default_factory=list)
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
    siblings: list[Sibling] = Field(default_factory=list)
    sibling_s: float = 0.0
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

    def sibling(self, number: int) -> Job:
        """This job as a later point of the sweep has it; its folder lies in that of this one."""
        folder = f"{self.staging_dir}/sibling-{number}"
        fields = {name: getattr(self.siblings[number], name) for name in Sibling.model_fields}
        return self.model_copy(update={**fields, "siblings": [], "staging_dir": folder})

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


class Debug(Job):
    """A job that finds where its file begins to be wrong, and lays what shows it in ``FOLDER``.

    The result's files are those of the folder, by their paths in it.

    Attributes:
        providers: where to look too, if the file is right on the standard one.
    """

    ENTRY: ClassVar[str] = "converter.worker.pipeline.debugging:run"
    STAGES: ClassVar[tuple[StageName, ...]] = (
        "load", "reference", "export", "check", "verify", "publish",
    )  # fmt: skip
    FOLDER: ClassVar[str] = "debug"

    providers: list[str] = Field(default_factory=list)


class DebugVariant(Derived):
    """A job that makes a variant of 16-bit floats again, and does with it what ``Debug`` does."""

    ENTRY: ClassVar[str] = "converter.worker.pipeline.debugging_variant:run"
    STAGES: ClassVar[tuple[StageName, ...]] = (
        "load", "reference", "derive", "verify", "publish",
    )  # fmt: skip


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

    @staticmethod
    def bound(output: OutputCheck, *, quantised: bool) -> tuple[float, float]:
        """How far an element may be off: a share, and an absolute part.

        A quantised file was held to no such bound. It may be off by twice what it was here: other
        processors round its products in another way.
        """
        if quantised:
            return 0.0, 2 * (output.max_abs or 0.0)
        return output.rtol, output.atol
