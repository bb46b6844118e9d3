"""A frozen value that shows only in a small part of an output, or by little, is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converter.model.errors import Code
from converter.worker.compare import magnitudes, parts

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
X = {"x": {"shape": [4, 16]}}
MASK = {"mask": {"shape": [4, 32], "dtype": "bool"}}


@pytest.fixture
def outcome(convert: Callable[..., Any]) -> Callable[..., Any]:
    def run(name: str, **changes: Any) -> Any:
        source = {"_target_": f"blind.{name}"}
        return convert(source, **{"inputs": X, "trust": ["blind"], **changes})

    return run


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("Masked", X | MASK),
        ("TwoColumns", X),
        ("Stacked", X),
        ("InFloat32", {"x": {"shape": [16, 16]}}),
    ],
)
def test_a_value_frozen_in_the_small_part_of_an_output(
    outcome: Callable[..., Any], model: str, inputs: dict[str, Any]
) -> None:
    done = outcome(model, inputs=inputs)
    assert done.code is Code.VERIFY_VALUE
    assert done.result.error.message.startswith("case second")


@pytest.mark.parametrize(
    ("model", "verify"),
    [
        ("Offset", {"rtol": 1e-3}),
        ("Faint", {"rtol": 1e-3, "atol": 1e-5}),
        ("Faint", {"atol": 1e-5}),
    ],
)
def test_a_tolerance_as_large_as_what_the_input_does(
    outcome: Callable[..., Any], model: str, verify: dict[str, float]
) -> None:
    """Without the patterns, of which a large one shows the error in spite of the tolerance."""
    done = outcome(model, verify={"budget": 0, **verify})
    assert done.code is Code.VERIFY_VACUOUS
    assert "for other inputs, and the tolerance passes errors of" in done.result.error.message
    assert "verify.rtol and verify.atol" in done.result.error.hint


@pytest.mark.parametrize("model", ["Faint", "Offset"])
def test_what_the_derived_tolerance_sees_needs_none_stated(
    outcome: Callable[..., Any], model: str
) -> None:
    assert outcome(model).code is Code.VERIFY_VALUE


@pytest.mark.parametrize("name", ["flag", "use_cache", "causal"])
def test_a_flag_takes_both_values(outcome: Callable[..., Any], name: str) -> None:
    """Drawn twice, one is the same half of the time."""
    done = outcome("Flagged", inputs=X | {name: {"shape": [], "dtype": "bool"}})
    assert done.code is Code.VERIFY_VALUE


@pytest.mark.parametrize("model", ["RandomColumn", "MonteCarlo"])
def test_what_is_random_in_evaluation_is_told(outcome: Callable[..., Any], model: str) -> None:
    assert outcome(model).code is Code.NONDETERMINISTIC


def test_pixels_that_rounding_moves_are_told_what_to_do(outcome: Callable[..., Any]) -> None:
    done = outcome("Pixels", inputs={"x": {"shape": [1, 3, 256, 256]}})
    assert done.code is Code.VERIFY_VALUE
    assert "let forward return them before they are rounded" in done.result.error.message


def test_strict_with_no_damage_noticed_is_vacuous(outcome: Callable[..., Any]) -> None:
    done = outcome("Steady", verify={"mutations": 2})
    assert done.code is Code.VERIFY_VACUOUS
    assert "does not notice damage" in done.result.error.message


# Elements by magnitude


def masked(seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    values = draw.standard_normal((4, 32))
    return np.where(draw.random((4, 32)) < 0.5, -1e9, values).astype(np.float32)


def test_small_elements_are_compared_by_themselves() -> None:
    wrong = np.where(masked() > -1e8, masked() + 0.5, masked()).astype(np.float32)
    found = parts.wrong(masked(), wrong, parts.Rounding(), 1e-7)
    assert found is not None
    assert "elements up to 2." in found
    assert parts.wrong(masked(), masked(), parts.Rounding(), 1e-7) is None


def test_one_wrong_element_among_small_ones() -> None:
    wrong = masked()
    index = np.unravel_index(int(np.argmax(wrong > -1e8)), wrong.shape)
    wrong[index] += 1.0
    assert parts.wrong(masked(), wrong, parts.Rounding(), 1e-7) is not None


def test_what_rounding_does_to_small_elements_is_no_error() -> None:
    off = np.where(masked() > -1e8, masked() * 1.2, masked()).astype(np.float32)
    known = parts.rounding(masked().astype(np.float64) * 1.02, masked())
    assert parts.wrong(masked(), off, known, 1e-7) is None


@pytest.mark.parametrize("size", [8, 100, 5000])
def test_continuous_values_have_no_gap(size: int) -> None:
    for seed in range(50):
        values = np.abs(np.random.default_rng(seed).standard_normal(size))
        assert list(magnitudes.smaller(values)) == []


def test_three_elements_and_zeros_are_no_group() -> None:
    values = np.array([0.0] * 9 + [1e-4] * 3 + [1.0] * 9)
    assert list(magnitudes.smaller(values)) == []
    (held,) = magnitudes.smaller(np.array([0.0] * 9 + [1e-4] * 4 + [1.0] * 9))
    assert held.sum() == 4
