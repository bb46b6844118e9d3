"""``python -m converter store ls|gc|verify``: look at the store, tidy it up, hash it again.

Exit code 0; ``verify`` gives 1 when an entry is damaged. A run rebuilds what is missing, so all of
it may be deleted at any time.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

from converter.cache import housekeeping, stores
from converter.cache.housekeeping import Item
from converter.cache.stores import AnyStore
from converter.cli.arguments import Parser
from converter.display.columns import Table, table
from converter.display.screen import Screen
from converter.model.batch import StoreSpec
from converter.model.errors import ConfigError, ExitCode, Problem, RunError
from converter.model.units import size
from converter.storage import exclusive, location
from converter.storage.location import Location, Url

SUMMARY = "what is kept for later runs: ls | gc [--max-age 30d] [--max-size 20GB] | verify"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
# Decimal, like the sizes that `ls` prints: what is copied from there means the same.
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def main(argv: Sequence[str]) -> int:
    """Do what the first word says, and print it.

    Raises:
        ConfigError: there is no store, or a limit cannot be read.
        RunError: the store cannot be written.
    """
    arguments = _parser().parse_args(argv)
    store = stores.opened(_place(arguments.path))
    try:
        if arguments.action == "gc":
            return _collect(store, arguments.max_age, arguments.max_size, arguments.json)
        if arguments.action == "verify":
            return _verify(store, arguments.json)
        return _list(store, arguments.json)
    except OSError as error:
        where = error.filename or store.where
        raise RunError(f"the store: {error.strerror or error}: {where}") from error


def _place(text: str) -> Location:
    try:
        place = location.parse(text)
    except ValueError as error:
        raise ConfigError(Problem("store", f"{location.masked(text)} {error}.")) from error
    if isinstance(place, Url):
        return place
    if not place.is_dir():
        hint = "Name its folder, or its URL, with --path."
        raise ConfigError(Problem("store", f"there is no store {text}.", hint))
    return place.resolve()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m converter store", description=SUMMARY)
    common = Parser(add_help=False)
    default = StoreSpec().path
    common.add_argument("--path", default=default, help=f"a folder or a URL; default: {default}")
    common.add_argument("--json", action="store_true", help="one JSON object")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("ls", parents=[common], help="the entries, the last used first")
    gc = actions.add_parser("gc", parents=[common], help="remove damaged entries and leftovers")
    gc.add_argument("--max-age", type=_age, help="and entries unused for that long: 12h, 30d")
    gc.add_argument("--max-size", type=_size, help="and what is over this, oldest first: 20GB")
    actions.add_parser("verify", parents=[common], help="hash every file again")
    return parser


def _age(text: str) -> float:
    return _quantity(text, _SECONDS, "a time such as 12h or 30d")


def _size(text: str) -> int:
    return int(_quantity(text.upper(), _BYTES, "a size such as 500MB or 20GB"))


def _quantity(text: str, units: dict[str, int], expected: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text)
    amount = float(match[1]) if match else math.inf  # as more than 308 digits are
    if match is None or match[2] not in units or math.isinf(amount):
        raise argparse.ArgumentTypeError(f"found '{text}', expected {expected}")
    return amount * units[match[2]]


def _list(store: AnyStore, as_json: bool) -> int:
    found = sorted(housekeeping.items(store), key=lambda item: item.used_at, reverse=True)
    if as_json:
        print(
            json.dumps({"path": str(store.where), "entries": [_record(i) for i in found]}, indent=2)
        )
        return ExitCode.OK
    screen = Screen(sys.stdout)
    if found:
        screen(_table(found))
    screen(f"{_entries(len(found))}, {size(sum(item.bytes for item in found))} in {store.where}")
    return ExitCode.OK


def _table(found: Sequence[Item]) -> Table:
    rows = []
    for item in found:
        onnx = item.stored.result.onnx if item.stored else None
        what = f"opset {onnx.opset:<3} {onnx.exporter}" if onnx else item.problem or ""
        age = _ago(time.time() - item.used_at)
        rows.append((item.key[:12], _name(item), size(item.bytes), age, what))
    width = max(len(row[1]) for row in rows)
    lines = [
        f"{k}  {name:<{width}}  {big:>7}  {age:>4}  {what}" for k, name, big, age, what in rows
    ]
    head = ("key", "name", "size", "used", "what")
    return table(head, rows, left=2, shrinks=(1,), wraps=4, log="\n".join(lines))


def _collect(store: AnyStore, max_age: float | None, max_size: int | None, as_json: bool) -> int:
    # Entries of a folder are renamed away. In an object store they go file by file, by one at a
    # time.
    held = exclusive.lock_with_timeout(store.where, 0) if isinstance(store.where, Url) else None
    with held or nullcontext():
        return _removed(store, max_age, max_size, as_json)


def _removed(store: AnyStore, max_age: float | None, max_size: int | None, as_json: bool) -> int:
    found = list(housekeeping.items(store))
    gone = housekeeping.superfluous(found, max_age, max_size)
    try:
        # At most so much: a file that a run has as a hard link stays until that run goes too.
        freed = sum(store.drop(item.key) for item in gone)
        rest = [left for left in store.leftovers() if store.remove(left)]
        freed += sum(left.bytes for left in rest)
    except OSError as error:
        raise RunError(f"cannot remove {error.filename}: {error.strerror}") from error
    if as_json:
        removed = [item.key for item in gone] + [left.name for left in rest]
        kept = len(found) - len(gone)
        print(json.dumps({"removed": removed, "bytes": freed, "kept": kept}, indent=2))
        return ExitCode.OK
    others = f" and {len(rest)} leftovers" if rest else ""
    print(f"removed {_entries(len(gone))}{others}, {size(freed)}; {len(found) - len(gone)} stay")
    return ExitCode.OK


def _verify(store: AnyStore, as_json: bool) -> int:
    found = [(item, housekeeping.damage(store, item)) for item in housekeeping.items(store)]
    bad = [(item, problem) for item, problem in found if problem]
    if as_json:
        damaged = [{"key": item.key, "name": _name(item), "problem": why} for item, why in bad]
        print(json.dumps({"entries": len(found), "damaged": damaged}, indent=2))
    else:
        lines = [f"damaged {item.key[:12]} {_name(item)}: {problem}" for item, problem in bad]
        if bad:
            lines.append(
                "The next run that needs one builds it again; `store gc` removes what it finds."
            )
        whole = len(found) - len(bad)
        lines.append(f"{_entries(len(found))}: {whole} whole, {len(bad)} damaged")
        Screen(sys.stdout)("\n".join(lines))
    return ExitCode.MODELS_FAILED if bad else ExitCode.OK


def _name(item: Item) -> str:
    return item.stored.entry.label if item.stored else "?"


def _entries(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"


def _ago(seconds: float) -> str:
    # Negative where the clock was set back since: such an entry counts as just used.
    unit = next((unit for unit in "dhm" if seconds >= _SECONDS[unit]), "s")
    return f"{max(0.0, seconds) / _SECONDS[unit]:.0f}{unit}"


def _record(item: Item) -> dict[str, Any]:
    stored = item.stored
    return {
        "key": item.key,
        "name": _name(item),
        "source": stored.entry.source if stored else None,
        "created_at": stored.entry.created_at if stored else None,
        "used_at": f"{datetime.fromtimestamp(item.used_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "bytes": item.bytes,
        "parts": stored.entry.parts if stored else {},
        "problem": item.problem,
    }
