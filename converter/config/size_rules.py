"""The rules of sizes: ``dims``, ``freeze`` and ``dynamic_axes: all`` of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converter.model import dim_problems, wording
from converter.model.dims import Dims, Expression
from converter.model.errors import Problem
from converter.model.inputs import InputSpec
from converter.model.spec import ModelSpec
from converter.plan.axes import name_axes, symbols_of


def check(key: str, model: ModelSpec) -> list[Problem]:
    """What is wrong with the rules of a model whose inputs are known."""
    inputs = model.inputs or {}
    axes = name_axes(model.dynamic_axes, inputs)
    traced = symbols_of(axes, inputs)
    outputs = _of_outputs(axes, traced, inputs)
    problems = list(_freeze(f"{key}.freeze", model, traced, outputs))
    # A file that is ONNX may have symbols of its own, which nobody has read yet.
    if model.source is not None and model.source.kind == "onnx":
        return problems
    if problems:
        return problems
    moving = {symbol: size for symbol, size in traced.items() if symbol not in model.freeze}
    return dim_problems.problems(f"{key}.dims", model.dims, moving, outputs)


def of_file(key: str, model: ModelSpec) -> list[Problem]:
    """Keys that a source which is ONNX already cannot follow."""
    problems = []
    if isinstance(model.dynamic_axes, str):
        message = "the source is ONNX already: which of its axes are dynamic is written in it."
        problems.append(Problem(f"{key}.dynamic_axes", message, "Remove the key."))
    if model.freeze:
        message = "the source is ONNX already: nothing exports it at one size."
        problems.append(Problem(f"{key}.freeze", message, "Remove the key."))
    return problems


def stated(key: str, model: ModelSpec) -> list[Problem]:
    """Shapes and cases of the user's own that break a rule."""
    inputs = model.inputs or {}
    if not model.dims or (model.source is not None and model.source.kind == "onnx"):
        return []
    axes = name_axes(model.dynamic_axes, inputs)
    dims = Dims(model.dims, symbols_of(axes, inputs))
    shapes = [(f"{key}.shapes.{index}", entry) for index, entry in enumerate(model.verify.shapes)]
    shapes += [
        (
            f"{key}.cases.{index}",
            {n: c.shape for n, c in case.inputs.items() if c.shape is not None},
        )
        for index, case in enumerate(model.verify.cases)
    ]
    return [
        problem for place, entry in shapes for problem in _case(place, entry, dims, axes, inputs)
    ]


def _case(
    place: str,
    shapes: Mapping[str, list[int]],
    dims: Dims,
    axes: Mapping[str, Mapping[int, str]],
    inputs: Mapping[str, InputSpec],
) -> Iterator[Problem]:
    sizes: dict[str, int] = {}
    for name, spec in inputs.items():
        shape = shapes.get(name, spec.shape)
        for axis, symbol in axes.get(name, {}).items():
            sizes.setdefault(symbol, shape[axis])
    broken = dims.broken(sizes)
    if broken is not None:
        yield Problem(place, f"{broken}.", "Change the shape, or the rule in dims.")


def _of_outputs(
    axes: Mapping[str, Mapping[int, str]],
    traced: Mapping[str, int],
    inputs: Mapping[str, InputSpec],
) -> list[str]:
    """Symbols that are on outputs alone, in order."""
    found = [s for name, listed in axes.items() if name not in inputs for s in listed.values()]
    return [symbol for symbol in dict.fromkeys(found) if symbol not in traced]


def _freeze(
    key: str, model: ModelSpec, traced: Mapping[str, int], outputs: list[str]
) -> Iterator[Problem]:
    """Frozen symbols are of inputs, and no rule speaks of them."""
    if model.freeze and isinstance(model.dynamic_axes, str):
        hint = "List the axes that are to be dynamic in dynamic_axes, without these."
        yield Problem(key, "dynamic_axes: all asks for every axis.", hint)
        return
    needed: dict[str, str] = {}
    for symbol, spec in model.dims.items():
        needed.setdefault(symbol, symbol)
        try:
            names = Expression(spec.equals).names if spec.equals else []
        except ValueError:  # told of the rule itself
            names = []
        needed |= dict.fromkeys(names, symbol)
    for symbol in model.freeze:
        if symbol in outputs:
            message = (
                f"'{symbol}' is on outputs alone, whose sizes follow from those of the inputs."
            )
            yield Problem(key, message, "Name the symbols of inputs.")
        elif symbol not in traced:
            hint = wording.did_you_mean(symbol, list(traced)) or "dynamic_axes names no symbol."
            yield Problem(key, f"dynamic_axes has no symbol '{symbol}'.", hint)
        elif symbol in needed:
            message = (
                f"'{symbol}' is fixed here, and dims.{needed[symbol]} says which sizes it has."
            )
            yield Problem(key, message, "Remove one of the two.")
    for symbol in sorted({s for s in model.freeze if model.freeze.count(s) > 1}):
        yield Problem(key, f"'{symbol}' is listed more than once.")
