"""Files in integers: whether they are, and what judges them in place of tolerances."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

from onnx import ModelProto, TensorProto

from converter.model.errors import Code, StageError
from converter.model.job import Derived, Job
from converter.model.records import CheckRecord
from converter.worker.onnxfile import precision as held
from converter.worker.onnxfile import quantised
from converter.worker.reference.reference import References
from converter.worker.verify import accuracy, quantised_weights, unquantised
from converter.worker.verify.quantised_weights import Compared
from converter.worker.verify.verification import Verdict

_OF_WEIGHTS = "the variant changed it: change a weight in the model, or before its float32 file"
_OF_THE_GRAPH = (
    "quantising added, left out or changed an operator: see which one (op_block_list), or leave "
    "this variant out"
)
# Cases on which the graph is compared: two, so that what one number makes equal shows.
_OF_GRAPH = 2
_OF_RANGES = "calibrate on samples of the scale that the model is verified on (`data`)"
# The least shares of weights and of multiplications. Tables of a language model may hold more than
# its matrices, which are all that has four bits.
# Layers that hold half of the weights may go back to float32, and biases stay there.
_LEAST = {"int8": (0.4, 0.2), "int4": (0.2, 0.5)}
_KINDS = {"int8": quantised.EIGHT, "int4": quantised.FOUR}


def check(model: ModelProto, job: Job, products: float | None) -> CheckRecord:
    """How much of a file is integers of the width that it is called by.

    Args:
        products: the share of its multiplications that are.

    Raises:
        StageError: PRECISION_NOT_REACHED.
    """
    weights = quantised.weights(model)
    count = sum(item.elements for item in weights if item.kind in _KINDS[job.precision])
    # Those of the other width are no weights of this one either; biases have 32 bits.
    narrow = quantised.EIGHT | quantised.FOUR
    others = sum(item.elements for item in weights if item.kind in narrow) - count
    others += held.float_elements(model, quantised.scales(model))
    share = count / (count + others) if count else 0.0
    record = CheckRecord(
        status="passed",
        precision_weights=round(share, 4),
        precision_macs=None if products is None else round(products, 4),
    )
    least_weights, least_products = _LEAST[job.precision]
    if count and share >= least_weights and (products or 0.0) >= least_products:
        return record
    reached = f"{share:.0%} of the weights and {products or 0.0:.0%} of the multiplications"
    raise StageError(
        Code.PRECISION_NOT_REACHED,
        f"only {reached} are {job.precision}" if count else f"no weight is {job.precision}",
        _advice(model, job),
    )


def _advice(model: ModelProto, job: Job) -> str:
    """What holds the rest in float32, and what to do about it."""
    options = job.options if isinstance(job, Derived) else {}
    stated = [key for key, value in options.items() if key.endswith("_block_list") and value]
    if stated:
        return f"shorten what is kept in float32 ({', '.join(stated)}), or leave this variant out"
    scales = quantised.scales(model)
    sizes = {
        tensor.name: math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in scales
    }
    held: Counter[str] = Counter()
    for node in model.graph.node:
        for name in node.input:
            # A weight that several read counts once.
            held[node.op_type] += sizes.pop(name, 0)
    most = ", ".join(f"{operator} ({count})" for operator, count in held.most_common(3) if count)
    if not most:
        return "leave this variant out, or choose another one for this model"
    return (
        f"most floats are weights of {most}, which this variant leaves as they are: choose another "
        "one for this model, or leave it out"
    )


def judged(
    verdict: Verdict,
    file: Path,
    parent: Path | None,
    references: References,
    job: Job,
    provider: str | None = None,
) -> Verdict:
    """The verdict with what the integers stand for, and how much of the signal they keep.

    Args:
        parent: the float32 file that it was made from, where it is at hand.
        provider: to run it on; ``None``: the standard one.
    """
    if verdict.error is not None:
        return verdict
    error, count, total, apart = None, None, None, None
    if parent is not None:
        error, compared, apart = _integers(verdict, file, parent, references)
        count, total = compared.weights, compared.weights + len(compared.unknown)
    found, missed = accuracy.judge(file, parent, references, job, verdict.undecided, provider)
    same = None if apart is None else not apart
    told = {"weights_compared": count, "weights": total, "same_graph": same}
    found = found.model_copy(update=told)
    error = error or missed
    if error is None:
        judged_by = (file, references, job, verdict.passed, verdict.undecided, found, provider)
        return _within(replace(verdict, accuracy=found), accuracy.beyond(*judged_by))
    changes = {"status": "failed", "reason": error.message}
    record = verdict.record.model_copy(update=changes)
    failed = references.cases[0]
    return replace(verdict, record=record, error=error, failed=failed, accuracy=found)


def _within(verdict: Verdict, beyond: dict[str, str]) -> Verdict:
    """The verdict without the cases that are beyond what the file was calibrated on."""
    if not beyond:
        return verdict
    cases = [check for check in verdict.record.cases if check.label not in beyond]
    return replace(
        verdict,
        record=verdict.record.model_copy(update={"cases": cases}),
        passed={label: good for label, good in verdict.passed.items() if label not in beyond},
        undecided={**verdict.undecided, **beyond},
    )


def _integers(
    verdict: Verdict, file: Path, parent: Path, references: References
) -> tuple[StageError | None, Compared, str | None]:
    """What is wrong with weights, graph or ranges; what became of the weights, and of the graph."""
    compared = quantised_weights.compare(parent, file)
    if compared.wrong:
        return StageError(Code.VERIFY_VALUE, compared.wrong, _OF_WEIGHTS), compared, None
    # Real samples where there are any: the traced example may be of another distribution.
    _, items = accuracy.measured(references, verdict.undecided)
    feeds = [references.feeds(item) for item in items[:_OF_GRAPH]]
    apart = unquantised.difference(file, parent, feeds)
    if apart:
        return StageError(Code.VERIFY_VALUE, apart, _OF_THE_GRAPH), compared, apart
    outside = quantised_weights.cut_off(parent, file, feeds[0])
    if outside:
        return StageError(Code.VERIFY_VALUE, outside, _OF_RANGES), compared, apart
    return None, compared, apart
