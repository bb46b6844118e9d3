"""Damage a verified file on purpose: a comparison that does not notice it proves nothing.

Each damaged copy differs in one initializer. It is *noticed* when the verification rejects it. It
is *equivalent* when its outputs stay as near to the sound file's as the rounding of the model would
let a right file stray: a bias before a BatchNorm in training mode can be negated, and only the
rounding differs. What is neither shows that the tolerances, or the inputs, let a wrong file pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import MutationRecord, VerifyRecord
from converter.model.spec import VerifySpec
from converter.worker.compare.numerics import Noise
from converter.worker.compare.outputs import compare
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking, publishing, quantised, structure
from converter.worker.reference import training
from converter.worker.reference.reference import References
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors
from converter.worker.verify.verification import Verdict, verify


def _scaled(values: Any) -> Any:
    if values.dtype.kind in "iu":
        ends = np.iinfo(values.dtype)
        return np.clip(np.rint(values * 1.1), ends.min, ends.max).astype(values.dtype)
    return (values * values.dtype.type(1.1)).astype(values.dtype)


Judge = Callable[[Path, Verdict], StageError | None]
"""What is wrong with a damaged copy beyond what its outputs show, which the verdict is on."""
DAMAGES: dict[str, Callable[[Any], Any]] = {
    # A lost weight, one of the wrong sign, and one that is off by so little that only a tight bound
    # shows it.
    "zeroed": np.zeros_like,
    "negated": lambda values: -values,
    "x 1.1": _scaled,
}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_INTEGERS = quantised.EIGHT | quantised.FOUR


class Sound:
    """What a sound file computes on some inputs, and how far its own rounding moves that.

    Attributes:
        noise: for each output the largest relative L2 distance of the file to itself without
            optimisations, of PyTorch rounded otherwise, and between two neighbouring numbers.
    """

    def __init__(
        self, file: Path, references: References, feeds: Sequence[Mapping[str, Array]], threads: int
    ) -> None:
        self._references = references
        self._feeds = feeds
        self._threads = threads
        self._names: list[str] = []
        self._outputs = self._run(file)
        # The same sums in another order: as far as a right file may be from itself.
        plain = _distances(self._run(file, optimise=False), self._outputs)
        self.noise = [
            # Without the step a file that does not round would call the next number damage.
            max(distance, floor or 0.0, _step(output))
            for distance, floor, output in zip(
                plain, references.noise.floors, self._outputs[0], strict=True
            )
        ]

    def difference(self, file: Path) -> str | None:
        """The output that another file changes, and by how much; ``None``: none beyond rounding."""
        members, noise = self._references.detections, self._rounding()
        for want, got in zip(self._outputs, self._run(file), strict=True):
            # By derived tolerances, also where the job states some: whether those are too loose is
            # the question.
            for item in compare(self._names, want, got, VerifySpec(), noise, members):
                if item.code is not None:
                    share = item.check.rel_l2
                    by = "" if share is None else f" by {share:.2g} of its scale"
                    return f"{item.check.name}{by}"
        return None

    def _rounding(self) -> Noise:
        """Of detections, whose rows rounding may swap, only what was measured on pairs."""
        measured = self._references.noise
        floors = [
            floor if place in self._references.detections.values() else noise
            for place, (floor, noise) in enumerate(zip(measured.floors, self.noise, strict=True))
        ]
        return replace(measured, floors=floors)

    def moves(self, file: Path) -> list[float]:
        """For each output the largest relative L2 distance of another file to the sound one."""
        try:
            return _distances(self._run(file), self._outputs)
        # Damage may leave a file that opens and does not run.
        except RuntimeErrors:
            return [float("inf")] * len(self.noise)

    def _run(self, file: Path, *, optimise: bool = True) -> list[list[Array]]:
        with training.comparable(file, self._references.disabled_dropout) as runnable:
            session = Session(runnable, optimise=optimise, threads=self._threads)
        self._names = session.outputs
        return [session.run(feed) for feed in self._feeds]


def prove(
    file: Path,
    verdict: Verdict,
    references: References,
    job: Job,
    parameters: Mapping[str, Array],
    scratch: Path,
    judge: Judge | None = None,
) -> Verdict:
    """Verify ``job.verify.mutations`` damaged copies of a file that is right.

    Args:
        file: that would ship; ``verdict`` is the one that it passed with.
        scratch: folder for the damaged copies.
        judge: what judges a file of another precision besides its outputs.

    Returns:
        ``verdict`` with the count, or VERIFY_VACUOUS where a damage passes that a comparison
        could tell from rounding.
    """
    model = onnx.load(file, format="protobuf", load_external_data=False)
    damages = _damages(model, job.verify.mutations or 0)
    if not damages:
        none = MutationRecord(reason="the file has no floating-point initializer to damage")
        return Verdict(verdict.record.model_copy(update={"mutation": none}))
    copy = scratch / "damaged.onnx"
    sound: Sound | None = None
    noticed = equivalent = 0
    missed: list[str] = []
    for name, kind in damages:
        # Read anew each time: saving external data takes the weights out of the model.
        publishing.save(damaged(file, name, kind), copy, job.export)
        if _wrong(copy, references, job, parameters, judge):
            noticed += 1
            continue
        # Only for damage that passes, which is rare: it costs two sessions and all cases.
        sound = sound or Sound(file, references, _feeds(references, parameters), job.threads)
        changed = sound.difference(copy)
        if changed is None:
            equivalent += 1
        else:
            # Not stopped here: the row counts all that was tried.
            missed.append(f"{name} ({kind}), which changes output {changed}")
    names = ", ".join(dict.fromkeys(name for name, _ in damages[:3]))
    count = MutationRecord(applied=len(damages), noticed=noticed, equivalent=equivalent)
    record = verdict.record.model_copy(update={"mutation": count})
    # Where every damage is equivalent, no output depends on any weight that was tried.
    if not noticed and not missed:
        missed = [f"any of {len(damages)} initializers: {names}"]
    return _vacuous(record, missed, job) if missed else Verdict(record)


def _wrong(
    copy: Path,
    references: References,
    job: Job,
    parameters: Mapping[str, Array],
    judge: Judge | None,
) -> bool:
    # By the bounds of the job: they are what is put to the test.
    found = verify(copy, references, job, parameters=parameters)
    return found.error is not None or (judge is not None and judge(copy, found) is not None)


def _damages(model: ModelProto, count: int) -> list[tuple[str, str]]:
    """At most ``count`` pairs of initializer and damage: other initializers first."""
    names, kinds = initializers(model, count), list(DAMAGES)
    pairs = [
        # Neighbours are damaged in different ways, so that few copies try all of them.
        (name, kinds[(number + turn) % len(kinds)])
        for turn in range(len(kinds))
        for number, name in enumerate(names)
    ]
    return pairs[:count]


def initializers(model: ModelProto, count: int) -> list[str]:
    """At most ``count`` floating-point initializers, evenly spread over the order of their use."""
    integers = [item for item in quantised.weights(model) if item.kind in _INTEGERS]
    # Of a quantised file its weights: floats are scales there, and biases follow from them.
    held = {item.name for item in integers} or {
        tensor.name for tensor in model.graph.initializer if tensor.data_type in _FLOATS
    }
    # In the order of their use: the file may keep initializers in any order.
    used = [name for name in dict.fromkeys(structure.references(model.graph)) if name in held]
    if len(used) <= count:
        return used
    return [used[round(i * (len(used) - 1) / max(count - 1, 1))] for i in range(count)]


def damaged(file: Path, name: str, kind: str) -> ModelProto:
    """The model of a file with one initializer damaged."""
    model = checking.load(file)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = DAMAGES[kind](numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return model


def _feeds(references: References, parameters: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Those of the stated cases: a pattern of values may be one at which everything is rounding."""
    stated = [item for item in references.cases if item.case.stated]
    return [{**references.feeds(item), **parameters} for item in stated]


def _vacuous(record: VerifyRecord, missed: Sequence[str], job: Job) -> Verdict:
    stated = job.verify.rtol is not None or job.verify.atol is not None
    error = StageError(
        Code.VERIFY_VACUOUS,
        f"the comparison does not notice damage to {'; '.join(missed[:3])}",
        "tighten verify.rtol and verify.atol, or leave them to be derived"
        if stated
        else "state verify.rtol and verify.atol, or give inputs that the model responds to",
    )
    changes = {"status": "vacuous", "reason": error.message}
    return Verdict(record.model_copy(update=changes), error)


def _distances(found: Sequence[Sequence[Array]], wanted: Sequence[Sequence[Array]]) -> list[float]:
    """For each output the largest relative L2 distance over all inputs."""
    return [
        max(_distance(got[index], want[index]) for got, want in zip(found, wanted, strict=True))
        for index in range(len(wanted[0]))
    ]


def _distance(got: Array, want: Array) -> float:
    if want.dtype.kind == "O" and got.shape == want.shape:  # strings
        return float("inf") if np.any(got != want) else 0.0
    # A shape that depends on values is moved beyond any rounding.
    if got.shape != want.shape or not np.isfinite(got).all():
        return float("inf")
    exact = want.astype(np.float64)
    scale = float(np.linalg.norm(exact))
    error = float(np.linalg.norm(got.astype(np.float64) - exact))
    return error / scale if scale else float(error > 0)


def _step(values: Any) -> float:
    """The relative distance of neighbouring numbers of a dtype; 0 for what is exact."""
    return dtypes.eps(values.dtype) if dtypes.is_float(values) else 0.0
