"""What will fail as soon as a job starts: files that are missing, names, code that is not trusted.

Told without importing anything of the model's, in the words of the worker, which calls the same
functions. What only a running model shows (its weights, its shapes) is not known here.
"""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

import registry
from converter.layout import files
from converter.layout import trust as policy
from converter.model import wording
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.spec import CaseInput, Checkpoint, InputSpec

_SHOWN = 5
# A module with one of these may have names that its text does not tell.
_COMPUTED = {"*", "__getattr__", "globals", "exec", "setattr", "vars", "locals", "sys"}


def failures(job: Job) -> list[StageError]:
    """What will fail, in the order in which the worker would meet it."""
    found = []
    for check in (_check_source, _check_weights, _check_inputs, _check_export):
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


def _check_weights(job: Job) -> None:
    if isinstance(job.weights, Checkpoint):
        files.require(Code.WEIGHTS_MISSING, "weights.checkpoint:", job.weights.checkpoint)
        return
    name = job.source.registry
    known = registry.published(name) if name and job.weights != "random" else None
    # Also with the enum's name in front: `ResNet18_Weights.DEFAULT`.
    if name and known is not None and job.weights.rpartition(".")[2] not in known:
        raise no_weights(name.rpartition("/")[2], job.weights, known)


def _check_inputs(job: Job) -> None:
    tensors: list[tuple[str, InputSpec | CaseInput]] = [*job.inputs.items()]
    for case in job.verify.cases:
        tensors += case.inputs.items()
    for name, tensor in tensors:
        if tensor.path is not None:
            check_array(f"inputs.{name}.path", Path(tensor.path))


def _check_export(job: Job) -> None:
    for reference in job.export.translations:
        _check_target(reference.replace(":", "."), job.trust, f"export.translations '{reference}'")
    for path in job.export.custom_ops:
        policy.trusted_file("export.custom_ops", path, job.trust)


def check_array(key: str, path: Path) -> None:
    """Refuse what ``numpy.load`` would not read as one array.

    Raises:
        StageError: FORWARD.
    """
    files.require(Code.FORWARD, key, path)
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    one = names[0] if names else "NAME"
    raise StageError(
        Code.FORWARD,
        f"{key} {path} holds several arrays by name ({', '.join(names[:_SHOWN])}): an .npz file; "
        "expected a .npy file, which is one array",
        f"save the one: numpy.save('{one}.npy', numpy.load('{path.name}')['{one}'])",
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
