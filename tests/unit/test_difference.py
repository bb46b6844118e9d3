"""Lining up two files, and printing one: plain data, no onnx."""

from __future__ import annotations

from typing import Any

import pytest

from converter.inspection import sidebyside, text
from converter.inspection.content import INTERFACE, REST, Content, Function, Initializer, Node
from converter.inspection.difference import align, compare
from converter.model.records import TensorInfo
from converter.model.verified import KEY, Verified
from tests.manifests import verified_on


def node(op: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> Node:
    return Node(op=op, inputs=inputs.split(), outputs=outputs.split(), attributes=attributes)


def content(*nodes: Node, **changes: Any) -> Content:
    ops: dict[str, int] = {}
    for each in nodes:
        ops[each.op] = ops.get(each.op, 0) + 1
    values: dict[str, Any] = {
        "file": "a.onnx",
        "bytes": 1000,
        "ir_version": 8,
        "producer": "pytorch 2.15.0",
        "graph": "main_graph",
        "opsets": {"ai.onnx": 17},
        "inputs": [TensorInfo(name="x", dtype="float32", shape=["batch", 3])],
        "outputs": [TensorInfo(name="y", dtype="float32", shape=["batch", None])],
        "initializers": [weight()],
        "parameters": 6,
        "ops": ops,
        "nodes": list(nodes),
        "parts": {REST: "1", "names of nodes": "2"},
    }
    return Content(**{**values, **changes})


def weight(**changes: Any) -> Initializer:
    values = {"name": "w", "dtype": "float32", "shape": [2, 3], "bytes": 24, "sha256": "1"}
    return Initializer.model_validate({**values, **changes})


def kinds(before: list[Node], after: list[Node]) -> list[str]:
    return [
        f"{pair.kind} {(pair.before or pair.after or node('?')).op}"
        for pair in align(before, after)
    ]


def test_equal_files_are_equal() -> None:
    difference = compare(content(node("Relu")), content(node("Relu")))
    assert difference.equal
    assert sidebyside.render(difference).endswith(
        "The two files are equal: opsets, values, nodes and all else that they hold."
    )


@pytest.mark.parametrize("part", ["names of nodes", INTERFACE, REST])
def test_what_is_not_listed_is_named_where_it_differs(part: str) -> None:
    difference = compare(content(), content(parts={**content().parts, part: "3"}))
    assert (difference.equal, difference.alike, difference.elsewhere) == (False, True, [part])
    shown = " ".join(sidebyside.render(difference).split())
    assert shown.endswith(
        "No difference in ir_version, opsets, values, nodes and functions,"
        f" but the files are not equal. What differs: {part}."
    )


def test_what_a_list_shows_is_not_said_again() -> None:
    parts = {REST: "4", "names of nodes": "5", "doc strings": "6"}
    difference = compare(content(), content(node("Relu"), parts=parts))
    assert difference.elsewhere == ["doc strings", "names of nodes"]
    assert sidebyside.render(difference).endswith(
        "What differs too, but is not listed above: doc strings, names of nodes."
    )


def test_the_names_of_initializers_may_come_twice() -> None:
    twice = content(initializers=[weight(), weight(sha256="2")])
    assert len(compare(content(), twice).initializers.added) == 1
    assert len(compare(twice, content()).initializers.removed) == 1


def function(*nodes: Node, **changes: Any) -> Function:
    values = {"name": "pkg::f", "inputs": ["a"], "outputs": ["b"], "opsets": {"ai.onnx": 17}}
    return Function.model_validate({**values, "nodes": list(nodes), **changes})


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        ([function(node("Abs"))], ["~ function pkg::f", "  nodes: 1 removed, 1 added"]),
        ([function(node("Relu"), inputs=["c"])],
         ["~ function pkg::f", "    - (a) -> b", "    + (c) -> b", "  nodes: 1 equal"]),
        ([function(node("Relu"), opsets={"ai.onnx": 18})], ["    + opsets ai.onnx 18"]),
        ([function(node("Relu"), attributes={"alpha": None, "beta": 0.5})],
         ["    + attributes alpha, beta=0.5"]),
        ([], ["- function pkg::f", "-   (a) -> b", "-   Relu", "-     (x) -> y"]),
        ([function(node("Relu")), function(node("Relu"), name="pkg::g")],
         ["function pkg::f: equal, 1 nodes", "+ function pkg::g", "+   Relu"]),
    ],
)  # fmt: skip
def test_functions_are_compared_with_their_nodes(other: list[Function], shown: list[str]) -> None:
    difference = compare(content(functions=[function(node("Relu"))]), content(functions=other))
    assert not difference.alike
    lines = sidebyside.render(difference).splitlines()
    assert [line for line in lines if line in shown] == shown


def test_a_difference_is_seen_where_the_text_is_cut() -> None:
    numbers = list(range(100))
    changed = [*numbers[:-1], -1]
    pair = content(node("Constant", pads=numbers)), content(node("Constant", pads=changed))
    assert "    numbers or text that are not shown differ" in sidebyside.render(compare(*pair))
    tensor = {"dtype": "float32", "shape": [64], "sha256": "0123456789", "external": None}
    other = {**tensor, "sha256": "abcdef0123"}
    pair = content(node("Constant", value=tensor)), content(node("Constant", value=other))
    shown = sidebyside.render(compare(*pair))
    assert "- value=float32[64] sha256 01234567\n    + value=float32[64] sha256 abcdef01" in shown
    elsewhere = content(node("Constant", value={**tensor, "external": "a.data"}))
    assert compare(pair[0], elsewhere).equal  # the same values, stored in another way


def test_no_opsets_and_no_type_are_said() -> None:
    empty = content(opsets={}, outputs=[TensorInfo(name="y", dtype="unknown", shape=[])])
    lines = text.render(empty).splitlines()
    assert "opsets      none" in lines
    assert "  y  unknown" in lines
    rows = [line.split() for line in sidebyside.render(compare(empty, empty)).splitlines()]
    assert ["opsets", "none", "none"] in rows


def test_the_name_of_a_node_does_not_matter() -> None:
    named = node("Relu").model_copy(update={"name": "/relu"})
    assert kinds([node("Relu")], [named]) == ["equal Relu"]


def test_nodes_are_lined_up_around_what_was_removed() -> None:
    before = [
        node("Conv", "x w", "a"), node("Shape", "a", "b"), node("Gather", "b", "c"),
        node("Reshape", "a c", "d"), node("Gemm", "d", "y"),
    ]  # fmt: skip
    after = [node("Conv", "x w", "a"), node("Reshape", "a k", "d"), node("Gemm", "d", "y")]
    assert kinds(before, after) == [
        "equal Conv", "removed Shape", "removed Gather", "changed Reshape", "equal Gemm",
    ]  # fmt: skip
    assert kinds(after, before)[1:3] == ["added Shape", "added Gather"]


@pytest.mark.parametrize(
    "other", [node("Relu", "z"), node("Relu", outputs="z"), node("Relu", alpha=1)]
)
def test_a_node_with_other_ends_or_attributes_has_changed(other: Node) -> None:
    assert kinds([node("Relu")], [other]) == ["changed Relu"]


@pytest.mark.parametrize(
    "change", [{"shape": [3, 2]}, {"dtype": "float16"}, {"sha256": "2"}, {"also_input": True}]
)
def test_an_initializer_that_differs_is_shown_on_both_sides(change: dict[str, Any]) -> None:
    difference = compare(content(), content(initializers=[weight(**change)]))
    assert not difference.equal
    assert [len(difference.initializers.removed), len(difference.initializers.added)] == [1, 1]
    assert difference.model_dump()["initializers"]["removed"][0]["bytes"] == 24


def test_what_was_not_read_is_not_called_equal() -> None:
    external = content(initializers=[weight(sha256=None, external="a.data")])
    difference = compare(external, external)
    assert difference.initializers.unread == ["w"]
    assert not difference.equal
    shown = sidebyside.render(difference)
    assert "initializers: 0 equal, 1 alike, but their external data was not compared" in shown
    missing = content(node("Constant"), unread={"b.data": "does not exist"})
    difference = compare(missing, missing)
    assert (difference.equal, difference.alike) == (False, True)
    assert sidebyside.render(difference).endswith(
        "nodes and functions, but not\neverything was compared.\n"
        "Not compared: external data of a.onnx: b.data does not exist."
    )


@pytest.mark.parametrize("change", [{"ir_version": 9}, {"opsets": {"ai.onnx": 18}}])
def test_another_head_is_a_difference(change: dict[str, Any]) -> None:
    difference = compare(content(), content(**change))
    assert not difference.equal
    (marked,) = [line for line in sidebyside.render(difference).splitlines() if line[:1] == "*"]
    assert next(iter(change))[:5] in marked.replace("opset ai.onnx", "opsets")


def test_the_difference_as_text() -> None:
    before = [node("Relu", f"v{i}", f"v{i + 1}") for i in range(9)]
    after = [*before[:8], node("Relu", "v8", "y", alpha=0.1)]
    lines = sidebyside.render(compare(content(*before), content(*after))).splitlines()
    assert lines[-8:] == [
        "nodes: 8 equal, 1 changed", "  (6 equal nodes)", "  Relu", "  Relu", "~ Relu",
        "    - (v8) -> v9", "    + (v8) -> y", "    + alpha=0.1",
    ]  # fmt: skip
    counted = sidebyside.render(compare(content(*before), content(*after)), nodes=False)
    assert counted.endswith("nodes: 8 equal, 1 changed")


def test_one_file_as_text() -> None:
    inner = node("Add", "a b", "c").model_copy(update={"depth": 1})
    value = {"dtype": "int64", "shape": [2], "sha256": "1", "values": [-1, 5]}
    shown = text.render(
        content(
            node("If", "x", "y", then_branch={"graph": "then", "nodes": 1}),
            inner,
            node("Constant", "", "c", value=value, mode="linear", ratio=0.30000001192092896),
            initializers=[weight(external="a.data", also_input=True)],
            metadata={"key": "value"},
            functions=[function(node("Relu"))],
        )
    )
    assert shown.splitlines() == [
        "file        a.onnx (1 kB)", "ir_version  8", "producer    pytorch 2.15.0",
        "graph       main_graph", "opsets      ai.onnx 17", "functions   pkg::f (1 nodes)", "",
        "inputs: 1", "  x  float32  [batch, 3]", "",
        "outputs: 1", "  y  float32  [batch, ?]", "",
        "initializers: 1, 6 numbers, 24 B",
        "  w  float32  [2, 3]  24 B in a.data also an input", "",
        "operators: 3 nodes, 1 of them in subgraphs, 1 of them in functions",
        "  If        1", "  Add       1", "  Constant  1", "",
        "metadata: 1", "  key  value", "",
        "nodes",
        "    1 If", "        (x) -> y", "        then_branch=graph then of 1 nodes",
        "    2   Add", "          (a, b) -> c",
        "    3 Constant", "        () -> c",
        '        value=int64[2] [-1, 5], mode="linear", ratio=0.3', "",
        "function pkg::f", "  (a) -> b", "  opsets ai.onnx 17", "    1 Relu", "        (x) -> y",
    ]  # fmt: skip


def test_long_lines_break_between_names_and_names_stay_whole() -> None:
    names = [f"/backbone/layer{i}/downsample/downsample.1/BatchNormalization_out" for i in range(4)]
    crowded = node("Concat").model_copy(update={"inputs": names, "name": names[0]})
    tensors = [weight(name=name * 2) for name in names]
    lines = text.render(content(crowded, initializers=tensors)).splitlines()
    assert all(len(line) <= 80 or " " not in line.strip() for line in lines)
    assert all(any(name in line for line in lines) for name in names)
    long = node(
        "Reshape", "/features/features.5/Relu_output_0 /Concat_output_0", "/Reshape_output_0"
    )
    pair = content(long), content(long.model_copy(update={"outputs": ["y"]}))
    shown = sidebyside.render(compare(*pair)).splitlines()
    assert all(len(line) <= 80 for line in shown)
    assert len(text.literal(list(range(1000)))) < 60


def test_what_a_file_says_that_it_was_verified_on_is_readable() -> None:
    words = Verified.of(verified_on()).words()
    shown = text.render(content(node("Relu"), metadata={KEY: words, "key": "value"}))
    assert shown.split("\n\n")[-3:-1] == [
        "verified by the converter, as the file says\n"
        "  size of batch  1–3, 5, 7, 8\n"
        "  input image    -41.5 to 38: normal; large\n"
        "  never reached\n"
        "    head.py:41 `if T > 16` (true)",
        "metadata: 1\n  key  value",
    ]
    assert "metadata" not in text.render(content(metadata={KEY: words}))
    foreign = text.render(content(node("Relu"), metadata={KEY: "yes"}))
    assert f"metadata: 1\n  {KEY}  yes" in foreign


def test_control_characters_of_a_stranger_are_not_printed() -> None:
    hostile = "a\x1b[2Jb\nc"
    shown = text.render(
        content(node(hostile, "x", "y"), graph=hostile, metadata={hostile: hostile})
    )
    assert "\x1b" not in shown
    assert "a\\x1b[2Jb\\nc" in shown
    assert "\x1b" not in sidebyside.render(compare(content(node(hostile)), content()))
