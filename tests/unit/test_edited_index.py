"""``index.json`` says what is opened, replaced and removed: it may name its models' own alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nights import manifest
from test_publication import made, publish

from converter.cli import command_line
from converter.finalize import fetching, publication, zoo_index
from converter.model.batch import PublishSpec
from converter.model.errors import ConfigError

Models = dict[str, Any]


def set_folders(*folders: str) -> Callable[[Models], None]:
    return lambda models: models["a"].update(folders=[*folders, "a"])


def moved_set(models: Models) -> None:
    models["a"]["sets"][0]["folder"] = "../victim/0123456789abcdef"


def kept_set(models: Models) -> None:
    models["a"]["kept"] = [{**models["a"]["sets"][0], "folder": "b.x/0123456789abcdef"}]


def variant_above(models: Models) -> None:
    part = {key: models["a"][key] for key in ("path", "bytes", "sha256")}
    models["a"]["variants"] = {"../x": {"format": "onnx", "precision": "fp16", "files": [part]}}


def renamed(models: Models) -> None:
    models["../../a"] = models.pop("a")


EDITED: dict[str, tuple[Callable[[Models], None], str]] = {
    "above": (set_folders(".."), r"a: '\.\.' is no folder of it"),
    "beside the place": (set_folders("../victim"), r"a: '\.\./victim' is no folder of it"),
    "absolute": (set_folders("/etc"), "a: '/etc' is no folder of it"),
    "of another model": (set_folders("b.x"), r"a: 'b\.x' is no folder of it"),
    "of a model with such a name": (set_folders("a.x"), r"a\.x: 'a\.x' is a folder of a"),
    "of the user": (set_folders("mine"), "a: 'mine' is no folder of it"),
    "in a model": (set_folders("a/.."), r"a: 'a/\.\.' is no folder of it"),
    "empty": (set_folders(""), "a: '' is no folder of it"),
    "NUL": (set_folders("a.\0"), r"a: 'a\.\\x00' is no folder of it"),
    "path above": (lambda m: m["a"].update(path="../victim/x"), r"'\.\./victim/x' leads out"),
    "path with NUL": (lambda m: m["a"].update(path="a/1/\0"), r"'a/1/\\x00' leads out"),
    "path that is too long": (lambda m: m["a"].update(path=f"a/1/{'é' * 128}"), "ééé' leads out"),
    "surrogate": (lambda m: m["a"].update(path="a/1/\ud800"), "or of another version"),
    "set above": (moved_set, "leads out of its sets"),
    "kept set of another": (kept_set, r"a: 'b\.x' is no folder of it"),
    "variant above": (variant_above, r"a: '\.\./x' is no name of a variant"),
    "model above": (renamed, r"'\.\./\.\./a' is no name of a model"),
}


@pytest.mark.parametrize("case", EDITED)
def test_an_index_that_names_what_is_not_its_own_is_damaged(tmp_path: Path, case: str) -> None:
    """A run removed ``README.md`` and ``model.*`` in each folder that the index named."""
    target = tmp_path / "zoo"
    rows = [made(tmp_path, name, b"good") for name in ("a", "a.x", "b.x")]
    publish(manifest(*rows), tmp_path, listed=None)
    edit, words = EDITED[case]
    content = json.loads((target / "index.json").read_text())
    edit(content["models"])
    (target / "index.json").write_text(json.dumps(content))
    for folder in (tmp_path, tmp_path / "victim", target / "mine"):
        folder.mkdir(exist_ok=True)
        (folder / "README.md").write_text("mine")
        (folder / "model.py").write_text("mine")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(ConfigError, match=f"publish_to: is damaged.*{words}.*: move it away"):
        publication.check(PublishSpec(path=str(target)))
    # Where somebody has edited it during the run.
    with pytest.raises(zoo_index.DamagedIndexError, match=words):
        publication.publish(
            manifest(*rows, day=2), tmp_path, PublishSpec(path=str(target)), listed=None
        )
    with pytest.raises(ConfigError, match=rf"fetch: .*index\.json: is damaged.*{words}"):
        fetching.fetch(target, "a.x", tmp_path / "fetched")
    assert command_line.main(["verify", str(target)]) in (1, 2)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_of_a_model_are_its_own(tmp_path: Path) -> None:
    """What a variant lay in stays in the index when the variant goes."""
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    content = json.loads((tmp_path / "zoo/index.json").read_text())
    content["models"]["a"]["folders"] = ["a", "a.fp16"]
    (tmp_path / "zoo/index.json").write_text(json.dumps(content))
    assert publish(manifest(made(tmp_path, "a", b"better"), day=2), tmp_path) == []
    assert zoo_index.read(tmp_path / "zoo").models["a"].folders == ["a", "a.fp16"]
