"""Hydra: from the command line to a composed configuration, for each point of a sweep.

Hydra's own ``main`` exits from within, and writes before it knows whether it may. Its parts
(1.3) are driven here instead: errors get the project's words and exit codes, every point of a
sweep runs, and nothing is written before a configuration is known to be valid.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from hydra import version as hydra_version
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from converter.configuration import point, resolution, strict_yaml, sweeping, validation
from converter.configuration.hydra_errors import composed, reworded
from converter.configuration.point import CONFIG, Point, Report, Task
from converter.errors import ConfigError, ExitCode, Problem
from converter.run import claim

PACKAGE = Path(__file__).resolve().parents[1]


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
        mode = RunMode.MULTIRUN if arguments.multirun else RunMode.RUN
        config, refused = composed(hydra, CONFIG, overrides, mode)
        sweep = arguments.multirun or config.hydra.mode == RunMode.MULTIRUN
        if refused:
            raise ConfigError([*refused, *([] if sweep else _other_problems(config))])
        if sweep:
            return sweeping.run(hydra, config, task, report)
        with reworded(hydra, CONFIG, overrides):
            single = _single(config)
        return task(single)
    finally:
        GlobalHydra.instance().clear()


def _other_problems(config: DictConfig) -> list[Problem]:
    """What else is wrong with a configuration that some overrides were left out of."""
    try:
        validation.parse(resolution.resolve(config, without="hydra"))
    except ConfigError as error:
        return list(error.problems)
    return []


def configs() -> Path:
    """The folder of the configuration: in the package (a wheel), or beside it (a checkout)."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def _hydra(config_dir: str | None) -> Hydra:
    """A Hydra that reads ``configs`` and the user's folder, strictly.

    Raises:
        ConfigError: the user's folder is not there, or holds a file that would not be read.
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
        _refuse_shadowed(folder)
        paths.append("command-line", f"file://{folder}")
    paths.append("schema", "structured://")
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2(task_name="converter", config_search_path=paths)


def _refuse_shadowed(folder: Path) -> None:
    """Hydra takes the first file of a name, and the converter's own come first."""
    problems = []
    for path in sorted(configs().rglob("*.yaml")):
        theirs = folder / path.relative_to(configs())
        if theirs.is_file() and not theirs.samefile(path):
            message = f"{theirs} has the name of one of the converter's own, and is not read."
            problems.append(Problem("--config-dir", message, "Rename it."))
    if problems:
        raise ConfigError(problems)


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
    directory = point.folder_of(config, "hydra.run.dir")
    chosen = point.is_chosen(config, "hydra.run.dir")
    if chosen:
        claim.refuse_used(directory, "hydra.run.dir")
    return point.create(config, directory, lambda: claim.create(directory, chosen=chosen))
