"""ncnn, Tencent's runtime for phones and small boards, on the CPU (package ``ncnn``).

It reads ``.param`` and ``.bin``, which the variant of the same name makes. Computes in float32
unless told otherwise: ncnn by itself stores and computes in float16 wherever the processor can.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from converter.model.base import Frozen
from converter.model.errors import Code, StageError
from converter.model.records import CheckRecord
from converter.plugins.runnable import Interface, Runnable

NAME = "ncnn"
FORMATS = ("ncnn",)
PACKAGES = ("ncnn",)
DEVICE = "cpu"
FALLBACKS: tuple[str, ...] = ()
INSTALL = "install the extra `ncnn` (packages ncnn and pnnx)"
# Its int8 is not the kind that ONNX files have: a table of scales, made by tools that it is built
# with.
LACKS = {"int8": "ncnn2table and ncnn2int8, which make such files, are in no pip package"}
LOAD_HINT = "install ncnn again, in the version of constraints.txt"

_BINDING, _WEIGHTS = ".json", ".bin"


class Options(Frozen):
    """ncnn's own defaults use float16, with an error 500 times that of float32.

    Attributes:
        fp16: store and compute in float16 where the processor can. Example: ``"1"``.
        bf16: store in bfloat16. Example: ``"1"``.
        winograd: compute 3×3 convolutions by Winograd's transform. Example: ``"0"``.
        packing: lay channels out in groups of 4, 8 or 16, as SIMD reads them. Example: ``"0"``.
    """

    fp16: Literal["0", "1"] = "0"
    bf16: Literal["0", "1"] = "0"
    winograd: Literal["0", "1"] = "1"
    packing: Literal["0", "1"] = "1"


def prepare() -> None:
    """Nothing: the package has its libraries."""


def available() -> str:
    """Why this machine has no ncnn, in a sentence; empty: it has."""
    if importlib.util.find_spec("ncnn") is None:
        return "the package ncnn is not installed"
    try:
        import ncnn
    except ImportError as error:
        return f"the package ncnn cannot be imported: {error}"
    # Before, a batch of two came back as one sample.
    if not hasattr(ncnn.Mat, "batch"):
        return "the package ncnn is older than 20261020 and has no batch axis"
    return ""


def open(  # noqa: A001 - its name in the interface of runtimes
    file: Path, *, threads: int, options: Mapping[str, str], interface: Interface
) -> Runnable:
    """Load ``NAME.param``, with ``NAME.bin`` and ``NAME.json`` beside it.

    Raises:
        StageError: SESSION, where ncnn refuses the file or crashes over it, or where its inputs
            and outputs are not those of ``interface``.
    """
    from converter.plugins.providers import _ncnn_files as files
    from converter.plugins.providers._ncnn_session import Session

    hint = "make it again from its ONNX file"
    try:
        binding = files.read_binding(file.with_suffix(_BINDING))
    except (OSError, ValueError) as error:
        raise StageError(Code.SESSION, f"{file.name} does not open: {error}", hint) from error
    _same(binding, interface)
    told = {
        "param": str(file),
        "bin": str(file.with_suffix(_WEIGHTS)),
        "threads": threads,
        "options": _settings(options),
    }
    return Session(told, binding, interface)


def _settings(options: Mapping[str, str]) -> dict[str, bool]:
    """All attributes of ncnn's ``Option`` that change what is computed."""
    half, brain = options["fp16"] == "1", options["bf16"] == "1"
    return {
        "use_vulkan_compute": False,
        "use_fp16_packed": half,
        "use_fp16_storage": half,
        "use_fp16_arithmetic": half,
        "use_bf16_packed": brain,
        "use_bf16_storage": brain,
        "use_winograd_convolution": options["winograd"] == "1",
        "use_packing_layout": options["packing"] == "1",
    }


def _same(binding: Any, interface: Interface) -> None:
    """Raise where names differ: blobs have numbers, so that a wrong order would show nowhere."""
    for what, told, known in (
        ("inputs", binding.inputs, interface.inputs),
        ("outputs", binding.outputs, interface.outputs),
    ):
        names, wanted = [one.name for one in told], [one.name for one in known]
        if names != wanted:
            raise StageError(
                Code.SESSION,
                f"the {what} of the ncnn file are {', '.join(names)}, those of its ONNX file "
                f"{', '.join(wanted)}",
                "make it again from this ONNX file",
            )


def check(file: Path, parent: Path, precision: str) -> CheckRecord:
    """Whether a file is whole, made of layers that ncnn has, and holds the parent's weights.

    Args:
        parent: the ONNX file that it was made from.
        precision: ``float32`` or ``float16``, that of the weights of layers that ncnn stores in
            either; biases and normalisations are float32 in every file.

    Returns:
        ``precision_weights`` is the share of the elements of those weights.

    Raises:
        StageError: CHECKER, where it is damaged; PRECISION_NOT_REACHED.
    """
    import numpy as np

    from converter.plugins.providers import _ncnn_files as files
    from converter.plugins.providers import _ncnn_weights as matching

    try:
        layers = files.read_param(file)
        _refuse_unknown(layers)
        files.read_binding(file.with_suffix(_BINDING))
        weights = files.read_weights(file.with_suffix(_WEIGHTS), layers)
        matching.compare(weights, parent)
    except (OSError, ValueError) as error:
        hint = "its files were damaged, or pnnx wrote them so: make it again"
        raise StageError(Code.CHECKER, f"{file.name}: {error}", hint) from error
    wanted = np.dtype(precision)
    tagged = [weight for weight in weights if weight.tagged]
    total = sum(weight.values.size for weight in tagged)
    reached = sum(weight.values.size for weight in tagged if weight.values.dtype == wanted)
    share = reached / total if total else 1.0
    if precision != "float32" and not total:
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"no layer has weights that ncnn stores in {precision}: this is the float32 file",
            "leave this variant out",
        )
    if share < 1:
        first = next(weight for weight in tagged if weight.values.dtype != wanted)
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"only {share:.0%} of the weights that ncnn stores in either are {precision}; "
            f"{first.role} of layer {first.layer} is {first.values.dtype}",
            "set `fp16` of the variant to what the file is to be",
        )
    return CheckRecord(status="passed", precision_weights=round(share, 4))


def _refuse_unknown(layers: list[Any]) -> None:
    """Raise where ncnn has no layer of a type: it would not load the file."""
    import ncnn

    names = {layer.type: layer.name for layer in reversed(layers)}
    unknown = {kind: name for kind, name in names.items() if ncnn.layer_to_index(kind) < 0}
    if unknown:
        told = ", ".join(f"{kind} ({name})" for kind, name in unknown.items())
        raise ValueError(f"ncnn has no layer {told}")
