"""Training mode: what of it can be verified, and whether an exporter honoured it.

Active dropout is random, in PyTorch and in ONNX Runtime, from different generators. With its
ratio at zero on both sides all the rest is deterministic and compared; the file that ships keeps
its ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto
from torch import nn

from converter.errors import Code, StageError
from converter.worker import structure
from converter.worker.loading import Loaded

_ZERO = "converter.zero_ratio"


@contextmanager
def silenced(model: Any) -> Iterator[list[str]]:
    """Within it no dropout module in training mode drops anything; gives their names."""
    active = {name: module for name, module in _dropouts(model) if module.p > 0}
    before = {name: module.p for name, module in active.items()}
    for module in active.values():
        module.p = 0.0
    try:
        yield list(active)
    finally:
        for name, module in active.items():
            module.p = before[name]


def _dropouts(model: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training:
            yield name, module


@contextmanager
def comparable(path: Path, silenced_modules: list[str]) -> Iterator[Path]:
    """The file to run: ``path``, or beside it a copy whose dropout ratios are zero."""
    if not silenced_modules:
        yield path
        return
    model = onnx.load(path, load_external_data=False)
    zero = False
    for node in structure.nodes(model.graph):
        if node.op_type == "Dropout" and len(node.input) > 1:
            node.input[1] = _ZERO
            zero = True
    if zero:
        ratio = onnx.helper.make_tensor(_ZERO, TensorProto.FLOAT, [], [0.0])
        model.graph.initializer.append(ratio)
    copy = path.with_name(f"{path.name}.silenced")
    onnx.save_model(model, copy)
    try:
        yield copy
    finally:
        copy.unlink()


def check(model: ModelProto, loaded: Loaded, exporter: str) -> None:
    """Raise where an exporter gave the eval graph of a model in training mode.

    Raises:
        StageError: TRAINING_IGNORED.
    """
    if not isinstance(loaded.model, nn.Module) or isinstance(loaded.model, torch.jit.ScriptModule):
        return
    nodes = list(structure.nodes(model.graph))
    lost = []
    if any(_normalises_batches(module) for module in loaded.model.modules()) and not any(
        _in_training(node) for node in nodes
    ):
        lost.append("BatchNormalization with batch statistics")
    if any(module.p > 0 for _, module in _dropouts(loaded.model)) and not any(
        node.op_type == "Dropout" for node in nodes
    ):
        lost.append("Dropout")
    if lost:
        raise StageError(
            Code.TRAINING_IGNORED,
            f"training: train was asked for, the {exporter} export has no {' and no '.join(lost)}",
            "use exporter: torchscript",
        )


def _normalises_batches(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training


def _in_training(node: NodeProto) -> bool:
    """From opset 14 an attribute says so, before it the number of outputs."""
    if node.op_type != "BatchNormalization":
        return False
    return len(node.output) > 1 or any(a.name == "training_mode" and a.i for a in node.attribute)
