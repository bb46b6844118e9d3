"""What a model is fed with: ``inputs`` of a configuration, and of its cases."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from converter.model import urls
from converter.model.base import Bound, Dim, Dtype, Frozen, Pass, PathText, Sha256, Size, Text

Fill = Literal[
    "normal", "uniform", "integers", "constant", "file", "mask", "lengths", "sorted", "onehot",
    "probabilities", "words",
]  # fmt: skip
Layout = Literal["nchw", "nhwc", "chw", "hwc"]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Files that are read as pictures."""


def holds_fractions(dtype: str) -> bool:
    """Whether elements are floats, or pairs of such."""
    return "float" in dtype or dtype == "complex64"


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
_USED |= {"file": {"path", "sha256", "key", "image", "limit"}, "probabilities": set()}
_USED |= {"mask": {"padding"}, "lengths": {"of", "low"}, "words": {"words"}}
_KEYS = (
    "low", "high", "value", "path", "sha256", "key", "image", "limit", "padding", "of", "words",
)  # fmt: skip


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
            is a case; or the URL of one (``https://``, ``s3://``, ``gs://``), with its ``sha256``.
            Example: ``inputs/image.npy``.
        sha256: of a URL: the file is refused if its SHA-256 is another one. Example:
            ``"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"``.
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
    path: PathText | None = None
    sha256: Sha256 | None = None
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
    urls.check_pinned(path, spec.sha256)
    if spec.sha256 is not None and not urls.is_url(path):
        raise ValueError("'sha256' is of a file at a URL; one of this machine is read as it is")
    path = urls.file_of(path)
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
        sha256: of a URL: the SHA-256 of its file. Example:
            ``"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"``.
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
    path: PathText | None = None
    sha256: Sha256 | None = None
    key: Text | None = None
    image: ImageSpec | None = None
    padding: Literal["left", "right"] | None = None
    of: Text | None = None
    words: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _url_is_pinned(self) -> CaseInput:
        if self.path is not None:
            urls.check_pinned(self.path, self.sha256)
        return self

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
            kept = {key: kept[key] for key in kept if key not in ("sha256", "key", "limit")}
            if not urls.file_of(self.path).lower().endswith(IMAGES):
                kept.pop("image", None)
        if self.shape is not None and "image" in kept:
            # A picture is resized to the shape of the case, unless that states another size.
            kept["image"] = {**kept["image"], "size": None}
        return InputSpec.model_validate({**kept, "fill": fill, **stated})
