"""Cases at which a difference says nothing: PyTorch itself does not know the answer there.

Values that users feed are also values at which models are ill-conditioned: the standard deviation
of equal elements, the order of equal scores. What PyTorch gives there is made by rounding, and a
right file gives something else. Such a case is left out, with the reason, rather than held against
the file; the traced example and the user's own cases are never left out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto
from onnx.reference import ReferenceEvaluator

from converter.model.errors import Code, StageError
from converter.model.records import CaseCheck
from converter.worker.compare import numerics
from converter.worker.compare.numerics import BOUNDS, Bounds
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure
from converter.worker.recording import stages
from converter.worker.reference.reference import Reference, References
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors

# Operators whose result depends on the order of equal elements.
_ORDERING = {"TopK", "NonMaxSuppression", "Unique"}
_LOOSE = 1e-4  # between two implementations, of what is left at a size of zero
_STEPS = 16.0  # of the precision, at the scale of the traced example's outputs


class Ordering:
    """What a file orders.

    Args:
        path: the file; ``graph`` is its structure.
        bounds: of the precision in which it computes.
    """

    def __init__(self, path: Path, graph: ModelProto, bounds: Bounds = BOUNDS["float32"]) -> None:
        # The file on disk, since its weights are needed to see what is ranked.
        self._path = path
        self._near_by = bounds.near
        # Of a subgraph too: that such an operator is there is enough for cases that are tied by
        # design.
        self.any = any(node.op_type in _ORDERING for node in structure.nodes(graph.graph))
        # What a subgraph orders cannot be made an output of the graph.
        self._nodes = [node for node in graph.graph.node if node.op_type == "TopK"]

    def equal(self, feeds: Mapping[str, Array]) -> bool:
        """Whether what it orders holds equal elements: also values far apart may saturate."""
        session = self._session if self._nodes else None
        if session is None:
            return False
        try:
            # By name: what was an output already was not added a second time.
            found = dict(
                zip(session.outputs, session.run(session.typed(feeds, cast=True)), strict=True)
            )
        except RuntimeErrors:
            return False
        nodes = (node for node in self._nodes if node.output[0] in found)
        return any(_near(found, node, self._near_by) for node in nodes)

    @functools.cached_property
    def _session(self) -> Session | None:
        """The file with what it orders among its outputs; ``None`` where it does not open."""
        model = onnx.load(self._path, format="protobuf")
        held = {value.name for value in model.graph.output}
        wanted = {name for node in self._nodes for name in (node.input[0], node.output[0]) if name}
        for name in sorted(wanted - held):
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        try:
            return Session(model.SerializeToString(), optimise=False)
        except (*RuntimeErrors, StageError, ValueError):  # a ValueError: over 2 GiB
            return None


def anyway(
    error: StageError,
    reference: Reference,
    references: References,
    ordering: Ordering,
    feeds: Mapping[str, Array],
) -> str | None:
    """Why an error of a file at a case says nothing however PyTorch rounds; ``None``: it may.

    Args:
        ordering: of the file.
        feeds: all that it is given in the case.
    """
    # A shape too: in another order another number of boxes may be left.
    if error.code not in (Code.VERIFY_VALUE, Code.VERIFY_SHAPE):
        return None
    if error.code is Code.VERIFY_VALUE and _rescaled(reference, references):
        # efficientnet_b0 grows ten times the input to a million, and then no kernel agrees.
        return "its random weights were fitted to inputs of another scale"
    # The case's own ties first: `equal` opens a session.
    if ordering.any and (reference.case.ties or ordering.equal(feeds)):
        return "equal elements have no order of their own"
    return None


def by_rounding(
    error: StageError, check: CaseCheck, reference: Reference, references: References
) -> str | None:
    """Why an error says nothing where PyTorch rounds as it does; ``None``: it is one."""
    # At larger inputs PyTorch itself may leave the range of 16 bits, where a file's infinity is no
    # news.
    drowned = error.code is Code.VERIFY_NONFINITE and is_larger(reference, references)
    if error.code is not Code.VERIFY_VALUE and not drowned:
        return None
    floors = references.noise_of(reference).floors
    # Only of lower precisions: in float32 such a case was dropped when the references were made.
    if references.precision != "float32" and _out_of_range(floors, references):
        return f"PyTorch itself is not finite there in {references.precision}"
    if drowned:
        return None
    # Each wrong output needs its own excuse; one that has none fails the case.
    wrong = [place for place, output in enumerate(check.outputs) if not output.passed]
    for place in wrong:
        floor, share = floors[place], check.outputs[place].rel_l2
        # Above the loosest bound only: within it the comparison has allowed for rounding already.
        if floor is not None and numerics.explained(share, floor, references.bounds):
            continue
        if not _within_a_step(check, place, references):
            return None
    return "PyTorch's own rounding is too large there" if wrong else None


def is_larger(reference: Reference, references: References) -> bool:
    """Whether a case has larger numbers than the example: zeros, or a closed mask, have none."""
    traced = references.cases[0].inputs
    return any(
        dtypes.is_float(reference.inputs[name])
        and np.abs(reference.inputs[name]).max(initial=0) > 2 * np.abs(traced[name]).max(initial=0)
        for name in reference.case.filled
    )


def _out_of_range(floors: Sequence[float | None], references: References) -> bool:
    """Whether rounding that can be measured elsewhere leaves nothing to measure in a case."""
    known = references.known_noise
    return known is not None and any(
        floor is None and usual is not None
        # Not measurable in this case and measurable in others: the case is what leaves the range.
        for floor, usual in zip(floors, known.floors, strict=True)
    )


def by_the_standard(
    error: StageError, path: Path, reference: Reference, feeds: Mapping[str, Array]
) -> str | None:
    """Why an error at a size of zero is not the file's; ``None``: it may be.

    ONNX Runtime has operators that refuse empty tensors, or give them another shape
    (``ReduceMean`` keeps the axis that it reduces). The file itself is right where the reference
    implementation of ONNX computes from it what PyTorch gives.
    """
    if 0 not in reference.case.sizes.values():
        return None
    found: list[Any] = []
    refused = stages.refusal(
        lambda: found.extend(ReferenceEvaluator(str(path)).run(None, dict(feeds)))
    )
    if refused is not None or len(found) != len(reference.outputs):
        return None
    for got, want in zip(found, reference.outputs, strict=True):
        if got.shape != want.shape or not np.allclose(got, want, _LOOSE, _LOOSE, equal_nan=True):
            return None
    return f"ONNX Runtime does not follow the standard on empty tensors: {error.message}"


def _rescaled(reference: Reference, references: References) -> bool:
    # Patterns leave the scale to which the weights were fitted. Other sizes do not.
    return references.conditioned and bool(reference.case.filled)


def _near(found: Mapping[str, Array], node: NodeProto, by: float) -> bool:
    """Whether two neighbours among those that a node takes, and the first that it leaves, agree."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    smallest = any(a.name == "largest" and a.i == 0 for a in node.attribute)
    # TopK stands on any axis, the last by default. It is moved to the end.
    values = np.moveaxis(found[node.input[0]].astype(np.float64), axis, -1)
    taken = found[node.output[0]].shape[axis]
    # Ascending, of the negated values where the largest are taken: the first `taken` are TopK's,
    # and one that it leaves, whose gap decides what is taken at all.
    ranked = np.sort(values if smallest else -values, axis=-1)[..., : taken + 1]
    gaps, sizes = np.diff(ranked, axis=-1), np.abs(ranked[..., 1:])
    return bool((gaps <= by * sizes).any())


def _within_a_step(check: CaseCheck, place: int, references: References) -> bool:
    """Whether an error is no larger than rounding at the scale of the traced example."""
    error = check.outputs[place].max_abs
    values = references.cases[0].outputs[place]
    if error is None or not dtypes.is_float(values) or not values.size:
        return False
    scale = float(np.sqrt(np.mean(np.square(values.astype(np.float64)))))
    return error <= _STEPS * references.bounds.step(np.dtype(np.float32)) * scale
