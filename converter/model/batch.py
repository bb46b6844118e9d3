"""The typed configuration of a whole run: its groups, its defaults and its models.

``converter.config.validation`` turns a composed configuration into a ``BatchSpec`` and words
the errors; ``converter.plan.jobs`` turns a ``BatchSpec`` into jobs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from converter.model.base import Device, Frozen, Opset, PathText, Text, Training
from converter.model.spec import ModelSpec, VariantSpec, VerifySpec, short_model

Positive = Annotated[float, Field(gt=0)]
OnCached = Literal["always", "never", "stale"]
Share = Annotated[float, Field(ge=0)]
Command = list[Text] | Text
LATEST = "latest"  # a baseline: the run that the link of this name leads to


class ExporterSpec(Frozen):
    """Group ``exporter``: the exporters to try, in order, until one verifies.

    Attributes:
        name: what the choice is called: ``auto``, or the one exporter.
        order: the exporters to try, in this order.
        options: by the name of an exporter its own options.
    """

    name: Text = "auto"
    order: list[Text] = Field(min_length=1)
    options: dict[Text, dict[str, Any]] = Field(default_factory=dict)


class SimplifierSpec(Frozen):
    """Group ``simplifier``: the plugin, and its own options as further keys.

    Attributes:
        name: the plugin that simplifies.
    """

    model_config = ConfigDict(extra="allow")

    name: Text

    @property
    def options(self) -> dict[str, Any]:
        """What the plugin's ``Options`` are to be made of."""
        return dict(self.model_extra or {})


class BenchmarkSpec(Frozen):
    """Group ``benchmark``: what is timed after the conversions; ``docs/latency.md`` has the method.

    Attributes:
        providers: execution providers to time each file on; none is ``off``.
        threads: intra-op threads; ``auto`` is the number of physical cores. Example: ``4``.
        budget_s: seconds that a file may take on one provider, and PyTorch again, warm-up included.
            Example: ``0.5``.
        batch_sizes: further sizes of a dynamic batch axis (axis 0 of an input). Example:
            ``[8, 32]``.
        optional: a provider that this machine lacks does not fail the model.
        torch: time the PyTorch model too, for ``speedup``.
        options: by the name of a provider its own options.
        on_cached: whether to time a file that the store had: ``stale`` is when its latency was
            taken on another machine, with other versions, or asked for otherwise.
        nodes: of a cluster, those that files are timed on, by name, address, label or resource;
            none: any. Example: ``[gpu01, "kind=bench"]``.
    """

    providers: list[Text]
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    budget_s: Positive = 5.0
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    optional: bool = False
    torch: bool = True
    options: dict[Text, dict[str, Any]] = Field(default_factory=dict)
    on_cached: OnCached = "always"
    nodes: list[Text] = Field(default_factory=list)


def _switch(value: object) -> object:
    """YAML reads an unquoted ``on`` or ``off`` as a boolean."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class ExecutorSpec(Frozen):
    """Group ``executor``; further keys are options of the plugin.

    Attributes:
        name: the plugin that runs the jobs.
        workers: models converted at a time; ``auto`` is the number of cores. Example: ``4``.
        timeout_s: seconds that one model may take. Example: ``600``.
        grace_s: seconds between SIGTERM and SIGKILL. Example: ``10``.
        memory_mb: MiB that one model's processes may hold; ``auto`` is 85 % of the machine's,
            ``null`` has no limit. Example: ``8192``.
        memory_budget_mb: MiB that the models which ``process`` converts at a time may be expected
            to hold together; one that does not fit beside the others waits. ``auto`` is two thirds
            of the machine's memory, ``null`` has no limit. Example: ``16384``.
        retries: further tries for a job that a signal ended; never for an exception. Example:
            ``0``.
        sandbox: whether a model's code may write only to its staging and temporary folders and to
            caches, and connect only where weights or inputs are to be downloaded: ``auto`` where
            the kernel can (Landlock), ``on`` or not at all.
        writable: further folders that models' code may write to; a relative one counts from where
            the command is started. Example: ``[/data/cache]``.
    """

    model_config = ConfigDict(extra="allow")

    name: Text
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    timeout_s: Positive = 1800.0
    grace_s: Annotated[float, Field(ge=0)] = 5.0
    memory_mb: Annotated[int, Field(ge=256)] | Literal["auto"] | None = "auto"
    memory_budget_mb: Annotated[int, Field(ge=256)] | Literal["auto"] | None = "auto"
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    sandbox: Annotated[
        Literal["auto", "on", "off"],
        BeforeValidator(_switch, json_schema_input_type=Literal["auto", "on", "off"] | bool),
    ] = "auto"
    writable: list[Text] = Field(default_factory=list)

    @property
    def own_options(self) -> dict[str, Any]:
        """What the plugin's ``Options`` are to be made of."""
        return dict(self.model_extra or {})


class StoreSpec(Frozen):
    """Where results are kept for other runs.

    Attributes:
        path: a folder, or a place of an object store. Example: ``/data/converter-store``,
            ``s3://our-zoo/store``.
        use: whether results are taken from there and put there.
    """

    path: PathText = "outputs/.store"
    use: bool = True


class CompareSpec(Frozen):
    """What counts as worse than the baseline.

    Attributes:
        latency: share by which a model may become slower. Example: ``0.2``.
        error: share of its tolerance by which the worst error of a model may grow. Example:
            ``0.5``.
        size: share by which its files may grow. Example: ``0.1``.
        remeasure_budget_s: seconds that timing slower models again may take. Example: ``60``.
        debug_budget_s: seconds that looking into files which have become wrong may take; 0: no
            time. Example: ``60``.
    """

    latency: Share = 0.10
    error: Share = 0.25
    size: Share = 0.05
    remeasure_budget_s: Annotated[float, Field(ge=0)] = 300.0
    debug_budget_s: Annotated[float, Field(ge=0)] = 120.0


class SignSpec(Frozen):
    """How published sets are signed; needs the extra ``sign``.

    Attributes:
        private_key: a PEM file with a private key of an elliptic curve: P-256, P-384 or P-521.
            Example: ``keys/zoo.pem``.
    """

    private_key: PathText


class PublishSpec(Frozen):
    """A place that receives verified files; further keys are options of its layout.

    Attributes:
        path: a folder, or a place of an object store. Example: ``served``, ``s3://our-zoo/models``.
        layout: how files are laid out there; by default ``zoo``, under the names that they have in
            the run. Example: ``triton``.
        keep_versions: how many versions of a model's files stay there, the newest included.
            Example: ``2``.
        sign: the key that each published set is signed with; none: they are not signed. Example:
            ``{private_key: keys/zoo.pem}``.
    """

    model_config = ConfigDict(extra="allow")

    path: PathText
    layout: Text | None = None
    keep_versions: Annotated[int, Field(ge=1, le=1000)] = 1
    sign: SignSpec | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the layout's ``Options`` are to be made of."""
        return dict(self.model_extra or {})


def _targets(value: object) -> object:
    """One folder or several, each by its path or with more."""
    if value is None:
        return []
    if not isinstance(value, str | dict | list):
        raise ValueError("expected a folder, a mapping with its path, or a list of such")
    listed = value if isinstance(value, list) else [value]
    return [{"path": item} if isinstance(item, str) else item for item in listed]


def _named(value: object) -> object:
    """A list of names says nothing else of each."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(name, str) for name in value):
        raise ValueError("expected a list of names, or a mapping of names to their options")
    return {name: {} for name in value}


class BatchSpec(Frozen):
    """A whole configuration, as composed from ``configs/`` and the command line.

    What names plugins has no default here: ``configs/`` states it, and
    ``converter.config.standard`` reads it there.

    Attributes:
        exporter: the exporters to try, in order, until one verifies.
        simplifier: the plugin that simplifies each file, and its options.
        variant: further artifacts of every model: a list of names, or a mapping with options.
        verify: how each file is verified against PyTorch.
        benchmark: what is timed after the conversions.
        executor: how the jobs are run.
        opset: the ONNX opset of the default domain. Example: ``18``.
        training: the mode that models are exported in.
        simplify: whether the simplifier runs.
        device: where the PyTorch models run.
        seed: the seed of random weights and inputs. Example: ``1``.
        include: patterns of registry names whose models are converted. Example:
            ``["torchvision/*"]``.
        exclude: patterns of registry names that ``include`` leaves out. Example:
            ``["torchvision/vit_*"]``.
        select: patterns of the names of this run's models; the others are left out. Example:
            ``["resnet*"]``.
        models: by its name, each model to convert. Example:
            ``{resnet18: {source: torchvision/resnet18, opset: 19}}``.
        baseline: what to compare with: a run directory, a manifest, or ``latest``. Example:
            ``latest``.
        compare: what counts as worse than the baseline.
        store: where results are kept for other runs.
        reports: the reports that are written beside the manifest.
        publish_to: a folder that only ever receives verified files, or several, each by its path or
            with a layout. Example: ``zoo``.
        keep: how many runs of this experiment stay; older ones are removed. Example: ``14``.
        exclusive: whether a second run of this experiment is refused while this one goes on.
        deadline: seconds after which what is left is ``not_run``. Example: ``14400``.
        on_failure: a command that is given the run directory when a model failed. Example:
            ``[mail, -s, failed, me]``.
        on_regression: a command that is given the run directory when something is worse than the
            baseline. Example: ``[mail, -s, worse, me]``.
    """

    exporter: ExporterSpec
    simplifier: SimplifierSpec
    variant: Annotated[
        dict[Text, VariantSpec],
        BeforeValidator(_named, json_schema_input_type=list[Text] | dict[Text, VariantSpec]),
    ] = Field(default_factory=dict)
    verify: VerifySpec = VerifySpec()
    benchmark: BenchmarkSpec
    executor: ExecutorSpec
    opset: Opset = 17
    training: Training = "eval"
    simplify: bool = True
    device: Device = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    include: list[Text] = Field(default_factory=list)
    exclude: list[Text] = Field(default_factory=list)
    select: list[Text] = Field(["*"], min_length=1)
    models: dict[
        str,
        Annotated[ModelSpec, BeforeValidator(short_model, json_schema_input_type=Text | ModelSpec)],
    ] = Field(default_factory=dict)
    baseline: PathText | None = None
    compare: CompareSpec = CompareSpec()
    store: StoreSpec = StoreSpec()
    reports: list[Text]
    publish_to: Annotated[
        list[PublishSpec],
        BeforeValidator(
            _targets,
            json_schema_input_type=Text | PublishSpec | list[Text | PublishSpec] | None,
        ),
    ] = Field(default_factory=list)
    keep: Annotated[int, Field(ge=1)] | None = None
    exclusive: bool = False
    deadline: Positive | None = None
    on_failure: Command | None = None
    on_regression: Command | None = None
