"""What is noise in a figure from night to night, and what is a change.

Each night is held against the ten before it that have the figure: the band is their median, and to
either side four times their spread (the median absolute deviation, scaled as of a normal
distribution), at least the share that a comparison of two runs lets pass. This is Hampel's filter
with the past alone as its window: after a lasting change the band follows within some nights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converter.model.batch import CompareSpec

_WIDTH = 4 * 1.4826
_LIMITS = CompareSpec()


@dataclass(frozen=True, slots=True)
class Kind:
    """A figure.

    Attributes:
        share: of its median that is noise in any case.
        least: nights that a band needs. A file has its size and its error, whoever measures them:
            there one will do.
        most: nights that it is made of.
    """

    name: str
    share: float
    least: int = 1
    most: int = 10


LATENCY = Kind("latency", _LIMITS.latency, 5)
ERROR = Kind("error", _LIMITS.error)
SIZE = Kind("size", 0.01, most=1)
SECONDS = Kind("time", 0.5, 5)


@dataclass(frozen=True, slots=True)
class Band:
    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """A figure in each night.

    Attributes:
        about: the provider of a latency; else empty.
        values: ``None``: the night has none.
        bands: of each night; ``None``: too few nights before it.
        outside: nights whose figure is beyond their band.
    """

    kind: Kind
    about: str
    values: Sequence[float | None]
    bands: Sequence[Band | None]
    outside: frozenset[int]

    @property
    def name(self) -> str:
        return f"{self.kind.name} {self.about}".rstrip()

    @property
    def last(self) -> float | None:
        """The newest figure that there is."""
        return next((value for value in reversed(self.values) if value is not None), None)

    @property
    def steps(self) -> list[int]:
        """Where it goes out of its band; not the nights after, while the band follows."""
        known = [at for at, value in enumerate(self.values) if value is not None]
        before = dict(zip(known[1:], known, strict=False))
        return [at for at in known if at in self.outside and before.get(at) not in self.outside]


def series(
    kind: Kind,
    values: Sequence[float | None],
    about: str = "",
    reach: Sequence[tuple[float, float] | None] = (),
) -> Series:
    """A figure with its bands.

    Args:
        reach: the confidence interval of each value, all of which has to be outside.
    """
    present = [value for value in values if value is not None]
    if present and min(present) == max(present):
        # Most figures of a file never move: no window is looked at for each night.
        still = _band(present, kind)
        return Series(kind, about, values, [still] * len(values), frozenset())
    bands: list[Band | None] = []
    outside = set()
    window: list[float] = []
    for at, value in enumerate(values):
        band = _band(window, kind) if len(window) >= kind.least else None
        bands.append(band)
        if value is None:
            continue
        low, high = (reach[at] if reach else None) or (value, value)
        if band is not None and (low > band.high or high < band.low):
            outside.add(at)
        window = [*window, value][-kind.most :]
    return Series(kind, about, values, bands, frozenset(outside))


def _band(window: Sequence[float], kind: Kind) -> Band:
    middle = _median(window)
    spread = 0.0
    if min(window) != max(window):
        spread = _WIDTH * _median([abs(value - middle) for value in window])
    half = max(spread, kind.share * middle)
    return Band(max(middle - half, 0.0), middle, middle + half)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
