"""What a run does that nobody configured: ``config.yaml`` and the presets that it lists.

The files say which plugins those are, so that no code names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from converter.model.base import Frozen
from converter.model.batch import BatchSpec, ExecutorSpec

PACKAGE = Path(__file__).resolve().parents[1]
# What Hydra reads of a file, and no key of a run.
_OF_HYDRA = ("defaults", "hydra")


def configs() -> Path:
    """The folder of the configuration: in the package (a wheel), or beside it (a checkout)."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


@cache
def plain() -> dict[str, Any]:
    """The configuration that Hydra composes from no experiment and no override."""
    config: dict[str, Any] = _read("config.yaml")
    for listed in config["defaults"]:
        # `_self_` is text, and `override …` chooses among Hydra's own groups.
        group, preset = next(iter(listed.items())) if isinstance(listed, dict) else ("", None)
        if isinstance(preset, str) and " " not in group:
            config[group] = _read(f"{group}/{preset}.yaml")
    return {key: value for key, value in config.items() if key not in _OF_HYDRA}


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((configs() / name).read_text(encoding="utf-8"))
    return content


def spec(**changes: Any) -> BatchSpec:
    """The typed configuration of a run, some of its keys changed; keys of a group keep the others.

    Raises:
        pydantic.ValidationError: a value is not of its key's type.
    """
    config = dict(plain())
    for key, value in changes.items():
        before = config.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            value = {**before, **value}
        config[key] = value
    return BatchSpec.model_validate(config)


def filled(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, and the standard plugins where it names none: ``~benchmark``, say."""
    found = dict(config)
    for key, field in BatchSpec.model_fields.items():
        if not field.is_required():
            continue
        usual = plain()[key]
        stated = found.setdefault(key, usual)
        kind = field.annotation
        # A mapping in the place of a list is refused later, with its key.
        if isinstance(stated, dict) and isinstance(kind, type) and issubclass(kind, Frozen):
            names = [name for name, inner in kind.model_fields.items() if inner.is_required()]
            found[key] = {**{name: usual[name] for name in names}, **stated}
    return found


def executor(**changes: Any) -> ExecutorSpec:
    """How jobs are run where no configuration says it: each in a process of its own."""
    return spec(executor=changes).executor
