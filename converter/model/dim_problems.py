"""What is wrong with the rules of a model's sizes, before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from converter.model import wording
from converter.model.dims import GRAMMAR, Dims, Expression, bounds, within
from converter.model.errors import Problem
from converter.model.spec import DimSpec


def problems(
    key: str, specs: Mapping[str, DimSpec], traced: Mapping[str, int], outputs: Collection[str]
) -> list[Problem]:
    """The first kind of problem that there is: each later one reads what the earlier ones check.

    Args:
        key: of the rules, ``models.NAME.dims``.
        traced: symbol of an input → its size in the traced example.
        outputs: symbols of outputs alone.
    """
    found = [problem for s, spec in specs.items() for problem in _alone(f"{key}.{s}", spec)]
    if found:
        return found
    expressions = {s: Expression(spec.equals) for s, spec in specs.items() if spec.equals}
    known = [*traced, *outputs]
    found = _unknown(key, specs, expressions, known)
    found = found or list(_cycles(key, expressions))
    found = found or _of_outputs(key, specs, expressions, traced, outputs)
    if found:
        return found
    dims = Dims(specs, traced)
    return _example(key, dims) or list(_single(key, dims))


def _alone(key: str, spec: DimSpec) -> Iterator[Problem]:
    """What a rule says that nothing fits."""
    if spec == DimSpec():
        yield Problem(key, "says nothing.", "State min, max, multiple_of or an expression.")
    if spec.equals is not None:
        try:
            expression = Expression(spec.equals)
        except ValueError as error:
            yield Problem(key, f"{error}.", f"An expression has {GRAMMAR}.")
        else:
            if not expression.names and expression({}) is None:
                message = f"'{spec.equals}' is no size: below zero, too large, or divided by zero."
                yield Problem(key, message, "State another expression.")
    low, high, multiple = spec.min or 0, spec.max, spec.multiple_of or 1
    if high is None:
        return
    if low > high:
        yield Problem(key, f"min ({low}) is above max ({high}).")
    elif high // multiple * multiple < max(low, 1):
        yield Problem(key, f"no multiple of {multiple} lies from {low} to {high}.")


def _unknown(
    key: str,
    specs: Mapping[str, DimSpec],
    expressions: Mapping[str, Expression],
    known: Collection[str],
) -> list[Problem]:
    """Names that are on no axis: of rules, and of expressions where they look like a symbol."""
    used = {name for each in expressions.values() for name in each.names}
    found = []
    for symbol in specs:
        if symbol not in known and symbol not in used:
            hint = wording.did_you_mean(symbol, list(known)) or "dynamic_axes names no symbol."
            message = f"'{symbol}' is on no axis of dynamic_axes and in no expression."
            found.append(Problem(f"{key}.{symbol}", message, hint))
    for symbol, expression in expressions.items():
        for name in expression.names:
            near = [one for one in wording.near(name, known) if _alike(name, one)]
            # A name that has a rule of its own is meant as it is.
            if name in known or name in specs or not near:
                continue
            hint = f"Did you mean {' or '.join(near)}? If not, give it another name."
            found.append(Problem(f"{key}.{symbol}", f"'{name}' is on no axis.", hint))
    return found


def _alike(name: str, other: str) -> bool:
    """Of a single letter only the other case: ``k`` beside ``kv`` is a name like any other."""
    return len(name) > 1 or name.casefold() == other.casefold()


def _cycles(key: str, expressions: Mapping[str, Expression]) -> Iterator[Problem]:
    for symbol in expressions:
        way = _way_back(symbol, symbol, expressions, ())
        if way is not None:
            yield Problem(
                f"{key}.{symbol}",
                f"is made of itself: {' → '.join((symbol, *way))}.",
                "State one of them without an expression.",
            )
            return


def _way_back(
    start: str, at: str, expressions: Mapping[str, Expression], seen: tuple[str, ...]
) -> tuple[str, ...] | None:
    for name in expressions[at].names if at in expressions else ():
        if name == start:
            return (*seen, name)
        if name not in seen:
            found = _way_back(start, name, expressions, (*seen, name))
            if found is not None:
                return found
    return None


def _of_outputs(
    key: str,
    specs: Mapping[str, DimSpec],
    expressions: Mapping[str, Expression],
    traced: Mapping[str, int],
    outputs: Collection[str],
) -> list[Problem]:
    """Sizes of outputs follow from those of inputs, and never the other way; variables solve."""
    found = []
    for symbol, expression in expressions.items():
        late = [name for name in expression.names if name in outputs]
        free = [n for n in expression.names if n not in traced and n not in specs]
        free = [name for name in free if name not in outputs]
        if symbol in traced and late:
            message = f"{late[0]} is on outputs alone, and {symbol} is the size of an input."
            hint = f"State {late[0]} by the symbols of inputs."
            found.append(Problem(f"{key}.{symbol}", message, hint))
        elif symbol in outputs and free and not _elsewhere(free[0], symbol, expressions, traced):
            message = f"'{free[0]}' is on no axis of an input: nothing gives the size of an output."
            hint = wording.did_you_mean(free[0], list(traced))
            found.append(Problem(f"{key}.{symbol}", message, hint))
        elif len(free) > 1:
            message = f"{' and '.join(free)} are on no axis: one of them at most can be solved."
            found.append(Problem(f"{key}.{symbol}", message))
    return found


def _elsewhere(
    name: str, symbol: str, expressions: Mapping[str, Expression], traced: Mapping[str, int]
) -> bool:
    """Whether the rule of an input holds a free variable as well."""
    return any(
        name in each.names for other, each in expressions.items() if other != symbol
        and other in traced
    )  # fmt: skip


def _example(key: str, dims: Dims) -> list[Problem]:
    """The traced example breaks a rule."""
    found = []
    for symbol, spec in dims.specs.items():
        if symbol in dims.inputs and symbol in dims.expressions:
            missing = [n for n in dims.leaves_of(symbol) if n not in dims.example]
            if missing:
                message = (
                    f"the traced example has {symbol} = {dims.inputs[symbol]}, which no "
                    f"{missing[0]} of '{spec.equals}' gives."
                )
                hint = "Change the shape of the input or the rule."
                found.append(Problem(f"{key}.{symbol}", message, hint))
                continue
        size = dims.inputs.get(symbol, dims.example.get(symbol))
        if size is None:
            continue
        expected = dims.assigned({}).get(symbol)
        if symbol in dims.expressions and symbol in dims.inputs and expected != size:
            gives = dims.expressions[symbol].gives(dims.example)
            message = f"the traced example has {symbol} = {size}; '{spec.equals}' {gives}."
            found.append(Problem(f"{key}.{symbol}", message, _CHANGE))
        elif not within(size, spec):
            message = f"the traced example has {symbol} = {size}; allowed: {bounds(spec)}."
            found.append(Problem(f"{key}.{symbol}", message, _CHANGE))
    return found


_CHANGE = "Change the shape of the input or the rule."


def _single(key: str, dims: Dims) -> Iterator[Problem]:
    """A rule that leaves one size: nothing is dynamic there."""
    for symbol in dims.movers():
        leaf = dims.leaves_of(symbol)[0]
        if not dims.ruled(symbol):
            continue
        low, high = dims.span(leaf)
        around = (dims.near(symbol, 2 * dims.inputs[symbol] + 1), dims.near(symbol, 0))
        if low == high or not any(around):
            yield Problem(
                f"{key}.{symbol if symbol in dims.specs else leaf}",
                f"{symbol} = {dims.inputs[symbol]} is the only size that the rules allow.",
                f"Write freeze: [{symbol}].",
            )
