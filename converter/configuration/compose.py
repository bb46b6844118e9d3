"""Hydra: from the command line to a composed configuration, for each point of a sweep.

Hydra's own ``main`` exits from within, and writes before it knows whether it may. Its parts
(1.3) are driven here instead: errors get the project's words and exit codes, every point of a
sweep runs, and nothing is written before a configuration is known to be valid.
"""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from hydra import version as hydra_version
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from converter.configuration import resolution, strict_yaml
from converter.configuration.hydra_errors import reworded
from converter.errors import ConfigError, ConverterError, ExitCode, Problem
from converter.run import claim

PACKAGE = Path(__file__).resolve().parents[1]
CONFIG = "config"
# A sweep exits as the first of these that one of its points gave.
_WORST_FIRST = (
    ExitCode.CONFIG,
    ExitCode.RUN_FAILED,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.MODELS_FAILED,
    ExitCode.REGRESSION,
)
_STOP = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


@dataclass(frozen=True)
class Point:
    """One composed configuration: of a run, or of one point of a sweep.

    Attributes:
        config: resolved, plain values.
        composed: what Hydra composed, unresolved, with its own section.
        sweep: it is a point of a sweep.
        folder: the directory of the run or of the sweep, absolute; not yet created.
        name: the folder name of a sweep's point; empty for a run.
    """

    config: dict[str, Any]
    composed: DictConfig
    sweep: bool
    folder: Path
    name: str
    _directory: Callable[[], Path]

    @cached_property
    def text(self) -> str:
        """The configuration, unresolved: what records may show."""
        names = [str(name) for name in self.composed if name != "hydra"]
        return OmegaConf.to_yaml(OmegaConf.masked_copy(self.composed, names))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def overrides(self) -> list[str]:
        """As given on the command line, unresolved, without Hydra's own."""
        return resolution.overrides(self.composed)

    @property
    def experiment(self) -> str:
        return resolution.experiment(self.composed)

    def claim(self) -> Path:
        """Create the run directory and put ``.hydra/`` there.

        Raises:
            RunError: it cannot be written, or another run holds it.
        """
        from converter.manifest import write_atomic  # slow to import; a valid run needs it anyway

        directory = self._directory()
        try:
            folder = directory / ".hydra"
            folder.mkdir(exist_ok=True)
            hydra = OmegaConf.masked_copy(self.composed.hydra, ["overrides", "runtime"])
            hydra.sweep = {"subdir": self.name}  # `resume` asks for it
            parts = {
                "config": self.text,
                "overrides": OmegaConf.to_yaml(hydra.overrides.task),
                "hydra": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})),
            }
            for name, text in parts.items():
                write_atomic(folder / f"{name}.yaml", text)  # `hydra` is last: all are there
        except OSError as error:
            raise claim.not_writable(directory, error) from error
        return directory


Task = Callable[[Point], ExitCode]
Report = Callable[[ConverterError, str], ExitCode]


def run(arguments: Namespace, task: Task, report: Report) -> ExitCode:
    """Compose what the command line says; call ``task`` for it, or for each point of a sweep.

    Args:
        arguments: of ``converter.cli.parser``.
        report: tells the user of an error in the point of that name; the sweep goes on.

    Raises:
        ConverterError: the configuration cannot be composed, or the directory not be used.
    """
    overrides = list(arguments.overrides)
    hydra = _hydra(arguments.config_dir)
    try:
        if arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion:
            with reworded(hydra, CONFIG, overrides):
                return _show(hydra, arguments)
        with reworded(hydra, CONFIG, overrides):
            mode = RunMode.MULTIRUN if arguments.multirun else RunMode.RUN
            config = hydra.compose_config(CONFIG, overrides, mode)
        if arguments.multirun or config.hydra.mode == RunMode.MULTIRUN:
            return _sweep(hydra, config, task, report)
        with reworded(hydra, CONFIG, overrides):
            point = _single(config)
        return task(point)
    finally:
        GlobalHydra.instance().clear()


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """The exit code of a sweep."""
    return next((code for code in _WORST_FIRST if code in codes), ExitCode.OK)


def configs() -> Path:
    """The folder of the configuration: in the package (a wheel), or beside it (a checkout)."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def _hydra(config_dir: str | None) -> Hydra:
    """A Hydra that reads ``configs`` and the user's folder, strictly.

    Raises:
        ConfigError: the user's folder is not there.
    """
    hydra_version.setbase("1.3")
    Plugins.instance()  # registers the sources that `install` replaces
    strict_yaml.install()
    resolution.install()
    paths = ConfigSearchPathImpl()
    paths.append("hydra", "pkg://hydra.conf")
    paths.append("main", f"file://{configs()}")
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise ConfigError(Problem("--config-dir", f"there is no folder {folder}."))
        paths.append("command-line", f"file://{folder}")
    paths.append("schema", "structured://")
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2(task_name="converter", config_search_path=paths)


def _show(hydra: Hydra, arguments: Namespace) -> ExitCode:
    """What Hydra prints instead of running."""
    overrides = list(arguments.overrides)
    if arguments.cfg:
        package, resolve = arguments.package, arguments.resolve
        hydra.show_cfg(CONFIG, overrides, arguments.cfg, package, resolve=resolve)
    elif arguments.info:
        hydra.show_info(arguments.info, config_name=CONFIG, overrides=overrides)
    elif arguments.shell_completion:
        hydra.shell_completion(config_name=CONFIG, overrides=overrides)
    else:
        hydra.hydra_help(CONFIG, arguments.parser, arguments)
    return ExitCode.OK


def _single(config: DictConfig) -> Point:
    """The point of a run without a sweep; its directory is checked, not yet created."""
    HydraConfig.instance().set_config(config)
    directory = _folder(config, "hydra.run.dir")
    chosen = _chosen(config, "hydra.run.dir")
    if chosen:
        claim.refuse_used(directory, "hydra.run.dir")
    return _point(config, directory, "", lambda: claim.create(directory, chosen=chosen))


def _sweep(hydra: Hydra, config: DictConfig, task: Task, report: Report) -> ExitCode:
    """Run all points; one that cannot be composed or run does not keep the others from it."""
    with reworded(hydra, CONFIG, []):
        _refuse_other_sweepers(config)
        HydraConfig.instance().set_config(config)
        folder = _SweepFolder(config)
        points = _points(hydra, config)
    codes: list[ExitCode] = []
    for number, (overrides, name) in enumerate(points):
        try:
            with reworded(hydra, CONFIG, overrides):
                composed = hydra.config_loader.load_sweep_config(config, overrides)
                with open_dict(composed):
                    composed.hydra.job.id = composed.hydra.job.num = number
                HydraConfig.instance().set_config(composed)
                point = _point(composed, folder.path, name, partial(folder.create, name))
            codes.append(task(point))
        except ConverterError as error:
            codes.append(report(error, name))
        if codes[-1] in _STOP:
            break
    return worst(codes)


class _SweepFolder:
    """The folder of a sweep: checked at once, created by the first point that runs."""

    def __init__(self, config: DictConfig) -> None:
        self.path = _folder(config, "hydra.sweep.dir")
        self._chosen = _chosen(config, "hydra.sweep.dir")
        self._created = False
        if self._chosen:
            claim.refuse_used(self.path, "hydra.sweep.dir")

    def create(self, point: str) -> Path:
        """Create the folder of a point; equal names of two points get a number."""
        if not self._created:
            self.path = claim.create(self.path, chosen=self._chosen)
            self._created = True
        return claim.create(self.path / point, chosen=False)


def _points(hydra: Hydra, config: DictConfig) -> list[tuple[list[str], str]]:
    """The overrides of each point, and the name of its folder: the swept keys only."""
    stated = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    lines = [*stated, *resolution.overrides(config)]
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(lines)
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    points = []
    for overrides in BasicSweeper.split_arguments(parsed, None)[0]:
        named = [text for text in overrides if text.split("=", 1)[0] in swept]
        points.append((overrides, claim.safe_name(",".join(text.lstrip("+~") for text in named))))
    return points


def _refuse_other_sweepers(config: DictConfig) -> None:
    for group in ("hydra/sweeper", "hydra/launcher"):
        if (choice := config.hydra.runtime.choices[group]) != "basic":
            hint = "The executor runs models side by side; points run one after the other."
            raise ConfigError(Problem(group, f"found '{choice}'; expected basic.", hint))
    if _raw(config, "hydra.sweep.subdir") != "${hydra.job.num}":
        message = "a point's folder is named by the swept keys, nothing else."
        raise ConfigError(Problem("hydra.sweep.subdir", message, "Remove it."))


def _folder(config: DictConfig, key: str) -> Path:
    return Path(str(OmegaConf.select(config, key))).absolute()


def _chosen(config: DictConfig, key: str) -> bool:
    """Whether the user named the folder: the default's name is a time."""
    return "${now:" not in _raw(config, key)


def _raw(config: DictConfig, key: str) -> str:
    """A value of Hydra's as it is written, interpolations and all."""
    section, _, name = key.rpartition(".")
    values: Any = OmegaConf.to_container(OmegaConf.select(config, section))
    return str(values[name])


def _point(config: DictConfig, folder: Path, name: str, directory: Callable[[], Path]) -> Point:
    resolution.refuse_copied_environment(config)
    values = resolution.resolve(config, without="hydra")
    return Point(values, config, bool(name), folder, name, directory)
