"""Which files a job is made from, found without running any of them.

Data: the checkpoint, the files of inputs and cases, a source that is a file, with its external
data. Code: the module of a registry model and what it imports beside it; for ``_target_`` all of
its top-level package or module; for ``file`` that file; for both, everything that they import
from folders of the user's. An installed package counts by its version and its defining module.
Not seen are modules that are imported by a computed name, and data that code opens by itself.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import registry
from converter import trust as policy
from converter.job import Job
from converter.spec import CaseInput, Checkpoint, InputSpec
from converter.store.contents import Contents

_CODE = (".py", *EXTENSION_SUFFIXES)


def of(job: Job, contents: Contents) -> dict[str, Path]:
    """The files of a job by a name that is the same in every checkout.

    Data has the name of its configuration key, code its path below the folder that Python
    imports it from.
    """
    return {**dict(_data(job, contents)), **_Code(contents).of(job)}


def top_level(job: Job) -> str | None:
    """The installed package that has the model's code, or ``None`` where it is in a folder."""
    if job.source.target is None:
        return None
    top = job.source.target.partition(".")[0]
    return None if _root_of(top, _roots(job)) else top


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
    source = job.source
    if source.path is None or source.kind == "file":
        return
    yield f"source.{source.kind}", Path(source.path)
    if source.kind == "onnx":
        folder = Path(source.path).parent.resolve()
        for location in contents.locations(Path(source.path)):
            if (folder / location).resolve().is_relative_to(folder):
                yield f"source.onnx/{location}", folder / location


class _Code:
    """Collects the code of one job."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._seen: set[Path] = set()
        self._found: dict[str, Path] = {}

    def of(self, job: Job) -> dict[str, Path]:
        source = job.source
        if source.file is not None:
            path = Path(source.file)
            self._follow([(path, path.parent)], [path.parent, *_roots(job)])
        elif source.target is not None:
            self._target(source.target, _roots(job))
        elif source.registry is not None and (entry := registry.find(source.registry)):
            if entry.module.startswith(f"{registry.__name__}."):
                root = registry.FOLDER.parent
                self._follow(_locate(entry.module, [root])[-1:], [root])
            else:
                self._installed(entry.module)
        return self._found

    def _target(self, target: str, roots: Sequence[Path]) -> None:
        top = target.partition(".")[0]
        root = _root_of(top, roots)
        if root is None:
            self._installed(target)
        elif (root / top).is_dir():
            self._follow([(path, root) for path in _package(root / top)], roots)
        else:
            self._follow([(root / f"{top}.py", root)], roots)

    def _installed(self, module: str) -> None:
        """The one file of an installed package that defines the model."""
        top = module.partition(".")[0]
        spec = find_spec(top)
        if spec is not None and spec.origin is not None:
            root = Path(spec.origin).parents[1 if spec.submodule_search_locations else 0]
            for path, _ in _locate(module, [root])[-1:]:
                self._add(path, root)

    def _follow(self, first: Sequence[tuple[Path, Path]], roots: Sequence[Path]) -> None:
        """Add files, and what they import from ``roots``, and so on; pairs of file and root."""
        waiting = list(first)
        while waiting:
            path, root = waiting.pop()
            if path in self._seen:
                continue
            self._seen.add(path)
            self._add(path, root)
            for level, name in self._contents.imports(path) if path.suffix == ".py" else ():
                if level == 0:
                    waiting += _locate(name, roots)
                elif level <= len(path.relative_to(root).parents):
                    near = _locate(name, [path.parents[level - 1]])
                    waiting += [(found, root) for found, _ in near]

    def _add(self, path: Path, root: Path) -> None:
        name = path.relative_to(root).as_posix()
        if self._found.setdefault(name, path) != path:  # two folders have a file of that name
            self._found[str(path)] = path


def _roots(job: Job) -> list[Path]:
    """The folders of the user's that a worker imports from."""
    own = [Path(os.path.abspath(entry)) for entry in sys.path]
    return [path for path in [*own, *policy.folders(job.trust)] if not _is_library(path)]


def _is_library(path: Path) -> bool:
    libraries = ("site-packages", "dist-packages")
    standard = Path(sysconfig.get_path("stdlib"))
    return any(name in path.parts for name in libraries) or path.is_relative_to(standard)


def _root_of(top: str, roots: Sequence[Path]) -> Path | None:
    found = (root for root in roots if (root / top).is_dir() or (root / f"{top}.py").is_file())
    return next(found, None)


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
