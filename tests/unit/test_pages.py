"""What all pages are made with."""

from __future__ import annotations

import json
from pathlib import Path

from markupsafe import Markup

from converter.display import pages


def test_text_becomes_no_markup_and_nothing_unprintable_stays(tmp_path: Path) -> None:
    evil = "\x1b[31m<b>\x07 \u202e\ud800 ×\u00a0–\n"
    (tmp_path / "x.html").write_text("{{ text }}|{{ ours }}|{{ text|quote }}")
    shown = pages.jinja(tmp_path).get_template("x.html")
    told = "&lt;b&gt;\N{REPLACEMENT CHARACTER} " + 2 * "\N{REPLACEMENT CHARACTER}" + " ×\u00a0–\n"
    text, ours, _ = shown.render(text=evil.replace("\ud800", "\u202d"), ours=Markup("<i>")).split(
        "|"
    )
    assert (text, ours) == (told, "<i>")
    assert pages.escape(evil) == told


def test_data_cannot_end_its_element() -> None:
    found = {"</script>": "<!-- é"}
    text = pages.data(found)
    assert "<" not in text
    assert json.loads(text) == found
