"""Which opsets each exporter writes, as it states them: the parent cannot ask torch.

A test asks the installed torch and onnxscript what they state, and compares. The worker confirms
each file (OPSET_MISMATCH, EXPORT_UNSUPPORTED say what an exporter does not know of itself).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from converter.plugins import loader

LOWEST, HIGHEST = 7, 25
"""What a configuration may ask for at all; the bounds of ``spec.Opset``."""


@functools.cache
def installed_torch() -> tuple[int, int] | None:
    """Major and minor version of torch, without importing it; ``None`` when it is absent."""
    try:
        found = re.match(r"(\d+)\.(\d+)", version("torch"))
    except PackageNotFoundError:
        return None
    return (int(found[1]), int(found[2])) if found else None


def span(exporter: str, torch: tuple[int, int] | None = None) -> tuple[int, int]:
    """Lowest and highest opset of an exporter; one that states none may do all.

    A name that is none is told by the rules of the configuration.
    """
    plugin = loader.found("exporters").get(exporter)
    stated = plugin.load().OPSETS if plugin is not None else ()
    # Tuples, since as text 2.10 would sort before 2.9.
    rows = [row for row in stated if torch is None or row[0] <= torch]
    return rows[-1][1:] if rows else (LOWEST, HIGHEST)


def supporting(
    exporters: Sequence[str], opset: int, torch: tuple[int, int] | None = None
) -> list[str]:
    """The exporters, in their order, that can do an opset."""
    return [name for name in exporters if _within(span(name, torch), opset)]


def refusal(
    exporters: Sequence[str],
    opset: int,
    known: Sequence[str],
    torch: tuple[int, int] | None = None,
) -> str:
    """Say why none of ``exporters`` can do an opset, and which of ``known`` can."""
    ranges = "; ".join(f"{name} supports opsets {_range(name, torch)}" for name in exporters)
    others = supporting([name for name in known if name not in exporters], opset, torch)
    also = "; ".join(f"{name} supports {_range(name, torch)}" for name in others)
    return f"opset {opset} was requested, but {ranges}" + (f" ({also})" if also else "")


def _within(bounds: tuple[int, int], opset: int) -> bool:
    return bounds[0] <= opset <= bounds[1]


def _range(exporter: str, torch: tuple[int, int] | None) -> str:
    low, high = span(exporter, torch)
    return f"{low} to {high}"
