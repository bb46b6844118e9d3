"""Where text and tables go: in colour and as wide as it is on a terminal, plain elsewhere.

rich decides what a terminal is: ``FORCE_COLOR``, ``NO_COLOR`` and ``TERM=dumb`` mean here what
they mean to it. It is imported where there may be one, and not for a pipe or a file.
"""

from __future__ import annotations

import os
import re
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TextIO

from converter.display.columns import WIDTH, Labelled, Table
from converter.model import plaintext

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Paragraph = str | Table | Labelled
"""Text of one or more lines, or a table, or lines with labels."""

# What a word at the start of a line, or alone in a cell, means.
_STYLES = {
    **dict.fromkeys(("ok", "stored", "better", "right", "yes"), "green"),
    **dict.fromkeys(("failed", "crashed", "timeout", "oom", "worse", "wrong", "damaged"), "red"),
    **dict.fromkeys(("problem", "Stopped", "NO", "NO*", "not verified"), "red"),
    **dict.fromkeys(("xpass", "note", "Interrupted", "latency", "again", "unavailable"), "yellow"),
    **dict.fromkeys(("xfail", "skipped", "not_run", "absent", "changed", "remark"), "dim"),
}
# The letters of a sweep's matrix are those of `converter.sweep.screen`.
_CELLS = {
    **_STYLES,
    ".": "green",
    "X": "yellow",
    **dict.fromkeys("FCTM", "red"),
    **dict.fromkeys("sx-", "dim"),
}
# The marks of a matrix that point to a reason below it.
_MARK = re.compile(r"([FUsx-])\d+")
_MARKS = {"F": "red", "U": "yellow", "s": "dim", "x": "dim", "-": "dim"}
_WORDS = "|".join(map(re.escape, sorted(_STYLES, key=len, reverse=True)))
_SENTENCES = (
    "failed", "crashed", "timeout", "oom", "xpass", "xfail", "skipped", "latency", "remark",
    "worse", "better", "changed",
)  # fmt: skip
_HEADED = re.compile(rf"^(?:\[ *\d+/\d+\] )?({_WORDS})(?![\w*/-])")
_TOTALS = re.compile(r"^\d+ (?:models?|artifacts?|entr(?:y|ies))[:,]")
_COUNT = re.compile(rf"\b[1-9]\d* ({_WORDS})\b")
_ASIDE = re.compile(r"^    (?:/|docs/)")  # where to read on
_COMMAND = re.compile(r"python -m |pip install|export [A-Z]")
_MEANT_FOR_A_TERMINAL = ("FORCE_COLOR", "TTY_COMPATIBLE")


class Printer:
    """Prints what the stream's encoding can hold. A reader that has gone must not end a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def __call__(self, text: str) -> None:
        if self._stream is None:
            return
        encoding = self._stream.encoding or "ascii"
        try:
            safe = text.encode(encoding, "backslashreplace").decode(encoding)
            self._stream.write(safe + "\n")
            self._stream.flush()
        except OSError:
            self._stream = None


class Screen:
    """Args: stream: what is printed on."""

    def __init__(self, stream: TextIO) -> None:
        self._print = Printer(stream)
        self._console = _console(stream)
        # A log that is to have colours keeps the form of a log.
        self._is_log = self._console is None or not stream.isatty()

    @property
    def width(self) -> int:
        """Columns that there are; 80 where it is no terminal."""
        return WIDTH if self._console is None or self._is_log else self._console.width

    @property
    def colours(self) -> bool:
        """Whether there are colours."""
        console = self._console
        return console is not None and console.color_system is not None and not console.no_color

    def __call__(self, *paragraphs: Paragraph) -> None:
        """Print paragraphs, an empty line between two of them."""
        self._print("\n\n".join(map(self.rendered, paragraphs)))

    def rendered(self, paragraph: Paragraph) -> str:
        """What is printed of a paragraph: with escape codes where there are colours."""
        console = self._console
        paragraph = _safe(paragraph)
        if console is None:
            return plain(paragraph)
        if self._is_log:
            paragraph = plain(paragraph)
        with console.capture() as captured:
            if isinstance(paragraph, Table):
                _draw(paragraph, console)
            elif isinstance(paragraph, Labelled):
                for line in paragraph.lines:
                    console.print(_labelled(line, paragraph.width), soft_wrap=True)
            else:
                for line in paragraph.split("\n"):
                    text = _marked(line, None if self._is_log else console.width)
                    console.print(text, soft_wrap=True)
        return captured.get().removesuffix("\n")


def _safe(paragraph: Paragraph) -> Paragraph:
    """A paragraph in which nothing acts on the terminal: names come from files of anybody."""
    said = plaintext.plain
    if isinstance(paragraph, Labelled):
        return replace(paragraph, lines=tuple(map(said, paragraph.lines)))
    if isinstance(paragraph, Table):
        head, rows = tuple(map(said, paragraph.head)), paragraph.rows
        log = paragraph.log if paragraph.log is None else said(paragraph.log)
        return replace(paragraph, head=head, rows=tuple(tuple(map(said, r)) for r in rows), log=log)
    return said(paragraph)


def plain(paragraph: Paragraph) -> str:
    """A paragraph for a log: lines of at most 80 columns but for paths and messages."""
    return paragraph if isinstance(paragraph, str) else paragraph.text()


def _console(stream: TextIO) -> Console | None:
    if not (stream.isatty() or any(map(os.environ.get, _MEANT_FOR_A_TERMINAL))):
        return None
    from rich.console import Console

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _draw(table: Table, console: Console) -> None:
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    # Two columns of air where there is room, one where names would be cut for it.
    natural = sum(table.fitted(1 << 20)[1]) + 2 * (len(table.head) - 1)
    gap = 2 if natural <= console.width else 1
    (head, *rows), _ = table.fitted(console.width, gap)
    drawn = Drawn(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
        header_style="bold",
        border_style="dim",
    )
    for column, cell in enumerate(head):
        wraps = column == table.wraps
        justify: Literal["left", "right"] = "left" if column < table.left or wraps else "right"
        drawn.add_column(Text(cell), justify=justify, no_wrap=not wraps)
    for row in rows:
        # What is shortened is a name, and may be any word.
        styles = ["" if i in table.shrinks else _style(c) for i, c in enumerate(row)]
        drawn.add_row(*(Text(cell, style) for cell, style in zip(row, styles, strict=True)))
    console.print(drawn)


def _style(cell: str) -> str:
    """The colour of a cell."""
    mark = _MARK.fullmatch(cell)
    return _MARKS[mark[1]] if mark else _CELLS.get(cell, "")


def _marked(line: str, width: int | None) -> Text:
    """A line with its colours; a reason is broken between words where a width is given."""
    from rich.text import Text

    head = _HEADED.match(line)
    hint = line.startswith(("    ", "* ")) and not _ASIDE.match(line)
    reason = head is not None and head[1] in _SENTENCES
    # A command that is broken by us cannot be copied.
    if width is not None and (hint or reason) and not _COMMAND.search(line):
        wrapped = textwrap.wrap(
            line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
        line = "\n".join(wrapped)
    text = Text(line, "dim" if _ASIDE.match(line) else "")
    if head is not None:
        text.stylize(_STYLES[head[1]], *head.span(1))
    elif _TOTALS.match(line):
        for found in _COUNT.finditer(line):
            text.stylize(_STYLES[found[1]], *found.span())
    return text


def _labelled(line: str, width: int) -> Text:
    from rich.text import Text

    text = Text(line)
    text.stylize("bold", 0, width)
    return text
