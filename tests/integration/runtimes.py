"""Variants in formats of runtimes: the job that follows a conversion, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.model.job import Derived, Variant
from converter.model.records import JobResult
from converter.plugins import loader, variants
from converter.worker.pipeline import derive
from tests.integration import jobs


def followed(
    folder: Path,
    plugin: str,
    options: dict[str, Any] | None = None,
    called: str = "",
    **changes: Any,
) -> Derived:
    """The job of a plugin for a small convolution with an open batch axis.

    Args:
        called: the precision that it is to be of; by default that of the options.
    """
    module: Any = variants.load(plugin)
    stated = loader.options_of(module).model_validate(options or {})
    precision = module.precision(stated) if hasattr(module, "precision") else module.PRECISION
    asked = Variant(
        id="other", plugin=plugin, format=module.FORMAT, precision=called or precision,
        optional=False, cast_io=False, suffix=module.SUFFIX, companions=list(module.COMPANIONS),
        provider=module.PROVIDER, options=stated.model_dump(),
    )  # fmt: skip
    usual: dict[str, Any] = {"inputs": jobs.IMAGE, "dynamic_axes": jobs.BATCH}
    return jobs.followed(jobs.make(folder, "Conv", variants=[asked], **(usual | changes)))


def made(job: Derived) -> JobResult:
    return derive.run(job, lambda news: None)
