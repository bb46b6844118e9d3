"""The typed configuration of one model: what a user may write, with every default.

Field names are the YAML keys. The types of a model's parts (inputs, weights, export, …) are also
the types of a ``Job``. ``converter.model.batch`` has the types of a whole run. What editors and
``docs/keys.md`` say of a key is its line under ``Attributes:``; ``Example:`` ends it, in YAML.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

Dtype = Literal[
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool",
    "bfloat16", "float8_e4m3fn", "float8_e5m2", "string", "complex64",
]  # fmt: skip
Fill = Literal[
    "normal", "uniform", "integers", "constant", "file", "mask", "lengths", "sorted", "onehot",
    "probabilities", "words",
]  # fmt: skip
Layout = Literal["nchw", "nhwc", "chw", "hwc"]
Training = Literal["eval", "train"]
Pass = Literal["position", "keyword"]
Device = Literal["auto", "cpu", "cuda"]
Opset = Annotated[int, Field(ge=7, le=25, description="ONNX opset of the default domain")]
Tolerance = Annotated[float, Field(ge=0)]
Dim = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Size = Annotated[int, Field(ge=1)]
Bound = float | list[float]
"""One number, or one for each entry of the last axis."""
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Files that are read as pictures."""
Reference = Annotated[str, Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$")]
"""``module:NAME``."""


def holds_fractions(dtype: str) -> bool:
    """Whether elements are floats, or pairs of such."""
    return "float" in dtype or dtype == "complex64"


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


def without_folders(source: str) -> str:
    """A source as files that go elsewhere name it: ``file:net.py`` for ``file:/home/me/net.py``."""
    kind, _, path = source.partition(":")
    of_files = kind in ("file", "torchscript", "exported_program", "onnx")
    return f"{kind}:{path.rpartition('/')[2]}" if of_files and path else source


class Checkpoint(Frozen):
    """A file of tensors: of ``torch.save``, or safetensors.

    Names of tensors are fitted to the model in this order: ``ignore``, ``strip_prefix``,
    ``rename``.

    Attributes:
        checkpoint: the path of a file, of an index of shards (``model.safetensors.index.json``), or
            of a folder as a hub has it; a relative one counts from where the command is started.
            Example: ``weights/classifier.pth``.
        key: names the mapping of tensors inside, where the file holds more; dots lead further in
            (``ema.module``), unless the name with its dots is there. Example: ``state_dict``.
        strip_prefix: cut off the names of the tensors that have it; of a list each, in order.
            Example: ``module.``.
        ignore: globs of keys, as the file has them, that the model has no use for, such as those of
            a loss. Example: ``[loss.*]``.
        rename: by the old name of a tensor its name in the model; old and new name that end at a
            dot stand for all names that begin so, and an empty old one for all. Example:
            ``{fc.: head.}``.
        sha256: the file is refused if its SHA-256 is another one; of several files the SHA-256 of
            their list, a line ``NAME SHA256`` each, sorted. Example:
            ``"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"``.
    """

    checkpoint: Text
    key: str | None = None
    strip_prefix: str | list[Text] | None = None
    ignore: list[Text] = Field(default_factory=list)
    rename: dict[str, str] = Field(default_factory=dict)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @property
    def prefixes(self) -> list[str]:
        """Those to be cut off, in order."""
        stated = self.strip_prefix
        return stated if isinstance(stated, list) else [] if stated is None else [stated]

    @field_validator("rename")
    @classmethod
    def _names_are_of_one_kind(cls, rename: dict[str, str]) -> dict[str, str]:
        for old, new in rename.items():
            if _many(old) != _many(new):
                raise ValueError(
                    f"'{old}' to '{new}': both end at a dot (all names that begin so), or neither "
                    "does (one name)"
                )
        return rename


def _many(name: str) -> bool:
    return name == "" or name.endswith(".")


UNTRAINED = ("random", "conditioned")
"""Weights that the builder has drawn; ``conditioned``: also where it is the user's own."""


class ImageSpec(Frozen):
    """How a picture becomes a tensor: ``value / 255``, of ``uint8`` the bytes as they are.

    Attributes:
        size: what the picture is resized to, ``[height, width]`` or the side of a square; by
            default the sizes in ``shape``. Example: ``[224, 224]``.
        layout: order of the axes; by default ``nchw``, of three axes ``chw``.
        mode: colours; by default by the number of channels in ``shape``.
        mean: of each channel, subtracted after the division by 255. Example:
            ``[0.485, 0.456, 0.406]``.
        std: of each channel, divided by after ``mean``. Example: ``[0.229, 0.224, 0.225]``.
        resize: ``stretch`` to the size, ``cover`` it and cut off what stands over at both sides, or
            ``none``: the picture must have the size.
    """

    size: Size | list[Size] | None = None
    layout: Layout | None = None
    mode: Literal["RGB", "L"] | None = None
    mean: list[float] = Field(default_factory=list)
    std: list[float] = Field(default_factory=list)
    resize: Literal["stretch", "cover", "none"] = "stretch"

    @model_validator(mode="after")
    def _sizes_and_scales(self) -> ImageSpec:
        if isinstance(self.size, list) and len(self.size) != 2:
            raise ValueError(f"size is {self.size}; write [height, width], or one number")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std is {self.std}; what is divided by must be above 0")
        return self

    def on(self, shape: list[int]) -> ImageSpec:
        """With everything stated: what was left out follows from the shape.

        Raises:
            ValueError: it does not fit the shape.
        """
        layout = self.layout or ("chw" if len(shape) == 3 else "nchw")
        if len(shape) != len(layout):
            raise ValueError(
                f"a picture has 3 axes (chw) or 4 (nchw); the shape {shape} has {len(shape)}"
            )
        sizes = dict(zip(layout, shape, strict=True))
        mode = self.mode or ("L" if sizes["c"] == 1 else "RGB")
        channels = 1 if mode == "L" else 3
        if sizes["c"] != channels:
            raise ValueError(
                f"the shape {shape} has {sizes['c']} channels ({layout}), a picture of mode {mode} "
                f"has {channels}"
            )
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (0, channels):
                raise ValueError(
                    f"image.{key} has {len(getattr(self, key))} numbers for {channels} channels"
                )
        size = self.size if self.size is not None else [sizes["h"], sizes["w"]]
        size = [size, size] if isinstance(size, int) else size
        return self.model_copy(update={"size": size, "layout": layout, "mode": mode})


# The keys that each fill reads. Any other is refused, since it would be ignored in silence.
_USED: dict[Fill, set[str]] = {"normal": set(), "constant": {"value"}, "onehot": set()}
_USED |= {"uniform": {"low", "high"}, "integers": {"low", "high"}, "sorted": {"low", "high"}}
_USED |= {"file": {"path", "key", "image", "limit"}, "probabilities": set()}
_USED |= {"mask": {"padding"}, "lengths": {"of", "low"}, "words": {"words"}}
_KEYS = ("low", "high", "value", "path", "key", "image", "limit", "padding", "of", "words")


class InputSpec(Frozen):
    """One tensor input. ``fill`` follows from ``value``, ``path``, bounds on floats, the dtype.

    Attributes:
        shape: sizes of the traced example. Example: ``[1, 3, 224, 224]``.
        dtype: type of the elements; ``string`` of ONNX sources alone, ``complex64`` where the model
            states ``complex: pairs``. Example: ``int64``.
        fill: how the values are made; by default it follows from the other keys. ``mask``: rows of
            ones, padded with zeros; ``lengths``: from 1 to the size of an axis; ``sorted``: each
            row ascending; ``onehot``: one 1 in each row; ``probabilities``: positive, each row
            sums to 1. A row is the last axis. ``words``: strings out of ``words``.
        low: lower bound of ``uniform`` (0), ``integers`` and ``sorted`` (-10; unsigned 0); where
            ``high`` alone is stated, 1 below it, of integers 20, of unsigned ones 0; the least of
            ``lengths`` (1). With a list each entry of the last axis has its own. Example: ``0``.
        high: upper bound of ``uniform`` (1), ``integers`` and ``sorted`` (10), excluded; where
            ``low`` alone is stated, 1 above it, of integers 20; or a list, as ``low``. Example:
            ``100``.
        value: of ``constant``: a number, text for strings, or a list of the tensor's shape.
            Example: ``0.5``.
        path: of ``file``: a ``.npy``, ``.npz``, ``.pt``, ``.safetensors`` or picture (``.png``,
            ``.jpg``, ``.jpeg``, ``.bmp``, ``.webp``); or a folder or a glob of such, each of which
            is a case. Example: ``inputs/image.npy``.
        key: which tensor of a file that holds several. Example: ``pixel_values``.
        image: how a picture becomes a tensor. Example: ``{mean: [0.5, 0.5, 0.5]}``.
        limit: how many files of a folder or a glob are read, by name (16). Example: ``50``.
        padding: of ``mask``: the side of the zeros (``right``). Example: ``left``.
        of: of ``lengths``: the symbol of ``dynamic_axes``, or the axis of an input, whose size no
            length exceeds; by default axis 1 of an input with as many rows. Example:
            ``features.1``.
        words: what strings are drawn from; by default those that the file itself names, such as
            the keys of a LabelEncoder. Example: ``[cat, dog]``.
        passing: how forward gets it; by ``keyword`` where parameters before it are left out, or it
            is keyword-only.
        name: what it is called in the file; by default its path, such as ``state.0``. Example:
            ``hidden``.
    """

    shape: list[Dim]
    dtype: Dtype = "float32"
    fill: Fill | None = None
    low: Bound | None = None
    high: Bound | None = None
    value: Any = None
    path: Text | None = None
    passing: Pass | None = Field(None, alias="pass")
    name: Text | None = None
    key: Text | None = None
    image: ImageSpec | None = None
    limit: Annotated[int, Field(ge=1, le=100)] | None = None
    padding: Literal["left", "right"] | None = None
    of: Text | None = None
    words: Annotated[list[str], Field(min_length=1)] | None = None

    @property
    def filling(self) -> Fill:
        if self.fill is not None:
            return self.fill
        if self.value is not None or self.path is not None:
            return "file" if self.value is None else "constant"
        if self.dtype == "string":
            return "words"
        if not holds_fractions(self.dtype):
            return "integers"
        return "normal" if self.low is None and self.high is None else "uniform"

    @property
    def columns(self) -> list[tuple[float, float]]:
        """The bounds of each entry of the last axis, where they are stated one by one."""
        if not isinstance(self.low, list) and not isinstance(self.high, list):
            return []
        count = self.shape[-1]
        low, high = (
            bound if isinstance(bound, list) else [bound] * count for bound in (self.low, self.high)
        )
        return [(a, b) for a, b in zip(low, high, strict=True) if a is not None and b is not None]

    @model_validator(mode="after")
    def _fill_has_what_it_needs(self) -> InputSpec:
        if self.filling == "constant" and self.value is None:
            raise ValueError("fill constant needs 'value'")
        if self.filling == "file" and self.path is None:
            raise ValueError("fill file needs 'path', a file, a folder or a glob")
        _check_dtype(self)
        # A boolean is drawn from two values: bounds would say nothing.
        used = _USED[self.filling] - ({"low", "high"} if self.dtype == "bool" else set())
        for key in _KEYS:
            if getattr(self, key) is not None and key not in used:
                raise ValueError(f"fill {self.filling} of {self.dtype} has no use for '{key}'")
        if isinstance(self.low, list) or isinstance(self.high, list):
            _check_columns(self)
        elif self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.path is not None:
            _check_path(self, self.path)
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


def _check_dtype(spec: InputSpec) -> None:
    """What a fill draws, the dtype must hold; what is made row by row needs a last axis."""
    fill, dtype = spec.filling, spec.dtype
    _check_own_fills(spec)
    if spec.fill in ("normal", "uniform", "probabilities") and not holds_fractions(dtype):
        instead = "" if fill == "probabilities" else "fill: integers, or "
        raise ValueError(
            f"fill {fill} draws fractions, which {dtype} cannot hold; use {instead}a float dtype"
        )
    if fill == "lengths" and (dtype == "bool" or holds_fractions(dtype)):
        raise ValueError(f"fill lengths draws whole numbers; {dtype} is none: use int64 or int32")
    if fill == "lengths" and isinstance(spec.low, float) and spec.low < 1:
        raise ValueError(f"low ({spec.low:g}) of lengths must be 1 or more")
    if fill == "sorted" and dtype == "bool":
        raise ValueError("fill sorted needs numbers; use fill: mask for bool")
    if fill in ("mask", "sorted", "onehot", "probabilities") and not spec.shape:
        raise ValueError(f"fill {fill} is made row by row; the shape [] has no axis")


def _check_own_fills(spec: InputSpec) -> None:
    """Strings and complex numbers have few fills."""
    fill, dtype = spec.filling, spec.dtype
    if (fill == "words") != (dtype == "string") and fill not in ("constant", "file"):
        known = "words, constant or file" if dtype == "string" else "it for dtype string"
        raise ValueError(f"fill {fill} draws no {dtype}; use {known}")
    if dtype == "string" and fill == "constant" and not _is_text(spec.value):
        raise ValueError("value of dtype string must be text, or a list of text")
    if dtype == "complex64" and fill not in ("normal", "uniform", "constant", "file"):
        raise ValueError(f"fill {fill} draws no complex64; use normal, uniform, constant or file")
    if dtype == "complex64" and isinstance(spec.low or spec.high, list):
        raise ValueError("bounds of complex64 hold for both parts: state one number each")
    if dtype == "complex64" and spec.image is not None:
        raise ValueError("a picture has no complex64")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(map(_is_text, value))
    )


def _check_columns(spec: InputSpec) -> None:
    if spec.filling not in ("uniform", "integers"):
        raise ValueError(f"fill {spec.filling} takes one number for low and high, no list")
    if spec.low is None or spec.high is None:
        raise ValueError("bounds of single columns need both 'low' and 'high'")
    last = spec.shape[-1] if spec.shape else 0
    for key, bound in (("low", spec.low), ("high", spec.high)):
        if isinstance(bound, list) and len(bound) != last:
            raise ValueError(f"{key} has {len(bound)} numbers for a last axis of {last}")
    for column, (low, high) in enumerate(spec.columns):
        if low >= high:
            raise ValueError(f"low ({low:g}) must be below high ({high:g}) in column {column}")


def _check_path(spec: InputSpec, path: str) -> None:
    """What the name of the file tells; of a folder the worker finds the same."""
    picture = path.lower().endswith(IMAGES)
    plain = path.lower().endswith((".npy", ".npz", ".pt", ".safetensors"))
    if spec.key is not None and (picture or path.lower().endswith(".npy")):
        raise ValueError(f"'key' names a tensor among several; {path} holds one")
    if spec.image is not None and plain:
        raise ValueError(f"'image' is for pictures ({', '.join(IMAGES)}); {path} is none")
    if picture or spec.image is not None:
        image = (spec.image or ImageSpec()).on(spec.shape)
        if not holds_fractions(spec.dtype) and (spec.dtype != "uint8" or image.mean + image.std):
            raise ValueError(
                f"a picture is read as uint8, or as a float dtype with mean and std, "
                f"not as {spec.dtype}" + (" with mean and std" if spec.dtype == "uint8" else "")
            )


class CaseInput(Frozen):
    """What a verification case changes of one input; everything else stays as declared.

    Attributes:
        shape: sizes in this case. Example: ``[4, 3, 224, 224]``.
        fill: how the values are made; by default it follows from the other keys.
        low: lower bound of ``uniform``, ``integers`` and ``sorted``; or a list. Example: ``0``.
        high: upper bound of the same, excluded; or a list. Example: ``100``.
        value: of ``constant``: a number, or a list of the tensor's shape. Example: ``0.5``.
        path: of ``file``: one file, as of an input. Example: ``inputs/image.npy``.
        key: which tensor of a file that holds several. Example: ``pixel_values``.
        image: how a picture becomes a tensor. Example: ``{mean: [0.5, 0.5, 0.5]}``.
        padding: of ``mask``: the side of the zeros. Example: ``left``.
        of: of ``lengths``: what no length exceeds, as of an input. Example: ``features.1``.
        words: what strings are drawn from. Example: ``[cat, dog]``.
    """

    shape: list[Dim] | None = None
    fill: Fill | None = None
    low: Bound | None = None
    high: Bound | None = None
    value: Any = None
    path: Text | None = None
    key: Text | None = None
    image: ImageSpec | None = None
    padding: Literal["left", "right"] | None = None
    of: Text | None = None
    words: Annotated[list[str], Field(min_length=1)] | None = None

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
        if self.path is not None:
            # Of another file: one of a folder's is a single one, and a picture may follow a tensor.
            kept = {key: kept[key] for key in kept if key not in ("key", "limit")}
            if not self.path.lower().endswith(IMAGES):
                kept.pop("image", None)
        if self.shape is not None and "image" in kept:
            # A picture is resized to the shape of the case, unless that states another size.
            kept["image"] = {**kept["image"], "size": None}
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
    """

    sqnr_db: Annotated[float, Field(ge=0, le=200)] = 15.0
    cosine: Annotated[float, Field(ge=-1, le=1)] = 0.98
    top1_agreement: Annotated[float, Field(ge=0, le=1)] | None = None


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

    path: Text | None = None
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
