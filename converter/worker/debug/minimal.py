"""The least that shows what is wrong: a few nodes, their inputs, twenty lines, a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from converter.model.markup import block, cell, code
from converter.plan import packages
from converter.worker.debug import extraction
from converter.worker.debug.scripts import AGAINST_DATA, DATA, MODEL, Script
from converter.worker.debug.search import Guilty
from converter.worker.debug.values import Value, form
from converter.worker.inputs.inputs import Array

SCRIPT, REPORT = "repro.py", "report.md"
TOGETHER = "With what leads to it and moves elements alone, and what belongs to the same operator:"


@dataclass(frozen=True)
class Told:
    """What a report says beside the node.

    Attributes:
        model: the name of the model and what wrote its file: ``resnet18, torchscript, opset 17``.
        case: the sample that shows it, with its shapes.
        verdict: what was found to be wrong with the file as a whole.
        against: what the values were compared with: ``PyTorch 2.15.0 (eager)``.
        left_out: how many of those did not fit into memory.
        comparison: what was held against what, in a few words: ``file against PyTorch``.
        together: what stands above the other nodes of the block; ``None``: they are not told.
        script: what shows it; ``None``: no few lines can.
        notes: what else was found.
    """

    model: str
    case: str
    verdict: str
    against: str
    left_out: int = 0
    comparison: str = ""
    together: str | None = TOGETHER
    script: Script | None = AGAINST_DATA
    notes: Sequence[str] = ()


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
        small, fed = extraction.extracted(model, found.block, [found.output], values, constants)
        onnx.save_model(small, folder / MODEL)
        inputs = {f"input_{number}": values[name] for number, name in enumerate(fed)}
        arrays: dict[str, Any] = {"expected": found.expected.array, **inputs}
        np.savez(folder / DATA, **arrays)
        made = [MODEL, DATA]
        if told.script is not None:
            largest = np.abs(found.expected.array[np.isfinite(found.expected.array)])
            bound = float(largest.max(initial=0.0)) * min(found.error / 2, 1e-3)
            what = f"{found.expected.what}, {told.against}".replace("\n", " ")
            script = told.script.filled(title(found).replace("\\", "/"), what, bound)
            (folder / SCRIPT).write_text(script, encoding="utf-8")
            made.append(SCRIPT)
    (folder / REPORT).write_text(report(model, found, values, told), encoding="utf-8")
    return [REPORT, *made]


def title(found: Guilty) -> str:
    """``Gemm gives another result than aten.addmm.default``."""
    ops = found.ops or ", ".join(dict.fromkeys(node.op_type for node in found.block))
    if found.stops:
        return f"{found.runtime} stops at {ops}"
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
        f"Comparison: {told.comparison}.", "",
        "## The first node that is wrong", "",
        *block("", *_nodes([found.node])), "",
        *_together(found, told.together),
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
        lines += _differs(found, found.expected)
    lines += [part for note in told.notes for part in ("", note)]
    if found.expected is not None:
        lines += _shown(told.script)
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


def _shown(script: Script | None) -> list[str]:
    lines = ["", "## How to see it", ""]
    if script is None:
        return [*lines, f"Run `{MODEL}` on the inputs in `{DATA}`, which has `expected` as well."]
    lines += ["```sh", f"pip install {script.packages}"]
    return [*lines, f"python {SCRIPT}    # exit code 1: it is wrong", "```"]


def _differs(found: Guilty, expected: Value) -> list[str]:
    """How the value is off, and whose line asked for it."""
    output, what = code(found.output), code(expected.what)
    if found.form is not None:
        (shape, dtype), right = found.form, form(expected.array)
        said = (
            f"{output} is {dtype} {list(shape)} where {what} has "
            f"{right[1]} {list(right[0])}; the elements are the same."
        )
    elif not np.isfinite(found.error):
        said = f"{output} is not finite where {what} is, or the reverse."
    else:
        said = (
            f"{output} differs from {what} by {found.error:.1e} of its "
            f"largest magnitude (shape {_shape(expected.array)})."
        )
    return [said, *([f"The source: {expected.where}"] * bool(expected.where))]


def _together(found: Guilty, said: str | None) -> list[str]:
    """The other nodes of its block."""
    others = [node for node in found.block if node is not found.node]
    if not others or said is None:
        return []
    return [said, "", *block("", *_nodes(others)), ""]


def _before(found: Guilty) -> list[str]:
    """What is known of its inputs."""
    if found.stops:
        return [f"{found.runtime} computes what comes before it, and says here:"]
    if not found.before and found.follows is None:
        return ["Its inputs are right.", ""]
    said = [
        f"Its inputs differ from what they should be by {found.before:.1e} of their largest "
        "magnitude at most."
    ]
    if found.follows is not None and found.follows.where:
        said.append(f"They follow from {code(found.follows.what)} in {found.follows.where}.")
    return said


def _nodes(block: Sequence[NodeProto]) -> list[str]:
    return [line for node in block for line in str(onnx.helper.printable_node(node)).splitlines()]


def _shape(array: Array) -> str:
    return " × ".join(map(str, array.shape)) or "a scalar"


def _row(name: str, array: Array) -> str:
    shown = cell(code(name))
    if array.dtype.kind not in "fiu" or not array.size:
        return f"| {shown} | {_shape(array)} | | |"
    return f"| {shown} | {_shape(array)} | {array.min():.4g} | {array.max():.4g} |"
