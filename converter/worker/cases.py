"""Verification cases: which inputs a file is run on, beyond the traced example.

A case is declared here and drawn by ``converter.worker.inputs``. For a dynamic axis the
sizes that the PyTorch model accepts are not known, so candidates are offered in
order and the reference stage keeps the first that work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from converter.job import Job
from converter.spec import InputSpec
from converter.worker.inputs import Array, draw, varies

TRACED, SECOND = "traced", "second"
_TRIES = 20
_STRIDE = 1000  # even: a normal sample keeps its sign
_STEPS: tuple[int | str, ...] = ("one", 1, 2, -1, "double", 4, 8, 16, 32, 64, "half", 14, 7)


@dataclass(frozen=True)
class Case:
    """One set of inputs.

    Attributes:
        label: names the case in the manifest (``traced``, ``batch=1``, a user's label).
        inputs: by name, in the order of ``forward``.
        sample: seed offset; the traced example is 0.
        sizes: for a dynamic case the size of each symbol that differs from the example.
    """

    label: str
    inputs: dict[str, InputSpec]
    sample: int
    sizes: dict[str, int] = field(default_factory=dict)

    def draw(self, seed: int) -> dict[str, Array]:
        drawn = partial(_unlike_the_first if self.label == SECOND else draw, seed=seed)
        return {name: drawn(name, spec, sample=self.sample) for name, spec in self.inputs.items()}

    def __str__(self) -> str:
        """``second (x 2×3)``: the label, and the shapes that it stands for."""
        shapes = (
            f"{name} {'×'.join(map(str, spec.shape)) or 'scalar'}"
            for name, spec in self.inputs.items()
        )
        return f"{self.label} ({', '.join(shapes)})"

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {name: list(spec.shape) for name, spec in self.inputs.items()}


def _unlike_the_first(name: str, spec: InputSpec, *, seed: int, sample: int) -> Array:
    """Other values than the traced example's: a flag would be the same half of the time."""
    first = values = draw(name, spec, seed=seed, sample=0)
    for offset in range(0, _TRIES * _STRIDE if varies(spec) else 0, _STRIDE):
        values = draw(name, spec, seed=seed, sample=sample + offset)
        if not np.array_equal(values, first):
            break
    return values


def fixed(job: Job) -> list[Case]:
    """The traced example, the same shapes with other values, and what the user declared."""
    cases = [Case(TRACED, job.inputs, 0)]
    if any(varies(spec) for spec in job.inputs.values()):
        cases.append(Case(SECOND, job.inputs, 1))
    for number, shapes in enumerate(job.verify.shapes):
        label = " ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())
        inputs = {
            name: spec.model_copy(update={"shape": shapes.get(name, spec.shape)})
            for name, spec in job.inputs.items()
        }
        cases.append(Case(label, inputs, 100 + number))
    for number, declared in enumerate(job.verify.cases):
        inputs = dict(job.inputs)
        for name, change in declared.inputs.items():
            inputs[name] = change.on(inputs[name])
        cases.append(Case(declared.label, inputs, 200 + number))
    return cases


def symbols(job: Job) -> dict[str, list[tuple[str, int]]]:
    """Dynamic symbol → the (input, axis) pairs that carry it; outputs are left out."""
    found: dict[str, list[tuple[str, int]]] = {}
    for name, axes in job.dynamic_axes.items():
        if name in job.inputs:
            for axis, symbol in axes.items():
                found.setdefault(symbol, []).append((name, axis))
    return found


def candidates(job: Job, moved: list[str]) -> Iterator[Case]:
    """Cases in which the symbols ``moved`` take other sizes, the most telling first.

    Size 1 comes first: it is where a frozen axis broadcasts in silence. Multiples and
    larger steps follow for models that need a divisor or a minimum.
    """
    places = symbols(job)
    original = {s: job.inputs[places[s][0][0]].shape[places[s][0][1]] for s in moved}
    seen = [original]
    for number, step in enumerate(_STEPS):
        sizes = {}
        for order, (symbol, size) in enumerate(original.items()):
            # Symbols that move together move by different amounts, so that a mix-up shows.
            sizes[symbol] = _moved(size, step, order if len(moved) > 1 and step in (1, 2) else 0)
        if any(size < 1 for size in sizes.values()) or sizes in seen:
            continue
        seen.append(sizes)
        label = " ".join(f"{symbol}={size}" for symbol, size in sizes.items())
        yield Case(label, resized(job.inputs, places, sizes), 300 + number, sizes)


def doubled(job: Job, symbol: str) -> Case:
    """The case in which a symbol has twice its size."""
    places = symbols(job)
    name, axis = places[symbol][0]
    sizes = {symbol: 2 * job.inputs[name].shape[axis]}
    label = f"{symbol}={sizes[symbol]}"
    return Case(label, resized(job.inputs, places, sizes), 300 + _STEPS.index("double"), sizes)


def _moved(size: int, step: int | str, extra: int) -> int:
    if step == "one":
        return 1
    if step == "double":
        return 2 * size
    if step == "half":
        return size // 2
    return size + int(step) + extra


def resized(
    inputs: dict[str, InputSpec],
    places: dict[str, list[tuple[str, int]]],
    sizes: dict[str, int],
) -> dict[str, InputSpec]:
    """Inputs whose symbols, found at ``places``, have other sizes."""
    shapes = {name: list(spec.shape) for name, spec in inputs.items()}
    for symbol, size in sizes.items():
        for name, axis in places[symbol]:
            shapes[name][axis] = size
    return {name: spec.model_copy(update={"shape": shapes[name]}) for name, spec in inputs.items()}
