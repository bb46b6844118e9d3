"""Which files a job is made from, found without running any of them.

Data: the checkpoint, the files of inputs and cases, a source that is a file, with its external
data. Code: the module of a registry model and what it imports beside it; for ``_target_`` all of
its top-level package or module; for ``file`` that file; for both, everything that they import
from folders of the user's. An installed package counts by its version, also where that code only
imports it, and the one that has the model by its defining module too; an editable install is a
folder of the user's. Not seen are modules that are imported by a computed name, what installed
packages import, and data that code opens by itself, unless ``kwargs`` names the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import registry
from converter import trust as policy
from converter.job import Job
from converter.libraries import is_library
from converter.spec import CaseInput, Checkpoint, InputSpec
from converter.store.contents import Contents

_CODE = (".py", *EXTENSION_SUFFIXES)


@dataclass(frozen=True)
class Sources:
    """What a job is made from, beside what it asks for.

    Attributes:
        files: by a name that is the same in every checkout. Data has the name of its
            configuration key, code its path below the folder that Python imports it from.
        libraries: top-level names that the code imports from elsewhere; not the standard
            library's. Some may not be installed.
    """

    files: dict[str, Path]
    libraries: frozenset[str]


def of(job: Job, contents: Contents) -> Sources:
    """The files and libraries of a job.

    Relative paths in ``kwargs`` start from the working directory, as the builder will see it.
    """
    code = _Code(contents)
    code.collect(job)
    return Sources({**dict(_data(job, contents)), **code.files}, frozenset(code.libraries))


def _data(job: Job, contents: Contents) -> Iterator[tuple[str, Path]]:
    if isinstance(job.weights, Checkpoint):
        yield "weights.checkpoint", Path(job.weights.checkpoint)
    tensors: list[tuple[str, InputSpec | CaseInput]] = [
        (f"inputs.{name}.path", tensor) for name, tensor in job.inputs.items()
    ]
    for index, case in enumerate(job.verify.cases):
        place = f"verify.cases.{index}.inputs"
        tensors += [(f"{place}.{name}.path", change) for name, change in case.inputs.items()]
    yield from ((key, Path(tensor.path)) for key, tensor in tensors if tensor.path is not None)
    yield from _named_files("kwargs", job.kwargs)
    source = job.source
    if source.path is None or source.kind == "file":
        return
    yield f"source.{source.kind}", Path(source.path)
    if source.kind == "onnx":
        folder = Path(source.path).parent.resolve()
        for location in contents.locations(Path(source.path)):
            if (folder / location).resolve().is_relative_to(folder):
                yield f"source.onnx/{location}", folder / location


def _named_files(key: str, value: Any) -> Iterator[tuple[str, Path]]:
    """The strings that are paths of files: the builder will open them."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _named_files(f"{key}.{name}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _named_files(f"{key}.{index}", item)
    elif isinstance(value, str) and os.path.isfile(value):
        yield key, Path(os.path.abspath(value))


class _Code:
    """Collects the code of one job: ``files``, and ``libraries`` by their top-level names."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._seen: set[Path] = set()
        self.files: dict[str, Path] = {}
        self.libraries: set[str] = set()

    def collect(self, job: Job) -> None:
        source = job.source
        if source.file is not None:
            path = Path(source.file)
            self._follow([(path, path.parent)], [path.parent, *_roots(job)])
        elif source.target is not None:
            self._target(source.target, _roots(job))
        elif source.registry is not None and (entry := registry.find(source.registry)):
            if entry.module.startswith(f"{registry.__name__}."):
                root = registry.FOLDER.parent
                first = _locate(entry.module, [root])[-1:]
                self._follow(first, [root], only=registry.__name__)
            else:
                self._installed(entry.module)

    def _target(self, target: str, roots: Sequence[Path]) -> None:
        top = target.partition(".")[0]
        self.libraries.add(top)  # also where a folder of that name, but no package, is in a root
        root = _root_of(top, roots)
        if root is None:
            places = _editable(top)
        else:
            places = [root / top if (root / top).is_dir() else root / f"{top}.py"]
        if not places:
            self._installed(target)
        for place in places:
            code = _package(place) if place.is_dir() else [place]
            self._follow([(path, place.parent) for path in code], roots)

    def _installed(self, module: str) -> None:
        """The one file of an installed package that defines the model."""
        top = module.partition(".")[0]
        spec = find_spec(top)
        if spec is not None and spec.origin is not None:
            root = Path(spec.origin).parents[1 if spec.submodule_search_locations else 0]
            for path, _ in _locate(module, [root])[-1:]:
                self._add(path, root)

    def _follow(
        self, first: Sequence[tuple[Path, Path]], roots: Sequence[Path], only: str | None = None
    ) -> None:
        """Add files, and what they import from ``roots``, and so on; pairs of file and root.

        Args:
            only: the one package that the roots are taken to have: the registry's folder may be
                installed among all other libraries.
        """
        waiting = list(first)
        while waiting:
            path, root = waiting.pop()
            if path in self._seen:
                continue
            self._seen.add(path)
            self._add(path, root)
            for level, name in self._contents.imports(path) if path.suffix == ".py" else ():
                if level == 0:
                    near = only in (None, name.partition(".")[0])
                    waiting += _locate(name, roots if near else ()) or self._elsewhere(name)
                elif level <= len(path.relative_to(root).parents):
                    beside = _locate(name, [path.parents[level - 1]])
                    waiting += [(found, root) for found, _ in beside]

    def _elsewhere(self, name: str) -> list[tuple[Path, Path]]:
        """The files of an import that is in none of the roots; a library is noted instead."""
        top, _, rest = name.partition(".")
        if top in sys.stdlib_module_names:
            return []
        self.libraries.add(top)
        found: list[tuple[Path, Path]] = []
        for place in _editable(top):
            first = place / "__init__.py" if place.is_dir() else place
            files = [first] if first.is_file() else []
            files += [path for path, _ in _locate(rest, [place])] if rest else []
            found += [(path, place.parent) for path in files]
        return found

    def _add(self, path: Path, root: Path) -> None:
        name = path.relative_to(root).as_posix()
        if self.files.setdefault(name, path) != path:  # two folders have a file of that name
            self.files[str(path)] = path


def _roots(job: Job) -> list[Path]:
    """The folders of the user's that a worker imports from."""
    own = [Path(os.path.abspath(entry)) for entry in sys.path]
    return [path for path in [*own, *policy.folders(job.trust)] if not is_library(path)]


def _root_of(top: str, roots: Sequence[Path]) -> Path | None:
    found = (root for root in roots if (root / top).is_dir() or (root / f"{top}.py").is_file())
    return next(found, None)


def _editable(top: str) -> list[Path]:
    """Where a package (its folders) or module lies that Python finds by an editable install.

    That is neither in a library nor on ``sys.path``: what is there is found among the roots.
    """
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):  # a ValueError: a module of this process without a spec
        return []
    if spec is None:
        return []
    places = [*(spec.submodule_search_locations or ())]
    if not places and spec.has_location and spec.origin is not None:
        places = [spec.origin]
    known = {os.path.abspath(entry) for entry in sys.path}
    return [
        Path(place)
        for place in places
        if os.path.exists(place) and not is_library(place) and os.path.dirname(place) not in known
    ]


def _locate(name: str, roots: Sequence[Path]) -> list[tuple[Path, Path]]:
    """The files that Python runs to import a dotted name, from the first root that has some.

    The last parts may be names inside of a module.
    """
    for root in roots:
        found: list[tuple[Path, Path]] = []
        place = root
        for part in name.split("."):
            package, module = place / part / "__init__.py", place / f"{part}.py"
            if package.is_file():
                found.append((package, root))
            elif module.is_file():
                found.append((module, root))
                break
            elif not (place / part).is_dir():
                break
            place /= part
        if found:
            return found
    return []


def _package(folder: Path) -> list[Path]:
    """All code below a folder, but for hidden folders and virtual environments."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith((".", "__pycache__"))
            and not (Path(place) / name / "pyvenv.cfg").exists()
        )
        found += [Path(place) / name for name in sorted(names) if name.endswith(_CODE)]
    return found
