"""The matrix of a sweep: as a record, on the screen and on its page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from converter.layout import runfiles
from converter.model.errors import ExitCode, RunError
from converter.sweep import differences, journal, page, screen
from tests.manifests import CPU, CUDA, NO_FILE, failed, manifest_of, ok, timed
from tests.sweeps import Folder


@pytest.fixture
def two(tmp_path: Path) -> Folder:
    """``a`` works at 13 and 17; ``b`` only at 17; ``c`` is only at the second point."""
    folder = Folder(tmp_path, "opset=13", "opset=17")
    measured = [timed(CUDA, status="unavailable", p50_ms=None), timed(CPU, 1.25)]
    folder.end(0, ExitCode.MODELS_FAILED, ok("a", opset=13), failed("b"))
    folder.end(1, ExitCode.OK, ok("a", latency=measured), ok("b"), ok("c"))
    return folder


def test_a_cell_says_what_the_manifest_of_its_point_says(two: Folder) -> None:
    two.journal.close(ExitCode.MODELS_FAILED)
    sweep = two.read()
    a, b, c = sweep.models
    assert (a.name, a.lowest_opset, a.highest_opset, a.opsets) == ("a", 13, 17, [13, 17])
    assert (b.name, b.lowest_opset, b.highest_opset) == ("b", 17, 17)
    assert a.cells[1].model_dump() == {
        "point": "opset=17",
        "status": "ok",
        "code": None,
        "stage": None,
        "reason": "",
        "opset": 17,
        "exporter": "torchscript",
        "nodes": 8,
        "bytes": 1_000_005,
        "max_abs": 3e-6,
        "p50_ms": 1.25,
        "provider": CPU,
        "cached": False,
        "pinned": {},
    }
    assert a.cells[0].p50_ms is None
    assert (b.cells[0].status, b.cells[0].stage, b.cells[0].code) == (
        "failed", "check", "INPUT_DROPPED",
    )  # fmt: skip
    assert b.cells[0].reason == "INPUT_DROPPED: input factor is not in the graph (it has: x)"
    assert [cell.status for cell in c.cells] == ["absent", "ok"]
    assert sweep.sweep.complete
    assert sweep.sweep.exit_code == 1


def test_a_model_that_works_at_no_opset_has_no_range(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13")
    folder.end(0, ExitCode.MODELS_FAILED, failed("b"), ok("s", status="skipped", **NO_FILE))
    folder.journal.write()
    for model in folder.read().models:
        assert (model.lowest_opset, model.highest_opset, model.opsets) == (None, None, [])


def test_the_record_is_true_at_every_moment(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13", "opset=99", "opset=17")
    folder.points[0].directory = tmp_path / "opset=13"
    folder.journal.write()
    assert [point.state for point in folder.read().points] == ["started", "not_run", "not_run"]
    folder.end(0, ExitCode.OK, ok("a", opset=13))
    folder.points[1].exit_code = ExitCode.CONFIG
    folder.points[1].problems = ["opset: found 99; expected a whole number from 7 to 25."]
    folder.journal.write()
    sweep = folder.read()
    assert [point.state for point in sweep.points] == ["done", "refused", "not_run"]
    assert sweep.sweep.finished_at is None
    assert not sweep.sweep.complete
    assert [cell.status for cell in sweep.models[0].cells] == ["ok", "not_run", "not_run"]
    assert sweep.models[0].cells[1].reason.startswith("opset: found 99")
    folder.journal.close(ExitCode.INTERRUPTED)
    assert not folder.read().sweep.complete


def test_the_paths_of_the_record_are_relative_and_there(two: Folder) -> None:
    (two.path / "opset=17" / "report.html").write_text("")
    two.journal.write()
    first, second = two.read().points
    assert (first.directory, first.report) == ("opset=13", "opset=13/manifest.json")
    assert second.report == "opset=17/report.html"
    for point in (first, second):
        assert point.manifest is not None
        assert (two.path / point.manifest).is_file()


def test_a_record_that_cannot_be_written_is_a_failed_run(two: Folder) -> None:
    (two.path / "sweep.json").mkdir()
    with pytest.raises(RunError, match=r"cannot write the record of the sweep: .*Is a directory"):
        two.journal.write()


@pytest.fixture
def refused(tmp_path: Path) -> Folder:
    """A sweep that ended: a point that ran, one that was refused."""
    folder = Folder(tmp_path, "opset=13", "opset=99")
    folder.end(0, ExitCode.MODELS_FAILED, failed("b"))
    folder.points[1].exit_code = ExitCode.CONFIG
    folder.points[1].problems = ["opset: found 99; expected a whole number from 7 to 25."]
    folder.journal.close(ExitCode.CONFIG)
    return folder


def test_a_refreshed_record_in_which_nothing_changed_is_as_it_was(
    refused: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "now", lambda: "2999-01-01T00:00:00.000Z")
    before = (refused.path / "sweep.json").read_bytes()
    journal.refresh(refused.path)
    assert (refused.path / "sweep.json").read_bytes() == before


def test_a_refused_point_keeps_its_reason_when_another_was_resumed(refused: Folder) -> None:
    runfiles.write(manifest_of(ok("b")), refused.path / "opset=13")
    journal.refresh(refused.path)
    sweep = refused.read()
    assert [(point.state, point.exit_code) for point in sweep.points] == [
        ("done", 0),
        ("refused", 2),
    ]
    assert sweep.points[1].problems == refused.points[1].problems
    assert sweep.models[0].cells[1].reason.startswith("opset: found 99")


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": "1"}', "\x00"])
def test_a_manifest_that_cannot_be_read_keeps_its_points_exit_code(two: Folder, text: str) -> None:
    two.journal.close(ExitCode.MODELS_FAILED)
    (two.path / "opset=13" / "manifest.json").write_text(text)
    journal.refresh(two.path)
    sweep = two.read()
    assert [point.exit_code for point in sweep.points] == [1, 0]
    assert sweep.points[0].problems == ["opset=13/manifest.json cannot be read"]
    assert (sweep.sweep.complete, sweep.sweep.exit_code) == (True, 1)


def test_a_sweep_that_was_stopped_after_its_last_point_is_completed(refused: Folder) -> None:
    refused.journal.close(ExitCode.TERMINATED)
    assert not refused.read().sweep.complete
    journal.refresh(refused.path)
    sweep = refused.read().sweep
    assert (sweep.complete, sweep.exit_code) == (True, 2)


# On the screen


def test_the_screen_shows_the_matrix_and_the_causes(two: Folder) -> None:
    text = screen.render(two.journal.close(ExitCode.MODELS_FAILED), two.path)
    assert text.splitlines() == [
        "sweep over opset",
        "[1] opset=13  exit code 1: 1 failed, 1 ok",
        "[2] opset=17  exit code 0: 3 ok",
        "",
        "model opsets    [1] [2]",
        "-----------------------",
        "a      13-17     ok  ok",
        "b         17 failed  ok",
        "c         17 absent  ok",
        "",
        "b [1] failed in check: INPUT_DROPPED",
        "",
        "exit code 1",
        str(two.path / "sweep.json"),
        str(two.path / "sweep.html"),
    ]


@pytest.mark.parametrize("points", [7, 30])
def test_many_points_keep_to_the_width(tmp_path: Path, points: int) -> None:
    folder = Folder(tmp_path, *(f"seed={seed}" for seed in range(points)))
    for number in range(points):
        rows = ok("a_model_whose_name_is_rather_long", opset=17), failed("b")
        folder.end(number, ExitCode.MODELS_FAILED, *rows)
    text = screen.render(folder.journal.close(ExitCode.OK), Path("/s"))
    assert max(map(len, text.splitlines())) <= 80
    assert "\n. ok, F failed\n" in text
    assert f"[{points}]" in text


def test_a_long_list_shows_only_what_is_not_as_expected(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13")
    folder.end(0, ExitCode.MODELS_FAILED, *(ok(f"m{n}", opset=13) for n in range(60)), failed("b"))
    text = screen.render(folder.journal.close(ExitCode.MODELS_FAILED), tmp_path)
    assert "60 more are as expected at every point; sweep.html has every row." in text
    assert "\nm1 " not in text


def test_an_interrupted_sweep_says_how_far_it_came(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13", "opset=17")
    folder.end(0, ExitCode.INTERRUPTED, ok("a", status="not_run", **NO_FILE))
    text = screen.render(folder.journal.close(ExitCode.INTERRUPTED), tmp_path)
    assert "[2] opset=17  not run" in text
    resume = f"Resume with: python -m converter resume {tmp_path / 'opset=13'}"
    last = f"Interrupted: 0 of 2 points finished; results in {tmp_path}. {resume}"
    assert text.splitlines()[-1] == last


def test_a_sweep_that_lacks_a_point_says_how_far_it_came(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13", "opset=17")
    folder.end(0, ExitCode.OK, ok("a", opset=13))
    text = screen.render(folder.journal.close(ExitCode.RUN_FAILED), tmp_path)
    assert "The sweep did not come to its end: 1 of 2 points ran." in text


# On the page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def test_the_page_shows_every_cell_and_links_to_the_runs(two: Folder) -> None:
    text = page.render(two.journal.close(ExitCode.MODELS_FAILED))
    parsed = Page(text)
    assert parsed.tags.count("tr") == 2 + 2 + 3
    runs = ["opset%3D13/manifest.json", "opset%3D17/manifest.json"]
    assert parsed.links == [*runs, "#code-INPUT_DROPPED"]
    for words in (
        "failed <a",
        ">INPUT_DROPPED</code>",
        "in check",
        "8 nodes, 1 MB",
        "same as opset=13",
        "1.25 ms",
        "3.0e-06",
    ):
        assert words in text
    assert "script" not in parsed.tags


def test_a_cell_that_the_model_pins_says_so(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13", "opset=17", "opset=20")
    for number, opset in enumerate((13, 17, 20)):
        moves = ok("moves", opset=opset, nodes=8 + (opset == 20))
        # One that fails says what it was asked for.
        folder.end(number, ExitCode.OK, ok("still"), moves, failed("wrong"))
    sweep = folder.journal.close(ExitCode.OK)
    still, moves, wrong = (model.cells for model in sweep.models)
    assert [cell.pinned for cell in still] == [{"opset": "17"}, {}, {"opset": "17"}]
    assert [cell.pinned for cell in moves] == [{}, {}, {}]
    assert wrong[0].pinned == {"opset": "17"}
    # What changes comes first; the others repeat themselves.
    shown = differences.lines(sweep)
    assert [line.model.name for line in shown] == ["moves", "still", "wrong"]
    assert [line.changes for line in shown] == [True, False, False]
    assert [each.same_as for each in shown[0].cells] == ["", "opset=13", ""]
    assert [each.same_as for each in shown[1].cells] == ["", "opset=13", "opset=13"]
    assert ("9 nodes, 1 MB", True) in shown[0].cells[2].facts
    assert ("error 3.0e-06", False) in shown[0].cells[2].facts
    text = page.render(sweep)
    assert "1 of 3 changes between points" in text
    assert "did not move it: still (opset 17), wrong (opset 17)." in text
    assert text.count("pinned by the model: opset 17") == 4


def test_a_latency_within_noise_is_no_difference(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13", "opset=17", "opset=20")
    for number, p50 in enumerate((1.0, 1.05, 1.5)):
        opset = (13, 17, 20)[number]
        folder.end(number, ExitCode.OK, ok("a", opset=opset, latency=[timed(CPU, p50)]))
    (line,) = differences.lines(folder.journal.close(ExitCode.OK))
    assert [each.same_as for each in line.cells] == ["", "opset=13", ""]
    # The figure stays where it can be read.
    assert [f"1.05 ms, {CPU}", f"1.5 ms, {CPU}"] == [
        text for each in line.cells[1:] for text, _ in each.facts if " ms" in text
    ]
    assert (f"1.5 ms, {CPU}", True) in line.cells[2].facts


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    folder = Folder(tmp_path, "model=x", "model=y")
    folder.end(0, ExitCode.MODELS_FAILED, failed(hostile, message=hostile))
    folder.points[1].exit_code = ExitCode.CONFIG
    folder.points[1].problems = [hostile]
    folder.points[1].swept = [hostile]
    parsed = Page(page.render(folder.journal.write()))
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags


def test_a_sweep_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    text = page.render(Folder(tmp_path, "opset=13").journal.write())
    assert "No point has come to its end yet." in text
    assert "The sweep has not come to its end." in text
    assert json.loads((tmp_path / "sweep.json").read_text())["models"] == []
