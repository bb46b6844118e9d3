"""The variants of a model: which are asked for, with which options, and the jobs that make them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from converter.model.batch import BatchSpec
from converter.model.job import Derived, Job, Variant, asked
from converter.model.records import FileInfo
from converter.model.spec import ModelSpec, VariantSpec
from converter.plugins import loader

_STAGING = ".derived"  # no model can have this name


def stated(spec: BatchSpec, model: ModelSpec) -> dict[str, VariantSpec]:
    """The variants of a model: its own list, or that of the run.

    What a model says of a variant is laid over what the run says of it.
    """
    if model.variants is None:
        return dict(spec.variant)
    # A list names variants and says nothing about them, so that the run's options stay.
    if isinstance(model.variants, list):
        return {name: spec.variant.get(name, VariantSpec()) for name in model.variants}
    return {
        name: VariantSpec.model_validate(
            {**_said(spec.variant[name]), **_said(own)} if name in spec.variant else _said(own)
        )
        for name, own in model.variants.items()
    }


def _said(variant: VariantSpec) -> dict[str, object]:
    # Only what was written: a default would overwrite what the run says of the same variant.
    return variant.model_dump(exclude_unset=True)


def plugin_of(name: str, variant: VariantSpec) -> str:
    """The plugin that makes a variant."""
    return variant.plugin or name


def of(spec: BatchSpec, model: ModelSpec) -> list[Variant]:
    """The variants of a model with everything resolved.

    Raises:
        ConfigError: there is no such plugin, or it raises where it says what it does.
    """
    found = []
    for name, variant in stated(spec, model).items():
        plugin = loader.load("variants", plugin_of(name, variant))
        announced = loader.found("variants")[plugin_of(name, variant)]
        options = announced.call(partial(loader.options_of(plugin).model_validate, variant.options))
        found.append(
            Variant(
                id=name,
                plugin=plugin_of(name, variant),
                format=plugin.FORMAT,
                precision=announced.call(partial(_precision, plugin, options)),
                partial=getattr(plugin, "PARTIAL", False),
                suffix=getattr(plugin, "SUFFIX", ".onnx"),
                companions=list(getattr(plugin, "COMPANIONS", ())),
                provider=provider_of(plugin),
                optional=variant.optional,
                rtol=variant.rtol,
                atol=variant.atol,
                accuracy=variant.accuracy,
                cast_io=not announced.call(partial(plugin.keeps_io, options)),
                options=announced.call(partial(options.model_dump, mode="json")),
            )
        )
    return found


def _precision(plugin: Any, options: Any) -> str:
    found: str = plugin.precision(options) if hasattr(plugin, "precision") else plugin.PRECISION
    return found


def provider_of(plugin: Any) -> str:
    """What opens and verifies a plugin's files; empty: the provider that verifies ONNX files."""
    found: str = getattr(plugin, "PROVIDER", "")
    return found


def jobs_of(job: Job) -> list[Derived]:
    """The jobs that follow a conversion; what they are made from is not known yet."""
    folder, staging = Path(job.model_dir), Path(job.staging_dir)
    return [
        Derived.model_validate(
            {
                **asked(job),
                "artifact": variant.id,
                "format": variant.format,
                "precision": variant.precision,
                "partial": variant.partial,
                "suffix": variant.suffix,
                "companions": variant.companions,
                "provider": variant.provider,
                "parent": job.artifact,
                "optional": variant.optional,
                "cast_io": variant.cast_io,
                "accuracy": variant.accuracy,
                # All variants are made from the model's own file: they do not follow from each
                # other.
                "variants": [],
                # An expected failure is stated for the model's own file.
                "expect": None,
                # The model's own tolerances are for its float32 file.
                "verify": job.verify.model_copy(
                    update={"rtol": variant.rtol, "atol": variant.atol}
                ),
                "plugin": variant.plugin,
                "options": variant.options,
                # A folder of its own: log, `job.json` and `result.json` have the same names for
                # every artifact.
                "model_dir": str(folder / variant.id),
                "staging_dir": str(staging.parent / _STAGING / job.name / variant.id),
            }
        )
        for variant in job.variants
    ]


def from_parent(job: Derived, files: Sequence[FileInfo]) -> Derived:
    """The job with the hashes of what it is made from: enough for its key."""
    hashes = {Path(part.path).name: part.sha256 for part in files}
    return job.model_copy(update={"parent_files": hashes})
