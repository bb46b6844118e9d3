"""Ways to run a file that may differ from plain ONNX Runtime on the CPU, and how to say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnxruntime as ort

from converter.plugins import providers
from converter.worker.debug.scripts import Script, beside, of_runtime
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure
from converter.worker.runtime import custom_ops, running, starting

_FATAL_ONLY = 4
_CPU = "CPUExecutionProvider"
LEVELS = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL")


class Way(Protocol):
    """A way to run a file."""

    def run(self, path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by their names.

        Raises:
            StageError: it refuses the file.
            RuntimeErrors: it stops within.
        """

    def script(self) -> Script | None:
        """What shows a model beside plain ONNX Runtime; ``None``: no few lines can."""


@dataclass(frozen=True)
class Optimised:
    """ONNX Runtime's CPU with graph optimisations up to a level.

    Attributes:
        level: as ONNX Runtime calls it, one of ``LEVELS``.
    """

    level: str
    threads: int = 1

    def run(
        self, path: Path, feeds: Mapping[str, Array], optimised: Path | None = None
    ) -> dict[str, Array]:
        """All outputs by their names; the graph that they were computed by is left at a path."""
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        options.intra_op_num_threads = self.threads
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, self.level)
        custom_ops.register(options)
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
        session = starting.start(str(path), providers.standard(), options, {})
        fed = {value.name: feeds[value.name] for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, fed), strict=True))

    def script(self) -> Script:
        return beside(self.level, [_CPU])


@dataclass(frozen=True)
class OnProvider:
    """A provider, as users run a file on it.

    Attributes:
        name: a module of ``converter.plugins.providers``.
        stated: by the name of a provider what its ``Options`` are made of.
    """

    name: str
    stated: Mapping[str, Mapping[str, Any]]
    threads: int = 1

    def run(self, path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
        session = running.opened(
            path,
            lambda: structure.interface(structure.read(path)),
            provider=self.name,
            threads=self.threads,
            provider_options=self.stated,
        )
        fed = {name: feeds[name] for name in session.inputs}
        return dict(zip(session.outputs, session.run(fed), strict=True))

    def script(self) -> Script | None:
        plugin = providers.load(self.name)
        if not providers.is_runtime(plugin):
            return beside(LEVELS[-1], [plugin.NAME, _CPU])
        options = providers.options(plugin, self.stated.get(self.name, {}))
        lines: str | None = getattr(plugin, "SCRIPT", None)
        return of_runtime(lines, options, running.versions(self.name)) if lines else None


def levels() -> list[Optimised]:
    """The levels that this ONNX Runtime has, from little to all."""
    return [Optimised(name) for name in LEVELS if hasattr(ort.GraphOptimizationLevel, name)]
