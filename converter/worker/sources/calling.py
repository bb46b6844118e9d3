"""What of a model is run and exported: ``forward``, or what ``call`` names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MethodType
from typing import Any

import torch

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.spec import Call
from converter.plan import foresight
from converter.worker.sources import importing
from converter.worker.sources.loading import Loaded


def called(loaded: Loaded, job: Job) -> Loaded:
    """The loaded model with what ``call`` names in the place of ``forward``.

    A submodule is taken as it is. Around a method or a function stands a module whose ``forward``
    calls it: the model's own ``forward`` and hooks stay, for whoever calls them.

    Raises:
        StageError: LOAD, where the model has no such part; TARGET_DENIED.
    """
    if job.call is None:
        return loaded
    if not isinstance(loaded.model, torch.nn.Module):
        hint = "Use a source that builds a torch.nn.Module, or remove the key."
        raise StageError(Code.LOAD, f"call: {job.source} has nothing else to call", hint)
    if isinstance(job.call, Call):
        function = importing.from_target(job.call.target, job.trust)
        return replace(loaded, model=_around(loaded.model, lambda model: _Bound(function, model)))
    names = job.call.split(".")
    found = _part(loaded.model, names)
    if isinstance(found, torch.nn.Module):
        scripted = isinstance(found, torch.jit.ScriptModule)
        return replace(loaded, model=found, kind="script_module" if scripted else "module")
    if not isinstance(found, MethodType):
        hint = "Name a submodule, or a method of the model or of a submodule."
        kind = type(found).__name__
        raise StageError(Code.LOAD, f"call: {job.call} is a {kind}, not a method", hint)

    def method(model: torch.nn.Module) -> Any:
        found: Any = model
        for name in names:
            found = getattr(found, name)
        return found

    return replace(loaded, model=_around(loaded.model, method))


def _part(model: torch.nn.Module, names: Sequence[str]) -> Any:
    """What a dotted name leads to, through modules only.

    Raises:
        StageError: LOAD.
    """
    found: Any = model
    for place, name in enumerate(names):
        if not isinstance(found, torch.nn.Module):
            hint = "Only the last part may be a method."
            what = ".".join(names[:place])
            raise StageError(Code.LOAD, f"call: {what} is a {type(found).__name__}", hint)
        if not hasattr(found, name):
            own = {*dir(type(found))} - {*dir(torch.nn.Module)}
            public = sorted(one for one in own if not one.startswith("_"))
            known = [*public, *dict(found.named_children())]
            what = f"call: '{'.'.join(names)}'"
            raise foresight.no_name(what, type(found).__name__, name, known)
        found = getattr(found, name)
    return found


class _Bound:
    """A function with the model as its first argument."""

    def __init__(self, function: Any, model: torch.nn.Module) -> None:
        self._function, self._model = function, model
        own = inspect.signature(function)
        self.__signature__ = own.replace(parameters=[*own.parameters.values()][1:])

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._function(self._model, *arguments, **named)


def _around(model: torch.nn.Module, run: Callable[[torch.nn.Module], Any]) -> torch.nn.Module:
    """A module whose ``forward`` is what ``run`` makes of the model that it holds."""

    def forward(self: Any, *arguments: Any, **named: Any) -> Any:
        # By way of the module: a copy of it calls its own copy of the model.
        return run(self.model)(*arguments, **named)

    own = inspect.signature(run(model))
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [first, *own.parameters.values()]
    forward.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    made: Any = type("Call", (torch.nn.Module,), {"forward": forward})()
    made.model = model
    # Not `train()`: parts that were frozen on purpose would wake.
    made.training = model.training
    return made  # type: ignore[no-any-return]
