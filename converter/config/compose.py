"""Hydra: from the command line to a composed configuration, for each point of a sweep.

Hydra's own ``main`` exits from within, and writes before it knows whether it may. Its parts
(1.3) are driven here instead: errors get the project's words and exit codes, every point of a
sweep runs, and nothing is written before a configuration is known to be valid.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hydra import version as hydra_version
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins

from converter.config import resolution, strict_yaml
from converter.config.standard import configs
from converter.model.errors import ConfigError, Problem
from converter.plugins import loader


def opened(config_dir: str | None) -> Hydra:
    """A Hydra that reads ``configs``, those of plugins and the user's folder, strictly.

    Raises:
        ConfigError: the user's folder is not there, or holds a file that would not be read.
    """
    # Unset, Hydra 1.3 behaves as 1.1 did.
    hydra_version.setbase("1.3")
    Plugins.instance()  # registers the sources that `install` replaces
    strict_yaml.install()
    resolution.install()
    paths = ConfigSearchPathImpl()
    # In this order, since the first of two files of a name counts.
    paths.append("hydra", "pkg://hydra.conf")
    paths.append("main", f"file://{configs()}")
    for plugin in loader.found("configs").values():
        if (path := plugin.path()) is not None:
            _refuse_shadowed(f"configs.{plugin.name}", path.parent)
            paths.append(plugin.distribution, f"file://{path.parent}")
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not _is_folder(folder):
            raise ConfigError(Problem("--config-dir", f"there is no folder {folder}."))
        _refuse_shadowed("--config-dir", folder)
        paths.append("command-line", f"file://{folder}")
    # As Hydra's own search path begins and ends (1.3). Search-path plugins, which it asks in
    # between, are not asked.
    paths.append("schema", "structured://")
    # A second Hydra in one process is refused while the first one is registered.
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2(task_name="converter", config_search_path=paths)


def _is_folder(folder: Path) -> bool:
    """Whether there is one, and may be read.

    Raises:
        ConfigError: it may not.
        OSError: nothing can have such a name.
    """
    with suppress(PermissionError):  # of a folder above it
        if not folder.is_dir() or os.access(folder, os.R_OK | os.X_OK):
            return folder.is_dir()
    raise ConfigError(Problem("--config-dir", f"{folder} may not be read by this user."))


def _refuse_shadowed(key: str, folder: Path) -> None:
    """Hydra takes the first file of a name, and the converter's own come first."""
    problems = []
    for path in sorted(configs().rglob("*.yaml")):
        theirs = folder / path.relative_to(configs())
        # The folder may be the converter's own, named once more.
        if theirs.is_file() and not theirs.samefile(path):
            message = f"{theirs} has the name of one of the converter's own, and is not read."
            problems.append(Problem(key, message, "Rename it."))
    if problems:
        raise ConfigError(problems)
