"""Is there anything to compare? Decided on the reference alone, before any file exists.

A comparison with outputs that vanish, overflow or ignore the input accepts every graph.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from converter.model.errors import Code, StageError
from converter.model.records import Sensitivity
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array

# float32 keeps 7 digits: outputs this small come from signals that died on the way, and outputs
# this large from signals that grew at every layer.
_SMALLEST, _LARGEST = 1e-6, 1e9
# Share of an output's scale that another input must move it by.
# Some 800 steps of float32, so that rounding alone is no move.
_LEAST_MOVE = 1e-4
# Share of that move which an error that passes may have.
TOLERATED = 0.25


def judge(
    names: Sequence[str], samples: Sequence[Sequence[Array]], constant: Set[int] = frozenset()
) -> tuple[Sensitivity, StageError | None]:
    """Judge the outputs of one model on inputs of one shape.

    Args:
        names: one for each output.
        samples: the outputs for each input; more than one where the inputs can vary.
        constant: places of outputs that need not depend on the input, nor hold anything.

    Returns:
        The least move of any floating-point output as a share of its scale, with that output's
        root mean square; and what is wrong with the outputs, or ``None``.
    """
    weakest = Sensitivity()
    moved = False
    for place, (name, *values) in enumerate(zip(names, *samples, strict=True)):
        if place in constant:
            # The configuration vouches for it: constants alone are not vacuous either.
            moved = True
            if not all(finite(sample) for sample in values):
                return weakest, _nonfinite(name)
            continue
        # Before the scale: the mean of an empty array is NaN.
        error = _shape_and_numbers(name, values)
        if error is not None:
            return weakest, error
        change = _change(values)
        if not dtypes.is_float(values[0]):
            # Whole numbers may stay the same by right: `verify.reason` names those that do.
            moved = moved or bool(change)
            continue
        scale = rms(values[0])
        if not _SMALLEST <= scale <= _LARGEST:
            sensitivity = Sensitivity(input_delta=change, output_rms=scale)
            return sensitivity, _vacuous(
                f"output {name} has a root mean square of {scale:.3g}", _accept(name)
            )
        moved = True
        if change is not None and (weakest.input_delta is None or change < weakest.input_delta):
            weakest = Sensitivity(input_delta=change, output_rms=scale)
        if change is not None and change < _LEAST_MOVE:
            return weakest, _vacuous(
                f"output {name} (root mean square {scale:.3g}) moves by {change:.2g} of its scale "
                "for other inputs",
                _accept(name),
            )
    if len(samples) > 1 and not moved:
        return weakest, _vacuous("no output changes with the input", _accept(names[0]))
    return weakest, None


def below_noise_floor(
    names: Sequence[str],
    samples: Sequence[Sequence[Array]],
    blind: Sequence[float | None],
    stated: bool,
) -> StageError | None:
    """Whether an output moves so little that the tolerance would take one input's for another's.

    Args:
        blind: for each output the error that passes, as a share of its scale
            (``numerics.blind_spot``); ``None``: not judged by itself.
        stated: whether the configuration names a tolerance.
    """
    for (name, *values), share in zip(zip(names, *samples, strict=True), blind, strict=True):
        change = _change(values)
        # An error of a quarter of the move passes, and the outputs of two inputs are still told
        # apart.
        if share is not None and change is not None and share > TOLERATED * change:
            return StageError(
                Code.VERIFY_VACUOUS,
                f"output {name} moves by {change:.2g} of its scale for other inputs, and the "
                f"tolerance passes errors of {share:.2g}: what depends on the input would not show",
                "tighten verify.rtol and verify.atol, or leave them to be derived"
                if stated
                else "use inputs that the model responds to, or state verify.rtol and verify.atol",
            )
    return None


def rms(values: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64)))))


def finite(values: Array) -> bool:
    """Whether it holds neither NaN nor infinity; strings are neither."""
    return values.dtype.kind == "O" or bool(np.isfinite(values).all())


def _shape_and_numbers(name: str, samples: Sequence[Array]) -> StageError | None:
    if not samples[0].size:
        return _vacuous(f"output {name} is empty (shape {list(samples[0].shape)})", _accept(name))
    return None if all(map(finite, samples)) else _nonfinite(name)


def _nonfinite(name: str) -> StageError:
    return StageError(
        Code.VERIFY_NONFINITE,
        f"PyTorch gives NaN or infinity in output {name}",
        "give inputs in the range that the model expects (fill, low, high), or mend the model: "
        "for a mask filled with -inf return the mask, or fill with a finite value such as -1e4",
    )


def _accept(name: str) -> str:
    """How to say that an output is constant by right."""
    named = "NAME" if name.startswith("#") else name
    return f", or say that it is constant on purpose: outputs: {{{named}: {{constant: true}}}}"


def _change(values: Sequence[Array]) -> float | None:
    """Largest distance of a sample from the first, relative to its scale; ``None``: only one.

    Where the number of elements depends on the values, another shape counts as a full change.
    """
    moves = []
    for other in values[1:]:
        if other.shape != values[0].shape:
            moves.append(1.0)
            continue
        if other.dtype.kind == "O":  # of strings the share that differs
            moves.append(float(np.mean(other != values[0])))
            continue
        difference = rms(other.astype(np.float64) - values[0].astype(np.float64))
        scale = rms(values[0])
        moves.append(difference / scale if scale else float(difference > 0))
    return max(moves) if moves else None


def _vacuous(what: str, advice: str = "") -> StageError:
    return StageError(
        Code.VERIFY_VACUOUS,
        f"{what}: comparing it would accept any graph",
        f"use trained weights, or inputs that the model responds to{advice}",
    )
