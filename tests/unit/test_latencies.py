"""The latencies of a run in words: lines of progress, the table, the doubts."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from test_progress import manifest_of, ok_row

from converter.display import latencies, progress, summary
from converter.display.columns import Table
from converter.model.errors import Code
from converter.model.manifest import ArtifactRow
from converter.model.records import ErrorRecord, Latency, ProviderVerdict, VerifyRecord

BUSY = "busy: other processes used 1.4 of 2 cores (load average 3.2)"


def latency(provider: str = "cpu", **changes: object) -> Latency:
    values = {
        "provider": provider,
        "status": "measured",
        "shapes": {"image": [8, 3, 224, 224]},
        "p50_ms": 12.3456,
        "p99_ms": 123.456,
        "torch_p50_ms": 24.6912,
        "speedup": 2.0,
        "stable": True,
    }
    return Latency.model_validate(values | changes)


def row(name: str, *found: Latency) -> ArtifactRow:
    return ok_row(name).model_copy(update={"latency": [*found]})


def test_the_table_fits_80_columns() -> None:
    widest = latency(
        "tensorrt", shapes={"x": [1024, 3, 1024, 1024, 1024]}, p50_ms=99999.0, p99_ms=99999.0,
        torch_p50_ms=99999.0, speedup=1234.5, stable=False, notes=[BUSY], torch_notes=[BUSY],
    )  # fmt: skip
    text = latencies.table([row("a_name_that_is_far_too_long_for_it", widest, latency())]).text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "8x3x224x224" in text
    assert "NO*" in text


def test_a_line_of_the_table() -> None:
    head, _, line = latencies.table([row("resnet18", latency())]).text().splitlines()
    assert head.split() == [
        "model", "provider", "shape", "p50", "ms", "p99", "ms", "torch", "ms", "speedup", "stable",
    ]  # fmt: skip
    assert line.split() == ["resnet18", "cpu", "8x3x224x224", "12.3", "123", "24.7", "2.00x", "yes"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.00471, "0.005"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234")],
)
def test_a_figure_has_about_three_digits(value: float | None, text: str) -> None:
    assert latencies.figure(value) == text


def test_what_is_missing_is_said_once_for_all_models() -> None:
    missing = latency("cuda", status="unavailable", reason="no CUDA here")
    parts = latencies.paragraphs([row(name, missing) for name in "abcde"], 40)
    assert parts == ["latency cuda unavailable: no CUDA here (a, b, c and 2 more)"]


def test_a_model_is_named_once_for_what_it_lacks_at_several_sizes() -> None:
    missing = latency("cuda", status="failed", reason="SIGNAL")
    (found,) = latencies.not_measured([row("a", missing, missing), row("b", missing)])
    assert found == latencies.Missing("cuda", "failed", "SIGNAL", ("a", "b"))


def test_figures_with_notes_are_counted() -> None:
    absent = latency("cuda", status="unavailable", reason="no CUDA here")
    rows = [row("a", latency(notes=[BUSY]), absent), row("b", latency())]
    assert latencies.doubtful(rows) == (1, 2)


def test_doubts_are_said_once_for_all_models() -> None:
    noted = [row("a", latency(notes=[BUSY, BUSY])), row("b", latency(notes=[BUSY]))]
    quiet = row("c", latency())
    _, doubts = latencies.paragraphs([*noted, quiet], 40)
    assert doubts == f"* a: {BUSY} (and 1 more)"


def test_only_a_doubt_about_the_file_marks_its_figure() -> None:
    shared = "shared: of 9 nodes ONNX Runtime gave 2 to CPUExecutionProvider"
    torch = row("torch", latency(torch_notes=[BUSY]))
    rows = [row("a", latency(remarks=[shared])), row("b", latency(remarks=[shared])), torch]
    assert latencies.doubtful(rows) == (0, 3)
    assert latencies.torch_doubtful(rows) == (1, 3)
    table, said = latencies.paragraphs(rows, 40)
    assert isinstance(table, Table)
    assert [line[-3:] for line in table.rows] == [
        ("24.7", "2.00x", "yes"), ("24.7", "2.00x", "yes"), ("24.7*", "2.00x", "yes"),
    ]  # fmt: skip
    assert said == f"* torch of torch: {BUSY}\nremark: a: {shared} (and 1 more)"


def test_a_long_run_has_no_table_and_one_without_latency_has_nothing() -> None:
    assert latencies.paragraphs([row(f"m{number}", latency()) for number in range(41)], 40) == []
    assert latencies.paragraphs([ok_row("a")], 40) == []


def test_lines_tell_each_latency() -> None:
    stream = io.StringIO()
    screen = progress.create(1, stream, io.StringIO())
    screen.row(ok_row("a"))
    screen.measuring(1)
    absent = latency("cuda", status="unavailable", reason="no CUDA here")
    error = ErrorRecord(stage="benchmark", code=Code.EP_UNAVAILABLE, message="no CUDA here")
    failed = row("a", latency(), absent).model_copy(update={"status": "failed", "error": error})
    screen.measured(failed)
    assert stream.getvalue().splitlines()[1] == (
        "[1/1] latency a  cpu 12.3 ms, cuda unavailable  EP_UNAVAILABLE"
    )


def test_what_was_verified_elsewhere_and_not_timed_is_no_latency() -> None:
    there = [
        ProviderVerdict(provider="openvino", status="passed"),
        ProviderVerdict(provider="ncnn", status="failed"),
    ]
    found = ok_row("a").model_copy(update={"verify": VerifyRecord(providers=there)})
    assert progress.latency_line(1, 1, found) == "[1/1] runtimes a  openvino passed, ncnn failed"


def test_what_fails_a_row_is_told_with_the_failures_only() -> None:
    error = ErrorRecord(
        stage="benchmark", code=Code.EP_UNAVAILABLE, message="no CUDA here", hint="Use cpu."
    )
    absent = latency("cuda", status="unavailable", reason="EP_UNAVAILABLE: no CUDA here; Use cpu.")
    failed = row("a", absent).model_copy(update={"status": "failed", "error": error})
    text = summary.render(manifest_of(failed, row("b", latency())), Path("/r"))
    assert text.count("no CUDA here") == 1
    assert "failed a: EP_UNAVAILABLE: no CUDA here\n    Use cpu.\n" in text


def test_the_bar_starts_again_and_tells_only_what_is_missing() -> None:
    terminal = io.StringIO()
    bar = progress.Bar(3, terminal)
    bar.measuring(2)
    bar.measured(row("good", latency()))
    bar.measured(row("bad", latency("cuda", status="failed", reason="SIGNAL")))
    bar.close()
    text = terminal.getvalue()
    assert "[2/2] latency bad  cuda failed" in text
    assert "latency good" not in text
    assert "2/2 |" in text


def test_the_options_of_a_preset_are_those_of_the_cpu_one() -> None:
    """The other presets start from it, so that a key can be overridden whichever is chosen."""
    folder = Path(__file__).resolve().parents[2] / "configs/benchmark"
    for name in ("cuda", "cpu_cuda"):
        assert "defaults:\n  - cpu\n" in (folder / f"{name}.yaml").read_text()
