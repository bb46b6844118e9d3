"""What several commands are given: a file; what is wrong with it is a usage error."""

from __future__ import annotations

from pathlib import Path

from converter.model.errors import ConfigError, Problem
from converter.model.wording import did_you_mean


def onnx_file(command: str, path: Path) -> Path:
    """A file that the user named.

    Raises:
        ConfigError: it is not there.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        hint = did_you_mean(path.name, names(path.parent, "*.onnx"))
        raise usage(command, f"{path} {what}.", hint)
    return path


def usage(command: str, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(command, message, hint))


def names(folder: Path, pattern: str) -> list[str]:
    """What is in a folder, for "did you mean"."""
    # A folder that is not there has no names: `glob` raises nothing for it.
    return sorted(path.name for path in folder.glob(pattern))
