"""Cases follow what the code of a model does: its limits, its conditions, its values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import ways

from converter.model.errors import Code
from converter.worker.inputs import patterns
from converter.worker.recording import coverage
from converter.worker.recording.coverage import Ways
from converter.worker.reference import harvest
from converter.worker.verify import domain

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
LENGTH = {"x": {1: "t"}, "y": {1: "t"}}


def source(name: str) -> dict[str, str]:
    return {"_target_": f"ways.{name}"}


@pytest.fixture
def made(convert: Convert) -> Convert:
    def run(name: str, *shape: int, **changes: Any) -> Any:
        options = {"inputs": {"x": {"shape": list(shape)}}, "outputs": ["y"], "trust": ["ways"]}
        return convert(source(name), **{**options, **changes})

    return run


def error(done: Any) -> Any:
    assert done.result.error is not None
    return done.result.error


@pytest.mark.parametrize(
    ("name", "shape", "axes", "limit"),
    [
        ("Attribute", (2, 10), LENGTH, "right up to t = 45: ways.py:"),
        ("Table", (2, 10, 4), LENGTH, "right up to t = 23: ways.py:"),
        ("BehindStride", (1, 3, 40), {"x": {2: "t"}}, "if h.shape[-1] > 29"),
        ("Rows", (2, 40), LENGTH, "except IndexError"),
    ],
)
def test_the_limit_and_the_line_are_named(
    made: Convert, name: str, shape: tuple[int, ...], axes: Any, limit: str
) -> None:
    done = made(name, *shape, dynamic_axes=axes)
    assert limit in error(done).message
    assert done.result.verify.domain.limits
    assert done.code in (Code.VERIFY_VALUE, Code.VERIFY_SHAPE, Code.DIM_SPECIALISED)


def test_a_limit_without_a_condition_is_tried_on_both_sides(made: Convert) -> None:
    axes = {"x": {1: "t"}, "y": {1: "u"}}
    done = made("Builtin", 2, 10, dynamic_axes=axes)
    (symbol,) = done.result.verify.domain.symbols
    assert {36, 37, 38} <= set(symbol.sizes)
    assert done.code is not None  # TorchScript turns min() of a size into a number


def test_a_limit_among_settings_is_found(made: Convert) -> None:
    done = made("Settings", 2, 24, 8, dynamic_axes={"x": {1: "t"}})
    assert "right up to t = 150: ways.py:" in error(done).message


def test_a_choice_that_went_one_way_only_is_named(made: Convert) -> None:
    """``max`` takes the same argument in all cases, and the trace has no other."""
    done = made("Peak", 4, 8, verify={"unreached": "fail"})
    assert error(done).code is Code.VERIFY_UNREACHED
    assert "max(float(x.abs().max()), self.peak[0])" in error(done).message


PIECES = {
    "seed": {"shape": [1, 2, 8], "low": 0.9, "high": 1},
    "mask": {"shape": [1, 2, 8], "low": 0, "high": 0.1},
}
IDS = {"ids": {"shape": [2, 3], "dtype": "int64", "low": 0, "high": 9000}}


@pytest.mark.parametrize(
    ("name", "inputs", "line"),
    [
        ("Vocabulary", {"x": {"shape": [4, 8]}}, "adaptive.py:"),
        ("Normalised", {"x": {"shape": [3, 6], "low": 0, "high": 1}}, "allclose"),
        ("Remeasured", PIECES, "if torch.equal(grown, y)` (false)"),
        ("Experts", {"x": {"shape": [6, 4]}}, "if rows.numel() == 0` (false at turn 3)"),
        ("Matched", IDS, "case 4242` (true)"),
        ("Negated", {"x": {"shape": [2, 4]}}, "if not x.sum() > x.numel() * 3e6` (false)"),
    ],
)
def test_what_a_trace_may_have_frozen_is_named(
    made: Convert, name: str, inputs: Any, line: str
) -> None:
    done = made(name, inputs=inputs, exporters=["torchscript"])
    assert done.code is None
    assert line in done.result.verify.reason
    done = made(name, inputs=inputs, exporters=["torchscript"], verify={"unreached": "fail"})
    assert error(done).code is Code.VERIFY_UNREACHED


def test_empty_tensors_that_onnx_runtime_gets_wrong(made: Convert) -> None:
    done = made("Averages", 2, 6, outputs=["a", "b"], dynamic_axes={"x": {0: "n"}, "a": {0: "n"}})
    assert done.code is None
    assert "empty tensors: case n=0 (x 0×6): a has shape [0, 6], PyTorch gives" in (
        done.result.verify.reason
    )
    assert 0 not in done.result.verify.domain.symbols[0].sizes


def test_missing_values_are_tried_where_code_asks_for_them(made: Convert) -> None:
    done = made("Missing", 6, 5)
    assert error(done).code is Code.VERIFY_VALUE
    assert "case some NaN" in error(done).message


def test_conditions_of_the_configuration_are_not_of_the_input(made: Convert) -> None:
    done = made("Configured", 2, 3, 4, dynamic_axes={"x": {0: "b"}})
    assert done.code is None
    assert done.result.verify.domain.unreached == []
    assert done.result.verify.domain.branches_seen > 4


@pytest.mark.parametrize(
    ("name", "inputs", "label"),
    [
        ("Outliers", {"x": {"shape": [4, 8]}}, "around 55"),
        (
            "Padding",
            {"x": {"shape": [3, 6, 4]}, "keep": {"shape": [3, 6], "dtype": "bool"}},
            "keep: all true",
        ),
    ],
)
def test_values_that_users_feed_are_tried(
    made: Convert, name: str, inputs: Any, label: str
) -> None:
    done = made(name, inputs=inputs)
    assert error(done).code is Code.VERIFY_VALUE
    assert f"case {label}" in error(done).message
    assert "ways.py:" in error(done).message


def test_the_same_by_tensors_is_right(made: Convert) -> None:
    inputs = {"x": {"shape": [3, 6, 4]}, "keep": {"shape": [3, 6], "dtype": "bool"}}
    done = made("PaddingTraced", inputs=inputs)
    assert done.code is None
    found = {item.name: item for item in done.result.verify.domain.inputs}
    assert {"left-aligned", "right-aligned", "all true", "all false"} <= {*found["keep"].patterns}
    assert (found["keep"].low, found["keep"].high) == (0, 1)


def test_declared_bounds_are_never_left(made: Convert) -> None:
    """So that the other side of the condition is no part of the domain."""
    inputs = {"x": {"shape": [4, 8], "low": -2.0, "high": 3.0}}
    done = made("Outliers", inputs=inputs)
    assert done.code is None
    (found,) = done.result.verify.domain.inputs
    assert found.low == -2.0
    assert found.high is not None
    assert 2.9 < found.high <= 3.0


@pytest.mark.parametrize("unreached", ["note", "fail"])
def test_a_way_that_no_case_took(made: Convert, unreached: str) -> None:
    """The trace turned the condition into a constant, and the bounds keep it so."""
    inputs = {"x": {"shape": [4, 8], "low": -2.0, "high": 3.0}}
    done = made("Outliers", inputs=inputs, verify={"unreached": unreached})
    words = "no case reached ways.py:"
    (branch,) = done.result.verify.domain.unreached
    assert (branch.text, branch.outcome) == ("if (x.abs() > 55).any()", "true")
    if unreached == "note":
        assert done.code is None
        assert words in done.result.verify.reason
    else:
        assert error(done).code is Code.VERIFY_UNREACHED
        assert words in error(done).message
        assert "torch.where" in error(done).hint


@pytest.mark.parametrize(("high", "code"), [(2, Code.VERIFY_UNREACHED), (5, Code.VERIFY_VALUE)])
def test_a_number_that_a_trace_has_frozen(made: Convert, high: int, code: Code) -> None:
    """Where the input is always 1, nothing shows that the file knows no other number."""
    shift = {"shape": [], "dtype": "int64", "low": 1, "high": high}
    inputs = {"x": {"shape": [2, 6]}, "shift": shift}
    done = made("Number", inputs=inputs, verify={"unreached": "fail"})
    assert error(done).code is code
    if code is Code.VERIFY_UNREACHED:
        assert "`return x.roll(int(shift), 1) + shift` (another value)" in error(done).message


@pytest.mark.parametrize(
    ("name", "shape", "axes", "lines"),
    [
        ("BothFlags", (3, 4), {}, ["first = x[0, 0].item() > 50", "last = x[-1, -1].item() < -50"]),
        (
            "BothSizes",
            (1, 10, 12),
            {"x": {1: "h", 2: "w"}},
            ["height, width = int(x.shape[1]), int(x.shape[2])"],
        ),
        ("FixedWidth", (2, 4, 5), {"x": {0: "b"}}, []),
        ("OwnSymbolic", (2, 4), {"x": {0: "b"}}, []),
    ],
)
def test_a_frozen_number_whose_other_values_change_nothing(
    made: Convert, name: str, shape: tuple[int, ...], axes: Any, lines: list[str]
) -> None:
    """It may matter where no case looked: the row says so, but of numbers that never move."""
    done = made(name, *shape, dynamic_axes=axes)
    assert done.code is None, done.result.error
    found = done.result.verify.domain.unreached
    assert [(one.text, one.outcome) for one in found] == [
        (line, "an effect of its number") for line in lines
    ]
    assert all(line in (done.result.verify.reason or "") for line in lines)


def test_whole_numbers_leave_their_range_where_there_are_many(made: Convert) -> None:
    x = {"shape": [2, 9], "dtype": "int32", "low": -5, "high": 5}
    done = made("Product", inputs={"x": x}, dynamic_axes={"x": {1: "t"}})
    assert error(done).code is Code.VERIFY_VALUE
    assert "t=36, x: all greatest" in error(done).message


def test_what_a_longer_call_leaves_shows(made: Convert) -> None:
    done = made("Cache", 2, 4, 4, dynamic_axes={"x": {1: "t"}})
    assert error(done).code is Code.STATE_MUTATED


@pytest.mark.parametrize("axes", [{}, {"x": {1: "t"}}], ids=["static", "dynamic"])
def test_what_another_call_of_the_same_size_leaves_shows(made: Convert, axes: Any) -> None:
    done = made("Mixed", 2, 4, 4, dynamic_axes=axes)
    assert error(done).code is Code.STATE_MUTATED


def test_equal_elements_have_no_order(made: Convert) -> None:
    done = made("Order", 4, 20, outputs=["y", "places"])
    assert done.code is None
    dropped = done.result.verify.domain.dropped
    assert "grid: equal elements have no order of their own" in dropped
    assert "grid" not in [case.label for case in done.result.verify.cases]
    words = json.loads({p.key: p.value for p in done.model.metadata_props}[domain.KEY])
    assert "grid" not in words["values"]["x"]["patterns"]


def test_scores_that_are_equal_only_where_they_saturate(made: Convert) -> None:
    """They are equal in no input, but in what is ranked."""
    done = made("Saturating", 12, 6)
    assert done.code is None, done.result.error
    dropped = " ".join(done.result.verify.domain.dropped)
    assert "huge: equal elements have no order of their own" in dropped


def test_scores_that_stand_close_together(made: Convert) -> None:
    axes = {"x": {0: "b"}}
    done = made("Centers", 2, 3, 16, 16, outputs=["y", "rows"], dynamic_axes=axes)
    assert done.code is None, done.result.error


def test_where_pytorch_itself_rounds_nothing_is_held_against_the_file(made: Convert) -> None:
    assert made("Spread", 4, 20, dynamic_axes={"x": {0: "b"}}).code is None


def test_the_file_says_on_what_it_was_verified(made: Convert) -> None:
    done = made("PaddingTraced", inputs={
        "x": {"shape": [3, 6, 4]}, "keep": {"shape": [3, 6], "dtype": "bool"},
    }, dynamic_axes={"x": {0: "b"}, "keep": {0: "b"}})  # fmt: skip
    assert done.code is None
    words = json.loads({p.key: p.value for p in onnx.load(done.path).metadata_props}[domain.KEY])
    (symbol,) = done.result.verify.domain.symbols
    assert words["sizes"] == {"b": symbol.sizes}
    assert (words["values"]["keep"]["low"], words["values"]["keep"]["high"]) == (0, 1)


def test_the_budget_names_what_it_leaves_out(made: Convert) -> None:
    few = made("Configured", 2, 3, 4, verify={"budget": 2})
    many = made("Configured", 2, 3, 4)
    assert few.result.verify.domain.left_out[:1] == ["grid"]
    assert len(many.result.verify.cases) > len(few.result.verify.cases) == 4


def test_constant_outputs_are_accepted_by_name(made: Convert) -> None:
    names = {"outputs": ["y", "numbers", "none"], "dynamic_axes": {"x": {0: "b"}}}
    assert "outputs: {numbers: {constant: true}}" in error(made("Anchors", 3, 4, **names)).hint
    done = made("Anchors", 3, 4, **names, constant_outputs=["numbers", "none"])
    assert done.code is None, done.result.error
    assert len({str(case.outputs[1].shape) for case in done.result.verify.cases}) > 2


def test_numbers_are_read_from_code_attributes_and_tables() -> None:
    seen = Ways()
    with coverage.watching(seen):
        ways.Attribute()(ways.torch.ones(2, 3))
        ways.Builtin()(ways.torch.ones(2, 3))
    assert 45 in harvest.sizes(ways.Attribute(), seen.codes)
    assert 23 in harvest.sizes(ways.Table(), [])
    assert 37.0 in seen.constants


def test_patterns_stay_what_they_say(tiny_job: Callable[..., Any]) -> None:
    job = tiny_job("Net", inputs={
        "x": {"shape": [5, 8, 2]},
        "mask": {"shape": [5, 8], "dtype": "int64", "low": 0, "high": 2},
        "n": {"shape": [5], "dtype": "int64", "low": 1, "high": 9},
        "ids": {"shape": [4], "dtype": "int64", "low": -3, "high": 7},
        "p": {"shape": [3, 3], "value": 2.0},
    })  # fmt: skip
    found = {group.kind: group.members for group in patterns.groups(job, [])}
    assert {kind: list(members) for kind, members in found.items()} == {
        "numbers": ["x"], "mask": ["mask"], "lengths": ["n"], "whole numbers": ["ids"],
    }  # fmt: skip

    def drawn(kind: str, name: str, pattern: str) -> Any:
        chosen = next(p for p in found[kind][name] if p.name == pattern)
        return chosen.draw(name, job.inputs[name], seed=0, sample=7)

    left, right = drawn("mask", "mask", "left-aligned"), drawn("mask", "mask", "right-aligned")
    assert (np.diff(left, axis=1) <= 0).all()
    assert (np.diff(right, axis=1) >= 0).all()
    assert len({*left.sum(1).tolist()}) > 2
    assert drawn("lengths", "n", "all full").tolist() == [8] * 5
    assert drawn("lengths", "n", "all one").tolist() == [1] * 5
    mixed = drawn("lengths", "n", "mixed")
    assert (mixed[0], mixed[-1]) == (8, 1)
    assert {*drawn("whole numbers", "ids", "both ends").tolist()} <= {-3, 6}
    assert (drawn("whole numbers", "ids", "negative") < 0).all()
    grid = drawn("numbers", "x", "grid")
    assert len({*grid.ravel().tolist()}) < grid.size
    assert np.abs(drawn("numbers", "x", "small")).max() < 0.1


@pytest.mark.parametrize(
    ("name", "shape", "axes", "case"),
    [
        ("Keyed", (2, 10, 4), LENGTH, "t=24"),
        ("Named", (2, 10, 4), LENGTH, "t=48"),
        ("Resolutions", (1, 3, 8, 8), {"x": {0: "b", 2: "h", 3: "w"}}, "h=20 w=30"),
        ("Closure", (2, 10, 4), LENGTH, "t=66"),
    ],
)
def test_limits_stand_in_keys_names_and_closures(
    made: Convert, name: str, shape: tuple[int, ...], axes: Any, case: str
) -> None:
    assert f"case {case} " in error(made(name, *shape, dynamic_axes=axes)).message


@pytest.mark.parametrize(("split", "case"), [(True, "t=134"), (False, "t=193")])
def test_a_computed_limit_shows_in_what_runs(convert: Convert, split: bool, case: str) -> None:
    done = convert(
        source("Computed"),
        kwargs={"split": split},
        inputs={"x": {"shape": [2, 10, 4]}},
        outputs=["y"],
        trust=["ways"],
        dynamic_axes={"x": {1: "t"}},
        exporters=["dynamo" if split else "torchscript"],  # which splits by 133 whatever the size
        opset=18,
    )
    assert f"case {case} " in error(done).message


def test_a_declared_range_has_small_values_too(made: Convert) -> None:
    inputs = {"x": {"shape": [2, 16], "low": -1, "high": 1}}
    done = made("Quiet", inputs=inputs)
    assert error(done).code is Code.VERIFY_VALUE
    assert "case small " in error(done).message


def test_what_only_zeros_reach_is_not_reached(made: Convert) -> None:
    inputs = {"x": {"shape": [2, 16], "low": -1, "high": 1}}
    done = made("Silent", inputs=inputs)
    assert done.code is None
    assert "no case reached ways.py:" in done.result.verify.reason
    (branch,) = done.result.verify.domain.unreached
    assert "x.abs().max() < 1e-9" in branch.text
    words = json.loads({p.key: p.value for p in done.model.metadata_props}[domain.KEY])
    assert len(words["unreached"]) == 1


def test_a_size_is_not_refused_for_the_lengths_that_were_drawn(made: Convert) -> None:
    inputs = {
        "x": {"shape": [2, 5, 3]},
        "lens": {"shape": [2], "dtype": "int64", "low": 1, "high": 6},
    }
    done = made("Trimmed", inputs=inputs, dynamic_axes={"x": {1: "t"}})
    assert "case t=2, lens: all one " in error(done).message
    assert "int(lens.max())" in error(done).message


def test_a_size_that_ends_the_process_costs_that_size_only(made: Convert) -> None:
    inputs = {"x": {"shape": [1, 2, 12, 14]}, "boxes": {"shape": [3, 4], "low": 1, "high": 9}}
    done = made("Pooled", inputs=inputs, dynamic_axes={"x": {2: "h", 3: "w"}})
    assert done.code is None, done.result.error
    symbols = {item.symbol: item for item in done.result.verify.domain.symbols}
    assert 0 in symbols["h"].refused
    assert 0 not in symbols["h"].sizes


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_coordinates_of_an_interpolation_round_too(made: Convert, exporter: str) -> None:
    axes = {"x": {2: "h", 3: "w"}}
    opset = 18 if exporter == "dynamo" else 17
    done = made("Mean", 1, 3, 14, 14, dynamic_axes=axes, exporters=[exporter], opset=opset)
    assert done.code is None, done.result.error


def test_what_a_condition_asks_of_a_name() -> None:
    """A name may begin as ``elif`` does; sizes outweigh the rank, and the value outweighs both."""
    jumps = coverage._jumps(ways.Elements.forward.__code__).values()
    assert [jump.uses for jump in jumps] == [(("elements", "value"),), (("x", "sizes"),)]
