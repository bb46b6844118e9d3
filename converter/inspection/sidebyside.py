"""The difference of two ONNX files, as lines of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from converter.inspection import text
from converter.inspection.content import Content, Node
from converter.inspection.difference import Difference, NodePair, Values
from converter.run.columns import shorten
from converter.run.summary import size

_CONTEXT = 2  # equal nodes that are shown on each side of others
_MARKS = {"equal": " ", "changed": "~", "removed": "-", "added": "+"}
_COLUMNS = (30, 22, 22)  # of a label, before and after, at most


def render(difference: Difference, nodes: bool = True) -> str:
    """What two files share and what they do not; ``nodes``: with the nodes lined up."""
    parts = [
        _facts(difference.before, difference.after),
        _operators(difference),
        _values("inputs", difference.inputs),
        _values("outputs", difference.outputs),
        _values("initializers", difference.initializers),
        [_count(difference.nodes)],
    ]
    if nodes:
        parts[-1] += _nodes(difference.nodes)
    if difference.equal:
        parts.append(["The two files are equal: opsets, values, nodes."])
    return "\n\n".join("\n".join(lines) for lines in parts)


def _facts(before: Content, after: Content) -> list[str]:
    opsets = {**before.opsets, **after.opsets}
    rows = [
        ("size", size(before.bytes), size(after.bytes)),
        ("ir_version", str(before.ir_version), str(after.ir_version)),
        ("producer", before.producer, after.producer),
        ("graph", before.graph, after.graph),
        *(
            (f"opset {name}", str(before.opsets.get(name, "-")), str(after.opsets.get(name, "-")))
            for name in opsets
        ),
        ("nodes", str(len(before.nodes)), str(len(after.nodes))),
        ("initializers", str(len(before.initializers)), str(len(after.initializers))),
        ("their numbers", f"{before.parameters:,}", f"{after.parameters:,}"),
    ]
    return [f"- {text.plain(before.file)}", f"+ {text.plain(after.file)}", "", *_table(rows)]


def _operators(difference: Difference) -> list[str]:
    rows = [(op, str(before), str(after)) for op, (before, after) in difference.ops.items()]
    return ["operators", *_table(rows)]


def _table(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Label, before, after; a star where the two differ."""
    cells = [[text.plain(cell) for cell in row] for row in [("", "before", "after"), *rows]]
    widths = [min(max(len(row[i]) for row in cells), _COLUMNS[i]) for i in range(3)]
    lines = []
    for number, row in enumerate(cells):
        name, before, after = (
            shorten(cell, width) for cell, width in zip(row, widths, strict=True)
        )
        mark = "*" if number and row[1] != row[2] else " "
        lines.append(
            f"{mark} {name:<{widths[0]}}  {before:>{widths[1]}}  {after:>{widths[2]}}".rstrip()
        )
    return lines


def _values(title: str, values: Values) -> list[str]:
    counts = [f"{len(values.equal)} equal"]
    if values.unread:
        counts.append(f"{len(values.unread)} alike, but their external data was not compared")
    counts += [
        f"{len(part)} {word}"
        for part, word in ((values.removed, "removed"), (values.added, "added"))
        if part
    ]
    signed = [("-", values.removed), ("+", values.added)]
    rows = [
        (f"{sign} {cell[0]}", *cell[1:]) for sign, part in signed for cell in map(text.tensor, part)
    ]
    return [f"{title}: {', '.join(counts)}", *(line[2:] for line in text.columns(rows))]


def _count(pairs: Sequence[NodePair]) -> str:
    kinds = [pair.kind for pair in pairs]
    listed = [f"{kinds.count(kind)} {kind}" for kind in _MARKS if kind in kinds]
    return f"nodes: {', '.join(listed) or 'none'}"


def _nodes(pairs: Sequence[NodePair]) -> Iterator[str]:
    """Every node that is not equal, with a few equal ones around it."""
    groups = [(kind, list(group)) for kind, group in groupby(pairs, lambda pair: pair.kind)]
    for position, (kind, group) in enumerate(groups):
        if kind != "equal":
            for pair in group:
                yield from _node(pair)
            continue
        head = _CONTEXT if position else 0
        tail = _CONTEXT if position + 1 < len(groups) else 0
        hidden = len(group) - head - tail
        if hidden <= 1:
            head, tail, hidden = len(group), 0, 0
        for pair in group[:head]:
            yield from _node(pair)
        if hidden:
            yield f"  ({hidden} equal nodes)"
        for pair in group[len(group) - tail :]:
            yield from _node(pair)


def _node(pair: NodePair) -> list[str]:
    mark = _MARKS[pair.kind]
    if pair.before is not None and pair.after is not None and pair.kind == "changed":
        before, after = (_lines(node, "  ") for node in (pair.before, pair.after))
        shared = [line for line in before if line in after]
        return [
            f"{mark} {text.plain(pair.after.op)}",
            *(f"    - {line.strip()}" for line in before if line not in shared),
            *(f"    + {line.strip()}" for line in after if line not in shared),
        ]
    node = pair.before or pair.after
    assert node is not None
    lines = _lines(node, f"{mark} ")
    return [lines[0], *(f"{mark} {line[2:]}" for line in lines[1:])] if mark != " " else lines[:1]


def _lines(node: Node, lead: str) -> list[str]:
    return text.describe(node, lead)
