"""An experiment over its nights: what is kept, what happened, the page, and the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from nights import checked, environment, failing, row, timed
from nights import manifest as made

from converter.cli import command_line, completion
from converter.layout import runfiles
from converter.model import manifest
from converter.model.changes import Change, Comparison
from converter.model.manifest import ArtifactRow, Manifest
from converter.runner import finalize
from converter.runner.context import RunContext
from converter.trends import database, noise, page, report, sparks, words
from converter.trends.database import FILE, Database
from converter.trends.strips import History, Strip

OLD, NEW = {"torch": "2.14.0"}, {"torch": "2.15.0"}


class Zoo:
    """The folder of an experiment's runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True)

    def night(self, day: int, *rows: ArtifactRow, packages: Any = OLD, **run: Any) -> Path:
        """Leave a run of that day."""
        found = made(*rows, day=day, env=environment(packages=packages))
        counts = manifest.counts(found.models)
        info = found.run.model_copy(update={"counts": counts, **run})
        return self.leave(found.model_copy(update={"run": info}))

    def leave(self, found: Manifest) -> Path:
        folder = self.home / found.run.id
        folder.mkdir(exist_ok=True)
        runfiles.write(found, folder)
        return folder

    def read(self, **options: Any) -> History:
        found, notes = report.read(self.home, **options)
        assert notes == []
        return found

    def page(self) -> str:
        assert report.write(self.home) == []
        return (self.home / page.FILE).read_text(encoding="utf-8")

    def strip(self, label: str = "m") -> Strip:
        (found,) = [strip for strip in self.read().strips if strip.label == label]
        return found


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    monkeypatch.chdir(tmp_path)
    return Zoo(tmp_path / "outputs" / "zoo")


def told(strip: Strip) -> list[tuple[int, str, str]]:
    return [(event.at, event.text, event.because) for event in strip.events]


# What is kept


def test_each_night_is_read_once(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (1, 2, 3):
        zoo.night(day, row())
    assert [night.id for night in zoo.read().nights] == ["run-1", "run-2", "run-3"]
    read: list[Path] = []
    real = runfiles.read
    monkeypatch.setattr(runfiles, "read", lambda path: (read.append(path), real(path))[1])
    zoo.night(4, row())
    assert zoo.read().total == 4
    assert [path.parent.name for path in read] == ["run-4"]


def test_all_figures_come_back_as_they_were(zoo: Zoo) -> None:
    latency = [timed(2.0), timed(9.0, provider="cuda"), timed(5.0, shapes={"x": [8]})]
    zoo.night(1, row(verify=checked(2e-4), latency=latency, cached=True), failing("bad"))
    good, bad = (zoo.strip(name).last for name in ("m", "bad"))
    assert good is not None
    assert bad is not None
    assert (good.status, good.max_abs, good.share, good.bytes) == ("ok", 2e-4, 0.2, 1000)
    assert (good.sha256, good.cached, good.seconds) == ("a" * 64, True, None)
    # The first of a provider: the model's own shapes.
    found = {name: (each.p50, each.low, each.high) for name, each in good.latency.items()}
    assert found == {"cpu": (2.0, 1.98, 2.02), "cuda": (9.0, 8.91, 9.09)}
    assert (bad.code, bad.bytes, bad.latency) == ("EXPORT_UNSUPPORTED", None, {})
    assert bad.message == "bad uses an operator without ONNX form"


def test_a_run_that_is_written_again_is_replaced(zoo: Zoo) -> None:
    zoo.night(1, failing())
    assert zoo.strip().states == ["failed"]
    zoo.night(1, row())
    assert (zoo.strip().states, zoo.read().total) == (["ok"], 1)


def test_nights_outlive_their_directories(zoo: Zoo) -> None:
    first = zoo.night(1, row())
    zoo.night(2, row())
    zoo.read()
    shutil.rmtree(first)
    assert [night.id for night in zoo.read().nights] == ["run-1", "run-2"]


@pytest.mark.parametrize(
    "run",
    [
        {"narrowed": True},
        {"experiment": "other"},
        {"complete": False, "ended_by": "signal"},
        {"complete": False, "ended_by": "deadline"},
    ],
    ids=str,
)
def test_what_is_no_night(zoo: Zoo, run: dict[str, Any]) -> None:
    zoo.night(1, row(), **run)
    assert zoo.read().nights == []
    zoo.night(1, row())  # as `resume` leaves it
    assert len(zoo.read().nights) == 1


def test_a_manifest_that_cannot_be_read_is_passed_over(zoo: Zoo) -> None:
    (zoo.night(1, row()) / "manifest.json").write_text("{")
    zoo.night(2, row())
    (zoo.home / "sweep" / "opset=13").mkdir(parents=True)
    assert [night.id for night in zoo.read().nights] == ["run-2"]


def damage(path: Path) -> None:
    path.write_bytes(b"no database" * 100)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def another_version(path: Path) -> None:
    with sqlite3.connect(path) as sql:
        sql.execute("PRAGMA user_version = 99")
    sql.close()


def without_a_table(path: Path) -> None:
    with sqlite3.connect(path) as sql:
        sql.execute("DROP TABLE figures")
    sql.close()


def with_another_column(path: Path) -> None:
    with sqlite3.connect(path) as sql:
        sql.execute("ALTER TABLE figures RENAME COLUMN share TO part")
    sql.close()


@pytest.mark.parametrize(
    "harm", [damage, cut, another_version, without_a_table, with_another_column]
)
def test_a_file_of_no_use_is_set_aside_and_made_again(zoo: Zoo, harm: Any) -> None:
    for day in (1, 2):
        zoo.night(day, row())
    zoo.read()
    harm(zoo.home / FILE)
    broken = (zoo.home / FILE).read_bytes()
    found, (note,) = report.read(zoo.home)
    assert [night.id for night in found.nights] == ["run-1", "run-2"]
    assert f"{zoo.home / FILE} was set aside as history.old.sqlite: it is " in note
    assert (zoo.home / "history.old.sqlite").read_bytes() == broken
    assert zoo.read().total == 2


def edit(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as sql:
        sql.execute(statement)
    sql.close()


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE figures SET status = 999", "999 stands for nothing"),
        ("UPDATE figures SET status = code WHERE code IS NOT NULL", "status: Input should be 'ok'"),
        ("UPDATE figures SET code = 999", "999 stands for nothing"),
        ("UPDATE figures SET share = 'abc'", "share: Input should be a valid number"),
        ("UPDATE figures SET share = 9e999", "share: Input should be"),
        ("UPDATE figures SET optional = 'abc'", "'abc' stands for nothing"),
        ("UPDATE figures SET bytes = 1.5", "bytes: Input should be a valid integer"),
        ("UPDATE latencies SET p50_ms = 'abc'", "p50: Input should be a valid number"),
        ("UPDATE latencies SET provider = 999", "999 stands for nothing"),
        ("UPDATE words SET text = CAST(x'ff' || id AS TEXT)", "Could not decode"),
        ("UPDATE artifacts SET model = x'00' WHERE id = 1", "a name in it is no text"),
        ("UPDATE runs SET started_at = '<b>'", "started_at: String should match"),
        ("UPDATE runs SET directory = '../victim'", "directory: String should match"),
        ("UPDATE runs SET counts = '" + "[" * 9999 + "'", "Invalid JSON"),
        ('UPDATE runs SET counts = \'{"ok": "x"}\'', "ok: Input should be a valid integer"),
        ("UPDATE runs SET environment = '{}'", "os: Field required"),
        ("CREATE UNIQUE INDEX one ON figures (optional)", "UNIQUE constraint failed"),
    ],
)
def test_a_value_that_none_put_in_is_damage(zoo: Zoo, statement: str, why: str) -> None:
    first = zoo.night(1, row(latency=[timed(2.0)]), failing("bad"))
    zoo.read()
    if "INDEX" in statement:
        edit(zoo.home / FILE, "DELETE FROM figures")
        zoo.leave(runfiles.read(first))
    edit(zoo.home / FILE, statement)
    (note,) = report.write(zoo.home)
    assert "was set aside as history.old.sqlite" in note
    assert why in note
    assert (zoo.strip().states, zoo.strip("bad").states) == (["ok"], ["failed"])


@pytest.mark.parametrize("value", ["'abc'", "x'00ff'", "1e999"])
def test_no_value_of_any_column_stops_the_page(zoo: Zoo, value: str) -> None:
    zoo.night(1, row(latency=[timed(2.0)]), failing("bad"))
    zoo.night(2, row(latency=[timed(2.0)]), failing("bad"))
    zoo.read()
    kept = (zoo.home / FILE).read_bytes()
    with closing(sqlite3.connect(zoo.home / FILE)) as sql:
        tables = ("words", "artifacts", "folders", "runs", "figures", "latencies")
        info = [(table, sql.execute(f"PRAGMA table_info({table})").fetchall()) for table in tables]
    for table, name in [(table, each[1]) for table, columns in info for each in columns]:
        (zoo.home / FILE).write_bytes(kept)
        one = "LIMIT 1" if table != "folders" else ""
        key = ", ".join(each[1] for each in dict(info)[table] if each[5])
        where = f"({key}) IN (SELECT {key} FROM {table} {one})" if one else "1"
        with suppress(sqlite3.IntegrityError):  # of an index: a value that no edit leaves there
            edit(zoo.home / FILE, f"UPDATE {table} SET {name} = {value} WHERE {where}")
        report.write(zoo.home)
        found, notes = report.read(zoo.home)
        assert notes == [], (table, name)
        json.dumps(words.record(found))
        assert words.paragraphs(found, 80)


def test_a_folder_whose_name_is_no_text_is_passed_over(zoo: Zoo) -> None:
    zoo.night(1, row()).rename(zoo.home / os.fsdecode(b"night\xff"))
    zoo.night(2, row())
    assert [night.id for night in zoo.read().nights] == ["run-2"]


def test_a_manifest_that_says_what_none_can_is_passed_over(zoo: Zoo) -> None:
    zoo.night(1, row(), started_at="<script>")
    zoo.night(2, row(verify=checked(1.7e308)))
    assert [night.id for night in zoo.read().nights] == ["run-2"]
    assert zoo.strip().last.max_abs is None  # type: ignore[union-attr]
    assert "every model is as expected" in zoo.page().casefold()


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_what_is_no_file_is_refused_and_left(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = zoo.night(1, row())
    zoo.read()
    path, elsewhere = zoo.home / FILE, tmp_path / "elsewhere.sqlite"
    path.rename(elsewhere)
    before = elsewhere.read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere if kind == "link" else tmp_path / "absent")
    zoo.night(2, row())
    names = {"link": "a symbolic link", "dangling": "a symbolic link", "pipe": "a named pipe"}
    advice = f"{names.get(kind, 'a folder')} stands where a file belongs, and is left as it is"
    for options in ([], ["--rebuild"]):
        assert command_line.main(["history", "zoo", *options]) == 3
        assert f"{Path('outputs/zoo') / FILE}: {advice}: move it away" in capsys.readouterr().err
    (note,) = remembered(runfiles.read(folder), folder)
    assert note.startswith(f"the history of zoo lacks this run: {advice}: move it away")
    assert (elsewhere.read_bytes(), (tmp_path / "absent").exists()) == (before, False)


@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm"])
def test_no_link_beside_it_is_followed(zoo: Zoo, tmp_path: Path, ending: str) -> None:
    zoo.night(1, row())
    (tmp_path / "mine").write_text("mine")
    (zoo.home / f"{FILE}{ending}").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="a symbolic link stands where a file belongs"):
        zoo.read()
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_without_nights_stays_as_it_is(zoo: Zoo) -> None:
    zoo.night(1, row(), narrowed=True)
    for home in (zoo.home, zoo.home.parent):
        before = sorted(home.rglob("*"))
        assert command_line.main(["history", str(home), "--rebuild"]) == 2
        assert sorted(home.rglob("*")) == before


def test_more_nights_than_can_be_counted_are_all(zoo: Zoo) -> None:
    zoo.night(1, row())
    assert len(zoo.read(most=2**63).nights) == 1


def test_it_can_be_made_again_on_demand(zoo: Zoo) -> None:
    for day in (1, 2):
        zoo.night(day, row())
    zoo.read()
    shutil.rmtree(zoo.home / "run-1")
    found, (note,) = report.read(zoo.home, anew=True)
    assert ([night.id for night in found.nights], "made again" in note) == (["run-2"], True)


def test_a_folder_that_cannot_be_written_is_read(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    first = zoo.night(1, row())
    zoo.read()
    shutil.rmtree(first)
    zoo.night(2, row())
    before = (zoo.home / FILE).read_bytes()
    # As it is told of a folder of another person: root may write into any.
    monkeypatch.setattr(database.os, "access", lambda path, mode: False)
    assert [night.id for night in zoo.read().nights] == ["run-1", "run-2"]
    assert (zoo.home / FILE).read_bytes() == before
    (zoo.home / FILE).unlink()
    assert [night.id for night in zoo.read().nights] == ["run-2"]
    assert not (zoo.home / FILE).exists()


def test_two_that_write_at_once_wait_for_each_other(zoo: Zoo) -> None:
    zoo.night(1, row())
    errors: list[BaseException] = []

    def reads() -> None:
        try:
            report.write(zoo.home)
        except BaseException as error:
            errors.append(error)

    with Database(zoo.home / FILE):
        threads = [threading.Thread(target=reads) for _ in range(4)]
        for thread in threads:
            thread.start()
        threads[0].join(0.2)
        assert threads[0].is_alive()
    for thread in threads:
        thread.join()
    assert errors == []
    assert zoo.read().total == 1


def test_the_view_has_a_line_for_each_artifact_and_night(zoo: Zoo) -> None:
    for day in (1, 2):
        zoo.night(day, row(latency=[timed(2.0)]), failing("bad"))
    zoo.read()
    sql = sqlite3.connect(zoo.home / FILE)
    found = sql.execute(
        "SELECT run, model, status, code, p50_ms, bytes FROM history ORDER BY run, model"
    ).fetchall()
    sql.close()
    night = [("bad", "failed", "EXPORT_UNSUPPORTED", None, None), ("m", "ok", None, 2.0, 1000)]
    assert found == [(run, *line) for run in ("run-1", "run-2") for line in night]


def test_a_night_of_the_same_files_costs_little(zoo: Zoo) -> None:
    for day in range(1, 11):
        zoo.night(day, *(row(f"model_{i:03}", latency=[timed(1.0 + i)]) for i in range(100)))
    zoo.read()
    assert (zoo.home / FILE).stat().st_size < 10 * 100 * 150 + 60_000


# What happened


def test_a_failure_says_which_night_it_began_and_what_changed_then(zoo: Zoo) -> None:
    since = "2026-11-02T02:00:00.000Z"
    zoo.night(1, row())
    zoo.night(2, failing(failing_since=since), packages=NEW)
    zoo.night(3, failing(failing_since=since), packages=NEW)
    strip = zoo.strip()
    message = "failed EXPORT_UNSUPPORTED: m uses an operator without ONNX form"
    assert told(strip) == [(1, message, "torch 2.14.0 → 2.15.0")]
    assert (strip.fails, strip.fails_newly) == (True, False)
    assert strip.since(zoo.read().nights) == "2026-11-02"


def test_what_the_comparison_found_counts_before_the_versions(zoo: Zoo) -> None:
    zoo.night(1, row())
    folder = zoo.night(2, failing(), packages=NEW)
    change = Change(model="m", kind="newly_failing", explained_by=["nets.py changed"])
    found = Comparison(baseline_run_id="run-1", verdict="regression", changes=[change])
    zoo.leave(runfiles.read(folder).model_copy(update={"comparison": found}))
    assert [because for _, _, because in told(zoo.strip())] == ["nets.py changed"]


def test_models_come_and_go(zoo: Zoo) -> None:
    zoo.night(1, row("a"))
    zoo.night(2, row("a"), row("b"))
    zoo.night(3, row("b"))
    zoo.night(4, row("a"), row("b"))
    assert told(zoo.strip("a")) == [
        (2, "not in the list any more", ""),
        (3, "in the list again", ""),
    ]
    assert told(zoo.strip("b")) == [(1, "new", "")]
    assert zoo.strip("b").states == ["absent", "ok", "ok", "ok"]


def test_what_changed_last_comes_first_of_that_what_fails(zoo: Zoo) -> None:
    zoo.night(1, *map(row, "abcd"))
    zoo.night(2, row("a"), failing("b"), row("c"), row("d"))
    zoo.night(3, row("a"), row("b"), failing("c"), row("d"), row("e"))
    assert [strip.label for strip in zoo.read().strips] == ["c", "b", "e", "a", "d"]


def test_a_variant_comes_behind_what_it_is_made_from(zoo: Zoo) -> None:
    fp16 = row("a", id="fp16", parent="onnx", optional=True)
    zoo.night(1, row("a"), fp16, row("b"))
    assert [strip.label for strip in zoo.read().strips] == ["a", "a/fp16", "b"]
    zoo.night(2, row("a"), failing("a", id="fp16", optional=True), row("b"))
    # An optional artifact fails no model.
    assert [strip.fails for strip in zoo.read().strips] == [False] * 3
    assert "Every model is as expected." in zoo.page()


def test_a_larger_file_and_a_slower_model_are_told(zoo: Zoo) -> None:
    for day in range(1, 9):
        p50 = 2.0 + 0.02 * (day % 3) if day < 8 else 2.6
        files = row().files if day < 5 else [row().files[0].model_copy(update={"bytes": 2000})]
        packages = NEW if day == 8 else OLD
        zoo.night(day, row(latency=[timed(p50)], files=files), packages=packages)
    assert told(zoo.strip()) == [
        (4, "size 1 kB → 2 kB (+100\N{NO-BREAK SPACE}%)", ""),
        (7, "latency cpu 2.02 ms → 2.6 ms (+29\N{NO-BREAK SPACE}%)", "torch 2.14.0 → 2.15.0"),
    ]


def test_noise_is_none_of_it() -> None:
    values = [10.0, 10.4, 9.7, 10.1, 10.3, 9.8, 10.9, 9.4, 10.2, 9.9]
    assert noise.series(noise.LATENCY, values).steps == []
    # All of the confidence interval has to be outside.
    reach = [(value, value) for value in values[:-1]]
    for high, steps in ((10.5, []), (7.5, [9])):
        slow = noise.series(noise.LATENCY, [*values[:-1], 7.0], "cpu", [*reach, (6.5, high)])
        assert slow.steps == steps


def test_a_lasting_change_is_told_once_and_becomes_the_rule() -> None:
    found = noise.series(noise.LATENCY, [1.0] * 9 + [2.0] * 12)
    assert found.steps == [9]
    assert 20 not in found.outside
    assert found.bands[20] == noise.Band(1.8, 2.0, 2.2)


def test_a_figure_that_some_nights_lack_has_gaps() -> None:
    found = noise.series(noise.SECONDS, [None, 3.0, None, 1.0, 2.0])
    drawn = sparks.spark(found)
    assert drawn.line.count("M") == 2
    assert drawn.line.startswith("M12 ")
    assert found.last == 2.0


# The page


def test_the_page_says_it_in_words(zoo: Zoo) -> None:
    zoo.night(1, row("good"), row("bad"))
    (zoo.night(2, row("good"), failing("bad"), packages=NEW, exit_code=1) / "report.html").touch()
    text = zoo.page()
    assert "1 of 2 models failed unexpectedly, 1 newly in the last night." in text
    assert (
        '<i class="o" title="ok 2026-11-01">.</i><i class="f" title="failed 2026-11-02">F' in text
    )
    assert "EXPORT_UNSUPPORTED</a>: bad uses an operator" in text
    assert '<span class="strip" role="img" aria-label="ok 2026-11-01; failed 2026-11-02">' in text
    assert re.search(r"<title>size [\d.]+ [kM]?B in 2 nights</title>", text)
    assert '<span class="because">torch 2.14.0 → 2.15.0</span>' in text
    assert '<a href="run-2/report.html">2026-11-02 02:00</a>' in text
    assert "run-1/report.html" not in text  # there is none


def test_what_fails_for_longer_than_the_page_goes_back_says_since_when(zoo: Zoo) -> None:
    for day in (1, 2):
        zoo.night(day, failing(failing_since="2026-09-30T02:00:00.000Z"))
    text = zoo.page()
    assert "without ONNX form since <b>2026-09-30</b>" in text
    assert "1 of 1 model failed unexpectedly, none newly in the last night." in text


def test_the_page_has_the_last_nights_alone(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "NIGHTS", 3)
    for day in range(1, 6):
        zoo.night(day, row())
    text = zoo.page()
    assert "3 nights, 2026-11-03 to 2026-11-05; <code>history.sqlite</code> has 5" in text
    assert "2026-11-02" not in text


def test_a_model_that_does_not_change_takes_little_of_the_page(zoo: Zoo) -> None:
    def size(models: int) -> int:
        for day in range(1, 28):
            p50 = 2 + 0.03 * (day * 7 % 11)
            zoo.night(day, *(row(f"m{i}", latency=[timed(p50)]) for i in range(models)))
        return len(zoo.page())

    assert (size(30) - size(10)) / 20 < 1300


def test_nothing_of_a_model_becomes_markup(zoo: Zoo) -> None:
    evil = "<img src=x onerror=alert(1)>"
    zoo.night(1, row(evil))
    zoo.night(2, failing(evil, error={"message": evil}), packages={evil: evil})
    text = zoo.page()
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


# The end of a run


def test_a_run_that_ends_is_in_the_history_of_its_experiment(zoo: Zoo) -> None:
    folder = zoo.night(1, row())
    found = runfiles.read(folder)
    assert remembered(found, folder) == []
    assert (zoo.home / page.FILE).is_file()
    for experiment, place in (("adhoc", zoo.home), ("other", zoo.home)):
        assert remembered(found, place / "run-1", experiment) == []
    assert zoo.read().total == 1


def test_a_history_that_cannot_be_written_is_told_and_fails_nothing(zoo: Zoo) -> None:
    folder = zoo.night(1, row())
    (zoo.home / page.FILE).mkdir()
    (told,) = remembered(runfiles.read(folder), folder)
    assert told.startswith("the history of zoo lacks this run: Is a directory: ")
    (zoo.home / FILE).unlink()
    (zoo.home / FILE).mkdir()
    (told,) = remembered(runfiles.read(folder), folder)
    assert "a folder stands where a file belongs" in told


def remembered(found: Manifest, folder: Path, experiment: str = "zoo") -> list[str]:
    return finalize._remembered(found, RunContext(folder, experiment, [], "0" * 64, ""))


# The command


@pytest.fixture
def week(zoo: Zoo) -> Zoo:
    zoo.night(1, row("resnet18"), row("srcnn"))
    zoo.night(2, row("resnet18"), failing("srcnn"), packages=NEW, exit_code=1)
    zoo.night(3, row("resnet18"), failing("srcnn"), packages=NEW, exit_code=1)
    return zoo


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert command_line.main(["history", *words]) == code
    streams = capsys.readouterr()
    return streams.err if code else streams.out


def test_a_line_for_each_model(week: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "zoo")
    assert text.startswith("zoo: 3 nights, 2026-11-01 to 2026-11-03; last exit code: 1\n")
    assert re.search(r"^srcnn +\.FF +failed +2026-11-02$", text, re.MULTILINE)
    assert re.search(r"^resnet18 +\.\.\. +ok$", text, re.MULTILINE)
    assert "\nsrcnn: 2026-11-02 failed EXPORT_UNSUPPORTED: srcnn uses an operator" in text
    assert "\n    changed then: torch 2.14.0 → 2.15.0\n" in text
    assert "\nversions and machine:\n2026-11-02 torch 2.14.0 → 2.15.0\n" in text
    assert max(map(len, text.split("\n\n")[1].splitlines())) <= 80


def test_the_folder_of_the_runs_will_do(week: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "outputs/zoo/") == said(capsys, "zoo")


def test_one_model_night_by_night(week: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "zoo", "srcnn", "--nights", "2")
    nights = re.findall(r"^(2026-11-0\d) 02:00 (\w+)", text, re.MULTILINE)
    assert nights == [("2026-11-03", "failed"), ("2026-11-02", "failed")]
    assert "zoo: 2 nights of 3" in text
    assert "resnet18" not in text


def test_json_has_all_of_it(week: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "zoo", "srcnn", "--json"))
    assert [night["id"] for night in found["nights"]] == ["run-1", "run-2", "run-3"]
    changed = {"name": "torch", "before": "2.14.0", "after": "2.15.0"}
    assert found["nights"][1]["changed"] == [changed]
    (model,) = found["models"]
    assert [cell["status"] for cell in model["nights"]] == ["ok", "failed", "failed"]
    assert model["events"][0]["run"] == "run-2"


def test_very_many_models_are_not_all_told(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.night(1, *(row(f"m{i:02}") for i in range(90)))
    zoo.night(2, *(failing(f"m{i:02}") if i < 45 else row(f"m{i:02}") for i in range(90)))
    text = said(capsys, "zoo")
    assert "\n5 more changed, 45 more did not change; history.html has every line.\n" in text
    assert "\n… and 25 more\n" in text


def test_it_is_made_again_with_its_page(week: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "zoo")
    assert not (week.home / page.FILE).exists()
    assert command_line.main(["history", "zoo", "--rebuild"]) == 0
    streams = capsys.readouterr()
    assert streams.err.startswith("note: outputs/zoo/history.sqlite was set aside as ")
    assert streams.out.endswith("\noutputs/zoo/history.html\n")
    assert (week.home / page.FILE).is_file()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["zo"], "there are no runs of 'zo': outputs/zo does not exist. Did you mean zoo?"),
        (["zoo", "resnet"], "no night of zoo has a model 'resnet'. Did you mean resnet18?"),
        (["empty"], "outputs/empty holds no night. A night is a run of +experiment=NAME"),
    ],
)
def test_what_is_not_there_is_exit_2(
    week: Zoo, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    (week.home.parent / "empty").mkdir()
    assert problem in said(capsys, *words, code=2)


def test_without_any_outputs_it_says_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "below where they were started" in said(capsys, "zoo", code=2)


def test_a_file_that_cannot_be_written_is_exit_3(
    week: Zoo, capsys: pytest.CaptureFixture[str]
) -> None:
    (week.home / FILE).mkdir()
    assert "history.sqlite: a folder stands where a file belongs" in said(capsys, "zoo", code=3)


def test_tab_completes_experiments(week: Zoo) -> None:
    (week.home.parent / ".store").mkdir()
    assert completion.suggestions("history z", [], ["history"]) == ["zoo"]
    assert completion.suggestions("history ", [], ["history"]) == ["zoo"]
