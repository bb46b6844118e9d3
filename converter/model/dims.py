"""Rules about sizes: ``{min, max, multiple_of}``, and ``total: past + 1`` over other symbols.

A rule says which sizes the axes of a model may have together. It decides which sizes are tried, and
is what a consumer of the file may rely on; of sizes outside it nothing is promised.

Expressions are parsed with ``ast`` and never evaluated as Python: names, whole numbers, ``+``,
``-``, ``*`` and ``//``. A name that is on no axis is a free variable: ``t: 4 * k + 1``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from converter.model.spec import DimSpec

_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
GRAMMAR = "names of symbols, whole numbers, + - * // and parentheses"
_LONGEST = 200
# No axis of a tensor that anybody feeds is longer.
LARGEST = 1 << 50
# How far from a size the nearest one that multiples allow may be.
_FARTHEST = 1 << 12


class Expression:
    """The size of an axis, of other symbols.

    Attributes:
        text: as it was written.
        names: that stand in it, in order.

    Raises:
        ValueError: it is none, with what is wrong.
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        if len(self.text) > _LONGEST:
            raise ValueError(f"is longer than {_LONGEST} characters")
        try:
            self.node = ast.parse(self.text, mode="eval").body
            found = list(self._check(self.node))
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(f"'{self.text}' is no expression of {GRAMMAR}") from error
        self.names = list(dict.fromkeys(found))

    def _check(self, node: ast.expr) -> Iterator[str]:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            yield from self._check(node.left)
            yield from self._check(node.right)
        # By type, since True is an int.
        elif not (isinstance(node, ast.Constant) and type(node.value) is int):
            part = ast.get_source_segment(self.text, node) or self.text
            raise ValueError(f"'{part}' is not in the grammar of sizes: {GRAMMAR}")

    def __call__(self, sizes: Mapping[str, int]) -> int | None:
        """The size; ``None``: a name has none, or it would be below zero."""
        try:
            value = self._value(self.node, sizes)
        except (KeyError, ZeroDivisionError):
            return None
        return value if 0 <= value <= 1 << 62 else None

    def gives(self, sizes: Mapping[str, int]) -> str:
        """``is 65 at height = 64``, or that it is no size there."""
        known = ", ".join(f"{name} = {sizes[name]}" for name in self.names if name in sizes)
        at = f" at {known}" if known else ""
        value = self(sizes)
        # Below zero, divided by zero, or of a size that nobody knows.
        return f"gives no such size{at}" if value is None else f"is {value}{at}"

    def _value(self, node: ast.expr, sizes: Mapping[str, int]) -> int:
        if isinstance(node, ast.Name):
            return sizes[node.id]
        if isinstance(node, ast.Constant):
            return int(node.value)  # type: ignore[arg-type]  # looked at when it was parsed
        assert isinstance(node, ast.BinOp), "looked at when it was parsed"
        left, right = self._value(node.left, sizes), self._value(node.right, sizes)
        return int(_OPERATORS[type(node.op)](left, right))

    def line(self) -> tuple[int, str, int] | None:
        """``factor * name + rest`` where that is what it says; a symbol alone is one too."""
        if len(self.names) != 1:
            return None
        (name,) = self.names
        points = [self({name: at}) for at in (1000, 2000, 3001, 5003)]
        if None in points:
            return None
        first, second, *others = (int(point or 0) for point in points)
        factor, left = divmod(second - first, 1000)
        rest = first - 1000 * factor
        straight = [factor * at + rest for at in (3001, 5003)] == others
        return (factor, name, rest) if not left and factor > 0 and straight else None


class Dims:
    """The sizes that the symbols of a model may take together.

    Args:
        specs: the rule of each symbol that has one; valid (``converter.model.dim_problems``).
        traced: symbol of an input → its size in the traced example.
        assumed: symbols whose rule nobody stated.

    Attributes:
        leaves: names that are chosen: symbols of inputs without an expression, and free variables.
        example: the traced size of everything that has one.
    """

    def __init__(
        self,
        specs: Mapping[str, DimSpec],
        traced: Mapping[str, int],
        assumed: Collection[str] = (),
    ) -> None:
        self.specs, self.inputs, self.assumed = dict(specs), dict(traced), set(assumed)
        self.expressions = {
            symbol: Expression(spec.equals) for symbol, spec in specs.items() if spec.equals
        }
        self._order = self._sorted()
        names = [name for each in self.expressions.values() for name in each.names]
        variables = [n for n in names if n not in self.expressions and n not in self.inputs]
        self.variables = list(dict.fromkeys(variables))
        self.leaves = [s for s in self.inputs if s not in self.expressions] + self.variables
        self.example = self._example()

    def _sorted(self) -> list[str]:
        """Symbols with an expression, each after those that it is made of; cycles are left out."""
        found: list[str] = []

        def visit(symbol: str, above: tuple[str, ...]) -> None:
            if symbol in found or symbol in above or symbol not in self.expressions:
                return
            for name in self.expressions[symbol].names:
                visit(name, (*above, symbol))
            found.append(symbol)

        for symbol in self.expressions:
            visit(symbol, ())
        return found

    def leaves_of(self, symbol: str) -> list[str]:
        """The leaves that decide the size of a symbol, in order."""
        if symbol not in self.expressions:
            return [symbol]
        found: list[str] = []
        for name in self.expressions[symbol].names:
            found += self.leaves_of(name)
        return list(dict.fromkeys(found))

    def _example(self) -> dict[str, int]:
        leaves = {symbol: size for symbol, size in self.inputs.items() if symbol in self.leaves}
        for variable in self.variables:
            solved = self._solved(variable, leaves)
            if solved is not None:
                leaves[variable] = solved
        return leaves | self.inputs | self._derived(leaves)

    def _solved(self, variable: str, leaves: Mapping[str, int]) -> int | None:
        """The value of a free variable at which its symbols have their traced sizes."""
        uses = [s for s in self.inputs if s in self.expressions and variable in self.leaves_of(s)]
        if not uses:
            return None
        largest = 64 * max(self.inputs[symbol] for symbol in uses) + 64
        for value in range(min(largest, LARGEST)):
            sizes = self._derived({**leaves, variable: value})
            if all(sizes.get(symbol) == self.inputs[symbol] for symbol in uses):
                return value
        return None

    def _derived(self, leaves: Mapping[str, int]) -> dict[str, int]:
        sizes = dict(leaves)
        for symbol in self._order:
            value = self.expressions[symbol](sizes)
            if value is not None:
                sizes[symbol] = value
        return sizes

    def assigned(self, changed: Mapping[str, int]) -> dict[str, int]:
        """All sizes where some leaves have others than the traced ones."""
        leaves = {leaf: self.example[leaf] for leaf in self.leaves if leaf in self.example}
        return self._derived({**leaves, **changed})

    def broken(self, sizes: Mapping[str, int], *, stated: bool = False) -> str | None:
        """The first rule that sizes break, in words (``h is 33; dims.h: multiples of 8``).

        Args:
            sizes: of all symbols of inputs, and of leaves where they are known.
            stated: leave out rules that nobody stated.
        """
        for symbol, spec in self.specs.items():
            if symbol not in sizes or (stated and symbol in self.assumed):
                continue
            size = sizes[symbol]
            expression = self.expressions.get(symbol)
            if expression is not None and not self._agrees(symbol, sizes):
                return f"{symbol} is {size}, and {expression.text} {expression.gives(sizes)}"
            if not within(size, spec):
                return f"{symbol} is {size}; allowed: {bounds(spec)}"
        return None

    def _agrees(self, symbol: str, sizes: Mapping[str, int]) -> bool:
        """Whether an expression gives the size; a free variable may have any value that fits."""
        expression = self.expressions[symbol]
        free = [name for name in self.leaves_of(symbol) if name not in sizes]
        if not free:
            return self._derived(sizes).get(symbol) == sizes[symbol]
        (variable, *_) = free
        spec = self.specs.get(variable)
        return any(
            expression(self._derived({**sizes, variable: value})) == sizes[symbol]
            for value in range(min(64 * sizes[symbol] + 64, 1 << 18))
            if spec is None or within(value, spec)
        )

    def allows(self, sizes: Mapping[str, int]) -> bool:
        return self.broken(sizes) is None

    def movers(self) -> list[str]:
        """Symbols of inputs that others follow: one for each leaf that moves any."""
        found = []
        for leaf in self.leaves:
            moved = [s for s in self.inputs if leaf in self.leaves_of(s)]
            if moved:
                found.append(leaf if leaf in self.inputs else moved[0])
        return list(dict.fromkeys(found))

    def ruled(self, symbol: str) -> bool:
        """Whether any rule says something of a symbol."""
        leaves = set(self.leaves_of(symbol))
        return any(leaves & {s, *self.leaves_of(s)} for s in self.specs)

    def near(self, symbol: str, size: int) -> list[dict[str, int]]:
        """What all symbols that then differ are where one is as near to a size as rules allow.

        The size itself where it is allowed, else the nearest below and the nearest above.
        """
        if not self.ruled(symbol):
            return [{symbol: size}]
        leaf = self.leaves_of(symbol)[0]
        if leaf not in self.example:
            return []
        start = self._at(symbol, leaf, size)
        exact = self.assigned({leaf: start})
        if exact.get(symbol) == size and self._valid(leaf, start):
            return self._changed([{leaf: start}])
        sides = self._beside(symbol, leaf, start, size)
        return self._changed([{leaf: value} for value in sides if value is not None])

    def moved(self, wanted: Mapping[str, int]) -> list[dict[str, int]]:
        """The same of several symbols that move together: all at or below, all at or above."""
        if not any(self.ruled(symbol) for symbol in wanted):
            return [dict(wanted)]
        below: dict[str, int] = {}
        above: dict[str, int] = {}
        movers = self.movers()
        for symbol, size in wanted.items():
            if symbol not in movers:
                continue
            leaf = self.leaves_of(symbol)[0]
            start = self._at(symbol, leaf, size)
            if self.assigned({leaf: start}).get(symbol) == size and self._valid(leaf, start):
                below[leaf] = above[leaf] = start
                continue
            down, up = self._beside(symbol, leaf, start, size)
            if down is None and up is None:
                return []
            below[leaf] = down if down is not None else up or 0
            above[leaf] = up if up is not None else down or 0
        sides = [below] if below == above else [below, above]
        return self._changed([side for side in sides if self.allows(self.assigned(side))])

    def _beside(
        self, symbol: str, leaf: str, start: int, size: int
    ) -> tuple[int | None, int | None]:
        """The nearest values of a leaf at which a symbol is below a size, and above it."""
        # What is computed may jump over the size: `start` is the first value beyond it then.
        beyond = self.assigned({leaf: start}).get(symbol, size) > size
        return self._next(leaf, start - beyond, -1), self._next(leaf, start, 1)

    def ends(self, symbol: str) -> tuple[dict[str, int] | None, dict[str, int] | None]:
        """The least and the greatest sizes of a mover where its rules state a ``min``, a ``max``.

        Returns:
            Each with all symbols that differ; ``None`` where nothing is stated, or it is traced.
        """
        leaf = self.leaves_of(symbol)[0]
        if leaf not in self.example:
            return None, None
        low, high = self.span(leaf)
        stated = [s for key in (leaf, *self.inputs) if (s := self._stated(leaf, key)) is not None]
        least = self._next(leaf, low, 1) if any(s.min is not None for s in stated) else None
        most = self._next(leaf, high, -1) if high < LARGEST else None
        found = [self._changed([{leaf: end}]) if end is not None else [] for end in (least, most)]
        low_, high_ = (sizes[0] if sizes else None for sizes in found)
        return low_, high_

    def _stated(self, leaf: str, symbol: str) -> DimSpec | None:
        return self.specs.get(symbol) if leaf in self.leaves_of(symbol) else None

    def _changed(self, sides: list[dict[str, int]]) -> list[dict[str, int]]:
        found = []
        for side in sides:
            sizes = self.assigned(side)
            changed = {
                s: sizes[s] for s in self.inputs if s in sizes and sizes[s] != self.inputs[s]
            }
            if changed and changed not in found:
                found.append(changed)
        return found

    def _valid(self, leaf: str, value: int) -> bool:
        sizes = self.assigned({leaf: value})
        concerned = [leaf, *(s for s in self._order if leaf in self.leaves_of(s))]
        fit = all(
            symbol in sizes
            and (symbol not in self.specs or within(sizes[symbol], self.specs[symbol]))
            for symbol in concerned
        )
        return fit and value >= self._floor(leaf)

    def _floor(self, leaf: str) -> int:
        # Zero is a multiple that nobody means. A cache may be empty.
        spec = self.specs.get(leaf)
        return 1 if spec is not None and spec.multiple_of and not spec.min else 0

    def span(self, leaf: str) -> tuple[int, int]:
        """The least and the greatest value of a leaf within the ranges; ``LARGEST``: no end."""
        followers = [s for s in (leaf, *self._order) if s in self.specs]
        followers = [s for s in followers if leaf in self.leaves_of(s)]

        def fits(value: int, *, low: bool) -> bool:
            sizes = self.assigned({leaf: value})
            ends = [(sizes.get(s, -1), self.specs[s]) for s in followers]
            if low:
                return all(size >= (spec.min or 0) for size, spec in ends)
            return all(spec.max is None or size <= spec.max for size, spec in ends)

        low = _first(0, LARGEST, lambda value: fits(value, low=True))
        high = _first(low, LARGEST, lambda value: not fits(value, low=False)) - 1
        return low, high if high < LARGEST - 1 else LARGEST

    def _at(self, symbol: str, leaf: str, size: int) -> int:
        """The value of a leaf at which a symbol reaches a size."""
        if symbol == leaf:
            return size
        return _first(0, LARGEST, lambda at: self.assigned({leaf: at}).get(symbol, -1) >= size)

    def _next(self, leaf: str, start: int, step: int) -> int | None:
        """The nearest value from ``start`` on that the rules allow."""
        low, high = self.span(leaf)
        if (step < 0 and start < low) or (step > 0 and start > high):
            return None
        begin = min(max(start, low), high)
        spec = self.specs.get(leaf)
        multiple = spec.multiple_of if spec is not None and spec.multiple_of else 1
        begin -= begin % multiple
        begin += multiple if step > 0 and begin < max(start, low) else 0
        for number in range(_FARTHEST):
            value = begin + step * multiple * number
            if value < 0 or not low <= value <= high:
                return None
            if self._valid(leaf, value):
                return value
        return None

    def words(self, symbol: str) -> str:
        """``64 to 2048, multiples of 32``; ``= past + 1``; empty where there is no rule."""
        spec = self.specs.get(symbol)
        return words(spec) if spec is not None else ""


def _first(low: int, high: int, true: Callable[[int], bool]) -> int:
    """The first number at which a condition holds that stays true; ``high`` where none is."""
    reach = low
    step = 1
    while reach < high and not true(reach):
        low, reach, step = reach + 1, reach + step, 2 * step
    reach = min(reach, high)
    while low < reach:
        middle = (low + reach) // 2
        low, reach = (low, middle) if true(middle) else (middle + 1, reach)
    return reach


def within(size: int, spec: DimSpec) -> bool:
    """Whether a range and multiples allow a size."""
    above = spec.min is None or size >= spec.min
    below = spec.max is None or size <= spec.max
    return above and below and (spec.multiple_of is None or size % spec.multiple_of == 0)


def bounds(spec: DimSpec) -> str:
    """``64 to 2048, multiples of 32``; empty where only an expression is stated."""
    parts = []
    if spec.min is not None and spec.max is not None:
        parts.append(f"{spec.min} to {spec.max}")
    elif spec.min is not None:
        parts.append(f"at least {spec.min}")
    elif spec.max is not None:
        parts.append(f"at most {spec.max}")
    if spec.multiple_of is not None and spec.multiple_of > 1:
        parts.append(f"multiples of {spec.multiple_of}")
    return ", ".join(parts)


def words(spec: DimSpec) -> str:
    """The rule of a symbol as a consumer reads it behind the symbol."""
    equals = f"= {spec.equals.strip()}" if spec.equals else ""
    return ", ".join(part for part in (equals, bounds(spec)) if part)


def sentence(symbol: str, said: str) -> str:
    """``h: 64 to 2048, multiples of 32``; ``total = past + 1``."""
    return f"{symbol} {said}" if said.startswith("=") else f"{symbol}: {said}"
