"""Paths beside the versions: they follow the index, by links where these work."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from nights import failing, manifest
from test_publication import publish

from converter.finalize import published, zoo_index
from tests.published import artifacts


def found(target: Path) -> dict[str, str]:
    """What stands in the folder of a model, versions left out."""
    files = (path for path in (target / "a").iterdir() if not path.is_dir())
    return {path.name: path.read_text() for path in files if path.name != "README.md"}


def night(tmp_path: Path, text: str, day: int = 1, **more: str) -> Path:
    rows = artifacts(tmp_path, "a", text, **more)
    assert publish(manifest(*rows, day=day), tmp_path, None) == []
    return tmp_path / "zoo"


def test_a_link_follows_the_index(tmp_path: Path) -> None:
    target = night(tmp_path, "one", half="half")
    link = target / "a/model.onnx"
    home = Path(zoo_index.read(target).models["a"].path).parent.name
    assert os.readlink(link) == f"{home}/model.onnx"
    assert found(target) == {"model.onnx": "one", "model.fp16.onnx": "half"}
    night(tmp_path, "two", day=2)
    assert found(target) == {"model.onnx": "two"}, "the variant is gone, and so is its path"
    assert published.check(target, None).problems == []


def test_weights_beside_a_file_are_a_copy_under_the_name_that_it_says(tmp_path: Path) -> None:
    """onnx takes them neither from a symbolic link nor from a file with two names."""
    target = night(tmp_path, "one", data="weights")
    data = target / "a/a.onnx.data"
    assert not data.is_symlink()
    assert data.stat().st_nlink == 1
    assert found(target) == {"model.onnx": "one", "a.onnx.data": "weights"}


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_no_link_works_there_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    target = night(tmp_path, "one")
    assert not (target / "a/model.onnx").is_symlink()
    night(tmp_path, "two", day=2)
    assert found(target) == {"model.onnx": "two"}
    assert published.check(target, None).problems == []
    (target / "a/model.onnx").write_text("tow")
    assert f"a: model.onnx is not that of version {version(target)}" in (
        published.check(target, None).problems
    )


def version(target: Path) -> str:
    return Path(zoo_index.read(target).models["a"].path).parent.name


@pytest.mark.parametrize("data", ["", "weights"])
def test_a_folder_in_the_way_is_named(tmp_path: Path, data: str) -> None:
    """And no temporary file, which nobody has seen."""
    target = night(tmp_path, "one", data=data)
    (target / "a/model.onnx").unlink()
    (target / "a/model.onnx").mkdir()
    for day, text in enumerate(("one", "two"), 2):
        rows = artifacts(tmp_path, "a", text, data=data)
        (told,) = publish(manifest(*rows, day=day), tmp_path, None)
        assert told == f"a: a folder is in the way: move it away: {target}/a/model.onnx"


@pytest.mark.parametrize("planted", ["model.onnx", "README.md"])
def test_a_folder_in_a_version_is_named(tmp_path: Path, planted: str) -> None:
    target = night(tmp_path, "one")
    place = target / "a" / version(target) / planted
    place.unlink()
    place.mkdir()
    (told,) = publish(manifest(*artifacts(tmp_path, "a", "one"), day=2), tmp_path, None)
    assert told == f"a was not published: Is a directory: {place}"


def test_a_path_stays_with_the_last_good_file(tmp_path: Path) -> None:
    target = night(tmp_path, "good")
    assert publish(manifest(failing("a"), day=2), tmp_path, None) == []
    assert found(target) == {"model.onnx": "good"}


def test_a_path_that_leads_elsewhere_is_found_and_put_right(tmp_path: Path) -> None:
    target = night(tmp_path, "one")
    link = target / "a/model.onnx"
    (tmp_path / "evil").write_text("evil")
    link.unlink()
    link.symlink_to(tmp_path / "evil")
    (problem,) = published.check(target, None).problems
    assert problem == f"a: model.onnx is not that of version {version(target)}"
    night(tmp_path, "one", day=2)
    assert found(target) == {"model.onnx": "one"}
    assert (tmp_path / "evil").read_text() == "evil"


def test_a_version_goes_after_what_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing could be put in its place."""
    target = night(tmp_path, "one")

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    rows = artifacts(tmp_path, "a", "two")
    with monkeypatch.context() as patch:
        patch.setattr("converter.finalize.links._put", full)
        problems = publish(manifest(*rows, day=2), tmp_path, None)
    assert problems == [f"a: No space left on device: {target}/a"]
    assert not os.path.lexists(target / "a/model.onnx")
    told = published.check(target, None)
    assert [text for text in told.problems if "README" not in text] == []
    assert told.notes[0].startswith("1 files do not stand beside their versions")
    night(tmp_path, "two", day=3)
    assert found(target) == {"model.onnx": "two"}


def test_a_zoo_that_was_moved_or_copied_without_its_links_is_right(tmp_path: Path) -> None:
    target = night(tmp_path, "one", data="weights", half="half")
    before = found(target)
    moved = target.rename(tmp_path / "moved")
    assert found(moved) == before
    copied = Path(shutil.copytree(moved, tmp_path / "copied"))
    assert not (copied / "a/model.onnx").is_symlink()
    assert found(copied) == before
    for folder in (moved, copied):
        assert published.check(folder, None).problems == []


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "zoo/a").mkdir(parents=True)
    (tmp_path / "zoo/a/model.onnx").write_text("mine")
    (problem,) = publish(manifest(*artifacts(tmp_path, "a", "one")), tmp_path, None)
    assert "there is a file that is not in index.json: move it away" in problem
    assert (tmp_path / "zoo/a/model.onnx").read_text() == "mine"


def test_the_card_stands_there_too(tmp_path: Path) -> None:
    target = night(tmp_path, "one", half="half")
    card = (target / "a/README.md").read_text()
    assert card.startswith("# a\n")
    assert 'InferenceSession("model.onnx")' in card
    assert "| `model.fp16.onnx` | float16 |" in card
