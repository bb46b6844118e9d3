"""Two ONNX files beside each other: what is equal, what only one of them has.

Values and functions are compared by name. A node is equal when its operator, attributes, inputs
and outputs are; its own name does not matter here. So two exporters, which choose other names for
values, differ nearly everywhere but in their operators. What is not listed (doc strings, names of
nodes, types of inner values) is compared as a whole, part by part.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, Literal

from pydantic import SerializeAsAny

from converter.inspection.content import INTERFACE, REST, Content, Function, Initializer, Node
from converter.model.base import Frozen
from converter.model.records import TensorInfo


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


class FunctionPair(Frozen):
    """One local function.

    Attributes:
        kind: ``changed``: its ends, attributes, opsets or nodes.
        before, after: ``None`` on the side that lacks the function.
        nodes: lined up, of a function that both sides have.
    """

    kind: Literal["equal", "changed", "removed", "added"]
    before: Function | None = None
    after: Function | None = None
    nodes: list[NodePair]


class Difference(Frozen):
    """All that was compared.

    Attributes:
        equal: everything was compared, and nothing differs but how tensors are stored and the
            order of what is found by name.
        alike: nothing differs of what is listed: ir_version, opsets, values, nodes, functions.
        elsewhere: parts that are not listed and differ.
        ops: operator → count before and after.
    """

    before: Content
    after: Content
    equal: bool
    alike: bool
    elsewhere: list[str]
    ops: dict[str, tuple[int, int]]
    inputs: Values
    outputs: Values
    initializers: Values
    nodes: list[NodePair]
    functions: list[FunctionPair]


def compare(before: Content, after: Content) -> Difference:
    """Line up two files."""
    ops = sorted({*before.ops, *after.ops}, key=lambda op: (-before.ops.get(op, 0), op))
    nodes = align(before.nodes, after.nodes)
    functions = _functions(before.functions, after.functions)
    inputs = _values(before.inputs, after.inputs)
    outputs = _values(before.outputs, after.outputs)
    initializers = _values(before.initializers, after.initializers)
    alike = (
        (before.ir_version, before.opsets) == (after.ir_version, after.opsets)
        and not any(part.removed or part.added for part in (inputs, outputs, initializers))
        and all(pair.kind == "equal" for pair in nodes)
        and all(pair.kind == "equal" for pair in functions)
    )
    elsewhere = [
        part
        for part in sorted({*before.parts, *after.parts})
        if before.parts.get(part) != after.parts.get(part)
        and (alike or part not in (INTERFACE, REST))  # else a list above may be all of it
    ]
    # External data that was not read may differ: such files are alike, never equal.
    compared = not (before.unread or after.unread or initializers.unread)
    return Difference(
        before=before,
        after=after,
        equal=alike and compared and not elsewhere,
        alike=alike,
        elsewhere=elsewhere,
        ops={op: (before.ops.get(op, 0), after.ops.get(op, 0)) for op in ops},
        inputs=inputs,
        outputs=outputs,
        initializers=initializers,
        nodes=nodes,
        functions=functions,
    )


def _functions(before: Sequence[Function], after: Sequence[Function]) -> list[FunctionPair]:
    # A name has domain and overload in it, and ONNX wants it to be unique: unlike values.
    others = {function.name: function for function in after}
    pairs = []
    for function in before:
        other = others.pop(function.name, None)
        if other is None:
            pairs.append(FunctionPair(kind="removed", before=function, nodes=[]))
            continue
        nodes = align(function.nodes, other.nodes)
        same = _whole(function) == _whole(other) and all(pair.kind == "equal" for pair in nodes)
        kind: Literal["equal", "changed"] = "equal" if same else "changed"
        pairs.append(FunctionPair(kind=kind, before=function, after=other, nodes=nodes))
    return pairs + [FunctionPair(kind="added", after=other, nodes=[]) for other in others.values()]


def _values(before: Sequence[TensorInfo], after: Sequence[TensorInfo]) -> Values:
    others: defaultdict[str, deque[TensorInfo]] = defaultdict(deque)  # names may come twice
    for value in after:
        others[value.name].append(value)
    equal: list[str] = []
    unread: list[str] = []
    gone: list[TensorInfo] = []
    for value in before:
        same = others[value.name]
        if not same or _differ(value, same[0]):
            gone.append(value)
            continue
        other = same.popleft()
        (unread if _is_unread(value) or _is_unread(other) else equal).append(value.name)
    added = [value for same in others.values() for value in same]
    return Values(equal=equal, unread=unread, removed=gone, added=added)


def _differ(one: TensorInfo, other: TensorInfo) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return True
    if not isinstance(one, Initializer) or not isinstance(other, Initializer):
        return False
    read = one.sha256 is not None and other.sha256 is not None
    kinds = (one.also_input, one.stored), (other.also_input, other.stored)
    return kinds[0] != kinds[1] or (read and one.sha256 != other.sha256)


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


def _whole(part: Node | Function) -> str:
    # As text: SequenceMatcher needs what can be hashed, and lists cannot be.
    # The names of nodes carry no meaning. Of a function the name has made the pair, and the nodes
    # are lined up by themselves.
    fields = part.model_dump(exclude={"name", "nodes", "attributes"})
    return repr((fields, {name: _meant(value) for name, value in part.attributes.items()}))


def _meant(value: Any) -> Any:
    """Of a tensor in an attribute what does not depend on how it is stored."""
    if isinstance(value, list):
        return [_meant(item) for item in value]
    if isinstance(value, dict) and value.get("sha256"):
        return {key: value.get(key) for key in ("dtype", "shape", "sha256", "stored")}
    return value


def _place(node: Node) -> str:
    # With the depth: a node of a branch is no partner for one outside of it.
    return f"{node.depth} {node.op}"


def _matches(before: list[str], after: list[str]) -> Sequence[tuple[str, int, int, int, int]]:
    # difflib takes what is frequent in a long list, as Conv is, for junk that aligns nothing.
    return SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
