"""Two ONNX files beside each other: what is equal, what only one of them has.

Values are compared by name. A node is equal when its operator, attributes, inputs and outputs
are; its own name does not matter. So two exporters, which choose other names for values, differ
nearly everywhere but in their operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

from pydantic import SerializeAsAny

from converter.inspection.content import Content, Initializer, Node
from converter.job import TensorInfo
from converter.spec import Frozen


class Values(Frozen):
    """Inputs, outputs or initializers: names of the equal ones, the others of each side.

    Attributes:
        unread: equal names, types and shapes; of external data, the numbers were not compared.
    """

    equal: list[str]
    unread: list[str]
    removed: list[SerializeAsAny[TensorInfo]]
    added: list[SerializeAsAny[TensorInfo]]


class NodePair(Frozen):
    """One line of the alignment.

    Attributes:
        kind: ``changed``: the same operator in the same place, other ends or attributes.
        before, after: ``None`` on the side that lacks the node.
    """

    kind: Literal["equal", "changed", "removed", "added"]
    before: Node | None = None
    after: Node | None = None


class Difference(Frozen):
    """Attributes: ops: operator → count before and after."""

    before: Content
    after: Content
    equal: bool
    ops: dict[str, tuple[int, int]]
    inputs: Values
    outputs: Values
    initializers: Values
    nodes: list[NodePair]


def compare(before: Content, after: Content) -> Difference:
    """Line up two files."""
    ops = sorted({*before.ops, *after.ops}, key=lambda op: (-before.ops.get(op, 0), op))
    nodes = align(before.nodes, after.nodes)
    inputs = _values(before.inputs, after.inputs)
    outputs = _values(before.outputs, after.outputs)
    initializers = _values(before.initializers, after.initializers)
    same_values = not any(
        part.removed or part.added or part.unread for part in (inputs, outputs, initializers)
    )
    heads = [
        content.model_dump(include={"ir_version", "opsets", "functions"})
        for content in (before, after)
    ]
    return Difference(
        before=before,
        after=after,
        equal=same_values and heads[0] == heads[1] and all(pair.kind == "equal" for pair in nodes),
        ops={op: (before.ops.get(op, 0), after.ops.get(op, 0)) for op in ops},
        inputs=inputs,
        outputs=outputs,
        initializers=initializers,
        nodes=nodes,
    )


def _values(before: Sequence[TensorInfo], after: Sequence[TensorInfo]) -> Values:
    others = {value.name: value for value in after}
    equal: list[str] = []
    unread: list[str] = []
    gone: list[TensorInfo] = []
    for value in before:
        other = others.get(value.name)
        if other is None or _differ(value, other):
            gone.append(value)
            continue
        del others[value.name]
        (unread if _is_unread(value) or _is_unread(other) else equal).append(value.name)
    return Values(equal=equal, unread=unread, removed=gone, added=list(others.values()))


def _differ(one: TensorInfo, other: TensorInfo) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return True
    if not isinstance(one, Initializer) or not isinstance(other, Initializer):
        return False
    read = one.sha256 is not None and other.sha256 is not None
    return one.also_input != other.also_input or (read and one.sha256 != other.sha256)


def _is_unread(value: TensorInfo) -> bool:
    return isinstance(value, Initializer) and value.sha256 is None


def align(before: Sequence[Node], after: Sequence[Node]) -> list[NodePair]:
    """Pair the nodes of two files, in order: first the equal ones, between them by operator."""
    pairs = []
    for tag, i, j, k, m in _matches([_whole(n) for n in before], [_whole(n) for n in after]):
        if tag == "equal":
            pairs += [
                NodePair(kind="equal", before=one, after=other)
                for one, other in zip(before[i:j], after[k:m], strict=True)
            ]
        else:
            pairs += _by_operator(before[i:j], after[k:m])
    return pairs


def _by_operator(before: Sequence[Node], after: Sequence[Node]) -> list[NodePair]:
    pairs = []
    for tag, i, j, k, m in _matches([_place(n) for n in before], [_place(n) for n in after]):
        if tag == "equal":
            pairs += [
                NodePair(kind="changed", before=one, after=other)
                for one, other in zip(before[i:j], after[k:m], strict=True)
            ]
            continue
        pairs += [NodePair(kind="removed", before=node) for node in before[i:j]]
        pairs += [NodePair(kind="added", after=node) for node in after[k:m]]
    return pairs


def _whole(node: Node) -> str:
    return repr(node.model_dump(exclude={"name"}))


def _place(node: Node) -> str:
    return f"{node.depth} {node.op}"


def _matches(before: list[str], after: list[str]) -> Sequence[tuple[str, int, int, int, int]]:
    return SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
