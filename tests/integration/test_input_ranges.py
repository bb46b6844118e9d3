"""Values that a dtype cannot hold are refused, and a bound that stands alone finds its other."""

from __future__ import annotations

from typing import Any

import pytest

from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec
from converter.worker.inputs import inputs

pytestmark = pytest.mark.integration


def draw(dtype: str, **spec: Any) -> Any:
    return inputs.draw("x", InputSpec(shape=[2000], dtype=dtype, **spec), seed=0)


@pytest.mark.parametrize(
    ("dtype", "value", "lost"),
    [
        ("int64", 1.5, "1.5"),
        ("uint8", 300, "300"),
        ("uint8", -1, "-1"),
        ("int8", [1] * 1999 + [128], "128"),
        ("bool", 2, "2"),
        ("float16", 1e6, "1000000.0"),
    ],
)
def test_a_constant_that_the_dtype_cannot_hold_is_named(dtype: str, value: Any, lost: str) -> None:
    with pytest.raises(StageError) as caught:
        draw(dtype, value=value)
    assert caught.value.code is Code.FORWARD
    assert caught.value.message == f"inputs.x.value holds {lost}, which {dtype} cannot hold"
    assert caught.value.hint == "Choose another value or another dtype."


def test_a_constant_beyond_every_integer_does_not_fit() -> None:
    with pytest.raises(StageError, match=r"inputs\.x\.value"):
        draw("int64", value=2**70)
    with pytest.raises(StageError, match=r"inputs\.x\.value"):
        draw("int64", value=2**63)


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 255), ("int64", 2.0), ("bool", True)])
def test_a_constant_that_fits_is_kept(dtype: str, value: Any) -> None:
    assert set(draw(dtype, value=value).tolist()) == {value}


@pytest.mark.parametrize(
    ("dtype", "bounds", "told"),
    [
        ("uint8", {"low": -1.0}, "inputs.x.low is -1; uint8 holds whole numbers from 0 to 255"),
        ("int8", {"high": 200.0}, "inputs.x.high is 200; int8 holds whole numbers"),
        ("int64", {"low": 0.5}, "inputs.x.low is 0.5; int64 holds whole numbers"),
        ("uint8", {"low": 256.0}, "inputs.x: no uint8 lies from low 256 to below high 256"),
        ("uint8", {"high": 0.0}, "inputs.x: no uint8 lies from low 0 to below high 0"),
    ],
)
def test_a_bound_that_the_dtype_cannot_hold_is_named(
    dtype: str, bounds: dict[str, float], told: str
) -> None:
    with pytest.raises(StageError) as caught:
        draw(dtype, **bounds)
    assert caught.value.code is Code.FORWARD
    assert caught.value.message.startswith(told)
    assert caught.value.hint.endswith("another dtype.")


@pytest.mark.parametrize(
    ("dtype", "bounds", "least", "greatest"),
    [
        ("int64", {}, -10, 9),
        ("uint8", {}, 0, 9),
        ("int64", {"low": 20.0}, 20, 39),
        ("int64", {"high": 50.0}, 30, 49),
        ("uint8", {"high": 5.0}, 0, 4),
        ("uint8", {"high": 256.0}, 0, 255),
        ("uint8", {"low": 30.0}, 30, 49),
        ("int8", {"low": 120.0}, 120, 127),
        ("uint8", {"low": 0.0, "high": 256.0}, 0, 255),
        ("float32", {"fill": "integers"}, -10, 9),
    ],
)
def test_integers_span_twenty_values_and_unsigned_ones_begin_at_zero(
    dtype: str, bounds: dict[str, Any], least: int, greatest: int
) -> None:
    found = draw(dtype, **bounds)
    assert (found.min(), found.max()) == (least, greatest)


@pytest.mark.parametrize(
    ("bounds", "low", "high"), [({"low": 20.0}, 20, 21), ({"high": -3.0}, -4, -3)]
)
def test_one_bound_of_floats_finds_its_other(
    bounds: dict[str, float], low: float, high: float
) -> None:
    found = draw("float64", **bounds)
    assert low <= found.min() < found.max() < high
    assert found.std() > 0.2
