"""What the exporter ``original`` does in a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import version_converter

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.onnxfile import structure
from converter.worker.sources.loading import Loaded
from converter.worker.sources.onnx_source import OnnxFile


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    """Write the loaded model to ``destination``, large weights beside it.

    Raises:
        StageError: EXPORT_UNSUPPORTED, when the source is not ONNX or cannot be converted
            to the pinned opset.
    """
    if not isinstance(loaded.model, OnnxFile):
        raise StageError(Code.EXPORT_UNSUPPORTED, f"a {loaded.kind} is no ONNX file")
    model = loaded.model.proto
    if job.opset is not None and structure.opsets(model).get("ai.onnx") != job.opset:
        try:
            model = version_converter.convert_version(model, job.opset)
        except RuntimeError as error:
            raise StageError(
                Code.EXPORT_UNSUPPORTED,
                f"onnx cannot convert the file to opset {job.opset}: {error}",
                "leave out opset to keep the file's own",
            ) from error
    # protobuf cannot hold 2 GiB in one message, and the structure needs room too.
    large = structure.weight_bytes(model) > 1 << 30
    onnx.save_model(model, destination, save_as_external_data=large)
