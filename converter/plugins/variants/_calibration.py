"""The range of every activation that is quantised, as calibration samples show it.

By minimum and maximum here; by entropy and percentile with the histograms of ONNX Runtime's
quantizer. Its own calibration starts sessions on all cores, whose idle threads spin, and writes
three copies of the model.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from converter.worker.runtime.session import Session

Array = NDArray[Any]

# Entropy compares as many ways to cut a histogram off as it has bins more than these: 193 at 512,
# in about 0.1 s a tensor. The quantizer's own default of 128 leaves it one, which is the maximum.
_BINS = {"entropy": 512, "percentile": 2048}
_LEVELS = 128


def ranges(
    model: ModelProto,
    operators: Iterable[str],
    samples: Iterable[Mapping[str, Array]],
    *,
    method: str,
    percentile: float,
    threads: int,
) -> tuple[Any, int]:
    """The ranges of activations, and how many samples they are of.

    Args:
        model: with its weights and the types of its tensors.
        operators: whose inputs and outputs are measured.
        samples: by the names of the inputs.
        method: ``minmax``, ``entropy`` or ``percentile``.
        percentile: of ``percentile`` the share that the range holds, in percent.

    Returns:
        ``TensorsData`` of ``onnxruntime.quantization``, and the number of samples.

    Raises:
        ValueError: there is no sample.
        StageError: SESSION, when ONNX Runtime refuses the model.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    session, names = _exposed(model, set(operators), threads)
    collected = _Extremes() if method == "minmax" else _Histograms(method, percentile)
    count = 0
    for sample in samples:
        found = dict(zip(session.outputs, session.run(sample), strict=True))
        collected.add({name: found[name] for name in names})
        count += 1
    if not count:
        raise ValueError("there is no sample to calibrate on")
    kinds = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    return TensorsData(kinds[method], collected.ranges()), count


def _exposed(model: ModelProto, operators: set[str], threads: int) -> tuple[Session, list[str]]:
    """The model with the activations of these operators among its outputs, and their names."""
    graph = model.graph
    values = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
    held = {tensor.name for tensor in graph.initializer}
    used = [
        name
        for node in graph.node
        if node.op_type in operators and not node.domain
        for name in (*node.input, *node.output)
    ]
    names = [
        name
        for name in dict.fromkeys(used)
        if name in values
        and name not in held
        and values[name].type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    outputs = {value.name for value in graph.output}
    added = [name for name in names if name not in outputs]
    # Put back below: a copy would hold all weights a second time.
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in added)
    try:
        session = Session(model.SerializeToString(), optimise=False, threads=threads)
    finally:
        del graph.output[len(graph.output) - len(added) :]
    return session, names


class _Extremes:
    """Minimum and maximum over all samples."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Array, Array]] = {}

    def add(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if not array.size:
                continue
            low, high = array.min(), array.max()
            if name in self._found:
                low, high = min(low, self._found[name][0]), max(high, self._found[name][1])
            self._found[name] = np.asarray(low), np.asarray(high)

    def ranges(self) -> dict[str, tuple[Array, ...]]:
        return dict(self._found)


class _Histograms:
    """The histograms of ONNX Runtime's quantizer."""

    def __init__(self, method: str, percentile: float) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self._collector = HistogramCollector(
            method=method,
            symmetric=False,
            num_bins=_BINS[method],
            num_quantized_bins=_LEVELS,
            percentile=percentile,
            scenario="same",
        )

    def add(self, arrays: Mapping[str, Array]) -> None:
        filled = {name: [array] for name, array in arrays.items() if array.size}
        self._collector.collect(filled)

    def ranges(self) -> dict[str, tuple[Array, ...]]:
        # It prints what it does.
        with contextlib.redirect_stdout(io.StringIO()):
            found: dict[str, tuple[Array, ...]] = self._collector.compute_collection_result()
        return found


def unbounded(ranges: Any) -> set[str]:
    """Tensors that hold infinity or NaN: no scale covers them."""
    return {
        name
        for name, found in ranges.items()
        if not (np.isfinite(found.lowest).all() and np.isfinite(found.highest).all())
    }
