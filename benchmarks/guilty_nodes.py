"""Planted faults: in how many files the node that `debug` names is the one that was changed.

    python benchmarks/guilty_nodes.py [--faults 6] [--seed 0]

Models are exported by both exporters; in each copy of the right file one node computes something
else: another activation, another axis, one changed weight. Those that no output shows beyond the
rounding of float32 are left out. *Named*: it is the node; *within*: it is one of the nodes of the
operator that is named.

Then the same for ONNX Runtime's optimisations: before a product of each file a factor is put in
that they move behind it, where it comes too late. *Named*: the nodes that are blamed are that
product and the factor; *within*: those are among them.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torchvision
from onnx import ModelProto, NodeProto, numpy_helper

from converter.worker.debug import cutting, eager, inside, search, ways
from converter.worker.debug.values import USUAL, Known, distance

_OTHER = {"Relu": "Sigmoid", "Sigmoid": "Tanh", "Tanh": "Sigmoid", "Erf": "Tanh"}
_SHOWS = 1e-5


class Mixed(torch.nn.Module):
    """Norms, attention and activations, which exporters take apart."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first = torch.nn.LayerNorm(16), torch.nn.Linear(16, 16)
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
        self.groups, self.instance = torch.nn.GroupNorm(4, 16), torch.nn.InstanceNorm1d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.gelu(self.first(self.norm(x)))
        z, _ = self.attention(y, y, y)
        w = self.instance(self.groups(z.transpose(1, 2))).transpose(1, 2)
        return torch.softmax(w + x, -1) * torch.cumsum(x, 1)


def models() -> dict[str, tuple[torch.nn.Module, torch.Tensor]]:
    transformer = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64)
    torch.nn.init.normal_(transformer.heads.head.weight)  # it is zero
    image = torch.randn(1, 3, 64, 64)
    return {
        "resnet18": (torchvision.models.resnet18(), image),
        "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small(), image),
        "transformer": (transformer, torch.randn(1, 3, 32, 32)),
        "mixed": (Mixed(), torch.randn(2, 7, 16)),
    }


def plant(model: ModelProto, draw: random.Random) -> NodeProto:
    """Change one node, in place."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    while True:
        node = draw.choice(model.graph.node)
        # Weights that several nodes have: what computes with them is wrong then.
        if all(name in held for name in node.input):
            continue
        weights = [i for i, name in enumerate(node.input) if name in held]
        weights = [i for i in weights if held[node.input[i]].data_type == onnx.TensorProto.FLOAT]
        if node.op_type in _OTHER:
            node.op_type = _OTHER[node.op_type]
        elif node.op_type == "Softmax":
            for attribute in node.attribute:
                attribute.i = 1 if attribute.i != 1 else -1
        elif weights:
            place = weights[-1]
            array = numpy_helper.to_array(held[node.input[place]]).copy()
            flat = array.reshape(-1)
            flat[draw.randrange(flat.size)] += np.float32(0.1 + 0.3 * np.abs(flat).max())
            changed = numpy_helper.from_array(array, f"{node.input[place]}.changed")
            model.graph.initializer.append(changed)
            node.input[place] = changed.name
        else:
            continue
        return node


def exported(model: torch.nn.Module, example: torch.Tensor, dynamo: bool, path: Path) -> ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(model, (example,), opset_version=18, verbose=False).save(path)
        else:
            torch.onnx.export(model, (example,), path, dynamo=False, opset_version=17)
    return onnx.load(path)


def tried(
    right: ModelProto, known: list[Any], feeds: dict[str, Any], draw: random.Random, folder: Path
) -> tuple[bool, bool] | None:
    """Whether the node is named, and within what is; ``None``: no output shows the fault."""
    model = ModelProto()
    model.CopyFrom(right)
    node = plant(model, draw)
    values = inside.values(model, feeds, folder)
    outputs = [info.name for info in model.graph.output]
    off = [distance(values[name], known[-1].array) for name in outputs]
    if max(off) < _SHOWS:
        return None
    given = inside.constants(model) | {*feeds}
    bound = search.tolerance(off, USUAL)
    guilty = search.guilty(model.graph, values, given, Known(known, bound), outputs)
    if guilty is None:
        return False, False
    same: Callable[[NodeProto], bool] = lambda other: list(other.output) == list(node.output)  # noqa: E731
    return same(guilty.node), any(map(same, guilty.block))


def moved(right: ModelProto, draw: random.Random) -> list[NodeProto] | None:
    """Put a factor before a product with weights, in place: ``x @ w`` as ``(1e30 x · 1e-30) @ w``.

    The weights are larger by 1e12 and the result smaller, so that the product of both is infinite
    where the small factor comes behind it. Returns that factor and the product; ``None``: the model
    has no such product.
    """
    held = {tensor.name: tensor for tensor in right.graph.initializer}
    nodes = list(right.graph.node)
    products = [node for node in nodes if node.op_type == "MatMul" and node.input[1] in held]
    if not products:
        return None
    product = draw.choice(products)
    place = next(number for number, node in enumerate(nodes) if node is product)
    weight = numpy_helper.to_array(held[product.input[1]]) * np.float32(1e12)
    for name, value in {"up": 1e30, "down": 1e-30, "after": 1e-12}.items():
        right.graph.initializer.append(
            numpy_helper.from_array(np.array(value, np.float32), f"moved.{name}")
        )
    right.graph.initializer.append(numpy_helper.from_array(weight, "moved.weight"))
    make = onnx.helper.make_node
    factor = make("Mul", ["moved.c", "moved.down"], ["moved.d"])
    before = [
        make("Mul", [product.input[0], "moved.up"], ["moved.a"]),
        # What is negated twice is no chain of factors to be folded into one.
        make("Neg", ["moved.a"], ["moved.b"]),
        make("Neg", ["moved.b"], ["moved.c"]),
        factor,
    ]
    changed = make("MatMul", ["moved.d", "moved.weight"], ["moved.y"])
    after = make("Mul", ["moved.y", "moved.after"], [product.output[0]])
    del right.graph.node[:]
    right.graph.node.extend([*nodes[:place], *before, changed, after, *nodes[place + 1 :]])
    return [factor, changed]


def tried_optimised(
    right: ModelProto, feeds: dict[str, Any], draw: random.Random, folder: Path
) -> tuple[bool, bool] | None:
    """Whether the two nodes are blamed and no other, and among others."""
    model = ModelProto()
    model.CopyFrom(right)
    planted = moved(model, draw)
    if planted is None:
        return None
    path = folder / "moved.onnx"
    onnx.save(model, path)
    values = {**feeds, **inside.values(model, feeds, folder)}
    outputs = [info.name for info in model.graph.output]
    for way in ways.levels():
        got = way.run(path, feeds)
        wrong = [name for name in outputs if cutting.off(got[name], values[name]) > USUAL]
        if not wrong:
            continue
        graph = cutting.Graph(model, values, inside.constants(model), wrong)
        piece = cutting.smallest(graph, way, USUAL, folder)
        blamed = [list(node.output) for node in piece.nodes] if piece is not None else []
        both = all(list(node.output) in blamed for node in planted)
        return both and len(blamed) == len(planted), both
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=6, help="in each file")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    draw = random.Random(asked.seed)
    found: list[tuple[bool, bool]] = []
    optimised: list[tuple[bool, bool]] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        for label, (model, example) in models().items():
            model.eval()
            recording = eager.Recording()
            with torch.no_grad(), eager.watched(recording), recording:
                model(example)
            for dynamo in (False, True):
                right = exported(model, example, dynamo, Path(name) / "model.onnx")
                feeds = {right.graph.input[0].name: example.numpy()}
                results = [
                    tried(right, recording.values, feeds, draw, Path(name))
                    for _ in range(asked.faults)
                ]
                shown = [result for result in results if result is not None]
                found += shown
                exporter = "dynamo" if dynamo else "torchscript"
                print(
                    f"{label:20} {exporter:12} {len(right.graph.node):4} nodes, "
                    f"{len(shown)} faults that show: {sum(n for n, _ in shown)} named, "
                    f"{sum(w for _, w in shown)} within",
                    flush=True,
                )
                results = [
                    tried_optimised(right, feeds, draw, Path(name)) for _ in range(asked.faults)
                ]
                optimised += [result for result in results if result is not None]
    took = time.perf_counter() - began
    named, within = (sum(result[i] for result in found) for i in (0, 1))
    print(f"{len(found)} planted faults: {named} named, {within} within; {took:.0f} s")
    named, within = (sum(result[i] for result in optimised) for i in (0, 1))
    print(f"{len(optimised)} by optimisations: {named} named, {within} within")


if __name__ == "__main__":
    main()
