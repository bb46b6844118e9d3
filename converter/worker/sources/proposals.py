"""What to write as ``weights:`` so that a checkpoint fits a model, found from names and shapes.

Each mapping of tensors in the file is tried: prefixes are cut off as long as more names fit, a
module under another name with the same tensors is renamed, the rest is ignored. What is proposed
was tried: with it that many tensors are loaded.
"""

from __future__ import annotations

import glob
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import yaml
from torch import Tensor

from converter.model.source import Checkpoint
from converter.worker.sources import tensornames

Shape = tuple[int, ...] | None
Shapes = Mapping[str, Shape]
"""The tensors of a model; ``None``: any shape fits, of what is made by the first call."""

# How deep in the file a state dict is looked for, and how many prefixes are cut off.
_DEPTH, _PREFIXES = 4, 4
# torch forgives a checkpoint without it.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Proposal:
    """What would fit.

    Attributes:
        stated: the whole mapping to write.
        fitting: how many of the model's tensors it loads.
        complete: the model needs no other, and none is left over.
        others: keys that would fit as well.
    """

    stated: Checkpoint
    fitting: int
    complete: bool
    others: tuple[str, ...] = ()

    def line(self, expected: Shapes) -> str:
        """A sentence with a line of YAML to paste."""
        values = self.stated.model_dump(exclude_defaults=True)
        written = yaml.safe_dump(
            values, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True
        ).strip()
        others = f"; key: {', '.join(self.others)} would fit as well" if self.others else ""
        return (
            f"Write weights: {written} ({self.fitting} of {len(expected)} keys would fit{others})."
        )


def best(content: object, expected: Shapes, stated: Checkpoint) -> Proposal | None:
    """The proposal that loads most; ``None`` where none loads half of the model.

    Args:
        content: of the file.
        stated: what does not fit; its path and its hash stay.
    """
    found = []
    for key, state in holders(content):
        base = {"checkpoint": stated.checkpoint, "sha256": stated.sha256, "key": key}
        if (one := _of(state, expected, {k: v for k, v in base.items() if v})) is not None:
            found.append(one)
    if not found:
        return None
    # Of equal ones that with the stated key, then the first in the file.
    ranks = [(p.complete, p.fitting, p.stated.key == stated.key) for p in found]
    top = max(range(len(found)), key=lambda place: (ranks[place], -place))
    chosen = found[top]
    if chosen.fitting * 2 < len(expected):
        return None
    others = [
        proposal.stated.key
        for place, proposal in enumerate(found)
        if place != top and ranks[place][:2] == ranks[top][:2] and proposal.stated.key
    ]
    return Proposal(chosen.stated, chosen.fitting, chosen.complete, tuple(others))


def holders(
    content: object, key: str = "", depth: int = _DEPTH
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each mapping of names to tensors, with the key that leads there."""
    if not isinstance(content, Mapping):
        return
    if holds_tensors(content):
        yield key, content
    if depth == 0:
        return
    for name, value in content.items():
        if isinstance(name, str):
            yield from holders(value, f"{key}.{name}" if key else name, depth - 1)


def holds_tensors(content: object) -> bool:
    return (
        isinstance(content, Mapping)
        and all(isinstance(key, str) for key in content)
        and any(isinstance(value, Tensor) for value in content.values())
    )


def fits(value: object, shape: Shape) -> bool:
    """Whether torch takes a tensor of the file for one of the model."""
    if not isinstance(value, Tensor) or shape is None:
        return isinstance(value, Tensor)
    # torch takes one element for a scalar: files from before it had scalars hold them so.
    return tuple(value.shape) == shape or (shape == () and value.numel() == 1)


def patterns(unused: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Globs for some keys of a file and no other: the modules that they are of, where that fits."""
    wanted = dict.fromkeys(unused)
    taken = {prefix for key in keys if key not in wanted for prefix in _prefixes(key)}
    found: dict[str, None] = {}
    for key in wanted:
        own = next((prefix for prefix in _prefixes(key) if prefix not in taken), None)
        found[glob.escape(key) if own is None else f"{glob.escape(own)}*"] = None
    return list(found)


def _prefixes(name: str) -> list[str]:
    """``a.b.c``: ``a.`` and ``a.b.``."""
    parts = name.split(".")
    return [".".join(parts[:cut]) + "." for cut in range(1, len(parts))]


def _of(
    state: Mapping[str, object], expected: Shapes, base: Mapping[str, object]
) -> Proposal | None:
    """What makes most of one mapping fit."""
    names = {key: key for key in state}
    prefixes: list[str] = []
    while len(prefixes) < _PREFIXES and (prefix := _prefix(names, state, expected)):
        prefixes.append(prefix)
        names = {name.removeprefix(prefix): key for name, key in names.items()}
    renames = _renames(names, state, expected)
    settings = dict(base)
    if prefixes:
        settings["strip_prefix"] = prefixes if prefixes[1:] else prefixes[0]
    if renames:
        settings["rename"] = renames
    try:
        names = tensornames.fitted(state, Checkpoint.model_validate(settings))
        extra = [key for name, key in names.items() if name not in expected]
        if extra:
            settings["ignore"] = patterns(extra, state)
        stated = Checkpoint.model_validate(settings)
        names = tensornames.fitted(state, stated)
    except tensornames.UnfitError:  # two names would become one, or a prefix was of extra keys only
        return None
    fitting = [name for name, key in names.items() if _fits(name, state[key], expected)]
    missing = [name for name in expected if name not in names and not name.endswith(_COUNTER)]
    complete = not missing and len(fitting) == len(names)
    return Proposal(stated, len(fitting), complete) if fitting else None


def _fits(name: str, value: object, expected: Shapes) -> bool:
    return name in expected and fits(value, expected[name])


def _prefix(names: Mapping[str, str], state: Mapping[str, object], expected: Shapes) -> str:
    """The prefix without which most names fit; empty where it is best to cut off none."""
    counts: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for name, key in names.items():
        value, is_one = state[key], _fits(name, state[key], expected)
        for prefix in _prefixes(name):
            rest = name[len(prefix) :]
            counts[prefix] += _fits(rest, value, expected)
            lost[prefix] += is_one
            # Two names would become one.
            lost[prefix] += 2 * len(names) * (rest in names and not rest.startswith(prefix))
    best = max(counts, key=lambda prefix: counts[prefix] - lost[prefix], default="")
    return best if counts[best] > lost[best] else ""


def _renames(
    names: Mapping[str, str], state: Mapping[str, object], expected: Shapes
) -> dict[str, str]:
    """Modules, then single tensors, that are in the model under another name.

    Only where names and shapes below them say which: of two modules that are built alike nothing is
    guessed.
    """
    extra = {name: _shape_of(state[key]) for name, key in names.items() if name not in expected}
    missing = {name: shape for name, shape in expected.items() if name not in names}
    ours, theirs = _modules(missing), _modules(extra)
    places: defaultdict[frozenset[object], list[str]] = defaultdict(list)
    for prefix, content in ours.items():
        places[content].append(prefix)
    alike = Counter(theirs.values())
    used = {prefix for name in names if name in expected for prefix in ("", *_prefixes(name))}
    found: dict[str, str] = {}
    # From the outside: a module brings all that is in it.
    for prefix in sorted(theirs.keys() - used, key=lambda one: (one.count("."), one)):
        content = theirs[prefix]
        inside = any(outer in found for outer in ("", *_prefixes(prefix)))
        if not inside and alike[content] == 1 and len(places[content]) == 1:
            found[prefix] = places[content][0]
    return found | _single(extra, missing, found)


def _single(extra: Shapes, missing: Shapes, modules: Mapping[str, str]) -> dict[str, str]:
    """Tensors whose shape no other one has that is left."""
    left = {k: v for k, v in extra.items() if v and not any(k.startswith(one) for one in modules)}
    done = tuple(modules.values())
    open_ = {k: v for k, v in missing.items() if v and not (done and k.startswith(done))}
    have, want = Counter(left.values()), Counter(open_.values())
    places = {shape: name for name, shape in open_.items()}
    return {
        name: places[shape] for name, shape in left.items() if have[shape] == 1 and want[shape] == 1
    }


def _modules(shapes: Shapes) -> dict[str, frozenset[object]]:
    """Each prefix to what is below it: names and shapes."""
    below: defaultdict[str, list[tuple[str, Shape]]] = defaultdict(list)
    for name, shape in shapes.items():
        if not name.endswith(_COUNTER):
            for prefix in ("", *_prefixes(name)):
                below[prefix].append((name[len(prefix) :], shape))
    return {prefix: frozenset(content) for prefix, content in below.items()}


def _shape_of(value: object) -> Shape:
    return tuple(value.shape) if isinstance(value, Tensor) else None
