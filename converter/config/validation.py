"""From a composed configuration to a ``BatchSpec``, or to every problem there is with it.

``parse`` validates the run-level part and each model on its own, so that one mistake does not
hide another, words the errors, and hands what could be typed to ``converter.config.rules``.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from converter.config import rules, run_rules, standard, variant_rules
from converter.model import trees, wording
from converter.model.base import Frozen
from converter.model.batch import BatchSpec, ExecutorSpec, PublishSpec
from converter.model.errors import ConfigError, Problem
from converter.model.spec import ModelSpec, VariantSpec, short_model
from converter.plan import graphs, variants
from converter.plugins import layouts, loader

MAX_NAME = 120
_BITS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME_RULE = (
    f"a model's name is made of letters, digits, '.', '_' and '-', begins with a letter or a "
    f"digit and has at most {MAX_NAME} characters."
)

Spec = TypeVar("Spec", bound=Frozen)


def parse(config: Mapping[str, Any], *, sweep: bool = False) -> BatchSpec:
    """Type and check a composed, resolved configuration.

    Args:
        sweep: it is a point of a sweep: what no exporter can do is skipped there.

    Raises:
        ConfigError: everything that is wrong, each with its key.
    """
    unfit: list[Problem] = []
    problems: list[Problem] = []
    clean = _representable(dict(config), (), unfit)
    if clean.get("benchmark") is False:  # YAML reads an unquoted `off` as false
        clean["benchmark"] = {"providers": []}
    entries = clean.pop("models", {})
    spec, refused = _run_level(standard.filled(clean), problems)
    if not isinstance(entries, dict):
        problems.append(_mismatch("models", entries, "a mapping of names to models"))
        refused.add("models")
        entries = {}
    problems += check_names(_names(entries))
    models: dict[str, ModelSpec] = {}
    for name, entry in entries.items():
        entry, unfit_tree = trees.flattened(short_model(entry), f"models.{name}")
        problems += unfit_tree
        model = _typed(ModelSpec, entry, ("models", name), problems)
        if model is not None:
            models[name] = model
    # Without a second validation: each model has had its own.
    spec = spec.model_copy(update={"models": models})
    untyped = set(entries) - set(models)
    problems += rules.check(spec, sweep=sweep, refused_keys=refused, refused_models=untyped)
    # A rule that knows the key says more than that its plugin does not.
    ruled = {problem.key for problem in problems}
    problems += [problem for problem in _plugin_options(spec) if problem.key not in ruled]
    # What was unfit has been replaced: problems of the same key are only its consequence.
    causes = {problem.key for problem in unfit}
    problems = unfit + [problem for problem in problems if problem.key not in causes]
    if problems:
        raise ConfigError(problems)
    return spec


def _plugin_options(spec: BatchSpec) -> list[Problem]:
    """What is wrong with the keys that plugins add to their groups."""
    problems: list[Problem] = []

    def check(
        kind: str,
        name: str,
        options: dict[str, Any],
        key: tuple[str, ...],
        beside: type[Frozen] = Frozen,
    ) -> None:
        plugin = loader.found(kind).get(name)
        if plugin is not None:
            found: list[Problem] = []
            kind_of_options = loader.options_of(plugin.load())
            plugin.call(partial(_typed, kind_of_options, options, key, found))
            problems.extend(_nearest(problem, beside) for problem in found)

    check("simplifiers", spec.simplifier.name, spec.simplifier.options, ("simplifier",))
    executor = spec.executor
    check("executors", executor.name, executor.own_options, ("executor",), ExecutorSpec)
    for name, options in spec.exporter.options.items():
        check("exporters", name, options, ("exporter", "options", name))
    for name, options in spec.benchmark.options.items():
        check("providers", name, options, ("benchmark", "options", name))
    for place, target in run_rules.targets(spec):
        check("layouts", target.layout or layouts.DEFAULT, target.options, (place,), PublishSpec)
    for key, variant in variant_rules.stated(spec):
        check("variants", variants.plugin_of(key[-1], variant), variant.options, key, VariantSpec)
    return problems


def _nearest(problem: Problem, beside: type[Frozen]) -> Problem:
    """The problem of an option, with a hint at the keys that stand beside the options."""
    if not problem.message.startswith("unknown key"):
        return problem
    name, known = problem.key.rpartition(".")[2], wording.keys(beside)
    if problem.hint and (problem.hint.startswith("Did you") or not wording.near(name, known)):
        return problem
    return replace(problem, hint=wording.did_you_mean(name, known))


def _names(entries: Mapping[str, Any]) -> list[str]:
    """The names of the files: those of the entries, and of their graphs."""
    found = list(entries)
    for name, entry in entries.items():
        listed = entry.get("graphs") if isinstance(entry, Mapping) else None
        found += [graphs.name_of(name, each) for each in listed] if isinstance(listed, dict) else []
    return found


def check_names(names: Iterable[str]) -> list[Problem]:
    """Refuse names that are no safe file names, or that a file system may take for one."""
    problems = []
    seen: dict[str, str] = {}
    for name in names:
        shown = wording.found(name)
        # File systems of macOS and Windows take such names for one: the second model would
        # overwrite the first one's folder.
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            message = f"the names {wording.found(seen[folded])} and {shown} differ only in case or"
            problems.append(Problem("models", f"{message} Unicode form.", "Rename one."))
        elif len(name) > MAX_NAME or not _NAME.fullmatch(name):
            problems.append(Problem("models", f"{shown} is not a name: {_NAME_RULE}"))
        seen.setdefault(folded, name)
    return problems


def _run_level(config: dict[str, Any], problems: list[Problem]) -> tuple[BatchSpec, set[str]]:
    """The run-level part; keys that are wrong are reported and take their default."""
    before = len(problems)
    spec = _typed(BatchSpec, config, (), problems)
    if spec is not None:
        return spec, set()
    # By the first part of the key: what is wrong inside of a group costs the whole group.
    refused = {problem.key.split(".")[0] for problem in problems[before:]}
    rest = {key: value for key, value in config.items() if key not in refused}
    # What is found again was told already: a list of its own takes it.
    return _typed(BatchSpec, standard.filled(rest), (), []) or standard.spec(), refused


def _typed(
    kind: type[Spec], value: Any, path: tuple[str, ...], problems: list[Problem]
) -> Spec | None:
    """Validate in JSON mode: there "17" is no number, 1 is no truth, and an axis is an int."""
    try:
        return kind.model_validate_json(json.dumps(value))
    except ValidationError as error:
        problems += _worded(error.errors(include_url=False), kind, value, path)
        return None


def _worded(
    errors: list[ErrorDetails], kind: type[Frozen], value: Any, path: tuple[str, ...]
) -> list[Problem]:
    """One problem for each place: of a union's alternatives, the one that came furthest."""
    places: dict[tuple[Any, ...], ErrorDetails] = {}
    for error in errors:
        places.setdefault(_place(error, value), error)
    kept = [
        place
        for place in places
        if not any(other != place and other[: len(place)] == place for other in places)
    ]
    return [_problem(places[place], place, kind, path) for place in kept]


def _place(error: ErrorDetails, value: Any) -> tuple[Any, ...]:
    """The keys of an error without the names of union alternatives that pydantic puts between."""
    place: list[Any] = []
    last = len(error["loc"]) - 1
    for index, part in enumerate(error["loc"]):
        here = value if isinstance(value, dict) else dict(enumerate(_items(value)))
        if part in here:
            value = here[part]
        # A missing key is in no value, and is part of the place all the same.
        elif not (error["type"] == "missing" and index == last):
            continue
        place.append(part)
    return tuple(place)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _problem(
    error: ErrorDetails, place: tuple[Any, ...], kind: type[Frozen], path: tuple[str, ...]
) -> Problem:
    key = ".".join(str(part) for part in (*path, *place))
    parent: Any = kind
    for part in place[:-1]:
        parent = wording.below(parent, part)
    annotation = wording.below(parent, place[-1]) if place else kind
    if error["type"] == "extra_forbidden":
        name = str(place[-1])
        hint = wording.ARGUMENTS.get(name) or wording.did_you_mean(name, wording.keys(parent))
        return Problem(key, "unknown key.", hint)
    if error["type"] == "missing":
        return Problem(key, f"is missing; expected {wording.expected(annotation)}.")
    if error["type"] == "string_too_long":
        number, most = len(error["input"]), error["ctx"]["max_length"]
        return Problem(key, f"has {number} characters; expected {most} at most.")
    # Raised by our own validators: the words are ours already.
    if error["type"] == "value_error":
        return Problem(key, f"{error['ctx']['error']}.")
    # So pydantic marks a key that is wrong, in place of a key below it.
    # Empty where the whole is of another kind: `models: {NAME: 3}`.
    if error["loc"] and error["loc"][-1] == "[key]":
        return Problem(key, f"found the key {wording.found(place[-1])}; expected a whole number.")
    return _mismatch(
        key, error["input"], wording.expected(annotation), _advice(key, error, annotation)
    )


def _advice(key: str, error: ErrorDetails, annotation: Any) -> str:
    """What to write in place of a value that is of another kind, or none of the choices."""
    value = error["input"]
    if not isinstance(value, str):
        return ""
    if error["type"] == "literal_error":
        close = wording.near(value, wording.expected(annotation).split(" or "))
        return f"Did you mean {close[0]}?" if close else ""
    if error["type"] == "list_type" and wording.takes_text(wording.below(annotation, 0)):
        return f"Write '{key}=[{value}]'."
    return ""


def _mismatch(key: str, value: object, expected: str, hint: str = "") -> Problem:
    return Problem(key, f"found {wording.found(value)}; expected {expected}.", hint)


def _representable(value: Any, path: tuple[str, ...], problems: list[Problem]) -> Any:
    """A copy that JSON can carry to a worker; what it cannot carry is reported."""
    key = ".".join(path)
    if isinstance(value, Mapping):
        # Axes are keys: numbers in YAML, and text in JSON.
        names = [str(name) for name in value]
        for name in sorted({name for name in names if names.count(name) > 1}):
            text = f"the key {name} is stated twice, as a number and as text."
            problems.append(Problem(f"{key}.{name}".lstrip("."), text, "State it once."))
        return {
            _text(str(name), path, problems): _representable(item, (*path, str(name)), problems)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        items = enumerate(value)
        return [_representable(item, (*path, str(index)), problems) for index, item in items]
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(_mismatch(key, value, "a finite number"))
        return None
    if isinstance(value, str):
        return _text(value, path, problems)
    if isinstance(value, int) and value.bit_length() > _BITS:
        # Python writes no decimal of more than 4,300 digits, and YAML reads longer ones in hex.
        found = f"found a whole number of {value.bit_length()} bits"
        problems.append(Problem(key, f"{found}; at most {_BITS} are possible."))
        return None
    if value is None or isinstance(value, (bool, int, float)):
        return value
    problems.append(_mismatch(key, value, "text, a number, true, false, a list or a mapping"))
    return None


def _text(value: str, path: tuple[str, ...], problems: list[Problem]) -> str:
    """Text as it is, or without what no UTF-8 file can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        problems.append(Problem(".".join(path), f"found {value!a}; expected UTF-8 text."))
        return value.encode(errors="replace").decode()
    return value
