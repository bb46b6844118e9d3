"""Tables of a terminal: columns as wide as their widest cell, a line below the head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """The head, a line and the rows.

    Args:
        left: the number of columns that stand to the left; the others are figures.
    """
    cells = [head, *rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [
        " ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "-" * (sum(widths) + len(widths) - 1))
    return "\n".join(lines)


def shorten(text: str, width: int) -> str:
    """Cut out the middle of what is too long; both ends tell models apart."""
    if len(text) <= width:
        return text
    # Two columns are for the dots; where the rest is odd, the beginning has one more.
    head = (width - 2 + 1) // 2
    # Not `text[-n:]` for the end: where n is 0 that is the whole text.
    return f"{text[:head]}..{text[len(text) - (width - 2 - head) :]}"
