"""The least that shows what is wrong: a few nodes, their inputs, twenty lines, a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from converter.plan import packages
from converter.worker.debug.search import Guilty
from converter.worker.debug.values import Value, form
from converter.worker.inputs.inputs import Array

MODEL, DATA, SCRIPT, REPORT = "minimal.onnx", "data.npz", "repro.py", "report.md"
_TEXT = '''\
"""{title}"""

import os

import numpy
import onnxruntime

os.chdir(os.path.dirname(os.path.abspath(__file__)))
data = numpy.load("{data}")
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession("{model}", options, providers=["CPUExecutionProvider"])
feeds = {{info.name: data[f"input_{{i}}"] for i, info in enumerate(session.get_inputs())}}
found = session.run(None, feeds)[0]
expected = data["expected"]  # {expected}
same = (found.shape, found.dtype) == (expected.shape, expected.dtype)
error = numpy.abs(found.astype("float64") - expected).max() if same else numpy.inf
print(f"largest error {{error:.3g}}; shape {{found.shape}}, expected {{expected.shape}}")
raise SystemExit(bool(error > {bound!r}))  # exit code 1: it is wrong
'''


@dataclass(frozen=True)
class Told:
    """What a report says beside the node.

    Attributes:
        model: the name of the model and what wrote its file: ``resnet18, torchscript, opset 17``.
        case: the sample that shows it, with its shapes.
        verdict: what was found to be wrong with the file as a whole.
        against: what the values were compared with: ``PyTorch 2.15.0 (eager)``.
        left_out: how many of those did not fit into memory.
    """

    model: str
    case: str
    verdict: str
    against: str
    left_out: int = 0


def write(
    folder: Path,
    model: ModelProto,
    found: Guilty,
    values: Mapping[str, Array],
    constants: set[str],
    told: Told,
) -> list[str]:
    """Write the report, and where there is something to compare with what shows it by itself.

    Args:
        model: with its weights.
        values: of all names of its graph, inputs too.

    Returns:
        The names of the files.
    """
    made: list[str] = []
    if found.expected is not None:
        small, fed = extracted(model, found, values, constants)
        onnx.save_model(small, folder / MODEL)
        inputs = {f"input_{number}": values[name] for number, name in enumerate(fed)}
        arrays: dict[str, Any] = {"expected": found.expected.array, **inputs}
        np.savez(folder / DATA, **arrays)
        bound = float(np.abs(found.expected.array).max()) * min(found.error / 2, 1e-3)
        script = _TEXT.format(
            title=title(found).replace("\\", "/"),
            model=MODEL,
            data=DATA,
            expected=f"{found.expected.what}, {told.against}".replace("\n", " "),
            bound=bound,
        )
        (folder / SCRIPT).write_text(script, encoding="utf-8")
        made = [MODEL, DATA, SCRIPT]
    (folder / REPORT).write_text(report(model, found, values, told), encoding="utf-8")
    return [REPORT, *made]


def title(found: Guilty) -> str:
    """``Gemm gives another result than aten.addmm.default``."""
    ops = ", ".join(dict.fromkeys(node.op_type for node in found.block))
    if found.stops:
        return f"ONNX Runtime stops at {ops}"
    if found.expected is None:
        return f"{ops} gives what the other computation never has"
    if found.form is not None:
        return f"{ops} gives another shape or type than {found.expected.what}"
    return f"{ops} gives another result than {found.expected.what}"


def report(model: ModelProto, found: Guilty, values: Mapping[str, Array], told: Told) -> str:
    """What to file upstream, in Markdown."""
    installed = {name: version for name, version in packages.versions().items() if version}
    versions = ", ".join(f"{name} {version}" for name, version in installed.items())
    opsets = ", ".join(
        f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import
    )
    lines = [
        f"# {title(found)}", "",
        f"Found in {told.model}: {told.verdict}", "",
        f"Sample: {told.case}. Compared with {told.against}.", "",
        "## The first node that is wrong", "",
        "```", *_nodes([found.node]), "```", "",
        *_together(found),
    ]  # fmt: skip
    lines += _before(found)
    if found.stops:
        lines += ["", f"    {found.stops}"]
    elif found.expected is None:
        lines.append(
            "None of the values that follow is one of its outputs, or near one: a value or a "
            "branch that was frozen while the model was traced looks like this."
        )
    else:
        lines += [
            *_differs(found, found.expected),
            "", "## How to see it", "",
            "```sh", "pip install numpy onnxruntime",
            f"python {SCRIPT}    # exit code 1: it is wrong", "```",
        ]  # fmt: skip
    if told.left_out:
        lines += ["", f"{told.left_out} values had no room in memory and were not compared."]
    lines += [
        "",
        "## Inputs of the node",
        "",
        "| value | shape | least | largest |",
        "|---|---|---|---|",
    ]
    lines += [_row(name, values[name]) for name in found.node.input if name in values]
    lines += ["", f"Opsets: {opsets}. Versions: {versions}."]
    return "\n".join(lines) + "\n"


def _differs(found: Guilty, expected: Value) -> list[str]:
    """How the value is off, and whose line asked for it."""
    if found.form is not None:
        (shape, dtype), right = found.form, form(expected.array)
        said = (
            f"`{found.output}` is {dtype} {list(shape)} where `{expected.what}` has "
            f"{right[1]} {list(right[0])}; the elements are the same."
        )
    else:
        said = (
            f"`{found.output}` differs from `{expected.what}` by {found.error:.1e} of its "
            f"largest magnitude (shape {_shape(expected.array)})."
        )
    return [said, *([f"The source: {expected.where}"] * bool(expected.where))]


def _together(found: Guilty) -> list[str]:
    """The other nodes of its block."""
    others = [node for node in found.block if node is not found.node]
    if not others:
        return []
    said = "With what leads to it and moves elements alone, and what belongs to the same operator:"
    return [said, "", "```", *_nodes(others), "```", ""]


def _before(found: Guilty) -> list[str]:
    """What is known of its inputs."""
    if found.stops:
        return ["ONNX Runtime computes what comes before it, and says here:"]
    said = [
        f"Its inputs differ from what they should be by {found.before:.1e} of their largest "
        "magnitude at most."
    ]
    if found.follows is not None and found.follows.where:
        said.append(f"They follow from `{found.follows.what}` in {found.follows.where}.")
    return said


def extracted(
    model: ModelProto, found: Guilty, values: Mapping[str, Array], constants: set[str]
) -> tuple[ModelProto, list[str]]:
    """A model of the block alone, and the names that are to be fed, in its order."""
    made = {name for node in found.block for name in node.output}
    needed = list(dict.fromkeys(name for node in found.block for name in _read(node)))
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    held: list[TensorProto] = []
    fed: list[str] = []
    for name in needed:
        if name in made or not name:
            continue
        if name in initializers:
            held.append(initializers[name])
        elif name in constants and name in values:
            held.append(numpy_helper.from_array(values[name], name))
        elif name in values:
            fed.append(name)
    graph = helper.make_graph(
        found.block,
        "minimal",
        [_info(name, values[name]) for name in fed],
        [_info(found.output, values[found.output])],
        held,
    )
    small = helper.make_model(
        graph,
        opset_imports=model.opset_import,
        functions=model.functions,
        ir_version=model.ir_version,
    )
    return small, fed


def _read(node: NodeProto) -> Iterator[str]:
    """What a node reads, its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from _outer(inner)


def _outer(graph: GraphProto) -> set[str]:
    own = {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
    own |= {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in _read(node)}
    return (read | {info.name for info in graph.output}) - own


def _info(name: str, array: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape)
    )


def _nodes(block: Sequence[NodeProto]) -> list[str]:
    return [line for node in block for line in str(onnx.helper.printable_node(node)).splitlines()]


def _shape(array: Array) -> str:
    return " × ".join(map(str, array.shape)) or "a scalar"


def _row(name: str, array: Array) -> str:
    if array.dtype.kind not in "fiu" or not array.size:
        return f"| `{name}` | {_shape(array)} | | |"
    return f"| `{name}` | {_shape(array)} | {array.min():.4g} | {array.max():.4g} |"
