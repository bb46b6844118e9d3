"""On what a file was verified, in short: as the file itself, an index and a terminal say it.

``verify.domain`` of the manifest has all of it; see ``converter.model.records.Domain``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from pydantic import Field, ValidationError

from converter.model.base import Frozen
from converter.model.plaintext import PlainText
from converter.model.records import Branch, Domain

KEY = "converter.verified"
"""Of the entry in a file's ``metadata_props``."""

# What never happened at a condition, by Branch.outcome.
_NEVER = {
    "true": "never true",
    "false": "never false",
    "a turn": "no turn of the loop",
    "no turn": "never without a turn",
    "another value": "one value only",
    "an effect of its number": "its number changed nothing",
}


class Values(Frozen):
    """What an input held.

    Attributes:
        low, high: the least and the greatest value; ``None`` of strings, and of an
            input that was always empty.
        patterns: by name: ``normal``, ``large``, ``zeros``, ``left-aligned``, …
    """

    low: float | None = None
    high: float | None = None
    patterns: list[PlainText] = Field(default_factory=list)


class Verified(Frozen):
    """The domain on which a file is right.

    Attributes:
        sizes: symbol of a dynamic axis → the sizes that were verified, in order.
        dims: symbol → which sizes it may have: ``64 to 2048, multiples of 32``, ``= past + 1``,
            ``fixed at 224``. Of others nothing is promised.
        values: input → what it held.
        unreached: branches of the model's code that no case reached, each in a line.
    """

    sizes: dict[PlainText, list[int]] = Field(default_factory=dict)
    dims: dict[PlainText, PlainText] = Field(default_factory=dict)
    values: dict[PlainText, Values] = Field(default_factory=dict)
    unreached: list[PlainText] = Field(default_factory=list)

    @classmethod
    def of(cls, domain: Domain) -> Verified:
        return cls(
            # The traced size is verified too, as the example itself.
            sizes={item.symbol: sorted({item.traced, *item.sizes}) for item in domain.symbols},
            dims={
                **{item.symbol: item.rule for item in domain.symbols if item.rule},
                **domain.claims,
                **{symbol: f"fixed at {size}" for symbol, size in domain.frozen.items()},
            },
            values={
                item.name: Values(low=item.low, high=item.high, patterns=item.patterns)
                for item in domain.inputs
            },
            unreached=[str(branch) for branch in domain.unreached],
        )

    def words(self) -> str:
        """As a file carries it: JSON, the same for the same job on every machine."""
        said = self.model_dump()
        if not self.dims:  # a file without rules stays what it was before there were any
            del said["dims"]
        return json.dumps(said, separators=(",", ":"), ensure_ascii=False)


def read(text: str) -> Verified | None:
    """What a file says of itself; ``None`` where another program wrote something else there."""
    try:
        return Verified.model_validate_json(text)
    except ValidationError:
        return None


def sizes(numbers: Iterable[int]) -> str:
    """``1–5, 7, 15–17``: three or more in a row as their ends."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown = [f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs]
    return ", ".join(shown) or "none"


def extent(low: float | None, high: float | None) -> str:
    """``-4.1 to 38``: from the least to the greatest value of an input."""
    if low is None or high is None:
        return "no numbers"
    return f"{low:g} to {high:g}" if low != high else f"{low:g} only"


def never(branch: Branch) -> str:
    """What no case did at a condition: ``never true``."""
    return _NEVER.get(branch.outcome, f"never {branch.outcome}")


def count(branches: int) -> str:
    """``3 branches of this model were never reached``."""
    if branches == 1:
        return "1 branch of this model was never reached"
    return f"{branches} branches of this model were never reached"
