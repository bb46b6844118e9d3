"""Which input a model refuses for its shape or its dtype, from what torch and ONNX Runtime say.

Both speak of the operator that noticed: a person has stated ``inputs.x.shape``. Collected with
torch 2.15 and ONNX Runtime 1.31.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from converter.model.job import Job

# What speaks of sizes, of which the input's may be wrong.
_SIZES = re.compile(
    r"shapes cannot be multiplied|to have \d+ channels, but got|but got input of size|"
    r"must match the size of tensor|must match the existing size|expected input with shape|"
    r"must be equal to input_size|should contain \d+ elements|is invalid for input of size|"
    r"Sizes of tensors must match|must be broadcastable|can't be greater than actual input size|"
    r"Kernel size|Output size is too small|Calculated padded input size|must be at least|"
    r"Expected (?:more than 1 value per channel|\d+D|size for|batch|.* dimensions?)|"
    r"not enough values to unpack|too many values to unpack|"
    r"size mismatch|vector expected|inconsistent tensor size|tuple index out of range|"
    r"Dimension specified as|invalid dimensions for input|Invalid rank for input"
)
# What speaks of dtypes, each with how it names the one that it got.
_DTYPES = re.compile(
    r"but got (?P<a>\w+) and \w+|[Ii]nput type \((?:torch\.)?(?P<b>[\w.]+)\)|"
    r"but got (?:torch\.)?(?:cuda\.)?(?P<c>\w+Tensor)|expected scalar type \w+ but found \w+|"
    r"expected m1 and m2 to have the same dtype, but got: (?P<d>\w+)|"
    r"not implemented for '(?P<e>\w+)'|Input dtype must be|result type \w+ can't be cast|"
    r"data type\. Actual: \(tensor\((?P<f>\w+)\)\)|tensors used as indices must be"
)
_TAKES = (
    re.compile(r"following scalar types: (\w+)"),
    re.compile(r"but got \w+ and (\w+)"),
    re.compile(r"and (?:weight|bias) type \((?:torch\.)?([\w.]+)\)"),
    re.compile(r"have the same dtype, but got: \w+ != (\w+)"),
    re.compile(r"expected ?: \(tensor\((\w+)\)\)"),
    re.compile(r"tensors used as indices must be (\w+)"),
)
_CALLED = {
    "double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32",
    "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool",
}  # fmt: skip
_BRACKETS = re.compile(r"\[(\d+(?:, ?\d+)*)\]")
_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+)")
_MATRICES = re.compile(r"\((\d+)x(\d+) and (\d+)x(\d+)\)")
_APART = re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)")
_OF_FILE = re.compile(r"for input: (\S+)")


def of_inputs(text: str, job: Job) -> str:
    """A hint that names the inputs to correct; empty: the refusal is about something else.

    Args:
        text: what was raised.
    """
    if not job.inputs:
        return ""
    if found := _DTYPES.search(text):
        got = next((_dtype(word) for word in found.groupdict().values() if word), None)
        return _dtype_hint(job, got, text)
    if _SIZES.search(text):
        return _shape_hint(job, text)
    return ""


def _dtype_hint(job: Job, got: str | None, text: str) -> str:
    names = _those(job, lambda name: job.inputs[name].dtype == got)
    listed = _listed(f"{job.key}.inputs.{n}.dtype is {job.inputs[n].dtype}" for n in names)
    takes = next((_dtype(found[1]) for each in _TAKES if (found := each.search(text))), None)
    wanted = f", the model takes {takes} there" if takes and takes != got else ""
    return f"{listed}{wanted}: state the dtype that it takes"


def _shape_hint(job: Job, text: str) -> str:
    shapes = [[int(size) for size in found.split(",")] for found in _BRACKETS.findall(text)]
    named = _OF_FILE.findall(text)
    apart = _APART.search(text)
    sizes = {int(size) for size in apart.groups()} if apart else set()
    names = _those(
        job,
        lambda name: (
            name in named
            or job.inputs[name].shape in shapes
            or not sizes.isdisjoint(job.inputs[name].shape)
        ),
    )
    listed = _listed(f"{job.key}.inputs.{n}.shape is {job.inputs[n].shape}" for n in names)
    wanted = next((told for name in names if (told := _wanted(text, job.inputs[name].shape))), "")
    if job.source.kind == "onnx":
        return f"{listed}: give the one that the file takes"
    return f"{listed}{wanted}: correct it, or the sizes that the model is built with"


def _wanted(text: str, shape: Sequence[int]) -> str:
    """The size that the refusing operator takes, where it was given an axis of the input itself."""
    found = _CHANNELS.search(text)
    if found and len(shape) > 1 and shape[1] == int(found[2]):
        return f", the model takes {found[1]} channels (axis 1)"
    found = _MATRICES.search(text)
    if found and shape[-1:] == [int(found[2])]:
        return f", the model takes {found[3]} in its last axis"
    return ""


def _those(job: Job, fits: Callable[[str], bool]) -> list[str]:
    """The inputs that fit, or all of them."""
    return [name for name in job.inputs if fits(name)] or [*job.inputs]


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _dtype(word: str) -> str:
    """``float64`` for torch's ``Double``, ``torch.DoubleTensor`` and ``double``."""
    plain = word.rpartition(".")[2].removesuffix("Tensor").casefold()
    return _CALLED.get(plain, plain)
