"""What must hold of the data of a model: lengths, columns, samples, the metric."""

from __future__ import annotations

import re
from collections.abc import Sequence

from converter.model import lengths, urls
from converter.model.errors import Problem
from converter.model.inputs import InputSpec
from converter.model.spec import ModelSpec
from converter.plan import samples
from converter.plan.axes import name_axes
from converter.storage import downloads, location


def check(key: str, model: ModelSpec) -> list[Problem]:
    """The problems of one model, with the registry's defaults filled in."""
    problems: list[Problem] = []
    if model.metric is not None and model.data is None:
        hint = f"State {key}.data: FOLDER (of .npz files, or test_data_set_N), or remove the key."
        problems.append(
            Problem(f"{key}.metric", "a metric scores outputs on real samples; none named.", hint)
        )
    for name, spec in (model.inputs or {}).items():
        problems += _dtype(f"{key}.inputs.{name}.dtype", spec, model)
        problems += _input(f"{key}.inputs.{name}", name, spec, model)
    for place, tensor in samples.named(model):
        problems += address(f"{key}.{place}", str(tensor.path))
    if model.data is not None and model.data.path is not None and urls.is_url(model.data.path):
        message = f"{location.masked(model.data.path)} is a URL; samples are read by path."
        hint = "Download the folder, and name it; inputs and cases take URLs of single files."
        problems.append(Problem(f"{key}.data.path", message, hint))
    return problems


def address(key: str, path: str) -> list[Problem]:
    """What is wrong with a file's URL, if it has one."""
    why = downloads.problem(path)
    return [Problem(key, f"{location.masked(path)} {why}.")] if why else []


def labels(key: str, stated: Sequence[str], model: ModelSpec) -> list[Problem]:
    """Labels that the worker gives to real samples."""
    files = any(spec.path is not None for spec in (model.inputs or {}).values())
    taken = [r"data \d+.*"] if model.data is not None else []
    taken += [r"sample .*"] if files else []
    return [
        Problem(
            f"{key}.cases", f"the label '{label}' is the name of another case.", "Choose another."
        )
        for label in stated
        if any(re.fullmatch(pattern, label) for pattern in taken)
    ]


def _dtype(place: str, spec: InputSpec, model: ModelSpec) -> list[Problem]:
    of_onnx = model.source is not None and model.source.kind == "onnx"
    if spec.dtype == "string" and not of_onnx:
        message = "PyTorch has no tensors of strings; only files that are ONNX already take them."
        return [Problem(place, message, "Feed the numbers that stand for them: dtype: int64.")]
    if spec.dtype == "complex64" and of_onnx:
        message = "ONNX files have no complex inputs; one that takes pairs has float32 inputs."
        return [Problem(place, message, "State dtype: float32 and a last axis of 2.")]
    if spec.dtype == "complex64" and model.complex is None:
        message = "ONNX Runtime has no complex numbers."
        hint = "State complex: pairs of the model: the file takes pairs of reals, [..., 2]."
        return [Problem(place, message, hint)]
    if spec.dtype == "complex64" and model.source and model.source.kind == "exported_program":
        message = "what an exported program takes was fixed when it was exported."
        return [Problem(place, message, "Name what builds the module: {file: ..., name: ...}.")]
    return []


def _input(place: str, name: str, spec: InputSpec, model: ModelSpec) -> list[Problem]:
    inputs = model.inputs or {}
    named = name_axes(model.dynamic_axes, inputs)
    dynamic = named.get(name, ())
    if spec.columns and len(spec.shape) - 1 in dynamic:
        message = "bounds of single columns need a last axis of one size; it is dynamic."
        return [Problem(f"{place}.low", message, "State one number for all columns.")]
    if spec.filling != "lengths":
        return []
    # What the list form and `all` name is no symbol that somebody states.
    stated = {} if isinstance(model.dynamic_axes, str) else model.dynamic_axes
    axes = {tensor: named[tensor] for tensor in stated if isinstance(stated[tensor], dict)}
    if lengths.place(name, inputs, axes) is not None:
        return []
    if spec.of is None:
        message = "no other input has as many rows, so that nothing says how long they may be."
        return [Problem(f"{place}.fill", message, "State of: SYMBOL, or of: INPUT.AXIS")]
    symbols = {symbol for tensor in axes if tensor in inputs for symbol in axes[tensor].values()}
    known = ", ".join([*sorted(symbols), *(f"{other}.AXIS" for other in inputs if other != name)])
    message = f"found '{spec.of}'; expected a symbol of an input's dynamic_axes, or INPUT.AXIS."
    return [Problem(f"{place}.of", message, f"Known: {known or 'none'}.")]
