"""From a command line to its one run, or to the points of its sweep."""

from __future__ import annotations

import io
from argparse import Namespace
from contextlib import redirect_stderr

from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from converter.config import compose, point, resolution, validation
from converter.config.hydra_errors import composed, reworded
from converter.config.point import CONFIG, Point, Report, Task
from converter.layout import claim
from converter.model.errors import ConfigError, ExitCode, Problem
from converter.sweep import points


def run(arguments: Namespace, task: Task, report: Report) -> ExitCode:
    """Compose what the command line says; call ``task`` for it, or for each point of a sweep.

    Args:
        arguments: of ``converter.cli.command_line.parser``.
        report: tells the user of an error in the point of that name; the sweep goes on.

    Raises:
        ConverterError: the configuration cannot be composed, or the directory not be used.
    """
    overrides = list(arguments.overrides)
    if arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion:
        hydra = compose.opened(arguments.config_dir)
        try:
            with reworded(hydra, CONFIG, overrides):
                return _show(hydra, arguments)
        finally:
            GlobalHydra.instance().clear()
    return compose_and_run(
        overrides, task, report, config_dir=arguments.config_dir, multirun=arguments.multirun
    )


def compose_and_run(
    overrides: list[str],
    task: Task,
    report: Report,
    *,
    config_dir: str | None = None,
    multirun: bool = False,
) -> ExitCode:
    """Like ``run``, from what the flags say."""
    hydra = compose.opened(config_dir)
    try:
        mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        config, refused = composed(hydra, CONFIG, overrides, mode)
        # An experiment may be a sweep by itself.
        sweep = multirun or config.hydra.mode == RunMode.MULTIRUN
        if refused:
            raise ConfigError([*refused, *([] if sweep else _other_problems(config))])
        if sweep:
            return points.run(hydra, config, task, report)
        with reworded(hydra, CONFIG, overrides):
            single = _single(config)
        del config  # its nodes are most of the memory that many models take until here
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


def _show(hydra: Hydra, arguments: Namespace) -> ExitCode:
    """What Hydra prints instead of running."""
    overrides = list(arguments.overrides)
    if arguments.cfg:
        package, resolve = arguments.package, arguments.resolve
        try:
            # Of a key that is not there Hydra (1.3) tells in its own words and exits with 1.
            with redirect_stderr(io.StringIO()):
                hydra.show_cfg(CONFIG, overrides, arguments.cfg, package, resolve=resolve)
        except SystemExit as error:
            raise ConfigError(Problem("--package", f"there is no key {package}.")) from error
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
    # A folder that was named is looked at before anything else is judged: the answer needs no plan.
    if chosen:
        claim.refuse_used(directory, "hydra.run.dir")
    return point.create(config, directory, lambda: claim.create(directory, chosen=chosen))
