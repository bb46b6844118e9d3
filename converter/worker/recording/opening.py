"""What a model's code opens and unpickles: one audit hook, and those who listen to it.

An audit hook stays for as long as its process. So there is one, which does nothing while nobody
listens. Python raises no event where C++ or Rust opens a file: functions that do raise one here.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import converter
import registry
from converter.layout.libraries import is_library

LOADED = "converter.loaded"
"""The event of our own: name of the function, path of the file."""

Listener = Callable[[str, tuple[Any, ...]], None]

# What anybody here listens to. Python raises far more events than these.
_EVENTS = {
    LOADED, "open", "os.rename", "ctypes.dlopen", "pickle.find_class",
    "urllib.Request", "socket.getaddrinfo", "socket.connect",
}  # fmt: skip
_LOADERS = ("torch.load", "torch.jit.load", "torch.export.load")
_SAFETENSORS = ("safetensors.safe_open", "safetensors.torch.safe_open")
# What the system and Python read for any program: hosts, fonts, time zones, versions of packages.
_SYSTEM = (
    "/proc/", "/dev/", "/sys/", "/etc/", "/run/", "/lib/", "/usr/lib/", "/usr/share/",
    f"{sys.prefix}/share/", f"{sys.prefix}/etc/", f"{sys.prefix}/ssl/",
    *(f"{Path(package.__path__[0]).resolve()}/" for package in (converter, registry)),
)  # fmt: skip
_KEPT = ("__pycache__", "matplotlib")
# What compilers keep of code for the next time, in folders that all jobs share.
_COMPILED = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "NUMBA_CACHE_DIR")
_METADATA = (".egg-info", ".dist-info")

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Call it with each event from now on; what it raises stops what raised the event."""
    _install()
    _listeners.append(listener)


def leave(listener: Listener) -> None:
    """Call it no more; one that does not listen is no harm."""
    if listener in _listeners:
        _listeners.remove(listener)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    listen(listener)
    try:
        yield
    finally:
        leave(listener)


def path_of(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The user's file that an event opens for reading, absolute; ``None``: it opens none."""
    if event == "open":
        path, _, flags = arguments
        # What the model creates is no source of it.
        if flags & os.O_CREAT or flags & os.O_ACCMODE == os.O_WRONLY:
            return None
    elif event == LOADED:
        path = arguments[1]
    elif event == "ctypes.dlopen":
        path = arguments[0]
    else:
        return None
    return own_file(path)


def written(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The file that an event opens for writing or gives a name, absolute; ``None``: none."""
    path: object = None
    if event == "open":
        path, _, flags = arguments
        if not flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            return None
    elif event == "os.rename":
        path = arguments[1]
    return (
        os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else None
    )


def own_file(path: object) -> str | None:
    """The absolute path of what is the user's and not a library's or the system's."""
    if not isinstance(path, str | bytes | os.PathLike):  # a descriptor, an open file
        return None
    name = os.path.abspath(os.fsdecode(path))
    if name.startswith(_SYSTEM) or is_library(name) or name.startswith(_compiled()):
        return None
    parts = name.split(os.sep)
    if any(part in _KEPT or part.endswith(_METADATA) for part in parts):
        return None
    return name if os.path.isfile(name) else None


def _compiled() -> tuple[str, ...]:
    # Asked anew: torch states its folder when it first needs it.
    stated = filter(os.path.isabs, (os.environ.get(name, "") for name in _COMPILED))
    return tuple(os.path.join(folder, "") for folder in stated)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    # Every audit event of the process comes here, so that the usual answer must be cheap.
    if _listeners and event in _EVENTS:
        # A copy, since one may leave while it is called.
        for listener in tuple(_listeners):
            listener(event, arguments)


@cache
def _install() -> None:
    """For the rest of this process, before the model's code is imported."""
    # torch does not need safetensors, which may be missing.
    names = [*_LOADERS, *(_SAFETENSORS if find_spec("safetensors") else ())]
    for name in names:
        module, _, function = name.rpartition(".")
        holder = importlib.import_module(module)
        setattr(holder, function, _telling(name, getattr(holder, function)))
    sys.addaudithook(_hook)


def _telling(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises an event before it opens the file that is its first argument."""

    # Nothing is updated: `safe_open` is a class, whose attributes no function should take over.
    @functools.wraps(function, updated=())
    def tell(*args: Any, **kwargs: Any) -> Any:
        sys.audit(LOADED, name, args[0] if args else next(iter(kwargs.values()), None))
        return function(*args, **kwargs)

    return tell
