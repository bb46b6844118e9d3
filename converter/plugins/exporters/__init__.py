"""Exporters: from a PyTorch model, or a file that is ONNX already, to an ONNX file.

A plugin of this kind is a module that has what ``Exporter`` lists. What it raises that is no
``StageError`` becomes EXPORT. Its hints say what to do about the model; that another exporter is
left to try is added in one place, ``converter.worker.pipeline.remedy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.plugins import loader

if TYPE_CHECKING:
    from converter.worker.sources.loading import Loaded


class Exporter(Protocol):
    """What a plugin has.

    Attributes:
        SOURCES: what it takes: a PyTorch model, or a file that is ONNX already.
        CAPTURE: how it gets the graph. A ``trace`` freezes what Python computes from sizes and
            values; a ``graph`` keeps sizes as symbols, and freezes which way Python went; a
            ``copy`` freezes nothing.
        OPSETS: which opsets it writes: the version of torch from which on that holds, the lowest
            and the highest; oldest first. Empty: all. The worker confirms each file.
        NATIVE_OPSET: the one at which it builds a graph that it converts to others, which may fail.
        TRAINING_HINT: what to do where it loses a layer that is active in training mode.

    A module may have ``PRELOAD``, modules that are imported once for all jobs that it is the first
    exporter of, others by the jobs that use them; ``Options``, typed keys of
    ``exporter.options.NAME``, all of which it finds in ``job.exporter_options[NAME]``; and
    ``ALSO_CALLED``, names that others give it, for "did you mean".
    """

    SOURCES: Literal["pytorch", "onnx"]
    CAPTURE: Literal["trace", "graph", "copy"]
    OPSETS: Sequence[tuple[tuple[int, int], int, int]]
    NATIVE_OPSET: int | None
    TRAINING_HINT: str

    def unsuited(self, loaded: Loaded, job: Job) -> str | None:
        """Why it takes no such source or option at all; ``None``: it tries."""

    def export(
        self, loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path
    ) -> None:
        """Write ``destination``, and external data beside it.

        Called only where ``unsuited`` has no objection.

        Args:
            arguments: the tensors of the traced example.

        Raises:
            StageError: EXPORT_UNSUPPORTED, where the model has no ONNX form; DIM_SPECIALISED, for a
                dynamic axis that its code fixes.
        """


def export(
    name: str, loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path
) -> None:
    """Export with the exporter of a name.

    Raises:
        StageError: as ``Exporter.export``; EXPORT_UNSUPPORTED also where it does not suit.
    """
    plugin = load(name)
    if why := plugin.unsuited(loaded, job):
        raise StageError(Code.EXPORT_UNSUPPORTED, why)
    plugin.export(loaded, job, arguments, destination)


def load(name: str) -> Exporter:
    """The exporter of a name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    exporter: Exporter = loader.load("exporters", name)
    return exporter
