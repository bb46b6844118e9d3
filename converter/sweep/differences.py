"""What a model does at the points of a sweep: where it differs, and where it repeats itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from converter.display import summary
from converter.model import units
from converter.sweep.record import Cell, Sweep, SweepModel

_AS_EXPECTED = (*summary.EXPECTED, "absent", "not_run")
# Two medians of the same file differ by as much on a machine that has other work, too.
_NOISE = 0.1


@dataclass(frozen=True)
class Shown:
    """A cell as the page shows it.

    Attributes:
        kind: good, bad or other.
        same_as: the first point that came to the same; empty: this cell says it in full.
        facts: lines below the status, and whether the first point had another one in its place.
        pinned: what the model states itself, such as ``opset 17``.
    """

    cell: Cell
    kind: str
    same_as: str
    facts: list[tuple[str, bool]]
    pinned: str


@dataclass(frozen=True)
class Line:
    """A model: ``changes`` says whether any two of its cells differ."""

    model: SweepModel
    cells: list[Shown]

    @property
    def changes(self) -> bool:
        return sum(not each.same_as for each in self.cells) > 1

    @property
    def wrong(self) -> bool:
        return any(each.kind == "bad" for each in self.cells)

    @property
    def pinned(self) -> bool:
        return any(each.pinned for each in self.cells)


def lines(sweep: Sweep) -> list[Line]:
    """The models: what changes between points first, then in their order."""
    # Of a point without a run there is nothing to compare; its line among the points says why.
    ran = {point.name for point in sweep.points if point.manifest is not None}
    found = [
        Line(model, _shown([cell for cell in model.cells if cell.point in ran], sweep.sweep.keys))
        for model in sweep.models
    ]
    return sorted(found, key=lambda line: not line.changes)


def _shown(cells: Sequence[Cell], keys: Sequence[str]) -> list[Shown]:
    shown: list[Shown] = []
    different: list[Cell] = []
    for cell in cells:
        same = next((each for each in different if _same(each, cell, keys)), None)
        if same is None:
            different.append(cell)
        facts = _facts(cell) if same is None else _latency(cell)
        news = _news(different[0], cell) if same is None else ()
        shown.append(
            Shown(
                cell,
                _kind(cell),
                same.point if same else "",
                [(text, key in news) for key, text in facts.items() if text],
                ", ".join(f"{key} {value}" for key, value in cell.pinned.items()),
            )
        )
    return shown


def _kind(cell: Cell) -> str:
    if cell.status == "ok":
        return "good"
    return "other" if cell.status in _AS_EXPECTED else "bad"


def _same(one: Cell, other: Cell, keys: Sequence[str]) -> bool:
    """Whether two cells differ in nothing but what was swept."""
    # Where the model states it itself, it was not swept: the value is what counts.
    moved = {key for key in keys if key not in one.pinned and key not in other.pinned}
    return _essence(one, moved) == _essence(other, moved) and _as_fast(one, other)


def _essence(cell: Cell, moved: Collection[str]) -> list[object]:
    facts = {key: text for key, text in _facts(cell).items() if key not in ("made", "latency")}
    made = [getattr(cell, key) for key in ("opset", "exporter") if key not in moved]
    return [cell.status, cell.code, facts, made]


def _news(first: Cell, cell: Cell) -> set[str]:
    """The facts of a cell that are not those of the first point, for reasons worth a look."""
    before = _facts(first)
    told = {key for key, text in _facts(cell).items() if key != "made" and text != before[key]}
    return told - ({"latency"} if _as_fast(first, cell) else set())


def _as_fast(one: Cell, other: Cell) -> bool:
    if one.p50_ms is None or other.p50_ms is None:
        return True  # what was timed at one point alone differs in nothing
    return abs(one.p50_ms - other.p50_ms) <= _NOISE * max(one.p50_ms, other.p50_ms)


def _facts(cell: Cell) -> dict[str, str]:
    """What a cell says below its status, by what it is."""
    stored = ", from the store" if cell.cached else ""
    has_file = cell.nodes is not None and cell.bytes is not None
    nodes = "node" if cell.nodes == 1 else "nodes"
    return {
        "stage": f"in {cell.stage}" if cell.stage else "",
        "made": f"opset {cell.opset}, {cell.exporter}{stored}" if has_file else "",
        "file": f"{cell.nodes} {nodes}, {units.size(cell.bytes or 0)}" if has_file else "",
        "error": "" if cell.max_abs is None else f"error {cell.max_abs:.1e}",
        **_latency(cell),
        "reason": "" if cell.status == "not_run" else cell.reason,
    }


def _latency(cell: Cell) -> dict[str, str]:
    found = "" if cell.p50_ms is None else f"{cell.p50_ms:.3g} ms, {cell.provider}"
    return {"latency": found}
