"""What a configuration writes by name, as Python has it: dtypes, devices, objects."""

from __future__ import annotations

import builtins
import re
from collections.abc import Sequence
from typing import Any

import torch

from converter.model.errors import Code, StageError
from converter.model.trees import INERT, POSITIONAL, TARGET
from converter.worker.sources import importing

_DEVICE = re.compile(r"torch\.device\(['\"]?([\w:]+)['\"]?\)")
_INERT: dict[str, Any] = {name: getattr(builtins, name) for name in INERT}


def resolved(value: Any, trust: Sequence[str], key: str) -> Any:
    """A value with its names looked up and its objects built.

    ``torch.float16`` is that dtype, ``torch.device(cuda:0)`` that device, and a mapping with
    ``_target_`` what the call of it with the other entries returns.

    Args:
        key: of the configuration, for errors.

    Raises:
        StageError: TARGET_DENIED, or LOAD.
    """
    if isinstance(value, str):
        return _named(value, key)
    if isinstance(value, list):
        return [resolved(item, trust, f"{key}.{index}") for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    inner = {name: resolved(item, trust, f"{key}.{name}") for name, item in value.items()}
    target = inner.pop(TARGET, None)
    if not isinstance(target, str):
        return inner if target is None else {TARGET: target, **inner}
    arguments = inner.pop(POSITIONAL, [])
    return call(maker(target, trust), arguments, inner, target, key)


def maker(target: str, trust: Sequence[str]) -> Any:
    """What a ``_target_`` names: under the trust rule of sources.

    Raises:
        StageError: TARGET_DENIED, or LOAD.
    """
    return _INERT[target] if target in _INERT else importing.from_target(target, trust)


def call(made: Any, arguments: Sequence[Any], named: dict[str, Any], target: str, key: str) -> Any:
    """What a ``_target_`` makes of its arguments.

    Raises:
        StageError: LOAD, where it does not take them.
    """
    try:
        return made(*arguments, **named)
    except TypeError as error:
        raise StageError(
            Code.LOAD,
            f"{key}: {target} does not take these arguments: {error}",
            "Entries beside _target_ are passed by keyword, those of _args_ by position.",
        ) from error


def _named(text: str, key: str) -> Any:
    name = text.removeprefix("torch.")
    if name != text and isinstance(found := getattr(torch, name, None), torch.dtype):
        return found
    if device := _DEVICE.fullmatch(text):
        try:
            return torch.device(device[1])
        except RuntimeError as error:
            message = f"{key}: '{text}' is no device: {str(error).splitlines()[0]}"
            raise StageError(Code.LOAD, message, "Write torch.device(cpu).") from error
    return text
