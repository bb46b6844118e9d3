"""Timing a published file in this process: sizes, providers, PyTorch beside it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jobs import BATCH, IMAGE, Converted

from converter.model.base import Frozen
from converter.model.errors import Code
from converter.model.measure import Measure
from converter.model.records import JobResult, Latency

pytestmark = pytest.mark.integration

Time = Callable[..., JobResult]


@pytest.fixture
def time(tiny_job: Callable[..., Any]) -> Time:
    """Convert a model of ``tiny.py`` and time its file."""
    import jobs

    from converter.worker.benchmark import benchmarking

    def run(source: str, provider: str = "cpu", **changes: Any) -> Any:
        measured = changes.pop("measured", {})
        job = tiny_job(source, **changes)
        converted: Converted = jobs.convert(job)
        own = {
            "file": str(converted.path),
            "provider": provider,
            "budget_s": 0.05,
            "threads": 1,
            **measured,
        }
        entered: list[str] = []
        result = benchmarking.run(Measure.model_validate({**dict(job), **own}), entered.append)
        assert JobResult.model_validate_json(result.model_dump_json()) == result
        assert entered == ["benchmark"]
        return result

    return run


def only(result: JobResult) -> Latency:
    assert result.error is None, result.error
    (latency,) = result.latency
    return latency


def test_the_figures_of_a_file(time: Time) -> None:
    result = time("Conv", inputs=IMAGE)
    assert result.stages["benchmark"].status == "ok"
    assert result.verify.status == "not_measured"
    found = only(result)
    assert (found.provider, found.status) == ("cpu", "measured")
    assert (found.shapes, found.threads, found.budget_s) == ({"x": [2, 3, 8, 8]}, 1, 0.05)
    assert found.active == ["CPUExecutionProvider"]
    assert found.nodes_per_provider.keys() == {"CPUExecutionProvider"}
    assert found.io_binding is False
    assert found.warmup is not None
    assert found.warmup > 0
    assert found.iterations is not None
    assert found.iterations >= 3
    for key in ("min_ms", "p50_ms", "mean_ms", "torch_p50_ms", "session_load_ms"):
        assert getattr(found, key) > 0, key
    assert found.min_ms <= found.p50_ms <= found.p90_ms <= found.p99_ms
    assert found.throughput == pytest.approx(2000 / found.mean_ms, rel=1e-3)
    low, high = found.ci95_ms
    assert low <= found.p50_ms <= high


@pytest.mark.parametrize(
    ("stable", "noticed", "speedup"),
    [(True, [], 2.0), (False, [], None), (True, ["busy: other processes used 1.4 of 2"], None)],
    ids=["quiet", "not-stable", "busy"],
)
def test_a_speedup_is_a_ratio_of_two_figures_that_nothing_speaks_against(
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    stable: bool,
    noticed: list[str],
    speedup: float | None,
) -> None:
    from converter.worker.benchmark import benchmarking

    onnx, torch = (
        benchmarking.timing.Timing(warmup=3, durations_ns=[took] * 40, stable=stable)
        for took in (2_000_000, 4_000_000)
    )
    taken = iter([onnx, torch])
    monkeypatch.setattr(benchmarking.timing, "measure", lambda calls, budget_s: next(taken))
    monkeypatch.setattr(benchmarking.machine, "watched", lambda threads: nullcontext(noticed))
    found = only(time("Conv", inputs=IMAGE))
    assert (found.p50_ms, found.torch_p50_ms, found.speedup) == (2.0, 4.0, speedup)
    assert found.notes[: len(noticed)] == found.torch_notes[: len(noticed)] == noticed
    why = "no speedup: it would rest on a doubtful median, the file's and PyTorch's"
    assert (why in found.remarks) == (speedup is None)
    assert bool(found.notes) == bool(found.torch_notes) == (speedup is None)


def test_what_casts_no_doubt_on_the_figures_is_a_remark(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.worker.benchmark import benchmarking

    timed = benchmarking.timing.Timing(warmup=3, durations_ns=[2_000_000] * 40, stable=True)
    monkeypatch.setattr(benchmarking.timing, "measure", lambda calls, budget_s: timed)
    monkeypatch.setattr(benchmarking.machine, "watched", lambda threads: nullcontext([]))
    monkeypatch.setattr(benchmarking, "_division", lambda nodes, wanted: ["shared: 2 of 9 nodes"])

    def refused(*arguments: object) -> Any:
        raise KeyError("no such thing")

    monkeypatch.setattr(benchmarking.eager, "calls_of", refused)
    found = only(time("Conv", inputs=IMAGE, measured={"batch_sizes": [4, 2, 8]}))
    assert (found.notes, found.torch_notes) == ([], [])
    assert found.remarks == [
        "batch sizes: 4, 8 not timed, no dynamic axis 0 (declare it in dynamic_axes)",
        "shared: 2 of 9 nodes",
        "few calls: p99 of 40 calls is the slowest of them",
        "no PyTorch figure: 'no such thing'",
    ]


def test_batch_sizes_of_a_dynamic_batch_axis(time: Time) -> None:
    found = time(
        "Conv", inputs=IMAGE, dynamic_axes=BATCH, measured={"batch_sizes": [1, 2, 4]}
    ).latency
    assert [entry.shapes["x"][0] for entry in found] == [2, 1, 4]
    assert not any("batch sizes" in remark for entry in found for remark in entry.remarks)
    assert {entry.status for entry in found} == {"measured"}
    assert all(entry.torch_p50_ms for entry in found)


def test_a_fixed_batch_axis_has_one_size(time: Time) -> None:
    assert only(time("Conv", inputs=IMAGE, measured={"batch_sizes": [1, 4]})).shapes == {
        "x": [2, 3, 8, 8]
    }


def test_a_size_that_pytorch_refuses_has_the_figure_of_the_file_only(time: Time) -> None:
    inputs = {"x": {"shape": [2, 4]}}
    result = time(
        "Pairs", inputs=inputs, dynamic_axes={"x": {0: "batch"}}, measured={"batch_sizes": [3]}
    )
    first, odd = result.latency
    assert first.torch_p50_ms
    assert (odd.status, odd.torch_p50_ms) == ("failed", None)
    assert odd.reason
    assert result.error is None


def test_parameters_that_are_inputs_are_fed(time: Time) -> None:
    assert only(time("Net", export={"export_params": False})).status == "measured"


def test_a_model_that_changes_its_state_is_timed_as_it_is(time: Time) -> None:
    assert only(time("Tallying")).torch_p50_ms


def test_without_pytorch(time: Time) -> None:
    found = only(time("Net", measured={"time_torch": False}))
    assert found.status == "measured"
    assert (found.torch_p50_ms, found.speedup) == (None, None)


def test_only_what_is_timed_spins(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    from converter.worker.runtime import session, starting

    key, said = "session.intra_op.allow_spinning", []

    def start(*arguments: Any) -> Any:
        options = arguments[2]
        try:
            said.append(options.get_session_config_entry(key))
        except RuntimeError:  # nobody has set it
            said.append("as users have it")
        return starting.start(*arguments)

    monkeypatch.setattr(session, "starting", SimpleNamespace(start=start))
    only(time("Conv", inputs=IMAGE))
    *before, timed = said
    assert (set(before), timed) == ({"0"}, "as users have it")


def test_a_file_that_is_no_model(tiny_job: Callable[..., Any], tmp_path: Path) -> None:
    from converter.worker.benchmark import benchmarking

    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    own = {"file": str(tmp_path / "bad.onnx"), "provider": "cpu", "budget_s": 0.05}
    job = Measure.model_validate({**dict(tiny_job("Net")), **own})
    result = benchmarking.run(job, lambda stage: None)
    assert result.error is not None
    assert result.error.code is Code.SESSION
    assert result.error.message.startswith("ONNX Runtime cannot load the file: ")


def test_an_absent_provider_is_told_before_anything_is_loaded(
    tiny_job: Callable[..., Any],
) -> None:
    from converter.worker.benchmark import benchmarking

    own = {"file": "/none.onnx", "provider": "openvino_ep", "budget_s": 0.05}
    job = Measure.model_validate({**dict(tiny_job("Raises")), **own})
    result = benchmarking.run(job, lambda stage: None)
    assert result.error is not None
    assert result.error.code is Code.EP_UNAVAILABLE
    assert result.error.message.startswith("OpenVINOExecutionProvider is not available; available:")
    assert "onnxruntime-openvino" in result.error.hint


@pytest.fixture
def other_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """``openvino_ep`` is the CPU provider of ONNX Runtime: another name, the same path."""
    from converter.plugins.providers import openvino_ep

    monkeypatch.setattr(openvino_ep, "NAME", "CPUExecutionProvider")
    monkeypatch.setattr(openvino_ep, "Options", Frozen)


@pytest.mark.usefixtures("other_provider")
def test_on_another_provider_the_file_is_verified_first(time: Time) -> None:
    result = time("Conv", "openvino_ep", inputs=IMAGE, dynamic_axes=BATCH)
    assert only(result).provider == "openvino_ep"
    assert result.verify.status == "passed"
    assert {case.label for case in result.verify.cases} >= {"traced", "second", "batch=1"}


@pytest.mark.usefixtures("other_provider")
def test_a_file_that_is_wrong_on_a_provider_is_not_timed(time: Time) -> None:
    result = time("Conv", "openvino_ep", inputs=IMAGE, measured={"seed": 1})  # other weights
    assert result.latency == []
    assert result.verify.status == "failed"
    assert result.verify.cases
    assert result.error is not None
    assert result.error.code is Code.VERIFY_VALUE
    assert result.error.message.startswith("on openvino_ep: case traced")


def test_a_graph_that_other_providers_take_has_no_figures_of_this_one() -> None:
    from converter.model.errors import StageError
    from converter.worker.benchmark.benchmarking import _division

    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    assert _division({cuda: 5}, cuda) == []
    assert _division({cuda: 5, cpu: 2}, cuda) == [
        f"shared: of 7 nodes ONNX Runtime gave 2 to {cpu}"
    ]
    with pytest.raises(StageError, match=f"{cuda} takes no node of the graph: .* gave 3 to {cpu}"):
        _division({cpu: 3}, cuda)
