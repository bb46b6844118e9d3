"""What an ONNX file holds, as lines of 80 columns. A name is never cut: people copy them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from converter.display.columns import WIDTH
from converter.inspection.content import Content, Function, Initializer, Node
from converter.model.dims import sentence
from converter.model.records import Domain, TensorInfo
from converter.model.units import size
from converter.model.verified import KEY, Verified, extent, read, sizes

_MOST = 12  # numbers of a list that are shown
_LABEL = 24


def render(content: Content, nodes: bool = True) -> str:
    """A whole file; ``nodes``: with the list of its nodes."""
    parts = [facts(content), _values("inputs", content.inputs), _values("outputs", content.outputs)]
    if content.initializers:
        total = size(sum(value.bytes for value in content.initializers))
        head = f"initializers: {len(content.initializers)}, {content.parameters:,} numbers, {total}"
        parts.append([head, *columns([tensor(value) for value in content.initializers])])
    parts.append([f"operators: {_covered(content)}", *columns(_histogram(content.ops))])
    said = read(content.metadata.get(KEY, ""))
    if said is not None:
        parts.append(["verified by the converter, as the file says", *verified(said)])
    rows = [(plain(k), plain(v)) for k, v in content.metadata.items() if said is None or k != KEY]
    if rows:
        parts.append([f"metadata: {len(rows)}", *columns(rows)])
    if nodes:
        parts.append(["nodes", *_numbered(content.nodes)])
        parts += [[*signature(each), *_numbered(each.nodes)] for each in content.functions]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _covered(content: Content) -> str:
    """What the operators are counted in."""
    inner = sum(node.depth > 0 for node in content.nodes)
    bodies = sum(len(function.nodes) for function in content.functions)
    counts = [f"{sum(content.ops.values())} nodes"]
    counts += [f"{inner} of them in subgraphs"] if inner else []
    counts += [f"{bodies} of them in functions"] if bodies else []
    return ", ".join(counts)


def _numbered(nodes: Sequence[Node]) -> Iterator[str]:
    for number, node in enumerate(nodes, 1):
        yield from describe(node, f"{number:>5} ")


def facts(content: Content) -> list[str]:
    """What stands in the head of the file."""
    rows = [
        ("file", f"{plain(content.file)} ({size(content.bytes)})"),
        ("ir_version", str(content.ir_version)),
        ("producer", plain(content.producer) or "not stated"),
        ("graph", plain(content.graph) or "not named"),
        ("opsets", opsets(content.opsets)),
    ]
    if content.functions:
        listed = [f"{plain(each.name)} ({len(each.nodes)} nodes)" for each in content.functions]
        rows.append(("functions", ", ".join(listed)))
    width = max(len(label) for label, _ in rows) + 2
    return [line for label, text in rows for line in wrap(text, label.ljust(width), " " * width)]


def _values(title: str, values: Sequence[TensorInfo]) -> list[str]:
    return [f"{title}: {len(values)}", *columns([tensor(value) for value in values])]


def tensor(value: TensorInfo) -> tuple[str, ...]:
    """Name, dtype and shape, symbols by name and ``?`` where nothing is known; size if stored."""
    shape = ", ".join("?" if dim is None else plain(str(dim)) for dim in value.shape)
    untyped = value.dtype == "unknown" and not value.shape  # its rank is not known either
    cells = (plain(value.name), value.dtype, "" if untyped else f"[{shape}]")
    if not isinstance(value, Initializer):
        return cells
    notes = [f"in {plain(value.external)}"] if value.external else []
    notes += ["also an input"] if value.also_input else []
    notes += [f"sparse, {value.stored:,} stored values"] if value.stored is not None else []
    return (*cells, " ".join([size(value.bytes), *notes]))


def verified(said: Verified) -> list[str]:
    """On what a file was verified: a line for each symbol and input, one for each branch."""
    rows = [("sizes", sentence(symbol, told)) for symbol, told in said.dims.items()]
    rows += [(f"size of {plain(symbol)}", sizes(found)) for symbol, found in said.sizes.items()]
    rows += [
        (f"input {plain(name)}", f"{extent(held.low, held.high)}: {'; '.join(held.patterns)}")
        for name, held in said.values.items()
    ]
    width = min(max((len(label) for label, _ in rows), default=0), _LABEL) + 2
    lines = [
        line
        for label, told in rows
        for line in wrap(plain(told), f"  {label.ljust(width)}", " " * (width + 2))
    ]
    if said.unreached:
        lines.append("  never reached")
    return lines + [
        line for branch in said.unreached for line in wrap(plain(branch), "    ", "      ")
    ]


def domain(found: Domain) -> list[str]:
    """The same of a row, with what limits it: sizes without an answer, cases left out."""
    refused = [f"{each.symbol} = {sizes(each.refused)}" for each in found.symbols if each.refused]
    parts = {
        "limit": found.limits,
        "nothing to compare": refused,
        "left out": found.left_out,
        "dropped": found.dropped,
    }
    return verified(Verified.of(found)) + [
        line
        for title, listed in parts.items()
        if listed
        for line in wrap(f"{title}: {'; '.join(listed)}", "  ", "    ")
    ]


def _histogram(ops: dict[str, int]) -> list[tuple[str, ...]]:
    return [(plain(op), str(count)) for op, count in ops.items()]


def opsets(versions: dict[str, int]) -> str:
    """Domain and version of each, in one line."""
    return ", ".join(f"{plain(name)} {n}" for name, n in versions.items()) or "none"


def signature(function: Function) -> list[str]:
    """The lines of a local function's head: what it takes, gives and stands on."""
    attributes = [
        plain(key) + ("" if default is None else f"={literal(default)}")
        for key, default in function.attributes.items()
    ]
    return [
        *wrap(f"function {plain(function.name)}", "", "  "),
        *wrap(_ends(function), "  ", "    "),
        *wrap(f"attributes {', '.join(attributes)}" if attributes else "", "  ", "    "),
        *wrap(f"opsets {opsets(function.opsets)}", "  ", "    "),
    ]


def describe(node: Node, lead: str) -> list[str]:
    """The lines of one node: operator and name, what goes in and out, attributes."""
    indent = " " * len(lead) + "  " * node.depth
    first = f"{lead}{'  ' * node.depth}"
    attributes = ", ".join(f"{plain(key)}={literal(item)}" for key, item in node.attributes.items())
    return [
        *wrap(f"{plain(node.op)}  {plain(node.name)}".rstrip(), first, indent),
        *wrap(_ends(node), f"{indent}  ", f"{indent}    "),
        *wrap(attributes, f"{indent}  ", f"{indent}  "),
    ]


def _ends(part: Node | Function) -> str:
    return f"({', '.join(map(plain, part.inputs))}) -> {', '.join(map(plain, part.outputs))}"


def literal(item: Any) -> str:
    """An attribute's value in one line."""
    if isinstance(item, list):
        shown = ", ".join(literal(part) for part in item[:_MOST])
        # The number of all tells two lists apart that begin alike.
        return f"[{shown}{f', … {len(item)} in all' if len(item) > _MOST else ''}]"
    if isinstance(item, dict) and "graph" in item:
        return f"graph {plain(item['graph'])} of {item['nodes']} nodes"
    if isinstance(item, dict):
        return f"{item['dtype']}{item['shape']}{_held(item)}"
    if isinstance(item, float):
        return f"{item:.7g}"  # a float32 has no more digits
    return f'"{plain(item)}"' if isinstance(item, str) else str(item)


def _held(tensor: dict[str, Any]) -> str:
    """Values of a tensor in an attribute, or by what they can be told from others."""
    if "values" in tensor:
        return f" {literal(tensor['values'])}"
    sparse = "" if tensor.get("stored") is None else f" sparse, {tensor['stored']} stored values"
    if tensor["sha256"] is None:
        return f"{sparse} in {plain(tensor['external'])}"
    return f"{sparse} sha256 {tensor['sha256'][:8]}"


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Cells below each other; a row with a cell that is too long breaks where a cell ends."""
    table = list(rows)
    if not table:
        return []
    # The last cell ends the line: it needs no width.
    lasts = len(table[0]) - 1
    # A name may be longer than a line. Without a limit one of them would break all other rows.
    widths = [min(max(len(row[i]) for row in table), 40 - 12 * (i > 0)) for i in range(lasts)]
    lines = []
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        line = f"  {'  '.join([*cells, row[-1]])}".rstrip()
        lines += [line] if len(line) <= WIDTH else wrap("  ".join(row), "  ", "      ")
    return lines


def wrap(text: str, first: str, rest: str, width: int = WIDTH) -> list[str]:
    """Lines of at most ``width`` columns, but for a name that is longer."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def plain(text: str) -> str:
    """A name from a stranger's file, safe for a terminal."""
    # Escaped, where `model.plaintext` drops or replaces: names that differ must look different.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
