"""Cases at which a difference says nothing: PyTorch itself does not know the answer there.

Values that users feed are also values at which models are ill-conditioned: the standard deviation
of equal elements, the order of equal scores. What PyTorch gives there is made by rounding, and a
right file gives something else. Such a case is left out, with the reason, rather than held against
the file; the traced example and the user's own cases are never left out.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from converter.errors import Code, StageError
from converter.job import CaseCheck
from converter.worker import numerics, structure
from converter.worker.reference import Reference, References

# Operators whose result depends on the order of equal elements.
_ORDERING = {"TopK", "NonMaxSuppression", "Unique"}
_STEPS = 16.0  # of float32, at the scale of the traced example's outputs


def reason(
    error: StageError,
    check: CaseCheck,
    reference: Reference,
    references: References,
    graph: ModelProto,
) -> str | None:
    """Why an error of a file at a case says nothing, or ``None`` where it does."""
    if error.code not in (Code.VERIFY_VALUE, Code.VERIFY_SHAPE):
        return None
    if unordered(reference, graph):
        return "equal elements have no order of their own"
    if error.code is Code.VERIFY_SHAPE:
        return None
    floors = references.noise_of(reference).floors
    wrong = [place for place, output in enumerate(check.outputs) if not output.passed]
    for place in wrong:
        floor = floors[place]
        if floor is not None and numerics.saturated(floor):
            continue
        if not _within_a_step(check, place, references):
            return None
    return "PyTorch's own rounding is too large there" if wrong else None


def unordered(reference: Reference, graph: ModelProto) -> bool:
    """Whether a case has many equal elements and a file operators that order them."""
    return reference.case.ties and _orders(graph)


def _orders(graph: ModelProto) -> bool:
    return any(node.op_type in _ORDERING for node in structure.nodes(graph.graph))


def _within_a_step(check: CaseCheck, place: int, references: References) -> bool:
    """Whether an error is no larger than rounding at the scale of the traced example."""
    error = check.outputs[place].max_abs
    values = references.cases[0].outputs[place]
    if error is None or values.dtype.kind != "f" or not values.size:
        return False
    scale = float(np.sqrt(np.mean(np.square(values.astype(np.float64)))))
    return error <= _STEPS * float(np.finfo(np.float32).eps) * scale
