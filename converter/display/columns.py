"""Tables: columns as wide as their widest cell, a line below the head, never too wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 80  # of everything that is no terminal
_LEAST = 8  # a name that is cut further tells nothing
_SENTENCE = 24  # columns that a sentence needs to be read


@dataclass(frozen=True)
class Table:
    """A table that is not laid out yet: how wide it may be is for the screen to say.

    Attributes:
        left: the number of columns that stand to the left; the others are figures.
        shrinks: the columns whose cells are shortened where there is no room.
        wraps: the column of sentences, broken between words; it stands to the left.
        log: what a log gets in place of the table, where the two differ.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    shrinks: tuple[int, ...] = (0,)
    wraps: int | None = None
    log: str | None = None

    def fitted(self, width: int, gap: int = 1) -> tuple[list[tuple[str, ...]], list[int]]:
        """The head and the rows as they fit into ``width``, and the widths of the columns."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        if self.wraps is not None:
            widths[self.wraps] = min(widths[self.wraps], _SENTENCE)
        over = sum(widths) + gap * (len(widths) - 1) - width
        while over > 0:
            widest = max(self.shrinks, key=lambda column: widths[column])
            if widths[widest] <= _LEAST:
                break
            widths[widest] -= 1
            over -= 1
        cut = [
            tuple(
                cell if column == self.wraps else shorten(cell, room)
                for column, (cell, room) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return cut, widths

    def text(self, width: int = WIDTH) -> str:
        """For a log: nothing but letters and dashes."""
        if self.log is not None:
            return self.log
        cells, widths = self.fitted(width)
        lines = [
            " ".join(
                cell.ljust(room) if column < self.left else cell.rjust(room)
                for column, (cell, room) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        lines.insert(1, "-" * (sum(widths) + len(widths) - 1))
        return "\n".join(lines)


@dataclass(frozen=True)
class Labelled:
    """Lines that begin with a name or a label of some width, or with as many spaces."""

    lines: tuple[str, ...]
    width: int

    def text(self) -> str:
        return "\n".join(self.lines)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: int,
    *,
    shrinks: Sequence[int] = (0,),
    wraps: int | None = None,
    log: str | None = None,
) -> Table:
    """A table of cells of any kind of sequence."""
    lines = tuple(map(tuple, rows))
    return Table(tuple(head), lines, left, tuple(shrinks), wraps, log)


def shorten(text: str, width: int) -> str:
    """Cut out the middle of what is too long; both ends tell models apart."""
    if len(text) <= width:
        return text
    # Two columns are for the dots; where the rest is odd, the beginning has one more.
    head = (width - 2 + 1) // 2
    # Not `text[-n:]` for the end: where n is 0 that is the whole text.
    return f"{text[:head]}..{text[len(text) - (width - 2 - head) :]}"
