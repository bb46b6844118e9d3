"""Names of models that a place of ``publish_to`` has no room for, told before the run begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converter.config import run_rules
from converter.model.batch import BatchSpec
from converter.model.errors import Problem
from converter.model.spec import ModelSpec
from converter.plan import graphs, variants
from converter.plugins import layouts, loader


def check(spec: BatchSpec, models: Mapping[str, ModelSpec]) -> list[Problem]:
    """Models whose folders could not be made in one of the places."""
    named = {target.layout or layouts.DEFAULT for _, target in run_rules.targets(spec)}
    known = [layouts.load(name) for name in named & {*loader.names("layouts")}]
    problems = list(_reserved(spec, models)) if known else []
    if any(layouts.is_apart(layout) for layout in known):
        problems += _shared(spec, models)
    return problems


# File systems take names for one that differ only in case.


def _reserved(spec: BatchSpec, models: Mapping[str, ModelSpec]) -> Iterator[Problem]:
    for name in models:
        if (folder := name.casefold()) in layouts.AT_THE_TOP:
            what = f"publish_to has a file {folder} where the folder of the model would be."
            yield Problem(graphs.key_of(spec, name), what, "Rename the model.")


def _shared(spec: BatchSpec, models: Mapping[str, ModelSpec]) -> Iterator[Problem]:
    """Where each artifact has a folder of its own, that of a variant may be that of a model."""
    names = {name.casefold(): name for name in models}
    for name, model in models.items():
        for artifact in variants.stated(spec, model):
            folder = layouts.folder_apart(name, artifact).casefold()
            if folder in layouts.AT_THE_TOP:
                what = f"publish_to has a file {folder} where the folder of {artifact} would be."
                hint = "Rename the model or the variant."
                yield Problem(graphs.key_of(spec, name), what, hint)
            elif folder in names:
                what = f"publish_to would have it in the folder of {artifact} of the model {name}."
                yield Problem(graphs.key_of(spec, names[folder]), what, "Rename one of the two.")
