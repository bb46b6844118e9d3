"""Which files of this machine a job needs on a node: its trusted folders, and what it names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import registry
from converter.layout import libraries, trust
from converter.model.job import Composed, Derived, Job
from converter.plan import sources
from converter.plan.contents import Contents
from converter.plan.modules import CODE, Modules

_PACKAGE = Path(__file__).resolve().parents[1]
# Installed on each node with the converter.
_INSTALLED = (f"{_PACKAGE}{os.sep}", f"{registry.FOLDER}{os.sep}")


@dataclass
class Files:
    """Files of this machine.

    Attributes:
        real: real paths with their sizes.
        links: by their absolute paths the real ones that they lead to.
    """

    real: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Add a file under the path that is used for it, if it is there and can be read."""
        real = os.path.realpath(path)
        if not os.path.isfile(real) or not os.access(real, os.R_OK):
            return
        self.real[real] = os.path.getsize(real)
        if real != path:
            # Its folders are no links on the node: a file has a link of its own there, so that the
            # trust in a folder ends where it ends here.
            self.links[path] = real

    @property
    def bytes(self) -> int:
        return sum(self.real.values())

    def largest(self, count: int) -> list[tuple[str, int]]:
        return sorted(self.real.items(), key=lambda item: (-item[1], item[0]))[:count]


def of_folder(entry: str, besides: Iterable[str]) -> Files:
    """What a trusted folder holds.

    Without what no model means: hidden files and folders, caches of bytecode, virtual environments,
    directories of runs, and folders that only a symbolic link leads to.

    Args:
        besides: folders that are left out.
    """
    found, out = Files(), {os.path.realpath(one) for one in besides}
    if os.path.isfile(entry):
        found.add(entry)
    for folder, inside, names in os.walk(os.path.realpath(entry)):
        inside[:] = [
            name
            for name in inside
            if not name.startswith((".", "__pycache__"))
            and (place := os.path.join(folder, name)) not in out
            and not any(
                os.path.exists(os.path.join(place, own)) for own in ("pyvenv.cfg", ".hydra")
            )
        ]
        for name in names:
            if not name.startswith("."):
                path = os.path.join(folder, name)
                found.add(path)
                # Under the name that the user trusts, too.
                if (stated := entry + path.removeprefix(os.path.realpath(entry))) != path:
                    found.add(stated)
    return found


def folders(job: Job, named: Iterable[str]) -> list[str]:
    """The trusted folders that code of a job lies in: it may read what else is there."""
    code = [os.path.realpath(path) for path in named if path.endswith(CODE)]
    if job.source.path is not None:
        code.append(os.path.realpath(job.source.path))
    return [
        entry
        for entry in job.trust
        if os.sep in entry and any(trust.holds_file(path, [entry]) for path in code)
    ]


def named(job: Job, contents: Contents, modules: Modules) -> list[str]:
    """The files that a job is made from, absolute, but for those that are installed."""
    found: dict[str, None] = {}
    for each in job.graphs.values() if isinstance(job, Composed) else [job]:
        if isinstance(each, Derived):
            paths = [Path(path) for path in each.export.custom_ops]
            paths += sources.of_derived(each, modules).files.values()
        else:
            paths = [*sources.of(each, contents, modules).files.values()]
        found |= {os.path.abspath(path): None for path in paths}
    return [path for path in found if not _is_installed(os.path.realpath(path))]


def made(job: Job) -> Iterator[str]:
    """The files that earlier jobs have made for this one, absolute."""
    mains = [getattr(job, name, "") or "" for name in ("parent_file", "file")]
    mains += job.graph_files.values() if isinstance(job, Composed) else ()
    for main in filter(None, mains):
        # What belongs to a file lies beside it, under a longer name: external data, companions.
        stem = f"{Path(main).stem}."
        folder = Path(main).parent
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith(stem) and path.is_file():
                yield str(path)
    if references := str(getattr(job, "references", "")):
        yield references


def _is_installed(path: str) -> bool:
    return libraries.is_library(path) or path.startswith(_INSTALLED)
