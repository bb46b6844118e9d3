"""Library builders load no weights by themselves: ``weights:`` says what to load, and is checked.

Builders of torchvision and timm have many arguments that reach ``torch.hub``, which unpickles
whatever lies in its cache. A list of those arguments would never be complete, so what they lead to
is refused: reading a file, unpickling, the network.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from converter.layout.libraries import LIBRARIES, loading_arguments
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.recording import opening


def guarded(builder: object, job: Job) -> AbstractContextManager[None]:
    """What to call a builder in: ``no_weights`` for one of a library or the registry."""
    library = (getattr(builder, "__module__", None) or "").partition(".")[0]
    if job.source.kind == "registry" or library in LIBRARIES:
        return no_weights(job, library)
    return nullcontext()


@contextmanager
def no_weights(job: Job, library: str) -> Iterator[None]:
    """Within it nothing is loaded.

    Raises:
        StageError: WEIGHTS_UNSAFE, also where the builder has caught it.
    """
    refusals: list[StageError] = []

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        what = _attempt(event, arguments)
        if what is not None:
            # Kept as well as raised: a builder may catch it and go on without weights.
            refusals.append(_refusal(job, library, what))
            raise refusals[0]

    try:
        with opening.listening(refuse):
            yield
    finally:
        # Over whatever the builder has made of it, a finished model too.
        if refusals:
            raise refusals[0]


@contextmanager
def only_tensors() -> Iterator[None]:
    """Within it files are loaded, and hold tensors only, whatever the caller says.

    Raises:
        StageError: WEIGHTS_UNSAFE.
    """
    holder: Any = torch
    load = holder.load

    @functools.wraps(load)
    def checked(*args: Any, **kwargs: Any) -> Any:
        # Over what the caller says, and over TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.
        return load(*args, **{**kwargs, "weights_only": True})

    holder.load = checked
    try:
        # For what a library unpickles without `torch.load`.
        with opening.listening(_refuse_pickles):
            yield
    except (pickle.UnpicklingError, RuntimeError) as error:
        unsafe = error if isinstance(error, pickle.UnpicklingError) else error.__cause__
        if not isinstance(unsafe, pickle.UnpicklingError):  # timm says it with a RuntimeError
            raise
        raise _more_than_tensors(str(unsafe).splitlines()[0]) from error
    finally:
        holder.load = load


def _refuse_pickles(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        raise _more_than_tensors(".".join(map(str, arguments)))


def _more_than_tensors(what: str) -> StageError:
    return StageError(
        Code.WEIGHTS_UNSAFE,
        f"the published weights hold more than tensors and were not loaded: {what}",
        "Delete the file from the cache; the next run downloads it again.",
    )


def _attempt(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What an event would do, in words; ``None``: nothing that could load weights."""
    # Named before the file is opened, so that nothing of it has been read yet.
    if event == opening.LOADED:
        return f"{arguments[0]} of {arguments[1]}"
    if event == "pickle.find_class":
        return f"unpickling '{'.'.join(map(str, arguments))}'"
    if event in ("urllib.Request", "socket.getaddrinfo"):
        return f"download from {arguments[0]}"
    if event == "socket.connect" and isinstance(arguments[1], tuple):  # not a socket of this host
        return f"download from {arguments[1][0]}"
    # A builder may import modules; their code holds no weights.
    path = opening.path_of(event, arguments) if event == "open" else None
    return f"reading {path}" if path is not None and not path.endswith(".py") else None


def _refusal(job: Job, library: str, what: str) -> StageError:
    keys = [f"kwargs.{key}" for key in loading_arguments(library, job.kwargs)]
    makes = f"{', '.join(keys)} makes {job.source} load" if keys else f"{job.source} would load"
    remove = f"Remove {', '.join(keys)} and state" if keys else "State"
    return StageError(
        Code.WEIGHTS_UNSAFE,
        f"{makes} weights by itself ({what}); nothing was loaded",
        f"{remove} them as weights: NAME or weights: {{checkpoint: PATH}}.",
    )
