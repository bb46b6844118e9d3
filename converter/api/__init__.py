"""The converter from Python: one model, a whole configuration, a file, a manifest.

All of it is also in ``converter``: ``converter.convert(model, {"x": (1, 3, 64, 64)})``.
"""

from __future__ import annotations

from converter.api.files import load_manifest, verify
from converter.api.runs import Run, run
from converter.api.single import ConversionFailed, Converted, convert

__all__ = ["ConversionFailed", "Converted", "Run", "convert", "load_manifest", "run", "verify"]
