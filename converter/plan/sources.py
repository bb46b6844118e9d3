"""Which files a job is made from, found without running any of them.

Data: the checkpoint, with its index and all shards, the files of inputs and cases, the samples of
``data``, a source that is a file, with its external data, files and folders that ``kwargs`` name,
libraries of custom operators. Code: the module of a registry model and what it imports beside it;
for each ``_target_``, of ``kwargs``, ``data`` and ``metric`` too, and for ``export.translations``
all of the top-level package or module; for ``file`` that file; for all of them, everything that
they import from folders of the user's. An installed package counts by its version, also where that
code only imports it, and the one that has the model by its defining module too; an editable install
is a folder of the user's. Not seen are modules that are imported by a computed name, what installed
packages import, and data that code opens by itself: the worker tells which files these were
(``converter.worker.recording.reading``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import registry
from converter.layout import trust as policy
from converter.layout.libraries import is_library
from converter.model import trees, urls
from converter.model.errors import StageError
from converter.model.inputs import CaseInput, InputSpec
from converter.model.job import Job
from converter.model.source import Checkpoint
from converter.plan import checkpoints, samples
from converter.plan.codebases import CodeBase, CodeBases
from converter.plan.contents import Contents
from converter.plan.modules import Place

MOST_FILES = 5000
"""A folder that ``kwargs`` names and that holds more is not in the key: nothing is stored then."""
# Of ``data``, as many as a variant may calibrate on.
_MOST_SAMPLES = 1000


@dataclass(frozen=True)
class Sources:
    """What a job is made from, beside what it asks for.

    Attributes:
        files: by a name that is the same in every checkout. Data has the name of its
            configuration key, code its path below the folder that Python imports it from.
        libraries: top-level names that the code imports from elsewhere; not the standard
            library's. Some may not be installed.
        bases: large code bases, whose files are not in ``files``.
        too_large: the keys of folders with more than ``MOST_FILES`` files: those are not in
            ``files``.
        left_out: the keys of sets of samples of which only the first are read, with the number of
            the others: a row names it.
    """

    files: dict[str, Path]
    libraries: frozenset[str]
    bases: tuple[CodeBase, ...] = ()
    too_large: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def paths(self) -> list[Path]:
        """All files, those of the code bases too."""
        return [*self.files.values(), *(Path(p) for b in self.bases for p in b.files.values())]


def of(job: Job, bases: CodeBases, known: Set[str] | None = None) -> Sources:
    """The files and libraries of a job.

    Relative paths in ``kwargs`` start from the working directory, as the builder will see it.

    Args:
        known: of what is only there because its folder counts, these files: one that is new in
            it, and that no code imports by its name, does not count.
    """
    code = _Code(bases, known)
    code.collect(job)
    data, too_large = _named_data(job, bases.contents, known)
    return Sources(
        {**data, **code.files},
        frozenset(code.libraries),
        tuple(code.bases),
        too_large,
        tuple(_left_out(job)),
    )


def named(job: Job) -> list[Path]:
    """The files that a job names, without looking at what its code imports."""
    data, _ = _named_data(job, Contents(), None)
    return [*data.values(), *([Path(job.source.file)] if job.source.file else [])]


def _named_data(
    job: Job, contents: Contents, known: Set[str] | None
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of data, and the keys of folders with too many of them."""
    data = dict(_data(job, contents))
    too_large = []
    # One file too many leaves out the whole folder: half of it in the key would look like all.
    for key, folder in _arguments(job, os.path.isdir):
        inside = _inside(folder, contents)
        if inside is None:
            too_large.append(key)
            continue
        paths = {name: Path(folder, name) for name in inside}
        data |= {
            f"{key}/{name}": path
            for name, path in paths.items()
            if known is None or str(path) in known
        }
    return data, tuple(too_large)


def of_derived(job: Job, bases: CodeBases) -> Sources:
    """The files and libraries of inputs, ``data`` and ``metric``: a variant needs no more.

    It may be calibrated on inputs, and on more samples than it is verified on.
    """
    code = _Code(bases, None)
    said = {key: one for key, one in (("data", job.data), ("metric", job.metric)) if one}
    code.collect_targets([one.target for one in said.values() if one.target], job)
    data = {
        key: Path(path)
        for name, one in said.items()
        for key, path in _named(name, one.arguments, os.path.isfile)
    }
    for key, tensor in samples.named(job):
        data |= dict(_of_path(key, tensor))
    root = os.path.dirname(job.data.path) if job.data and job.data.path else ""
    for files in _samples_of(job, whole=True)[:_MOST_SAMPLES]:
        for path in files.inputs:
            data[f"data/{samples.below(root, path)}"] = Path(path)
    return Sources({**data, **code.files}, frozenset(code.libraries), tuple(code.bases))


def _left_out(job: Job) -> Iterator[tuple[str, int]]:
    for name, tensor in job.inputs.items():
        if tensor.path is not None and samples.several(tensor.path):
            yield f"inputs.{name}.path", samples.left_out(tensor.path, len(samples.of(tensor)))
    if job.data is not None and job.data.path is not None:
        yield "data", max(len(_samples_of(job, whole=True)) - job.data.limit, 0)


def _samples_of(job: Job, *, whole: bool = False) -> list[samples.DataFiles]:
    if job.data is None:
        return []
    try:
        return samples.all_of_data(job.data) if whole else samples.of_data(job.data)
    except (StageError, OSError):  # the job will tell
        return []


def _data(job: Job, contents: Contents) -> Iterator[tuple[str, Path]]:
    # What lies at a URL counts by its hash, which is stated (`converter.plan.keys`).
    if isinstance(job.weights, Checkpoint) and not job.weights.is_url:
        yield from checkpoints.names(Path(job.weights.checkpoint)).items()
    for key, tensor in samples.named(job):
        yield from _of_path(key, tensor)
    yield from _of_samples(job)
    for index, library in enumerate(job.export.custom_ops):
        yield f"export.custom_ops.{index}", Path(library)
    for key, path in _arguments(job, os.path.isfile):
        yield key, Path(path)
    source = job.source
    # A file of Python counts as code, with what it imports.
    if source.path is None or source.kind == "file":
        return
    yield f"source.{source.kind}", Path(source.path)
    if source.kind == "onnx":
        folder = Path(source.path).parent.resolve()
        for location in contents.locations(source.path):
            # What lies elsewhere the job refuses to read.
            if (folder / location).resolve().is_relative_to(folder):
                yield f"source.onnx/{location}", folder / location


def _of_path(key: str, tensor: InputSpec | CaseInput) -> Iterator[tuple[str, Path]]:
    """The file of an input; of a folder or a glob those that are read."""
    if tensor.path is None or urls.is_url(tensor.path):
        return
    if not isinstance(tensor, InputSpec) or not samples.several(tensor.path):
        yield key, Path(tensor.path)
        return
    # Not only those that were there before: a new one that sorts among them is read as well.
    for file in samples.of(tensor):
        yield f"{key}/{samples.below(tensor.path, file)}", Path(file)


def _of_samples(job: Job) -> Iterator[tuple[str, Path]]:
    """The files of ``data`` that are read."""
    root = os.path.dirname(job.data.path) if job.data and job.data.path else ""
    for sample in _samples_of(job):
        for path in (*sample.inputs, *sample.outputs):
            yield f"data/{samples.below(root, path)}", Path(path)


def _arguments(job: Job, exists: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """What the arguments of the builder, and of the functions of ``data`` and ``metric``, name."""
    named = {"kwargs": job.kwargs}
    named |= {"data": job.data.arguments} if job.data else {}
    named |= {"metric": job.metric.arguments} if job.metric else {}
    for key, arguments in named.items():
        yield from _named(key, arguments, exists)


def _named(key: str, value: Any, exists: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """The strings that are paths of files, or of folders: the builder will open them."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _named(f"{key}.{name}", item, exists)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _named(f"{key}.{index}", item, exists)
    elif isinstance(value, str) and value != os.sep and exists(value):  # more often a separator
        yield key, os.path.abspath(value)


def _inside(folder: str, contents: Contents) -> list[str] | None:
    """The files below a folder, relative to it, links followed; ``None``: more than MOST_FILES.

    Without what no builder means: hidden files and folders, caches of bytecode, virtual
    environments, and the output of earlier runs. One that is read all the same is noticed.
    """
    found: list[str] = []
    waiting, seen = [""], set()
    while waiting:
        below = waiting.pop()
        place = os.path.join(folder, below)
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            continue
        seen.add(real)
        names = contents.names(place)
        # The folder itself was named, and counts whatever it is.
        if below and ("pyvenv.cfg" in names or ".hydra" in names):
            continue
        for name, kind in names.items():
            if name.startswith((".", "__pycache__")):
                continue
            (found if kind == "file" else waiting).append(os.path.join(below, name))
        # Folders count too: a tree of empty ones would be walked to its end.
        if len(found) > MOST_FILES or len(seen) > MOST_FILES:
            return None
    return sorted(found)


class _Code:
    """Collects the code of one job.

    Attributes:
        files: but for those of ``bases``.
        bases: the large code bases.
        libraries: by their top-level names.
    """

    def __init__(self, bases: CodeBases, known: Set[str] | None) -> None:
        self._bases = bases
        self._modules = bases.modules
        self._known = known
        self.files: dict[str, Path] = {}
        self.bases: list[CodeBase] = []
        self.libraries: set[str] = set()

    def collect(self, job: Job) -> None:
        for reference in job.export.translations:
            self._target(reference.replace(":", "."), _roots(job))
        source = job.source
        if source.file is not None:
            folder = os.path.dirname(source.file)
            self._include(source.file, [folder, *_roots(job)])
        elif source.target is not None:
            self._target(source.target, _roots(job))
        elif source.registry is not None and (entry := registry.find(source.registry)):
            if entry.module.startswith(f"{registry.__name__}."):
                root = str(registry.FOLDER.parent)
                first = self._modules.locate(entry.module, root)[-1:]
                # `registry` is part of the converter and may be installed among libraries: `only`
                # keeps it from taking their code for its own.
                self._follow(first, [root], only=registry.__name__)
            else:
                self._installed(entry.module)
        for _, target in trees.targets(job):
            self._target(target, _roots(job))

        targets = [said.target for said in (job.data, job.metric) if said and said.target]
        self.collect_targets(targets, job)

    def collect_targets(self, targets: Sequence[str], job: Job) -> None:
        for target in targets:
            self._target(target, _roots(job))

    def _target(self, target: str, roots: Sequence[str]) -> None:
        top = target.partition(".")[0]
        self.libraries.add(top)  # also where a folder of that name, but no package, is in a root
        # As Python does it: the first folder of the path that has the name.
        root = _root_of(top, roots)
        if root is None:
            places = self._modules.editable(top)
        else:
            place = os.path.join(root, top)
            places = [place if os.path.isdir(place) else f"{place}.py"]
        if not places:
            self._installed(target)
        for place in places:
            self._include(place, roots)

    def _include(self, place: str, roots: Sequence[str]) -> None:
        base = self._bases.of(place, roots, self._known)
        self.libraries |= base.libraries
        if not base.is_large:
            for name, path in base.files.items():
                self._add_as(name, Path(path))
        elif base not in self.bases:
            self.bases.append(base)

    def _installed(self, module: str) -> None:
        """The one file of an installed package that defines the model."""
        top = module.partition(".")[0]
        spec = find_spec(top)
        if spec is not None and spec.origin is not None:
            root = Path(spec.origin).parents[1 if spec.submodule_search_locations else 0]
            # The last: packages on the way to it count by the library's version.
            for place in self._modules.locate(module, str(root))[-1:]:
                self._add(place)

    def _follow(
        self, first: Sequence[Place], roots: Sequence[str], only: str | None = None
    ) -> None:
        found = self._modules.imports(first, roots, only)
        self.libraries |= found.libraries
        for place in found.files:
            self._add(place)

    def _add(self, place: Place) -> None:
        self._add_as(os.path.relpath(*place), Path(place[0]))

    def _add_as(self, name: str, path: Path) -> None:
        if self.files.setdefault(name, path) != path:  # two folders have a file of that name
            self.files[str(path)] = path


def _roots(job: Job) -> list[str]:
    """The folders of the user's that a worker imports from."""
    own = [os.path.abspath(entry) for entry in sys.path]
    folders = [*own, *map(str, policy.folders(job.trust))]
    return [path for path in dict.fromkeys(folders) if not is_library(path)]


def _root_of(top: str, roots: Sequence[str]) -> str | None:
    places = ((root, os.path.join(root, top)) for root in roots)
    found = (
        root for root, place in places if os.path.isdir(place) or os.path.isfile(f"{place}.py")
    )
    return next(found, None)
