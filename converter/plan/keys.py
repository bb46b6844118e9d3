"""The key of a job: everything that decides what its file looks like, part by part.

Two jobs of the same key give the same file. A part has a name, so that a miss can say what
changed. No time is in it, no place, no thread count, and nothing that only decides what is said
about a file: its tags, what was expected of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import converter
import registry
from converter.layout import files
from converter.model.inputs import InputSpec
from converter.model.job import Composed, Derived, Job
from converter.model.source import Checkpoint
from converter.plan import samples, sources
from converter.plan.codebases import CodeBase, CodeBases
from converter.plan.contents import Contents
from converter.plan.installed import Installed
from converter.plan.modules import Modules
from converter.plugins import loader, providers

Parts = dict[str, Any]

_PACKAGE = Path(__file__).resolve().parents[1]
_ALWAYS = (
    "torch", "torchvision", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "onnxruntime-gpu",
    "numpy",
)  # fmt: skip
# What the rest of a job is: where, how fast, for whom, and what has a part of its own.
_NOT_REQUEST = {
    "source", "weights", "inputs", "exporter", "expect", "tags", "threads", "trust",
    "model_dir", "staging_dir", "variants", "precisions", "format", "parent", "optional", "cast_io",
    "partial", "parent_file", "parent_files", "references", "references_sha256", "provider_options",
    "entry", "graphs", "graph_files", "graph_hashes", "graph_weights", "siblings", "sibling_s",
}  # fmt: skip
# What decides how a file that exists is changed and judged.
_DERIVED = ("onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
_PLUGINS = ("exporters", "simplifiers", "providers")
# How a variant is made and judged is no part of the file that it is made from.
_OF_VARIANTS = (
    "worker/pipeline/derive.py", "worker/verify/emulation.py", "worker/onnxfile/overflow.py",
    "worker/verify/rounded_weights.py",
)  # fmt: skip
# Of a file of an input, whose contents have a part of their own.
_PLACES = ("path", "sha256")
_SHOWN = 3
_WIDTH = 40


@dataclass(frozen=True)
class JobKey:
    """What a job is made from.

    Attributes:
        parts: JSON values by name: ``request.opset``, ``file registry/srcnn.py``,
            ``package torch``.
        files: the files among them, by the second word of their name.
        bases: the large code bases, whose files have no part of their own.
        incomplete: what it does not cover and should, so that nothing is stored under it.
    """

    parts: Parts
    files: dict[str, Path]
    incomplete: str | None = None
    bases: tuple[CodeBase, ...] = ()

    @cached_property
    def digest(self) -> str:
        return digest(self.parts)


def digest(parts: Parts) -> str:
    """64 hex digits that are equal for equal parts."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Keys:
    """Makes the keys of a run's jobs; a file that several share is read once.

    Args:
        packages: installed versions, as in the manifest.
        gpus: the machine's, for jobs that may use one.
        store: the folder of the store, where what code imports is kept from run to run.
        looking: called before each file of code that is read; what it raises passes through.
    """

    def __init__(
        self,
        packages: Mapping[str, str | None],
        gpus: Sequence[str],
        store: Path | None = None,
        looking: Callable[[], None] = lambda: None,
    ) -> None:
        self._packages = packages
        # The variable decides which of them a job gets.
        self._gpus = [*gpus, os.environ.get("CUDA_VISIBLE_DEVICES", "")] if gpus else []
        self._contents = Contents(looking)
        self._bases = CodeBases(self._contents, Modules(self._contents, store))
        self._installed = Installed()
        self._values: dict[str, Any] = {}

    def of(self, job: Job) -> JobKey:
        if isinstance(job, Derived):
            return self._of_derived(job)
        if isinstance(job, Composed):
            return self._of_composed(job)
        found = sources.of(job, self._bases)
        versions = self._versions(job, found.libraries)
        parts = {**_request(job), **versions, **self._own_code(job)}
        for base in found.bases:
            parts |= base.parts
        # `auto` may find one, too.
        if job.device != "cpu":
            parts["gpus"] = self._gpus
        parts |= {f"file {name}": self._contents.sha256(path) for name, path in found.files.items()}
        # The same part as of a file: where it lies makes no other model.
        if isinstance(job.weights, Checkpoint) and job.weights.is_url:
            parts["file weights.checkpoint"] = job.weights.sha256
        parts |= _of_urls(job)
        parts |= {f"samples left out of {key}": count for key, count in found.left_out if count}
        return JobKey(self._as_read(parts), found.files, _too_large(found.too_large), found.bases)

    def _of_derived(self, job: Derived) -> JobKey:
        """What it is made from stands for the model and its code."""
        plugin = loader.load("variants", job.plugin)
        names = [*_DERIVED, *loader.packages_of(plugin)]
        parts_of_runtime: Parts = {}
        if job.provider:
            names += loader.packages_of(providers.load(job.provider))
            runtime = providers.load(job.provider)
            # They decide what the verdict on it is.
            stated = job.provider_options.get(job.provider)
            parts_of_runtime["request.provider_options"] = stated
            if providers.is_elsewhere(runtime):
                there = runtime.decided_by(providers.options(runtime, stated or {}))
                parts_of_runtime |= {f"made with {name}": value for name, value in there.items()}
            # A file for a device may be of one model of it, and its verdict is.
            if runtime.DEVICE != "cpu":
                parts_of_runtime["gpus"] = self._gpus
        # Its verification runs them too.
        files = {f"export.custom_ops.{i}": Path(p) for i, p in enumerate(job.export.custom_ops)}
        parts = {
            **_request(job),
            **parts_of_runtime,
            "parent": job.parent_files,
            **{f"package {name}": self._packages.get(name) for name in names},
            **{f"made with {name}": value for name, value in _decided_by(plugin, job).items()},
            **_system(),
            **self._own_code(job),
            **{f"file {name}": self._contents.sha256(path) for name, path in files.items()},
            **_of_urls(job),
        }
        # The metric is called anew for each file, and samples may decide what is made of it.
        found = sources.of_derived(job, self._bases)
        parts |= {f"file {name}": self._contents.sha256(path) for name, path in found.files.items()}
        for base in found.bases:
            parts |= base.parts
        return JobKey(self._as_read(parts), {**files, **found.files}, bases=found.bases)

    def _of_composed(self, job: Composed) -> JobKey:
        """What the graphs are made from, and their files."""
        graphs = {name: self.of(graph) for name, graph in job.graphs.items()}
        parts = {
            **_request(job),
            "parent": job.graph_hashes,
            **{f"graph {name}": key.digest for name, key in graphs.items()},
            **_system(),
            **self._own_code(job),
        }
        found: dict[str, Path] = {}
        bases: list[CodeBase] = []
        for key in graphs.values():
            found |= key.files
            bases += [base for base in key.bases if base not in bases]
            parts |= {name: part for name, part in key.parts.items() if name.startswith("file ")}
        return JobKey(self._as_read(parts), found, bases=tuple(bases))

    def _as_read(self, parts: Parts) -> Parts:
        """The parts as JSON gives them back; what many jobs have alike is in memory once."""
        read: Parts = {}
        for name, value in parts.items():
            if type(value) is str:
                read[sys.intern(name)] = sys.intern(value)
                continue
            text = json.dumps(value)
            if text not in self._values:
                self._values[text] = json.loads(text)
            read[sys.intern(name)] = self._values[text]
        return read

    def changed_files(self, job: Job, key: JobKey) -> list[Path]:
        """The files that are not what they were when the key was made; read again.

        One that is new in a folder that counts is none: nobody had asked for it. One that is new,
        and that code of the job imports by its name, is.
        """
        self._bases.doubt()
        of_bases = [path for base in key.bases for path in base.files.values()]
        known = frozenset([*map(str, key.files.values()), *of_bases])
        bases: list[CodeBase] = []
        if isinstance(job, Derived):  # the worker has looked at what it is made from
            now, bases = key.files, list(key.bases)
        else:
            now = {}
            for each in job.graphs.values() if isinstance(job, Composed) else [job]:
                found = sources.of(each, self._bases, known)
                now |= found.files
                bases += found.bases
        names = {**key.files, **now}
        changed = [
            path
            for name, path in names.items()
            if name not in now or self._contents.sha256(path) != key.parts.get(f"file {name}")
        ]
        return changed + _changed(key.bases, bases)

    def _own_code(self, job: Job) -> Parts:
        """The code of the converter, and that of the plugins that make the file."""
        # The version stands in the file.
        parts: Parts = {"converter": _worker_code(), "converter version": converter.__version__}
        if isinstance(job, Derived):
            used = [loader.found("variants").get(job.plugin)]
            parts["converter variants"] = _shared_code("variants")
            if job.provider:  # what opens and checks it
                used.append(loader.found("providers").get(job.provider))
        else:
            used = [loader.found("exporters").get(name) for name in job.exporters]
            used += [loader.found("simplifiers").get(job.simplifier)] if job.simplifier else []
        for plugin in used:
            path = plugin.path() if plugin is not None else None
            if plugin is None or path is None or not path.is_file():
                continue
            parts[f"converter {plugin.kind}/{plugin.name}"] = self._contents.sha256(path)
            # Its file may import others of its distribution.
            if not plugin.built_in:
                parts[f"package {plugin.distribution}"] = plugin.version
        return parts

    def _versions(self, job: Job, libraries: Set[str]) -> Parts:
        names = list(_ALWAYS)
        if job.simplifier:
            names += loader.packages_of(loader.load("simplifiers", job.simplifier))
        source = job.source
        if source.kind in ("target", "file") or str(source.registry).startswith("timm/"):
            names.append("timm")
        found: Parts = {}
        for top in sorted(libraries - {name.replace("-", "_") for name in names}):
            found |= {f"package {k}": version for k, version in self._installed.of(top).items()}
        found |= {f"package {name}": self._packages.get(name) for name in names}
        return {**found, **_system()}


def _changed(before: Sequence[CodeBase], now: Sequence[CodeBase]) -> list[Path]:
    """The files of large code bases that are not what they were."""
    # Most often they are the same objects.
    if all(base in now for base in before):
        return []
    old, new = ({k: v for base in each for k, v in base.hashes.items()} for each in (before, now))
    paths = {name: path for base in (*now, *before) for name, path in base.files.items()}
    return [Path(path) for name, path in paths.items() if old.get(name) != new.get(name)]


def _of_urls(job: Job) -> Parts:
    """Of files of inputs at URLs the parts that they would have on this machine."""
    return {f"file {key}": one.sha256 for key, one in samples.named(job) if one.sha256}


def _decided_by(plugin: Any, job: Derived) -> dict[str, str]:
    """What a plugin says that its file follows from, beside what the words of its options are."""
    if not hasattr(plugin, "decided_by"):
        return {}
    options = loader.options_of(plugin).model_validate(job.options)
    found: dict[str, str] = plugin.decided_by(options)
    return found


def _system() -> Parts:
    major, minor, _ = platform.python_version_tuple()
    return {"python": f"{major}.{minor}", "machine": platform.machine()}


def _too_large(keys: Sequence[str]) -> str | None:
    if not keys:
        return None
    return f"{', '.join(keys)}: the folder has more than {sources.MOST_FILES:,} files"


def difference(before: Parts, now: Parts) -> str:
    """What changed between two keys, in words: ``torch 2.14.0 → 2.15.0; registry/x.py changed``."""
    names = _differing(before, now)
    said = [_say(name, before, now) for name in sorted(names, key=_order)]
    said = list(dict.fromkeys(said))
    more = [f"and {len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
    return "; ".join([*said[:_SHOWN], *more])


def inputs_changed(before: Parts, now: Parts) -> list[str]:
    """What differs of the files that two were made from: code, weights, samples, in words."""
    kinds = ("file", "code", "parent", "graph")
    names = [name for name in _differing(before, now) if name.partition(" ")[0] in kinds]
    ordered = sorted(names, key=lambda name: (_order(name), name))
    said = list(dict.fromkeys(_say(name, before, now) for name in ordered))
    return [*said[:_SHOWN], *([f"and {len(said) - _SHOWN} more"] * (len(said) > _SHOWN))]


def distance(before: Parts, now: Parts) -> tuple[int, int]:
    """How many parts of the request differ, and how many others."""
    names = _differing(before, now)
    asked = sum(name.startswith("request.") for name in names)
    return asked, len(names) - asked


def _differing(before: Parts, now: Parts) -> list[str]:
    names = {**before, **now}
    return [name for name in names if before.get(name) != now.get(name)]


def _order(name: str) -> int:
    """Causes that come from outside first: they explain many models at once."""
    kinds = (
        "package", "python", "machine", "gpus", "converter", "parent", "graph", "file", "code",
        "request.",
    )  # fmt: skip
    return next((i for i, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))


def _say(name: str, before: Parts, now: Parts) -> str:
    kind, _, what = name.partition(" ")
    if kind == "file":
        if before.get(name) is None:
            return f"{what} is new"
        return f"{what} changed" if now.get(name) is not None else f"{what} is gone"
    if kind == "code":
        return f"code in {what} changed"
    if kind == "parent":
        return "what it is made from changed"
    if kind == "graph":
        return f"the graph {what} changed"
    if kind == "converter":
        return "the converter's own code changed"
    label = what if kind == "package" else name.removeprefix("request.")
    old, new = (_brief(parts.get(name)) for parts in (before, now))
    return f"{label} {old} → {new}" if len(old + new) <= _WIDTH else f"{label} changed"


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _request(job: Job) -> Parts:
    """The request with every path replaced by the file's own part."""
    stated = job.model_dump(mode="json", exclude=_NOT_REQUEST)
    parts = {f"request.{name}": value for name, value in stated.items()}
    source = job.source
    said: Any = str(source) if source.path is None else [source.kind, source.name]
    entry = registry.find(source.registry) if source.registry else None
    if entry is not None:
        said = [said, entry.module, entry.builder, dict(entry.kwargs)]
    weights = job.weights
    if isinstance(weights, Checkpoint):
        fitted = weights.model_dump(mode="json", exclude={"checkpoint", "sha256"})
        # In their order: prefixes are cut off one after the other.
        parts["request.weights"] = {**fitted, "strip_prefix": weights.prefixes}
    else:
        parts["request.weights"] = weights
    # A list: the order of the inputs is that of forward's arguments.
    parts["request.inputs"] = [[name, _input(tensor)] for name, tensor in job.inputs.items()]
    for name in ("verify", "first"):
        parts[f"request.{name}"] = _without_places(parts[f"request.{name}"])
    if job.data is not None:  # what its function is given counts, whatever it is called
        parts["request.data"]["path"] = None
    # By their contents, which have parts of their own.
    parts["request.export"].pop("custom_ops")
    # Its file is the same wherever else it is verified.
    parts["request.verify"].pop("providers")
    return {**parts, "request.source": said}


def request(job: Job) -> Parts:
    """The parts of a key that a job has by itself: what was asked for, and what it is made from."""
    found = _request(job)
    if isinstance(job, Derived | Composed):
        found["parent"] = job.parent_files if isinstance(job, Derived) else job.graph_hashes
    parts: Parts = json.loads(json.dumps(found))
    return parts


def _input(tensor: InputSpec) -> Any:
    return _without_places({**tensor.model_dump(mode="json"), "fill": tensor.filling})


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: None if k in _PLACES else _without_places(item) for k, item in value.items()}
    return [_without_places(item) for item in value] if isinstance(value, list) else value


@cache
def _worker_code() -> str:
    """One hash of the code of the converter that makes and proves a file, but for its plugins.

    What the plugins of a folder share has a name that begins with an underscore.
    """
    worker, plugins, model = (_PACKAGE / name for name in ("worker", "plugins", "model"))
    others = {_PACKAGE / name for name in _OF_VARIANTS}
    # What times a file, or looks into a wrong one, has no part in how it looks, nor in its verdict.
    apart = (worker / "benchmark", worker / "debug")
    paths = [path for path in sorted(worker.rglob("*.py")) if path.parent not in apart]
    paths = [path for path in paths if path not in others]
    paths += [p for kind in _PLUGINS for p in sorted((plugins / kind).glob("_*.py"))]
    # Every file is verified on one provider; job and spec decide what a request means.
    paths += [plugins / "providers" / f"{providers.standard()}.py"]
    paths += [model / "job.py", model / "spec.py", model / "dims.py", model / "trees.py"]
    paths += [_PACKAGE / "plan/checkpoints.py"]
    return _hash(paths)


@cache
def _shared_code(kind: str) -> str:
    """One hash of what the plugins of a folder share, and of what judges variants alone."""
    paths = sorted((_PACKAGE / "plugins" / kind).glob("_*.py"))
    return _hash([*paths, *(_PACKAGE / name for name in _OF_VARIANTS)])


def _hash(paths: Sequence[Path]) -> str:
    code = hashlib.sha256()
    for path in paths:
        code.update(f"{path.relative_to(_PACKAGE)} {files.sha256(path)}\n".encode())
    return code.hexdigest()
