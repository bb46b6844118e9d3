"""What a conversion keeps for the artifacts that derive from its file.

A file of arrays with a header in JSON: the cases, what PyTorch gives in each, and how far rounding
may move that in each precision that is asked for. Whoever verifies a variant reads it and needs
neither the model nor its code. Nothing in it is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from converter.model.artifact import QUANTISED, rounding_of
from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec
from converter.model.job import Job
from converter.model.records import Domain, Sensitivity, VerifyRecord
from converter.model.spec import DimSpec
from converter.worker.compare import detections
from converter.worker.compare.numerics import Bounds, Edge, Noise, bounds_of
from converter.worker.compare.parts import Rounding
from converter.worker.inputs import dtypes
from converter.worker.inputs.cases import Case, Sample
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.patterns import Pattern
from converter.worker.reference.exploration import Explored
from converter.worker.reference.reference import Reference, References

FILE = "references.npz"
_HEADER = "header"


@dataclass(frozen=True)
class Kept:
    """What was kept.

    Attributes:
        references: with the bounds of one precision.
        job: with its inputs and axes, which an ONNX source knows first.
        domain: on which the parent was verified.
        reason: what the record of the parent says besides.
    """

    references: References
    job: Job
    domain: Domain | None
    reason: str | None


def write(
    path: Path, references: References, job: Job, verify: VerifyRecord, precisions: Sequence[str]
) -> None:
    """Keep the references of a verified file.

    Args:
        verify: of the file.
        precisions: for which the rounding of the model is measured, in each case.

    Raises:
        OSError: the file cannot be written.
    """
    arrays: dict[str, Array] = {}
    header = {
        # Arrays are filled in on the way, under keys that the header repeats.
        "cases": [_case(item, f"case{n}", arrays) for n, item in enumerate(references.cases)],
        "noise": {
            # References of their own: what is measured in one precision must not stay for the next.
            precision: _noises(references.in_precision(precision), f"{precision}.", arrays)
            for precision in precisions
        },
        "names": references.names,
        "detections": references.detections,
        "sensitivity": _dumped(references.sensitivity),
        "disabled_dropout": references.disabled_dropout,
        "dropped": references.dropped,
        "unproven": references.unproven,
        "conditioned": references.conditioned,
        "refused": references.explored.refused,
        "left_out": references.explored.left_out,
        "not_tried": references.explored.dropped,
        "inputs": {name: _dumped(spec) for name, spec in job.inputs.items()},
        "dynamic_axes": job.dynamic_axes,
        "dims": {symbol: _dumped(spec) for symbol, spec in job.dims.items()},
        "assumed": job.assumed,
        "domain": _dumped(verify.domain),
        "reason": verify.reason,
    }
    # As bytes of an array: text in an object array would have to be pickled.
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_HEADER: text}, **arrays)


def read(path: Path, job: Job) -> Kept:
    """Read what was kept, with the bounds of the job's precision.

    Raises:
        StageError: IO, when it is none or has no such bounds.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            header = json.loads(held[_HEADER].tobytes())
            precision = rounding_of(job.precision)
            bounds = bounds_of(precision, conditioned=header["conditioned"])
            if job.precision in QUANTISED:  # of which no rounding is measured
                noises = [Noise.none(len(case["outputs"]), bounds) for case in header["cases"]]
            else:
                noises = [
                    _noise(told, f"{precision}.case{n}", held, bounds)
                    for n, told in enumerate(header["noise"][precision])
                ]
            references = References(
                cases=[
                    _reference(case, f"case{n}", noises[n], held)
                    for n, case in enumerate(header["cases"])
                ],
                names=header["names"],
                detections=header["detections"],
                sensitivity=_read(Sensitivity, header["sensitivity"]),
                disabled_dropout=header["disabled_dropout"],
                dropped=header["dropped"],
                unproven=header["unproven"],
                conditioned=header["conditioned"],
                explored=Explored(
                    refused={
                        # JSON has made text of the numbers that were keys.
                        symbol: {int(size): why for size, why in sizes.items()}
                        for symbol, sizes in header["refused"].items()
                    },
                    dropped=header["not_tried"],
                    left_out=header["left_out"],
                ),
                precision=precision,
            )
    # A file that was cut off shows as any of these, depending on where.
    except (OSError, ValueError, KeyError, IndexError, BadZipFile) as error:
        raise StageError(Code.IO, f"{path.name} of the parent cannot be read: {error}") from error
    domain = _read(Domain, header["domain"])
    return Kept(references, job.model_copy(update=_of_job(header)), domain, header["reason"])


def judges(path: Path, job: Job) -> bool:
    """Whether what was kept has bounds of the job's precision: those of its variants alone are.

    A file that cannot be read is for ``read`` to refuse.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            header = json.loads(held[_HEADER].tobytes())
            return job.precision in QUANTISED or rounding_of(job.precision) in header["noise"]
    except (OSError, ValueError, KeyError, BadZipFile):
        return True


def _of_job(header: Mapping[str, Any]) -> dict[str, Any]:
    """What the worker that ran the model has found out about the job."""
    return {
        "inputs": {name: _read(InputSpec, spec) for name, spec in header["inputs"].items()},
        "dynamic_axes": {
            name: {int(axis): symbol for axis, symbol in axes.items()}
            for name, axes in header["dynamic_axes"].items()
        },
        "dims": {symbol: _read(DimSpec, spec) for symbol, spec in header["dims"].items()},
        "assumed": header["assumed"],
    }


def _dumped(model: Any) -> Any:
    return None if model is None else model.model_dump(mode="json")


def _read(kind: Any, value: Any) -> Any:
    return None if value is None else kind.model_validate_json(json.dumps(value))


def _case(item: Reference, key: str, arrays: dict[str, Array]) -> dict[str, Any]:
    case = item.case
    arrays |= {f"{key}.input.{name}": _stored(array) for name, array in item.inputs.items()}
    # Of a real sample what the metric asks for; a variant is scored on them too.
    others = case.real.others if case.real is not None else {}
    arrays |= {f"{key}.other.{name}": array for name, array in others.items()}
    arrays |= {f"{key}.output.{n}": _stored(array) for n, array in enumerate(item.outputs)}
    return {
        "label": case.label,
        "inputs": {name: _dumped(spec) for name, spec in case.inputs.items()},
        "sample": case.sample,
        "sizes": case.sizes,
        "base": case.base,
        # What a pattern draws is among the inputs. Its name and its ties are all that judging asks
        # for.
        "filled": {name: [p.name, p.ties] for name, p in case.filled.items()},
        "stated": case.stated,
        "others": None if case.real is None else list(others),
        "outputs": [dtypes.of(array) for array in item.outputs],
    }


def _stored(array: Array) -> Array:
    """As NumPy's files have it: they know no bfloat16, and would have to pickle objects."""
    if dtypes.is_narrow(array):
        return dtypes.bits(array)
    return array.astype(str) if array.dtype.kind == "O" else array


def _again(array: Array, dtype: str) -> Array:
    if dtype in dtypes.NARROW:
        return dtypes.of_bits(array, dtype)
    return array.astype(object) if dtype == "string" else array


def _reference(
    told: Mapping[str, Any], key: str, noise: Noise, held: Mapping[str, Array]
) -> Reference:
    specs = {name: _read(InputSpec, spec) for name, spec in told["inputs"].items()}
    inputs = {name: _again(held[f"{key}.input.{name}"], spec.dtype) for name, spec in specs.items()}
    real = None
    if told["others"] is not None:
        given = dict(inputs)
        others = {name: held[f"{key}.other.{name}"] for name in told["others"]}
        real = Sample(told["label"], given, others)
    case = Case(
        label=told["label"],
        inputs=specs,
        sample=told["sample"],
        sizes=told["sizes"],
        base=told["base"],
        filled={
            name: Pattern(pattern, _drawn, ties=ties)
            for name, (pattern, ties) in told["filled"].items()
        },
        stated=told["stated"],
        real=real,
    )
    return Reference(
        case,
        inputs,
        [_again(held[f"{key}.output.{n}"], dtype) for n, dtype in enumerate(told["outputs"])],
        noise=noise,
        # Without the model no more can be measured.
        exact=True,
    )


def _drawn(*_: Any) -> Array:
    raise AssertionError("the values of a kept case are kept too")


def _noises(references: References, key: str, arrays: dict[str, Array]) -> list[Any]:
    return [
        _keep_noise(references.noise_of(item), f"{key}case{n}", arrays)
        for n, item in enumerate(references.cases)
    ]


def _keep_noise(noise: Noise, key: str, arrays: dict[str, Array]) -> dict[str, Any]:
    for n, part in enumerate(noise.parts):
        for axis, values in part.slices.items():
            arrays[f"{key}.slices.{n}.{axis}"] = np.asarray(values)
    # Made now, since whoever reads this cannot run the model; it does without `_MORE_RUNS`.
    edge = noise.edge(detections.RUNS)
    for place, rows in edge.rows.items():
        arrays[f"{key}.edge.{place}"] = rows
    arrays[f"{key}.edge"] = edge.of
    return {
        "floors": noise.floors,
        "slices": [list(part.slices) for part in noise.parts],
        # Pairs, since the keys of a JSON object come back as text.
        "decades": [list(part.decades.items()) for part in noise.parts],
        "edge": list(edge.rows),
    }


def _noise(told: Mapping[str, Any], key: str, held: Mapping[str, Array], bounds: Bounds) -> Noise:
    parts = [
        Rounding(
            {axis: np.asarray(held[f"{key}.slices.{n}.{axis}"], np.float64) for axis in axes},
            {int(power): value for power, value in decades},
        )
        for n, (axes, decades) in enumerate(zip(told["slices"], told["decades"], strict=True))
    ]
    rows = {place: held[f"{key}.edge.{place}"] for place in told["edge"]}
    edge = Edge(rows, np.asarray(held[f"{key}.edge"], np.intp))
    return Noise(told["floors"], parts, lambda runs: edge, bounds)
