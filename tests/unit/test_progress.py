"""What a run prints: lines for a log, a bar for a terminal, a table of 80 columns."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path

import pytest

from converter.display import progress, screen, summary
from converter.model import units
from converter.model.errors import Code
from converter.model.manifest import (
    ArtifactRow,
    Environment,
    Manifest,
    Request,
    RunInfo,
    WeightsInfo,
    models_of,
)
from converter.model.records import (
    STAGES,
    CaseCheck,
    ErrorRecord,
    FileInfo,
    JobResult,
    NodeInfo,
    OnnxInfo,
    OutputCheck,
    StageRecord,
    Try,
    VerifyRecord,
)
from converter.plugins.executors import Finished, GivenUp, StageEntered, Started, Tick
from tests.unit.nights import row as night_row

REQUEST = Request(
    opset=17,
    exporter="auto",
    training="eval",
    simplify=True,
    inputs={},
    dynamic_axes={},
    device="auto",
    seed=0,
    weights=WeightsInfo(kind="random"),
)


def ok_row(name: str) -> ArtifactRow:
    onnx = OnnxInfo(
        exporter="torchscript",
        opset=17,
        opsets={"": 17},
        ir_version=8,
        producer="pytorch",
        parameters=1,
        inputs=[],
        outputs=[],
        nodes=12345,
        ops={},
    )
    errors = [
        OutputCheck(name="y", shape=[1], dtype="float32", max_abs=e, atol=0, rtol=0, passed=True)
        for e in (3e-7, 1.5e-5)
    ]
    return ArtifactRow(
        name=name,
        source=name,
        status="ok",
        attempts=1,
        request=REQUEST,
        stages={stage: StageRecord(status="ok", seconds=100.06) for stage in STAGES},
        files=[
            FileInfo(path=f"models/{name}/{name}.onnx", bytes=1_000_000, sha256="0" * 64),
            FileInfo(path="x", bytes=2_584_000_000, sha256="0" * 64),
        ],
        onnx=onnx,
        verify=VerifyRecord(
            status="passed",
            cases=[CaseCheck(label="traced", shapes={}, provider="cpu", outputs=errors)],
        ),
    )


def failed_row(name: str, message: str = "no such operator\nsecond line") -> ArtifactRow:
    error = ErrorRecord(
        stage="export",
        code=Code.EXPORT,
        message=message,
        hint="Try the other exporter.",
        log=f"models/{name}/log.txt",
    )
    return ArtifactRow(
        name=name, source=name, status="failed", request=REQUEST, error=error, stages={}
    )


def manifest_of(*rows: ArtifactRow) -> Manifest:
    return Manifest(
        run=RunInfo(id="1", experiment="zoo", started_at="", config_sha256=""),
        environment=Environment(os="", python="", cpu="", cores=1, memory_bytes=1, packages={}),
        models=models_of(rows),
    )


def test_a_log_says_which_try_was_lost_where_and_why() -> None:
    output = io.StringIO()
    lines = progress.create(1, output, io.StringIO())
    lost = Try(attempt=1, node="gpu01", reason="the node gpu01 was lost")
    lines.event(GivenUp("resnet18", lost))
    told = "resnet18: attempt 1 on gpu01 was given up: the node gpu01 was lost\n"
    assert output.getvalue() == told


def test_the_table_fits_80_columns_with_the_widest_values() -> None:
    name = "deeplabv3_mobilenet_v3_large_with_a_long_suffix"
    lines = summary.table([ok_row(name), failed_row("b")]).text().splitlines()
    assert max(map(len, lines)) <= 80
    head, rule, first, second = lines
    assert " ".join(head.split()) == "model status opset exporter nodes size max abs seconds"
    assert set(rule) == {"-"}
    assert " ".join(first.split()) == (
        "deeplabv3_mo..long_suffix ok 17 torchscript 12345 2.58 GB 1.5e-05 800.5"
    )
    assert second.split() == ["b", "failed", "17", "-", "-", "-", "-", "0.0"]


def uncompared_row(**changes: object) -> ArtifactRow:
    """A row whose first output is almost exact, and whose second one could not be compared."""
    row = ok_row("a")
    (case,) = row.verify.cases
    bad = case.outputs[0].model_copy(update={"max_abs": None, "passed": False, **changes})
    outputs = [case.outputs[0], bad]
    cases = [case.model_copy(update={"outputs": outputs})]
    return row.model_copy(update={"verify": VerifyRecord(status="failed", cases=cases)})


def test_where_an_output_could_not_be_compared_the_others_give_no_number() -> None:
    row = uncompared_row(not_compared="shape")
    assert (summary.uncompared(row), summary.max_abs(row), summary.worst(row)) == (
        "shape", None, "-",
    )  # fmt: skip
    assert summary.uncompared(uncompared_row()) == "not compared"
    assert summary.uncompared(ok_row("a")) is None


def test_where_the_file_did_not_run_in_a_case_the_others_give_no_number() -> None:
    row = ok_row("a")
    cases = [*row.verify.cases, CaseCheck(label="other", shapes={}, provider="cpu", outputs=[])]
    row = row.model_copy(update={"verify": VerifyRecord(status="failed", cases=cases)})
    assert (summary.uncompared(row), summary.max_abs(row)) == ("not compared", None)


def test_a_message_does_nothing_to_the_terminal_or_the_log() -> None:
    row = failed_row("b", "\x1b[31mred\x1b[0m \x1b]0;title\x07and\x00 \x9b2J more")
    stream = io.StringIO()
    shown = progress.create(1, stream, io.StringIO())
    shown.row(row)
    text = stream.getvalue() + summary.render(manifest_of(row), Path("/runs/1"))
    assert "EXPORT: red and\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}2J more\n" in text
    assert text.replace("\n", "").isprintable()


def test_a_job_that_was_tried_again_says_so() -> None:
    row = ok_row("a").model_copy(update={"attempts": 2})
    assert progress.line(1, 1, row) == "[1/1] ok       a  800.5 s (try 2)"
    assert summary.totals(models_of([row, ok_row("b")])) == "2 models: 2 ok; 1 tried again"
    stored = row.model_copy(update={"cached": True})
    assert progress.line(1, 1, stored) == "[1/1] ok       a  stored"
    assert summary.totals(models_of([stored])) == "1 model: 1 ok; 1 from the store"


def test_failures_follow_with_reason_hint_and_log() -> None:
    text = summary.render(manifest_of(ok_row("a"), failed_row("b")), Path("/runs/1"))
    assert "failed b: EXPORT: no such operator\n    Try the other exporter.\n" in text
    assert "    /runs/1/models/b/log.txt\n    docs/errors.md#export\n" in text
    assert text.count("no such operator") == 1
    cost = "verification took 29 % of conversion time, 25 % with their latencies"
    assert text.endswith(f"2 models: 1 ok, 1 failed\n{cost}\n/runs/1")


def test_the_cost_of_verification_is_a_share_of_the_run_with_its_latencies() -> None:
    row = ok_row("a")
    stages = {name: StageRecord(status="ok", seconds=1.0) for name in STAGES}
    stages["benchmark"] = StageRecord(status="ok", seconds=13.0)
    rows = [row.model_copy(update={"stages": stages}), row.model_copy(update={"cached": True})]
    (told,) = summary.verification(rows)
    assert told == "verification took 29 % of conversion time, 10 % with their latencies"
    assert summary.verification(rows[1:]) == []


def test_a_long_table_shows_only_what_is_not_ok() -> None:
    rows = [ok_row(f"m{number}") for number in range(120)]
    text = summary.render(manifest_of(*rows, failed_row("bad")), Path("/runs/1"))
    assert "120 more are ok; manifest.json has every row." in text
    assert "m7 " not in text
    assert "121 models: 120 ok, 1 failed" in text


def test_a_run_without_a_failure_lists_none() -> None:
    rows = [ok_row(f"m{number}") for number in range(50)]
    assert summary.render(manifest_of(*rows), Path("/runs/1")).startswith("50 more are ok")


def test_very_many_failures_are_told_by_their_causes() -> None:
    rows = [
        failed_row(f"m{number}", f"no operator {'abcdef'[number % 6]}") for number in range(2000)
    ]
    rows += [failed_row(f"alone{number}", f"cause {chr(97 + number) * 3}") for number in range(26)]
    text = summary.render(manifest_of(*rows), Path("/runs/1"))
    assert len(text) < 20_000
    assert text.count("no operator a") == 1
    assert "and 333 more for the same reason: m6, m12, m18, m24, m30, …" in text
    assert "12 more are not ok, for 12 more reasons: report.html and manifest.json" in text
    assert "1986 more are not ok; report.html and manifest.json have every row." in text
    # A few are each told in full.
    few = summary.render(manifest_of(*rows[:40]), Path("/runs/1"))
    assert few.count("Try the other exporter.") == 40


def test_what_is_skipped_or_unexpectedly_good_says_why() -> None:
    skipped = failed_row("s").model_copy(
        update={"status": "skipped", "error": None, "verify": VerifyRecord(reason="opset < 18")}
    )
    assert summary.explain(skipped, Path("/r")) == ["skipped s: opset < 18"]
    surprise = ok_row("x").model_copy(update={"status": "xpass"})
    assert summary.explain(surprise, Path("/r"))[0].endswith("remove its 'expect'")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (44_700_000, "44.7 MB"), (999_600, "1 MB")],
)
def test_sizes(number: int, text: str) -> None:
    assert units.size(number) == text


def test_a_log_gets_one_line_for_each_model() -> None:
    stream = io.StringIO()
    shown = progress.create(121, stream, io.StringIO())
    for event in (Started("a", 1, 1), StageEntered("a", "load"), Tick()):
        shown.event(event)
    shown.row(ok_row("a"))
    shown.row(failed_row("b"))
    shown.close()
    assert stream.getvalue().splitlines() == [
        "[  1/121] ok       a  800.5 s",
        "[  2/121] failed   b  0.0 s  EXPORT",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_the_failures() -> None:
    terminal = Terminal()
    shown = progress.create(3, io.StringIO(), terminal)
    shown.event(Started("a", 1, 1))
    shown.event(StageEntered("a", "export"))
    shown.row(failed_row("b"))
    shown.event(Finished(JobResult(name="a", status="ok")))
    shown.row(ok_row("a"))
    shown.close()
    assert re.search(r"\[1/3\] \S*failed\S*   b  0.0 s  EXPORT", terminal.getvalue())
    assert "no such operator" not in terminal.getvalue()
    assert "2/3" in terminal.getvalue()


def test_the_bar_says_what_runs_and_for_how_long() -> None:
    running = {
        "resnet18": progress._Running("verify", since=100.0),
        "vit_b_16": progress._Running(since=109.0),
    }
    text = progress.describe(Counter(ok=11, failed=1), running, 112.3)
    assert text == "ok 11 failed 1 | resnet18 verify 12s, vit_b_16 3s"


def test_the_bar_and_the_lines_say_on_which_node() -> None:
    running = {"resnet18": progress._Running("verify", "gpu02", 100.0)}
    text = progress.describe(Counter(ok=1), running, 112.3)
    assert text == "ok 1 failed 0 | resnet18 verify 12s on gpu02"
    node = NodeInfo(id="1", name="gpu02", address="10.0.0.2", cpu="", cores=1)
    there = night_row("resnet18").model_copy(update={"node": node})
    assert progress.line(1, 2, there).endswith(" s on gpu02")


def test_what_the_encoding_cannot_hold_is_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    screen.Printer(stream)("max 1×3 → y")
    assert raw.getvalue() == b"max 1\\xd73 \\u2192 y\n"


def test_a_reader_that_has_gone_does_not_end_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    say = screen.Printer(Gone())
    say("one")
    say("two")


def test_before_the_first_job_the_bar_says_what_the_run_does() -> None:
    terminal = Terminal()
    bar = progress.Bar(3, terminal)
    bar.doing(progress.LOADING)
    assert "0/3 |" in terminal.getvalue()
    assert terminal.getvalue().endswith("loading torch …\x1b[0m") or terminal.getvalue().endswith(
        "loading torch …"
    )
    bar.event(Started("resnet18", 1, 1))
    bar.close()
    assert progress.describe(Counter(ok=1), {}, 0.0, progress.LOADING) == (
        "ok 1 failed 0 | loading torch …"
    )


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.create(1, io.StringIO(), Terminal()), progress.Lines)


def test_the_bar_shortens_and_counts_what_it_has_no_room_for() -> None:
    running = {
        f"a_model_with_a_long_name_{number}": progress._Running("export", since=float(number))
        for number in range(4)
    }
    told = {
        room: progress.describe(Counter(ok=1), running, 10.0, room=room) for room in (48, 60, 200)
    }
    assert all(len(text) <= room for room, text in told.items())
    assert told[48] == "ok 1 failed 0 | a_model_..g_name_0 export 10s +3"
    assert told[60].endswith(" +2")
    assert told[200].count("export") == 4


def test_a_line_on_a_terminal_shortens_the_name() -> None:
    row = failed_row("a_model_with_a_very_long_name")
    assert progress.line(1, 3, row, 44) == "[1/3] failed   a_mode..g_name  0.0 s  EXPORT"
