"""Plain words for the types and values of a configuration.

Pydantic says what a validator refused; a person needs to know what may be written there.
Both come from the types of the configuration, so a message cannot drift from them.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from converter.model.base import Frozen
from converter.model.source import Source
from converter.model.spec import ModelSpec

ARGUMENTS = {
    "verbose": "Not offered: all that an exporter prints is in the model's log.txt, and the graph "
    "in `inspect`. Remove it.",
    "operator_export_type": "Not offered: torch supports ONNX alone here, and no runtime has "
    "ATen's operators. Remove it; for an operator of your own write export.custom_opsets.",
    "export_modules_as_functions": "Not offered: torch deprecates it, dynamo ignores it, and the "
    "runtime inlines such functions. Remove it; names of nodes say which module they are of.",
    "do_constant_folding": "Write export.constant_folding.",
    "optimize": "Write export.constant_folding.",
    "use_external_data_format": "Write export.external_data: always, auto or never.",
    "opset_version": "Write opset, of the run or of the model.",
    "input_names": "The keys of the model's inputs are their names.",
    "output_names": "Write outputs: [NAME, ...] of the model.",
    "dynamic_shapes": "Write dynamic_axes: {INPUT: {AXIS: NAME}} of the model.",
    "args": "Write inputs and constants of the model.",
    "fallback": "Write exporter: auto, which tries one after the other.",
    "example_outputs": "Not offered: PyTorch's own outputs are the reference. Remove it.",
    "enable_onnx_checker": "Not offered: every file is checked. Remove it.",
}
"""Arguments of ``torch.onnx.export`` that are no keys, of today and before: what to write."""

# What other tools call a choice; `fp32` is told apart from them by its form.
_ELSEWHERE = {
    "gpu": "cuda", "nvidia": "cuda", "half": "float16", "float": "float32", "double": "float64",
    "long": "int64", "int": "int64", "short": "int16", "byte": "uint8", "boolean": "bool",
}  # fmt: skip
_SIMPLE = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def found(value: object) -> str:
    """A value as a person would recognise it, never longer than a short line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def near(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that somebody who wrote ``name`` may have meant, best first."""
    written = name.casefold()
    lowered = {word.casefold(): word for word in known}
    meant = _ELSEWHERE.get(written, re.sub(r"^fp(?=\d)", "float", written))
    if meant != written and meant in lowered:
        return [lowered[meant]]
    # 0.6 is difflib's own default.
    close = difflib.get_close_matches(written, lowered, n=most, cutoff=0.6)
    # Too much begins with one or two letters.
    begun = [word for word in lowered if len(written) > 2 and word.startswith(written)]
    return [lowered[word] for word in dict.fromkeys([*close, *begun])][:most]


def did_you_mean(name: str, known: Sequence[str], most: int = 12) -> str:
    """A hint: the nearest names, or the first of the known ones."""
    if close := near(name, known):
        return f"Did you mean {' or '.join(close)}?"
    if not known:
        return ""
    more = f", … ({len(known)} in all)" if len(known) > most else ""
    return f"Known: {', '.join(list(known)[:most])}{more}."


def expected(annotation: Any) -> str:
    """What may be written where a type stands, as "a whole number from 7 to 25"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bounded(arguments[0], list(_flat(arguments[1:])))
    if origin in (Union, types.UnionType):
        return " or ".join(expected(part) for part in arguments if part is not types.NoneType)
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if origin is list:
        return f"a list, each item {expected(arguments[0])}"
    if annotation is Source:
        return "a registry name or " + _mapping(Source)
    if annotation is ModelSpec:
        return "a registry name or " + _mapping(ModelSpec)
    if _is_model(annotation):
        return _mapping(annotation)
    return _SIMPLE.get(annotation, "a mapping" if origin is dict else "a value")


def keys(annotation: Any) -> list[str]:
    """The keys that may be written in a mapping of this type; none if they are free."""
    models = [part for part in _parts(annotation) if _is_model(part)]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def below(annotation: Any, key: object) -> Any:
    """The type of one item of a mapping or list; ``None`` when there is no such key."""
    for part in _parts(annotation):
        origin, arguments = get_origin(part), get_args(part)
        if origin is list and isinstance(key, int):
            return arguments[0]
        if origin is list and _is_model(arguments[0]):  # one that may be written without a list
            return below(arguments[0], key)
        if origin is dict and isinstance(key, str):
            return arguments[1]
        if _is_model(part):
            for name, field in part.model_fields.items():
                if key in (name, field.alias):
                    return of_field(field)
    return None


def takes_text(annotation: Any) -> bool:
    """Whether any text may stand where the type is."""
    return str in _parts(annotation)


def of_field(field: FieldInfo) -> Any:
    """The annotation of a field, with the bounds that pydantic keeps beside it."""
    if not field.metadata:
        return field.annotation
    return Annotated[(field.annotation, *field.metadata)]


def _mapping(model: type[Frozen]) -> str:
    return f"a mapping of {', '.join(keys(model))}"


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Frozen)


def _parts(annotation: Any) -> list[Any]:
    """The alternatives of a type, without ``Annotated`` around them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _parts(arguments[0])
    if origin in (Union, types.UnionType):
        return [inner for part in arguments for inner in _parts(part)]
    return [annotation]


def _flat(metadata: Iterable[Any]) -> Iterable[Any]:
    for item in metadata:
        yield from item.metadata if isinstance(item, FieldInfo) else [item]


def _bounded(annotation: Any, metadata: list[Any]) -> str:
    """Words for a type with bounds, as ``annotated_types`` and pydantic carry them."""
    words = expected(annotation)
    bounds: dict[str, Any] = {}
    for item in metadata:
        for name in ("ge", "gt", "le", "lt", "min_length", "pattern"):
            if getattr(item, name, None) is not None:
                bounds[name] = getattr(item, name)
    # Of whole numbers "below 4294967296" is "up to 4294967295".
    if "lt" in bounds and annotation is int:
        bounds["le"] = bounds["lt"] - 1
    if "ge" in bounds and "le" in bounds:
        return f"{words} from {bounds['ge']} to {bounds['le']}"
    if "ge" in bounds:
        return f"{words} of {bounds['ge']:g} or more"
    if "gt" in bounds:
        return f"{words} above {bounds['gt']:g}"
    if "pattern" in bounds:
        return f"{words} of the form {bounds['pattern']}"
    if "min_length" in bounds and get_origin(annotation) is list:
        return words.replace("a list", "a list that is not empty", 1)
    return f"{words} that is not empty" if "min_length" in bounds else words
