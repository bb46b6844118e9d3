"""Where files run: execution providers of ONNX Runtime, and runtimes of their own.

A plugin of this kind is a module that has what ``Provider`` lists; one that has ``open`` as well is
a runtime of its own (``Runtime``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from converter.model.artifact import ONNX
from converter.model.base import Frozen
from converter.model.records import CheckRecord
from converter.plugins import loader
from converter.plugins.runnable import Interface, Runnable


class Provider(Protocol):
    """What a plugin has.

    Attributes:
        NAME: what ONNX Runtime calls it; of a runtime of its own, what it calls itself.
        Options: its provider options with their defaults, as text: keys of
            ``benchmark.options.NAME``. A module without them has none.
        DEVICE: where its tensors are, ``cpu`` or ``cuda``; on ``cuda`` they are bound there before
            they are timed, and PyTorch is timed there too.
        FALLBACKS: modules here whose providers take the nodes that it leaves, before the CPU does.
        INSTALL: what to do where this build of ONNX Runtime does not have it.
        LOAD_HINT: what to do where the build has it, and it does not start.
        FORMATS: of the files that it runs; a module without them runs ONNX files.
        PACKAGES: distributions whose versions a verdict names; a module without them is ONNX
            Runtime's.
        TITLE: what people call the runtime; a module without it is called by its own name.
        LACKS: by precision why no file of it can be had for this runtime, in a few words.

        SCRIPT: of a runtime of its own, lines of Python that make ``found`` of ``feeds`` and of the
            file ``@model@``, with ``@NAME@`` for an option's value: what a report of a wrong
            result shows. A module without them has no such script.

    The one that is in every build says ``VERIFIES = True``: files are verified on it.
    """

    NAME: str
    Options: type[Frozen]
    DEVICE: str
    FALLBACKS: tuple[str, ...]
    INSTALL: str
    LOAD_HINT: str

    def prepare(self) -> None:
        """Load and set what it needs, before the first session that it has in a process."""


class Runtime(Provider, Protocol):
    """A runtime of its own: what it has beside the parts of each provider."""

    def available(self) -> str:
        """Why this machine has it not, in a sentence; empty: it has."""

    def open(
        self, file: Path, *, threads: int, options: Mapping[str, str], interface: Interface
    ) -> Runnable:
        """Load a file of one of ``FORMATS``.

        Args:
            file: the one to open first; what belongs to it lies beside it.
            threads: that it may use.
            options: all of ``Options``, as text.
            interface: of the ONNX file that this is, or was made from.

        Raises:
            StageError: SESSION, where the runtime refuses the file; EP_UNAVAILABLE, where the
                device that the options ask for is not there; PRECISION_NOT_REACHED, where it would
                compute otherwise than it was asked to.
        """


class Elsewhere(Runtime, Protocol):
    """A runtime in another Python, which an option names: what it says for those options.

    In place of ``available``, of the versions of ``PACKAGES`` here, and for the key of a job.
    """

    def missing(self, options: Mapping[str, str]) -> str: ...

    def versions(self, options: Mapping[str, str]) -> str: ...

    def decided_by(self, options: Mapping[str, str]) -> dict[str, str]: ...


class Checking(Protocol):
    """A provider of formats other than ONNX: what it has beside the parts of each."""

    def prepare(self) -> None: ...

    def check(self, file: Path, parent: Path, precision: str) -> CheckRecord:
        """What can be said of a file of a format other than ONNX without running it.

        Args:
            parent: the ONNX file that it was made from.
            precision: that it is to be of.

        Raises:
            StageError: CHECKER, where it is damaged, or does not hold what its parent does;
                PRECISION_NOT_REACHED.
        """


def is_runtime(provider: Provider) -> TypeGuard[Runtime]:
    """Whether files are opened by the provider itself, and not by ONNX Runtime on it."""
    return hasattr(provider, "open")


def is_elsewhere(provider: Provider) -> TypeGuard[Elsewhere]:
    """Whether it runs in another Python."""
    return hasattr(provider, "missing")


def checks(provider: Provider) -> TypeGuard[Checking]:
    """Whether it can say of a file that is not ONNX whether it is sound."""
    return hasattr(provider, "check")


def formats(provider: Provider) -> tuple[str, ...]:
    """The formats of the files that it runs."""
    found: tuple[str, ...] = getattr(provider, "FORMATS", (ONNX,))
    return found


def options(provider: Provider, stated: Mapping[str, Any]) -> dict[str, str]:
    """All options of a provider, as ONNX Runtime takes them."""
    return loader.options_of(provider).model_validate(dict(stated)).model_dump()


@cache
def standard() -> str:
    """The provider on which files are verified, and which takes the nodes that others leave.

    It comes with the converter: what is installed beside it must not change what verified means.
    """
    plugins = loader.found("providers").values()
    (name,) = [p.name for p in plugins if p.built_in and getattr(p.load(), "VERIFIES", False)]
    return name


def load(name: str) -> Provider:
    """The provider of a name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    provider: Provider = loader.load("providers", name)
    return provider
