"""The difference of two ONNX files, as lines of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from converter.display.columns import shorten
from converter.inspection import text
from converter.inspection.content import Content
from converter.inspection.difference import Difference, FunctionPair, NodePair, Values
from converter.model.units import size

_CONTEXT = 2  # equal nodes that are shown on each side of others
_MARKS = {"equal": " ", "changed": "~", "removed": "-", "added": "+"}
# A mark, and two spaces before each of the others: 80 in all.
_COLUMNS = (30, 22, 22)  # of a label, before and after, at most


def render(difference: Difference, nodes: bool = True) -> str:
    """What two files share and what they do not; ``nodes``: with the nodes lined up."""
    parts = [
        _facts(difference.before, difference.after),
        _operators(difference),
        _values("inputs", difference.inputs),
        _values("outputs", difference.outputs),
        _values("initializers", difference.initializers),
        [_count(difference.nodes), *(_nodes(difference.nodes) if nodes else ())],
        *(_function(pair, nodes) for pair in difference.functions),
        _verdict(difference),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _verdict(difference: Difference) -> list[str]:
    """What the lists do not say: that all is equal, or what else differs or was not compared."""
    said = []
    listed = "ir_version, opsets, values, nodes and functions"
    others = ", ".join(difference.elsewhere)
    if difference.equal:
        said.append("The two files are equal: opsets, values, nodes and all else that they hold.")
    elif difference.alike and others:
        said.append(
            f"No difference in {listed}, but the files are not equal. What differs: {others}."
        )
    elif difference.alike:
        said.append(f"No difference in {listed}, but not everything was compared.")
    elif others:
        said.append(f"What differs too, but is not listed above: {others}.")
    said += [
        f"Not compared: external data of {text.plain(content.file)}: {text.plain(f'{file} {why}')}."
        for content in (difference.before, difference.after)
        for file, why in content.unread.items()
    ]
    # Both files may name one file of external data: said once.
    return [line for each in dict.fromkeys(said) for line in text.wrap(each, "", "")]


def _facts(before: Content, after: Content) -> list[str]:
    opsets = {**before.opsets, **after.opsets}
    metadata = (str(len(before.metadata)), str(len(after.metadata)))
    rows = [
        ("size", size(before.bytes), size(after.bytes)),
        ("ir_version", str(before.ir_version), str(after.ir_version)),
        ("producer", before.producer, after.producer),
        ("graph", before.graph, after.graph),
        *(
            (f"opset {name}", str(before.opsets.get(name, "-")), str(after.opsets.get(name, "-")))
            for name in opsets
        ),
        *([] if opsets else [("opsets", "none", "none")]),
        *([("metadata", *metadata)] if metadata != ("0", "0") else []),
        ("nodes", str(len(before.nodes)), str(len(after.nodes))),
        *_functions(before, after),
        ("initializers", str(len(before.initializers)), str(len(after.initializers))),
        ("their numbers", f"{before.parameters:,}", f"{after.parameters:,}"),
    ]
    return [f"- {text.plain(before.file)}", f"+ {text.plain(after.file)}", "", *_table(rows)]


def _functions(before: Content, after: Content) -> list[tuple[str, str, str]]:
    sides = [before.functions, after.functions]
    if not any(sides):
        return []
    bodies = [sum(len(function.nodes) for function in side) for side in sides]
    return [
        ("functions", str(len(sides[0])), str(len(sides[1]))),
        ("their nodes", str(bodies[0]), str(bodies[1])),
    ]


def _operators(difference: Difference) -> list[str]:
    rows = [(op, str(before), str(after)) for op, (before, after) in difference.ops.items()]
    return ["operators, in subgraphs and functions too", *_table(rows)]


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
    before, after = (
        [text.tensor(value) for value in part] for part in (values.removed, values.added)
    )
    rows = [
        # The same text on both sides: only the hashes of the values differ, and nobody reads those.
        (f"{sign} {cell[0]}", *cell[1:-1], cell[-1] + (", other values" if cell in others else ""))
        for sign, cells, others in (("-", before, after), ("+", after, before))
        for cell in cells
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
        # A line that says that one is hidden takes as much room as that one.
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
        before, after = (text.describe(node, "  ") for node in (pair.before, pair.after))
        # Long lists are shown in part, as `text.literal` cuts them: the rest may differ.
        changed = _changed(before, after) or ["    numbers or text that are not shown differ"]
        return [f"{mark} {text.plain(pair.after.op)}", *changed]
    node = pair.before or pair.after
    assert node is not None
    # An equal node is there to show the place: its first line does.
    lines = text.describe(node, f"{mark} ")
    return [lines[0], *(f"{mark} {line[2:]}" for line in lines[1:])] if mark != " " else lines[:1]


def _changed(before: list[str], after: list[str]) -> list[str]:
    """The lines that only one side has."""
    signed = [("-", line) for line in before if line not in after]
    signed += [("+", line) for line in after if line not in before]
    return [
        part
        for sign, line in signed
        for part in text.wrap(line.strip(), f"    {sign} ", f"    {sign}   ")
    ]


def _function(pair: FunctionPair, nodes: bool) -> list[str]:
    """One local function: its head, and its nodes lined up like those of the graph."""
    mark = _MARKS[pair.kind]
    if pair.before is not None and pair.after is not None:
        before, after = (text.signature(one) for one in (pair.before, pair.after))
        lines = [f"{mark} function {text.plain(pair.after.name)}", *_changed(before, after)]
        if pair.kind == "equal":
            return [f"{lines[0].strip()}: equal, {len(pair.nodes)} nodes"]
        return [*lines, f"  {_count(pair.nodes)}", *(_nodes(pair.nodes) if nodes else ())]
    function = pair.before or pair.after
    assert function is not None
    lines = text.signature(function)
    if nodes:
        lines += [line for node in function.nodes for line in text.describe(node, "  ")]
    return [f"{mark} {line}" for line in lines]
