"""Compare one output with its reference, in a way that cannot be fooled.

``numpy.testing`` and ``numpy.allclose`` broadcast, accept NaN for NaN, ignore dtypes and
pass on empty arrays; so kind, shape and finiteness are decided before any number is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.model.errors import Code
from converter.model.records import OutputCheck
from converter.worker.compare import parts, vacuity
from converter.worker.compare.parts import Rounding
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import REDUCED


@dataclass(frozen=True)
class Bounds:
    """What derived tolerances are made of, where a file computes in one precision.

    Attributes:
        times: so many times the rounding error that the model itself shows when it is rounded
            otherwise may a right file be off.
        tightest: the least relative L2 error that is allowed, and the most (``loosest``): it keeps
            a model that rounds badly from excusing everything.
        unknown: stands for a rounding error that cannot be measured, that of a deep network.
        eps: of the precision; 0: that of the output's own dtype.
        coherent: so many times the rounding where many elements are equal: a file rounds them
            alike, and the errors do not average out as those of a run that is rounded at random.
        near: scores that differ by this share change places when they are rounded otherwise.
        own: of an output in bfloat16 or float8 one step, by which two right ones may differ: each
            is rounded once more, and where rounding begins an error of any size decides.
        least: the size of that step next to zero.
    """

    times: float
    tightest: float
    loosest: float
    unknown: float
    eps: float
    coherent: float
    near: float
    own: float = 0.0
    least: float = 0.0

    def of(self, output: Array) -> Bounds:
        """Those of an output of this dtype and number of elements."""
        found = self
        if self.eps and 0 < output.size < _FEW:
            # The rounding of few numbers is drawn once and may be near zero by chance, in the file
            # and where it was measured: of `model.half()` a mean of 16 numbers is off by more than
            # the least that is allowed of many in one of four draws.
            more = 1 + 3 / math.sqrt(output.size)
            found = replace(self, times=more * self.times, tightest=more * self.tightest)
        if not dtypes.is_narrow(output):
            return found
        return replace(found, own=dtypes.eps(output.dtype), least=dtypes.least(output.dtype))

    def step(self, dtype: np.dtype[Any]) -> float:
        """The relative distance of neighbouring numbers in an output of floats."""
        return max(dtypes.eps(dtype), self.eps)


_FEW = 16  # elements
BOUNDS: Mapping[str, Bounds] = {
    # ONNX Runtime adds up in another order and fuses; it was seen at 1 to 6 times the rounding
    # error. mobilenet_v3_small on a grey image shows 26 times as much.
    "float32": Bounds(
        times=20.0, tightest=5e-6, loosest=2.5e-3, unknown=1.25e-6, eps=0.0, coherent=5.0, near=2e-5
    ),
    # On 31 models files on a CPU showed 0.3 to 1.05 times the measured rounding, float16 arithmetic
    # 0.76 to 1.14 times; mobilenet_v3_small on a grey image 2.5 (docs/verification.md). The
    # tightest is one step of float16. The loosest is twice the error of fcn_resnet50, whose random
    # weights round worst.
    "float16": Bounds(
        times=2.5, tightest=1e-3, loosest=0.3, unknown=1e-2, eps=2**-10, coherent=2.5, near=4e-3
    ),
    # Its steps are eight times those of float16, and on 33 models so was the rounding (4.5 to 9.5
    # times); emulated files showed 0.55 to 0.98 times that. The loosest is what mnasnet0_5 needs,
    # whose random weights round to 0.2: beyond half its scale an output says nothing. What is not
    # known is four steps, since ten would be more than an output may move by.
    "bfloat16": Bounds(
        times=2.5, tightest=8e-3, loosest=0.5, unknown=3e-2, eps=2**-7, coherent=2.5, near=3.2e-2
    ),
}
"""By the precision in which a file computes; the model's own outputs are those of float32."""

# Twice what is allowed where rounding is not known. Trained networks round by less in float16 than
# the 4e-2 that this passes; a model beyond it has operators that 16 bits do not compute.
_LOOSEST_OF_FIXED = {"float16": 5e-2, "bfloat16": 0.15}
_OF_FIXED = {
    precision: replace(BOUNDS[precision], loosest=loosest)
    for precision, loosest in _LOOSEST_OF_FIXED.items()
}


def bounds_of(precision: str, *, conditioned: bool) -> Bounds:
    """Those of a precision.

    Args:
        precision: a key of ``BOUNDS``.
        conditioned: the weights were drawn and conditioned here, and may round worse than any that
            somebody uses; else 16 bits excuse less.
    """
    found = BOUNDS[precision]
    return found if conditioned else _OF_FIXED.get(precision, found)


_FLOAT32 = BOUNDS["float32"]
# The largest of many rounding errors against their root mean square.
_PEAK = 4.0


@dataclass(frozen=True)
class Edge:
    """Detections that rounding loses, brings or changes in the model's own lists.

    Attributes:
        rows: for each output that lists detections their values.
        of: which detection of PyTorch's list each of them is, or would be; -1: none of it.
    """

    rows: Mapping[int, Array] = field(default_factory=dict)
    of: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))


@dataclass(frozen=True)
class Noise:
    """The rounding error that a model shows by itself (``converter.worker.reference.noise``).

    Attributes:
        floors: for each output the relative L2 distance to a run that is rounded otherwise;
            ``None``: not known.
        parts: for each output what rounding does to its parts; empty where it is not known.
        edge: gives the detections on the edge, as so many runs show; fewer are in it where more
            runs would show nothing else.
        bounds: of the precision that was measured, and that a file is judged by.
    """

    floors: list[float | None] = field(default_factory=list)
    parts: list[Rounding] = field(default_factory=list)
    edge: Callable[[int], Edge] = lambda runs: Edge()
    bounds: Bounds = _FLOAT32

    @classmethod
    def none(cls, count: int, bounds: Bounds = _FLOAT32) -> Noise:
        """Of ``count`` outputs that no rounding excuses: the tightest bounds hold for them."""
        return cls([0.0] * count, bounds=bounds)

    def times(self, factor: float) -> Noise:
        """So many times as much."""
        floors = [None if floor is None else floor * factor for floor in self.floors]
        return replace(self, floors=floors, parts=[part.times(factor) for part in self.parts])

    def at_least(self, least: float) -> Noise:
        """The same, but for floors below ``least``."""
        floors = [None if floor is None else max(floor, least) for floor in self.floors]
        return replace(self, floors=floors)

    def of_parts(self, index: int) -> Rounding:
        return self.parts[index] if self.parts else Rounding()


@dataclass(frozen=True)
class Comparison:
    """``code`` and ``reason`` say what is wrong, and are ``None`` for an output that passes."""

    check: OutputCheck
    code: Code | None = None
    reason: str | None = None


def compare(
    name: str,
    expected: Array,
    actual: Array,
    *,
    rtol: float | None,
    atol: float | None,
    floor: float | None = None,
    noise: Rounding | None = None,
    limits: Bounds = _FLOAT32,
    narrowed: bool = False,
) -> Comparison:
    """Compare ``actual`` (the ONNX file's) with ``expected`` (PyTorch's).

    Floating-point outputs pass when every element satisfies
    ``|actual - expected| <= atol + rtol * |expected|``. Integers and booleans must be equal.
    With no tolerance given, both follow from ``floor``, the relative L2 distance between two runs
    of the model that round otherwise (``None``: not known), ``atol`` as a share of the output's
    root mean square, and the relative L2 error is bounded too; then ``noise``, the same distance
    in each part, helps to judge the parts by themselves (``converter.worker.compare.parts``;
    ``None``: they are not).

    Args:
        limits: of the precision in which the file computes.
        narrowed: the file's outputs have 16 bits where PyTorch gives float32, which is then
            compared rounded to them.
    """
    if narrowed:
        beyond = _beyond(name, expected, actual)
        if beyond is not None:
            return beyond
        expected = narrow(expected, actual)
    frame, limits = _frame(name, actual), limits.of(expected)
    unlike = _unlike(frame, expected, actual)
    if unlike is not None:
        return unlike
    found = _compare_values(frame, expected, actual, (rtol, atol), floor, limits)
    # Who states a tolerance states it for the parts as well.
    stated = rtol is not None or atol is not None
    if noise is None or stated or found.code is not None or not dtypes.is_float(expected):
        return found
    part = parts.wrong(expected, actual, noise, floor, limits.step(expected.dtype), limits.times)
    if part is None:
        return found
    check = found.check.model_copy(update={"passed": False})
    return Comparison(check, Code.VERIFY_VALUE, f"{name}: {part}")


def _beyond(name: str, expected: Array, actual: Array) -> Comparison | None:
    """An output that is too large for the 16 bits of the file's.

    Named by its size: the infinity that rounding makes of it would blame PyTorch. Infinity that
    PyTorch itself gives is its own.
    """
    kind = REDUCED.get(actual.dtype.name)
    if kind is None or not dtypes.is_float(expected):
        return None
    largest = float(np.abs(expected).max(initial=0.0))
    if not kind.infinite <= largest < math.inf:
        return None
    reason = f"{name}: PyTorch gives {largest:.3g}, {kind.name} ends at {kind.largest:g}"
    return Comparison(
        _not_compared(_frame(name, actual), "not finite"), Code.VERIFY_NONFINITE, reason
    )


def _frame(name: str, actual: Array) -> OutputCheck:
    return OutputCheck(
        name=name,
        shape=list(actual.shape),
        dtype=dtypes.of(actual),
        atol=0.0,
        rtol=0.0,
        passed=False,
    )


def _unlike(frame: OutputCheck, expected: Array, actual: Array) -> Comparison | None:
    """What is decided before any number is compared."""
    # Dtype before shape before numbers: NumPy would convert and broadcast without a word.
    if actual.dtype != expected.dtype:
        reason = f"{frame.name} is {actual.dtype}, PyTorch gives {expected.dtype}"
        return Comparison(_not_compared(frame, "dtype"), Code.VERIFY_SHAPE, reason)
    if actual.shape != expected.shape:
        reason = f"{frame.name} has shape {frame.shape}, PyTorch gives {list(expected.shape)}"
        return Comparison(_not_compared(frame, "shape"), Code.VERIFY_SHAPE, reason)
    if not actual.size:  # whether it may be is decided on the references
        return Comparison(frame.model_copy(update={"not_compared": "empty", "passed": True}))
    for side, values in (("PyTorch", expected), ("the file", actual)):
        # PyTorch first: where its own output is not finite, the file is not to blame.
        if not vacuity.finite(values):
            reason = f"{frame.name}: {side} gives NaN or infinity"
            return Comparison(_not_compared(frame, "not finite"), Code.VERIFY_NONFINITE, reason)
    if expected.dtype.kind == "O":  # no number will be
        return _compare_strings(frame, expected, actual)
    return None


def narrow(expected: Array, actual: Array) -> Array:
    """What PyTorch gives, in 16 bits where the file's output has them and PyTorch's is float32."""
    if actual.dtype.name not in REDUCED or expected.dtype != np.float32:
        return expected
    with np.errstate(over="ignore"):
        return expected.astype(actual.dtype)


def _not_compared(frame: OutputCheck, why: str) -> OutputCheck:
    return frame.model_copy(update={"not_compared": why})


def tolerance(floor: float | None, limits: Bounds = _FLOAT32) -> float:
    """Relative L2 error that a right file may show, from the model's own rounding error."""
    # An unknown floor is not zero: the tightest bound would refuse deep networks.
    floor = limits.unknown if floor is None else floor
    return min(max(limits.times * floor, limits.tightest), limits.loosest) + limits.own


def explained(error: float | None, floor: float, limits: Bounds = _FLOAT32) -> bool:
    """Whether rounding explains an error that the loosest bound does not allow.

    Args:
        error: relative L2 error of the file; ``None``: not known.
        floor: the model's own rounding error.
        limits: of the precision in which the file computes.
    """
    allowed = limits.times * floor
    return allowed > limits.loosest and error is not None and error <= allowed


def bounds(
    expected: Array,
    rtol: float | None,
    atol: float | None,
    floor: float | None,
    limits: Bounds = _FLOAT32,
) -> tuple[float, float]:
    """The absolute and the relative error that an element may show: those stated, else derived."""
    if not dtypes.is_float(expected):
        return 0.0, 0.0
    # Of a single element four times as much: the relative L2 bound holds the mean of all.
    limits = limits.of(expected)
    derived = _PEAK * (tolerance(floor, limits) - limits.own)
    scale = float(np.sqrt(np.mean(np.square(expected.astype(np.float64)))))
    return (
        derived * scale + limits.least if atol is None else atol,
        derived + limits.own if rtol is None else rtol,
    )


def blind_spot(
    expected: Array,
    rtol: float | None,
    atol: float | None,
    floor: float | None,
    limits: Bounds = _FLOAT32,
) -> float:
    """The largest error that still passes, as root mean square and share of the output's own."""
    scale = float(np.sqrt(np.mean(np.square(expected.astype(np.float64)))))
    if rtol is None and atol is None:
        return tolerance(floor, limits.of(expected))
    # As if every element were off by all that it may be.
    absolute, relative = bounds(expected, rtol, atol, floor, limits)
    return absolute / scale + relative if scale else math.inf


def _compare_strings(frame: OutputCheck, expected: Array, actual: Array) -> Comparison:
    """Equal, or not."""
    wrong = np.flatnonzero(actual != expected)
    if not wrong.size:
        return Comparison(frame.model_copy(update={"passed": True}))
    index = [int(i) for i in np.unravel_index(int(wrong[0]), expected.shape)]
    found, wanted = (str(values.flat[wrong[0]]) for values in (actual, expected))
    reason = f"{frame.name}{index} is {found!r}, the source gives {wanted!r}"
    reason += f"; {wrong.size} of {expected.size} differ"
    return Comparison(frame, Code.VERIFY_VALUE, reason)


def _compare_values(
    frame: OutputCheck,
    expected: Array,
    actual: Array,
    stated: tuple[float | None, float | None],
    floor: float | None,
    limits: Bounds,
) -> Comparison:
    want = expected.astype(np.float64).ravel()
    got = actual.astype(np.float64).ravel()
    norms = float(np.linalg.norm(want)), float(np.linalg.norm(got))
    product = float(want @ got)
    np.subtract(got, want, out=got)  # in place from here on: outputs may be large
    difference, size = np.abs(got, out=got), np.abs(want, out=want)
    exact = not dtypes.is_float(expected)
    derived = tolerance(floor, limits)
    absolute, relative = bounds(expected, *stated, floor, limits)
    if exact:
        # float64 cannot tell neighbouring integers above 2**53 apart.
        difference = np.maximum(difference, (actual != expected).ravel())
    error = float(np.linalg.norm(difference))
    rel_l2 = error / norms[0] if norms[0] else (None if error else 0.0)
    share = np.divide(difference, size, out=np.zeros_like(size), where=size > 0)
    bound = np.add(np.multiply(size, relative, out=size), absolute, out=size)
    within = bool((difference <= bound).all())
    close = within
    if not exact and stated == (None, None):
        close = close and rel_l2 is not None and rel_l2 <= derived
    check = frame.model_copy(
        update={
            "max_abs": float(difference.max()),
            "max_rel": float(share.max()),
            "rel_l2": rel_l2,
            "cosine": product / (norms[0] * norms[1]) if norms[0] and norms[1] else None,
            "atol": absolute,
            "rtol": relative,
            "passed": close,
        }
    )
    if close:
        return Comparison(check)
    if within:
        reason = f"{frame.name}: relative L2 error {rel_l2:.3g}, allowed {derived:.3g}"
    else:
        worst = int(np.argmax(difference - bound))
        reason = f"{frame.name}{_place(worst, expected, actual)}; largest error "
        reason += f"{difference.max():.3g}, allowed there {bound[worst]:.3g}"
        if expected.dtype.kind in "iu" and difference.max() <= 1:
            reason += "; whole numbers are exact: let forward return them before they are rounded"
    return Comparison(check, Code.VERIFY_VALUE, reason)


def _place(flat: int, expected: Array, actual: Array) -> str:
    """Where an element stands, and what both sides have there."""
    index = [int(i) for i in np.unravel_index(flat, expected.shape)]
    return f"{index} is {_apart(actual.flat[flat], expected.flat[flat])}"


def _apart(found: np.generic, expected: np.generic) -> str:
    """Both numbers, with as many digits as tell them apart."""
    if not dtypes.is_float(expected):
        return f"{int(found)}, PyTorch gives {int(expected)}"
    # Nine digits tell any two numbers of float32 apart, 17 those of float64.
    for digits in (6, 9, 17):
        shown = f"{float(found):.{digits}g}", f"{float(expected):.{digits}g}"
        if shown[0] != shown[1]:
            break
    return f"{shown[0]}, PyTorch gives {shown[1]}"
