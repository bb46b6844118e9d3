"""A corpus of modules with a planted fault, and of sound twins, drawn by a seeded generator.

Each file has the templates of one kind; a template draws a plant and its twin.
"""

from __future__ import annotations

from itertools import count

from corpus import (
    edges,
    frozen,
    interface,
    limits,
    masks,
    padding,
    reports,
    sizes,
    state,
    tables,
    values,
)  # fmt: skip
from corpus.module import Draw, Module, Template, pair

KINDS: dict[str, tuple[Template, ...]] = {
    "size": sizes.FAMILY + reports.SIZES,
    "limit": limits.FAMILY + reports.LIMITS,
    "table": tables.FAMILY + reports.TABLES,
    "padding": padding.FAMILY + reports.PADDING,
    "mask": masks.FAMILY + reports.MASKS,
    "value": values.FAMILY + reports.VALUES,
    "edge": edges.FAMILY + reports.EDGES,
    "frozen": frozen.FAMILY + reports.FROZEN,
    "state": state.FAMILY,
    "interface": interface.FAMILY,
}


def draw(seed: int, pairs: int) -> list[Module]:
    """``pairs`` plants and as many twins, the kinds in turn; the same for the same seed."""
    modules: list[Module] = []
    decks = {kind: _deck(Draw(f"{seed} {kind}"), family) for kind, family in KINDS.items()}
    for number, kind in zip(range(pairs), _turns(), strict=False):
        template = decks[kind].pop(0)
        modules += pair(kind, number, template, Draw(f"{seed} {number}"))
        if not decks[kind]:
            decks[kind] = _deck(Draw(f"{seed} {kind} {number}"), KINDS[kind])
    return modules


def _deck(draw: Draw, family: tuple[Template, ...]) -> list[Template]:
    """All templates of a family, shuffled: none comes twice before each came once."""
    return draw.sample(family, len(family))


def _turns():  # type: ignore[no-untyped-def]
    return (kind for _ in count() for kind in KINDS)
