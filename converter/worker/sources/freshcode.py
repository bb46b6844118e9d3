"""Imports the user's own code from its source, never from Python's bytecode cache.

Python takes a file in ``__pycache__`` for current when the source still has its size and its time
to the second. A file that was rewritten within that (by git, rsync or a script that keeps times)
would be imported as it was before, and what it built kept under the key of what it says now.
Libraries are imported as ever: their cache saves seconds, and they count by their version.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType

import registry
from converter.layout.libraries import is_library


class Loader(SourceFileLoader):
    """Compiles a module each time; neither reads nor writes a cache."""

    # It is `get_code` of the base class that reads and writes `__pycache__`.
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class Finder:
    """Stands before all other finders: finds what they find, with another loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            # Itself left out, or it would ask itself without end.
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                # Exactly this type: what is derived from it loads in a way of its own.
                if type(spec.loader) is SourceFileLoader and _is_own(spec.loader.path):
                    spec.loader = Loader(name, spec.loader.path)
                return spec
        return None


_FINDER = Finder()


def install() -> None:
    """For the rest of this process; what is imported already stays as it is."""
    if _FINDER not in sys.meta_path:
        # In front: the first finder that knows a name decides how it is loaded.
        sys.meta_path.insert(0, _FINDER)


def _is_own(path: str) -> bool:
    """The registry's modules count by their content too, wherever it is installed."""
    return not is_library(path) or path.startswith(f"{registry.FOLDER}{os.sep}")
