"""The typed configuration of one model: what a user may write, with every default.

Field names are the YAML keys. The types of a model's parts (``inputs.py``, ``source.py``, and here
export, verify, …) are also the types of a ``Job``; ``batch.py`` has those of a whole run. What
editors and ``docs/keys.md`` say of a key is its line under ``Attributes:``; ``Example:`` ends it,
in YAML.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from converter.model.base import (
    Device,
    Dim,
    Frozen,
    Opset,
    Pass,
    PathText,
    Reference,
    Text,
    Tolerance,
    Training,
)
from converter.model.inputs import Argument, CaseInput, InputSpec
from converter.model.source import Checkpoint, Source, registry_source


class VerifyCase(Frozen):
    """Inputs that a file is verified on in addition.

    Attributes:
        label: what the case is called in reports. Example: ``dark image``.
        inputs: by the name of an input what the case changes of it. Example:
            ``{image: {fill: uniform, low: 0, high: 0.1}}``.
    """

    label: Text
    inputs: dict[str, CaseInput] = Field(default_factory=dict)


class VerifySpec(Frozen):
    """How a file is proved against PyTorch; ``None`` means inherited, then derived.

    Attributes:
        rtol, atol: element-wise bound ``|onnx - torch| <= atol + rtol * |torch|``. Example:
            ``1.0e-4``.
        shapes: extra shapes, each ``{input: [sizes]}``. Example:
            ``[{image: [4, 3, 224, 224]}]``.
        cases: extra inputs, run in addition. Example:
            ``[{label: dark, inputs: {image: {fill: uniform, low: 0, high: 0.1}}}]``.
        reference: ``eager``, or ``export``: with ``torch.onnx.is_in_onnx_export()`` true.
        mutations: damaged copies of a right file that the comparison must notice; none by default.
            Example: ``8``.
        budget: work for cases beyond the required ones, in forward passes of the traced example;
            by default as much as costs about a third of what the other stages do. Example: ``50``.
        unreached: what becomes of a branch on the input that no case reached: ``note`` it in
            ``verify.reason``, or ``fail`` the row with VERIFY_UNREACHED.
        providers: where files are verified besides the provider that verifies all of them:
            runtimes and execution providers. Example: ``[openvino]``.
    """

    rtol: Tolerance | None = None
    atol: Tolerance | None = None
    shapes: list[dict[str, list[Dim]]] = Field(default_factory=list)
    cases: list[VerifyCase] = Field(default_factory=list)
    reference: Literal["eager", "export"] = "eager"
    mutations: Annotated[int, Field(ge=0, le=100)] | None = None
    budget: Annotated[float, Field(ge=0)] | None = None
    unreached: Literal["note", "fail"] | None = None
    providers: list[Text] = Field(default_factory=list)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ExportSpec(Frozen):
    """Options of the exporters, in the terms of ``torch.onnx.export``.

    Attributes:
        constant_folding: compute in the exporter what depends on no input.
        export_params: write the weights into the file.
        keep_initializers_as_inputs: make each weight an input of the graph as well.
        parameter_names: names of the weights in the file, in order. Example:
            ``[conv.weight, conv.bias]``.
        custom_opsets: versions of further operator domains. Example: ``{com.example: 1}``.
        translations: how the dynamo exporter writes custom operators of torch: a mapping of
            operators to onnxscript functions, by the name to import it from; one or a list. Their
            code must be trusted. Example: ``my_package.operators:TABLE``.
        custom_ops: libraries of ONNX Runtime's custom operators, that every session of this model
            loads. Native code: their folders must be trusted. Example: ``[lib/libmy_ops.so]``.
        external_data: whether weights go into a file of their own; ``auto`` where the file would
            be over 2 GB.
    """

    constant_folding: bool = True
    export_params: bool = True
    keep_initializers_as_inputs: bool = False
    parameter_names: list[Text] = Field(default_factory=list)
    custom_opsets: dict[str, int] = Field(default_factory=dict)
    translations: Annotated[
        list[Reference],
        BeforeValidator(_listed, json_schema_input_type=Reference | list[Reference]),
    ] = Field(default_factory=list)
    custom_ops: Annotated[
        list[Text], BeforeValidator(_listed, json_schema_input_type=Text | list[Text])
    ] = Field(default_factory=list)
    external_data: Literal["auto", "always", "never"] = "auto"


class Expect(Frozen):
    """An expected failure: xfail needs the same status and code; success becomes xpass.

    Attributes:
        status: the status that the model must get. Example: ``failed``.
        code: the error code that it must get; ``docs/errors.md`` lists them. Example:
            ``VERIFY_VALUE``.
        reason: why it fails, for those who read the report. Example:
            ``the exporter freezes the length``.
        issue: where it is tracked. Example: ``"#123"``.
    """

    status: Literal["failed", "crashed", "timeout", "oom"]
    code: Text
    reason: Text
    issue: str | None = None


class OpsetRange(Frozen):
    """Constrains the run's opset: outside, the model is skipped with the reason.

    Attributes:
        min: the lowest opset that the model supports. Example: ``17``.
        max: the highest opset that the model supports. Example: ``20``.
    """

    min: Opset | None = None
    max: Opset | None = None


DynamicAxes = dict[str, dict[int, str] | list[int]]
EveryAxis = Literal["all"]


class DimSpec(Frozen):
    """The rule of a symbol: which sizes its axes may have.

    In YAML an expression alone may be written as plain text.

    Attributes:
        min: the least size. Example: ``64``.
        max: the greatest size. Example: ``2048``.
        multiple_of: the sizes are multiples of it. Example: ``32``.
        equals: the size, of other symbols: names, whole numbers, ``+``, ``-``, ``*`` and ``//``; a
            name that is on no axis may have any value. Example: ``past + 1``.
    """

    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=1)] | None = None
    multiple_of: Annotated[int, Field(ge=1)] | None = None
    equals: Text | None = None


def _rule(value: object) -> object:
    return {"equals": value} if isinstance(value, str) else value


class OutputSpec(Frozen):
    """What is known of one output.

    Attributes:
        constant: it does not depend on the values of the inputs, on purpose (anchors, shapes): it
            is compared, and need not move.
    """

    constant: bool = False


class AccuracySpec(Frozen):
    """What a quantised file has to keep of PyTorch's outputs, at the worst in the worst sample.

    Applied where weights are trained or samples are real, else shown; where a ``metric`` scores
    real samples, that decides.

    Attributes:
        sqnr_db: signal to quantisation noise ratio, in decibels; 15 is an error of 18 %. Of each
            channel over all samples 10 dB less are asked for, and 3 dB always.
        cosine: of the angle between the outputs.
        top1_agreement: share of rows of class scores whose largest class is the same; not asked for
            by default, since no file tells scores from other rows. Example: ``0.98``.
        agreement: share of whole numbers and truths in an output (a class, a mask) that are the
            same.
    """

    sqnr_db: Annotated[float, Field(ge=0, le=200)] = 15.0
    cosine: Annotated[float, Field(ge=-1, le=1)] = 0.98
    top1_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.9


class VariantSpec(Frozen):
    """One artifact that is made from the ONNX file; further keys are options of its plugin.

    Attributes:
        plugin: the plugin that makes it; by default the one of the variant's own name.
        optional: its failure does not fail the model.
        rtol, atol: as in ``verify``, whose own are for the float32 file; derived by default.
            Example: ``1.0e-2``.
        accuracy: of a quantised file, in place of tolerances. Example: ``{sqnr_db: 20}``.
    """

    model_config = ConfigDict(extra="allow")

    plugin: Text | None = None
    optional: bool = False
    rtol: Tolerance | None = None
    atol: Tolerance | None = None
    accuracy: AccuracySpec | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the plugin's ``Options`` are to be made of."""
        return dict(self.model_extra or {})


class _Called(Frozen):
    """A function of the user's, with its arguments beside its name."""

    model_config = ConfigDict(extra="allow")

    @property
    def arguments(self) -> dict[str, Any]:
        """What it is called with by keyword."""
        return dict(self.model_extra or {})


class DataSpec(_Called):
    """A set of real samples; in YAML its path may be written as a plain string.

    Attributes:
        path: a folder or a glob of ``.npz`` files (arrays by the names of the inputs, one sample
            each) or of ``test_data_set_N`` folders of ONNX. Example: ``data/val``.
        target: a function that yields mappings of arrays or tensors by the names of the inputs;
            further keys are its arguments. Example: ``my_package.data.samples``.
        limit: how many samples are taken, the first ones. Example: ``50``.
    """

    path: PathText | None = None
    target: Text | None = Field(None, alias="_target_")
    limit: Annotated[int, Field(ge=1, le=100)] = 16

    @model_validator(mode="after")
    def _one_place(self) -> DataSpec:
        if (self.path is None) == (self.target is None):
            found = "neither" if self.path is None else "both"
            raise ValueError(f"expected 'path' or '_target_'; found {found}")
        if self.target is None and self.arguments:
            named = ", ".join(sorted(self.arguments))
            raise ValueError(f"unknown key {named}; a path takes 'limit' alone")
        return self


class MetricSpec(_Called):
    """A score of outputs on the samples of ``data``; higher is better.

    Attributes:
        target: a function ``metric(samples, outputs)`` that returns a number; further keys are its
            arguments. Example: ``my_package.metrics.top1``.
        max_drop: by how much the file's score may be below PyTorch's. Example: ``0.005``.
    """

    target: Text = Field(alias="_target_")
    max_drop: Annotated[float, Field(ge=0)] = 0.01


def _data_path(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class Call(Frozen):
    """A function that runs the model.

    Attributes:
        target: its name to import it from; its first argument is the model, the others are
            ``inputs``. Example: ``my_package.speech.decode_step``.
    """

    target: Text = Field(alias="_target_")


class Generate(Frozen):
    """Greedy generation through the files of ``graphs``, compared with PyTorch without a cache.

    Attributes:
        tokens: how many are generated.
        once: graphs that run once, before the first token. Example: ``[encoder]``.
        first: the graph that takes the prompt, which is the example of its input ``token``.
            Example: ``decoder``.
        then: the graph that takes each new token and what the step before it gave; by default
            ``first`` runs on all tokens again. Example: ``decoder_with_past``.
        token: the input that takes the tokens. Example: ``input_ids``.
        logits: the output that the next token is taken from.
        feed: by the name of an input the output that it gets, where their names do not tell, or
            the symbol of an axis whose size it counts from. Example: ``{position_ids: past}``.
    """

    tokens: Annotated[int, Field(ge=1, le=1000)] = 20
    once: list[Text] = Field(default_factory=list)
    first: Text
    then: Text | None = None
    token: Text
    logits: Text = "logits"
    feed: dict[Text, Text] = Field(default_factory=dict)

    @property
    def used(self) -> list[str]:
        """The graphs that it names, each once."""
        return list(dict.fromkeys([*self.once, self.first, *([self.then] if self.then else [])]))


def short_model(value: object) -> object:
    """The short form of an entry of ``models:``: a registry name alone is its ``source``."""
    return {"source": value} if isinstance(value, str) else value


class ModelSpec(Frozen):
    """One entry of ``models:``. What is ``None`` is inherited from the registry or the run.

    Attributes:
        source: where the module comes from: a registry name, or a mapping of one kind; by default
            the registry entry of the model's own name. Example: ``torchvision/resnet18``.
        kwargs: arguments of the function or class that builds the model. Example:
            ``{num_classes: 12}``.
        weights: ``random``, ``conditioned`` (random ones, redrawn so that outputs say something;
            those of registry models always are), the name of pretrained weights of torchvision or
            timm, or a checkpoint. Example: ``{checkpoint: weights/classifier.pth}``.
        call: what of the model is exported in place of ``forward``: a method or a submodule by its
            dotted name, or a function. Example: ``encoder``.
        graphs: several files of one model, by their names: what each calls, and each key in which
            it differs from the others. Example:
            ``{encoder: {call: encoder}, decoder: {call: decode}}``.
        generate: how ``graphs`` generate tokens together; the tokens are compared with PyTorch's.
            Example: ``{first: decoder, then: decoder_with_past, token: input_ids}``.
        chain: ``graphs`` of which each gets what those before it give, by the names of outputs and
            inputs; the results are compared with PyTorch's. Example: ``[encoder, decoder]``.
        inputs: what ``forward`` takes, in its order: tensors, and lists and mappings of them, which
            are inputs of the file by their paths (``state.0``); by default those of the registry.
            Example: ``{image: {shape: [1, 3, 224, 224]}}``.
        passing: how ``forward`` gets its inputs, all of them or by their names. Example:
            ``{attention_mask: keyword}``.
        arguments: made of the tree of ``inputs``, where it is one; nobody states it.
        complex: ``pairs``: complex numbers are pairs of reals in the file, along a last axis of 2;
            of inputs of dtype ``complex64`` and of outputs. Example: ``pairs``.
        constants: arguments of ``forward`` that are no inputs of the file; also a dtype or a device
            by its name. Example: ``{return_features: false, dtype: torch.float16}``.
        outputs: names of the outputs, in order; as a mapping, with what is known of each.
            Example: ``[logits]``.
        data: real samples that the file is verified on beside those that are drawn: a folder or a
            glob of ``.npz`` files or of ``test_data_set_N`` folders, or a function that yields
            them. Example: ``data/val``.
        metric: a function that scores outputs on the samples of ``data``; the file may score lower
            than PyTorch by ``max_drop`` at most. Example:
            ``{_target_: my_package.metrics.top1, max_drop: 0.01}``.
        dynamic_axes: by the name of an input or output its axes of any size: ``{axis: symbol}``, or
            a list of axes; or ``all``: each axis of the inputs that PyTorch takes at other sizes.
            Example: ``{image: {0: batch}, logits: {0: batch}}``.
        dims: by a symbol of ``dynamic_axes`` the sizes that it may have: a range and multiples, or
            an expression of other symbols. Example:
            ``{h: {min: 64, max: 2048, multiple_of: 32}, total: past + 1}``.
        freeze: symbols of ``dynamic_axes`` that are the numbers of the example in the file, on
            purpose. Example: ``[h, w]``.
        opset: the ONNX opset of this model, or the range that it supports. Example:
            ``{min: 17}``.
        training: the mode that the model is exported in.
        simplify: whether the simplifier runs.
        exporter: the exporter of this model, in place of the run's.
        device: where the PyTorch model runs.
        export: options of the exporters.
        verify: how the file is verified; a key that is left out is the run's.
        variants: further artifacts that are made of the file: a list of names, or a mapping with
            options; an empty list has none, whatever the run asks for.
        expect: a failure that is expected. Example:
            ``{status: failed, code: VERIFY_VALUE, reason: the exporter freezes the length}``.
        tags: words of your own, for the reports. Example: ``[vision]``.
        license: under which the file may be used, for what is published of it: an SPDX identifier
            or words of your own. Example: ``Apache-2.0``.
    """

    source: (
        Annotated[Source, BeforeValidator(registry_source, json_schema_input_type=Text | Source)]
        | None
    ) = None
    kwargs: dict[str, Any] = Field(default_factory=dict)
    weights: str | Checkpoint = "random"
    call: Text | Call | None = None
    graphs: dict[Text, ModelSpec] = Field(default_factory=dict)
    generate: Generate | None = None
    chain: list[Text] = Field(default_factory=list)
    inputs: dict[str, InputSpec] | None = None
    passing: Pass | dict[Text, Pass] | None = Field(None, alias="pass")
    arguments: SkipJsonSchema[list[Argument]] = Field(default_factory=list)
    complex: Literal["pairs"] | None = None
    constants: dict[str, Any] = Field(default_factory=dict)
    outputs: list[Text] | dict[Text, OutputSpec] | None = None
    data: (
        Annotated[DataSpec, BeforeValidator(_data_path, json_schema_input_type=Text | DataSpec)]
        | None
    ) = None
    metric: MetricSpec | None = None
    dynamic_axes: EveryAxis | DynamicAxes = Field(default_factory=dict)
    dims: dict[
        Text, Annotated[DimSpec, BeforeValidator(_rule, json_schema_input_type=Text | DimSpec)]
    ] = Field(default_factory=dict)
    freeze: list[Text] = Field(default_factory=list)
    opset: Opset | OpsetRange | None = None
    training: Training | None = None
    simplify: bool | None = None
    exporter: Text | None = None
    device: Device | None = None
    export: ExportSpec = ExportSpec()
    verify: VerifySpec = VerifySpec()
    variants: list[Text] | dict[Text, VariantSpec] | None = None
    expect: Expect | None = None
    tags: list[Text] = Field(default_factory=list)
    license: Text | None = None
