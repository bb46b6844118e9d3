"""``index.html`` of a published folder: made from the index, and held against it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from nights import failing, manifest
from test_publication import publish

from converter.finalize import published, zoo_index, zoo_page
from converter.finalize.zoo_index import Index
from converter.model.manifest import WeightsInfo
from converter.model.records import WeightsOrigin
from converter.plugins.layouts import zoo
from tests.manifests import CPU, timed
from tests.published import artifacts

FOUND = WeightsOrigin(library="torchvision", url="https://localhost/a.pth")
EVIL = '</script><img src=x onerror="alert(1)">'


def page(target: Path) -> str:
    return (target / "index.html").read_text()


def cards(text: str) -> list[dict[str, Any]]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    told: list[dict[str, Any]] = json.loads(found)
    return told


def night(tmp_path: Path, text: str = "one", day: int = 1, **changes: Any) -> Path:
    rows = artifacts(tmp_path, "a", text, half="half", **changes)
    assert publish(manifest(*rows, day=day), tmp_path, ["a"]) == []
    return tmp_path / "zoo"


def test_a_card_says_what_the_index_says(tmp_path: Path) -> None:
    target = night(tmp_path, license="MIT", latency=[timed(CPU, 3.0)], tags=["vision"])
    (card,) = cards(page(target))
    facts = dict(card["facts"])
    assert facts["licence"] == "MIT"
    assert facts["tags"] == "vision"
    assert facts["weights"] == "random: untrained"
    assert (facts["first published"], facts["last changed"]) == ("2026-11-01", "2026-11-01")
    onnx, half = card["artifacts"]
    assert [onnx["files"][0][0], half["files"][0][0]] == ["a/model.onnx", "a/model.fp16.onnx"]
    assert onnx["files"][0][3] == zoo_index.read(target).models["a"].sha256
    assert onnx["latency"][0][:2] == [CPU, "3 ms"]
    assert onnx["latency"][0][4], "the machine"
    assert "largest error" in onnx["error"]
    assert "InferenceSession('a/model.onnx')" in onnx["load"]
    assert len(onnx["load"].splitlines()) <= 5
    assert any("batch" in text for text in card["verified"])
    assert card["ops"]


def test_without_scripts_there_are_names_files_and_hashes(tmp_path: Path) -> None:
    target = night(tmp_path)
    text = re.sub(r"<script.*?</script>", "", page(target), flags=re.DOTALL)
    assert '<th scope="row">a</th>' in text
    assert '<a href="a/model.onnx" download>' in text
    assert zoo_index.read(target).models["a"].sha256 in text
    assert "http:" not in text
    assert "https:" not in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, {}),
        ({"weights": "conditioned"}, {}),
        ({"weights": "checkpoint"}, {"licence of the weights": "not known"}),
        (
            {"weights": "DEFAULT", "weights_origin": FOUND},
            {
                "weights from": "https://localhost/a.pth",
                "origin of the weights": "not stated by torchvision",
                "licence of the weights": "not stated by torchvision",
            },
        ),
        (
            {
                "weights": "a1_in1k",
                "weights_origin": FOUND.model_copy(
                    update={"library": "timm", "origin": "https://x", "license": "apache-2.0"}
                ),
            },
            {
                "weights from": "https://localhost/a.pth",
                "origin of the weights": "https://x",
                "licence of the weights": "apache-2.0, as timm states it",
            },
        ),
    ],
)
def test_a_card_says_what_is_known_of_the_weights(
    tmp_path: Path, changes: dict[str, Any], told: dict[str, str]
) -> None:
    entry = zoo_index.read(night(tmp_path)).models["a"]
    assert entry.about is not None
    about = entry.about.model_copy(update=changes)
    index = Index(models={"a": entry.model_copy(update={"about": about})})
    (card,) = cards(zoo_page.render(index, zoo.OUTSIDE))
    facts = {
        key: value for key, value in card["facts"] if key.endswith(("weights", "weights from"))
    }
    assert {
        k: v for k, v in facts.items() if k not in ("weights", "SHA-256 of the weights")
    } == told


def test_what_the_library_says_of_weights_is_in_the_index(tmp_path: Path) -> None:
    weights = WeightsInfo(kind="enum", name="DEFAULT", published=FOUND)
    rows = artifacts(tmp_path, "a", "one")
    request = rows[0].request.model_copy(update={"weights": weights})
    rows = [row.model_copy(update={"request": request}) for row in rows]
    assert publish(manifest(*rows), tmp_path, ["a"]) == []
    about = zoo_index.read(tmp_path / "zoo").models["a"].about
    assert about is not None
    assert about.weights_origin == FOUND


def test_columns_that_say_nothing_are_not_there(tmp_path: Path) -> None:
    index = zoo_index.read(night(tmp_path))
    heads = re.findall(r"<th [^>]*>([^<]+)</th>", zoo_page.render(index, zoo.OUTSIDE))
    assert heads[:5] == ["Model", "Precision", "Opset", "Size", "Largest error"]
    entry = index.models["a"]
    assert entry.about is not None
    about = entry.about.model_copy(update={"task": "detection"})
    told = Index(models={"a": entry.model_copy(update={"about": about, "measured": None})})
    heads = re.findall(r"<th [^>]*>([^<]+)</th>", zoo_page.render(told, zoo.OUTSIDE))
    assert heads[:5] == ["Model", "Task", "Precision", "Opset", "Size"]


def test_what_a_model_is_called_becomes_no_markup(tmp_path: Path) -> None:
    target = night(tmp_path, license=EVIL, tags=[EVIL])
    text = page(target)
    assert "<img" not in text
    assert dict(cards(text)[0]["facts"])["licence"] == EVIL


def test_the_page_follows_the_index(tmp_path: Path) -> None:
    target = night(tmp_path)
    first = page(target)
    assert publish(manifest(failing("a"), day=2), tmp_path, ["a"]) == []
    assert publish(manifest(day=3), tmp_path, []) == []
    text = page(target)
    assert text != first
    assert cards(text)[0]["state"] == "retired since 2026-11-03"
    assert text == zoo_page.render(zoo_index.read(target), zoo.OUTSIDE), (
        "the same index, the same page"
    )


def test_latency_stays_where_tonight_took_none(tmp_path: Path) -> None:
    night(tmp_path, latency=[timed(CPU, 3.0)])
    (card,) = cards(page(night(tmp_path, day=2, latency=[])))
    assert card["artifacts"][0]["latency"][0][-1] == "2026-11-01"
    (card,) = cards(page(night(tmp_path, "two", day=3, latency=[])))
    assert card["artifacts"][0]["latency"] == [], "of another file nothing is known"


def test_a_page_that_was_edited_is_found_and_written_again(tmp_path: Path) -> None:
    target = night(tmp_path)
    whole = page(target)
    (target / "index.html").write_text(whole.replace("a/model.onnx", "b/model.onnx"))
    (problem,) = published.check(target, None).problems
    assert problem == "index.html is not the page of index.json: the next run writes it again"
    night(tmp_path, day=2)
    assert published.check(target, None).problems == []
    older = page(target).replace("onnx-zoo-converter ", "onnx-zoo-converter 0.0-")
    (target / "index.html").write_text(older)
    found = published.check(target, None)
    assert found.problems == []
    assert "index.html is of another version of the converter: it was not compared" in found.notes


def test_a_page_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/index.html").write_text("mine")
    rows = artifacts(tmp_path, "a", "one")
    (problem,) = publish(manifest(*rows), tmp_path, ["a"])
    assert problem == f"{tmp_path}/zoo/index.html is not ours, and stays: move it away"
    assert page(tmp_path / "zoo") == "mine"
    assert list(zoo_index.read(tmp_path / "zoo").models) == ["a"]


def test_an_index_of_before_has_a_page(tmp_path: Path) -> None:
    text = (night(tmp_path) / "index.json").read_text()
    said = json.loads(text)
    for key in ("about", "measured", "first_published"):
        del said["models"]["a"][key]
    del said["models"]["a"]["variants"]["fp16"]["measured"]
    (card,) = cards(zoo_page.render(Index.model_validate(said), zoo.OUTSIDE))
    assert card["artifacts"][0]["error"] == "not known"


def test_a_variant_with_inputs_of_its_own_is_fed_those(tmp_path: Path) -> None:
    onnx, half = artifacts(tmp_path, "a", "one", half="half")
    assert onnx.onnx is not None
    inputs = [value.model_copy(update={"dtype": "float16"}) for value in onnx.onnx.inputs]
    half = half.model_copy(update={"onnx": onnx.onnx.model_copy(update={"inputs": inputs})})
    assert publish(manifest(onnx, half), tmp_path, ["a"]) == []
    whole, other = cards(page(tmp_path / "zoo"))[0]["artifacts"]
    assert "'float32')" in whole["load"]
    assert "'float16')" in other["load"]
