"""Which output feeds which input where the graphs of a model run one after the other.

An input gets, in this order: the tokens; the output that ``feed`` names, or what it counts from;
the newest output of its name, of ``out.NAME``, or for ``past…`` of ``present…``; else its own
example, at the size that the others ask for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.spec import Generate
from converter.plan.graphs import fed, feeding, sources, unfed
from converter.worker.inputs.inputs import Array, draw


@dataclass
class Made:
    """The outputs so far, by name: the newest of each counts."""

    _found: dict[str, tuple[int, Array]] = field(default_factory=dict)
    _count: int = 0

    def add(self, names: Sequence[str], outputs: Iterable[Array]) -> None:
        """Take the outputs of one graph."""
        self._count += 1
        self._found |= {n: (self._count, array) for n, array in zip(names, outputs, strict=True)}

    def copy(self) -> Made:
        return Made(dict(self._found), self._count)

    def named(self, name: str) -> Array | None:
        found = self._found.get(name)
        return None if found is None else found[1]

    def for_input(self, name: str) -> Array | None:
        """What an input of this name gets; of several the newest, which a later graph gave."""
        found = [self._found[each] for each in sources(name, self._found)]
        return max(found, key=lambda one: one[0])[1] if found else None


@dataclass(frozen=True)
class Graph:
    """One of the graphs, and what its inputs get.

    Attributes:
        name: in the configuration.
        tokens: the input that takes the tokens; none of a graph that runs once.
        feed: as the configuration has it.
        cached: inputs that only a later step fills: they are empty in the first one.
    """

    name: str
    job: Job
    tokens: str | None = None
    feed: Mapping[str, str] = field(default_factory=dict)
    cached: frozenset[str] = frozenset()

    def feeds(
        self, made: Made, tokens: Array | None = None, length: int | None = None, sample: int = 0
    ) -> dict[str, Array]:
        """All inputs, in their order.

        Args:
            made: the outputs so far.
            tokens: those that the graph takes in this step.
            length: of the sequence with them, which axes have whose size nothing else tells.
            sample: which example of the inputs that nothing feeds.
        """
        wired = dict(self._wired(made, tokens))
        sizes = self._sizes(wired)
        found = {}
        for name in self.job.inputs:
            symbol = self.feed.get(name)
            if name in wired:
                found[name] = wired[name]
            elif name in self.cached:
                found[name] = self._empty(name, sizes)
            elif symbol is not None:
                found[name] = self._counted(name, sizes.get(symbol, 0), sizes, length)
            else:
                found[name] = self._example(name, sizes, length, sample)
        return found

    def _wired(self, made: Made, tokens: Array | None) -> Iterator[tuple[str, Array]]:
        for name, spec in self.job.inputs.items():
            if name == self.tokens and tokens is not None:
                yield name, tokens.astype(spec.dtype)
                continue
            said = self.feed.get(name)
            array = made.named(said) if said is not None else made.for_input(name)
            if array is not None:
                yield name, array

    def _sizes(self, wired: Mapping[str, Array]) -> dict[str, int]:
        """The size of each symbol that a tensor tells."""
        return {
            symbol: array.shape[axis]
            for name, array in wired.items()
            for axis, symbol in self.job.dynamic_axes.get(name, {}).items()
            if axis < array.ndim
        }

    def _shape(self, name: str, sizes: Mapping[str, int], length: int | None) -> list[int]:
        shape = list(self.job.inputs[name].shape)
        for axis, symbol in self.job.dynamic_axes.get(name, {}).items():
            shape[axis] = sizes.get(symbol, shape[axis] if length is None else length)
        return shape

    def _counted(
        self, name: str, start: int, sizes: Mapping[str, int], length: int | None
    ) -> Array:
        """Positions: they go on from the size of an axis, which is 0 where the graph has none."""
        shape = self._shape(name, sizes, length)
        counted = start + np.arange(shape[-1] if shape else 1)
        positions = np.broadcast_to(counted, shape) if shape else counted.reshape(())
        return positions.astype(self.job.inputs[name].dtype)

    def _empty(self, name: str, sizes: Mapping[str, int]) -> Array:
        """A cache without an entry: the axes whose size nothing tells are of size zero."""
        spec, shape = self.job.inputs[name], list(self.job.inputs[name].shape)
        for axis, symbol in self.job.dynamic_axes.get(name, {}).items():
            shape[axis] = sizes.get(symbol, 0)
        return np.zeros(shape, spec.dtype)

    def _example(
        self, name: str, sizes: Mapping[str, int], length: int | None, sample: int
    ) -> Array:
        spec = self.job.inputs[name]
        spec = spec.model_copy(update={"shape": self._shape(name, sizes, length)})
        return draw(name, spec, seed=self.job.seed, sample=sample, resize=True)


def of_generation(
    generate: Generate, jobs: Mapping[str, Job], outputs: Mapping[str, Sequence[str]]
) -> dict[str, Graph]:
    """The graphs of a generation, by name; all that can be known of their wiring is checked.

    Args:
        jobs: of the graphs.
        outputs: the names of the outputs in each graph's file.

    Raises:
        StageError: OUTPUT_STRUCTURE, with the graph and the input that nothing feeds.
    """
    graphs = {name: Graph(name, jobs[name], feed=generate.feed) for name in generate.once}
    then = generate.then
    before = {each for name in generate.once for each in outputs[name]}
    later = before | {*outputs[generate.first], *(outputs[then] if then else ())}
    if generate.logits not in outputs[generate.first]:
        raise _no_logits(generate, generate.first, outputs[generate.first])
    if then and generate.logits not in outputs[then]:
        raise _no_logits(generate, then, outputs[then])
    for name in dict.fromkeys([generate.first, *([then] if then else [])]):
        known, job = later if name == then else before, jobs[name]
        # Of a graph that is the first and the next one: what it has given itself is not there yet.
        cached = {
            each
            for each in job.inputs
            if then and name == generate.first
            if not fed(each, generate, before) and fed(each, generate, later)
        }
        _check_symbols(name, generate, jobs, later)
        for each in unfed(
            generate, name, job.inputs, job.dynamic_axes, known, jobs[generate.first].inputs
        ):
            if each not in cached:
                message = f"nothing feeds the input {each} of {name}"
                raise StageError(Code.OUTPUT_STRUCTURE, message, feeding(each))
        graphs[name] = Graph(name, job, generate.token, generate.feed, frozenset(cached))
    return graphs


def _check_symbols(
    graph: str, generate: Generate, jobs: Mapping[str, Job], known: Collection[str]
) -> None:
    """Raise where ``feed`` names nothing that there is.

    Raises:
        StageError: OUTPUT_STRUCTURE.
    """
    every = [axes for one in jobs.values() for axes in one.dynamic_axes.values()]
    symbols = {symbol for axes in every for symbol in axes.values()}
    for each, said in generate.feed.items():
        if each in jobs[graph].inputs and said not in known and said not in symbols:
            raise StageError(
                Code.OUTPUT_STRUCTURE,
                f"generate.feed.{each}: {said} is no output that {graph} can get, and no dynamic "
                "axis",
                f"Outputs: {', '.join(sorted(known))}.",
            )


def _no_logits(generate: Generate, graph: str, outputs: Sequence[str]) -> StageError:
    return StageError(
        Code.OUTPUT_STRUCTURE,
        f"{graph} has no output {generate.logits}; it has {', '.join(outputs)}",
        "State generate.logits, or the outputs of the graph.",
    )


def of_chain(
    chain: Sequence[str], jobs: Mapping[str, Job], outputs: Mapping[str, Sequence[str]]
) -> list[Graph]:
    """The graphs of a chain, in order.

    Raises:
        StageError: OUTPUT_STRUCTURE, where a graph takes nothing of those before it.
    """
    known: list[str] = []
    for place, name in enumerate(chain):
        if place and not any(sources(each, known) for each in jobs[name].inputs):
            raise StageError(
                Code.OUTPUT_STRUCTURE,
                f"{name} takes nothing of {', '.join(chain[:place])}: its inputs are "
                f"{', '.join(jobs[name].inputs)}, their outputs {', '.join(known)}",
                "Name an output like the input that it feeds.",
            )
        known += outputs[name]
    return [Graph(name, jobs[name]) for name in chain]
