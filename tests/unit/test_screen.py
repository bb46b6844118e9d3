"""Colours and widths: on a terminal, in a pipe, and as the environment asks for them."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest

from converter.display import notice
from converter.display.columns import Labelled, Table, table
from converter.display.screen import Screen

ESCAPE = "\x1b["
HEAD = ("model", "status", "size")
FAILURE = "failed b: EXPORT: no such operator\n    /runs/1/b/log.txt\n    docs/errors.md#export"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal_80(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def rows(name: str = "resnet18") -> Table:
    return table(HEAD, [(name, "ok", "44.7 MB"), ("b", "failed", "-")], left=2)


def shown(stream: io.StringIO, *paragraphs: str | Table | Labelled) -> str:
    Screen(stream)(*paragraphs)
    return stream.getvalue()


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_pipe_gets_plain_lines() -> None:
    assert shown(io.StringIO(), rows(), FAILURE) == (
        "model    status    size\n"
        "-----------------------\n"
        "resnet18 ok     44.7 MB\n"
        "b        failed       -\n"
        "\n"
        f"{FAILURE}\n"
    )


def test_a_pipe_imports_no_rich() -> None:
    code = (
        "import sys; from converter.display.screen import Screen; Screen(sys.stdout)('ok a')\n"
        "import converter.cli.command_line, converter.runner.loop\n"
        "print([name for name in sys.modules if name in ('rich', 'tqdm')])"
    )
    # Inherited colours would have rich looked at.
    environment = {name: text for name, text in os.environ.items() if "COLOR" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "ok a\n[]\n"


def test_a_terminal_gets_colours_by_status() -> None:
    text = shown(Terminal(), rows(), FAILURE)
    assert "\x1b[32mok" in text
    assert "\x1b[31mfailed\x1b[0m b: EXPORT" in text
    assert "\x1b[2m    docs/errors.md#export" in text
    assert "─" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "deeplabv3_mobilenet_v3_large_" * 4
    reason = "CONVERTER_TRUST no longer lists a folder that this model came from"
    wide = table(
        ("action", "model", "reason"), [("run", name, reason)], left=2, shrinks=(1,), wraps=2
    )
    lines = without_codes(shown(Terminal(), rows(name), wide)).splitlines()
    assert max(map(len, lines)) <= width
    # Shortened in the middle: both ends tell models apart.
    cut = [line for line in lines if ".." in line]
    assert len(cut) == 2
    assert all(re.search(r"\bdee\w*\.\.\w*ge_", line) for line in cut)
    words = " ".join(" ".join(lines).split()).split()
    assert {*reason.split()} <= {*words}


def test_a_name_that_is_a_status_is_no_status() -> None:
    text = shown(Terminal(), table(HEAD, [("failed", "ok", "1 B")], left=2))
    assert "\x1b[31m" not in text


def test_no_color_leaves_the_colours_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(Terminal(), rows(), FAILURE)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    assert not Screen(Terminal()).colours


def test_a_dumb_terminal_gets_what_a_pipe_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert shown(Terminal(), rows(), FAILURE) == shown(io.StringIO(), rows(), FAILURE)


def test_force_color_colours_a_pipe_that_keeps_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    before = shown(io.StringIO(), rows(), FAILURE * 3)
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = shown(io.StringIO(), rows(), FAILURE * 3)
    assert "\x1b[31mfailed" in text
    assert without_codes(text) == before


def test_a_reason_is_broken_between_words_and_a_command_is_not() -> None:
    reason = f"failed b: EXPORT: {'some operator is not known there; ' * 5}"
    command = f"Interrupted by SIGINT: Resume with: python -m converter resume /{'long/' * 20}"
    lines = without_codes(shown(Terminal(), f"{reason}\n{command}")).splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[1].startswith("    ")
    assert lines[-1] == command


def test_counts_of_the_totals_have_the_colour_of_their_status() -> None:
    text = shown(Terminal(), "12 models: 10 ok, 2 failed; 1 from the store")
    assert text.startswith("12 models: \x1b[32m10 ok\x1b[0m, \x1b[31m2 failed\x1b[0m; 1 from")


def test_labels_stand_out() -> None:
    text = shown(Terminal(), Labelled(("system     Linux", "           more"), 11))
    assert without_codes(text) == "system     Linux\n           more\n"
    assert text.startswith("\x1b[1msystem")


def test_a_log_may_get_other_lines_than_a_table() -> None:
    both = table(HEAD, [("a", "ok", "1 B")], left=2, log="a: ok")
    assert shown(io.StringIO(), both) == "a: ok\n"
    assert "model" in shown(Terminal(), both)


def test_a_notice_is_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, terminal, dumb = io.StringIO(), Terminal(), Terminal()
    for stream in (pipe, terminal):
        notice.show("reading …", stream)
        notice.clear(stream)
    monkeypatch.setenv("TERM", "dumb")
    notice.show("reading …", dumb)
    assert pipe.getvalue() == dumb.getvalue() == ""
    assert terminal.getvalue() == "\r\x1b[Kreading …\r\x1b[K"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_name_that_would_act_on_the_terminal_is_text(stream: type[io.StringIO]) -> None:
    name = "\x1b[2J\x1b]0;title\x07a\x7f\u202e"
    paragraphs = [
        f"{name} is damaged",
        Labelled((f"{name}  one",), 3),
        table(HEAD, [(name, "ok", name)], left=2),
        table(HEAD, [(name, "ok", name)], left=2, log=name),
    ]
    # What has no encoding is taken for ASCII.
    found = without_codes(shown(stream(), *paragraphs)).replace(
        "\\ufffd", "\N{REPLACEMENT CHARACTER}"
    )
    assert found.count("a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}") >= 4
    assert not {"\x1b", "\x07", "\x7f", "\u202e"} & set(found)
