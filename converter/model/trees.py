"""Inputs as a tree: what a configuration states of forward's arguments, and its flat tensors.

An ONNX file has flat inputs, and all that is done with them is done with flat ones. So a tree is
split here, before anything else reads it, into tensors that are named by their paths (``state.0``,
``past.0.key``) and the arguments that are made of them again where the model is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from converter.model.errors import Problem
from converter.model.inputs import Argument, InputSpec
from converter.model.job import Job
from converter.model.spec import Call, ModelSpec

TARGET, POSITIONAL, PASS = "_target_", "_args_", "pass"
KEYWORD, POSITION = "keyword", "position"
INERT = ("list", "tuple", "dict")
"""Targets that make nothing but what they are given: they need no trust."""


def flattened(entry: Any, key: str) -> tuple[Any, list[Problem]]:
    """An entry of ``models:`` with flat ``inputs``, and ``arguments`` where they are not.

    Args:
        entry: as the configuration has it. What is no tensor and no tree is left for the typed
            layer to refuse.
        key: of the entry, for problems.
    """
    if not isinstance(entry, Mapping):
        return entry, []
    if "arguments" in entry:
        return {k: v for k, v in entry.items() if k != "arguments"}, [
            Problem(f"{key}.arguments", "unknown key.", "Did you mean inputs or constants?")
        ]
    entry, problems = _graphs(entry, key)
    inputs = entry.get("inputs")
    if not isinstance(inputs, Mapping):
        return entry, problems
    splitting = _Splitting(f"{key}.inputs")
    arguments = [splitting.argument(str(name), value) for name, value in inputs.items()]
    if all(argument.tensor == argument.name and not argument.keyword for argument in arguments):
        return entry, problems
    changed = {
        **entry,
        "inputs": splitting.flat,
        "arguments": [argument.model_dump() for argument in arguments],
    }
    return changed, [*problems, *splitting.problems]


def _graphs(entry: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], list[Problem]]:
    """The entry with each of its graphs flattened."""
    graphs = entry.get("graphs")
    if not isinstance(graphs, Mapping):
        return entry, []
    done = {name: flattened(graph, f"{key}.graphs.{name}") for name, graph in graphs.items()}
    problems = [problem for _, found in done.values() for problem in found]
    return {**entry, "graphs": {name: graph for name, (graph, _) in done.items()}}, problems


@dataclass
class _Splitting:
    """Splits a tree: ``flat`` has its tensors, by the names that they have in the file."""

    key: str
    flat: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def argument(self, name: str, value: Any) -> Argument:
        found = self._part(name, value, top=True)
        by_keyword = isinstance(value, Mapping) and self._passed(name, value)
        return found.model_copy(update={"name": name, "keyword": by_keyword})

    def _passed(self, path: str, value: Mapping[str, Any]) -> bool:
        stated = value.get(PASS, POSITION)
        if isinstance(stated, str) and stated not in (KEYWORD, POSITION):
            message = f"found '{stated}'; expected {KEYWORD} or {POSITION}."
            self.problems.append(Problem(f"{self.key}.{path}.{PASS}", message))
        return bool(stated == KEYWORD)

    def _part(self, path: str, value: Any, *, top: bool = False) -> Argument:
        if isinstance(value, list) and _is_list(value):
            parts = [self._part(f"{path}.{index}", item) for index, item in enumerate(value)]
            return Argument(items=parts)
        if not isinstance(value, Mapping):
            return self._tensor(path, value)  # of a wrong kind, which is told by its key
        if not top and isinstance(value.get(PASS), str):
            message = "only a whole argument is passed by keyword."
            self.problems.append(
                Problem(f"{self.key}.{path}.{PASS}", message, "State it one level above.")
            )
        if TARGET in value:
            return self._object(path, value)
        if not _is_tree(value):
            return self._tensor(path, value)
        below = {str(k): v for k, v in value.items() if k != PASS}
        return Argument(entries={k: self._part(f"{path}.{k}", v) for k, v in below.items()})

    def _object(self, path: str, value: Mapping[str, Any]) -> Argument:
        """What ``_target_`` makes: parts that are no tensors and no trees are given as they are."""

        def part(at: str, inner: Any) -> Argument:
            nested = isinstance(inner, Mapping) and (
                TARGET in inner or "shape" in inner or _is_tree(inner)
            )
            if nested or (isinstance(inner, list) and _is_list(inner)):
                return self._part(at, inner)
            return Argument(value=inner)

        given = value.get(POSITIONAL, [])
        rest = {str(k): v for k, v in value.items() if k not in (TARGET, POSITIONAL, PASS)}
        if not isinstance(given, list):
            self.problems.append(
                Problem(f"{self.key}.{path}.{POSITIONAL}", "expected a list of arguments.")
            )
            given = []
        # A single one, such as the layers of a cache, has the path of the whole.
        places = [path] if len(given) == 1 else [f"{path}.{index}" for index in range(len(given))]
        return Argument(
            target=str(value[TARGET]),
            items=[part(at, item) for at, item in zip(places, given, strict=True)],
            entries={k: part(f"{path}.{k}", v) for k, v in rest.items()},
        )

    def _tensor(self, path: str, value: Any) -> Argument:
        name = value.get("name") if isinstance(value, Mapping) else None
        name = name if isinstance(name, str) and name else path
        if name in self.flat:
            message = f"'{name}' is the name of two tensors."
            hint = "Give one another: name: NAME."
            self.problems.append(Problem(f"{self.key}.{path}", message, hint))
        self.flat[name] = value
        return Argument(tensor=name)


def targets(job: Job) -> Iterator[tuple[str, str]]:
    """The key and the name of each ``_target_`` in a job: of its arguments, and what it calls."""
    if isinstance(job.call, Call):
        yield "call", job.call.target
    if job.first is not None and isinstance(job.first.call, Call):
        yield "call", job.first.call.target
    for key, value in (("kwargs", job.kwargs), ("constants", job.constants)):
        yield from _targets(key, value)
    for argument in job.arguments:
        yield from _targets(f"inputs.{argument.name}", argument.model_dump())


def _targets(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        # As it is written, and as an argument has it.
        target = value.get(TARGET, value.get("target") if "tensor" in value else None)
        if isinstance(target, str) and target not in INERT:
            yield key, target
        for name, inner in value.items():
            yield from _targets(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _targets(f"{key}.{index}", inner)


def _is_tree(value: Mapping[str, Any]) -> bool:
    """Whether a mapping holds tensors; else it is one, or was meant to be."""
    # A feature may be called so, and has a shape of its own then.
    shape = value.get("shape")
    if "shape" in value and not (isinstance(shape, Mapping) and "shape" in shape):
        return False
    below = [inner for name, inner in value.items() if name != PASS]
    return bool(below) and all(
        isinstance(inner, Mapping) or (isinstance(inner, list) and _is_list(inner))
        for inner in below
    )


def _is_list(value: list[Any]) -> bool:
    """Whether a list holds inputs; numbers alone are a shape in the wrong place."""
    return any(isinstance(item, Mapping | list) for item in value)


def arguments(model: ModelSpec, inputs: Mapping[str, InputSpec]) -> list[Argument]:
    """The arguments of forward; none: each input is one, in its place.

    Args:
        inputs: of the model, flat.
    """
    stated = model.passing
    listed = model.arguments or [Argument(tensor=name, name=name) for name in inputs]
    found = []
    for one in listed:
        how = stated.get(one.name) if isinstance(stated, dict) else stated
        # What an input says of itself counts more than what the model says of all.
        keyword = one.keyword or how == KEYWORD
        found.append(one.model_copy(update={"keyword": keyword}))
    plain = all(one.tensor is not None and not one.keyword for one in found)
    return [] if plain else found
