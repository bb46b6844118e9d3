"""Names that ``forward`` knows too must stand where ``forward`` has them.

Inputs are given by position and outputs are taken by position, so any name will do: but a file in
which two of the model's own names are exchanged would deceive whoever feeds it by them.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.sources.loading import Kind

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_inputs(model: Any, kind: Kind, job: Job) -> None:
    """Raise where ``forward`` does not take the inputs, or knows their names at other places.

    Raises:
        StageError: OUTPUT_STRUCTURE, with what it takes.
    """
    placed, named = _given(job)
    if kind == "module":
        _check_arguments(inspect.signature(model.forward), placed, named, job)
    # A name that forward does not know stands for its place, and may be anything.
    names = _parameters(model, kind)
    for place, name in enumerate(placed):
        if name in names and names.index(name) != place:
            other = names[place] if place < len(names) else "something else"
            raise StageError(
                Code.OUTPUT_STRUCTURE,
                f"inputs has {name} at place {place + 1}, where forward takes {other}; "
                f"{name} is argument {names.index(name) + 1} of forward ({', '.join(names)})",
                "entry i of inputs is positional argument i of forward: list them in that order, "
                f"or state {job.key}.pass: keyword",
            )


def _given(job: Job) -> tuple[list[str], list[str]]:
    """Names of the arguments that are given by position, and by keyword."""
    if not job.arguments:
        return [*job.inputs], []
    placed = [argument.name for argument in job.arguments if not argument.keyword]
    return placed, [argument.name for argument in job.arguments if argument.keyword]


def _parameters(model: Any, kind: Kind) -> list[str]:
    """Names of what ``forward`` takes by position."""
    if kind == "script_function":
        return [argument.name for argument in model.schema.arguments]
    if kind == "script_module":
        # The first argument of a scripted method is `self`.
        return [argument.name for argument in model.forward.schema.arguments[1:]]
    parameters = inspect.signature(model.forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in _BY_POSITION]


def _check_arguments(
    signature: inspect.Signature, placed: Sequence[str], named: Sequence[str], job: Job
) -> None:
    keyword = [
        name
        for name, parameter in signature.parameters.items()
        # One with a default that nobody wants to feed is no concern.
        if parameter.kind is parameter.KEYWORD_ONLY and name not in (*named, *job.constants)
        if name in placed or parameter.default is parameter.empty
    ]
    if keyword:
        listed = ", ".join(keyword)
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"forward takes {listed} by keyword only, and inputs are given by position",
            f"state inputs.{keyword[0]}.pass: keyword; what is no tensor goes into constants",
        )
    try:
        # Names stand in for values: Python itself says what is missing or too much.
        signature.bind(*placed, **dict.fromkeys(named), **job.constants)
    except TypeError as error:
        given = f"{len(placed) + len(named)} ({', '.join([*placed, *named])})"
        constants = f" and constants names {', '.join(job.constants)}" if job.constants else ""
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"inputs names {given}{constants}, forward takes ({', '.join(signature.parameters)}): "
            f"{error}",
            "entry i of inputs is positional argument i of forward, unless it says pass: keyword",
        ) from error


def of_outputs(paths: Sequence[Sequence[str | int]], taken: Collection[str]) -> list[str]:
    """Names of outputs that the configuration does not name: their paths, where these have keys.

    Args:
        paths: of each tensor that ``forward`` returns: the keys and places that lead to it.
        taken: by inputs, which may have the same paths: those of outputs get ``out.`` before them.
    """
    if not any(isinstance(key, str) for path in paths for key in path):
        return []
    # No name begins with a number: TorchScript refuses those.
    full = [path if path and isinstance(path[0], str) else ("output", *path) for path in paths]
    used = {*taken}
    names = []
    for name in (".".join(map(str, path)) for path in full):
        while name in used:
            name = f"out.{name}"
        used.add(name)
        names.append(name)
    return names


def check_outputs(paths: Sequence[Sequence[str | int]], names: Sequence[str]) -> None:
    """Raise where a name is the key of another tensor.

    Args:
        paths: of each tensor that ``forward`` returns: the keys and places that lead to it.
        names: what the configuration calls them.

    Raises:
        StageError: OUTPUT_STRUCTURE.
    """
    keys = [[key for key in path if isinstance(key, str)] for path in paths]
    if len(keys) != len(names):  # which has an error of its own
        return
    for place, name in enumerate(names):
        # A key may stand in several paths: any of those places is right.
        own = [index for index, path in enumerate(keys) if name in path]
        if own and place not in own:
            returned = [".".join(path) or "a tensor without a key" for path in keys]
            raise StageError(
                Code.OUTPUT_STRUCTURE,
                f"outputs has {name} at place {place + 1}, where forward returns "
                f"{returned[place]}; {name} is tensor {own[0] + 1} of what it returns "
                f"({', '.join(returned)})",
                "outputs are named in the order in which forward returns them: reorder the names",
            )
