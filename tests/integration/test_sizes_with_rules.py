"""Sizes have rules: stated, found by trying PyTorch, and never in the way of the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import onnx
import onnxruntime
import pytest

from converter.model.errors import Code
from converter.model.verified import KEY, read

pytestmark = pytest.mark.integration
EXPORTERS = pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    numbers = iter(range(9))

    def make(
        name: str, inputs: dict[str, Any], axes: dict[str, Any], exporter: str, **changes: Any
    ) -> Any:
        job = jobs.make(
            tmp_path / str(next(numbers)),
            {"_target_": f"ruled.{name}"},
            inputs=inputs,
            dynamic_axes=axes,
            opset=18,
            trust=["ruled"],
            **{"exporters": [exporter], "outputs": ["y"], **changes},
        )
        return jobs.convert(job)

    return make


def rules_of(done: Any) -> dict[str, tuple[str | None, bool]]:
    symbols = done.result.verify.domain.symbols
    return {item.symbol: (item.rule, item.assumed) for item in symbols if item.rule}


def said(done: Any) -> dict[str, str]:
    """What the file itself says of its sizes."""
    (entry,) = [item for item in done.model.metadata_props if item.key == KEY]
    assert "dims" in json.loads(entry.value)
    return dict(read(entry.value).dims)  # type: ignore[union-attr]


def feed(done: Any, **shapes: list[int]) -> Any:
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    feeds = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    return session.run(None, feeds)[0].shape


STEPS = {"x": {1: "t"}}


# Found


@EXPORTERS
def test_a_unet_takes_multiples_of_8(run: Run, exporter: str) -> None:
    done = run("UNet", {"x": {"shape": [1, 3, 32, 48]}}, {"x": {2: "h", 3: "w"}}, exporter)
    assert done.code is None, done.result.error
    expected = ("multiples of 8", True)
    assert rules_of(done) == {"h": expected, "w": expected}
    assert "assumed: h: multiples of 8 (PyTorch refuses 1: " in done.result.verify.reason
    assert said(done) == {"h": "multiples of 8", "w": "multiples of 8"}
    assert feed(done, x=[1, 3, 40, 72]) == (1, 7, 40, 72)
    assert done.onnx.inputs[0].shape == [1, 3, "h", "w"]
    assert done.onnx.outputs[0].shape == [1, 7, "h", "w"]


@EXPORTERS
@pytest.mark.parametrize(
    ("size", "rest", "length", "rule"),
    [
        (2, 0, 16, "multiples of 2"),
        (32, 0, 64, "multiples of 32"),
        (4, 1, 17, "= 4 * k + 1"),
        (7, 0, 21, "multiples of 7"),
    ],
)
def test_blocks(run: Run, exporter: str, size: int, rest: int, length: int, rule: str) -> None:
    changes = {"kwargs": {"size": size, "rest": rest}}
    done = run("Blocks", {"x": {"shape": [1, length, 6]}}, STEPS, exporter, **changes)
    assert done.code is None, done.result.error
    found, assumed = rules_of(done)["t"]
    assert assumed
    assert found is not None
    assert found.startswith(rule)
    sizes = done.result.verify.domain.symbols[0].sizes
    assert all(item % size == rest for item in sizes)
    assert len(sizes) > 3


@EXPORTERS
def test_a_minimum(run: Run, exporter: str) -> None:
    done = run("Kernel", {"x": {"shape": [1, 3, 16]}}, {"x": {2: "t"}}, exporter)
    assert done.code is None, done.result.error
    assert rules_of(done) == {"t": ("at least 7", True)}
    assert 7 in done.result.verify.domain.symbols[0].sizes


@EXPORTERS
def test_a_table_has_an_end(run: Run, exporter: str) -> None:
    done = run("Table", {"x": {"shape": [1, 16, 6]}}, STEPS, exporter)
    assert done.code is None, done.result.error
    assert rules_of(done) == {"t": ("at most 48", True)}
    assert {47, 48} & {*done.result.verify.domain.symbols[0].sizes} == {47, 48}


@EXPORTERS
def test_two_axes_are_equal(run: Run, exporter: str) -> None:
    done = run("Square", {"x": {"shape": [1, 6, 6]}}, {"x": {1: "h", 2: "w"}}, exporter)
    assert done.code is None, done.result.error
    assert rules_of(done)["w"] == ("= h", True)


DECODER = {
    "ids": {"shape": [2, 3], "dtype": "int64", "low": 0, "high": 50},
    "mask": {"shape": [2, 8], "dtype": "int64", "low": 0, "high": 2},
    "past": {"shape": [2, 5, 8]},
}


@EXPORTERS
def test_a_decoder_with_a_cache(run: Run, exporter: str) -> None:
    axes = {"mask": {1: "total"}, "past": {1: "past"}, "k": {1: "total"}}
    done = run("Past", DECODER, axes, exporter, outputs=["y", "k"])
    assert done.code is None, done.result.error
    assert rules_of(done) == {"total": ("= past + 3", True)}
    assert done.onnx.outputs[1].shape == [2, "total", 8]
    reason = done.result.verify.reason
    assert "assumed: total = past + 3 (alone neither moves; PyTorch refuses" in reason


@EXPORTERS
def test_a_sum_of_two_symbols(run: Run, exporter: str) -> None:
    axes = {"ids": {1: "length"}, "mask": {1: "total"}, "past": {1: "past"}}
    done = run("Past", DECODER, axes, exporter, outputs=["y", "k"])
    assert done.code is None, done.result.error
    assert rules_of(done) == {"total": ("= length + past", True)}


@EXPORTERS
def test_a_factor(run: Run, exporter: str) -> None:
    inputs = {"x": {"shape": [3, 4]}, "y": {"shape": [6, 4]}}
    axes = {"x": {0: "a"}, "y": {0: "b"}}
    done = run("Twice", inputs, axes, exporter, outputs=["z"])
    assert done.code is None, done.result.error
    assert rules_of(done) == {"b": ("= 2 * a", True)}


def test_a_file_that_is_wrong_within_a_rule_that_was_found_stays_wrong(run: Run) -> None:
    done = run("Branching", {"x": {"shape": [1, 16, 6]}}, STEPS, "torchscript")
    assert done.code is Code.VERIFY_VALUE
    assert "right up to t = 40" in done.result.error.message


# Stated


@EXPORTERS
@pytest.mark.parametrize("rule", [{"multiple_of": 8}, {"multiple_of": 16, "min": 16, "max": 96}])
def test_multiples_that_are_stated(run: Run, exporter: str, rule: dict[str, int]) -> None:
    dims = {"h": rule, "w": {"equals": "h"}}
    axes = {"x": {2: "h", 3: "w"}}
    done = run("UNet", {"x": {"shape": [1, 3, 32, 32]}}, axes, exporter, dims=dims)
    assert done.code is None, done.result.error
    assert rules_of(done)["w"] == ("= h", False)
    h, w = done.result.verify.domain.symbols
    assert h.refused == []
    assert h.sizes == w.sizes
    assert all(size % rule["multiple_of"] == 0 for size in h.sizes)
    if "max" in rule:
        assert (min(h.sizes), max(h.sizes)) == (16, 96)


IMAGE = {"x": {"shape": [1, 3, 16, 24]}}, {"x": {2: "h", 3: "w"}, "y": {2: "h", 3: "w"}}


def test_a_file_that_refuses_odd_sizes_gives_nobody_a_wrong_number(run: Run) -> None:
    done = run("UpDown", *IMAGE, "torchscript")
    assert done.code is None, done.result.error
    assert rules_of(done) == {"h": ("multiples of 2", True), "w": ("multiples of 2", True)}
    assert said(done) == {"h": "multiples of 2", "w": "multiples of 2"}
    reason = done.result.verify.reason
    assert reason.startswith("assumed: h is a multiple of 2, w is a multiple of 2: PyTorch takes")
    assert "ruled.py:128" in reason
    # Another exporter whose file takes all sizes comes first.
    every = run("UpDown", *IMAGE, "auto", exporters=["torchscript", "dynamo"])
    attempts = [(attempt.exporter, attempt.status) for attempt in every.result.attempts_by_exporter]
    if ("dynamo", "ok") in attempts:
        assert rules_of(every) == {}


def test_what_is_wrong_at_odd_sizes_is_refused(run: Run) -> None:
    inputs, axes = IMAGE
    wrong = run("Scaled", inputs, axes, "torchscript")
    assert wrong.code is Code.VERIFY_VALUE
    assert (
        "state dims: {h: {multiple_of: 2}, w: {multiple_of: 2}}: the file is right at every such "
        "size that was tried"
    ) in wrong.result.error.hint
    dims = {"h": {"multiple_of": 2}, "w": {"multiple_of": 2}}
    done = run("Scaled", inputs, axes, "torchscript", dims=dims)
    assert done.code is None, done.result.error
    assert rules_of(done) == {"h": ("multiples of 2", False), "w": ("multiples of 2", False)}
    half = run("Scaled", inputs, axes, "torchscript", dims={"h": {"multiple_of": 2}})
    assert half.code is Code.VERIFY_VALUE
    odd = run("UpDown", inputs, axes, "torchscript", dims={"h": {"max": 64}, "w": {"max": 64}})
    assert odd.code is Code.DIM_SPECIALISED


@pytest.mark.parametrize(
    ("steps", "said"), [(None, "{total: past + 1}"), ("steps", "{total: past + steps}")]
)
def test_what_is_right_where_one_size_follows_others(
    run: Run, steps: str | None, said: str
) -> None:
    length = 2 if steps else 1
    inputs = {
        "x": {"shape": [1, length, 4]},
        "past": {"shape": [1, 5, 4]},
        "mask": {"shape": [1, 5 + length]},
    }
    axes = {"past": {1: "past"}, "mask": {1: "total"}, **({"x": {1: steps}} if steps else {})}
    wrong = run("PaddedMask", inputs, axes, "torchscript")
    assert wrong.code is Code.DIM_SPECIALISED
    assert f"state dims: {said}: every size at which the file is wrong" in wrong.result.error.hint
    target, follows = said.strip("{}").split(": ")
    done = run("PaddedMask", inputs, axes, "torchscript", dims={target: {"equals": follows}})
    assert done.code is None, done.result.error


@pytest.mark.parametrize(
    ("name", "rule", "size"),
    [
        ("Ninety", {"min": 4, "max": 400, "multiple_of": 4}, 388),
        ("Squared", {"min": 1, "max": 1000}, 200),
    ],
)
def test_sizes_that_a_rule_hides_are_tried(
    run: Run, name: str, rule: dict[str, int], size: int
) -> None:
    inputs = {"x": {"shape": [1, 8, 3]}}
    wrong = run(name, inputs, STEPS, "torchscript", dims={"t": rule})
    assert wrong.code is Code.VERIFY_VALUE
    assert f"t={size}" in wrong.result.error.message


def test_an_end_that_is_too_large_is_told(run: Run) -> None:
    inputs = {"x": {"shape": [1, 8, 3]}}
    plain = run("Identity", inputs, STEPS, "torchscript", dims={"t": {"max": 50_000_000}})
    assert plain.code is None, plain.result.error
    assert "t=50000000: the end of a range in dims is too large" in plain.result.verify.reason
    assert "t=50000000" in plain.result.verify.domain.left_out


@pytest.mark.parametrize(("end", "right"), [(40, True), (44, False)])
def test_a_file_must_be_right_up_to_the_end_that_is_stated(run: Run, end: int, right: bool) -> None:
    dims = {"t": {"multiple_of": 4, "max": end}}
    done = run("Branching", {"x": {"shape": [1, 16, 6]}}, STEPS, "torchscript", dims=dims)
    assert (done.code is None) is right
    if right:
        assert max(done.result.verify.domain.symbols[0].sizes) == 40
    else:
        assert "t=44" in done.result.error.message


@EXPORTERS
@pytest.mark.parametrize(("rule", "size"), [({"min": 2}, 2), ({"min": 6, "max": 64}, 6)])
def test_a_range_that_pytorch_does_not_take(
    run: Run, exporter: str, rule: dict[str, int], size: int
) -> None:
    axes = {"x": {2: "t"}}
    done = run("Kernel", {"x": {"shape": [1, 3, 16]}}, axes, exporter, dims={"t": rule})
    assert done.code is Code.DIM_SPECIALISED
    message = done.result.error.message
    assert f"allows {size}, which PyTorch does not take (at t={size}: " in message
    right = run("Kernel", {"x": {"shape": [1, 3, 16]}}, axes, exporter, dims={"t": {"min": 7}})
    assert right.code is None, right.result.error


@EXPORTERS
@pytest.mark.parametrize(("claim", "right"), [("h * 4", True), ("h * 2", False)])
def test_a_claim_about_an_output(run: Run, exporter: str, claim: str, right: bool) -> None:
    axes = {"x": {2: "h"}, "y": {2: "oh"}}
    dims = {"oh": {"equals": claim}}
    done = run("Four", {"x": {"shape": [1, 3, 8, 8]}}, axes, exporter, dims=dims)
    if right:
        assert done.code is None, done.result.error
        assert said(done) == {"oh": "= h * 4"}
        assert done.onnx.outputs[0].shape[2] == "oh"
    else:
        assert done.code is Code.DIM_SPECIALISED
        assert done.result.error.message == (
            "dims.oh: h * 2 is 16 at h = 8; PyTorch's output y has 32 on axis 2"
        )


def test_a_stated_rule_is_completed_by_what_pytorch_refuses(run: Run) -> None:
    dims = {"t": {"multiple_of": 4}}
    done = run("Table", {"x": {"shape": [1, 16, 6]}}, STEPS, "torchscript", dims=dims)
    assert done.code is None, done.result.error
    assert rules_of(done) == {"t": ("at most 48, multiples of 4", True)}


def test_an_end_that_is_too_large_is_left_out_and_told(run: Run) -> None:
    dims = {"t": {"min": 1, "max": 1 << 22}}
    inputs, axes = {"x": {"shape": [4, 3, 16]}}, {"x": {2: "t"}}
    done = run("Kernel", inputs, axes, "torchscript", dims={"t": {**dims["t"], "min": 7}})
    assert done.code is None, done.result.error
    assert "t=4194304" in done.result.verify.domain.left_out
    assert "t=4194304: the end of a range in dims is too large" in done.result.verify.reason


# All axes


@EXPORTERS
def test_all_axes_that_can_be_dynamic(run: Run, exporter: str) -> None:
    axes = {name: {axis: f"{name}_dim_{axis}" for axis in range(3)} for name in ("x", "y")}
    inputs = {"x": {"shape": [2, 5, 4]}, "y": {"shape": [2, 5, 2]}}
    done = run("Pair", inputs, axes, exporter, every_axis=True, outputs=["z"])
    assert done.code is None, done.result.error
    assert rules_of(done) == {"y_dim_0": ("= x_dim_0", True), "y_dim_1": ("= x_dim_1", True)}
    assert "fixed, since PyTorch takes no other size: x axis 2 (4), y axis 2 (2)" in (
        done.result.verify.reason
    )
    assert done.onnx.inputs[0].shape == ["x_dim_0", "x_dim_1", 4]
    assert feed(done, x=[3, 7, 4], y=[3, 7, 2]) == (3, 7, 5)


# Frozen


def test_what_is_fixed_on_purpose_is_told(run: Run) -> None:
    axes = {"x": {0: "batch"}}
    done = run("Four", {"x": {"shape": [1, 3, 8, 8]}}, axes, "torchscript", frozen={"h": 8})
    assert done.code is None, done.result.error
    assert "h is fixed at 8 on purpose" in done.result.verify.reason
    assert said(done) == {"h": "fixed at 8"}


# Of a file that is ONNX already


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({"m": {"multiple_of": 2}}, "dims.m: 'm' is on no axis of dynamic_axes"),
        (
            {"n": {"multiple_of": 3}},
            "dims.n: the traced example has n = 2; allowed: mult",
        ),
        ({"n": {"equals": "2 **"}}, "dims.n: '2 **' is no expression"),
        ({"n": {"multiple_of": 2}}, None),
    ],
)
def test_rules_of_a_file(tmp_path: Path, dims: dict[str, Any], message: str | None) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 3] x) => (float[n, 3] y) {y = Sin(x)}"""
    onnx.save_model(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    source = {"onnx": str(tmp_path / "net.onnx")}
    done = jobs.convert(jobs.make(tmp_path / "run", source, inputs={}, opset=None, dims=dims))
    if message is None:
        assert done.code is None, done.result.error
        assert rules_of(done) == {"n": ("multiples of 2", False)}
    else:
        assert done.code is Code.LOAD
        assert message in done.result.error.message


# What torch says


def test_what_torch_suggests_is_told_as_a_rule() -> None:
    from converter.plugins.exporters import _shapes

    report = """Constraints violated (t, u, v)!
Suggested fixes:
  _t = Dim('_t', min=1, max=oo)
  t = 4*_t
  u = Dim('u', max=64)
  v = t + 1

The error above"""
    assert _shapes.suggested(report) == "t: {multiple_of: 4}, u: {max: 64}, v: t + 1"
    assert _shapes.suggested("something else") == ""


@pytest.mark.parametrize(("end", "right"), [(32, True), (400, False)])
def test_a_range_that_the_graph_does_not_have(run: Run, end: int, right: bool) -> None:
    """torch.export refuses to hold beyond 40; without names it holds less, which cases show."""
    dims = {"t": {"multiple_of": 4, "max": end}}
    done = run("Branching", {"x": {"shape": [1, 16, 6]}}, STEPS, "dynamo", dims=dims)
    assert (done.code is None) is right, done.result.error
