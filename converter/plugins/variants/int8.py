"""int8: weights and activations in 8 bits, with ranges from calibration samples (static QDQ)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from converter.model.records import CalibrationRecord
from converter.model.spec import ExportSpec
from converter.plugins.variants import Given, NothingToConvertError, _options

if TYPE_CHECKING:
    from onnx import ModelProto

FORMAT = "onnx"
PRECISION = "int8"
PACKAGES = ("onnx", "onnxruntime")

# The layers whose multiplications are worth it; alone they are quantised in what has products of
# its own, a transformer: with its sums and normalisations vit_b_16 has 22 dB in place of 28.
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_OTHERWISE = "int8_dynamic quantises LSTM; GRU and RNN have no form in 8 bits"
# Drawn inputs are alike: more of them show the same ranges.
_DRAWN = 8


class Options(_options.InEightBits):
    """What the quantiser may be told.

    Attributes:
        calibration: how the range of an activation follows from samples: the largest values
            (``minmax``), the range that keeps most of their distribution (``entropy``), or the one
            that holds ``percentile`` percent of them.
        percentile: for ``calibration: percentile``.
        samples: to calibrate on, of the model's ``data``; of drawn inputs 8 at most, and one of
            each further size that is verified.
        per_channel: a scale for each output channel of a weight.
        activations: type of activations; ``int8`` for accelerators that take no other.
    """

    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    # The key of the store has the hashes of so many.
    samples: Annotated[int, Field(ge=1, le=1000)] = 32
    per_channel: bool = True
    activations: Literal["uint8", "int8"] = "uint8"


def keeps_io(options: Options) -> bool:
    return True


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``parent`` with 8-bit weights and activations.

    Raises:
        NothingToConvertError: the model has no layer that can be quantised.
        ValueError: an option names what the model does not have, or there is no sample.
    """
    # Here, since the parent process reads the options above and imports no onnx.
    from converter.plugins.variants import (
        _calibration,
        _fallback,
        _mishandled,
        _positions,
        _quantised,
    )
    from converter.worker.onnxfile import publishing

    model = _quantised.ready(parent, _quantised.PER_CHANNEL, given)
    operators = _operators(model, options)
    layers = _layers(model, operators, options)
    ranges, count = _calibration.ranges(
        model,
        operators,
        _samples(options, given),
        method=options.calibration,
        percentile=options.percentile,
        threads=given.threads,
    )
    left_out = _unbounded(model, _calibration.unbounded(ranges), given)
    wrong = _mishandled.static(model)
    excluded = [*options.node_block_list, *left_out, *_positions.nodes(model), *wrong]
    _tell(given, *(f"{name} stays in float32: {why}" for name, why in wrong.items()))
    _tell_grouped(model, options, given)
    quantise = _Quantiser(parent, model, ranges, operators, options, excluded)
    kind: Literal["data", "drawn"] = "data" if given.real else "drawn"
    record = CalibrationRecord(kind=kind, method=options.calibration, samples=count)
    given.made = given.made.model_copy(update={"calibration": record})
    groups = _groups(model, [name for name in layers if name not in excluded], operators)
    if not groups:
        raise NothingToConvertError("nothing to quantise: every layer is left out")
    found = _fallback.search(quantise, parent, groups, options.fallback_tries, given)
    publishing.save(found, target, ExportSpec())


class _Quantiser:
    """Makes the quantised model anew each time: the quantiser changes what it is given."""

    def __init__(
        self,
        parent: Path,
        model: ModelProto,
        ranges: Any,
        operators: list[str],
        options: Options,
        excluded: Sequence[str],
    ) -> None:
        self._parent = parent
        self._model = model
        self._ranges = ranges
        self._operators = operators
        self._options = options
        self._excluded = list(excluded)
        self._per_tensor = _alone(model) if options.per_channel else []

    def __call__(self, in_float: Sequence[str]) -> ModelProto:
        """The model with these nodes left in float32."""
        from onnx import ModelProto
        from onnxruntime.quantization import QDQQuantizer, QuantType

        from converter.plugins.variants import _quantised

        copy = ModelProto()
        copy.CopyFrom(self._model)
        quantizer = QDQQuantizer(
            copy,
            self._options.per_channel,
            bool(self._options.reduce_range),
            QuantType.QInt8,
            QuantType.QUInt8 if self._options.activations == "uint8" else QuantType.QInt8,
            self._ranges,
            [],
            [*self._excluded, *in_float],
            self._operators,
            {
                "WeightSymmetric": True,
                "ActivationSymmetric": self._options.activations == "int8",
                "TensorQuantOverrides": {key: [{"symmetric": True}] for key in self._per_tensor},
            },
        )
        with _quantised.explained("op_block_list, node_block_list"):
            quantizer.quantize_model()
        quantizer.model.topological_sort()
        return _quantised.finished(quantizer.model.model, self._parent)


def _grouped(model: ModelProto) -> list[str]:
    """Weights of transposed convolutions in groups.

    ONNX Runtime's quantizer counts the channels of one group, and gives the bias, which has those
    of all, as many scales (1.31).
    """
    held = {tensor.name for tensor in model.graph.initializer}
    return [
        node.input[1]
        for node in model.graph.node
        if node.op_type == "ConvTranspose"
        and node.input[1] in held
        and any(item.name == "group" and item.i > 1 for item in node.attribute)
    ]


def _alone(model: ModelProto) -> list[str]:
    """Weights that get one scale for all channels."""
    from converter.plugins.variants import _mishandled

    return [*_grouped(model), *_mishandled.stacked(model)]


def _tell(given: Given, *notes: str) -> None:
    given.made = given.made.model_copy(update={"notes": [*given.made.notes, *notes]})


def _tell_grouped(model: ModelProto, options: Options, given: Given) -> None:
    found = _grouped(model) if options.per_channel else []
    if found:
        said = (
            f"one scale for all channels of {', '.join(found[:3])}: ONNX Runtime's quantizer has "
            "no scales per channel for ConvTranspose in groups"
        )
        _tell(given, said)


def _operators(model: ModelProto, options: Options) -> list[str]:
    """The operators that are quantised."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    known = sorted({*QDQRegistry, *QLinearOpsRegistry})
    # Blocked ones may be any that the model has; those to quantise ONNX Runtime must know.
    unknown = [name for name in options.op_types if name not in known]
    if unknown:
        raise ValueError(
            f"op_types: ONNX Runtime quantises no {', '.join(unknown)}; it does {', '.join(known)}"
        )
    present = {node.op_type for node in model.graph.node}
    usual = list(_LAYERS) if "MatMul" in present else known
    chosen = options.op_types or usual
    return [name for name in chosen if name not in options.op_block_list]


def _layers(model: ModelProto, operators: Sequence[str], options: Options) -> list[str]:
    """The nodes that multiply, of which at least one has to be quantised."""
    from converter.plugins.variants import _quantised

    _quantised.require(model, options.node_block_list)
    found = _quantised.nodes_of(model, set(_LAYERS) & set(operators))
    if not found:
        taken = set(_LAYERS) & set(options.op_types or _LAYERS) - set(options.op_block_list)
        advice = _OTHERWISE if not options.op_types and not options.op_block_list else ""
        raise NothingToConvertError(_quantised.nothing(model, taken, advice=advice))
    _quantised.refuse_recurrent(model)
    return found


def _groups(
    model: ModelProto, layers: Sequence[str], operators: Sequence[str]
) -> dict[str, list[str]]:
    """Each layer with the quantised nodes behind it, up to the next layer.

    A layer alone would be in float between integers: its neighbours quantise what it reads and
    gives.
    """
    groups = {name: [name] for name in layers}
    order = {name: place for place, name in enumerate(layers)}
    # Tensor → the last layer that it comes from.
    owner: dict[str, str] = {}
    for node in model.graph.node:
        if node.name in groups:
            last = node.name
        else:
            before = [owner[name] for name in node.input if name in owner]
            if not before or node.op_type in _LAYERS:
                continue
            last = max(before, key=order.__getitem__)
            if node.op_type in operators:
                groups[last].append(node.name)
        owner.update(dict.fromkeys(filter(None, node.output), last))
    return groups


def _samples(options: Options, given: Given) -> Iterator[Mapping[str, Any]]:
    if given.real:
        return given.samples(options.samples)
    # A range may grow with the size: one at each that is verified, beside those of the example's.
    shapes = {
        tuple((name, array.shape) for name, array in sorted(case.items())) for case in given.cases
    }
    return given.samples(min(options.samples, _DRAWN) + len(shapes) - 1)


def _unbounded(model: ModelProto, tensors: set[str], given: Given) -> list[str]:
    """Nodes that touch infinity, such as a closed mask: no scale covers it."""
    found = [
        node.name
        for node in model.graph.node
        if not tensors.isdisjoint(node.input) or not tensors.isdisjoint(node.output)
    ]
    if found:
        said = (
            f"{len(found)} nodes stay in float32, for their tensors hold infinity: "
            f"{', '.join(found[:3])}"
        )
        _tell(given, said)
    return found
