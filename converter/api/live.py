"""Models that exist in this process already, for a job that runs in it (``executor=inline``)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

_models: dict[str, Any] = {}


@contextmanager
def held(model: Any) -> Iterator[str]:
    """Keep a model where ``take`` finds it; the text that names it."""
    token = uuid4().hex
    _models[token] = model
    try:
        yield token
    finally:
        del _models[token]


def source() -> dict[str, str]:
    """What a configuration says of it; ``kwargs: {token: …}`` says which."""
    return {"_target_": f"{__name__}.{take.__name__}"}


def take(token: str) -> Any:
    """A copy of the model: a conversion sets its mode and device."""
    return copy.deepcopy(_models[token])
