"""What several verbs are given: a file. What is wrong with it is a usage error of the verb."""

from __future__ import annotations

from pathlib import Path

from converter.model.errors import ConfigError, Problem
from converter.model.wording import did_you_mean


def onnx_file(verb: str, path: Path) -> Path:
    """A file that the user named.

    Raises:
        ConfigError: it is not there.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        hint = did_you_mean(path.name, names(path.parent, "*.onnx"))
        raise usage(verb, f"{path} {what}.", hint)
    return path


def usage(verb: str, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(verb, message, hint))


def names(folder: Path, pattern: str) -> list[str]:
    """What is in a folder, for "did you mean"."""
    return sorted(path.name for path in folder.glob(pattern))
