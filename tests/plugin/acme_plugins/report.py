"""A report: a line for each model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.model.manifest import Manifest

FILE = "acme.txt"


def render(manifest: Manifest, directory: Path) -> str:
    return "".join(f"{row.name} {row.status}\n" for row in manifest.models)
