"""Two manifests side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nights import artifact, checked, environment, failing, manifest, request, row, timed

from converter import compare
from converter.compare import latency, wording
from converter.compare.latency import Remeasured
from converter.model.batch import CompareSpec
from converter.model.changes import Change, Comparison
from converter.model.errors import Code
from converter.model.manifest import ArtifactRow, Gpu, WeightsInfo
from converter.model.records import (
    ALL_STAGES,
    CaseCheck,
    DynamicCheck,
    InputDomain,
    Latency,
    NodeInfo,
    SimplifyRecord,
    StageRecord,
    SymbolDomain,
    TensorInfo,
    VerifyRecord,
)
from converter.plugins.reports import html, markdown
from tests.manifests import verified_on, with_domain

LIMITS = CompareSpec()


def compared(before: ArtifactRow, after: ArtifactRow, **changes: Any) -> Comparison:
    old = manifest(before, day=1)
    return compare.compare(old, manifest(after, day=2, **changes), LIMITS)


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
        (row(), row(status="skipped"), "status", "regression"),
        (row(), row(status="skipped", request=request(opset=11)), "status", "note"),
        (failing(), row(status="skipped"), "status", "note"),
        (row(), row(status="not_run"), "status", "regression"),
        (row(status="xpass"), row(status="not_run"), "status", "regression"),
    ],
)
def test_what_became_of_a_model(
    before: ArtifactRow, after: ArtifactRow, kind: str, severity: str
) -> None:
    change = only(compared(before, after))
    assert (change.kind, change.severity) == (kind, severity)
    assert (change.before, change.after) == (before.status, after.status)


def test_what_did_not_run_is_no_change() -> None:
    assert compared(failing(), row(status="not_run")).verdict == "same"
    assert compared(row(status="not_run"), row()).verdict == "same"


def test_a_model_that_was_not_run_says_so_and_blames_no_package() -> None:
    newer = environment(packages={"torch": "2.15.0"})
    change = only(compared(row(), row(status="not_run"), env=newer))
    assert wording.line(change) == "m: status ok → not_run (the run ended before it)"


def test_a_skipped_model_was_asked_for_the_same_although_no_worker_saw_it() -> None:
    """A worker says which device ``auto`` is and what the weights' hash is."""
    seen = request(device="cuda", conditioned=True, weights=weights(sha256="a" * 64))
    unseen = request(device="auto", conditioned=None, weights=weights())
    refused = row(status="skipped", request=unseen, verify=VerifyRecord(reason="no such opset"))
    newer = environment(packages={**environment().packages, "torch": "2.15.0"})
    change = only(compared(row(request=seen), refused, env=newer))
    assert wording.line(change) == (
        "m (torch 2.14.0 → 2.15.0): status ok → skipped (no such opset)"
    )
    assert change.severity == "regression"
    other = row(status="skipped", request=request(weights=weights(path="other.pth")))
    assert only(compared(row(request=seen), other)).severity == "note"


def weights(**changes: Any) -> WeightsInfo:
    return WeightsInfo.model_validate({"kind": "checkpoint", "path": "a.pth"} | changes)


def test_models_come_and_go() -> None:
    old, new = manifest(row("a"), row("b")), manifest(row("b"), failing("c"), day=2)
    found = compare.compare(old, new, LIMITS)
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
        ({"exporter": "dynamo"}, "exporter", False),
        ({"simplify": SimplifyRecord(applied=True)}, "simplify", False),
        ({"nodes": 4}, "nodes", False),
        ({"ops": {"Conv": 2, "Add": 1}}, "ops", False),
        ({"size": 1051}, "size", True),
        ({"size": 1040}, "size", False),
        ({"size": 500}, "size", False),
    ],
)
def test_what_became_of_a_file(changes: dict[str, Any], kind: str, severity: bool) -> None:
    change = only(compared(row(), row(**artifact(**changes))))
    assert (change.kind, change.severity) == (kind, "regression" if severity else "note")


def test_other_bytes_of_the_same_key_are_told() -> None:
    before, after = row(job_key="k" * 64), row(job_key="k" * 64, **artifact(sha256="b" * 64))
    change = only(compared(before, after))
    assert (change.kind, change.severity) == ("content", "note")
    assert (change.before, change.after) == ("a" * 12, "b" * 12)
    assert "an environment variable" in change.detail
    # Of another key other bytes are what one expects.
    assert compared(row(job_key="j" * 64), after).changes == []
    assert compared(before, before).changes == []


def test_an_output_that_the_configuration_names_keeps_its_name() -> None:
    named = request(outputs=["y"])
    other = artifact(outputs=[TensorInfo(name="z", dtype="float32", shape=["batch", 10])])
    change = only(compared(row(request=named), row(request=named, **other)))
    assert (change.kind, change.severity) == ("outputs", "regression")


def test_a_few_bytes_more_are_not_worth_a_line() -> None:
    assert compared(row(), row(**artifact(size=1009))).verdict == "same"


def test_an_interface_that_the_configuration_changed_is_no_regression() -> None:
    tensors = [TensorInfo(name="z", dtype="float32", shape=[1])]
    after = row(**artifact(inputs=tensors), request=request(opset=18))
    change = only(compared(row(), after))
    assert change.severity == "note"
    assert change.detail == "the configuration of the model changed"
    assert change.explained_by == ["opset 17 → 18"]


def test_the_operators_are_told_by_their_difference() -> None:
    change = only(compared(row(), row(**artifact(ops={"Conv": 4, "Add": 1}))))
    assert change.detail == "+1 Add, +2 Conv, -1 Relu"


def test_an_error_that_uses_up_its_tolerance() -> None:
    near = row(verify=checked(3e-4))
    assert compared(row(verify=checked(1e-4)), near).verdict == "same"
    change = only(compared(row(verify=checked(1e-4)), row(verify=checked(9e-4))))
    assert (change.kind, change.severity) == ("error", "regression")
    assert change.detail == "the worst error uses 90% of its tolerance, 10% before"


def test_a_simplification_that_was_taken_back_says_why() -> None:
    before = row(**artifact(simplify=SimplifyRecord(applied=True)))
    taken = SimplifyRecord(applied=False, reverted_reason="onnxsim crashed")
    change = only(compared(before, row(**artifact(simplify=taken))))
    assert wording.line(change) == "m: simplify applied → reverted (onnxsim crashed)"


# Proof


def proved(*labels: str, axes: tuple[int, ...] = (0,), **changes: Any) -> ArtifactRow:
    """Proved on cases of these labels, and dynamic in axes of ``x`` of which two are declared."""
    cases = [CaseCheck(label=label, shapes={}, provider="CPU", outputs=[]) for label in labels]
    dynamic = [
        DynamicCheck(
            input="x", axis=axis, declared=f"n{axis}", symbolic=True, sizes_tested=[3], passed=True
        )
        for axis in axes
    ]
    record = VerifyRecord(status="passed", cases=cases, dynamic=dynamic)
    declared = request(dynamic_axes={"x": {0: "n0", 2: "n2"}})
    return row(**{"verify": record, "request": declared} | changes)


def test_a_file_that_is_no_longer_proved_is_worse() -> None:
    before = proved("traced", "second")
    change = only(compared(before, proved(verify=VerifyRecord())))
    assert (change.kind, change.severity) == ("verification", "regression")
    assert (change.before, change.after) == ("passed", "not_measured")


def test_fewer_cases_are_a_change_that_names_them() -> None:
    change = only(compared(proved("traced", "second", "n0=3"), proved("traced")))
    assert change.severity == "note"
    assert wording.line(change) == "m: cases 3 → 1 (on CPU; gone: second, n0=3)"
    assert only(compared(proved("traced"), proved())).kind == "cases"
    assert compared(proved("traced"), proved("traced", "second")).verdict == "same"


def test_a_declared_axis_that_is_no_longer_proved_is_worse() -> None:
    change = only(compared(proved(axes=(0, 2)), proved(axes=(0,))))
    assert change.severity == "regression"
    assert wording.line(change) == "m: dynamic 2 → 1 (not proved now: axis 2 of x (n2))"
    undeclared = proved(axes=(0,), request=request(dynamic_axes={"x": {0: "n0"}}))
    assert compared(proved(axes=(0, 2)), undeclared).verdict == "same"


def test_sizes_and_patterns_that_are_not_verified_now_are_a_note() -> None:
    before = with_domain(proved("traced"), verified_on())
    symbol = SymbolDomain(symbol="batch", traced=2, sizes=[1, 2, 9])
    values = InputDomain(name="image", dtype="float32", patterns=["normal", "grid"])
    after = with_domain(proved("traced"), verified_on(symbols=[symbol], inputs=[values]))
    change = only(compared(before, after))
    assert change.severity == "note"
    assert wording.line(change) == (
        "m: domain 8 → 5 (not verified now: batch = 3, 5, 7, 8; image: large)"
    )
    wider = verified_on(inputs=[values.model_copy(update={"patterns": ["large", "normal", "x"]})])
    assert compared(before, with_domain(proved("traced"), wider)).verdict == "same"
    assert compared(before, proved("traced")).verdict == "same"


def test_a_symbol_that_the_configuration_renamed_has_lost_nothing() -> None:
    before = with_domain(proved("traced"), verified_on())
    renamed = SymbolDomain(symbol="n", traced=2, sizes=[1, 2])
    after = with_domain(proved("traced"), verified_on(symbols=[renamed]))
    assert compared(before, after).verdict == "same"


@pytest.mark.parametrize(
    ("now", "lost"),
    [(12, False), (13, False), (11, True)],
)
def test_fewer_real_samples_are_told_and_more_are_not(now: int, lost: bool) -> None:
    def row(count: int) -> ArtifactRow:
        patterns = ["normal", f"data: {count} samples of val/"]
        values = InputDomain(name="image", dtype="float32", patterns=patterns)
        return with_domain(proved("traced"), verified_on(inputs=[values]))

    changes = compared(row(12), row(now)).changes
    details = [change.detail for change in changes]
    assert details == (["not verified now: image: data: 12 samples of val/"] if lost else [])


def test_what_a_failing_model_lost_is_told_once() -> None:
    wrong = proved(status="failed", **artifact(), verify=VerifyRecord(status="failed"))
    assert only(compared(proved("traced"), wrong)).kind == "newly_failing"


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


def test_a_tolerance_that_changed_explains_what_the_numbers_came_to() -> None:
    before, after = row(verify=checked(1e-4)), row(verify=checked(9e-6, atol=1e-5))
    assert only(compared(before, after)).explained_by == [
        "tolerance atol 0.001, rtol 0 → atol 1e-05, rtol 0"
    ]
    # An export knows nothing of it.
    assert only(compared(before, failing(verify=checked(9e-6, atol=1e-5)))).explained_by == []


def test_a_bound_that_was_loosened_explains_no_failure() -> None:
    def wrong(atol: float) -> ArtifactRow:
        error = {"stage": "verify", "code": Code.VERIFY_VALUE}
        return failing(verify=checked(1.0, atol=atol), error=error)

    usual = row(verify=checked(1e-4))
    assert only(compared(usual, wrong(1e-2))).explained_by == []
    tighter = ["tolerance atol 0.001, rtol 0 → atol 1e-05, rtol 0"]
    assert only(compared(usual, wrong(1e-5))).explained_by == tighter
    # And one that was tightened no success.
    looser = ["tolerance atol 1e-05, rtol 0 → atol 0.001, rtol 0"]
    assert only(compared(wrong(1e-5), usual)).explained_by == looser
    assert only(compared(wrong(1e-2), usual)).explained_by == []


def test_what_a_file_is_made_from_comes_first() -> None:
    """Keys know more than manifests do: code, weights and samples."""
    newer = environment(packages={"torch": "2.15.0", "onnx": "1.23.2", "onnxruntime": "1.31.1"})
    before, after = row(request=request(weights=weights(sha256="a" * 64))), failing()
    after = after.model_copy(update={"request": request(weights=weights(sha256="b" * 64))})
    old, new = manifest(before), manifest(after, day=2, env=newer)
    files = ["weights.checkpoint changed", "nets.py changed"]
    found = compare.compare(old, new, LIMITS, changed=lambda before, after: files)
    assert only(found).explained_by == [*files, "torch 2.14.0 → 2.15.0"]
    # The weights are named where nothing else is known of them.
    assert only(compare.compare(old, new, LIMITS)).explained_by[0] == "weights changed"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("nets.py changed; verify changed; torch 2.14.0 → 2.15.0", ["nets.py changed"]),
        ("code in mono/zoo changed; and 2 more", ["code in mono/zoo changed"]),
        ("weights.checkpoint is gone; my nets/a.py is new", None),
        ("the converter's own code changed; inputs changed", []),
        ("not in the store", []),
        (None, []),
    ],
)
def test_a_row_says_of_itself_which_files_changed(
    reason: str | None, expected: list[str] | None
) -> None:
    after = failing(job_key="2" * 64, cache_miss_reason=reason)
    found = only(compared(row(job_key="1" * 64), after)).explained_by
    assert found == (reason or "").split("; ") if expected is None else found == expected
    # Of the same key nothing has changed since the baseline.
    same = after.model_copy(update={"job_key": "1" * 64})
    assert only(compared(row(job_key="1" * 64), same)).explained_by == []


def test_values_are_for_people() -> None:
    assert wording.value(44_700_000, "size") == "44.7 MB"
    assert wording.value({"Conv": 3, "Relu": 1}, "ops") == "Conv 3, Relu 1"
    assert wording.value([7, 8], "cases") == "7, 8"
    assert wording.value(None, "error") == "–"
    assert wording.value(0.123456, "error") == "0.1235"
    assert wording.value(17, "opset") == "17"


def test_newly_failing_models_are_grouped_by_cause() -> None:
    other = failing("d", error={"fingerprint": "0" * 12, "message": "something else"})
    old = manifest(*(row(name) for name in "abcd"), failing("e"))
    new = manifest(failing("a"), row("b"), failing("c"), other, failing("e"), day=2)
    found = compare.compare(old, new, LIMITS)
    assert [(cause.fingerprint, cause.models) for cause in found.causes] == [
        ("f" * 12, ["a", "c"]),
        ("0" * 12, ["d"]),
    ]


# Latency


def slower(
    half: float = 0.01, stable: bool = True, **changes: Any
) -> tuple[ArtifactRow, ArtifactRow]:
    before = row(latency=[timed(10.0, half)])
    other = artifact(sha256="b" * 64)
    return before, row(**other, latency=[timed(15.0, half, stable, **changes)])


def judged(
    pair: tuple[ArtifactRow, ArtifactRow], remeasured: Remeasured | None = None, **changes: Any
) -> Change:
    old, new = manifest(pair[0]), manifest(pair[1], day=2, **changes)
    (suspect,) = latency.suspects(old, new, LIMITS)
    again = {suspect.key: remeasured} if remeasured else None
    return only(compare.compare(old, new, LIMITS, again))


def test_within_limit_or_noise_is_the_same() -> None:
    near = row(**artifact(sha256="b" * 64), latency=[timed(10.9)])
    assert compared(row(latency=[timed(10.0)]), near).verdict == "same"
    assert compared(*slower(half=0.3)).verdict == "same"


def test_a_suspect_that_is_slower_side_by_side_is_a_regression() -> None:
    change = judged(slower(), Remeasured(timed(12.0), timed(18.0)))
    assert (change.kind, change.severity) == ("latency", "regression")
    assert (change.before, change.after) == (10.0, 15.0)
    assert change.detail == "+50% on cpu; timed again side by side: 12 ms and 18 ms"


@pytest.mark.parametrize(
    "remeasured", [Remeasured(timed(15.0), timed(15.2)), Remeasured(timed(10, 0.5), timed(12, 0.5))]
)
def test_a_suspect_that_is_not_slower_side_by_side_is_acquitted(remeasured: Remeasured) -> None:
    change = judged(slower(), remeasured)
    assert change.severity == "note"
    assert change.detail.endswith("the file is not to blame")


@pytest.mark.parametrize(
    ("cpu", "cores", "severity"), [("EPYC", 8, "regression"), ("Xeon", 8, "note"), ("", 4, "note")]
)
def test_on_a_cluster_the_machine_of_a_latency_is_its_node(
    cpu: str, cores: int, severity: str
) -> None:
    def on(record: Latency, cpu: str, cores: int) -> Latency:
        node = NodeInfo(id="x", name="x", address="", cpu=cpu, cores=cores)
        return record.model_copy(update={"node": node})

    # The runs were started on one machine.
    before = row(latency=[on(timed(10.0), "EPYC", 8)])
    after = row(**artifact(sha256="b" * 64), latency=[on(timed(15.0), cpu, cores)])
    change = judged((before, after), Remeasured(reason="it is gone"))
    assert change.severity == severity


def test_what_cannot_be_timed_again_stands_where_both_nights_were_sound() -> None:
    change = judged(slower(), Remeasured(reason="it is gone"))
    assert change.severity == "regression"
    assert change.detail.endswith("not timed again: it is gone")
    assert judged(slower(stable=False)).severity == "note"
    busy = judged(slower(notes=["busy: 1.4 of 2 cores"]))
    assert (busy.severity, busy.detail.endswith("doubtful: busy: 1.4 of 2 cores")) == ("note", True)
    other = {"torch_notes": ["busy: 1.4 of 2 cores"], "remarks": ["shared: 2 of 9 nodes"]}
    assert judged(slower(**other)).severity == "regression"
    assert judged(slower(), env=environment(cpu="another")).severity == "note"


def test_the_same_file_cannot_have_become_slower() -> None:
    before, after = row(latency=[timed(10.0)]), row(latency=[timed(15.0)])
    assert latency.suspects(manifest(before), manifest(after), LIMITS) == []
    change = only(compared(before, after))
    assert change.severity == "note"
    assert "the file is the same" in change.detail


def test_other_shapes_and_threads_are_not_compared_and_said() -> None:
    change = only(compared(*slower(threads=1)))
    assert change.severity == "note"
    assert wording.line(change) == "m: latency 10 → 15 (cpu: not comparable, threads 2 → 1)"
    change = only(compared(*slower(shapes={"x": [8, 3]})))
    assert change.detail == "cpu: not comparable, shapes none → x=8x3"


def test_a_measurement_that_fails_now_is_worse() -> None:
    """What ended a measurement leaves a record without shapes."""
    before = row(latency=[timed(10.0, shapes={"x": [1, 3]}), timed(20.0, shapes={"x": [8, 3]})])
    crash = timed(0, status="failed", reason="SIGNAL: SIGSEGV", p50_ms=None)
    change = only(compared(before, row(latency=[crash])))
    assert change.severity == "regression"
    assert wording.line(change) == "m: latency measured → failed (cpu: failed: SIGNAL: SIGSEGV)"


def test_a_latency_that_went_is_a_change() -> None:
    before = row(latency=[timed(10.0), timed(10.0, provider="cuda")])
    on_cpu = row(latency=[timed(10.0)], stages={"benchmark": StageRecord(status="skipped")})
    assert only(compared(before, on_cpu)).detail == "cuda: not measured now"
    late = [change.detail for change in compared(before, row()).changes]
    assert late == [
        f"{name}: not measured now: the run ended before it" for name in ("cpu", "cuda")
    ]
    shapes = [timed(10.0, shapes={"x": [size, 3]}) for size in (1, 8)]
    change = only(compared(row(latency=shapes), row(latency=shapes[:1])))
    assert change.detail.startswith("cpu: not measured now at x=8x3")


def test_a_run_that_asked_for_no_latencies_says_so_once(tmp_path: Path) -> None:
    stages = {"benchmark": StageRecord(status="not_requested")}
    old = manifest(*(row(name, latency=[timed(10.0)]) for name in "ab"))
    new = manifest(*(row(name, stages=stages) for name in "ab"), day=2)
    found = compare.compare(old, new, LIMITS)
    assert found.verdict == "changed"
    words = (
        "latency measured → not requested (the run did not ask for latencies; 2 models had one "
        "before)"
    )
    assert wording.lines(found)[1:] == [f"changed: the run: {words}"]
    reported = new.model_copy(update={"comparison": found})
    told = words.removeprefix("latency ")
    assert f"- latency the run: `{told}`" in markdown.render(reported, tmp_path)
    assert '<th scope="row">the run</th><td>note</td>' in html.render(reported, tmp_path)


def test_a_faster_model_and_a_provider_that_went() -> None:
    assert compared(row(latency=[timed(10.0)]), row(latency=[timed(5.0)])).verdict == "better"
    gone = row(latency=[timed(10.0, status="unavailable", reason="no driver")])
    change = only(compared(row(latency=[timed(10.0)]), gone))
    assert (change.severity, change.detail) == ("note", "cpu: unavailable: no driver")


# Since when


def test_failing_since_is_carried_from_night_to_night() -> None:
    first = compare.since(manifest(failing("a"), row("b"), day=1), None)
    second = compare.since(manifest(failing("a"), failing("b"), day=2), first)
    third = compare.since(manifest(failing("a"), failing("b"), row("c"), day=3), second)
    assert [r.failing_since for r in third.models] == [
        "2026-11-01T02:00:00.000Z",
        "2026-11-02T02:00:00.000Z",
        None,
    ]
    mended = compare.since(manifest(row("a"), failing("b"), day=4), third)
    assert mended.models[0].failing_since is None
    change = compare.compare(third, mended, LIMITS).changes[0]
    assert (change.kind, change.detail) == (
        "fixed",
        "had been failing since 2026-11-01T02:00:00.000Z",
    )


def test_a_baseline_without_the_field_counts_from_its_own_start() -> None:
    old = manifest(failing("a"), day=1)
    assert compare.since(manifest(failing("a"), day=2), old).models[0].failing_since == (
        "2026-11-01T02:00:00.000Z"
    )


# In words


def test_a_first_night_says_so() -> None:
    assert wording.lines(compare.no_baseline()) == [
        "no baseline yet: this is the first complete run of all models (no_baseline)"
    ]


def test_the_worst_comes_first_with_its_reasons() -> None:
    old = manifest(row("a"), row("b"), row("c"))
    new = manifest(
        row("a", **artifact("a", nodes=4)), failing("b"), failing("c"), day=2,
        env=environment(packages={"torch": "2.15.0", "onnx": "1.23.2", "onnxruntime": "1.31.1"}),
    )  # fmt: skip
    told = wording.lines(compare.compare(old, new, LIMITS))
    assert told == [
        "compared with run-1 of 2026-11-01T02:00:00.000Z: regression",
        "worse: b, c (torch 2.14.0 → 2.15.0): newly failing ok → failed (EXPORT_UNSUPPORTED: b "
        "uses an operator without ONNX form)",
        "changed: a (torch 2.14.0 → 2.15.0): nodes 3 → 4",
    ]


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_a_failure_of_any_stage_has_its_suspects(stage: str) -> None:
    """A variant's too, which fails in a stage that no conversion has."""
    newer = environment(packages={**environment().packages, "torch": "2.15.0"})
    change = only(compared(row(), failing(error={"stage": stage}), env=newer))
    assert change.severity == "regression"


def test_an_error_where_none_is_allowed_is_no_worse_than_itself() -> None:
    """Of integers: both use an infinite share of their tolerance."""
    wrong = row(verify=checked(1.0, atol=0.0))
    assert compared(wrong, wrong).verdict == "same"
