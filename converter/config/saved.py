"""The configuration that a run directory keeps in ``.hydra``: what its run was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from converter.config import resolution
from converter.model.errors import ConfigError, Problem

FOLDER = ".hydra"
# What a part of another type raises wherever it is looked at, beside what the libraries say. A
# ValueError is what is not UTF-8, too.
_DAMAGED = (
    OSError, ValueError, YAMLError, OmegaConfBaseException, AttributeError, TypeError,
    RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """What a run was started with.

    Attributes:
        config: resolved now, plain values.
        cwd: where the command was started: what its relative paths start from.
        point: the folder name of a sweep's point; empty for a run.
        config_dir: the folder of configurations that the command named.
    """

    config: dict[str, Any]
    experiment: str
    overrides: list[str]
    sha256: str
    cwd: Path
    point: str
    config_dir: str | None


def read(directory: Path) -> Saved:
    """The configuration of a run, as it was composed then: files changed since do not matter.

    Raises:
        ConfigError: there is none, it cannot be read, or its values do not resolve any more.
    """
    folder = directory / FOLDER
    # It was written last (`Point.claim`): where it is, the others are.
    if not (folder / "hydra.yaml").is_file():
        message = f"{directory} holds no run that has begun."
        raise ConfigError(Problem("resume", message, "Delete the folder and start again."))
    resolution.install()
    # Composing registers `${now:}` and `${hydra:}`, and nothing is composed here.
    setup_globals()
    try:
        text = (folder / "config.yaml").read_text(encoding="utf-8")
        composed = cast(DictConfig, OmegaConf.create(text))
        composed.hydra = OmegaConf.load(folder / "hydra.yaml").hydra
        _rename(composed)
        # Not `set_config`, which asserts Hydra's own types (1.3): what was saved is a plain
        # mapping.
        HydraConfig.instance().cfg = cast(Any, composed)  # for ${hydra:...}
        return Saved(
            config=resolution.resolve(composed, without="hydra"),
            experiment=resolution.experiment(composed),
            overrides=resolution.overrides(composed),
            # Of what was written then: a renamed key makes no other configuration.
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            cwd=Path(_text(composed, "hydra.runtime.cwd")),
            point=_text(composed, "hydra.sweep.subdir"),
            config_dir=resolution.config_dir(composed),
        )
    except _DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "Start again in a new folder."
        raise ConfigError(Problem(str(folder), f"cannot be read: {reason}.", hint)) from error


def _text(composed: DictConfig, key: str) -> str:
    value = OmegaConf.select(composed, key)
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{key} is no text, and a run writes one there")
    return value


def _rename(composed: DictConfig) -> None:
    """Give keys of version 0.1 their names of now."""
    compare = composed.get("compare")
    if isinstance(compare, DictConfig) and "settle_s" in compare:
        compare.remeasure_budget_s = compare.pop("settle_s")
