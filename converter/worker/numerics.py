"""Compare one output with its reference, in a way that cannot be fooled.

``numpy.testing`` and ``numpy.allclose`` broadcast, accept NaN for NaN, ignore dtypes and
pass on empty arrays; so kind, shape and finiteness are decided before any number is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converter.errors import Code
from converter.job import OutputCheck
from converter.worker.inputs import Array

# Bounds where the configuration names none. The absolute one is a share of the output's
# own scale (root mean square), so that small outputs are compared as strictly as large ones.
RTOL = 1e-3
ATOL_OF_SCALE = 1e-4
# Relative L2 error, independent of outliers among the elements.
REL_L2 = 1e-3


@dataclass(frozen=True)
class Comparison:
    """``code`` and ``reason`` say what is wrong, and are ``None`` for an output that passes."""

    check: OutputCheck
    code: Code | None = None
    reason: str | None = None


def compare(
    name: str, expected: Array, actual: Array, *, rtol: float | None, atol: float | None
) -> Comparison:
    """Compare ``actual`` (the ONNX file's) with ``expected`` (PyTorch's).

    Floating-point outputs pass when every element satisfies
    ``|actual - expected| <= atol + rtol * |expected|``, and, unless a tolerance was given,
    the relative L2 error is at most ``REL_L2`` too. Integers and booleans must be equal.

    A tolerance of ``None`` takes the default; ``atol`` then follows the output's scale.
    """
    shape = list(actual.shape)
    frame = OutputCheck(
        name=name, shape=shape, dtype=actual.dtype.name, atol=0.0, rtol=0.0, passed=False
    )
    if actual.dtype != expected.dtype:
        reason = f"{name} is {actual.dtype}, PyTorch gives {expected.dtype}"
        return Comparison(frame, Code.VERIFY_SHAPE, reason)
    if actual.shape != expected.shape:
        reason = f"{name} has shape {shape}, PyTorch gives {list(expected.shape)}"
        return Comparison(frame, Code.VERIFY_SHAPE, reason)
    if not actual.size:
        return Comparison(frame, Code.VERIFY_VACUOUS, f"{name} is empty: nothing to compare")
    for side, values in (("PyTorch", expected), ("the ONNX file", actual)):
        if not np.isfinite(values).all():
            reason = f"{name}: {side} gives NaN or infinity"
            return Comparison(frame, Code.VERIFY_NONFINITE, reason)
    return _compare_values(frame, expected, actual, rtol, atol)


def _compare_values(
    frame: OutputCheck, expected: Array, actual: Array, rtol: float | None, atol: float | None
) -> Comparison:
    want = expected.astype(np.float64).ravel()
    got = actual.astype(np.float64).ravel()
    difference = np.abs(got - want)
    exact = expected.dtype.kind != "f"
    scale = float(np.sqrt(np.mean(np.square(want))))
    relative = 0.0 if exact else RTOL if rtol is None else rtol
    absolute = 0.0 if exact else ATOL_OF_SCALE * scale if atol is None else atol
    bound = absolute + relative * np.abs(want)
    norms = float(np.linalg.norm(want)), float(np.linalg.norm(got))
    error = float(np.linalg.norm(got - want))
    rel_l2 = error / norms[0] if norms[0] else (0.0 if error == 0 else None)
    nonzero = want != 0
    worst = int(np.argmax(difference - bound))
    close = bool((difference <= bound).all())
    if not exact and rtol is None and atol is None:
        close = close and rel_l2 is not None and rel_l2 <= REL_L2
    check = frame.model_copy(
        update={
            "max_abs": float(difference.max()),
            "max_rel": float((difference[nonzero] / np.abs(want[nonzero])).max(initial=0.0)),
            "rel_l2": rel_l2,
            "cosine": float(want @ got / (norms[0] * norms[1])) if norms[0] and norms[1] else None,
            "atol": absolute,
            "rtol": relative,
            "passed": close,
        }
    )
    if close:
        return Comparison(check)
    index = [int(i) for i in np.unravel_index(worst, expected.shape)]
    reason = (
        f"{frame.name}{index} is {got[worst]:.6g}, PyTorch gives {want[worst]:.6g}; "
        f"largest error {difference.max():.3g}, allowed there {bound[worst]:.3g}"
    )
    return Comparison(check, Code.VERIFY_VALUE, reason)
