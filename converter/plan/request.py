"""What a model asks for once it has inherited from the run, and whether it can be had."""

from __future__ import annotations

from converter.model.batch import BatchSpec
from converter.model.spec import ModelSpec, OpsetRange
from converter.plan import opsets
from converter.plugins import loader


def exporters(sources: str = "pytorch") -> list[str]:
    """The exporters of PyTorch models, which a configuration may choose, or those of ``onnx``."""
    every = loader.names("exporters")
    return [name for name in every if sources == loader.load("exporters", name).SOURCES]


def unreachable(spec: BatchSpec, model: ModelSpec) -> str | None:
    """Why no exporter asked for can do the opset asked for, or ``None``."""
    opset, asked = opset_of(spec, model), exporters_of(spec, model)
    torch = opsets.installed_torch()
    if opset is None or outside(model, opset) or opsets.supporting(asked, opset, torch):
        return None
    return opsets.refusal(asked, opset, exporters(), torch)


def opset_of(spec: BatchSpec, model: ModelSpec) -> int | None:
    """The opset asked for; ``None``: a file that is ONNX already keeps its own."""
    if isinstance(model.opset, int):
        return model.opset
    # The run's opset is for exports: a file is converted only where its model pins one.
    return None if _is_onnx(model) else spec.opset


def exporters_of(spec: BatchSpec, model: ModelSpec) -> list[str]:
    """The exporters asked for, in order."""
    if _is_onnx(model):
        return exporters("onnx")
    name = model.exporter or spec.exporter.name
    # `auto` is no exporter but the order of the configuration.
    return list(spec.exporter.order) if name == "auto" else [name]


def outside(model: ModelSpec, opset: int | None) -> str | None:
    """Why the run's opset is outside the model's range, or ``None``."""
    if not isinstance(model.opset, OpsetRange) or opset is None:
        return None
    low, high = model.opset.min, model.opset.max
    if low is not None and opset < low:
        return f"the run's opset {opset} is below the model's minimum, {low}"
    if high is not None and opset > high:
        return f"the run's opset {opset} is above the model's maximum, {high}"
    return None


def _is_onnx(model: ModelSpec) -> bool:
    return model.source is not None and model.source.kind == "onnx"
