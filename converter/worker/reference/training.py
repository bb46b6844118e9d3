"""Training mode: what of it can be verified, and whether an exporter honoured it.

Active dropout is random, in PyTorch and in ONNX Runtime, from different generators (the latter
only without its optimisations, which take a Dropout out of the session). With its ratio at zero on
both sides all the rest is deterministic and compared; the file that ships keeps its ratio.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto
from torch import nn

from converter.model.errors import Code, StageError
from converter.worker.onnxfile import dropout, structure
from converter.worker.sources.loading import Loaded

_ZERO = "converter.zero_ratio"


@contextmanager
def dropout_disabled(model: Any, random: bool) -> Iterator[dict[str, float]]:
    """Within it no dropout module in training mode drops anything; gives name → own ratio.

    Args:
        random: whether that was asked for; a model that drops where it was not stays as it is.
    """
    active = {name: module for name, module in _dropouts(model) if random and module.p > 0}
    # Kept apart from the modules: the ratios are also what a file is compared with.
    before = {name: module.p for name, module in active.items()}
    for module in active.values():
        module.p = 0.0
    try:
        yield before
    finally:
        for name, module in active.items():
            module.p = before[name]


@contextmanager
def called(model: Any, silenced_modules: Mapping[str, float]) -> Iterator[list[float]]:
    """The ratio of each call of a silenced module within it: a shared one is called repeatedly.

    Replicas of the model take part: a copy of a module keeps its hooks.
    """
    ratios: list[float] = []

    def counting(ratio: float) -> Any:
        return lambda module, arguments: ratios.append(ratio)

    hooks = [
        model.get_submodule(name).register_forward_pre_hook(counting(ratio))
        for name, ratio in silenced_modules.items()
    ]
    try:
        yield ratios
    finally:
        for hook in hooks:
            hook.remove()


def _dropouts(model: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        # Training as it stands in the module: a part that is frozen in eval drops nothing.
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training:
            yield name, module


@contextmanager
def comparable(path: Path, silenced_modules: Mapping[str, float]) -> Iterator[Path]:
    """The file to run: ``path``, or beside it a copy whose dropout ratios are zero."""
    if not silenced_modules:
        yield path
        return
    model = onnx.load(path, format="protobuf", load_external_data=False)
    zero = False
    for node in structure.nodes(model.graph):
        # A node without that input cannot be active: `training_mode` is the input behind it.
        if node.op_type == "Dropout" and len(node.input) > 1:
            # An initializer of the outer graph is seen in the bodies of If and Loop too.
            node.input[1] = _ZERO
            zero = True
    if zero:
        ratio = onnx.helper.make_tensor(_ZERO, TensorProto.FLOAT, [], [0.0])
        model.graph.initializer.append(ratio)
    # In the same folder, because external data is found relative to the file.
    copy = path.with_name(f"{path.name}.disabled_dropout")
    onnx.save_model(model, copy)
    try:
        yield copy
    finally:
        copy.unlink()


def check(
    model: ModelProto,
    loaded: Loaded,
    dropped: Sequence[float],
    what: str,
    hint: str,
    folder: Path = Path(),
) -> None:
    """Raise where a graph does not train as the model does.

    Numbers cannot tell what is dropped, since they are compared with every ratio at zero: so the
    ratios themselves are compared.

    Args:
        dropped: the ratio of each call of an active dropout module.
        what: what to call the graph: "the dynamo export".
        folder: of the file, where its external data lies.

    Raises:
        StageError: TRAINING_IGNORED.
    """
    # A script has no modules of torch's classes to be asked.
    if not isinstance(loaded.model, nn.Module) or isinstance(loaded.model, torch.jit.ScriptModule):
        return
    lost = []
    # dynamo ignores the request for training: an eval graph comes out, BatchNorm folded away (torch
    # 2.15).
    if any(_normalises_batches(module) for module in loaded.model.modules()) and not any(
        _in_training(node) for node in structure.nodes(model.graph)
    ):
        lost.append("BatchNormalization with batch statistics")
    found = dropout.active(model, folder)
    if dropped and not found:
        lost.append("active Dropout")
    complaint = f"has no {' and no '.join(lost)}"
    if not lost:
        # Only where nothing is lost as a whole: else the ratios would be the same complaint twice.
        of_modules = [module.p for _, module in _dropouts(loaded.model)]
        if not _differ(dropped, found, of_modules):
            return
        complaint = f"drops {_words(found)} where the model drops {_words(dropped)}"
    raise StageError(
        Code.TRAINING_IGNORED, f"training: train was asked for, {what} {complaint}", hint
    )


def _differ(dropped: Sequence[float], found: Sequence[float], of_modules: Sequence[float]) -> bool:
    """Whether a call has no node, or a node a ratio that no module has.

    A node without a call is none: a model may pass a module's ratio to the function.
    """
    # Each call takes its own node, since a file may drop less often than the model.
    free = list(found)
    for ratio in dropped:
        match = next((other for other in free if _same(ratio, other)), None)
        if match is None:
            return True
        free.remove(match)
    return any(not any(_same(other, ratio) for ratio in of_modules) for other in free)


def _same(one: float, other: float) -> bool:
    """As far as float16 can tell."""
    return math.isclose(one, other, rel_tol=1e-3)


def _words(ratios: Sequence[float]) -> str:
    """The ratios in order of size, the first eight of many."""
    shown = [f"{ratio:.3g}" for ratio in sorted(ratios)]
    return ", ".join(shown[:8] + ["…"] * (len(shown) > 8)) or "nothing"


def _normalises_batches(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training


def _in_training(node: NodeProto) -> bool:
    """From opset 14 an attribute says so, before it the number of outputs."""
    if node.op_type != "BatchNormalization":
        return False
    return len(node.output) > 1 or any(a.name == "training_mode" and a.i for a in node.attribute)
