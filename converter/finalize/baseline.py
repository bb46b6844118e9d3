"""The earlier run that a run is compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from converter.finalize import history
from converter.layout import runfiles
from converter.layout.runfiles import MANIFEST
from converter.model import version_1
from converter.model.batch import LATEST
from converter.model.errors import ConfigError, Problem
from converter.model.manifest import SCHEMA_VERSION, Manifest


@dataclass(frozen=True)
class Baseline:
    """Attributes: directory: of the run, or of the manifest; its files are below it."""

    manifest: Manifest
    directory: Path


def find(stated: str | None, home: Path, point: str) -> Baseline | None:
    """The baseline that a configuration asks for; ``None`` on the first night.

    Args:
        stated: ``latest``, a run directory or a manifest.
        home: the folder of the experiment's runs.
        point: the folder name of a sweep's point; empty for a run.

    Raises:
        ConfigError: it cannot be read.
    """
    if stated is None:
        return None
    # Resolved now: at the end of this run a link such as `outputs/zoo/latest` leads to this run.
    path = history.latest(home, point) if stated == LATEST else Path(stated).resolve()
    return None if path is None else load(path, "baseline")


def load(path: Path, key: str) -> Baseline:
    """Read a run directory or a manifest.

    Args:
        key: what named it, for the message.

    Raises:
        ConfigError: there is none, it is damaged, or another version wrote it.
    """
    file = path / MANIFEST if path.is_dir() else path
    if not path.exists():
        raise _unusable(key, f"there is no {path}.", "Name a run directory or a manifest.")
    if not file.exists():
        points = sorted(found.parent.name for found in path.glob(f"*/{MANIFEST}"))
        hint = f"It is a sweep, take one of its points: {', '.join(points)}." if points else ""
        raise _unusable(key, f"{path} holds no {MANIFEST}.", hint)
    try:
        data = json.loads(version_1.manifest(file.read_bytes()))
        # Before the types: they would refuse a newer manifest field by field.
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            found = "none" if version is None else repr(version)
            raise _unusable(
                key,
                f"{file} has schema_version {found}; this version of the converter reads "
                f"'{SCHEMA_VERSION}'.",
                "Read it with the version that wrote it.",
            )
        # As JSON once more: the types are strict, and would refuse in Python's values what JSON
        # cannot say otherwise (`{"0": "batch"}` has a text for an axis).
        found_there = Manifest.model_validate_json(json.dumps(data))
        # A manifest that is named by itself may be a copy: what lies beside it need not be of its
        # run.
        if path.is_dir():
            found_there = runfiles.with_partial_results(found_there, path)
        return Baseline(found_there, file.parent)
    # It is a ValueError too, and so must come before that.
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{file} is not a manifest that this version can read: {where}: {first['msg']}."
        raise _unusable(key, message, "A newer version may have written it.") from error
    # json raises RecursionError for a file that is nested without end.
    except (OSError, ValueError, RecursionError) as error:
        hint = "It is damaged: name another run."
        raise _unusable(key, f"{file} cannot be read: {error}.", hint) from error


def _unusable(key: str, message: str, hint: str) -> ConfigError:
    return ConfigError(Problem(key, message, hint))
