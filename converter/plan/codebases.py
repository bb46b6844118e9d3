"""All code of a package and what it imports: looked at once for all models that are built by it."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from converter.plan.contents import Contents
from converter.plan.modules import Modules, Place

MOST_PARTS = 200
"""Of a code base with more files, the key has a part for each of its upper folders."""


@dataclass(frozen=True)
class CodeBase:
    """One package or module of the user's, with everything that it imports from folders of theirs.

    Attributes:
        files: by their path below the folder that Python imports them from.
        hashes: by the same names; ``None``: it cannot be read.
        libraries: top-level names that it imports from elsewhere.
        folders: where anything was looked for.
    """

    files: Mapping[str, str]
    hashes: Mapping[str, str | None]
    libraries: frozenset[str]
    folders: frozenset[str]

    @property
    def is_large(self) -> bool:
        return len(self.files) > MOST_PARTS

    @cached_property
    def parts(self) -> dict[str, str]:
        """The parts that a large one has in a key: a hash for each of its upper folders."""
        folders = {name.rpartition(os.sep)[0] for name in self.files}
        deepest = max(folder.count(os.sep) + 1 for folder in folders)
        depth = 1
        while depth < deepest and len({_above(f, depth + 1) for f in folders}) <= MOST_PARTS:
            depth += 1
        above = {folder: _above(folder, depth) for folder in folders}
        lines: dict[str, list[str]] = {}
        for name in sorted(self.files):
            # A file that is in no folder stands for itself.
            part = above[name.rpartition(os.sep)[0]] or name
            lines.setdefault(part, []).append(f"{name} {self.hashes[name]}\n")
        return {
            f"code {part}": hashlib.sha256("".join(listed).encode()).hexdigest()
            for part, listed in lines.items()
        }

    @cached_property
    def real_paths(self) -> frozenset[str]:
        """Where its files are once links are followed."""
        folders: dict[str, str] = {}
        found = set()
        for path in self.files.values():
            folder, _, name = path.rpartition(os.sep)
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            place = f"{folders[folder]}{os.sep}{name}"
            found.add(os.path.realpath(place) if os.path.islink(place) else place)
        return frozenset(found)


class CodeBases:
    """Finds code bases. What is found stays for all keys of a run, until somebody looks again."""

    def __init__(self, contents: Contents, modules: Modules) -> None:
        self.contents = contents
        self.modules = modules
        self._found: dict[tuple[str, tuple[str, ...]], CodeBase] = {}
        self._doubted = False
        self._hashes: dict[str, str | None] = {}  # of files that several code bases have

    def doubt(self) -> None:
        """From here on files may have changed: each question looks at all of them."""
        self._doubted = True
        self._hashes.clear()
        self.modules.doubt()

    def of(self, place: str, roots: Sequence[str], known: Set[str] | None = None) -> CodeBase:
        """The code base of a package's folder, or of a module.

        Args:
            roots: the folders of the user's that Python imports from.
            known: of what is in the package and that no code imports by its name, these files.
        """
        asked = place, tuple(roots)
        before = self._found.get(asked)
        if before is not None and (not self._doubted or self._rests(before)):
            return before
        collects = gc.isenabled()
        gc.disable()  # a third of the time: it looks through all that is found, again and again
        try:
            found = self._look(place, roots, known)
        finally:
            if collects:
                gc.enable()
        if before is not None and (found.files, found.hashes) == (before.files, before.hashes):
            # Something was written beside them. Equal, so that one object stands for all jobs.
            found = before
        self._found[asked] = found
        return found

    def _rests(self, base: CodeBase) -> bool:
        paths = base.files.values()
        code = [path for path in paths if path.endswith(".py")]
        others = [path for path in paths if not path.endswith(".py")]
        rest = self.contents.rest
        return rest("names", base.folders) and rest("code", code) and rest("sha256", others)

    def _hash(self, path: str) -> str | None:
        if path.endswith(".py"):
            return self.contents.code(path).sha256
        return self.contents.sha256(path)

    def _look(self, place: str, roots: Sequence[str], known: Set[str] | None) -> CodeBase:
        code: Iterable[Place] = [(place, os.path.dirname(place))]
        folders: set[str] = set()
        if os.path.isdir(place):
            code, folders = self.modules.package(place)
            code = [found for found in code if known is None or found[0] in known]
        found = self.modules.follow(list(code), roots)
        files: dict[str, str] = {}
        hashes: dict[str, str | None] = {}
        for path, root in found.files:
            name = path.removeprefix(f"{root}{os.sep}")
            if name == path:
                name = os.path.relpath(path, root)
            name = path if name in files else name  # two folders have a file of that name
            files[name] = path
            if path not in self._hashes:
                self._hashes[path] = self._hash(path)
            hashes[name] = self._hashes[path]
        if self._doubted:
            self._hashes.clear()
        return CodeBase(files, hashes, found.libraries, frozenset([*folders, *found.folders]))


def _above(folder: str, depth: int) -> str:
    """``mono/zoo`` of ``mono/zoo/nets``."""
    return os.sep.join(folder.split(os.sep)[:depth])
