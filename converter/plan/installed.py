"""The versions of installed packages by the name that code imports: PyYAML by ``yaml``."""

from __future__ import annotations

from functools import cached_property
from importlib import metadata


class Installed:
    """Looks at what is installed once, and only when it is asked for a name."""

    def __init__(self) -> None:
        # Several distributions may provide one name: a namespace package, `onnxruntime` and its GPU
        # build.
        self._known: dict[str, dict[str, str]] = {}

    def of(self, top: str) -> dict[str, str]:
        """The distributions that provide a top-level name, with their versions; often one."""
        if top not in self._known:
            # One that does not list its files (an editable install) may still have that name.
            names = sorted(set(self._providers.get(top, ()))) or [top]
            found = {name: _version(name) for name in names}
            self._known[top] = {name: version for name, version in found.items() if version}
        return self._known[top]

    @cached_property
    def _providers(self) -> dict[str, list[str]]:
        """By top-level name; reads the records of all distributions, which takes a moment."""
        found = metadata.packages_distributions()
        # An installation that was cut off leaves metadata without a name.
        return {top: [name for name in names if name] for top, names in found.items()}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
