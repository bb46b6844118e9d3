"""A model zoo folder that only receives verified files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from nights import failing, manifest, row

from converter.finalize import beside, publication, zoo_index
from converter.layout import files
from converter.model.batch import PublishSpec
from converter.model.errors import ConfigError, RunError
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.records import FileInfo
from converter.plugins.layouts import zoo
from tests.manifests import verified_on, with_domain


def made(directory: Path, name: str, content: bytes, data: bytes = b"") -> ArtifactRow:
    """An ok row whose files are in the run directory."""
    folder = directory / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for suffix, text in (("", content), (".data", data)):
        (folder / f"{name}.onnx{suffix}").write_bytes(text)
        path = f"models/{name}/{name}.onnx{suffix}"
        sha256 = hashlib.sha256(text).hexdigest()
        parts.append(FileInfo(path=path, bytes=len(text), sha256=sha256))
    return row(name, files=parts if data else parts[:1])


def holds(target: Path) -> dict[str, bytes]:
    """Name → content of each model that the index names; the files must be what it says."""
    index = zoo_index.read(target)
    named = set()
    for entry in index.models.values():
        derived = [part for variant in entry.variants.values() for part in variant.files]
        assert {part.path for part in [entry, *entry.external_data, *derived]} <= {
            part.path for part in entry.parts
        }
        for part in entry.parts:
            path = target / part.path
            assert (path.stat().st_size, files.sha256(path)) == (part.bytes, part.sha256)
            named.add(path)
        for each in beside.of(entry, zoo.OUTSIDE):
            for part in each.parts:
                assert files.sha256(target / each.path(part)) == part.sha256
                named.add(target / each.path(part))
    found = {path for path in target.rglob("*") if path.is_file()}
    assert {path for path in found - named if path.parent != target} == set()
    return {name: (target / entry.path).read_bytes() for name, entry in index.models.items()}


def publish(
    run: Manifest,
    tmp_path: Path,
    listed: Iterable[str] | None = ("a", "b"),
    *,
    resumed: bool = False,
    **said: Any,
) -> list[str]:
    spec = PublishSpec.model_validate({"path": str(tmp_path / "zoo"), **said})
    publication.check(spec)
    names = None if listed is None else [*listed]
    return publication.publish(run, tmp_path, spec, names, resumed=resumed)


def test_what_verified_is_there_whole(tmp_path: Path) -> None:
    rows = (made(tmp_path, "a", b"one", b"weights"), failing("b"), row("c", "xpass"))
    assert publish(manifest(*rows), tmp_path) == []
    assert holds(tmp_path / "zoo") == {"a": b"one"}
    entry = zoo_index.read(tmp_path / "zoo").models["a"]
    assert (entry.opset, entry.inputs[0].name, entry.outputs[0].name) == (17, "x", "y")
    assert (entry.provenance.run_id, entry.provenance.experiment) == ("run-1", "zoo")
    assert entry.provenance.packages["torch"] == "2.14.0"
    assert [Path(part.path).name for part in entry.external_data] == ["a.onnx.data"]
    assert Path(entry.external_data[0].path).parent == Path(entry.path).parent


def test_the_last_good_file_stays_where_tonight_failed(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    failed = failing("a", failing_since="2026-11-02T02:00:00.000Z")
    publish(manifest(failed, day=2), tmp_path)
    assert holds(tmp_path / "zoo") == {"a": b"good"}
    entry = zoo_index.read(tmp_path / "zoo").models["a"]
    assert (entry.verified_by, entry.failing_since) == ("run-1", "2026-11-02T02:00:00.000Z")
    publish(manifest(made(tmp_path, "a", b"better"), day=3), tmp_path)
    assert holds(tmp_path / "zoo") == {"a": b"better"}
    assert zoo_index.read(tmp_path / "zoo").models["a"].failing_since is None


def test_the_same_file_keeps_its_provenance_and_says_when_it_was_verified(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"same")), tmp_path)
    before = (tmp_path / "zoo").joinpath(zoo_index.read(tmp_path / "zoo").models["a"].path)
    inode = before.stat().st_ino
    publish(manifest(made(tmp_path, "a", b"same"), day=2), tmp_path)
    entry = zoo_index.read(tmp_path / "zoo").models["a"]
    assert (entry.provenance.run_id, entry.verified_by) == ("run-1", "run-2")
    assert before.stat().st_ino == inode


def test_the_index_says_on_what_a_file_was_verified(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"same")), tmp_path)
    assert zoo_index.read(tmp_path / "zoo").models["a"].verified is None
    found = with_domain(made(tmp_path, "a", b"same"), verified_on())
    publish(manifest(found, day=2), tmp_path)
    said = json.loads((tmp_path / "zoo/index.json").read_text())["models"]["a"]["verified"]
    assert said == {
        "sizes": {"batch": [1, 2, 3, 5, 7, 8]},
        "dims": {},
        "values": {"image": {"low": -41.5, "high": 38.0, "patterns": ["normal", "large"]}},
        "unreached": ["head.py:41 `if T > 16` (true)"],
    }


def test_a_model_that_left_the_list_stays_and_is_marked(tmp_path: Path) -> None:
    rows = (made(tmp_path, "a", b"1"), made(tmp_path, "b", b"2"))
    publish(manifest(*rows), tmp_path)
    publish(manifest(rows[0], day=2), tmp_path, listed=["a", "b"])  # not selected: no change
    assert not zoo_index.read(tmp_path / "zoo").models["b"].retired
    publish(manifest(rows[0], day=3), tmp_path, listed=None)  # no experiment, no list
    assert not zoo_index.read(tmp_path / "zoo").models["b"].retired
    publish(manifest(rows[0], day=4), tmp_path, listed=["a"])
    entry = zoo_index.read(tmp_path / "zoo").models["b"]
    assert (entry.retired, entry.retired_since) == (True, "2026-11-04T02:00:00.000Z")
    assert holds(tmp_path / "zoo")["b"] == b"2"
    publish(manifest(*rows, day=5), tmp_path)
    assert not zoo_index.read(tmp_path / "zoo").models["b"].retired


def test_another_experiment_retires_nothing_of_this_one(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"1")), tmp_path)
    other = manifest(made(tmp_path, "b", b"2"), day=2)
    run = other.run.model_copy(update={"experiment": "other"})
    publish(other.model_copy(update={"run": run}), tmp_path, listed=["b"])
    assert not zoo_index.read(tmp_path / "zoo").models["a"].retired


def test_a_file_that_is_not_what_the_run_recorded_is_not_published(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    rows = (made(tmp_path, "a", b"other"), made(tmp_path, "b", b"fine"))
    (tmp_path / "models/a/a.onnx").write_bytes(b"rotten")
    (problem,) = publish(manifest(*rows, day=2), tmp_path)
    assert problem == (
        "a was not published: the file is not the one that the run recorded: "
        f"{tmp_path}/models/a/a.onnx"
    )
    assert holds(tmp_path / "zoo") == {"a": b"good", "b": b"fine"}


def test_a_published_file_that_was_damaged_is_replaced(tmp_path: Path) -> None:
    good = made(tmp_path, "a", b"good", b"data")
    publish(manifest(good), tmp_path)
    entry = zoo_index.read(tmp_path / "zoo").models["a"]
    (tmp_path / "zoo" / entry.path).write_bytes(b"bad")
    publish(manifest(good, day=2), tmp_path)
    assert holds(tmp_path / "zoo") == {"a": b"good"}


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    good = made(tmp_path, "a", b"good")
    publish(manifest(good), tmp_path)
    for name in ("a/.new-x", "a/0123456789abcdef", "b/.new-y", "mine/kept"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
    publish(manifest(good, day=2), tmp_path)
    assert holds(tmp_path / "zoo") == {"a": b"good"}
    assert (tmp_path / "zoo/mine/kept").is_dir()


def test_without_its_index_nothing_of_the_folder_is_removed(tmp_path: Path) -> None:
    """As the message about a damaged index advises."""
    publish(manifest(made(tmp_path, "a", b"1"), made(tmp_path, "b", b"1")), tmp_path)
    (kept,) = (tmp_path / "zoo" / "b").glob("*/model.onnx")
    (tmp_path / "zoo" / "index.json").unlink()
    publish(manifest(made(tmp_path, "a", b"1"), row("b", status="failed"), day=2), tmp_path)
    assert kept.read_bytes() == b"1"
    publish(manifest(made(tmp_path, "b", b"2"), day=3), tmp_path)
    assert not kept.exists()


def test_a_run_of_before_that_was_resumed_replaces_nothing(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"new"), day=2), tmp_path)
    before = holds(tmp_path / "zoo")
    assert publish(manifest(made(tmp_path, "a", b"old"), day=1), tmp_path, resumed=True) == []
    assert holds(tmp_path / "zoo") == before


def test_a_run_of_before_that_was_resumed_retires_nothing_newer(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "b", b"new"), day=2), tmp_path)
    old = manifest(made(tmp_path, "a", b"old"), day=1)
    assert publish(old, tmp_path, listed=["a"], resumed=True) == []
    assert not zoo_index.read(tmp_path / "zoo").models["b"].retired


def test_a_clock_that_once_was_ahead_holds_no_later_night_back(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"old"), day=30), tmp_path)
    assert publish(manifest(made(tmp_path, "a", b"new"), day=2), tmp_path) == []
    assert holds(tmp_path / "zoo") == {"a": b"new"}
    assert zoo_index.read(tmp_path / "zoo").models["a"].verified_by == "run-2"


def test_a_damaged_file_that_tonight_cannot_replace_is_told(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"1"), made(tmp_path, "b", b"1")), tmp_path)
    (path,) = (tmp_path / "zoo" / "b").glob("*/model.onnx")
    path.write_bytes(b"half")
    failed = manifest(made(tmp_path, "a", b"1"), row("b", status="failed"), day=2)
    (problem,) = publish(failed, tmp_path)
    assert problem.startswith("b: what is published is not as ")


@pytest.mark.parametrize("with_file", [False, True])
def test_every_byte_of_a_model_that_fails_tonight_is_looked_at(
    tmp_path: Path, with_file: bool
) -> None:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    (path,) = (tmp_path / "zoo" / "a").glob("*/model.onnx")
    path.write_bytes(b"evil")
    tonight = made(tmp_path, "a", b"slow").files if with_file else []  # wrong on a provider
    (problem,) = publish(manifest(failing("a", files=tonight), day=2), tmp_path)
    assert problem.startswith("a: what is published is not as ")


def test_of_a_model_that_was_not_selected_only_the_size_is_looked_at(tmp_path: Path) -> None:
    rows = (made(tmp_path, "a", b"1"), made(tmp_path, "b", b"good", b"data"))
    publish(manifest(*rows), tmp_path)
    (path,) = (tmp_path / "zoo" / "b").glob("*/b.onnx.data")
    path.write_bytes(b"evil")
    assert publish(manifest(rows[0], day=2), tmp_path) == []
    path.write_bytes(b"half a file")
    (problem,) = publish(manifest(rows[0], day=3), tmp_path)
    assert problem.startswith("b: what is published is not as ")
    path.unlink()
    assert publish(manifest(rows[0], day=4), tmp_path) == [problem]


def test_what_is_retired_or_of_another_experiment_may_be_gone(tmp_path: Path) -> None:
    rows = (made(tmp_path, "a", b"1"), made(tmp_path, "b", b"2"))
    publish(manifest(*rows), tmp_path)
    other = manifest(made(tmp_path, "c", b"3"))
    run = other.run.model_copy(update={"experiment": "other"})
    publish(other.model_copy(update={"run": run}), tmp_path, listed=["c"])
    for name in ("b", "c"):
        shutil.rmtree(tmp_path / "zoo" / name)
    assert publish(manifest(rows[0], day=2), tmp_path, listed=["a"]) == []
    models = zoo_index.read(tmp_path / "zoo").models
    assert {name: entry.retired for name, entry in models.items()} == {
        "a": False,
        "b": True,
        "c": False,
    }


@pytest.mark.parametrize("planted", ["a", "version", "file"])
def test_a_link_at_an_output_path_is_refused(tmp_path: Path, planted: str) -> None:
    good = made(tmp_path, "a", b"good")
    publish(manifest(good), tmp_path)
    target, outside = tmp_path / "zoo", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    path = target / zoo_index.read(target).models["a"].path
    place = {"a": target / "a", "version": path.parent, "file": path}[planted]
    place.rename(tmp_path / "moved")
    place.symlink_to(outside / "precious" if planted == "file" else outside)
    (problem,) = publish(manifest(good, day=2), tmp_path)
    assert problem == f"a was not published: a symbolic link is at an output path: {place}"
    assert os.listdir(outside) == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"


def test_an_index_that_cannot_be_trusted_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    target = tmp_path / "zoo"
    target.mkdir()
    (target / "index.json").write_text(json.dumps({"schema_version": "2", "models": {}}))
    with pytest.raises(ConfigError, match=r"publish_to: is damaged, or of another .*index\.json"):
        publication.check(PublishSpec(path=str(target)))
    (target / "index.json").unlink()
    (target / "index.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        ConfigError, match=r"publish_to: is a symbolic link: move it away: .*index\.j"
    ):
        publication.check(PublishSpec(path=str(target)))


def test_a_folder_that_cannot_be_made_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"publish_to: .*{tmp_path}/file.* Check the folder"):
        publication.check(PublishSpec(path=str(tmp_path / "file" / "zoo")))


def test_a_folder_inside_of_a_published_one_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    with pytest.raises(RunError, match=r"is inside of .*zoo, which is published to: name a folder"):
        publication.check(PublishSpec(path=str(tmp_path / "zoo/a/served")))
    publication.check(PublishSpec(path=str(tmp_path / "served")))


def test_a_folder_around_a_published_one_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    publication.check(PublishSpec(path=str(tmp_path / "zoo")))  # its own models are no such folders
    with pytest.raises(RunError, match=r"has .*/zoo in it, which is published to: name a folder"):
        publication.check(PublishSpec(path=str(tmp_path)))


def test_a_store_in_a_published_folder_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    with pytest.raises(RunError, match=r"store.path: .*/zoo is published to: give the store"):
        publication.check_store(str(tmp_path / "zoo"))
    with pytest.raises(RunError, match=r"store.path: .*/zoo/s lies in .*/zoo, which is publ"):
        publication.check_store(str(tmp_path / "zoo/s"))
    publication.check_store(str(tmp_path / "store"))


def test_a_full_disk_leaves_the_index_that_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"hal")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    (problem,) = publish(manifest(made(tmp_path, "a", b"half"), day=2), tmp_path)
    assert problem.startswith("a was not published: No space left on device: ")
    assert holds(tmp_path / "zoo") == {"a": b"good"}
