"""A job for a model of ``tiny.py``, and what the whole pipeline makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from converter.model.errors import Code
from converter.model.job import Derived, Job
from converter.model.records import JobResult, OnnxInfo
from converter.model.source import Source
from converter.plan import variants
from converter.worker.pipeline import pipeline

IMAGE = {"x": {"shape": [2, 3, 8, 8]}}
BATCH = {"x": {0: "batch"}}


@dataclass(frozen=True)
class Converted:
    """``folder`` is where the pipeline staged its files."""

    result: JobResult
    folder: Path

    @property
    def code(self) -> Code | None:
        return self.result.error.code if self.result.error else None

    @property
    def onnx(self) -> OnnxInfo:
        assert self.result.onnx is not None, self.result.error
        return self.result.onnx

    @property
    def path(self) -> Path:
        assert self.result.files, self.result.error
        return self.folder / self.result.files[0].path

    @property
    def model(self) -> onnx.ModelProto:
        return onnx.load(self.path)

    @property
    def weights(self) -> dict[str, Any]:
        initializers = self.model.graph.initializer
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in initializers}

    @property
    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    def run(self, **feeds: Any) -> Any:
        session = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        return session.run(None, {k: np.asarray(v, np.float32) for k, v in feeds.items()})[0]


def make(folder: Path, source: str | dict[str, str], **changes: Any) -> Job:
    """``source`` is a class of ``tiny.py``, or any source of a configuration."""
    named = {"_target_": f"tiny.{source}"} if isinstance(source, str) else source
    staging = folder / "staging"
    staging.mkdir(parents=True)
    usual = "original" if "onnx" in named else "torchscript"
    exporters = changes.get("exporters", [usual])
    values: dict[str, Any] = {
        "name": "model",
        "source": Source.model_validate(named),
        "inputs": {"x": {"shape": [2, 3]}},
        "opset": 17,
        "exporters": exporters,
        "exporter": exporters[0] if len(exporters) == 1 else "auto",
        "device": "cpu",
        "trust": ["tiny"],
        "model_dir": str(folder / "models/model"),
        "staging_dir": str(staging),
    }
    return Job.model_validate(values | changes)


def convert(job: Job) -> Converted:
    """Run the pipeline; what crosses the boundary must survive it."""
    result = pipeline.run(job, lambda stage: None)
    assert JobResult.model_validate_json(result.model_dump_json()) == result
    return Converted(result, Path(job.staging_dir))


def followed(job: Job) -> Derived:
    """The job of the only variant of a job, once its file is there; it works in ``derived``."""
    result = pipeline.run(job, lambda stage: None)
    assert result.error is None, result.error
    assert result.references is not None
    (stub,) = variants.jobs_of(job)
    staging = Path(job.staging_dir)
    made = staging.parent / "derived"
    made.mkdir()
    return variants.from_parent(stub, result.files).model_copy(
        update={
            "staging_dir": str(made),
            "parent_file": str(staging / result.files[0].path),
            "references": str(staging / result.references.path),
            "references_sha256": result.references.sha256,
        }
    )
