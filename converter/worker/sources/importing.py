"""From a ``_target_`` or a ``{file, name}`` to the object that builds the model.

Nothing is imported before its name is trusted, and the module that *defines* the object
must be trusted too: ``torchvision.models.resnet.torch.load`` is reached through a trusted
module, but is not its code.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import torch

import registry
from converter.layout import trust as policy
from converter.model.errors import Code, StageError
from converter.plan import foresight
from converter.worker.sources import freshcode

MODELS = (torch.nn.Module, torch.jit.ScriptFunction, torch.export.ExportedProgram)


def from_target(target: str, trust: Sequence[str]) -> object:
    """Resolve ``package.module.name``.

    Raises:
        StageError: TARGET_DENIED, or LOAD when there is no such module or name.
    """
    parts = foresight.dotted(target)
    # Before any look at the module: importing a package runs its `__init__`.
    _permit_import(target, trust)
    # Of the first part alone: to find a dotted name Python imports the packages around it.
    if importlib.util.find_spec(parts[0]) is None:
        raise foresight.no_module(target)
    module, rest = _import_prefix(parts)
    found: object = module
    for name in rest:
        # Only through classes: what a module has imported itself is reached through it, but is not
        # its code.
        if found is not module and not isinstance(found, type):
            raise _denied(target, found, trust)
        found = _attribute(found, name, f"_target_ '{target}'")
    return _permit_call(f"_target_ '{target}'", target, found, trust)


def from_file(file: str, name: str, trust: Sequence[str]) -> object:
    """Execute a Python file as a module of its own and take one name from it.

    Raises:
        StageError: TARGET_DENIED, or LOAD when there is no such file or name.
    """
    path = policy.trusted_file("source.file", file, trust)
    _make_importable(path.parent)  # its imports of neighbouring files, as for a script
    module_name = f"_model_file_{path.stem}"
    loader = freshcode.Loader(module_name, str(path))
    spec = importlib.util.spec_from_file_location(module_name, path, loader=loader)
    assert spec is not None, "a loader was given"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and dynamo look their module up
    loader.exec_module(module)
    what = f"'{name}' of {file}"
    return _permit_call(what, f"{module_name}.{name}", _attribute(module, name, file), trust)


def translations(reference: str, trust: Sequence[str]) -> Mapping[object, object]:
    """The mapping that ``module:NAME`` names.

    Raises:
        StageError: TARGET_DENIED, or LOAD when there is no such module or name, or no mapping.
    """
    what = f"export.translations '{reference}'"
    module, _, name = reference.partition(":")
    _permit_import(reference.replace(":", "."), trust, what)
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise foresight.no_module(module, what)
    found = _attribute(importlib.import_module(module), name, what)
    if not isinstance(found, Mapping):
        raise StageError(
            Code.LOAD,
            f"{what} is a {type(found).__name__}, not a mapping",
            "Name a mapping {torch.ops.NAMESPACE.OPERATOR.default: FUNCTION}.",
        )
    return found


def from_registry(entry: registry.Entry) -> object:
    """The builder of a registry entry."""
    return _attribute(importlib.import_module(entry.module), entry.builder, entry.name)


def _permit_import(target: str, trust: Sequence[str], what: str = "") -> None:
    what = what or f"_target_ '{target}'"
    if policy.is_listed(target, trust) or policy.is_built_in(target):
        return
    top = target.partition(".")[0]
    for folder in policy.folders(trust):
        # A look into the folder, which imports nothing.
        if importlib.machinery.PathFinder.find_spec(top, [str(folder)]) is None:
            continue
        _make_importable(folder)
        # Trusting a folder must not open another package of the same name that Python finds first.
        elsewhere = _place_outside(top, trust)
        if elsewhere is None:
            return
        raise policy.target_denied(
            f"{what}: '{top}' is also in {folder}, but Python finds {elsewhere} first",
            top, trust, advice=f"Rename {folder / top}",
        )  # fmt: skip
    raise policy.untrusted_target(target, trust, what)


def _make_importable(folder: Path) -> None:
    """At the end of the path: a user's ``types.py`` must not replace the standard library's."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _place_outside(top: str, trust: Sequence[str]) -> str | None:
    """Where Python would import ``top`` from, if that is outside the trusted folders."""
    spec = importlib.util.find_spec(top)
    if spec is None:
        return "nothing"
    places = list(spec.submodule_search_locations or ()) or [spec.origin or "a built-in module"]
    return next((place for place in places if not policy.holds_file(place, trust)), None)


def _import_prefix(parts: list[str]) -> tuple[ModuleType, list[str]]:
    """Import the longest prefix of real submodules; the last part stays an attribute."""
    module = importlib.import_module(parts[0])
    for count in range(1, len(parts) - 1):
        name = ".".join(parts[: count + 1])
        # A module without `__path__` has no submodules: what follows are attributes.
        if not hasattr(module, "__path__") or importlib.util.find_spec(name) is None:
            return module, parts[count:]
        module = importlib.import_module(name)
    return module, parts[-1:]


def _attribute(holder: object, name: str, what: str) -> object:
    try:
        return getattr(holder, name)
    except AttributeError:
        public = [known for known in dir(holder) if not known.startswith("_")]
        # Modules that nobody has imported yet are no attributes of their package.
        places = [*getattr(holder, "__path__", ())]
        public += [found.name for found in iter_modules(places) if found.name not in public]
        where = getattr(holder, "__name__", "it").removeprefix("_model_file_")
        raise foresight.no_name(what, where, name, public) from None


def _permit_call(what: str, target: str, found: object, trust: Sequence[str]) -> object:
    if isinstance(found, MODELS):
        return found  # a ready model of a trusted module: nothing of it is called to build it
    if not callable(found):
        raise StageError(
            Code.LOAD,
            f"{what} is a {type(found).__name__}, not a model, a class or a function",
            "Name a subclass of torch.nn.Module, or a function that returns one.",
        )
    module = _defining_module(found)
    trusted = module is not None and (
        policy.is_listed(module, trust)
        or _is_in_trusted_folder(module, trust)
        # In a built-in package only what builds a model: its helpers are callable too.
        or (policy.is_built_in(module) and _builds_a_model(found, module))
    )
    if not trusted:
        raise _denied(target, found, trust)
    return found


def _defining_module(found: object) -> str | None:
    # A partial belongs to `functools`: what must be trusted is the function that it calls.
    while isinstance(found, functools.partial):
        found = found.func
    module = getattr(found, "__module__", None)
    if isinstance(found, ModuleType):
        module = found.__name__
    return module if isinstance(module, str) else None


def _is_in_trusted_folder(module: str, trust: Sequence[str]) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and policy.holds_file(file, trust)


def _builds_a_model(found: object, module: str) -> bool:
    """Is it a class of modules, or a builder that the built-in package itself registers?"""
    if isinstance(found, type):
        return issubclass(found, torch.nn.Module)
    name = getattr(found, "__name__", "")
    if module.startswith("torchvision."):
        # By identity: a helper that is called like a builder is none.
        from torchvision.models import get_model_builder, list_models

        return any(get_model_builder(known) is found for known in list_models())
    if module.startswith("timm."):
        # Imported here, since timm need not be installed.
        from timm.models import is_model, model_entrypoint

        return is_model(name) and model_entrypoint(name) is found
    own = (registry.find(known) for known in registry.names() if not registry.family(known))
    return any(entry and (entry.module, entry.builder) == (module, name) for entry in own)


def _denied(target: str, found: object, trust: Sequence[str]) -> StageError:
    module = _defining_module(found)
    if module is None:
        what = f"_target_ '{target}' is not a model's own class or function"
        return policy.target_denied(what, target.partition(".")[0], trust)
    if policy.is_built_in(module):
        what = f"_target_ '{target}' is a helper of {module}, not a builder of models"
        addition = module
    else:
        what = f"_target_ '{target}' is code of '{module}', which is not trusted"
        addition = module.partition(".")[0]
    return policy.target_denied(what, addition, trust, policy.registry_advice(target))
