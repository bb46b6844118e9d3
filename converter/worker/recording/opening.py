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
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from urllib.parse import unquote

import converter
import registry
from converter.layout.libraries import is_library

LOADED = "converter.loaded"
"""The event of our own: name of the function, path of the file."""

Listener = Callable[[str, tuple[Any, ...]], None]

# What anybody here listens to. Python raises far more events than these.
_EVENTS = {
    LOADED, "open", "os.rename", "ctypes.dlopen", "sqlite3.connect", "pickle.find_class",
    "urllib.Request", "socket.getaddrinfo", "socket.connect",
}  # fmt: skip
_LOADERS = (
    "torch.load", "torch.jit.load", "torch.export.load", "torch.package.PackageImporter.__init__",
    # Storages of a type ask the untyped one.
    "torch.from_file", "torch.UntypedStorage.from_file",
)  # fmt: skip
_SAFETENSORS = ("safetensors.safe_open", "safetensors.torch.safe_open")
# Where torchvision reads files in C++, whatever it decodes then. It stays an operator, with its
# overloads: only what it calls is exchanged.
_PICTURES = "torch.ops.image.read_file._op"
# What they call their file, where it is given by name.
_KEYWORDS = ("f", "filename", "path", "file_or_buffer")
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
    elif event == "sqlite3.connect":
        path = database(arguments)
    else:
        return None
    return own_file(path)


def database(arguments: tuple[Any, ...]) -> object:
    """The path of a database that SQLite opens; it may be given as a URI."""
    path = arguments[0]
    if isinstance(path, str) and path.startswith("file:"):
        # `file:a.db`, `file:/a.db` and `file:///a.db`, with options behind.
        named = path.removeprefix("file:").partition("#")[0].partition("?")[0]
        return unquote(named.removeprefix("//localhost").removeprefix("//"))
    return path


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
    # torch needs neither of these, which may be missing.
    names = [*_LOADERS, *(_SAFETENSORS if find_spec("safetensors") else ())]
    if find_spec("torchvision"):
        pictures = importlib.import_module("torchvision.io.image")
        names += [_PICTURES] if pictures._has_image_ops() else []
    for name in names:
        holder, _, function = name.rpartition(".")
        _tell_of(resolve_name(holder), function, name.removesuffix("._op"))
    sys.addaudithook(_hook)


def _tell_of(holder: Any, attribute: str, name: str) -> None:
    """Exchange a function for one that raises an event before it opens a file."""
    builtins = importlib.import_module("torch.jit._builtins")
    function = getattr(holder, attribute)

    # Nothing is updated: `safe_open` is a class, whose attributes no function should take over.
    @functools.wraps(function, updated=())
    def tell(*args: Any, **kwargs: Any) -> Any:
        named = (kwargs[word] for word in _KEYWORDS if word in kwargs)
        # A method has its object first.
        given = (each for each in args if isinstance(each, str | bytes | os.PathLike))
        sys.audit(LOADED, name, next(chain(named, given), None))
        return function(*args, **kwargs)

    # Code that calls it can be scripted as before.
    if builtin := builtins._find_builtin(function):
        builtins._register_builtin(tell, builtin)
    method = isinstance(holder, type) and getattr(function, "__self__", None) is not None
    setattr(holder, attribute, staticmethod(tell) if method else tell)
