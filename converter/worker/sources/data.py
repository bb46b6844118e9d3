"""Real samples, and the function that scores outputs on them.

``samples`` yields them one by one and keeps nothing: verification takes a few, and whoever
calibrates a quantised file may take as many as there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.plan import samples as listing
from converter.plan.samples import DataFiles
from converter.worker.inputs import dtypes, tensors
from converter.worker.inputs.cases import Sample
from converter.worker.inputs.inputs import Array
from converter.worker.sources import importing

_SHOWN = 5


def for_verification(job: Job) -> tuple[list[Sample], list[str]]:
    """The samples that a file is verified on, and in words what is left out.

    Raises:
        StageError: as ``samples``.
    """
    data = job.data
    if data is None:
        return [], []
    if data.path is not None:
        more = len(listing.all_of_data(data)) - data.limit
        note = f"data: {more} more of {name(job)} (limit {data.limit})"
        return list(samples(job, data.limit)), [note] if more > 0 else []
    # One more than is taken shows that there are more.
    found = list(samples(job, data.limit + 1))
    note = f"data: more samples of {name(job)} (limit {data.limit})"
    return found[: data.limit], [note] if len(found) > data.limit else []


def samples(job: Job, limit: int | None = None) -> Iterator[Sample]:
    """The samples of a job's ``data``, in order.

    Args:
        limit: so many at most; ``None``: all.

    Raises:
        StageError: FORWARD, where there is none or one lacks an input; TARGET_DENIED or LOAD, for
            a function. What that raises itself passes through.
    """
    if job.data is None:
        return
    found = _of_function(job) if job.data.path is None else _of_files(job)
    none = True
    for sample in islice(found, limit):
        none = False
        yield sample
    if none:
        raise StageError(Code.FORWARD, f"data: {name(job)} yields no sample", "It must yield one.")


def metric(job: Job) -> Callable[..., Any] | None:
    """The function that scores outputs.

    Raises:
        StageError: TARGET_DENIED or LOAD.
    """
    return None if job.metric is None else _function(job.metric.target, job)


def name(job: Job) -> str:
    """How the data is called, the same on every machine: ``val/``, ``samples()``."""
    assert job.data is not None, "it is asked for a job with data"
    if job.data.path is not None:
        return listing.name_of(job.data.path)
    return f"{str(job.data.target).rpartition('.')[2]}()"


def _function(target: str, job: Job) -> Callable[..., Any]:
    found = importing.from_target(target, job.trust)
    if not callable(found):
        raise StageError(Code.LOAD, f"_target_ '{target}' is no function", "Name a function.")
    return cast("Callable[..., Any]", found)


def _of_function(job: Job) -> Iterator[Sample]:
    assert job.data is not None, "the caller has looked"
    target = str(job.data.target)
    found = _function(target, job)(**job.data.arguments)
    if not isinstance(found, Iterable):
        raise StageError(
            Code.FORWARD,
            f"data: {target} returns {type(found).__name__}; expected a mapping for each sample",
            "Yield {INPUT: array} for each sample, or return a list of such.",
        )
    for number, sample in enumerate(found):
        label = f"data {number}"
        if not isinstance(sample, Mapping):
            raise StageError(
                Code.FORWARD,
                f"{label}: {target} yields {type(sample).__name__}; expected a mapping by the "
                f"names of the inputs ({', '.join(job.inputs)})",
                "Yield {INPUT: array} for each sample.",
            )
        arrays = {str(key): _array(label, str(key), value) for key, value in sample.items()}
        yield _sample(label, arrays, job)


def _of_files(job: Job) -> Iterator[Sample]:
    assert job.data is not None, "the caller has looked"
    for number, files in enumerate(listing.all_of_data(job.data)):
        label = f"data {number}: {files.label}"
        if len(files.inputs) == 1 and files.inputs[0].endswith(".npz"):
            yield _sample(label, _archive(label, files.inputs[0]), job)
        else:
            yield _test_set(label, files, job)


def _archive(label: str, path: str) -> dict[str, Array]:
    try:
        # Unpickling would run code out of a file of data.
        with np.load(path, allow_pickle=False) as held:
            return dict(held.items())
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        raise StageError(
            Code.FORWARD,
            f"{label}: {path} cannot be read: {error}",
            "expected an .npz file: numpy.savez(FILE, INPUT=array)",
        ) from error


def _test_set(label: str, files: DataFiles, job: Job) -> Sample:
    """A folder of ONNX: inputs by position, whatever their tensors are called."""
    if len(files.inputs) != len(job.inputs):
        raise StageError(
            Code.FORWARD,
            f"{label} has {len(files.inputs)} inputs (input_0.pb, …), the model "
            f"{len(job.inputs)} ({', '.join(job.inputs)})",
            "Inputs of a test_data_set folder are matched by position.",
        )
    inputs = {own: _tensor(label, path) for own, path in zip(job.inputs, files.inputs, strict=True)}
    return Sample(label, inputs, outputs=[_tensor(label, path) for path in files.outputs])


def _tensor(label: str, path: str) -> Array:
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(Path(path).read_bytes())
        # It would name another file to read.
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("its data lies in another file")
        array: Array = onnx.numpy_helper.to_array(tensor)
    except (OSError, ValueError, TypeError, KeyError, DecodeError) as error:
        raise StageError(
            Code.FORWARD,
            f"{label}: {path} cannot be read: {error}",
            "expected a TensorProto, as onnx.save_tensor writes it",
        ) from error
    return array


def _array(label: str, key: str, value: Any) -> Array:
    array = tensors.array(value) if torch.is_tensor(value) else np.asarray(value)
    if array.dtype == object:
        raise StageError(
            Code.FORWARD,
            f"{label}: {key} is {type(value).__name__}, which is no array",
            "Yield arrays, tensors or numbers.",
        )
    return array


def _sample(label: str, arrays: dict[str, Array], job: Job) -> Sample:
    missing = [own for own in job.inputs if own not in arrays]
    if missing:
        held = ", ".join(list(arrays)[:_SHOWN]) or "nothing"
        raise StageError(
            Code.FORWARD,
            f"{label} has no {', '.join(missing)}; it holds {held}",
            "Name its arrays as the inputs; what else it holds goes to the metric.",
        )
    others = {key: array for key, array in arrays.items() if key not in job.inputs}
    inputs = {
        own: dtypes.fed(arrays[own], spec.dtype, spec.shape) for own, spec in job.inputs.items()
    }
    return Sample(label, inputs, others)
