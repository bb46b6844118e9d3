"""Look at what runs left: a manifest, a file that is to be verified again."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from converter.layout import runfiles
from converter.layout.runfiles import MANIFEST
from converter.model.errors import ConfigError, Problem
from converter.model.manifest import Manifest
from converter.model.records import JobResult
from converter.runner import rechecking


def load_manifest(path: str | Path) -> Manifest:
    """The manifest of a run; that of version 1 as one of version 2.

    Args:
        path: a run directory, or the file.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    found = Path(path)
    directory = found.parent if found.name == MANIFEST else found
    try:
        return runfiles.read(directory)
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(Problem(str(found), f"is no manifest of a run: {reason}.")) from error


def verify(run: str | Path, name: str, model: str | Path | None = None) -> JobResult:
    """Verify a file of a run again, against its source, in a process of its own.

    Args:
        run: the run directory.
        name: a model of it, or ``NAME/ARTIFACT``.
        model: another file that claims to be the same; by default the published one.

    Returns:
        ``status`` is ``ok`` where the file is right, ``error`` says what is wrong, and ``verify``
        has every case.

    Raises:
        ConfigError: there is no such run, model or file.
        RunError: there is no room for temporary files.
    """
    return rechecking.verify(Path(run), name, None if model is None else Path(model)).result
