"""Rules of sizes in the terms of ``torch.export``: ``Dim("past") + 1``, ``32 * Dim("_h")``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
from torch.export import Dim

from converter.model.dims import LARGEST, Dims
from converter.model.job import Job
from converter.worker.inputs import cases

# What torch suggests where sizes are narrower than was declared (2.15): a line for each.
_SUGGESTION = re.compile(r"^\s*(\w+) = (.+?)\s*$", re.MULTILINE)
_RANGE = re.compile(r"Dim\('[^']*'(?:, min=(\d+))?(?:, max=(\d+|oo))?\)")
_MULTIPLE = re.compile(r"(\d+)\*_\w+")


def ruled(job: Job) -> tuple[Any, ...] | None:
    """``dynamic_shapes`` with the rules of the sizes; ``None``: nothing is ruled."""
    dims = cases.rules(job)
    symbols = {s: _dim(symbol, dims, {}) for symbol in dims.inputs if dims.ruled(s := symbol)}
    if not any(dim is not None for dim in symbols.values()):
        return None
    named: dict[str, Any] = {}
    symbols = {s: _dim(s, dims, named) for s in symbols}
    return tuple(
        {axis: _shape(symbol, symbols) for axis, symbol in job.dynamic_axes.get(name, {}).items()}
        or None
        for name in job.inputs
    )


def _shape(symbol: str, symbols: dict[str, Any]) -> Any:
    # Of what torch has no word for it finds the relation itself.
    if symbol in symbols:
        return Dim.AUTO if symbols[symbol] is None else symbols[symbol]
    return symbol


def _dim(symbol: str, dims: Dims, named: dict[str, Any]) -> Any:
    """``factor * Dim(leaf) + rest``; ``None`` for what is no such line.

    Args:
        named: leaf → its dimension: torch wants one object for each name.
    """
    line = _line(symbol, dims)
    if line is None:
        return None
    factor, leaf, rest = line
    spec = dims.specs.get(leaf)
    multiple = spec.multiple_of if spec is not None and spec.multiple_of else 1
    if leaf not in named:
        low, high = dims.span(leaf)
        # With multiples the name is that of a quotient, which is on no axis.
        name = leaf if multiple == 1 and leaf in dims.inputs else f"_{leaf}"
        limits = {"min": -(-low // multiple), "max": high // multiple if high < LARGEST else None}
        named[leaf] = Dim(name, **{key: at for key, at in limits.items() if at})
    dim = named[leaf]
    if factor * multiple != 1:
        dim = factor * multiple * dim
    return dim + rest if rest > 0 else dim - -rest if rest else dim


def _line(symbol: str, dims: Dims) -> tuple[int, str, int] | None:
    if symbol not in dims.expressions:
        return (1, symbol, 0) if symbol.isidentifier() else None
    own = dims.expressions[symbol].line()
    below = _line(own[1], dims) if own is not None else None
    if own is None or below is None:
        return None
    factor, leaf, rest = below
    return own[0] * factor, leaf, own[0] * rest + own[2]


def open_(job: Job) -> tuple[Any, ...]:
    """``dynamic_shapes`` in which torch finds all relations, within the ranges that are stated."""
    dims = cases.rules(job)
    return tuple(
        {axis: _auto(symbol, dims) for axis, symbol in job.dynamic_axes.get(name, {}).items()}
        or None
        for name in job.inputs
    )


def _auto(symbol: str, dims: Dims) -> Any:
    spec = dims.specs.get(symbol)
    limits = {"min": spec.min, "max": spec.max} if spec is not None else {}
    stated = {key: at for key, at in limits.items() if at is not None}
    return Dim.AUTO(**stated) if stated else Dim.AUTO


def fixed(file: Path, job: Job) -> bool:
    """Whether a declared axis of an input is a number in a file."""
    graph = onnx.load(file, format="protobuf", load_external_data=False).graph
    return any(
        value.type.tensor_type.shape.dim[axis].HasField("dim_value")
        for value in graph.input
        for axis in job.dynamic_axes.get(value.name, {})
        if axis < len(value.type.tensor_type.shape.dim)
    )


def suggested(report: str) -> str:
    """What torch suggests for named sizes, as ``dims`` would say it; empty: nothing."""
    _, found, rest = report.partition("Suggested fixes:")
    if not found:
        return ""
    listed = []
    for name, text in _SUGGESTION.findall(rest.replace("\\n", "\n")):
        limits, multiple = _RANGE.fullmatch(text), _MULTIPLE.fullmatch(text)
        if name.startswith("_"):  # torch's own name of a quotient
            continue
        if limits is not None:
            ends = zip(("min", "max"), limits.groups(), strict=True)
            said = ", ".join(f"{key}: {at}" for key, at in ends if at not in (None, "oo"))
            listed += [f"{name}: {{{said}}}"] if said else []
        elif multiple is not None:
            listed.append(f"{name}: {{multiple_of: {multiple[1]}}}")
        else:
            listed.append(f"{name}: {text.replace('*', ' * ')}")
    return ", ".join(listed)
