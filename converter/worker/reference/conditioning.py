"""Condition random weights, so that comparing outputs can tell a right file from a wrong one.

torchvision's initialisation lets signals vanish: of its 121 models, 25 give outputs below 1e-3
(EfficientNet 1e-20, ViT exactly 0), and any graph passes for them. Here every layer gets weights
under which its output keeps a scale of about one and depends on the input and on all its
parameters: fan-in normal matrices (LeCun et al., "Efficient BackProp", 1998), constants jittered
around their value, batch statistics taken from a forward pass, and the outputs of
convolutions and linear layers scaled to unit variance in the same pass (Mishkin and Matas, "All
you need is a good init", 2016).

Weights that came from a file or from the network are never touched; ``weights: conditioned``
states that a builder of the user's reads none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.inputs import dtypes
from converter.worker.inputs.cases import Case
from converter.worker.inputs.inputs import Array
from converter.worker.reference import threads
from converter.worker.reference.execution import REFUSALS, Runner, replica, tensors
from converter.worker.runtime.starting import first_line
from converter.worker.sources import calling
from converter.worker.sources.loading import Loaded

# Spread of what was constant: enough that a lost bias or scale shows, small enough to stay stable.
_JITTER = 0.2
_SMALL_BIAS = 0.1
# Tables and tokens that start at zero: position biases, class tokens.
_TABLE = 0.5
# A constant scale below this is a layer scale that would hide its branch (ConvNeXt: 1e-6).
_VANISHING = 1e-3
# So is one that was drawn around zero, as if it were a matrix (MobileViT of transformers: ±0.02):
# each layer then hands on its bias, and no input is left after ten of them.
_AROUND_ZERO = 0.1
# Half the usual scale after a batch normalisation lets a residual block add to its input without
# drowning it: rounding errors then grow slowly through 80 blocks (efficientnet_v2_l: 3e-3 → 1e-5).
_NORMALISED = 0.5
# A layer that feeds itself (RAFT: 12 updates of a flow) must shrink what it gets, or it turns
# rounding errors into other results. It meets the same shape each time; the heads of a detector,
# which run once for each level of a pyramid, meet another, and four of them in a row would let
# the signal die.
_REPEATED = 0.5
# Batch statistics of one sample may fit no other: 40 layers on (efficientnet_b5) a second one would
# be a thousand times too large. Most models need only one, which takes a quarter of the time.
SEVERAL = 4
# A second sample whose outputs are so many times as large or as small does not fit.
_UNSTEADY = 3.0
# Fewer values than this in a channel say nothing about its variance.
_FEW = 8
_SCALED = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


def applies(loaded: Loaded, job: Job) -> bool:
    """Only where the weights are random by construction: a builder of the registry made them.

    A builder of the user's may have read trained weights, and those are not ours to touch, unless
    ``weights: conditioned`` says so.
    """
    drawn = job.weights == "random" and job.source.kind == "registry"
    return (drawn or job.weights == "conditioned") and loaded.kind == "module"


def advised(error: StageError | None, job: Job) -> StageError | None:
    """VERIFY_VACUOUS with a further way out, where conditioning is one and was not asked for."""
    own = job.source.kind in ("target", "file") and job.weights == "random"
    if error is None or error.code is not Code.VERIFY_VACUOUS or not own:
        return error
    hint = f"{error.hint}; where its weights are untrained: weights: conditioned redraws them"
    return StageError(error.code, error.message, hint)


def unsteady(loaded: Loaded, samples: Sequence[Sequence[Array]]) -> bool:
    """Whether batch statistics that were taken from one sample do not fit the others.

    Args:
        samples: the outputs for inputs of one shape, the calibrated one first.
    """
    if not loaded.conditioned or not _statistics(loaded.model):
        return False
    first, *others = samples
    for place, wanted in enumerate(first):
        scale = _scale(wanted)
        for other in others:
            # Outputs of whole numbers have no scale, and lists of other lengths no common one.
            if not dtypes.is_float(wanted) or other[place].shape != wanted.shape or scale == 0:
                continue
            if not scale / _UNSTEADY <= _scale(other[place]) <= scale * _UNSTEADY:
                return True
    return False


def _scale(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64))))) if values.size else 0.0


def _statistics(model: Any) -> list[Tensor]:
    return [
        buffer
        for name, buffer in model.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    ]


def prepare(loaded: Loaded, job: Job, samples: int = 1) -> bool:
    """Condition the weights of a model where ``applies`` says so; gives whether it did.

    Through a replica, which takes what the pass leaves behind.

    Args:
        samples: that batch statistics are taken from.
    """
    if not applies(loaded, job):
        return False
    # All graphs of a model get the weights that fit the first of them.
    job = job if job.first is None else job.model_copy(update=dict(job.first))
    run = Runner(calling.called(loaded, job), job, warn=lambda text: None)
    # It shares parameters and batch statistics: what is set in the replica is set in the model.
    model: Any = replica(loaded.model, *_statistics(loaded.model))
    part = calling.called(replace(loaded, model=model), job).model
    batch: dict[str, Array] = {}

    def forward() -> None:
        run.forward(tensors(batch, loaded.device), model=part)

    for count in dict.fromkeys((samples, 1)):  # some models take no other batch
        batch = _batch(job, count)
        try:
            with threads.own(job):
                condition(model, forward, job.seed)
        except REFUSALS as error:
            # Not an error of the job: the reference stage runs the model without it, and judges its
            # outputs.
            print(f"no conditioning with {count} samples: {first_line(error)}")
        else:
            return True
    return False  # the reference stage meets the same error, and tells it


def _batch(job: Job, count: int) -> dict[str, Array]:
    """``count`` samples of each input, the ones to be verified first, joined along axis 0."""
    samples = [Case("", job.inputs, number).draw(job.seed) for number in range(count)]
    # An input without axes has none to be joined along.
    return {
        name: np.concatenate([np.atleast_1d(sample[name]) for sample in samples])
        if count > 1
        else samples[0][name]
        for name in job.inputs
    }


def condition(model: nn.Module, forward: Callable[[], object], seed: int) -> None:
    """Redraw the parameters of ``model`` in place, the same for the same seed.

    ``forward`` runs the model once on an example; it sees the model in eval mode.
    """
    # A generator of its own: what the model draws at random stays that of the job's seed.
    generator = torch.Generator().manual_seed(seed)
    training = {module: module.training for module in model.modules()}
    # So that each layer is fed by the statistics which the hooks have just set before it.
    model.eval()
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.is_floating_point():
                    _redraw(module, name, parameter, generator)
        # Once all weights are drawn: what a layer is fed depends on those before it.
        with _Calibration(model, generator):
            forward()
    for module, mode in training.items():
        # Each by itself: `model.train()` would also wake the parts that were frozen on purpose.
        module.training = mode


def _redraw(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    # By name too: a table of positions has two axes, and is no matrix.
    matrix = parameter.dim() >= 2 and name.endswith("weight")
    first = float(parameter.flatten()[0]) if parameter.numel() else 0.0
    constant = _constant(parameter, first)
    if isinstance(module, nn.Embedding):
        _draw(parameter, generator)
    # Fan-in: each output is a sum of that many products. Where the first axis is not the outputs
    # (transposed convolutions) calibration sets the scale.
    elif matrix and (isinstance(module, _SCALED) or not constant or first == 0):
        _draw(parameter, generator).div_(math.sqrt(max(1, parameter[0].numel())))
    else:
        _vary(module, name, parameter, first, generator, constant=constant)


def _constant(parameter: Tensor, first: float) -> bool:
    # Hardly any is, and the first few tell: whole matrices of a large model take a tenth of a
    # second.
    few = parameter.flatten()[:_FEW]
    return bool((few == first).all()) and bool((parameter == first).all())


def _draw(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Fill a parameter with numbers of the normal distribution."""
    # In place where it gives the same numbers: memory that was never touched takes longer to get
    # than to fill. Drawn on the CPU, so that a model on a device gets the same numbers.
    plain = parameter.dtype is torch.float32 and parameter.device.type == "cpu"
    if plain and parameter.is_contiguous():
        return parameter.normal_(generator=generator)
    return parameter.copy_(torch.randn(parameter.shape, generator=generator))


def _vary(
    module: nn.Module,
    name: str,
    parameter: Tensor,
    first: float,
    generator: torch.Generator,
    *,
    constant: bool,
) -> None:
    """Set what is no matrix: biases, scales, tables."""
    noise = torch.randn(parameter.shape, generator=generator).to(parameter)
    # All zero, or drawn with next to no spread (biases of vision transformers: 1e-6).
    vanishes = first == 0 if constant else float(parameter.square().mean()) < _VANISHING**2
    batch = isinstance(getattr(module, "running_var", None), Tensor)
    if vanishes:
        parameter.copy_(noise * (_SMALL_BIAS if name.endswith("bias") else _TABLE))
    elif constant:
        scale = 1.0 if abs(first) < _VANISHING else first
        parameter.copy_(scale * (_NORMALISED if batch else 1.0) * (1 + _JITTER * noise))
    elif batch and name == "weight" and float(parameter.abs().mean()) < _AROUND_ZERO:
        parameter.copy_(_NORMALISED * (1 + _JITTER * noise))
    # What was drawn at random and is no matrix (a bias, a position table) stays as it is.


class _Calibration:
    """Within it, one forward pass sets batch statistics and the scale of each layer."""

    def __init__(self, model: nn.Module, generator: torch.Generator) -> None:
        self._generator = generator
        self._seen: dict[nn.Module, torch.Size] = {}
        self._repeated: set[Any] = set()
        self._handles = []
        for module in model.modules():
            if isinstance(getattr(module, "running_var", None), Tensor):
                self._handles.append(module.register_forward_pre_hook(self._statistics))
            # A parametrized weight is computed from others: dividing it in place would be lost.
            elif isinstance(module, _SCALED) and not hasattr(module, "parametrizations"):
                self._handles.append(module.register_forward_hook(self._scale))

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        # After the pass, so that every call of the pass has seen the same weight.
        for module in self._repeated:
            module.weight.mul_(_REPEATED)

    def _statistics(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        # The first call alone: statistics that change between calls would fit none of them.
        if module not in self._seen:
            self._seen[module] = arguments[0].shape
            _set_statistics(module, arguments[0], self._generator)

    def _scale(self, module: Any, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
        # A module that runs several times in one pass is scaled by its first.
        if module in self._seen:
            if self._seen[module] == output.shape:
                self._repeated.add(module)
            return None
        self._seen[module] = output.shape
        # The layer is linear: what its weight contributes scales with the weight.
        bias = None if module.bias is None else _along_channels(module, output)
        part = output if bias is None else output - bias
        spread = float(part.std()) if output.is_floating_point() and output.numel() > 1 else 0.0
        if not math.isfinite(spread) or spread == 0:
            return None
        module.weight.div_(spread)
        # The layers behind it must see what the new weight gives.
        return part / spread if bias is None else part.div_(spread).add_(bias)


def _along_channels(module: Any, output: Tensor) -> Tensor:
    """The bias as it is added: to the last axis by a linear layer, else before the sizes."""
    bias: Tensor = module.bias
    if isinstance(module, nn.Linear):
        return bias
    return bias.reshape(-1, *[1] * (module.weight.dim() - 2))


def _set_statistics(module: Any, value: Tensor, generator: torch.Generator) -> None:
    """Running mean and variance of the channels (axis 1) of what the module is about to see."""
    others = [axis for axis in range(value.dim()) if axis != 1]
    mean = value.mean(others)
    variance = value.var(others, unbiased=False)
    overall = float(value.var(unbiased=False)) if value.numel() > 1 else 1.0
    # The mean of one value is that value: the normalised result would be zero whatever the input
    # is.
    if value.numel() // value.shape[1] < _FEW:
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        mean = value.mean() + _SMALL_BIAS * math.sqrt(overall) * noise
        variance = torch.full_like(variance, overall)
    # A channel that hardly moves would be blown up at the next input.
    floor = 0.1 * overall if overall > 0 else 1.0
    module.running_mean.copy_(mean)
    module.running_var.copy_(variance.clamp_min(floor))
