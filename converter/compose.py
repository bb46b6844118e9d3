"""Hydra: from the command line to a composed configuration, for each point of a sweep.

Hydra's own ``main`` exits from within, and writes before it knows whether it may. Its parts
(1.3) are driven here instead: errors get the project's words and exit codes, every point of a
sweep runs, and nothing is written before a configuration is known to be valid.
"""

from __future__ import annotations

import copy
import hashlib
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from converter import claim, hydra_errors, resolution, strict_yaml
from converter.errors import ConfigError, ConverterError, ExitCode, Problem

PACKAGE = Path(__file__).resolve().parent
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
        config: resolved.
        text: as composed, unresolved: what records may show.
        overrides: as given on the command line, unresolved.
        hydra_text: where it was composed from.
        claim: creates the run directory and puts ``.hydra/`` there; raises ``RunError``.
    """

    config: dict[str, Any]
    text: str
    overrides: list[str]
    hydra_text: str
    experiment: str
    sweep: bool
    _directory: Callable[[], Path]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def claim(self) -> Path:
        """Create the run directory and put ``.hydra/`` there.

        Raises:
            RunError: it cannot be written, or another run holds it.
        """
        directory = self._directory()
        try:
            folder = directory / ".hydra"
            folder.mkdir(exist_ok=True)
            (folder / "config.yaml").write_text(self.text, encoding="utf-8")
            overrides = OmegaConf.to_yaml(OmegaConf.create(self.overrides))
            (folder / "overrides.yaml").write_text(overrides, encoding="utf-8")
            (folder / "hydra.yaml").write_text(self.hydra_text, encoding="utf-8")
        except OSError as error:
            raise claim.not_writable(directory, error) from error
        return directory


Task = Callable[[Point], ExitCode]
Report = Callable[[ConverterError], ExitCode]


def run(arguments: Namespace, task: Task, report: Report) -> ExitCode:
    """Compose what the command line says; call ``task`` for it, or for each point of a sweep.

    Args:
        arguments: of ``converter.cli.parser``.
        report: tells the user of an error in one point; the sweep goes on.

    Raises:
        ConverterError: the configuration cannot be composed, or the directory not be used.
    """
    overrides = list(arguments.overrides)
    hydra = _hydra(arguments.config_dir)
    try:
        if arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion:
            return _show(hydra, arguments)
        mode = RunMode.MULTIRUN if arguments.multirun else RunMode.RUN
        config = hydra.compose_config(CONFIG, overrides, mode)
        if arguments.multirun or config.hydra.mode == RunMode.MULTIRUN:
            return _sweep(hydra, config, task, report)
        return task(_single(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise hydra_errors.worded(error, hydra, CONFIG, overrides) from error
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
    return _point(config, False, lambda: claim.create(directory, chosen=chosen))


def _sweep(hydra: Hydra, config: DictConfig, task: Task, report: Report) -> ExitCode:
    """Run all points; one that cannot be composed or run does not keep the others from it."""
    _refuse_other_sweepers(config)
    HydraConfig.instance().set_config(config)
    directory = _folder(config, "hydra.sweep.dir")
    chosen = _chosen(config, "hydra.sweep.dir")
    if chosen:
        claim.refuse_used(directory, "hydra.sweep.dir")
    claimed: list[Path] = []

    def folder(name: str) -> Path:
        """The folder of a point, in that of the sweep, which the first point creates."""
        if not claimed:
            claimed.append(claim.create(directory, chosen=chosen))
        return claim.create(claimed[0] / name, chosen=False)

    codes: list[ExitCode] = []
    points = _points(hydra, config)
    for number, (overrides, name) in enumerate(points):
        try:
            point = hydra.config_loader.load_sweep_config(config, overrides)
            with open_dict(point):
                point.hydra.job.id = point.hydra.job.num = number
            HydraConfig.instance().set_config(point)
            codes.append(task(_point(point, True, lambda name=name: folder(name))))
        except (HydraException, OmegaConfBaseException) as error:
            codes.append(report(hydra_errors.worded(error, hydra, CONFIG, overrides)))
        except ConverterError as error:
            codes.append(report(error))
        if codes[-1] in _STOP:
            break
    return worst(codes)


def _points(hydra: Hydra, config: DictConfig) -> list[tuple[list[str], str]]:
    """The overrides of each point, and the name of its folder: the swept keys only."""
    stated = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    lines = [*stated, *config.hydra.overrides.task]
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
    if config.hydra.sweep.subdir != "${hydra.job.num}" and _states(config, "hydra.sweep.subdir"):
        message = "a point's folder is named by the swept keys, nothing else."
        raise ConfigError(Problem("hydra.sweep.subdir", message, "Remove it."))


def _states(config: DictConfig, key: str) -> bool:
    """Whether the command line states a key of Hydra's."""
    return any(text.lstrip("+").startswith(f"{key}=") for text in config.hydra.overrides.hydra)


def _folder(config: DictConfig, key: str) -> Path:
    return Path(str(OmegaConf.select(config, key))).absolute()


def _chosen(config: DictConfig, key: str) -> bool:
    """Whether the user named the folder: the default's name is a time."""
    section = OmegaConf.to_container(OmegaConf.select(config, key.rpartition(".")[0]))
    return "${now:" not in str(section["dir"])  # type: ignore[index,call-overload]


def _point(config: DictConfig, sweep: bool, directory: Callable[[], Path]) -> Point:
    resolution.refuse_copied_environment(config)
    task = copy.deepcopy(config)
    with open_dict(task):
        del task["hydra"]
    runtime = {"overrides": config.hydra.overrides, "runtime": config.hydra.runtime}
    return Point(
        config=resolution.resolve(task),
        text=OmegaConf.to_yaml(task),
        overrides=list(config.hydra.overrides.task),
        hydra_text=OmegaConf.to_yaml(OmegaConf.create({"hydra": runtime})),
        experiment=resolution.experiment(config),
        sweep=sweep,
        _directory=directory,
    )
