"""Derived tolerances by precision: pure arithmetic, without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from converter.worker.compare import numerics
from converter.worker.compare.numerics import BOUNDS, Noise

HALF = BOUNDS["float16"]


@pytest.mark.parametrize(
    ("precision", "floor", "allowed"),
    [
        ("float32", None, 2.5e-5), ("float32", 0.0, 5e-6), ("float32", 1.0, 2.5e-3),
        ("float16", None, 2.5e-2), ("float16", 0.0, 1e-3), ("float16", 2e-3, 5e-3),
        ("float16", 1.0, 0.3),
    ],
)  # fmt: skip
def test_a_tolerance_follows_the_rounding_within_its_bounds(
    precision: str, floor: float | None, allowed: float
) -> None:
    assert numerics.tolerance(floor, BOUNDS[precision]) == pytest.approx(allowed)


@pytest.mark.parametrize(("precision", "most"), [("float16", 5e-2), ("bfloat16", 0.15)])
def test_rounding_excuses_less_of_weights_that_were_not_conditioned(
    precision: str, most: float
) -> None:
    fixed = numerics.bounds_of(precision, conditioned=False)
    assert numerics.tolerance(1.0, fixed) == most
    assert numerics.bounds_of(precision, conditioned=True) is BOUNDS[precision]
    # What is not known must not be refused for that.
    assert numerics.tolerance(None, fixed) == numerics.tolerance(None, BOUNDS[precision])


def test_a_step_is_that_of_the_coarser_of_both() -> None:
    single, half = np.dtype(np.float32), np.dtype(np.float16)
    assert BOUNDS["float32"].step(single) == np.finfo(np.float32).eps
    assert BOUNDS["float32"].step(half) == np.finfo(np.float16).eps
    assert HALF.step(single) == HALF.step(half) == np.finfo(np.float16).eps


def test_noise_keeps_its_bounds() -> None:
    noise = Noise.none(2, HALF)
    assert noise.times(2).bounds is noise.at_least(1.0).bounds is HALF
    assert Noise.none(2).bounds is BOUNDS["float32"]


def test_float16_outputs_are_accepted_where_that_is_declared() -> None:
    want = np.linspace(-2, 2, 101, dtype=np.float32)
    got = want.astype(np.float16)
    none = {"rtol": None, "atol": None, "limits": HALF}
    assert numerics.compare("y", want, got, **none).check.not_compared == "dtype"
    assert numerics.compare("y", want, got, **none, narrowed=True).code is None
    assert numerics.compare("y", want, -got, **none, narrowed=True).code is not None
    assert numerics.compare("y", want, want, **none, narrowed=True).code is None


def test_comparing_needs_no_torch() -> None:
    code = "import sys, converter.worker.compare.numerics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
