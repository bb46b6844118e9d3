"""Files of a zoo by themselves: what a model, an experiment or a preset says, nothing run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from converter.config import compose, resolution, strict_yaml, validation
from converter.config.hydra_errors import composed
from converter.config.point import CONFIG
from converter.config.standard import configs
from converter.model.errors import ConfigError, Problem
from converter.model.wording import did_you_mean

_ADDED = ("experiment", "model")  # not in the defaults list
# A preset needs a run to be in.
_SOME_MODEL = "+models.some_model={source: single_conv}"


def problems(file: Path) -> list[Problem]:
    """What is wrong with one file; none where a run could use it.

    The file is composed as a run would: from the folder that holds its group's folder.
    """
    try:
        root, group, name = _place(file)
        choice = f"+{group}={name}" if group in _ADDED else f"{group}={name}"
        words = [choice] if group in _ADDED else [choice, _SOME_MODEL]
        own = None if root == configs().resolve() else str(root)
        hydra = compose.opened(own)
    except ConfigError as error:
        return list(error.problems)
    try:
        return _composed(hydra, words)
    finally:
        GlobalHydra.instance().clear()


def _composed(hydra: Hydra, words: list[str]) -> list[Problem]:
    try:
        # Several values of a sweep may stand in an experiment.
        config, refused = composed(hydra, CONFIG, words, RunMode.MULTIRUN)
        if refused:
            return refused
        if unpackaged := strict_yaml.without_package(map(str, config)):
            return unpackaged
        sweep = config.hydra.mode == RunMode.MULTIRUN or bool(
            OmegaConf.select(config, "hydra.sweeper.params")
        )
        validation.parse(resolution.resolve(config, without="hydra"), sweep=sweep)
    except ConfigError as error:
        return list(error.problems)
    return []


def _place(file: Path) -> tuple[Path, str, str]:
    """The folder of the zoo, the group, and the name in it: ``model``, ``audio/tiny``.

    Raises:
        ConfigError: there is no such file, or it is in the folder of no group.
    """
    if not file.is_file():
        what = "is no file" if file.exists() else "does not exist"
        near = did_you_mean(file.name, sorted(path.name for path in file.parent.glob("*.yaml")))
        raise ConfigError(Problem("validate", f"{file} {what}.", near))
    groups = _groups()
    path = file.resolve()
    for folder in path.parents:
        if folder.name in groups:
            name = path.relative_to(folder).with_suffix("").as_posix()
            return folder.parent, folder.name, name
    hint = f"Put it into a folder called {', '.join(groups[:-1])} or {groups[-1]}."
    raise ConfigError(Problem("validate", f"{file} is in no folder of a group.", hint))


def _groups() -> Sequence[str]:
    return sorted(path.name for path in configs().iterdir() if path.is_dir())
