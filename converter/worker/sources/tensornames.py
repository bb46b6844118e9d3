"""From the names of tensors in a file to those in a model, as ``weights:`` states it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from converter.model.source import Checkpoint

Names = dict[str, str]
"""The name in the model of each tensor to its name in the file."""


class UnfitError(Exception):
    """A key of ``weights:`` that does not fit the file.

    Attributes:
        message: what was found.
        hint: what to do.
        final: nothing that could be proposed says more than ``hint``.
    """

    def __init__(self, message: str, hint: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.final = final


def fitted(keys: Iterable[str], stated: Checkpoint) -> Names:
    """Names of a file without what is ignored, with prefixes cut off, then renamed.

    Raises:
        UnfitError: something that is stated matches no name, or two names become one.
    """
    names = _used(list(keys), stated.ignore)
    for prefix in stated.prefixes:
        names = _stripped(names, prefix)
    return _renamed(names, stated.rename)


def _used(keys: list[str], ignored: Iterable[str]) -> Names:
    found = {key: key for key in keys}
    for pattern in ignored:
        matched = [key for key in keys if fnmatchcase(key, pattern)]
        if not matched:
            raise UnfitError(
                f"weights.ignore '{pattern}' matches no key; there are {first(keys)}",
                "Correct the pattern, or remove it.",
                final=True,
            )
        for key in matched:
            found.pop(key, None)
    return found


def _stripped(names: Names, prefix: str) -> Names:
    """Without ``prefix``, where a name has it; the others stay."""
    if not any(name.startswith(prefix) for name in names):
        raise UnfitError(
            f"no key starts with weights.strip_prefix '{prefix}'; there are {first(names)}",
            "Remove weights.strip_prefix, or correct it.",
        )
    # One of the two tensors would be lost.
    without = [name for name in names if not name.startswith(prefix)]
    if twice := [name for name in without if prefix + name in names]:
        raise UnfitError(
            f"keys stand both with and without '{prefix}': {first(twice)}",
            "Leave out those of one kind with weights.ignore, or save the two state dicts under "
            "keys of their own and set weights.key.",
            final=True,
        )
    return {name.removeprefix(prefix): key for name, key in names.items()}


def _renamed(names: Names, renames: Mapping[str, str]) -> Names:
    """All at once: a name is renamed by its own entry, else by the longest prefix."""
    found: Names = {}
    unused = dict.fromkeys(renames)
    for name, key in names.items():
        old = max((old for old in renames if _covers(old, name)), key=len, default=None)
        if old is not None:
            unused.pop(old, None)
            name = renames[old] + name[len(old) :]
        if name in found:
            raise UnfitError(
                f"weights.rename gives {found[name]} and {key} the same name, {name}",
                "Leave one of them out with weights.ignore, or rename it to something else.",
                final=True,
            )
        found[name] = key
    if unused:
        raise UnfitError(
            f"weights.rename '{next(iter(unused))}' matches no key; there are {first(names)}",
            "Name a tensor as it stands after strip_prefix, or all of a module: 'fc.', with a dot.",
        )
    return found


def _covers(old: str, name: str) -> bool:
    return name == old or (name.startswith(old) and (old == "" or old.endswith(".")))


def first(names: Iterable[str]) -> str:
    """The first five, as a message lists them."""
    every = list(names)
    return ", ".join(every[:5]) + (", …" if len(every) > 5 else "") if every else "nothing"
