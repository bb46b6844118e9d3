"""What a command repeats of its words does nothing to a terminal."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from converter.cli import command_line

RED = "\x1b[31mRED\x1b[0m\x07"


@pytest.mark.parametrize(
    "words",
    [
        [RED], [f"--{RED}"], [f"seed={RED}"], [f"+experiment={RED}"], [f"+models.{RED}=1"],
        [f"+models.a={{source: {RED}}}"], ["report", RED], ["resume", RED], ["compare", RED, RED],
        ["inspect", RED], ["verify", RED], ["store", RED], ["store", "ls", RED],
        ["inspect", RED, RED],
        ["replay", RED, "a"], ["bundle", RED, "a"], ["plan", f"+model={RED}"], ["validate", RED],
        ["list", RED], ["doctor", RED], ["init", RED], ["convert", RED], ["view", RED],
    ],
    ids=lambda words: " ".join(words).replace(RED, "RED"),
)  # fmt: skip
def test_words_are_repeated_without_escape_sequences(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with suppress(SystemExit):  # of argparse
        command_line.main(words)
    out, err = capsys.readouterr()
    assert "RED" in out + err
    assert not {"\x1b", "\x07"} & {*out, *err}
