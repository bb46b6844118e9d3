"""Whose code may run: the trust rule, as pure functions over names and paths.

Model code runs only from the registry, torchvision, timm and what ``CONVERTER_TRUST`` lists.
An entry of that variable with a path separator is a folder, any other is a module with all
that is below it. Listing an item trusts it whole; of the built-in packages only what builds
a model may be called (``converter.worker.sources.importing`` sees to that), because their helpers
download, unpack and unpickle. Hydra's own list of blocked targets is no boundary: process
launchers and file removers pass it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from converter.layout import files
from converter.model.errors import Code, StageError

VARIABLE = "CONVERTER_TRUST"
BUILT_IN = ("registry", "torchvision.models", "torchvision.ops", "timm.models", "timm.layers")


def parse(text: str, cwd: Path) -> list[str]:
    """The entries of ``CONVERTER_TRUST``: module names, and folders made absolute."""
    entries = [entry.strip() for entry in text.split(os.pathsep)]
    # An empty entry is none: as a path it would be the working directory.
    return [_absolute(entry, cwd) if _is_folder(entry) else entry for entry in entries if entry]


def is_listed(name: str, trust: Sequence[str]) -> bool:
    """Does a listed module hold this dotted name?"""
    return _holds((entry for entry in trust if not _is_folder(entry)), name)


def is_built_in(name: str) -> bool:
    """Does a package that is always trusted hold this dotted name?"""
    return _holds(BUILT_IN, name)


def folders(trust: Sequence[str]) -> list[Path]:
    """The listed folders, with symbolic links resolved."""
    # Both sides are resolved: a listed folder may be a link itself, and a link in it may lead out.
    return [Path(entry).resolve() for entry in trust if _is_folder(entry)]


def holds_file(path: str | Path, trust: Sequence[str]) -> bool:
    """Is the file, wherever links lead, inside a listed folder?"""
    real = Path(path).resolve()
    return any(real.is_relative_to(folder) for folder in folders(trust))


def line_to_export(addition: str, trust: Sequence[str]) -> str:
    """The shell line that trusts one thing more and keeps what is trusted."""
    return f"export {VARIABLE}={shlex.quote(os.pathsep.join([*trust, addition]))}"


def target_denied(what: str, addition: str, trust: Sequence[str], advice: str = "") -> StageError:
    """The refusal of a target or a file.

    Args:
        what: the refused thing, as a clause without a full stop.
        addition: the entry that would trust it.
        advice: what to do instead, as a clause that an "or" may follow.
    """
    line = line_to_export(addition, trust)
    hint = f"{advice}, or, if you trust its code: {line}" if advice else f"If you trust it: {line}"
    return StageError(Code.TARGET_DENIED, what, hint)


def untrusted_target(target: str, trust: Sequence[str], what: str = "") -> StageError:
    """The refusal of a dotted name whose module nobody listed; ``what`` is what states it."""
    top = target.partition(".")[0]
    what = what or f"_target_ '{target}'"
    return target_denied(f"{what} is not trusted", top, trust, registry_advice(target))


def registry_advice(target: str) -> str:
    """How the registry has the models of a library; empty for others."""
    top = target.partition(".")[0]
    return f"Write 'source: {top}/NAME'" if top in ("torchvision", "timm") else ""


def trusted_file(key: str, file: str, trust: Sequence[str]) -> Path:
    """The real path of a file whose loading runs code.

    Raises:
        StageError: LOAD when there is none, TARGET_DENIED when no trusted folder holds it.
    """
    files.require(Code.LOAD, f"{key}:", file)
    # A link in a trusted folder may lead out of it.
    path = Path(file).resolve()
    if not holds_file(path, trust):
        what = f"{key}: {file} is not inside a trusted folder"
        if str(path) != file:
            what += f" (it leads to {path})"
        raise target_denied(what, str(path.parent), trust)
    return path


def _is_folder(entry: str) -> bool:
    return os.sep in entry or entry in (".", "..", "~")


def _absolute(entry: str, cwd: Path) -> str:
    return os.path.normpath(cwd / Path(entry).expanduser())


def _holds(modules: Iterable[str], name: str) -> bool:
    # With the dot: who trusts `mine` has not trusted `mine_too`.
    return any(name == module or name.startswith(f"{module}.") for module in modules)
