"""What a run leaves for people beside its manifest: the page, the spreadsheet, the summary."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest

from converter.display import summary
from converter.model import markup, matrix
from converter.model.changes import Change, Comparison
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.records import Spent, StageRecord
from converter.plugins import loader, reports
from converter.plugins.reports import _cells, _figures, html, markdown
from converter.plugins.reports import csv as spreadsheet
from converter.plugins.reports._columns import columns, number
from converter.plugins.reports._facts import causes, verdict, worst_output
from tests.manifests import (
    CPU,
    CUDA,
    NO_FILE,
    deployed,
    failed,
    manifest_of,
    ok,
    timed,
    verified_on,
    with_domain,
)

EVIL = "<script>alert(1)</script>"


def page(manifest: Manifest, directory: Path) -> str:
    """The page without the libraries' and its own scripts."""
    text = html.render(manifest, directory)
    return re.sub(
        r'<script( type="text/plain" id="plotly-source")?>.*?</script>', "", text, flags=re.S
    )


def cells(manifest: Manifest, directory: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(spreadsheet.render(manifest, directory).splitlines()))


def figures(text: str) -> dict[str, dict[str, list[dict[str, list[object]]]]]:
    found = re.findall(r'<script type="application/json" id="figure-(\w+)">(.*?)</script>', text)
    return {name: json.loads(figure) for name, figure in found}


def without_latency(row: ArtifactRow, status: str, *warnings: str) -> ArtifactRow:
    stage = StageRecord.model_validate({"status": status, "warnings": [*warnings]})
    return row.model_copy(update={"stages": {**row.stages, "benchmark": stage}})


# What all reports say


def test_every_report_is_written_beside_the_manifest(tmp_path: Path) -> None:
    written = reports.write(manifest_of(ok("a"), failed("b")), tmp_path, loader.names("reports"))
    assert {"report.html", "manifest.csv", "summary.md"} <= {path.name for path in written}
    assert all(path.stat().st_size for path in written)


def test_an_empty_run_can_be_reported(tmp_path: Path) -> None:
    assert reports.write(manifest_of(), tmp_path, loader.names("reports"))


def test_models_that_failed_for_one_cause_stand_together_the_wrong_first() -> None:
    rows = [
        failed("expected", mark="c", status="xfail"),
        failed("one", mark="a"),
        failed("two", mark="b"),
        ok("good"),
        failed("three", mark="b"),
    ]
    grouped = [[row.name for row in cause.rows] for cause in causes(rows)]
    assert grouped == [["two", "three"], ["one"], ["expected"]]


def test_an_unexpected_success_says_what_to_do() -> None:
    (cause,) = causes([ok("a", status="xpass")])
    assert cause.message == "expected to fail, but it is ok: remove its 'expect'"
    assert not cause.expected


def test_the_verdict_counts_what_is_not_as_expected() -> None:
    assert verdict(manifest_of(ok("a"))) == "Every model is as expected."
    wrong = manifest_of(ok("a"), failed("b"))
    assert verdict(wrong) == "1 of 2 models failed unexpectedly."
    running = manifest_of(ok("a"), finished_at=None)
    assert verdict(running) == "The run has not come to its end."
    worse = Comparison(baseline_run_id="before", verdict="regression")
    compared = manifest_of(ok("a")).model_copy(update={"comparison": worse})
    assert verdict(compared).endswith("but something is worse than in the baseline.")


def test_the_verdict_says_which_latencies_the_deadline_cost() -> None:
    late = {"complete": False, "ended_by": "deadline", "exit_code": 1}
    assert verdict(manifest_of(ok("a"), ok("b"), failed("c"), **late)) == (
        "1 of 3 models failed unexpectedly. "
        "The latency of 2 models is not measured: the deadline passed."
    )
    assert verdict(manifest_of(ok("a"), **late | {"ended_by": "signal"})).endswith(
        "The latency of 1 model is not measured: the run was interrupted."
    )


def test_the_worst_output_is_the_one_closest_to_its_tolerance() -> None:
    output = worst_output(ok("a"))
    assert output is not None
    assert output.max_abs == 3e-6
    assert worst_output(failed("a")) is None


@pytest.mark.parametrize(
    ("bounds", "share", "text"),
    [
        ({"atol": 4e-5}, 0.05, "2.0e-06 of 4.0e-05"),
        ({"atol": 1e-6, "rtol": 1e-3}, 2.0, "2.0e-06 of 1.0e-06 + 1e-03·|y|"),
        ({"rtol": 1e-2}, 0.1, "1.0e-03 of 1.0e-02 relative"),
        ({}, math.inf, "2.0e-06 of none"),
        ({"max_abs": 0.0}, 0.0, "0.0e+00 of none"),
    ],
)
def test_an_error_is_a_share_of_what_is_allowed(
    bounds: dict[str, float], share: float, text: str
) -> None:
    fields = {"max_abs": 2e-6, "max_rel": 1e-3, "atol": 0.0, "rtol": 0.0} | bounds
    row = ok("a")
    case = row.verify.cases[0]
    output = case.outputs[0].model_copy(update=fields)
    verify = row.verify.model_copy(
        update={"cases": [case.model_copy(update={"outputs": [output]})]}
    )
    (column,) = [found for found in columns([row]) if found.title == "Worst error"]
    row = row.model_copy(update={"verify": verify})
    assert column.value(row) == pytest.approx(share)
    assert column.text(row) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123")],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("why", "text"),
    [("shape", "shape"), ("dtype", "dtype"), ("not finite", "not finite"), (None, "not compared")],
)
def test_an_output_that_could_not_be_compared_is_the_worst_and_has_no_number(
    why: str | None, text: str, tmp_path: Path
) -> None:
    row = ok("a", status="failed")
    case = row.verify.cases[0]
    gone = {"max_abs": None, "rel_l2": None, "atol": 0.0, "rtol": 0.0, "passed": False}
    bad = case.outputs[0].model_copy(update={**gone, "not_compared": why})
    cases = [case.model_copy(update={"outputs": [*case.outputs, bad]})]
    row = row.model_copy(update={"verify": row.verify.model_copy(update={"cases": cases})})
    (column,) = [found for found in columns([row]) if found.title == "Worst error"]
    assert (column.value(row), column.text(row)) == (None, text)
    (line,) = cells(manifest_of(row), tmp_path)
    told = [line[key] for key in ("max_abs", "atol", "rtol", "error_over_tolerance")]
    assert told == ["", "", "", ""]
    assert (f"<td>NO: {why}</td>" in page(manifest_of(row), tmp_path)) == (why is not None)


def test_no_report_has_a_control_character_of_a_message(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\x1b[0m\x00\x07\x9b2J\u202e\ud800"
    row = failed("a", message=hostile, latency=[timed(notes=[hostile])], runtimes=["cpu"])
    assert row.error is not None
    hint = row.error.model_validate({**dict(row.error), "hint": hostile})
    for path in reports.write(
        manifest_of(row.model_copy(update={"error": hint})), tmp_path, loader.names("reports")
    ):
        text = path.read_text(encoding="utf-8")
        assert "red\N{REPLACEMENT CHARACTER}" in text
        if path.name == "report.html":
            text = page(manifest_of(row), tmp_path)  # the plotting library has a few of its own
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text), path.name


# manifest.csv


def test_the_spreadsheet_has_a_line_for_each_model(tmp_path: Path) -> None:
    row = ok("a", latency=[timed(CPU, 2.0), timed(CUDA, 0.5)])
    good, bad = cells(manifest_of(row, failed("b")), tmp_path)
    assert (good["name"], good["status"], good["opset"], good["nodes"]) == ("a", "ok", "17", "8")
    assert (good["nodes_before"], good["bytes"], good["atol"]) == ("15", "1000005", "2e-05")
    assert (good["p50_ms_CPU"], good["p50_ms_CUDA"], good["p99_ms_CPU"]) == ("2.0", "0.5", "3.0")
    assert (bad["code"], bad["hint"]) == ("INPUT_DROPPED", "declare it under constants")
    assert bad["p50_ms_CPU"] == ""


def test_the_spreadsheet_says_which_latencies_are_missing_or_doubtful(tmp_path: Path) -> None:
    busy, wide = "busy: 1.4 of 2 cores", "wide spread: p90 is 2 times p50"
    missing = timed(CUDA, status="unavailable", reason="no libcudnn.so.9", stable=None, p50_ms=None)
    noted = ok("a", latency=[timed(CPU, 2.0, stable=False, notes=[busy, wide]), missing])
    rows = cells(manifest_of(noted, ok("b", latency=[timed(CPU)])), tmp_path)
    told = [
        [row[f"{key}_{name}"] for key in ("latency_status", "stable", "notes")]
        for row in rows
        for name in ("CPU", "CUDA")
    ]
    assert told == [
        ["measured", "no", f"{busy}; {wide}"],
        ["unavailable", "", "no libcudnn.so.9"],
        ["measured", "yes", ""],
        ["", "", ""],
    ]
    shown = [column.title for column in columns([noted]) if column.title]
    assert shown.count("p50 CPU, ms") == 1
    assert not any("status CPU" in title or "notes" in title for title in shown)


def test_the_spreadsheet_tells_doubts_and_remarks_apart(tmp_path: Path) -> None:
    row = ok("a", latency=[timed(CPU, torch_notes=["busy: 1", "drift: 2"], remarks=["shared: 3"])])
    (line,) = cells(manifest_of(row), tmp_path)
    told = [line[f"{key}_CPU"] for key in ("notes", "torch_notes", "remarks")]
    assert told == ["", "busy: 1; drift: 2", "shared: 3"]


def test_the_largest_error_is_that_of_the_terminal_and_the_worst_that_of_the_page(
    tmp_path: Path,
) -> None:
    row = ok("a")
    case = row.verify.cases[0]
    wide = case.outputs[0].model_copy(update={"name": "boxes", "max_abs": 1e-2, "atol": 1.0})
    cases = [case.model_copy(update={"outputs": [*case.outputs, wide]})]
    row = row.model_copy(update={"verify": row.verify.model_copy(update={"cases": cases})})
    (line,) = cells(manifest_of(row), tmp_path)
    assert (line["max_abs"], summary.worst(row)) == ("0.01", "1.0e-02")
    of_the_worst = [line[key] for key in ("worst_output", "worst_max_abs", "atol")]
    assert of_the_worst == ["scores", "1e-06", "2e-05"]
    assert float(line["error_over_tolerance"]) == pytest.approx(0.05)


def test_the_heads_of_the_spreadsheet_are_unique() -> None:
    keys = [column.key for column in columns([ok("a", latency=[timed(CPU), timed(CUDA)])])]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("message", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "  =1+1"])
def test_a_spreadsheet_runs_no_formula_of_a_message(tmp_path: Path, message: str) -> None:
    (row,) = cells(manifest_of(failed("a", message=message)), tmp_path)
    assert row["message"] == f"'{message}"


@pytest.mark.parametrize("end", ["\r", "\x0b", "\x0c", "\x85", "\u2028"])
def test_nothing_in_a_cell_ends_its_line_for_another_reader(tmp_path: Path, end: str) -> None:
    row = ok("a", source=f"x{end}=1+1", tags=[f"x{end}=1+1"])
    text = spreadsheet.render(manifest_of(row), tmp_path)
    assert len(text.splitlines()) == 2
    assert not re.search(r"(?:^|[,\r\n])[\"']?=1", text)


def test_a_message_of_several_lines_stays_in_its_cell(tmp_path: Path) -> None:
    message = 'first, "quoted"\nsecond'
    text = spreadsheet.render(manifest_of(failed("a", message=message)), tmp_path)
    (row,) = csv.DictReader(text.splitlines(keepends=True))
    assert row["message"] == message


# On what models were verified


def test_the_page_says_on_what_a_model_was_verified(tmp_path: Path) -> None:
    text = page(manifest_of(with_domain(ok("a"), verified_on())), tmp_path)
    shown = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    assert "Verified on batch sizes 1–3, 5, 7, 8 (traced: 2; nothing to compare at 0)" in shown
    assert "image float32, -41.5 to 38: normal; large" in shown
    assert (
        "1 branch of this model was never reached head.py:41 if T &gt; 16 : never true"
    ) in shown


def test_long_lists_of_a_domain_are_folded_away(tmp_path: Path) -> None:
    for most, attribute in ((5, " open"), (6, "")):
        listed = [f"batch={size}" for size in range(most)]
        domain = verified_on(most, left_out=listed, dropped=[f"{case}: NaN" for case in listed])
        text = page(manifest_of(with_domain(ok("a"), domain)), tmp_path)
        for title in (
            f"{most} branches of this model were never reached",
            "Left out",
            "Dropped, with the reason",
        ):
            assert f"<details{attribute}><summary>{title}</summary>" in text


def test_many_cases_are_folded_away_where_all_are_right(tmp_path: Path) -> None:
    row = ok("a")
    cases = [*row.verify.cases * 7]
    right = row.verify.model_copy(update={"cases": cases})
    wrong = right.model_copy(update={"status": "failed"})
    folded = "<details><summary>All 14 cases</summary>"
    assert folded in page(manifest_of(row.model_copy(update={"verify": right})), tmp_path)
    text = page(manifest_of(row.model_copy(update={"verify": wrong})), tmp_path)
    assert folded.replace("details", "details open") in text
    assert "All 2 cases" not in page(manifest_of(row), tmp_path)


def test_a_wrong_file_says_its_limit_and_what_was_tried(tmp_path: Path) -> None:
    limit = "right up to T = 64: head.py:41 `if T > 64`"
    row = with_domain(failed("a"), verified_on(0, limits=[limit]))
    text = page(manifest_of(row), tmp_path)
    assert "<h3>Tried on</h3>" in text
    assert f'<p class="message">{limit.replace(">", "&gt;")}</p>' in text
    assert "No branch that depends on the input was left unreached." in text


def test_models_that_are_ok_with_branches_never_reached_are_listed(tmp_path: Path) -> None:
    rows = [
        with_domain(ok("one"), verified_on(1)),
        with_domain(ok("three"), verified_on(3)),
        with_domain(ok("none"), verified_on(0)),
        with_domain(failed("wrong"), verified_on(2)),
        ok("stored by an earlier version"),
    ]
    text = page(manifest_of(*rows), tmp_path)
    section = text.split('<section id="unreached"')[1].split("</section>")[0]
    assert "2 models, with the number" in section
    assert re.findall(r'href="#model-(\w+)"', section) == ["three", "one"]
    assert '<a href="#unreached">' in text
    quiet = page(manifest_of(*rows[2:]), tmp_path)
    assert "unreached" not in re.sub(r"left unreached", "", quiet)
    line = "2 models are ok, but for branches that no case reached: `three`, `one`"
    assert f"\n{line}\n" in markdown.render(manifest_of(*rows), tmp_path)
    assert "no case reached" not in markdown.render(manifest_of(*rows[2:]), tmp_path)
    counted = [cell["unreached"] for cell in cells(manifest_of(*rows), tmp_path)]
    assert counted == ["1", "3", "0", "2", ""]


def test_a_long_list_of_such_models_is_folded_away(tmp_path: Path) -> None:
    rows = [with_domain(ok(f"m{i:02}"), verified_on(1)) for i in range(14)]
    text = page(manifest_of(*rows), tmp_path)
    section = text.split('<section id="unreached"')[1].split("</section>")[0]
    assert "<summary>2 more</summary>" in section
    assert len(re.findall("#model-", section)) == 14


# summary.md


def test_the_summary_names_causes_models_and_hints(tmp_path: Path) -> None:
    text = markdown.render(manifest_of(ok("a"), failed("b"), failed("c")), tmp_path)
    assert text.startswith("## `zoo`: 2 of 3 models failed unexpectedly.\n")
    assert "3 models: 1 ok, 2 failed · exit code 1 · 2026-11-21 02:00 UTC" in text
    message = "`input factor is not in the graph (it has: x)`"
    assert f"- **failed INPUT_DROPPED** `b`, `c`: {message}\n" in text
    assert "  - `declare it under constants`" in text


def test_the_summary_says_which_latencies_are_missing_or_doubtful(tmp_path: Path) -> None:
    busy = "busy: 1.4 of 2 cores"
    missing = timed(CUDA, status="unavailable", reason="no *libcudnn*", p50_ms=None)
    rows = [ok(f"m{i}", latency=[timed(CPU), missing]) for i in range(10)]
    rows += [ok("noted", latency=[timed(CPU, notes=[busy])]), ok("quiet", latency=[timed(CPU)])]
    text = markdown.render(manifest_of(*rows), tmp_path)
    names = ", ".join(f"`m{i}`" for i in range(8))
    assert text.split("### Latency\n\n")[1].startswith(
        f"- **`CUDA` unavailable** for 10 models, {names} and 2 more: `no *libcudnn*`\n"
        "- 1 of 12 figures are doubtful, such as:\n"
        f"  - `noted: {busy}`\n"
        "\nRun "
    )


def test_the_summary_tells_doubts_and_remarks_apart(tmp_path: Path) -> None:
    other = timed(CPU, torch_notes=["busy: 1.4 of 2 cores"], remarks=["shared: 2 nodes"])
    text = markdown.render(manifest_of(ok("a", latency=[other])), tmp_path)
    assert text.split("### Latency\n\n")[1].startswith(
        "- 1 of 1 PyTorch figure is doubtful, such as:\n"
        "  - `a: busy: 1.4 of 2 cores`\n"
        "- Remarks, such as:\n"
        "  - `a: shared: 2 nodes`\n"
        "\nRun "
    )


def test_a_summary_without_missing_or_doubtful_latencies_has_no_such_section(
    tmp_path: Path,
) -> None:
    assert "Latency" not in markdown.render(manifest_of(ok("a", latency=[timed()])), tmp_path)
    assert "Latency" not in markdown.render(manifest_of(ok("a")), tmp_path)


def test_the_summary_stays_short(tmp_path: Path) -> None:
    rows = [failed(f"m{i}", mark=str(i // 50), message="x" * 5000) for i in range(2000)]
    text = markdown.render(manifest_of(*rows), tmp_path)
    assert len(text) < 20_000
    assert " and 42 more" in text
    assert "- and 20 more causes" in text


def test_markup_in_a_message_is_not_live_in_the_summary() -> None:
    assert markup.code("[a](javascript:x) @all <b>\n# head") == (
        "`[a](javascript:x) @all <b> # head`"
    )
    assert markup.code("a `b` ``c``") == "``` a `b` ``c`` ```"


def test_the_summary_and_the_page_show_the_comparison(tmp_path: Path) -> None:
    change = Change(model="a", kind="newly_failing", before="ok", after="failed", detail="EXPORT")
    worse = Comparison(baseline_run_id="20261120", verdict="regression", changes=[change])
    manifest = manifest_of(ok("a")).model_copy(update={"comparison": worse})
    text = markdown.render(manifest, tmp_path)
    assert "### Against `20261120`: regression" in text
    assert "- newly failing `a`: `ok → failed (EXPORT)`" in text
    shown = page(manifest, tmp_path)
    assert "Against 20261120: regression" in shown
    assert "newly failing" in shown


# report.html


def test_the_page_escapes_what_models_say(tmp_path: Path) -> None:
    row = failed("b", message=EVIL, source=EVIL, tags=[EVIL])
    (tmp_path / "models/b").mkdir(parents=True)
    (tmp_path / "models/b/log.txt").write_text(EVIL)
    manifest = manifest_of(ok(EVIL, latency=[timed()]), row, overrides=[f"x={EVIL}"])
    shown = page(manifest, tmp_path)
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    label = figures(shown)["latency"]["layout"]["yaxis"]["ticktext"][0]  # type: ignore[call-overload]
    assert label == "&lt;script&gt;alert(1)&lt;/script&gt;"


def test_links_stay_in_the_run_directory(tmp_path: Path) -> None:
    main, *data = ok("a").files
    evil = main.model_copy(update={"path": "javascript:alert(1)"})
    shown = page(manifest_of(ok("a", files=[evil, *data])), tmp_path)
    assert 'href="javascript%3Aalert%281%29"' in shown
    targets = set(re.findall(r'href="(\w+:[^"]*)"', shown))
    assert targets == {"https://netron.app"}


def test_the_page_shows_the_end_of_a_log_without_terminal_codes(tmp_path: Path) -> None:
    (tmp_path / "models/b").mkdir(parents=True)
    lines = [f"\x1b[31mline {i}\x1b[0m" for i in range(1000)]
    (tmp_path / "models/b/log.txt").write_text("\n".join(lines))
    shown = page(manifest_of(failed("b")), tmp_path)
    assert "line 985\n" in shown
    assert "line 984" not in shown
    assert "\x1b" not in shown
    assert 'href="models/b/log.txt"' in shown


def test_a_log_outside_the_run_directory_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    run = tmp_path / "run"
    (run / "models/b").mkdir(parents=True)
    (run / "models/b/log.txt").symlink_to(tmp_path / "secret.txt")
    outside = failed("c")
    assert outside.error is not None
    error = outside.error.model_copy(update={"log": "../secret.txt"})
    rows = failed("b"), outside.model_copy(update={"error": error})
    assert "the secret" not in page(manifest_of(*rows), run)


def test_the_page_says_how_to_run_one_model_again(tmp_path: Path) -> None:
    shown = page(manifest_of(ok("a")), tmp_path)
    assert "python -m converter +experiment=zoo &#39;select=[a]&#39;</code>" in shown


def test_without_latencies_the_page_says_why(tmp_path: Path) -> None:
    shown = page(manifest_of(without_latency(ok("a"), "not_requested")), tmp_path)
    assert shown.count("No latency was measured: the run did not ask for it (benchmark=off).") == 3
    assert "Not measured: the run did not ask for it (benchmark=off)." in shown
    assert "not requested</td>" in shown
    assert figures(shown).keys() == {"time"}

    missing = timed(CUDA, status="unavailable", reason="no libcudnn.so.9", p50_ms=None)
    shown = page(manifest_of(ok("a", latency=[missing])), tmp_path)
    assert "No latency was measured. CUDA unavailable: no libcudnn.so.9." in shown
    assert ">unavailable</td>" in shown


def titles(text: str, label: str) -> list[str]:
    """The heads of a table of the page, by the name of its region."""
    table = text.split(f'aria-label="{label}"')[1].split("</thead>")[0]
    return re.findall(r"<th [^>]*>(?:<button[^>]*>)?([^<]*)", table)


def test_columns_that_say_nothing_are_not_on_the_page(tmp_path: Path) -> None:
    def ran(row: ArtifactRow, *stages: str) -> ArtifactRow:
        return row.model_copy(
            update={"stages": {name: row.stages[name] if name in stages else StageRecord(
                status="not_requested") for name in row.stages}}
        )  # fmt: skip

    quiet = manifest_of(ran(ok("a")), ran(failed("b")))
    shown = page(quiet, tmp_path)
    assert titles(shown, "Table of models") == [
        "Model", "Status", "Source", "Opset", "Exporter", "Nodes", "simplified", "Size",
        "Worst error", "Total, s",
    ]  # fmt: skip
    assert "time per stage" not in shown
    assert titles(shown, "Stages of a") == ["Stage", "Status"]
    assert 'id="by-exporter"' in shown
    assert 'id="by-exporter"' not in page(manifest_of(failed("b")), tmp_path)
    # For programs nothing is left out.
    assert {"p50_ms", "speedup", "export_seconds"} <= cells(quiet, tmp_path)[0].keys()

    row = ok("a", latency=[timed(speedup=None, torch_p50_ms=None)])
    shown = page(manifest_of(ran(row, "export"), ran(ok("b"))), tmp_path)
    assert titles(shown, "Table of models")[-3:] == ["p50 CPU, ms", "export, s", "Total, s"]
    assert titles(shown, "Latency of a") == [
        "Provider", "Inputs", "State", "p50, ms", "p90, ms", "p99, ms", "Mean ± std, ms",
        "Samples per second", "How",
    ]  # fmt: skip
    assert titles(shown, "Stages of a") == ["Stage", "Status", "Seconds", "Peak memory"]


def test_a_latency_that_was_asked_for_and_not_taken_is_not_one_that_nobody_wanted(
    tmp_path: Path,
) -> None:
    rows = [ok("done"), failed("a"), failed("b"), ok("never", status="not_run", **NO_FILE)]
    rows.append(
        without_latency(ok("kept"), "skipped", "not measured: benchmark.on_cached is never")
    )
    shown = page(manifest_of(*rows), tmp_path)
    assert shown.count(
        "No latency was measured: the run ended before it (2 models); "
        "the model failed before it (2 models); benchmark.on_cached is never (1 model)."
    ) == 3  # fmt: skip
    assert shown.count("<p>Not measured: the model failed before it.</p>") == 2
    assert shown.count("<p>Not measured: the run ended before it.</p>") == 2
    assert "<p>Not measured: benchmark.on_cached is never.</p>" in shown
    assert "not run</td>" in shown
    assert "benchmark=off" not in shown
    assert "not requested" not in shown.lower()


def test_a_speedup_that_is_withheld_is_not_one_that_was_not_looked_for(tmp_path: Path) -> None:
    withheld = page(manifest_of(ok("a", latency=[timed(speedup=None)])), tmp_path)
    assert "PyTorch was timed, but there is no ratio of two medians that are both sound" in withheld
    assert "PyTorch was not timed." not in withheld
    alone = timed(speedup=None, torch_p50_ms=None)
    assert "PyTorch was not timed." in page(manifest_of(ok("a", latency=[alone])), tmp_path)


def test_the_page_says_what_speaks_against_a_figure(tmp_path: Path) -> None:
    busy = "busy: other processes used 1.4 of 2 cores"
    rows = [ok("a", latency=[timed(notes=[busy])]), ok("b", latency=[timed(p50=3.0)])]
    shown = page(manifest_of(*rows), tmp_path)
    assert shown.count(f"What speaks against the figures on CPU: {busy}.") == 1
    assert ">2.00*</td>" in shown
    assert ">3.00</td>" in shown


def test_the_page_tells_doubts_and_remarks_apart(tmp_path: Path) -> None:
    two = [timed(torch_notes=["busy: 1"]), timed(CUDA, remarks=["shared: 2", "few calls: 3"])]
    shown = page(manifest_of(ok("a", latency=two)), tmp_path)
    assert "What speaks against PyTorch&#39;s figure on CPU at image 1 × 3 × 8: busy: 1." in shown
    assert "Remarks on CUDA at image 1 × 3 × 8: shared: 2; few calls: 3." in shown
    assert "What speaks against the figures" not in shown
    assert "*</td>" not in shown


def test_the_plots_show_what_was_measured(tmp_path: Path) -> None:
    rows = [ok(f"m{i}", latency=[timed(CPU, i + 1.0)]) for i in range(60)]
    rows[0] = ok("m0", latency=[timed(CPU, 1.0), timed(CUDA, 0.5)])
    shown = page(manifest_of(*rows), tmp_path)
    drawn = figures(shown)
    assert drawn.keys() == {"latency", "speedup", "size", "time"}
    (trace,) = drawn["latency"]["data"]
    assert len(trace["x"]) == 50
    assert trace["x"][0] == 60.0
    assert "The 50 slowest of 60 models." in shown
    assert [len(trace["x"]) for trace in drawn["size"]["data"]] == [60, 1]


def test_every_plot_says_what_its_axes_and_colours_are(tmp_path: Path) -> None:
    spent = Spent(started_at="2026-11-21T02:00:00Z", seconds=1.0, cpu_seconds=None)
    row = ok("a", latency=[timed(CPU), timed(CUDA)], spent=spent)
    drawn = [
        *_figures.figures(manifest_of(row, ok("b")).rows),
        _cells.budget(matrix.of(deployed(3))),
    ]
    assert [figure.name for figure in drawn if figure.data] == [
        "latency", "speedup", "size", "time", "timeline", "budget"
    ]  # fmt: skip
    for figure in drawn:
        axes = {name: axis for name, axis in figure.layout.items() if name[1:5] == "axis"}
        assert {name[0] for name in axes} == {"x", "y"}
        for axis in axes.values():
            assert f": {axis['title']['text']}" in figure.alternative
        assert figure.layout["legend"]["title"]["text"]
    # Numbers have a unit.
    text = page(manifest_of(row), tmp_path)
    labels = re.findall(r'role="img" aria-label="([^"]+)"', text)
    assert labels[0].endswith(
        "Axes: x: median latency, milliseconds, y: model. The figures are in the table."
    )


def test_only_the_pages_own_scripts_may_run(tmp_path: Path) -> None:
    text = html.render(manifest_of(ok("a")), tmp_path)
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert found is not None
    policy = found[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src" not in policy
    assert not re.search(r'<(?:link|img|iframe)\b|\bsrc="', page(manifest_of(ok("a")), tmp_path))


def test_121_models_stay_under_3_mb_besides_the_plotting_library(tmp_path: Path) -> None:
    rows = [ok(f"model_{i}", latency=[timed(CPU), timed(CUDA)]) for i in range(121)]
    assert len(page(manifest_of(*rows), tmp_path)) < 3_000_000


@pytest.mark.parametrize(
    ("finished", "text"),
    [
        ("02:00:00.100", "under a second"),
        ("02:00:07.000", "7 s"),
        ("03:02:05.000", "1 h 2 min 5 s"),
    ],
)
def test_the_page_says_how_long_it_took(tmp_path: Path, finished: str, text: str) -> None:
    manifest = manifest_of(ok("a"), finished_at=f"2026-11-21T{finished}Z")
    assert f"<dd>{text}</dd>" in page(manifest, tmp_path)
