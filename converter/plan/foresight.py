"""What will fail as soon as a job starts: files that are missing, names, code that is not trusted.

Told without importing anything of the model's, in the words of the worker, which calls the same
functions. What only a running model shows (its weights, its shapes) is not known here.
"""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import registry
from converter.layout import files
from converter.layout import trust as policy
from converter.model import trees, urls, wording
from converter.model.errors import Code, StageError
from converter.model.inputs import IMAGES, InputSpec
from converter.model.job import Job
from converter.model.source import UNTRAINED, Checkpoint
from converter.plan import checkpoints, samples

_SHOWN = 5
_ARRAYS = (".npy", ".npz", ".pt", ".safetensors")
# As the library itself refuses longer ones.
_LONGEST_HEADER = 100_000_000
# A module with one of these may have names that its text does not tell.
_COMPUTED = {"*", "__getattr__", "globals", "exec", "setattr", "vars", "locals", "sys"}


def failures(job: Job) -> list[StageError]:
    """What will fail, in the order in which the worker would meet it."""
    found = []
    checks = (
        _check_source, _check_objects, _check_weights, _check_inputs, _check_data, _check_metric,
        _check_export,
    )  # fmt: skip
    for check in checks:
        try:
            check(job)
        except StageError as error:
            found.append(error)
    return found


def _check_source(job: Job) -> None:
    source = job.source
    if source.target is not None:
        _check_target(source.target, job.trust)
    elif source.file is not None and source.name is not None:
        path = policy.trusted_file("source.file", source.file, job.trust)
        _check_name(source.file, path.stem, source.name, path)
    elif source.onnx is not None:
        files.require(Code.LOAD, "source.onnx:", source.onnx)
    elif source.path is not None:
        policy.trusted_file(f"source.{source.kind}", source.path, job.trust)
    elif source.registry is not None and registry.find(source.registry) is None:
        raise no_entry(source.registry)


def _check_objects(job: Job) -> None:
    for _, target in trees.targets(job):
        _check_target(target, job.trust)


def _check_weights(job: Job) -> None:
    if isinstance(job.weights, Checkpoint):
        if job.weights.is_url:  # it is not downloaded to be looked at
            return
        checkpoints.require(Path(job.weights.checkpoint))
        return
    name = job.source.registry
    known = registry.published(name) if name and job.weights not in UNTRAINED else None
    # Also with the enum's name in front: `ResNet18_Weights.DEFAULT`.
    if name and known is not None and job.weights.rpartition(".")[2] not in known:
        raise no_weights(name.rpartition("/")[2], job.weights, known)


def _check_inputs(job: Job) -> None:
    samples.sets(job.inputs)
    for name, tensor in job.inputs.items():
        if tensor.path is not None and not urls.is_url(tensor.path):
            for path in samples.of(tensor):
                check_array(f"inputs.{name}.path", Path(path), name, tensor)
    for case in job.verify.cases:
        for name, change in case.inputs.items():
            if change.path is not None and not urls.is_url(change.path):
                declared = job.inputs.get(name)
                # What an ONNX source itself declares is not known yet.
                changed = change.on(declared) if declared is not None else None
                check_array(f"inputs.{name}.path", Path(change.path), name, changed)


def _check_data(job: Job) -> None:
    if job.data is not None and job.data.target is not None:
        _check_target(job.data.target, job.trust)
    elif job.data is not None:
        samples.all_of_data(job.data)


def _check_export(job: Job) -> None:
    for reference in job.export.translations:
        _check_target(reference.replace(":", "."), job.trust, f"export.translations '{reference}'")
    for path in job.export.custom_ops:
        policy.trusted_file("export.custom_ops", path, job.trust)


def _check_metric(job: Job) -> None:
    if job.metric is not None:
        _check_target(job.metric.target, job.trust)


def check_array(key: str, path: Path, name: str, spec: InputSpec | None) -> str:
    """Refuse what cannot be read as the one tensor of an input.

    Args:
        key: of the configuration, for the message.
        name: of the input.
        spec: of the input, where it is known.

    Returns:
        How it is read: ``.npy``, ``.npz``, ``.pt``, ``.safetensors`` or ``image``.

    Raises:
        StageError: FORWARD.
    """
    files.require(Code.FORWARD, key, path)
    kind = _kind(path)
    if kind is None:
        raise StageError(
            Code.FORWARD,
            f"{key} {path} is none of the files that are read: {', '.join((*_ARRAYS, *IMAGES))}",
            "Convert it (numpy.save), or leave it out of a folder with a glob: path: FOLDER/*.png",
        )
    stated = spec.key if spec is not None else None
    if spec is not None and spec.image is not None and kind != "image":
        raise StageError(
            Code.FORWARD,
            f"{key} {path} is no picture, and 'image' says how one is read",
            "Remove the key 'image', or name pictures only.",
        )
    if stated is not None and kind in ("image", ".npy"):
        raise StageError(
            Code.FORWARD,
            f"{key} {path} holds one tensor, and 'key' names one among several",
            "Remove the key.",
        )
    if kind == ".npz":
        chosen(f"{key} {path}", _names_in_archive(key, path), stated, name)
    elif kind == ".safetensors":
        chosen(f"{key} {path}", list(safetensors_header(key, path)[0]), stated, name)
    return kind


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        return "image"
    if suffix in (".npz", ".pt", ".safetensors"):
        return suffix
    with path.open("rb") as file:
        head = file.read(6)
    # By what it holds, whatever it is called.
    if head == b"\x93NUMPY":
        return ".npy"
    if suffix == ".npy":
        return ".npz" if head.startswith(b"PK") else ".npy"
    return None


def _names_in_archive(key: str, path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise unreadable(key, path, str(error), "expected an .npz file") from error


def safetensors_header(key: str, path: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of its tensors, by name, and where their bytes begin.

    Raises:
        StageError: FORWARD, where it is none.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_LONGEST_HEADER, path.stat().st_size - 8):
                raise ValueError("its header is truncated or damaged")
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(key, path, str(error), "expected a safetensors file") from error
    if not isinstance(header, dict):
        raise unreadable(key, path, "its header is no mapping", "expected a safetensors file")
    header.pop("__metadata__", None)
    return header, 8 + length


def unreadable(key: str, path: Path, why: str, hint: str) -> StageError:
    """The refusal of a file that is there and is not what it is called."""
    return StageError(Code.FORWARD, f"{key} {path} cannot be read: {why}", hint)


def chosen(what: str, names: Sequence[str], stated: str | None, own: str) -> str:
    """Which tensor of a file is meant.

    Args:
        what: the key and the file, for the message.
        names: of the tensors that it holds.
        stated: by ``key``.
        own: the name of the input.

    Raises:
        StageError: FORWARD, where there is no such tensor, or none is stated and several fit.
    """
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    if stated is not None and stated not in names:
        hint = wording.did_you_mean(stated, names)
        raise StageError(Code.FORWARD, f"{what} has no tensor '{stated}' ({shown})", hint)
    if stated is not None:
        return stated
    if own in names:
        return own
    if len(names) == 1:
        return names[0]
    raise StageError(
        Code.FORWARD,
        f"{what} holds {len(names)} tensors by name ({shown}), none of them '{own}'",
        f"Say which: key: {names[0] if names else 'NAME'}",
    )


def dotted(target: str) -> list[str]:
    """The parts of ``package.module.name``.

    Raises:
        StageError: LOAD, where it is none.
    """
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        hint = "Write package.module.name."
        raise StageError(Code.LOAD, f"_target_ '{target}' is no dotted name", hint)
    return parts


def no_entry(name: str) -> StageError:
    """The refusal of a registry name."""
    near = ", ".join(registry.nearest(name)) or "none"
    prefix = registry.family(name)
    told = f"The installed {prefix.rstrip('/')} does not have it; near" if prefix else "Near"
    return StageError(Code.LOAD, f"the registry has no model '{name}'", f"{told} names: {near}.")


def no_weights(model: str, name: str, known: Sequence[str]) -> StageError:
    """The refusal of a name of published weights."""
    if not known:
        return StageError(
            Code.WEIGHTS_MISSING,
            f"weights: '{name}' is requested, but {model} has no published weights",
            "Use weights: random, or weights: {checkpoint: PATH}.",
        )
    return StageError(
        Code.WEIGHTS_MISSING,
        f"weights: {model} has no weights '{name}'",
        f"Choose one of {', '.join(known)}; or random, or {{checkpoint: PATH}}.",
    )


def no_module(target: str, what: str = "") -> StageError:
    """The refusal of a target whose package Python does not find; ``what`` is what states it."""
    what = what or f"_target_ '{target}'"
    return StageError(
        Code.LOAD,
        f"{what}: there is no module '{target.partition('.')[0]}'",
        f"Install it, put its folder on PYTHONPATH, or list the folder in {policy.VARIABLE}.",
    )


def no_name(what: str, where: str, name: str, known: Sequence[str]) -> StageError:
    """The refusal of a name that a module does not have.

    Args:
        what: the target or the file that the configuration states.
        where: the module.
        known: the names that it has.
    """
    near = wording.near(name, known) or known[:_SHOWN]
    hint = f"Near names: {', '.join(near)}." if near else "It defines nothing."
    return StageError(Code.LOAD, f"{what}: {where} has no '{name}'", hint)


def _check_target(target: str, trust: Sequence[str], what: str = "") -> None:
    what = what or f"_target_ '{target}'"
    parts = dotted(target)
    places = _places(target, parts[0], trust, what)
    spec = _find(parts[0], places)
    if spec is None:
        raise no_module(target, what)
    for count, part in enumerate(parts[1:], start=1):
        module = ".".join(parts[:count])
        inside = spec.submodule_search_locations
        below = _find(f"{module}.{part}", list(inside)) if inside else None
        if below is None:
            if spec.origin and spec.origin.endswith(".py"):
                found = [one.name for one in iter_modules(inside or ())]
                _check_name(what, module, part, Path(spec.origin), found)
            return
        spec = below


def _places(target: str, top: str, trust: Sequence[str], what: str) -> list[str] | None:
    """The trusted folder that a target comes from; ``None``: where Python looks anyway."""
    if policy.is_listed(target, trust) or policy.is_built_in(target):
        return None
    for folder in policy.folders(trust):
        if PathFinder.find_spec(top, [str(folder)]) is not None:
            return [str(folder)]
    raise policy.untrusted_target(target, trust, what)


def _find(name: str, places: list[str] | None) -> ModuleSpec | None:
    """Where Python finds a module, of a dotted name in the folders of its package."""
    try:
        return find_spec(name) if places is None else PathFinder.find_spec(name, places)
    except (ImportError, ValueError):  # a ValueError: a module of this process without a spec
        return None


def _check_name(what: str, where: str, name: str, path: Path, beside: Iterable[str] = ()) -> None:
    known = _defined(path)
    if known is not None and name not in known:
        public = sorted(one for one in known if not one.startswith("_"))
        raise no_name(what, where, name, [*public, *beside])


def _defined(path: Path) -> set[str] | None:
    """All names that a module may have at its top, or ``None``: that shows only when it runs.

    Raises:
        StageError: LOAD, for what is no Python.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        message = f"{path}:{error.lineno}: SyntaxError: {error.msg}"
        raise StageError(Code.LOAD, message, "Correct the file.") from error
    except (OSError, ValueError):  # the worker says why
        return None
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
    return None if found & _COMPUTED else found
