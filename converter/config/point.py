"""One composed configuration, and the folder that its run goes to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper

from converter.config import nodes, resolution, strict_yaml
from converter.layout import claim
from converter.layout.files import write_atomic
from converter.layout.interrupts import Interrupts
from converter.model import urls
from converter.model.errors import ConfigError, ConverterError, ExitCode, Problem

CONFIG = "config"
"""The file of ``configs/`` that everything is composed from."""


@dataclass(frozen=True)
class Point:
    """One composed configuration: of a run, or of one point of a sweep.

    Attributes:
        config: resolved, plain values.
        saved: what ``.hydra/`` keeps of it, unresolved, by the name of the file.
        overrides: as given on the command line, unresolved, without Hydra's own.
        config_dir: the folder of configurations that the command named.
        sweep: it is a point of a sweep.
        folder: the directory of the run or of the sweep, absolute; not yet created.
        name: the folder name of a sweep's point; empty for a run.
        interrupts: signals are noted there while it runs.
        later: gives the configuration of each later point of the sweep, resolved.
    """

    # Not what Hydra composed: its nodes are most of the memory that 10,000 models take.
    config: dict[str, Any]
    saved: dict[str, str]
    overrides: list[str]
    experiment: str
    sweep: bool
    folder: Path
    name: str
    _directory: Callable[[], Path]
    config_dir: str | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    later: Callable[[], Iterator[dict[str, Any]]] = lambda: iter(())

    @property
    def sha256(self) -> str:
        """Of the configuration, unresolved."""
        return hashlib.sha256(self.saved["config"].encode()).hexdigest()

    def claim(self) -> Path:
        """Create the run directory and put ``.hydra/`` there.

        Raises:
            RunError: it cannot be written, or another run holds it.
        """
        directory = self._directory()
        try:
            folder = directory / ".hydra"
            folder.mkdir(exist_ok=True)
            for name, text in self.saved.items():
                write_atomic(folder / f"{name}.yaml", text)  # `hydra` is last: all are there
        except OSError as error:
            raise claim.not_writable(directory, error) from error
        return directory


Task = Callable[[Point], ExitCode]
Report = Callable[[ConverterError, str], ExitCode]
"""Tells the user of an error in the point of that name, and gives the exit code of its kind."""


def create(
    config: DictConfig,
    folder: Path,
    directory: Callable[[], Path],
    *,
    name: str = "",
    interrupts: Interrupts | None = None,
    later: Callable[[], Iterator[dict[str, Any]]] = lambda: iter(()),
) -> Point:
    """The point of what Hydra composed.

    Args:
        folder: the directory of the run or of the sweep.
        directory: creates the run directory; called by ``Point.claim``.
        name: of a sweep's point.
        interrupts: of the sweep that it is a point of.
        later: gives the configurations of the sweep's later points.

    Raises:
        ConfigError: a value is missing or does not resolve, or a file lacks its package line.
    """
    # Before anything resolves, since to resolve is to read.
    resolution.refuse_copied_environment(config)
    if unpackaged := strict_yaml.without_package(map(str, config)):
        raise ConfigError(unpackaged)
    values = resolution.resolve(config, without="hydra")
    # The points of a sweep share one, so that a signal in one of them ends the others.
    noted = interrupts or Interrupts()
    # For `${hydra:...}` Hydra keeps all that it composed, and nothing resolves any more.
    HydraConfig.instance().cfg = None
    return Point(
        config=values,
        saved=_saved(config, name),
        overrides=resolution.overrides(config),
        experiment=resolution.experiment(config),
        sweep=bool(name),
        folder=folder,
        name=name,
        _directory=directory,
        config_dir=resolution.config_dir(config),
        interrupts=noted,
        later=later,
    )


def _saved(config: DictConfig, name: str) -> dict[str, str]:
    # Not resolved: an allowed environment variable may be a secret.
    values = {key: nodes.plain(nodes.child(config, key)) for key in config if key != "hydra"}
    # What `resume` reads; the rest of the section is how Hydra itself was set up.
    hydra = OmegaConf.masked_copy(config.hydra, ["overrides", "runtime"])
    hydra.sweep = {"subdir": name}  # `resume` asks for it
    # In the order in which they are written.
    return {
        "config": _yaml(values),
        "overrides": OmegaConf.to_yaml(hydra.overrides.task),
        "hydra": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})),
    }


def _yaml(values: dict[Any, Any]) -> str:
    """As ``OmegaConf.to_yaml`` writes it, with libyaml: ten times as fast."""
    slow = get_omega_conf_dumper()

    class Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
        yaml_representers = slow.yaml_representers

    text: str = yaml.dump(
        values, Dumper=Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )
    return text


def folder_of(config: DictConfig, key: str) -> Path:
    """The folder that ``hydra.run.dir`` or ``hydra.sweep.dir`` names, absolute.

    Raises:
        ConfigError: no folder can have such a name. The types that say so of every other path do
            not see Hydra's own section.
    """
    text = str(OmegaConf.select(config, key))
    if len(text) > urls.LONGEST:
        message = f"has {len(text)} characters; expected {urls.LONGEST} at most."
        raise ConfigError(Problem(key, message))
    if "\0" in text:
        raise ConfigError(Problem(key, resolution.NUL))
    try:
        return Path(urls.one_line(text)).absolute()
    except ValueError as error:
        raise ConfigError(Problem(key, f"{error}.")) from error


def is_chosen(config: DictConfig, key: str) -> bool:
    """Whether the user named the folder: the default's name is a time."""
    # As written: resolved, the default and a folder that the user named look alike.
    return "${now:" not in raw(config, key)


def raw(config: DictConfig, key: str) -> str:
    """A value of Hydra's as it is written, interpolations and all."""
    section, _, name = key.rpartition(".")
    # The section and not the value: to select that would resolve it.
    values: Any = OmegaConf.to_container(OmegaConf.select(config, section))
    return str(values[name])
