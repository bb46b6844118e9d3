"""For ONNX sources: the file as it came, at its own opset or the one that the model pins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.model.job import Job

if TYPE_CHECKING:
    from converter.worker.sources.loading import Loaded

SOURCES = "onnx"
CAPTURE = "copy"
OPSETS: tuple[tuple[tuple[int, int], int, int], ...] = ()  # all that onnx can convert between
NATIVE_OPSET: int | None = None
TRAINING_HINT = ""


def unsuited(loaded: Loaded, job: Job) -> str | None:
    return None if loaded.kind == "onnx" else "exporter original is for {onnx: …} sources only"


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    from converter.plugins.exporters import _original

    _original.export(loaded, job, arguments, destination)
