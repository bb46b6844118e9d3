"""Bytes made wrong: a bit flips, a part is cut out, doubled, moved, or put in from elsewhere."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (
    -1, 0, 1, 2, 3, 7, 16, 255, 1000, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63),
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "a\0b", "\x1b[31mred", "\u202e", "../up", "../../../../etc/passwd",
    "/etc/passwd", "/dev/zero", "/proc/self/environ", ".", "..", "a" * 5000, "é", "ai.onnx",
    "com.microsoft", "${oc.env:HOME}", "NaN", "-", "x/y", "\n", "{", "'", "null",
)  # fmt: skip
# Beside those of NUMBERS and TEXTS, what JSON and YAML can say.
PLAIN: tuple[Any, ...] = (
    None, True, False, 1.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), 10**30, [], {},
    [[]], {"": None}, [None], {"a": {"b": {"c": [1]}}}, ["a"] * 300, "z" * 100_000,
)  # fmt: skip

_SPLICED = (
    b"\0",
    b"\xff" * 8,
    b"{",
    b"}",
    b"\n",
    b'"',
    b"\x1b[2J",
    b"\xc3\x28",
    b"e999",
    b"-" * 20,
)


def of_bytes(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """A mutation of ``data``, or several; it may come out the same."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_KINDS)(found, rng, others)
    return bytes(found)


def _span(data: bytearray, rng: random.Random) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.choice((1, 2, 4, 16, 64, 512)))


def _flip(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _truncate(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _cut(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    begin, end = _span(data, rng)
    del data[begin:end]


def _double(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    begin, end = _span(data, rng)
    place = rng.choice((end, rng.randrange(len(data) + 1)))
    data[place:place] = data[begin:end] * rng.choice((1, 1, 3))


def _insert(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.choice((*_SPLICED, rng.randbytes(rng.choice((1, 8, 64)))))


def _splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    if others:
        other = rng.choice(others)
        begin = rng.randrange(len(other) + 1)
        place, end = _span(data, rng)
        data[place:end] = other[begin : begin + rng.choice((8, 64, 1024, len(other)))]


_KINDS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip, _flip, _overwrite, _truncate, _cut, _double, _insert, _splice,
)  # fmt: skip


def any_value(rng: random.Random) -> Any:
    """One that hardly any place expects."""
    kind = rng.randrange(8)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 5:
        return rng.choice(TEXTS)
    if kind == 5:  # deep
        value: Any = rng.choice((1, "x", None))
        for _ in range(rng.choice((3, 40, 60, 200))):
            value = [value] if rng.random() < 0.5 else {"k": value}
        return value
    return rng.choice(PLAIN)


def of_plain(value: Any, rng: random.Random) -> Any:
    """JSON data with one place changed: replaced, removed, doubled, renamed, taken elsewhere."""
    places = list(_places(value, ()))
    path = rng.choice(places)
    kind = rng.randrange(6)
    if not path:
        return any_value(rng) if kind < 2 else of_plain(value, rng) if len(places) > 1 else value
    root = json.loads(json.dumps(value))
    around = root
    for part in path[:-1]:
        around = around[part]
    last = path[-1]
    if kind < 3:
        around[last] = any_value(rng)
    elif kind == 3:
        del around[last]
    elif kind == 4:
        other = value
        for part in rng.choice(places):
            other = other[part]
        around[last] = json.loads(json.dumps(other))
    elif isinstance(around, list):
        around.insert(rng.randrange(len(around) + 1), json.loads(json.dumps(around[last])))
    else:
        around[rng.choice(TEXTS)] = around.pop(last)
    return root


def _places(value: Any, path: tuple[Any, ...]) -> Any:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:40]):
            yield from _places(inner, (*path, index))
