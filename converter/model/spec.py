"""The typed configuration of one model: what a user may write, with every default.

Field names are the YAML keys. The types of a model's parts (inputs, weights, export, …) are also
the types of a ``Job``. ``converter.model.batch`` has the types of a whole run. What editors and
``docs/keys.md`` say of a key is its line under ``Attributes:``; ``Example:`` ends it, in YAML.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

Dtype = Literal["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
Fill = Literal["normal", "uniform", "integers", "constant", "file"]
Training = Literal["eval", "train"]
Pass = Literal["position", "keyword"]
Device = Literal["auto", "cpu", "cuda"]
Opset = Annotated[int, Field(ge=7, le=25, description="ONNX opset of the default domain")]
Tolerance = Annotated[float, Field(ge=0)]
Dim = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class Frozen(BaseModel):
    """Base of all configuration and job types: immutable, closed, finite numbers only."""

    # By name as well: `_target_` is dumped as `target`, and a job must survive JSON.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True, strict=True
    )


def _registry_source(value: object) -> object:
    return {"registry": value} if isinstance(value, str) else value


class Source(Frozen):
    """Where a model's ``nn.Module`` comes from: exactly one kind.

    In YAML a registry name may be written as a plain string.

    Attributes:
        registry: a name of the registry, as ``python -m converter list`` shows it; also written
            without the key. Example: ``torchvision/resnet18``.
        target: a function or class that returns the module, by the name to import it from.
            Example: ``my_package.classifier.build``.
        file: a Python file that has the function or class ``name``. Example: ``models/net.py``.
        name: the function or class in ``file``. Example: ``Net``.
        torchscript: an archive of ``torch.jit.save``. Example: ``models/net.pt``.
        exported_program: an archive of ``torch.export.save``. Example: ``models/net.pt2``.
        onnx: a file that is ONNX already. Example: ``models/net.onnx``.
    """

    registry: Text | None = None
    target: Text | None = Field(None, alias="_target_")
    file: Text | None = None
    name: Text | None = None
    torchscript: Text | None = None
    exported_program: Text | None = None
    onnx: Text | None = None

    @property
    def kind(self) -> str:
        """The one key that is set: ``registry``, ``target``, ``file``, …"""
        return next(kind for kind in SOURCE_KINDS if getattr(self, kind) is not None)

    @property
    def path(self) -> str | None:
        """The file that the source reads, if it reads one."""
        return self.file or self.torchscript or self.exported_program or self.onnx

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        # `name` is no kind of its own: it goes with `file`.
        kinds = [kind for kind in SOURCE_KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(
                "expected a registry name, or exactly one of _target_, file, torchscript, "
                f"exported_program, onnx; found {', '.join(kinds) or 'none'}"
            )
        if (self.file is None) != (self.name is None):
            raise ValueError("'file' and 'name' belong together: {file: PATH.py, name: CLASS}")
        return self

    def __str__(self) -> str:
        value = getattr(self, self.kind)
        return str(value) if self.kind == "registry" else f"{self.kind}:{value}"


SOURCE_KINDS = ("registry", "target", "file", "torchscript", "exported_program", "onnx")


class Checkpoint(Frozen):
    """A file of tensors.

    Attributes:
        checkpoint: the path; a relative one counts from where the command is started.
            Example: ``weights/classifier.pth``.
        key: names the mapping of tensors inside, where the file holds more. Example:
            ``state_dict``.
        strip_prefix: cut off the names of the tensors. Example: ``module.``.
        sha256: the file is refused if its SHA-256 is another one. Example:
            ``"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"``.
        ignore: globs of keys, as the file has them, that the model has no use for, such as those of
            a loss. Example: ``[loss.*]``.
    """

    checkpoint: Text
    key: str | None = None
    strip_prefix: str | None = None
    ignore: list[Text] = Field(default_factory=list)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


# The keys that each fill reads. Any other is refused, since it would be ignored in silence.
_USED: dict[Fill, set[str]] = {"normal": set(), "constant": {"value"}, "file": {"path"}}
_USED |= {"uniform": {"low", "high"}, "integers": {"low", "high"}}


class InputSpec(Frozen):
    """One tensor input. ``fill`` follows from ``value``, ``path``, bounds on floats, the dtype.

    Attributes:
        shape: sizes of the traced example. Example: ``[1, 3, 224, 224]``.
        dtype: type of the elements. Example: ``int64``.
        fill: how the values are made; by default it follows from the other keys.
        low: lower bound of ``uniform`` (0) and ``integers`` (-10; unsigned 0); where ``high`` alone
            is stated, 1 below it, of integers 20, of unsigned ones 0. Example: ``0``.
        high: upper bound of ``uniform`` (1) and ``integers`` (10), excluded; where ``low`` alone is
            stated, 1 above it, of integers 20. Example: ``100``.
        value: of ``constant``: a number, or a list of the tensor's shape. Example: ``0.5``.
        path: of ``file``: a ``.npy`` file. Example: ``inputs/image.npy``.
        passing: how forward gets it; by ``keyword`` where parameters before it are left out, or it
            is keyword-only.
        name: what it is called in the file; by default its path, such as ``state.0``. Example:
            ``hidden``.
    """

    shape: list[Dim]
    dtype: Dtype = "float32"
    fill: Fill | None = None
    low: float | None = None
    high: float | None = None
    value: Any = None
    path: Text | None = None
    passing: Pass | None = Field(None, alias="pass")
    name: Text | None = None

    @property
    def filling(self) -> Fill:
        if self.fill is not None:
            return self.fill
        if self.value is not None or self.path is not None:
            return "file" if self.value is None else "constant"
        if not self.dtype.startswith("float"):
            return "integers"
        return "normal" if self.low is None and self.high is None else "uniform"

    @model_validator(mode="after")
    def _fill_has_what_it_needs(self) -> InputSpec:
        if self.fill in ("normal", "uniform") and not self.dtype.startswith("float"):
            raise ValueError(
                f"fill {self.fill} draws fractions, which {self.dtype} cannot hold; "
                "use fill: integers, or a float dtype"
            )
        if self.filling == "constant" and self.value is None:
            raise ValueError("fill constant needs 'value'")
        if self.filling == "file" and self.path is None:
            raise ValueError("fill file needs 'path', a .npy file")
        # A boolean is drawn from two values: bounds would say nothing.
        used = _USED[self.filling] - ({"low", "high"} if self.dtype == "bool" else set())
        for key in ("low", "high", "value", "path"):
            if getattr(self, key) is not None and key not in used:
                raise ValueError(f"fill {self.filling} of {self.dtype} has no use for '{key}'")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class Argument(Frozen):
    """An argument of forward, or a part of one; exactly one of the first four is set.

    Attributes:
        tensor: the input of the file that it is.
        items: of a list or a tuple, in order.
        entries: of a mapping, by key; with ``target`` its arguments by keyword.
        value: anything else, as it is.
        target: what makes it of ``items`` and ``entries``: a named tuple, a class of caches.
        name: of forward's parameter; only where it is a whole argument.
        keyword: it is passed by that name.
    """

    tensor: str | None = None
    items: list[Argument] | None = None
    entries: dict[str, Argument] | None = None
    value: Any = None
    target: str | None = None
    name: str = ""
    keyword: bool = False

    def tensors(self) -> list[str]:
        """The inputs that it holds, in order."""
        if self.tensor is not None:
            return [self.tensor]
        parts = [*(self.items or ()), *(self.entries or {}).values()]
        return [name for part in parts for name in part.tensors()]


class CaseInput(Frozen):
    """What a verification case changes of one input; everything else stays as declared.

    Attributes:
        shape: sizes in this case. Example: ``[4, 3, 224, 224]``.
        fill: how the values are made; by default it follows from the other keys.
        low: lower bound of ``uniform`` and ``integers``. Example: ``0``.
        high: upper bound of ``uniform`` and ``integers``, excluded. Example: ``100``.
        value: of ``constant``: a number, or a list of the tensor's shape. Example: ``0.5``.
        path: of ``file``: a ``.npy`` file. Example: ``inputs/image.npy``.
    """

    shape: list[Dim] | None = None
    fill: Fill | None = None
    low: float | None = None
    high: float | None = None
    value: Any = None
    path: Text | None = None

    def on(self, declared: InputSpec) -> InputSpec:
        """The declared input with this change; another fill keeps only what it has a use for."""
        stated = self.model_dump(exclude_none=True)
        fill = declared.filling
        # Something is stated that the declared fill has no use for, so that another fill is meant:
        # what was stated decides which, as it does for an input.
        if stated.keys() - {"shape", *_USED[fill]}:
            alone = {"shape": declared.shape, "dtype": declared.dtype, **stated}
            fill = InputSpec.model_validate(alone).filling
        kept = declared.model_dump(include={"shape", "dtype", *_USED[fill]}, exclude_none=True)
        return InputSpec.model_validate({**kept, "fill": fill, **stated})


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
    """

    rtol: Tolerance | None = None
    atol: Tolerance | None = None
    shapes: list[dict[str, list[Dim]]] = Field(default_factory=list)
    cases: list[VerifyCase] = Field(default_factory=list)
    reference: Literal["eager", "export"] = "eager"
    mutations: Annotated[int, Field(ge=0, le=100)] | None = None
    budget: Annotated[float, Field(ge=0)] | None = None
    unreached: Literal["note", "fail"] | None = None


class ExportSpec(Frozen):
    """Options of the exporters, in the terms of ``torch.onnx.export``.

    Attributes:
        constant_folding: compute in the exporter what depends on no input.
        export_params: write the weights into the file.
        keep_initializers_as_inputs: make each weight an input of the graph as well.
        parameter_names: names of the weights in the file, in order. Example:
            ``[conv.weight, conv.bias]``.
        custom_opsets: versions of further operator domains. Example: ``{com.example: 1}``.
        external_data: whether weights go into a file of their own; ``auto`` where the file would
            be over 2 GB.
    """

    constant_folding: bool = True
    export_params: bool = True
    keep_initializers_as_inputs: bool = False
    parameter_names: list[Text] = Field(default_factory=list)
    custom_opsets: dict[str, int] = Field(default_factory=dict)
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


class OutputSpec(Frozen):
    """What is known of one output.

    Attributes:
        constant: it does not depend on the values of the inputs, on purpose (anchors, shapes): it
            is compared, and need not move.
    """

    constant: bool = False


class VariantSpec(Frozen):
    """One artifact that is made from the ONNX file; further keys are options of its plugin.

    Attributes:
        plugin: the plugin that makes it; by default the one of the variant's own name.
        optional: its failure does not fail the model.
        rtol, atol: as in ``verify``, whose own are for the float32 file; derived by default.
            Example: ``1.0e-2``.
    """

    model_config = ConfigDict(extra="allow")

    plugin: Text | None = None
    optional: bool = False
    rtol: Tolerance | None = None
    atol: Tolerance | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the plugin's ``Options`` are to be made of."""
        return dict(self.model_extra or {})


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
        weights: ``random``, the name of pretrained weights of torchvision or timm, or a checkpoint.
            Example: ``{checkpoint: weights/classifier.pth}``.
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
        constants: arguments of ``forward`` that are no inputs of the file; also a dtype or a device
            by its name. Example: ``{return_features: false, dtype: torch.float16}``.
        outputs: names of the outputs, in order; as a mapping, with what is known of each.
            Example: ``[logits]``.
        dynamic_axes: by the name of an input or output its axes of any size: ``{axis: symbol}``, or
            a list of axes. Example: ``{image: {0: batch}, logits: {0: batch}}``.
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
    """

    source: (
        Annotated[Source, BeforeValidator(_registry_source, json_schema_input_type=Text | Source)]
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
    constants: dict[str, Any] = Field(default_factory=dict)
    outputs: list[Text] | dict[Text, OutputSpec] | None = None
    dynamic_axes: DynamicAxes = Field(default_factory=dict)
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
