"""Every model of timm, when timm is installed, found by reading its source."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from registry import Entry

PREFIX = "timm/"
# The decorator, other decorators, then the function whose name is the model's.
BUILDER = re.compile(r"^@register_model\n(?:(?!def ).*\n)*?def (\w+)\(", re.MULTILINE)
# As a keyword (`input_size=`) or a key (`'input_size': `). `test_input_size` is none: `_` is part
# of a word, and so there is no `\b` before `input`.
INPUT_SIZE = re.compile(r"\binput_size\W{1,4}\((\d+), (\d+), (\d+)\)")
# An entry of `default_cfgs`, which are indented by four: name, tag, helper, and all up to the next
# entry or the end of the dictionary.
CONFIGURATION = re.compile(
    r"^    ['\"](\w+)(?:\.([^'\"]*))?['\"]: *(\w*)(.*?)(?=^    ['\"]|^\S)", re.MULTILINE | re.DOTALL
)
USUAL = [3, 224, 224]


def names() -> tuple[str, ...]:
    """``timm/NAME`` for each model of the installed timm."""
    return tuple(PREFIX + name for name in _modules())


def entry(name: str) -> Entry | None:
    """The entry of ``timm/NAME``; its input is that of the model's first set of weights."""
    short = name.removeprefix(PREFIX)
    path = _modules().get(short)
    if path is None:
        return None
    return Entry(
        name=name,
        task="classification",
        module=f"timm.models.{path.stem}",
        builder=short,
        inputs={"input": {"shape": [1, *_input_size(short, path)]}},
        outputs=("output",),
    )


@cache
def _modules() -> dict[str, Path]:
    # Found and not imported: timm imports torch, which the parent must not.
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return {}
    found: dict[str, Path] = {}
    for path in sorted((Path(spec.origin).parent / "models").glob("*.py")):
        for match in BUILDER.finditer(path.read_text(encoding="utf-8")):
            found[match[1]] = path
    return dict(sorted(found.items()))


def _input_size(name: str, path: Path) -> list[int]:
    """Channels, height and width of the model's first configuration.

    A file keeps one configuration for each set of weights, ``'name.tag': _cfg(...)``; what
    that does not say is in the helper it calls. A ``*`` after a tag makes it the first. A few
    models compute theirs; for them this is a guess.
    """
    text = _text(path)
    entries = _configurations(path).get(name, [])
    # `sorted` is stable: without a star the first stays the first.
    starred = sorted(entries, key=lambda entry: not entry[0].endswith("*"))
    _, helper, stated = starred[0] if starred else ("", "_cfg", "")
    # The helper up to the bracket that closes the dictionary which it returns.
    default = re.search(rf"^def {helper}\(.*?^    [}}\)]", text, re.MULTILINE | re.DOTALL)
    size = INPUT_SIZE.search(stated) or (INPUT_SIZE.search(default[0]) if default else None)
    return [int(number) for number in size.groups()] if size else USUAL


@cache
def _configurations(path: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Tag, helper and what is stated, of each configuration of a file, by the model's name."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for name, *configuration in CONFIGURATION.findall(_text(path)):
        tag, helper, stated = configuration
        found.setdefault(name, []).append((tag, helper, stated))
    return found


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
