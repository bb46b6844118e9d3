"""Rules of sizes: what they mean, what is wrong with them, and what a configuration is told."""

from __future__ import annotations

from typing import Any

import pytest

from converter.config.validation import parse
from converter.model.dims import Dims, Expression, sentence, words
from converter.model.errors import ConfigError
from converter.model.spec import DimSpec
from converter.plan import jobs


def dims(specs: dict[str, Any], **traced: int) -> Dims:
    rules = {
        symbol: DimSpec(equals=rule) if isinstance(rule, str) else DimSpec(**rule)
        for symbol, rule in specs.items()
    }
    return Dims(rules, traced)


# Expressions


@pytest.mark.parametrize(
    ("text", "value"),
    [("past + 1", 6), ("4 * past - 3", 17), ("past // 2", 2), ("(past + 1) * 2", 12), ("7", 7)],
)
def test_an_expression_is_a_size_of_others(text: str, value: int) -> None:
    assert Expression(text)({"past": 5}) == value


@pytest.mark.parametrize(
    "text",
    ["past +", "past / 2", "f(past)", "past.x", "past[0]", "-past", "1.5", "True", "past ** 2", ""],
)
def test_other_syntax_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names of symbols, whole numbers"):
        Expression(text)


def test_a_size_below_zero_or_without_a_name_is_none() -> None:
    assert Expression("past - 9")({"past": 5}) is None
    assert Expression("past // 0")({"past": 5}) is None
    assert Expression("past + 1")({}) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("past + 1", (1, "past", 1)),
        ("2 * (h - 3)", (2, "h", -6)),
        ("h // 2", None),
        ("a + b", None),
        ("h * h", None),
        ("8", None),
    ],
)
def test_what_torch_can_be_told(text: str, line: tuple[int, str, int] | None) -> None:
    assert Expression(text).line() == line


# Sizes


def test_without_a_rule_any_size_goes() -> None:
    rules = dims({}, h=16, w=24)
    assert rules.near("h", 17) == [{"h": 17}]
    assert rules.moved({"h": 17, "w": 1}) == [{"h": 17, "w": 1}]


def test_a_size_that_is_not_allowed_becomes_those_beside_it() -> None:
    rules = dims({"h": {"min": 64, "max": 256, "multiple_of": 32}}, h=96)
    assert rules.near("h", 100) == [{"h": 128}]  # 96 is the example itself
    assert rules.near("h", 200) == [{"h": 192}, {"h": 224}]
    assert rules.near("h", 64) == [{"h": 64}]
    assert rules.near("h", 1) == [{"h": 64}]
    assert rules.near("h", 5000) == [{"h": 256}]
    assert rules.ends("h") == ({"h": 64}, {"h": 256})


def test_an_end_between_two_multiples_is_the_nearest_one_inside() -> None:
    rules = dims({"h": {"min": 50, "max": 250, "multiple_of": 32}}, h=96)
    assert rules.ends("h") == ({"h": 64}, {"h": 224})


def test_what_is_derived_follows() -> None:
    rules = dims({"total": {"equals": "past + 1", "max": 12}}, total=6, past=5)
    assert rules.movers() == ["past"]
    assert rules.near("past", 7) == [{"total": 8, "past": 7}]
    assert rules.near("total", 9) == [{"total": 9, "past": 8}]
    assert rules.near("past", 40) == [{"total": 12, "past": 11}]
    assert rules.ends("past") == (None, {"total": 12, "past": 11})


def test_a_free_variable_is_solved_from_the_example() -> None:
    rules = dims({"t": "4 * k + 1"}, t=17)
    assert rules.example["k"] == 4
    assert rules.movers() == ["t"]
    assert rules.near("t", 20) == [{"t": 21}]
    assert rules.near("t", 18) == [{"t": 21}]
    assert rules.near("t", 12) == [{"t": 9}, {"t": 13}]
    assert rules.broken({"t": 21}) is None
    assert rules.broken({"t": 22}) == "t is 22, and 4 * k + 1 gives no such size"


def test_a_sum_moves_by_one_of_its_parts() -> None:
    rules = dims({"total": "past + length"}, total=8, past=5, length=3)
    assert rules.movers() == ["past", "length"]
    assert rules.moved({"past": 7, "length": 4}) == [{"total": 11, "past": 7, "length": 4}]


def test_the_size_of_an_output_bounds_that_of_an_input() -> None:
    rules = dims({"oh": {"equals": "h * 4", "max": 128}}, h=8)
    assert rules.near("h", 100) == [{"h": 32}]
    assert rules.assigned({"h": 10})["oh"] == 40


def test_rules_are_told_in_words() -> None:
    rule = DimSpec(min=64, max=2048, multiple_of=32)
    assert sentence("h", words(rule)) == "h: 64 to 2048, multiples of 32"
    assert sentence("total", words(DimSpec(equals="past + 1"))) == "total = past + 1"
    assert words(DimSpec(equals="past + 1", max=512)) == "= past + 1, at most 512"
    assert words(DimSpec(min=2)) == "at least 2"


# Configurations

AXES = {"input": {0: "batch", 2: "height", 3: "width"}, "output": {2: "oh"}}
MODEL: dict[str, Any] = {
    "source": "conv_bn_relu", "inputs": {"input": {"shape": [2, 3, 64, 96]}}, "dynamic_axes": AXES,
}  # fmt: skip


def problems(**keys: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse({"models": {"m": MODEL | keys}})
    return [str(problem).removeprefix("models.m.") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"height": {"min": 9, "max": 8}}, "dims.height: min (9) is above max (8)."),
        (
            {"height": {"min": 65, "max": 95, "multiple_of": 32}},
            "dims.height: no multiple of 32 lies from 65 to 95.",
        ),
        (
            {"height": {}},
            "dims.height: says nothing. State min, max, multiple_of or an expression.",
        ),
        (
            {"heigth": {"min": 1}},
            "dims.heigth: 'heigth' is on no axis of dynamic_axes and in no expression. "
            "Did you mean height?",
        ),
        (
            {"width": "heigth + 32"},
            "dims.width: 'heigth' is on no axis. Did you mean height? "
            "If not, give it another name.",
        ),
        (
            {"width": "height + 32", "height": "width - 32"},
            "dims.width: is made of itself: width → height → width. "
            "State one of them without an expression.",
        ),
        (
            {"width": "height + 1"},
            "dims.width: the traced example has width = 96; 'height + 1' is 65 at height = 64. "
            "Change the shape of the input or the rule.",
        ),
        (
            {"height": "4//0"},
            "dims.height: '4//0' is no size: below zero, too large, or divided by zero. "
            "State another expression.",
        ),
        (
            {"oh": "3 - 4"},
            "dims.oh: '3 - 4' is no size: below zero, too large, or divided by zero. "
            "State another expression.",
        ),
        (
            {"height": "4"},
            "dims.height: the traced example has height = 64; '4' is 4. "
            "Change the shape of the input or the rule.",
        ),
        (
            {"width": "height // (height - 64)"},
            "dims.width: the traced example has width = 96; 'height // (height - 64)' gives no "
            "such size at height = 64. Change the shape of the input or the rule.",
        ),
        (
            {"height": {"multiple_of": 48}},
            "dims.height: the traced example has height = 64; allowed: multiples of 48. "
            "Change the shape of the input or the rule.",
        ),
        (
            {"height": "4 * k + 1"},
            "dims.height: the traced example has height = 64, which no k of '4 * k + 1' gives. "
            "Change the shape of the input or the rule.",
        ),
        (
            {"height": "oh"},
            "dims.height: oh is on outputs alone, and height is the size of an input. "
            "State oh by the symbols of inputs.",
        ),
        (
            {"height": {"min": 64, "max": 64}},
            "dims.height: height = 64 is the only size that the rules allow. "
            "Write freeze: [height].",
        ),
    ],
)
def test_a_rule_that_cannot_be_kept(rules: dict[str, Any], message: str) -> None:
    assert problems(dims=rules) == [message]


def test_other_syntax_names_what_is_not_understood() -> None:
    (message,) = problems(dims={"width": "__import__('os').getpid()"})
    assert message.startswith("dims.width: '__import__('os').getpid()' is not in the grammar")


@pytest.mark.parametrize(
    "verify",
    [
        {"shapes": [{"input": [2, 3, 65, 96]}]},
        {"cases": [{"label": "odd", "inputs": {"input": {"shape": [2, 3, 65, 96]}}}]},
    ],
)
def test_a_shape_of_the_users_own_keeps_the_rules(verify: dict[str, Any]) -> None:
    (message,) = problems(dims={"height": {"multiple_of": 32}}, verify=verify)
    assert message.startswith("verify.")
    assert message.endswith(
        "height is 65; allowed: multiples of 32. Change the shape, or the rule in dims."
    )


def test_right_rules_reach_the_job() -> None:
    rules = {"height": {"multiple_of": 32}, "oh": "height * 1", "width": "32 * k"}
    model = parse({"models": {"m": MODEL | {"dims": rules}}}).models["m"]
    assert model.dims["width"].equals == "32 * k"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"freeze": ["heigth"]},
            "freeze: dynamic_axes has no symbol 'heigth'. Did you mean height?",
        ),
        (
            {"freeze": ["oh"]},
            "freeze: 'oh' is on outputs alone, whose sizes follow from those of the inputs. "
            "Name the symbols of inputs.",
        ),
        (
            {"freeze": ["height"], "dims": {"oh": "height * 4"}},
            "freeze: 'height' is fixed here, and dims.oh says which sizes it has. "
            "Remove one of the two.",
        ),
        (
            {"freeze": ["height"], "dynamic_axes": "all"},
            "freeze: dynamic_axes: all asks for every axis. "
            "List the axes that are to be dynamic in dynamic_axes, without these.",
        ),
    ],
)
def test_what_cannot_be_frozen(keys: dict[str, Any], message: str) -> None:
    assert problems(**keys) == [message]


@pytest.mark.parametrize("keys", [{"freeze": ["n"]}, {"dynamic_axes": "all"}])
def test_a_file_that_is_onnx_keeps_its_axes(keys: dict[str, Any]) -> None:
    found = problems(**{"source": {"onnx": "net.onnx"}, "dynamic_axes": {}} | keys)
    assert any("the source is ONNX already: " in message for message in found)


def test_all_axes_get_a_name_and_frozen_ones_go(tmp_path: Any) -> None:
    spec = parse(
        {"models": {"a": MODEL | {"dynamic_axes": "all"}, "f": MODEL | {"freeze": ["height"]}}}
    )
    plan = jobs.build(spec, run_dir=tmp_path, cwd=tmp_path, trust=[])
    every, frozen = plan.jobs
    assert every.dynamic_axes == {"input": {axis: f"input_dim_{axis}" for axis in range(4)}}
    assert every.every_axis
    assert frozen.dynamic_axes == {"input": {0: "batch", 3: "width"}, "output": {2: "oh"}}
    assert frozen.frozen == {"height": 64}
