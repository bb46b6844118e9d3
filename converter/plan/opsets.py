"""Which opsets each exporter can do: one table, because the parent cannot ask torch.

A test asks the installed torch and onnxscript what they state, and compares. The worker confirms
each file (OPSET_MISMATCH, EXPORT_UNSUPPORTED say what the table did not know).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

LOWEST, HIGHEST = 7, 25
"""What a configuration may ask for at all; the bounds of ``spec.Opset``."""

# exporter → [(from this torch on, lowest, highest)], oldest first. torch states what torchscript
# does; onnxscript, which converts what dynamo builds at opset 18, states the highest of dynamo. The
# lowest is stated nowhere, tried with torch 2.15: 16 and 17 are reached for many models, and below
# 16 the file of most stays at 18.
TABLE: dict[str, list[tuple[tuple[int, int], int, int]]] = {
    "torchscript": [((2, 0), 7, 23)],
    "dynamo": [((2, 0), 16, 25)],
}


@functools.cache
def installed_torch() -> tuple[int, int] | None:
    """Major and minor version of torch, without importing it; ``None`` when it is absent."""
    try:
        found = re.match(r"(\d+)\.(\d+)", version("torch"))
    except PackageNotFoundError:
        return None
    return (int(found[1]), int(found[2])) if found else None


def span(exporter: str, torch: tuple[int, int] | None = None) -> tuple[int, int]:
    """Lowest and highest opset of an exporter; one that the table does not know may do all."""
    rows = [row for row in TABLE.get(exporter, []) if torch is None or row[0] <= torch]
    return rows[-1][1:] if rows else (LOWEST, HIGHEST)


def able(exporters: Sequence[str], opset: int, torch: tuple[int, int] | None = None) -> list[str]:
    """The exporters, in their order, that can do an opset."""
    return [name for name in exporters if _within(span(name, torch), opset)]


def refusal(
    exporters: Sequence[str],
    opset: int,
    known: Sequence[str],
    torch: tuple[int, int] | None = None,
) -> str:
    """Say why none of ``exporters`` can do an opset, and which of ``known`` can."""
    ranges = "; ".join(f"{name} does opsets {_range(name, torch)}" for name in exporters)
    others = able([name for name in known if name not in exporters], opset, torch)
    also = "; ".join(f"{name} does {_range(name, torch)}" for name in others)
    return f"opset {opset} was asked for, but {ranges}" + (f" ({also})" if also else "")


def _within(bounds: tuple[int, int], opset: int) -> bool:
    return bounds[0] <= opset <= bounds[1]


def _range(exporter: str, torch: tuple[int, int] | None) -> str:
    low, high = span(exporter, torch)
    return f"{low} to {high}"
