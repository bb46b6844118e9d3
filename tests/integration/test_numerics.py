"""Comparing two outputs: what numpy's own comparisons let pass must not pass here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converter.model.errors import Code
from converter.worker.compare import numerics, vacuity

pytestmark = pytest.mark.integration
F32 = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
NAN, INF = float("nan"), float("inf")


def compare(want: Any, got: Any, **options: Any) -> numerics.Comparison:
    options = {"rtol": None, "atol": None, **options}
    return numerics.compare("y", np.asarray(want), np.asarray(got), **options)


@pytest.mark.parametrize(
    ("want", "got", "code", "words"),
    [
        ([NAN], [NAN], Code.VERIFY_NONFINITE, "PyTorch gives NaN or infinity"),
        ([1.0], [NAN], Code.VERIFY_NONFINITE, "the file gives NaN or infinity"),
        ([INF], [INF], Code.VERIFY_NONFINITE, "PyTorch gives NaN or infinity"),
        ([1.0, 1.0], [1.0], Code.VERIFY_SHAPE, "has shape [1], PyTorch gives [2]"),
        ([[1.0]], [1.0], Code.VERIFY_SHAPE, "has shape [1], PyTorch gives [1, 1]"),
        (1.0, [1.0], Code.VERIFY_SHAPE, "has shape [1], PyTorch gives []"),
        ([1.0], np.float32([1]), Code.VERIFY_SHAPE, "y is float32, PyTorch gives float64"),
        ([1], [True], Code.VERIFY_SHAPE, "y is bool, PyTorch gives int64"),
        (np.zeros((0, 4)), np.zeros((1, 4)), Code.VERIFY_SHAPE, "y has shape [1, 4], PyTorch"),
        ([1, 2, 3], [1, 2, 4], Code.VERIFY_VALUE, "y[2] is 4, PyTorch gives 3"),
        ([2**60], [2**60 + 1], Code.VERIFY_VALUE, f"is {2**60 + 1}, PyTorch gives {2**60};"),
        ([2**53], [2**53 + 1], Code.VERIFY_VALUE, "largest error 1, allowed there 0"),
        ([True, False], [True, True], Code.VERIFY_VALUE, "y[1] is 1, PyTorch gives 0"),
        (1.0, 2.0, Code.VERIFY_VALUE, "y[] is 2, PyTorch gives 1"),
        ([0.0, 0.0], [0.0, 1e-30], Code.VERIFY_VALUE, "allowed there 0"),
        ([1.0, -1.0], [-1.0, 1.0], Code.VERIFY_VALUE, "largest error 2"),
    ],
)  # fmt: skip
def test_what_does_not_pass(want: Any, got: Any, code: Code, words: str) -> None:
    found = compare(want, got)
    assert (found.code, found.check.passed) == (code, False)
    assert found.reason is not None
    assert words in found.reason
    computed = code is Code.VERIFY_VALUE
    assert (found.check.max_abs is not None, found.check.not_compared is None) == (
        computed, computed,
    )  # fmt: skip


def test_an_empty_output_has_nothing_to_compare_but_its_shape() -> None:
    """Whether it may be empty is decided on the references."""
    found = compare(np.zeros((0, 4)), np.zeros((0, 4)))
    assert (found.code, found.check.passed, found.check.not_compared) == (None, True, "empty")


@pytest.mark.parametrize(
    ("want", "got", "why"),
    [
        ([1.0], [NAN], "not finite"),
        ([[1.0]], [1.0], "shape"),
        ([1], [True], "dtype"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "empty"),
    ],
)
def test_an_output_that_is_not_compared_says_why(want: Any, got: Any, why: str) -> None:
    assert compare(want, got).check.not_compared == why


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "bool"]
)
def test_equal_arrays_pass(dtype: str) -> None:
    found = compare(F32.astype(dtype), F32.astype(dtype))
    assert found.code is None
    assert (found.check.max_abs, found.check.rel_l2, found.check.passed) == (0, 0, True)


@pytest.mark.parametrize("tolerance", [{"rtol": 10.0}, {"atol": 10.0}])
def test_no_tolerance_excuses_an_integer(tolerance: dict[str, float]) -> None:
    assert compare([3], [4], **tolerance).code is Code.VERIFY_VALUE


def test_a_given_tolerance_is_the_bound_and_is_recorded() -> None:
    found = compare([100.0, 0.0], [100.9, 0.09], rtol=0.01, atol=0.1)
    assert (found.code, found.check.rtol, found.check.atol) == (None, 0.01, 0.1)
    assert compare([100.0], [101.2], rtol=0.01, atol=0.1).code is Code.VERIFY_VALUE
    assert compare([0.0], [1e-9], rtol=0.01, atol=0.0).code is Code.VERIFY_VALUE


@pytest.mark.parametrize(
    ("floor", "expected"),
    [(None, 2.5e-5), (0.0, 5e-6), (1e-8, 5e-6), (1e-6, 2e-5), (1.0, 2.5e-3)],
)
def test_the_derived_tolerance_follows_the_floor_within_bounds(
    floor: float | None, expected: float
) -> None:
    assert numerics.tolerance(floor) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_derived_tolerance_is_relative_to_the_scale(scale: float) -> None:
    noise = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    want = F32 * np.float32(scale)
    assert compare(want, want * (1 + 1e-6 * noise), floor=1e-7).code is None
    assert compare(want, want * (1 + 1e-4 * noise), floor=1e-7).code is Code.VERIFY_VALUE


def test_many_small_errors_do_not_add_up_to_a_pass() -> None:
    """Each within the element's bound, all together above the relative L2 error."""
    found = compare(F32, F32 * np.float32(1 + 1e-5), floor=1e-7)
    assert found.code is Code.VERIFY_VALUE
    assert "relative L2 error 1" in (found.reason or "")


# Is there anything to compare?


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([F32[:0]], "output y is empty (shape [0])"),
        ([F32 * 1e-8], "root mean square of 9"),
        ([F32 * 0], "root mean square of 0"),
        ([F32 * np.float32(1e12)], "root mean square of 9"),
        ([F32, F32], "moves by 0 of its scale for other inputs"),
        ([F32, F32 * np.float32(1 + 1e-5)], "moves by 1e-05 of its scale"),
        ([np.array([3]), np.array([3])], "no output changes with the input"),
    ],
)  # fmt: skip
def test_vacuous_outputs(samples: list[Any], words: str) -> None:
    _, error = vacuity.judge(["y"], [[sample] for sample in samples])
    assert error is not None
    assert error.code is Code.VERIFY_VACUOUS
    assert words in error.message
    assert error.hint.startswith("use trained weights, or inputs that the model responds to")


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_reference_that_is_not_finite(bad: float) -> None:
    _, error = vacuity.judge(["y"], [[np.array([1.0, bad])]])
    assert error is not None
    assert (error.code, "fill, low, high" in error.hint) == (Code.VERIFY_NONFINITE, True)


@pytest.mark.parametrize(
    "samples",
    [
        [[F32], [-F32]],
        [[F32]],  # constant inputs: nothing to vary
        [[F32], [F32[:10]]],  # as many elements as the values say
        [[np.array([3]), F32], [np.array([3]), -F32]],  # a class may stay the same
        [[np.array([3])], [np.array([4])]],
    ],
)
def test_outputs_that_are_worth_comparing(samples: list[Any]) -> None:
    _, error = vacuity.judge(["a", "b"][: len(samples[0])], samples)
    assert error is None


def test_the_weakest_output_is_recorded() -> None:
    strong, weak = [F32, -F32], [F32, F32 * np.float32(1.5)]
    sensitivity, _ = vacuity.judge(["a", "b"], list(zip(strong, weak, strict=True)))
    assert sensitivity.input_delta == pytest.approx(0.5)
    assert sensitivity.output_rms == pytest.approx(float(np.sqrt(np.mean(F32**2))))


def test_numbers_that_six_digits_do_not_tell_apart_have_more() -> None:
    want, got = np.float64([1.0]), np.float64([1.0 + 1e-8])
    found = numerics.compare("y", want, got, rtol=0.0, atol=1e-9)
    assert found.reason is not None
    assert found.reason.startswith("y[0] is 1.00000001, PyTorch gives 1; largest error 1e-08")


@pytest.mark.parametrize(("dtype", "told"), [("int64", True), ("bool", False)])
def test_only_numbers_are_rounded(dtype: str, told: bool) -> None:
    want, got = np.zeros(4, dtype), np.array([0, 1, 0, 0]).astype(dtype)
    found = numerics.compare("y", want, got, rtol=None, atol=None)
    assert found.code is Code.VERIFY_VALUE
    assert ("whole numbers are exact" in (found.reason or "")) == told
