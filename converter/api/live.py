"""Models that exist in this process already, for a job that runs in it (``executor=inline``)."""

from __future__ import annotations

import copy
import os
import random
import warnings
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


@contextmanager
def preserved() -> Iterator[None]:
    """Give back what a job sets for its process: seeds, threads, TF32, warnings, variables."""
    # Whoever has a module has both.
    import numpy as np  # noqa: TID251
    import torch  # noqa: TID251

    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    products = torch.backends.cuda.matmul.allow_tf32
    precision = torch.get_float32_matmul_precision()
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()
    variables = dict(os.environ)
    with torch.random.fork_rng(), warnings.catch_warnings():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cuda.matmul.allow_tf32 = products
            torch.set_float32_matmul_precision(precision)
            random.setstate(drawn)
            np.random.set_state(drawn_by_numpy)
            for name in os.environ.keys() - variables.keys():
                del os.environ[name]
            os.environ.update(variables)


def source() -> dict[str, str]:
    """What a configuration says of it; ``kwargs: {token: …}`` says which."""
    return {"_target_": f"{__name__}.{take.__name__}"}


def take(token: str) -> Any:
    """A copy of the model: a conversion sets its mode and device."""
    return copy.deepcopy(_models[token])
