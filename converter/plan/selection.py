"""Which models a run has: ``include`` and ``exclude`` over the registry, ``models``, ``select``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import registry
from converter.model import wording
from converter.model.batch import BatchSpec
from converter.model.errors import Problem
from converter.model.inputs import InputSpec
from converter.model.source import Source
from converter.model.spec import ModelSpec
from converter.plan import graphs


def expand(spec: BatchSpec) -> tuple[dict[str, ModelSpec], list[Problem]]:
    """All models by name, each with what the registry supplies, and what is wrong with them.

    An entry of ``models`` overrides an included model of the same name and may omit its source;
    one with several graphs is one model for each.
    """
    included, problems = _included(spec.include, spec.exclude)
    models: dict[str, ModelSpec] = {}
    for name, model in spec.models.items():
        if model.source is None and name in included:
            model = _with_source(model, included[name])
        if problem := _unknown_source(name, model):
            problems.append(problem)
        models |= {
            each: with_defaults(graph) for each, graph in graphs.expanded(name, model).items()
        }
    for name, source in included.items():
        if name not in models and name not in spec.models:
            models[name] = with_defaults(_with_source(ModelSpec(), source))
    return models, problems


def unmatched(patterns: Iterable[str], names: Iterable[str]) -> list[Problem]:
    """Each pattern of ``select`` must match the name of a model."""
    known = list(names)
    return [
        Problem(
            "select",
            f"{wording.found(pattern)} matches no model of this run.",
            wording.did_you_mean(pattern.replace("*", ""), known),
        )
        for pattern in patterns
        # `fnmatch` folds case on some systems: a configuration would mean other models there.
        if not any(fnmatchcase(name, pattern) for name in known)
    ]


def selected(
    models: Mapping[str, ModelSpec], patterns: Iterable[str], entries: Mapping[str, ModelSpec]
) -> dict[str, ModelSpec]:
    """The models that ``select`` names, by themselves or as graphs of an entry that it names."""
    wanted = list(patterns)

    def named(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in wanted)

    whole = {
        each
        for entry, model in entries.items()
        if named(entry)
        for each in graphs.names(entry, model)
    }
    return {name: model for name, model in models.items() if name in whole or named(name)}


def left_out(spec: BatchSpec, names: Iterable[str]) -> set[str]:
    """The models that ``select`` leaves out of a run with these."""
    return listed(spec) - {*names}


def listed(spec: BatchSpec) -> set[str]:
    """The names of all models, as ``expand`` has them."""
    own = {each for name, model in spec.models.items() for each in graphs.names(name, model)}
    return own | {*_included(spec.include, spec.exclude)[0]} - {*spec.models}


def with_defaults(model: ModelSpec) -> ModelSpec:
    """Fill what a configuration does not state from the registry's entry.

    Inputs that are stated replace the registry's as a whole; its dynamic axes then stay only
    where their tensor does.
    """
    source = model.source.registry if model.source else None
    entry = registry.find(source) if source else None
    if entry is None:
        return model
    defaults = dict(entry.defaults)
    defaults["inputs"] = {
        name: InputSpec.model_validate(dict(spec)) for name, spec in entry.inputs.items()
    }
    defaults["outputs"] = list(entry.outputs)
    filled = ModelSpec.model_validate(defaults)
    # Also where it equals the default: it was said, and so outweighs the registry.
    stated = {name: getattr(model, name) for name in model.model_fields_set}
    merged = filled.model_copy(update=stated)
    if "dynamic_axes" in stated or isinstance(merged.dynamic_axes, str):
        return merged
    # Inputs that replace the registry's may have other names, and its axes would be an error then.
    tensors = {*(merged.inputs or {}), *(merged.outputs or [])}
    axes = {name: axes for name, axes in merged.dynamic_axes.items() if name in tensors}
    return merged.model_copy(update={"dynamic_axes": axes})


def _included(include: list[str], exclude: list[str]) -> tuple[dict[str, str], list[Problem]]:
    """Model name → registry name, for what the patterns include."""
    found: dict[str, str] = {}
    problems = []
    for pattern in include:
        matches = registry.names(pattern)
        if not matches:
            hint = wording.did_you_mean(pattern.replace("*", ""), registry.nearest(pattern))
            message = f"{wording.found(pattern)} matches nothing in the registry."
            problems.append(Problem("include", message, hint))
        for source in matches:
            if any(fnmatchcase(source, other) for other in exclude):
                continue
            # The name becomes a folder, so that the library is left out of it; two of one name are
            # refused.
            name = source.rsplit("/", 1)[-1]
            if found.setdefault(name, source) != source:
                message = f"{found[name]} and {source} would both be named '{name}'."
                problems.append(Problem("include", message, "Exclude one of the two."))
    return found, problems


def _with_source(model: ModelSpec, source: str) -> ModelSpec:
    stated = {name: getattr(model, name) for name in model.model_fields_set}
    return ModelSpec.model_construct(
        _fields_set={*stated, "source"}, **{**stated, "source": Source(registry=source)}
    )


def _unknown_source(name: str, model: ModelSpec) -> Problem | None:
    """A source that nothing can have; a library's builder may exist in another version of it."""
    if model.source is None:
        hint = " or ".join(f"source: {known}" for known in registry.nearest(name)[:2])
        return Problem(f"models.{name}.source", "is missing.", f"Perhaps {hint}." if hint else "")
    source = model.source.registry
    if source is None or registry.find(source):
        return None
    key = f"models.{name}.source"
    if kind := _as_file(source):
        return Problem(key, f"'{source}' is a file, not a name of the registry.", f"Write {kind}.")
    prefix = registry.family(source)
    if prefix is None:
        hint = wording.did_you_mean(source, registry.nearest(source))
        return Problem(key, f"the registry has no '{source}'.", hint)
    # The library is not installed here, or the failure of an older one is known.
    if not registry.names(f"{prefix}*") or model.expect is not None:
        return None
    library = prefix.rstrip("/")
    hint = wording.did_you_mean(source, registry.nearest(source))
    return Problem(key, f"the installed {library} has no '{source.removeprefix(prefix)}'.", hint)


def _as_file(source: str) -> str:
    """How the source is written that a path stands for; empty: it is no path."""
    suffix = source.rpartition(".")[2]
    weights = f"; of a file of weights: weights: {{checkpoint: {source}}} beside the source"
    return {
        "py": f"source: {{file: {source}, name: CLASS}}",
        "onnx": f"source: {{onnx: {source}}}",
        "pt2": f"source: {{exported_program: {source}}}",
        "pt": f"source: {{torchscript: {source}}}{weights}",
        "pth": f"source: {{torchscript: {source}}}{weights}",
    }.get(suffix, "")
