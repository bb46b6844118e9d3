"""ONNX Runtime's own format: which operators a file needs, and their list for small builds."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from converter.model.errors import Code, StageError
from converter.model.records import CheckRecord

LIST = ".required_operators.config"
# Operators on a layout of memory that a processor may have or not.
_LAYOUT = "com.microsoft.nchwc"
_AGAIN = "make the variant again"
# How the reader of FlatBuffers says that a file is cut off, or none.
_BROKEN = (RuntimeError, ValueError, IndexError, TypeError, AttributeError, struct.error)

Operators = dict[str, dict[int, set[str]]]
"""Domain → version of the operators → their names."""


def check(file: Path, parent: Path, precision: str) -> CheckRecord:
    """Whether a file is one, runs on other processors too, and its list has all that it needs.

    Raises:
        StageError: CHECKER.
    """
    needed = required(file)
    if _LAYOUT in needed:
        raise StageError(
            Code.CHECKER,
            f"{file.name} has operators of {_LAYOUT}, which only processors like this one run",
            "optimise it up to the level `extended`",
        )
    listed = _listed(file.with_suffix(LIST))
    for domain, versions in needed.items():
        for version, names in versions.items():
            missing = names - listed.get(domain, {}).get(version, set())
            if missing:
                raise StageError(
                    Code.CHECKER,
                    f"{file.stem}{LIST} lacks {domain};{version};{','.join(sorted(missing))}",
                    _AGAIN,
                )
    return CheckRecord(status="passed")


def required(file: Path) -> Operators:
    """The operators of a file, those of subgraphs too.

    Raises:
        StageError: CHECKER, when it is none of this format.
    """
    # The reader stands in a folder that ONNX Runtime puts on the path.
    from onnxruntime.tools.ort_format_model import OrtFormatModelProcessor

    found: Operators = {}
    try:
        OrtFormatModelProcessor(str(file), found, None).process()
    except _BROKEN as error:
        what = f"{file.name} is no whole .ort file: {error}"
        raise StageError(Code.CHECKER, what, _AGAIN) from error
    return found


def write_list(file: Path) -> None:
    """Write the list for the build (``--include_ops_by_config``) beside a file."""
    from onnxruntime.tools.ort_format_model import create_config_from_models

    beside = file.with_suffix(LIST)
    create_config_from_models([file], beside, False)
    # It names the file by its whole path, which is of this machine.
    text = beside.read_text(encoding="utf-8")
    beside.write_text(text.replace(str(file), file.name), encoding="utf-8")


def _listed(beside: Path) -> Operators:
    if not beside.is_file():
        raise StageError(Code.CHECKER, f"{beside.name} is missing", _AGAIN)
    found: Operators = {}
    for line in beside.read_text(encoding="utf-8", errors="replace").splitlines():
        parts: list[Any] = line.split(";")
        if line.startswith("#") or len(parts) != 3 or not parts[1].isdigit():
            continue
        domain, version, names = parts[0], int(parts[1]), set(parts[2].split(","))
        found.setdefault(domain, {}).setdefault(version, set()).update(names)
    return found
