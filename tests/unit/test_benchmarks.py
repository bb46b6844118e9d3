"""Phase 2 of a run, with executors that play a script in place of workers."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_runner import Script, failed, make_plan, ok

from converter.config import standard
from converter.layout import runfiles
from converter.model.batch import BenchmarkSpec
from converter.model.errors import Code, ExitCode
from converter.model.job import Job
from converter.model.manifest import ArtifactRow, ModelRecord
from converter.model.measure import Measure
from converter.model.records import (
    CaseCheck,
    ErrorRecord,
    JobResult,
    Latency,
    Spent,
    StageRecord,
    Try,
    VerifyRecord,
)
from converter.model.spec import Expect
from converter.plugins import executors
from converter.plugins.executors import Events, Finished, StageEntered, Started
from converter.runner import benchmarks
from converter.runner import loop as runner
from converter.runner.context import RunContext

Act = Callable[[Measure], JobResult]


def measured(job: Measure) -> JobResult:
    latency = Latency(provider=job.provider, status="measured", p50_ms=1.5, stable=True)
    stages = {"benchmark": StageRecord(status="ok", seconds=2.0, warnings=["w"])}
    return JobResult(name=job.name, status="ok", stages=stages, latency=[latency])


def ended(code: Code, stage_status: str = "failed", hint: str = "Do x.") -> Act:
    def act(job: Measure) -> JobResult:
        error = ErrorRecord(stage="benchmark", code=code, message="what happened", hint=hint)
        stages = {"benchmark": StageRecord.model_validate({"status": stage_status})}
        return JobResult(name=job.name, status="failed", error=error, stages=stages)

    return act


def wrong(job: Measure) -> JobResult:
    case = CaseCheck(label="traced", shapes={}, provider="CUDAExecutionProvider", outputs=[])
    verify = VerifyRecord(status="failed", reason="far off", cases=[case])
    return ended(Code.VERIFY_VALUE)(job).model_copy(update={"verify": verify})


class Measuring:
    """Plays an act for each provider and remembers the jobs."""

    def __init__(self, **acts: Act) -> None:
        self.acts = acts
        self.jobs: list[Measure] = []
        self.before: Callable[[Measure], None] = lambda job: None

    def run(self, jobs: Sequence[Job]) -> Events:
        for job in jobs:
            assert isinstance(job, Measure)
            self.jobs.append(job)
            self.before(job)
            yield Started(job.name, 1, 1)
            yield StageEntered(job.name, "benchmark")
            (Path(job.model_dir) / "log.txt").write_text(f"{job.provider} prints\n")
            yield Finished(self.acts.get(job.provider, measured)(job))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "zoo" / "run"


Phase2 = Callable[..., tuple[ExitCode, dict[str, ArtifactRow]]]


@pytest.fixture
def run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Phase2:
    """A run of models ``a`` and ``b`` whose phase 2 is played."""

    def play(
        player: Measuring,
        *,
        providers: Sequence[str] = ("cpu",),
        optional: bool = False,
        expect: Expect | None = None,
        acts: dict[str, Callable[[Job], JobResult]] | None = None,
        **keys: Any,
    ) -> tuple[ExitCode, dict[str, ArtifactRow]]:
        spec = BenchmarkSpec(providers=[*providers], optional=optional, threads=3)
        batch = standard.spec(benchmark=spec.model_dump(), **{"reports": ["csv"], **keys})
        context = RunContext(directory, "zoo", [], "0" * 64, "command", batch)
        monkeypatch.setattr(executors, "create", lambda spec: player)
        plan = make_plan(directory, "a", "b", expect=expect)
        code = runner.execute(plan, Script(acts or {}), context)
        return code, {row.label: row for row in runfiles.read(directory).rows}

    return play


def test_each_file_is_measured_after_all_conversions(
    run: Phase2, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    player = Measuring()
    code, rows = run(player, providers=["cpu", "cuda"])
    assert code is ExitCode.OK
    assert [(job.name, job.provider) for job in player.jobs] == [
        ("a", "cpu"), ("a", "cuda"), ("b", "cpu"), ("b", "cuda"),
    ]  # fmt: skip
    assert {job.threads for job in player.jobs} == {3}
    assert player.jobs[0].file == str(directory / "models/a/a.onnx")
    assert [entry.provider for entry in rows["a"].latency] == ["cpu", "cuda"]
    stage = rows["a"].stages["benchmark"]
    assert (stage.status, stage.seconds, stage.warnings) == ("ok", 4.0, ["w"])
    printed = capsys.readouterr().out
    assert "[2/2] ok       b" in printed
    assert "[2/2] latency b  cpu 1.50 ms, cuda 1.50 ms" in printed
    assert printed.index("[2/2] ok") < printed.index("[1/2] latency")
    assert not (directory / ".staging").exists()


def test_the_last_line_of_a_model_in_the_results_has_its_latency(
    run: Phase2, directory: Path
) -> None:
    _, rows = run(Measuring())
    lines = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    assert [(line["name"], len(line["artifacts"][0]["latency"])) for line in lines] == [
        ("a", 0), ("b", 0), ("a", 1), ("b", 1),
    ]  # fmt: skip
    assert lines[0]["artifacts"][0]["stages"]["benchmark"]["status"] == "not_run"
    assert ModelRecord.model_validate(lines[2]).rows == [rows["a"]]
    result = JobResult.model_validate_json((directory / "models/a/result.json").read_bytes())
    assert result.latency == rows["a"].latency


def test_what_a_measurement_printed_is_in_the_models_log(run: Phase2, directory: Path) -> None:
    run(Measuring())
    log = (directory / "models/a/log.txt").read_text()
    assert log.endswith("\n---- benchmark on cpu ----\ncpu prints\n")


@pytest.mark.parametrize("code", [Code.SIGNAL, Code.TIMEOUT, Code.SESSION, Code.MEM_LIMIT])
def test_a_measurement_that_fails_costs_only_itself(
    run: Phase2, directory: Path, capsys: pytest.CaptureFixture[str], code: Code
) -> None:
    exit_code, rows = run(Measuring(cuda=ended(code)), providers=["cpu", "cuda"])
    assert exit_code is ExitCode.OK
    assert rows["a"].status == "ok"
    good, bad = rows["a"].latency
    assert good.status == "measured"
    assert (bad.status, bad.reason) == ("failed", f"{code}: what happened; Do x.")
    assert rows["a"].stages["benchmark"].status == "failed"
    assert (directory / "models/a/a.onnx").exists()
    assert f"latency cuda failed: {code}: what happened; Do x. (a, b)" in capsys.readouterr().out


def test_a_provider_that_is_absent_fails_the_model_and_keeps_its_file(
    run: Phase2, directory: Path
) -> None:
    player = Measuring(cuda=ended(Code.EP_UNAVAILABLE))
    code, rows = run(player, providers=["cpu", "cuda"])
    assert code is ExitCode.MODELS_FAILED
    row = rows["a"]
    assert (row.status, row.error and row.error.code) == ("failed", "EP_UNAVAILABLE")
    assert row.error is not None
    assert row.error.log == "models/a/log.txt"
    assert (directory / row.files[0].path).exists()
    assert [entry.status for entry in row.latency] == ["measured", "unavailable"]
    assert runfiles.read(directory).run.complete


def test_an_optional_provider_may_be_absent(run: Phase2) -> None:
    player = Measuring(cuda=ended(Code.EP_UNAVAILABLE))
    code, rows = run(player, providers=["cuda"], optional=True)
    assert code is ExitCode.OK
    assert rows["a"].status == "ok"
    assert rows["a"].latency[0].status == "unavailable"
    assert rows["a"].stages["benchmark"].status == "skipped"


@pytest.mark.parametrize("optional", [True, False])
def test_a_file_that_is_wrong_on_a_provider_fails(run: Phase2, optional: bool) -> None:
    code, rows = run(Measuring(cuda=wrong), providers=["cpu", "cuda"], optional=optional)
    assert code is ExitCode.MODELS_FAILED
    row = rows["a"]
    assert (row.status, row.error and row.error.code) == ("failed", "VERIFY_VALUE")
    assert (row.verify.status, row.verify.reason) == ("failed", "far off")
    assert [case.provider for case in row.verify.cases] == ["CUDAExecutionProvider"]
    assert row.files
    assert row.onnx is not None


def test_an_absent_provider_may_be_expected(run: Phase2) -> None:
    expect = Expect(status="failed", code="EP_UNAVAILABLE", reason="no GPU here")
    player = Measuring(cuda=ended(Code.EP_UNAVAILABLE))
    code, rows = run(player, providers=["cuda"], expect=expect)
    assert code is ExitCode.OK
    assert rows["a"].status == "xfail"


def test_a_file_of_an_unexpected_success_is_measured_and_stays_xpass(run: Phase2) -> None:
    expect = Expect(status="failed", code="EXPORT", reason="known")
    code, rows = run(Measuring(), expect=expect)
    assert code is ExitCode.MODELS_FAILED
    assert rows["a"].status == "xpass"
    assert rows["a"].latency


def test_a_model_without_a_file_is_not_measured(run: Phase2) -> None:
    player = Measuring()
    _, rows = run(player, acts={"a": failed, "b": ok})
    assert [job.name for job in player.jobs] == ["b"]
    assert rows["a"].stages["benchmark"].status == "not_run"
    assert rows["a"].latency == []


def test_without_providers_nothing_is_measured(run: Phase2) -> None:
    player = Measuring()
    code, rows = run(player, providers=[])
    assert (code, player.jobs, rows["a"].latency) == (ExitCode.OK, [], [])


def test_a_signal_leaves_the_rest_unmeasured_and_the_run_incomplete(
    run: Phase2, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    player = Measuring()

    def interrupt(job: Measure) -> None:
        if job.name == "b":
            signal.raise_signal(signal.SIGTERM)

    player.before = interrupt
    code, rows = run(player)
    assert code is ExitCode.TERMINATED
    assert rows["a"].stages["benchmark"].status == "ok"
    assert rows["b"].stages["benchmark"].status == "not_run"
    assert rows["b"].status == "ok"
    printed = capsys.readouterr().out
    assert "Interrupted by SIGTERM: 2 of 2 models finished" in printed
    assert "; the latency of 1 is not measured. Resume with: " in printed
    assert not runfiles.read(directory).run.complete
    assert not (directory.parent / "latest").exists()


def test_a_deadline_that_passes_while_measuring_is_no_green_night(
    run: Phase2, directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("CONVERTER_TRUST", "/bin/echo")
    player = Measuring()
    player.before = lambda job: time.sleep(0.5 if job.name == "b" else 0)
    code, rows = run(player, deadline=0.4, on_failure=["/bin/echo", "called"], reports=["markdown"])
    assert code is ExitCode.MODELS_FAILED
    assert [row.status for row in rows.values()] == ["ok", "ok"]
    made = runfiles.read(directory).run
    assert (made.complete, made.exit_code, made.ended_by) == (False, 1, "deadline")
    told = "The latency of 1 model is not measured: the deadline passed."
    assert told in (directory / "summary.md").read_text()
    assert "; the latency of 1 is not measured. Resume with" in capsys.readouterr().out
    assert "called" in (directory / "run.log").read_text()


def test_a_record_that_cannot_be_written_stops_the_run_and_keeps_the_row(
    run: Phase2, directory: Path
) -> None:
    player = Measuring()

    def block(job: Measure) -> None:
        results = directory / "results.jsonl"
        results.unlink()
        results.mkdir()

    player.before = block
    code, rows = run(player)
    assert code is ExitCode.RUN_FAILED
    assert rows["a"].status == "ok"
    assert rows["a"].latency == []
    assert (directory / "models/a/a.onnx").exists()


@pytest.mark.parametrize(
    ("asked", "verified_on", "status"),
    [
        (["cuda"], "", "failed"),  # it was to be verified there
        ([], "", "ok"),  # it was to be timed
        (["cuda"], "cuda", "ok"),  # it is verified there already
    ],
)
def test_a_crash_where_a_file_was_to_be_verified_is_no_green_row(
    asked: list[str], verified_on: str, status: str
) -> None:
    item: Any = SimpleNamespace(
        name="a", provider="cuda", verified_on=verified_on, timed=True, threads=1, budget_s=1.0,
        verify=SimpleNamespace(providers=asked),
    )  # fmt: skip
    before = JobResult(name="a", status="ok")
    found = benchmarks.joined(before, [(item, ended(Code.SIGNAL)(item))], False)
    assert found.status == status
    (verdict,) = found.verify.providers
    assert (verdict.status, verdict.code) == ("failed", "SIGNAL")


def test_what_latencies_took_stands_in_the_row_by_provider() -> None:
    spent = Spent(started_at="2026-01-01T00:00:00Z", seconds=2.0, cpu_seconds=3.0)
    lost = Try(attempt=1, node="n0", reason="the node n0 was lost")
    before = JobResult(name="a", status="ok", other_tries=[lost])
    item = SimpleNamespace(
        provider="cuda", timed=True, threads=1, budget_s=1.0, verified_on=None,
        verify=SimpleNamespace(providers=[]),
    )  # fmt: skip
    measured = JobResult(name="a", status="ok", attempts=2, spent=spent, other_tries=[lost])
    found = benchmarks.joined(before, [(item, measured)], False)
    assert found.other_tries == [
        lost,
        lost.model_copy(update={"provider": "cuda"}),
        Try(provider="cuda", attempt=2, gpus=1, spent=spent),
    ]
