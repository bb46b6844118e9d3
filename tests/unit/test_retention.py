"""Which runs stay, and which one was the last."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from nights import manifest as manifest_of
from nights import row

from converter.finalize import baseline, history, retention
from converter.layout import claim, delivery, files, runfiles
from converter.model.errors import ConfigError, RunError
from converter.model.manifest import model_of


def night(
    home: Path,
    name: str,
    day: int,
    *,
    experiment: str = "zoo",
    complete: bool = True,
    narrowed: bool = False,
) -> Path:
    """A run directory, or a point of a sweep."""
    directory = home / name
    directory.mkdir(parents=True)
    made = manifest_of(row(), day=day, complete=complete)
    run = made.run.model_copy(update={"experiment": experiment, "narrowed": narrowed})
    runfiles.write(made.model_copy(update={"run": run}), directory)
    return directory


def names(home: Path) -> set[str]:
    return {path.name for path in home.iterdir() if not path.is_symlink()}


def test_the_newest_stay(tmp_path: Path) -> None:
    for day in (3, 1, 2, 4):
        night(tmp_path, f"run{day}", day)
    removed = retention.prune(tmp_path, "zoo", 2, [])
    assert [path.name for path in removed] == ["run2", "run1"]
    assert names(tmp_path) == {"run3", "run4"}


def test_latest_the_baseline_and_running_ones_stay(tmp_path: Path) -> None:
    for day in range(1, 7):
        night(tmp_path, f"run{day}", day)
    delivery.link_latest(tmp_path / "run1")
    with (tmp_path / "run3" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        retention.prune(tmp_path, "zoo", 1, [tmp_path / "run2"])
    assert names(tmp_path) == {"run1", "run2", "run3", "run6"}


def test_a_sweep_counts_as_one(tmp_path: Path) -> None:
    night(tmp_path, "run0", 0)
    night(tmp_path, "run1", 1)  # a run that is no sweep is compared with it
    for point in ("opset=13", "opset=15"):
        night(tmp_path, f"sweep2/{point}", 2)
        night(tmp_path, f"sweep3/{point}", 3)
    retention.prune(tmp_path, "zoo", 2, [])
    assert names(tmp_path) == {"run1", "sweep2", "sweep3"}
    night(tmp_path, "run4", 4)
    retention.prune(tmp_path, "zoo", 1, [tmp_path / "sweep2/opset=13"])
    assert names(tmp_path) == {"sweep2", "sweep3", "run4"}
    retention.prune(tmp_path, "zoo", 1, [])
    assert names(tmp_path) == {"sweep3", "run4"}  # what the next sweep is compared with


def test_what_the_next_night_is_compared_with_stays(tmp_path: Path) -> None:
    night(tmp_path, "run1", 1)
    night(tmp_path, "sweep1/opset=13", 1)
    night(tmp_path, "run2", 2, narrowed=True)
    night(tmp_path, "sweep2/opset=15", 3)
    night(tmp_path, "run4", 4, narrowed=True)
    delivery.link_latest(tmp_path / "run4")
    retention.prune(tmp_path, "zoo", 1, [])
    assert names(tmp_path) == {"run1", "sweep1", "sweep2", "run4"}


def test_only_runs_of_the_experiment_are_removed(tmp_path: Path) -> None:
    night(tmp_path, "run1", 1)
    night(tmp_path, "other", 1, experiment="other")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/todo.txt").write_text("keep me")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/manifest.json").write_text("{")
    elsewhere = night(tmp_path.parent / "elsewhere", "run0", 1)
    (tmp_path / "linked").symlink_to(elsewhere)
    night(tmp_path, "run2", 2)
    retention.prune(tmp_path, "zoo", 1, [])
    assert names(tmp_path) == {"other", "notes", "torn", "run2"}
    assert (elsewhere / "manifest.json").exists()


def test_what_a_killed_run_had_begun_to_remove_goes(tmp_path: Path) -> None:
    night(tmp_path, ".removed-run1", 1)
    night(tmp_path, "run2", 2)
    assert retention.prune(tmp_path, "zoo", 5, []) == []
    assert names(tmp_path) == {"run2"}


# The last run


def test_latest_is_where_the_link_leads(tmp_path: Path) -> None:
    assert baseline.find("latest", tmp_path, "") is None
    night(tmp_path, "run1", 1)
    delivery.link_latest(tmp_path / "run1")
    night(tmp_path, "run2", 2)
    found = baseline.find("latest", tmp_path, "")
    assert found is not None
    assert (found.directory, found.manifest.run.id) == (tmp_path / "run1", "run-1")
    assert baseline.find(None, tmp_path, "") is None


def test_a_run_of_a_few_models_is_no_night_to_compare_with(tmp_path: Path) -> None:
    night(tmp_path, "run1", 1)
    night(tmp_path, "run2", 2)
    night(tmp_path, "run3", 3, complete=False)
    night(tmp_path, "run4", 4, narrowed=True)
    delivery.link_latest(tmp_path / "run4")
    found = baseline.find("latest", tmp_path, "")
    assert found is not None
    assert found.directory == tmp_path / "run2"


def test_where_the_link_leads_to_nothing_the_newest_run_counts(tmp_path: Path) -> None:
    night(tmp_path, "run1", 1)
    gone = night(tmp_path, "run2", 2)
    delivery.link_latest(gone)
    shutil.rmtree(gone)
    found = baseline.find("latest", tmp_path, "")
    assert found is not None
    assert found.directory == tmp_path / "run1"


def test_latest_at_a_point_is_the_same_point_of_the_last_sweep_that_has_it(tmp_path: Path) -> None:
    night(tmp_path, "run9", 9)
    delivery.link_latest(tmp_path / "run9")
    night(tmp_path, "s1/opset=13", 1)
    night(tmp_path, "s2/opset=13", 2)
    night(tmp_path, "s3/opset=13", 3, complete=False)
    night(tmp_path, "s4/opset=15", 4)
    found = baseline.find("latest", tmp_path, "opset=13")
    assert found is not None
    assert found.directory == tmp_path / "s2/opset=13"
    assert baseline.find("latest", tmp_path, "opset=17") is None


def test_runs_that_were_put_elsewhere_look_for_the_others_in_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert history.home(tmp_path / "zoo" / "run", "zoo") == tmp_path / "zoo"
    assert history.home(tmp_path / "ci" / "run", "zoo") == tmp_path / "outputs" / "zoo"


def test_the_models_that_a_killed_run_had_finished_count(tmp_path: Path) -> None:
    run = tmp_path / "run1"
    run.mkdir()
    names = ("done", "torn", "never")
    planned = manifest_of(*(row(name, status="not_run") for name in names), complete=False)
    runfiles.write(planned, run)
    runfiles.append_result(run, model_of([row("done")]))
    with (run / runfiles.RESULTS).open("a") as lines:
        lines.write('{"name": "torn", "sta')
    found = baseline.load(run, "compare").manifest
    assert {r.name: r.status for r in found.models} == {
        "done": "ok",
        "torn": "not_run",
        "never": "not_run",
    }
    assert found.run.counts == {"not_run": 2, "ok": 1}


def test_a_manifest_may_be_named_instead_of_its_run(tmp_path: Path) -> None:
    run = night(tmp_path, "run1", 1)
    assert baseline.load(run, "baseline") == baseline.load(run / "manifest.json", "baseline")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", r"manifest.json cannot be read: .* It is damaged: name another run."),
        (b"\xff", r"manifest.json cannot be read: .* It is damaged: name another run."),
        (b"[]", r"has schema_version none; this version of the converter reads '2'. Read it with"),
        (b'{"schema_version": "3"}', r"has schema_version '3'; this version .* reads '2'."),
        *[
            (
                content,
                r"is not a manifest that this version can read: run: Field required. A newer",
            )
            for content in (
                b'{"schema_version": "2"}',
                b'{"schema_version": "1"}',
                b'{"schema_version": "1", "models": [3, {}, {"artifact": 3, "stages": []}]}',
                b'{"schema_version": "1", "models": [{"stages": {"check": 3}}]}',
                b'{"schema_version": "1", "models": [{"artifact": {"external_data": 3}}]}',
            )
        ],
    ],
)
def test_a_baseline_that_cannot_be_read(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^baseline: {tmp_path}/.*" + sentence):
        baseline.load(tmp_path, "baseline")


def test_a_baseline_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*/nope. Name a run directory or a man"):
        baseline.load(tmp_path / "nope", "baseline")
    with pytest.raises(ConfigError, match=r"holds no manifest.json\.$"):
        baseline.load(tmp_path, "baseline")
    night(tmp_path, "opset=13", 1)
    with pytest.raises(ConfigError, match=r"It is a sweep, take one of its points: opset=13\.$"):
        baseline.load(tmp_path, "baseline")


def test_a_newer_field_is_no_crash(tmp_path: Path) -> None:
    run = night(tmp_path, "run1", 1)
    data = json.loads((run / "manifest.json").read_text())
    data["run"]["moon"] = "full"
    (run / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=r"run\.moon: Extra inputs .* A newer version may have"):
        baseline.load(run, "baseline")
    assert os.listdir(run) == ["manifest.json"]


def test_a_link_that_cannot_get_its_name_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "run1").mkdir()
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Read-only"):
        delivery.link_latest(tmp_path / "run1")
    assert [path.name for path in tmp_path.iterdir()] == ["run1"]


def test_a_text_that_has_its_name_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object, **options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "unlink", refuse)
    files.write_atomic(tmp_path / "text", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_a_lock_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / claim.LOCK).mkdir()
    with pytest.raises(RunError, match=r"\.lock cannot be read: Is a directory\. Look at the disk"):
        claim.held_by(tmp_path)
