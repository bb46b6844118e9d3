"""What the types cannot say of variants: names that a file can have, plugins that are there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from converter.model import wording
from converter.model.artifact import ONNX, PRECISIONS
from converter.model.batch import BatchSpec
from converter.model.errors import Problem
from converter.model.spec import ModelSpec, VariantSpec
from converter.plan import variants
from converter.plugins import loader, providers

# The folder of an artifact stands beside the files of its model.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_NAME_RULE = (
    f"a variant is called as its artifact: lower-case letters, digits, - and _, at most 40, and "
    f"not {ONNX}."
)


def stated(spec: BatchSpec) -> Iterator[tuple[tuple[str, ...], VariantSpec]]:
    """Each variant that is asked for, with the key that states it."""
    for name, variant in spec.variant.items():
        yield ("variant", name), variant
    for key, model in _models(spec):
        if model.variants is None:
            continue
        for name, variant in variants.stated(spec, model).items():
            # A name of a list that the run states as well was given with the run's own key.
            if not isinstance(model.variants, list) or name not in spec.variant:
                yield (*key, "variants", name), variant


def _models(spec: BatchSpec) -> Iterator[tuple[tuple[str, ...], ModelSpec]]:
    """The entries and their graphs, with the key of each."""
    for name, model in spec.models.items():
        yield ("models", name), model
        for graph, own in model.graphs.items():
            yield ("models", name, "graphs", graph), own


def check(spec: BatchSpec) -> list[Problem]:
    """All problems of the variants but for their options."""
    problems: list[Problem] = []
    for key, variant in stated(spec):
        where, name = ".".join(key), key[-1]
        if name == ONNX or not _NAME.fullmatch(name):
            problems.append(Problem(where, f"{wording.found(name)} is not a name: {_NAME_RULE}"))
            continue
        said = f"{where}.plugin" if variant.plugin else where
        plugin = variants.plugin_of(name, variant)
        problems += choice(said, plugin, loader.names("variants")) or _unfit(said, plugin)
    for key, model in _models(spec):
        where = ".".join(key)
        if variants.stated(spec, model) and not model.export.export_params:
            message = "a file without its weights has no variants."
            hint = f"Set {where}.variants: [], or remove the key."
            problems.append(Problem(f"{where}.export.export_params", message, hint))
        listed = Counter(model.variants if isinstance(model.variants, list) else [])
        problems += [
            Problem(f"{where}.variants", f"{name} is listed more than once.")
            for name, count in listed.items()
            if count > 1
        ]
    return problems


def _unfit(key: str, name: str) -> list[Problem]:
    """Files that nothing here can judge."""
    plugin = loader.load("variants", name)
    runs = variants.provider_of(plugin) or providers.standard()
    problems = choice(f"{key} (its PROVIDER)", runs, loader.names("providers"))
    reads = () if problems else providers.formats(providers.load(runs))
    found = [("FORMAT", plugin.FORMAT, reads), ("PRECISION", plugin.PRECISION, PRECISIONS)]
    return problems + [
        Problem(key, f"{what} of the plugin is {value!r}; expected {' or '.join(known)}.")
        for what, value, known in found
        if known and value not in known
    ]


def choice(key: str, name: str, choices: list[str], kind: str = "") -> list[Problem]:
    """Whether a configuration names what there is.

    Args:
        kind: of the plugins that the choices name, which may be called otherwise elsewhere.
    """
    if name in choices:
        return []
    message = f"found '{name}'; expected {' or '.join(choices)}."
    meant = loader.meant(kind, name) if kind else None
    close = [meant] if meant else wording.near(name, choices)
    return [Problem(key, message, f"Did you mean {close[0]}?" if close else "")]
