"""Where Python finds what code imports, told from the import statements: nothing is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

from converter.layout.libraries import is_library
from converter.plan.contents import Contents
from converter.plan.index import ImportIndex

# A compiled module counts by its bytes. Its imports cannot be read.
CODE = (".py", *EXTENSION_SUFFIXES)
Place = tuple[str, str]
"""A file, and the folder that Python imports it from."""
Ways = tuple[tuple[Place, ...], tuple[str, ...]]
"""Files that imports lead to, and top-level names of libraries."""


@dataclass(frozen=True)
class Imports:
    """What some files import, and what these import, and so on.

    Attributes:
        files: in the order in which they were met; the first ones too.
        libraries: top-level names of what comes from elsewhere; not the standard library's.
        folders: where it was looked for.
    """

    files: tuple[Place, ...]
    libraries: frozenset[str]
    folders: tuple[str, ...]


class Modules:
    """Follows imports; for files that are shared it looks once, as long as all of them rest."""

    def __init__(self, contents: Contents, store: Path | None = None) -> None:
        """Args: store: what is parsed is kept there; ``None``: for this run only."""
        self._contents = contents
        self._store = store
        self._indices: dict[tuple[str, ...], ImportIndex] = {}
        self._searches: dict[tuple[tuple[str, ...], str | None], _Search] = {}
        self._doubted = False
        self._known: dict[tuple[tuple[Place, ...], tuple[str, ...], str | None], Imports] = {}
        self._editable: dict[str, list[str]] = {}

    def doubt(self) -> None:
        """From here on files may have changed: what was found before is not gone by."""
        self._doubted = True
        self._searches.clear()

    def imports(
        self, first: Sequence[Place], roots: Sequence[str], only: str | None = None
    ) -> Imports:
        """The files, and what they import from ``roots`` and from editable installs.

        Args:
            only: the one package that the roots are taken to have: the registry's folder may be
                installed among all other libraries.
        """
        asked = tuple(first), tuple(roots), only
        known = self._known.get(asked)
        # Both have to rest: a new file in a folder may be what an import finds now.
        if known is None or not self._rests(known):
            # Not `follow`: this is to be known from the files of now.
            search = _Search(self._contents, self._editable, asked[1], only)
            known = self._known[asked] = search.follow(first)
        return known

    def follow(
        self, first: Sequence[Place], roots: Sequence[str], only: str | None = None
    ) -> Imports:
        """Like ``imports``; what was found on the way counts until somebody doubts it."""
        asked = tuple(roots)
        if asked not in self._indices:
            self._indices[asked] = ImportIndex(self._store, asked)
        index = self._contents.index = self._indices[asked]
        try:
            search = self._searches.get((asked, only))
            if search is None:
                search = _Search(self._contents, self._editable, asked, only)
            if not self._doubted:
                self._searches[asked, only] = search
            return search.follow(first)
        finally:  # also where somebody does not wait for the end
            index.save()

    def _rests(self, known: Imports) -> bool:
        read = (path for path, _ in known.files if path.endswith(".py"))
        return self._contents.rest("names", known.folders) and self._contents.rest("code", read)

    def locate(self, name: str, root: str) -> list[Place]:
        """The files that Python runs to import a dotted name from a folder."""
        return _Search(self._contents, self._editable, (root,), None).locate(name, (root,))

    def package(self, folder: str) -> tuple[list[Place], set[str]]:
        """All code below a folder, but for hidden folders and virtual environments.

        Returns:
            The files, and the folders that were looked into.
        """
        root, waiting = os.path.dirname(folder), [folder]
        found: list[Place] = []
        folders: set[str] = set()
        while waiting:
            place = waiting.pop()
            names = self._contents.names(place)
            folders.add(place)
            # The marker of a virtual environment, whatever its name is.
            if "pyvenv.cfg" in names and place != folder:
                continue
            for name, kind in names.items():
                if kind == "file" and name.endswith(CODE):
                    found.append((f"{place}{os.sep}{name}", root))
                elif kind == "folder" and not name.startswith((".", "__pycache__")):
                    waiting.append(f"{place}{os.sep}{name}")
        return found, folders

    def editable(self, top: str) -> list[str]:
        """Where a package (its folders) or module lies that Python finds by an editable install.

        That is neither in a library nor on ``sys.path``: what is there is found among the roots.
        """
        return _editable(top, self._editable)


@dataclass
class _Search:
    """One way through the imports: each folder is read once, each name located once."""

    contents: Contents
    known_editable: dict[str, list[str]]
    roots: tuple[str, ...]
    only: str | None
    folders: dict[str, dict[str, str]] = field(default_factory=dict)
    located: dict[tuple[str, tuple[str, ...]], list[Place]] = field(default_factory=dict)
    # What absolute names and whole files lead to: places, and top-level names of libraries. Most
    # files of a code base import the same, and most models the same files.
    names: dict[str, Ways] = field(default_factory=dict)
    ways: dict[Place, Ways] = field(default_factory=dict)

    def follow(self, first: Sequence[Place]) -> Imports:
        waiting = list(first)
        found: dict[str, str] = {}
        libraries: set[str] = set()
        while waiting:
            path, root = waiting.pop()
            if path in found:
                continue
            found[path] = root
            if path.endswith(".py"):
                places, tops = self._ways(path, root)
                waiting += places
                libraries.update(tops)
        return Imports(tuple(found.items()), frozenset(libraries), tuple(self.folders))

    def _ways(self, path: str, root: str) -> Ways:
        """Where the imports of a file lead."""
        known = self.ways.get((path, root))
        if known is not None:
            return known
        places: list[Place] = []
        tops: set[str] = set()
        for said in self.contents.code(path).imports:
            if said[0] != ".":
                if said not in self.names:
                    self.names[said] = self._absolute(said)
                near, others = self.names[said]
                places += near
                tops.update(others)
                continue
            name = said.lstrip(".")
            # One dot is the file's own folder: each takes a part off the end of the path.
            folder = path.rsplit(os.sep, len(said) - len(name))[0]
            # Python refuses a relative import that leaves the root, too.
            if len(folder) >= len(root.rstrip(os.sep)):
                places += [(place, root) for place, _ in self.locate(name, (folder,))]
        found = self.ways[path, root] = tuple(dict.fromkeys(places)), tuple(tops)
        return found

    def _absolute(self, name: str) -> Ways:
        top = name.partition(".")[0]
        # An installed registry lies among all libraries, and its folder must not be a root for
        # those.
        places = self.locate(name, self.roots if self.only in (None, top) else ())
        # What is in none of the roots and not of the standard library, which counts by the version
        # of Python, is a library, also where an editable install has files of it.
        if places or top in sys.stdlib_module_names:
            return tuple(places), ()
        return tuple(self._elsewhere(name)), (top,)

    def _elsewhere(self, name: str) -> list[Place]:
        """The files of an editable install that an import leads to."""
        top, _, rest = name.partition(".")
        found: list[Place] = []
        for place in _editable(top, self.known_editable):
            first = os.path.join(place, "__init__.py") if os.path.isdir(place) else place
            files = [first] if os.path.isfile(first) else []
            files += [path for path, _ in self.locate(rest, (place,))] if rest else []
            found += [(path, os.path.dirname(place)) for path in files]
        return found

    def locate(self, name: str, roots: tuple[str, ...]) -> list[Place]:
        """The files that Python runs to import a dotted name, from the first root that has some.

        The last parts may be names inside of a module.
        """
        asked = name, roots
        if asked not in self.located:
            ways = (self._below(root, name.split(".")) for root in roots)
            self.located[asked] = next((way for way in ways if way), [])
        return self.located[asked]

    def _below(self, root: str, parts: Sequence[str]) -> list[Place]:
        found: list[Place] = []
        place = root
        for part in parts:
            names = self._names(place)
            # Not `os.path.join`, which takes longer than all else here.
            folder = f"{place}{os.sep}{part}" if place != os.sep else f"{os.sep}{part}"
            is_folder = names.get(part) in ("folder", "link")
            # As Python's finder has it: a package before a module of that name. A folder without
            # `__init__.py` is a namespace package, in which nothing runs: the search goes on inside
            # of it.
            if is_folder and self._names(folder).get("__init__.py") == "file":
                found.append((f"{folder}{os.sep}__init__.py", root))
            elif names.get(f"{part}.py") == "file":
                found.append((f"{folder}.py", root))
                break
            elif not is_folder:
                break
            place = folder
        return found

    def _names(self, folder: str) -> dict[str, str]:
        if folder not in self.folders:
            self.folders[folder] = dict(self.contents.names(folder))
        return self.folders[folder]


def _editable(top: str, known: dict[str, list[str]]) -> list[str]:
    if top not in known:
        known[top] = _find_editable(top)
    return known[top]


def _find_editable(top: str) -> list[str]:
    try:
        # Of a top-level name only: that of a dotted one imports its parents.
        spec = find_spec(top)
    except (ImportError, ValueError):  # a ValueError: a module of this process without a spec
        return []
    if spec is None:
        return []
    places = [*(spec.submodule_search_locations or ())]
    if not places and spec.has_location and spec.origin is not None:
        places = [spec.origin]
    # What lies directly on the path was found among the roots already.
    on_path = {os.path.abspath(entry) for entry in sys.path}
    return [
        place
        for place in places
        if os.path.exists(place) and not is_library(place) and os.path.dirname(place) not in on_path
    ]
