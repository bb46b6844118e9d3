"""A wrong node within an If, a Loop or a Scan is named, with the turn that shows it first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper, parser

from converter.worker.debug import eager, inside
from converter.worker.debug.values import Value
from converter.worker.pipeline import comparisons
from converter.worker.pipeline.comparisons import Searched

pytestmark = pytest.mark.integration
# Small, so that a difference is nearer to the sum than to what else PyTorch computes.
X = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32) / 200
W = np.random.default_rng(4).standard_normal((4, 4)).astype(np.float32)
LOOP = """g (float[3, 4] x) => (float[3, 4] y)
<float[4, 4] w, int64 n = {3}, bool go = {1}>
{ a = Tanh(x)
  b = Loop (n, go, a) <body = turn (int64 i, bool c, float[3, 4] s) => (bool d, float[3, 4] u)
  { d = Identity(c) p = MatMul(s, w) q = Sigmoid(p) u = OP(q, s) }>
  y = Neg(b) }"""
SCAN = """g (float[3, 4] x) => (float[3, 4] y)
<float[4, 4] w, float[4] zero = {0, 0, 0, 0}>
{ a = Tanh(x)
  last, b = Scan (zero, a) <num_scan_inputs = 1,
  body = turn (float[4] s, float[4] r) => (float[4] u, float[4] o)
  { p = MatMul(r, w) q = Sigmoid(p) u = OP(q, s) o = Identity(u) }>
  y = Neg(b) }"""
IF = """g (float[3, 4] x) => (float[3, 4] y)
<float[4, 4] w, bool go = {1}>
{ a = Tanh(x)
  b = If (go) <then_branch = one () => (float[3, 4] u)
  { p = MatMul(a, w) q = Sigmoid(p) u = OP(q, a) },
  else_branch = other () => (float[3, 4] v) { v = Neg(a) }>
  y = Neg(b) }"""


def looped(a: Any, w: Any) -> Any:
    for _ in range(3):
        a = torch.sigmoid(a @ w) + a
    return a


def scanned(a: Any, w: Any) -> Any:
    state, rows = torch.zeros(4), []
    for row in a:
        state = torch.sigmoid(row @ w) + state
        rows.append(state)
    return torch.stack(rows)


def branched(a: Any, w: Any) -> Any:
    return torch.sigmoid(a @ w) + a


def recorded(right: Callable[[Any, Any], Any]) -> list[Value]:
    recording = eager.Recording()
    with recording:
        -right(torch.tanh(torch.from_numpy(X)), torch.from_numpy(W))
    return recording.values


def searched(text: str, op: str, right: Callable[[Any, Any], Any], folder: Path) -> Searched:
    known = recorded(right)
    graph = parser.parse_graph(text.replace("OP", op))
    kept = [tensor for tensor in graph.initializer if tensor.name != "w"]
    del graph.initializer[:]
    graph.initializer.extend([*kept, numpy_helper.from_array(W, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    values = {"x": X, **inside.values(model, {"x": X}, folder)}
    constants = inside.constants(model)
    guilty = comparisons.judge(model, values, constants | {"x"}, known, [known[-1].array])
    found = Searched(model, guilty, values, constants, "file against PyTorch", "PyTorch")
    return comparisons.deeper(found, known, folder)


@pytest.mark.parametrize(
    ("text", "right", "where"),
    [
        # The state of a Scan is 0 at first: only from the second turn on it is another result.
        (LOOP, looped, "turn 1 of Loop 'b'"),
        (SCAN, scanned, "turn 2 of Scan 'last'"),
        (IF, branched, "then_branch of If 'b'"),
    ],
)
def test_the_node_within_is_named(
    text: str, right: Callable[[Any, Any], Any], where: str, tmp_path: Path
) -> None:
    found = searched(text, "Sub", right, tmp_path)
    assert found.guilty.node.op_type == "Sub"
    assert found.guilty.expected is not None
    assert found.guilty.expected.what == "aten.add.Tensor"
    assert found.notes[0].startswith(f"It stands in {where}")
    assert {node.op_type for node in found.model.graph.node} >= {"MatMul", "Sigmoid"}


def test_where_each_turn_is_right_the_number_of_them_is_suspected(tmp_path: Path) -> None:
    found = searched(LOOP.replace("{3}", "{2}"), "Add", looped, tmp_path)
    # PyTorch has its result too, one turn earlier.
    assert found.guilty.node.op_type == "Neg"
    loop = next(node for node in found.model.graph.node if node.op_type == "Loop")
    known = recorded(looped)
    asked = replace(found, guilty=replace(found.guilty, node=loop))
    assert "the number of turns" in comparisons.deeper(asked, known, tmp_path).notes[0]


def test_what_a_branch_reads_from_outside_counts_as_its_input(tmp_path: Path) -> None:
    found = searched(IF.replace("a = Tanh(x)", "a = Sin(x)"), "Add", branched, tmp_path)
    assert found.guilty.node.op_type == "Sin"
