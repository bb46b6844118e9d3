"""Arguments of forward, made of the flat tensors that the file has as inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from converter.model.inputs import Argument
from converter.model.job import Job
from converter.worker.sources import values
from converter.worker.sources.loading import Kind


class Arguments:
    """Makes the arguments of a job's model: of tensors in the order of ``job.inputs``, constants.

    A list of YAML is a list where forward's annotation (or a script's type) says so, else a tuple,
    as the states of torch's own recurrent layers are.

    Raises:
        StageError: TARGET_DENIED or LOAD, for what ``_target_`` names.
    """

    def __init__(self, job: Job, model: Any, kind: Kind) -> None:
        self._job = job
        self._types = _types(model, kind)
        self._makers = {
            target: values.maker(target, job.trust)
            for argument in job.arguments
            for target in _targets(argument)
        }
        self.constants: dict[str, Any] = {
            name: values.resolved(value, job.trust, f"{job.key}.constants.{name}")
            for name, value in job.constants.items()
        }

    def __call__(self, tensors: Sequence[torch.Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """Arguments by position and by keyword; containers are new for each call."""
        tensors = self._complex(tensors)
        if not self._job.arguments:
            return [*tensors], dict(self.constants)
        given = dict(zip(self._job.inputs, tensors, strict=True))
        return self._placed(given, self.constants)

    def _complex(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Pairs of reals as the complex numbers that forward takes."""
        if not self._job.complex_inputs:
            return list(tensors)
        return [
            torch.view_as_complex(tensor) if name in self._job.complex_inputs else tensor
            for name, tensor in zip(self._job.inputs, tensors, strict=True)
        ]

    def _placed(
        self, given: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        placed: list[Any] = []
        named = dict(constants)
        for argument in self._job.arguments:
            if argument.keyword:
                made = self._made(argument, given, self._types.get(argument.name))
                named[argument.name] = made
            else:
                # By its place: inputs may be called otherwise than forward calls them.
                types = self._types.get("", [])
                kind = types[len(placed)] if len(placed) < len(types) else None
                placed.append(self._made(argument, given, kind))
        return placed, named

    def in_order(self, program: torch.export.ExportedProgram) -> list[str]:
        """The inputs in the order in which an exported program has them."""
        names = {name: name for name in self._job.inputs}
        placed, named = self._placed(names, self.constants)
        captured = program.call_spec.in_spec
        given = (tuple(placed), named)
        # Mappings go by their keys, in the order in which they were captured.
        leaves = pytree.tree_leaves(given) if captured is None else captured.flatten_up_to(given)
        # Constants may be text as well, and are no inputs.
        return [leaf for leaf in leaves if isinstance(leaf, str) and leaf in names]

    def _made(self, argument: Argument, given: Mapping[str, Any], kind: Any) -> Any:
        if argument.tensor is not None:
            return given[argument.tensor]
        items = [
            self._made(item, given, _item(kind, index))
            for index, item in enumerate(argument.items or ())
        ]
        entries = {
            key: self._made(entry, given, _item(kind, -1))
            for key, entry in (argument.entries or {}).items()
        }
        if argument.target is not None:
            key = f"{self._job.key}.inputs.{argument.name or argument.target}"
            return values.call(self._makers[argument.target], items, entries, argument.target, key)
        if argument.items is not None:
            return items if _is_list(kind) else tuple(items)
        return entries if argument.entries is not None else argument.value


def _targets(argument: Argument) -> list[str]:
    parts = [*(argument.items or ()), *(argument.entries or {}).values()]
    own = [] if argument.target is None else [argument.target]
    return own + [target for part in parts for target in _targets(part)]


def _types(model: Any, kind: Kind) -> dict[str, Any]:
    """What forward says of its arguments: by name, and under the empty name by position."""
    if kind in ("script_module", "script_function"):
        schema = model.schema if kind == "script_function" else model.forward.schema
        listed = list(schema.arguments)[kind == "script_module" :]
        return {"": [one.type for one in listed], **{one.name: one.type for one in listed}}
    if kind != "module":
        return {}
    parameters = inspect.signature(model.forward).parameters
    hints = {name: one.annotation for name, one in parameters.items()}
    return {"": [*hints.values()], **hints}


def _is_list(kind: Any) -> bool:
    """Whether an annotation, as an object or as text, or the type of a script is a list."""
    if isinstance(kind, torch.Type):
        return kind.kind() == "ListType"
    text = kind if isinstance(kind, str) else str(getattr(kind, "__origin__", kind))
    return text.replace("typing.", "").lower().startswith(("list", "<class 'list'"))


def _item(kind: Any, index: int) -> Any:
    """What an annotation says of one item."""
    if isinstance(kind, torch.Type):
        inner: Any = kind
        if kind.kind() == "TupleType":
            parts = inner.elements()
            return parts[index] if index < len(parts) else None
        if kind.kind() == "ListType":
            return inner.getElementType()
        return inner.getValueType() if kind.kind() == "DictType" else None
    parts = getattr(kind, "__args__", ())
    if not parts:
        return None
    return parts[index] if 0 <= index < len(parts) else parts[-1]
