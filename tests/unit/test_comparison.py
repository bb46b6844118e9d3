"""Two manifests side by side."""

from __future__ import annotations

from typing import Any

import pytest
from nights import artifact, checked, environment, failing, manifest, request, row, timed

from converter import comparison
from converter.batch import CompareSpec
from converter.changes import Change, Comparison
from converter.comparison import latency, wording
from converter.comparison.latency import Settled
from converter.job import TensorInfo
from converter.manifest import Gpu, Row

LIMITS = CompareSpec()


def compared(before: Row, after: Row, **changes: Any) -> Comparison:
    old = manifest(before, day=1)
    return comparison.compare(old, manifest(after, day=2, **changes), LIMITS)


def only(found: Comparison) -> Change:
    (change,) = found.changes
    return change


def test_equal_runs_are_the_same() -> None:
    found = compared(row(), row())
    assert (found.verdict, found.changes, found.environment) == ("same", [], [])
    assert found.baseline_run_id == "run-1"


@pytest.mark.parametrize(
    ("before", "after", "kind", "severity"),
    [
        (row(), failing(), "newly_failing", "regression"),
        (row(), failing(status="crashed"), "newly_failing", "regression"),
        (row(status="xfail"), failing(), "newly_failing", "regression"),
        (failing(), row(), "fixed", "improvement"),
        (row(status="xfail"), row(status="xpass"), "fixed", "improvement"),
        (failing(), failing(status="timeout"), "status", "note"),
        (failing(), failing(error={"fingerprint": "0" * 12}), "status", "note"),
        (row(), row(status="skipped"), "status", "note"),
    ],
)
def test_what_became_of_a_model(before: Row, after: Row, kind: str, severity: str) -> None:
    change = only(compared(before, after))
    assert (change.kind, change.severity) == (kind, severity)
    assert (change.before, change.after) == (before.status, after.status)


def test_what_did_not_run_is_no_change() -> None:
    assert compared(row(), row(status="not_run")).verdict == "same"
    assert compared(failing(), row(status="not_run")).verdict == "same"


def test_models_come_and_go() -> None:
    old, new = manifest(row("a"), row("b")), manifest(row("b"), failing("c"), day=2)
    found = comparison.compare(old, new, LIMITS)
    assert [(change.model, change.kind) for change in found.changes] == [
        ("c", "added"),
        ("a", "removed"),
    ]
    assert found.verdict == "changed"


@pytest.mark.parametrize(
    ("changes", "kind", "severity"),
    [
        ({"inputs": [TensorInfo(name="z", dtype="float32", shape=["batch", 3])]}, "inputs", True),
        ({"inputs": []}, "inputs", True),
        ({"outputs": [TensorInfo(name="y", dtype="float32", shape=[4, 10])]}, "outputs", True),
        ({"outputs": [TensorInfo(name="y", dtype="float16", shape=["batch", 10])]}, "dtypes", True),
        ({"outputs": [TensorInfo(name="y", dtype="float32", shape=["N", 10])]}, "outputs", False),
        ({"outputs": [TensorInfo(name="6", dtype="float32", shape=["N", 10])]}, "outputs", False),
        ({"opset": 18}, "opset", False),
        ({"nodes": 4}, "nodes", False),
        ({"ops": {"Conv": 2, "Add": 1}}, "ops", False),
        ({"bytes": 1051}, "size", True),
        ({"bytes": 1040}, "size", False),
        ({"bytes": 500}, "size", False),
    ],
)
def test_what_became_of_a_file(changes: dict[str, Any], kind: str, severity: bool) -> None:
    change = only(compared(row(), row(artifact=artifact(**changes))))
    assert (change.kind, change.severity) == (kind, "regression" if severity else "note")


def test_an_output_that_the_configuration_names_keeps_its_name() -> None:
    named = request(outputs=["y"])
    other = artifact(outputs=[TensorInfo(name="z", dtype="float32", shape=["batch", 10])])
    change = only(compared(row(request=named), row(request=named, artifact=other)))
    assert (change.kind, change.severity) == ("outputs", "regression")


def test_a_few_bytes_more_are_not_worth_a_line() -> None:
    assert compared(row(), row(artifact=artifact(bytes=1009))).verdict == "same"


def test_an_interface_that_the_configuration_changed_is_no_regression() -> None:
    tensors = [TensorInfo(name="z", dtype="float32", shape=[1])]
    after = row(artifact=artifact(inputs=tensors), request=request(opset=18))
    change = only(compared(row(), after))
    assert change.severity == "note"
    assert change.detail == "the configuration of the model changed"
    assert change.explained_by == ["opset 17 → 18"]


def test_the_operators_are_told_by_their_difference() -> None:
    change = only(compared(row(), row(artifact=artifact(ops={"Conv": 4, "Add": 1}))))
    assert change.detail == "+1 Add, +2 Conv, -1 Relu"


def test_an_error_that_uses_up_its_tolerance() -> None:
    near = row(verify=checked(3e-4))
    assert compared(row(verify=checked(1e-4)), near).verdict == "same"
    change = only(compared(row(verify=checked(1e-4)), row(verify=checked(9e-4))))
    assert (change.kind, change.severity) == ("error", "regression")
    assert change.detail == "the worst error uses 90% of its tolerance, 10% before"


def test_what_may_explain_a_change_stands_beside_it() -> None:
    newer = environment(
        python="3.12.0",
        gpus=[Gpu(name="a card", driver="550")],
        packages={"torch": "2.15.0", "onnx": "1.23.2", "onnxruntime": "1.32.0", "onnxsim": "1"},
    )
    found = compared(row(), failing(), env=newer)
    assert [part.name for part in found.environment] == [
        "driver",
        "gpu",
        "onnxruntime",
        "onnxsim",
        "python",
        "torch",
    ]
    # An export knows nothing of a card, of the runtime or of the simplifier.
    assert only(found).explained_by == ["python 3.11.2 → 3.12.0", "torch 2.14.0 → 2.15.0"]


def test_newly_failing_models_are_grouped_by_cause() -> None:
    other = failing("d", error={"fingerprint": "0" * 12, "message": "something else"})
    old = manifest(*(row(name) for name in "abcd"), failing("e"))
    new = manifest(failing("a"), row("b"), failing("c"), other, failing("e"), day=2)
    found = comparison.compare(old, new, LIMITS)
    assert [(cause.fingerprint, cause.models) for cause in found.causes] == [
        ("f" * 12, ["a", "c"]),
        ("0" * 12, ["d"]),
    ]


# Latency


def slower(half: float = 0.01, stable: bool = True, **changes: Any) -> tuple[Row, Row]:
    before = row(latency=[timed(10.0, half)])
    other = artifact(sha256="b" * 64)
    return before, row(artifact=other, latency=[timed(15.0, half, stable, **changes)])


def judged(pair: tuple[Row, Row], settled: Settled | None = None, **changes: Any) -> Change:
    old, new = manifest(pair[0]), manifest(pair[1], day=2, **changes)
    (suspect,) = latency.suspects(old, new, LIMITS)
    again = {suspect.key: settled} if settled else None
    return only(comparison.compare(old, new, LIMITS, again))


def test_within_limit_or_noise_is_the_same() -> None:
    near = row(artifact=artifact(sha256="b" * 64), latency=[timed(10.9)])
    assert compared(row(latency=[timed(10.0)]), near).verdict == "same"
    assert compared(*slower(half=0.3)).verdict == "same"


def test_a_suspect_that_is_slower_side_by_side_is_a_regression() -> None:
    change = judged(slower(), Settled(timed(12.0), timed(18.0)))
    assert (change.kind, change.severity) == ("latency", "regression")
    assert (change.before, change.after) == (10.0, 15.0)
    assert change.detail == "+50% on cpu; timed again side by side: 12 ms and 18 ms"


@pytest.mark.parametrize(
    "settled", [Settled(timed(15.0), timed(15.2)), Settled(timed(10, 0.5), timed(12, 0.5))]
)
def test_a_suspect_that_is_not_slower_side_by_side_is_acquitted(settled: Settled) -> None:
    change = judged(slower(), settled)
    assert change.severity == "note"
    assert change.detail.endswith("the file is not to blame")


def test_what_cannot_be_timed_again_stands_where_both_nights_were_sound() -> None:
    change = judged(slower(), Settled(reason="it is gone"))
    assert change.severity == "regression"
    assert change.detail.endswith("not timed again: it is gone")
    assert judged(slower(stable=False)).severity == "note"
    assert judged(slower(), env=environment(cpu="another")).severity == "note"


def test_the_same_file_cannot_have_become_slower() -> None:
    before, after = row(latency=[timed(10.0)]), row(latency=[timed(15.0)])
    assert latency.suspects(manifest(before), manifest(after), LIMITS) == []
    change = only(compared(before, after))
    assert change.severity == "note"
    assert "the file is the same" in change.detail


def test_other_shapes_and_threads_are_not_compared() -> None:
    assert compared(*slower(threads=1)).verdict == "same"
    assert compared(*slower(shapes={"x": [8, 3]})).verdict == "same"


def test_a_faster_model_and_a_provider_that_went() -> None:
    assert compared(row(latency=[timed(10.0)]), row(latency=[timed(5.0)])).verdict == "better"
    gone = row(latency=[timed(10.0, status="unavailable", reason="no driver")])
    change = only(compared(row(latency=[timed(10.0)]), gone))
    assert (change.severity, change.detail) == ("note", "cpu: unavailable: no driver")


# Since when


def test_failing_since_is_carried_from_night_to_night() -> None:
    first = comparison.since(manifest(failing("a"), row("b"), day=1), None)
    second = comparison.since(manifest(failing("a"), failing("b"), day=2), first)
    third = comparison.since(manifest(failing("a"), failing("b"), row("c"), day=3), second)
    assert [r.failing_since for r in third.models] == [
        "2026-11-01T02:00:00.000Z",
        "2026-11-02T02:00:00.000Z",
        None,
    ]
    mended = comparison.since(manifest(row("a"), failing("b"), day=4), third)
    assert mended.models[0].failing_since is None
    change = comparison.compare(third, mended, LIMITS).changes[0]
    assert (change.kind, change.detail) == (
        "fixed",
        "had been failing since 2026-11-01T02:00:00.000Z",
    )


def test_a_baseline_without_the_field_counts_from_its_own_start() -> None:
    old = manifest(failing("a"), day=1)
    assert comparison.since(manifest(failing("a"), day=2), old).models[0].failing_since == (
        "2026-11-01T02:00:00.000Z"
    )


# In words


def test_a_first_night_says_so() -> None:
    assert wording.lines(comparison.no_baseline()) == [
        "compared with nothing: there is no earlier run (no_baseline)"
    ]


def test_the_worst_comes_first_with_its_reasons() -> None:
    old = manifest(row("a"), row("b"), row("c"))
    new = manifest(
        row("a", artifact=artifact("a", nodes=4)), failing("b"), failing("c"), day=2,
        env=environment(packages={"torch": "2.15.0", "onnx": "1.23.2", "onnxruntime": "1.31.1"}),
    )  # fmt: skip
    told = wording.lines(comparison.compare(old, new, LIMITS))
    assert told == [
        "compared with run-1 of 2026-11-01T02:00:00.000Z: regression",
        "worse: b: newly failing ok → failed (EXPORT_UNSUPPORTED: b uses an operator without "
        "ONNX form); perhaps torch 2.14.0 → 2.15.0",
        "worse: c: newly failing ok → failed (EXPORT_UNSUPPORTED: c uses an operator without "
        "ONNX form); perhaps torch 2.14.0 → 2.15.0",
        "changed: a: nodes 3 → 4; perhaps torch 2.14.0 → 2.15.0",
        "one cause, 2 models: b, c",
        "also different: torch 2.14.0 → 2.15.0",
    ]
