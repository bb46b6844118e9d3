"""``requirements/``: whole, of the tested versions, and of no particular index."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Package → its version, and the hashes of its files."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = {}
    for line in lines:
        pin, *hashes = line.split()
        name, equal, version = pin.partition("==")
        assert equal, line
        found[canonicalize_name(name)] = (version, hashes)
    assert len(found) == len(lines)
    return found


def constraints() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version.strip() for name, version in pins}


def needed(requirements: list[str]) -> Iterator[str]:
    """The packages that some requirements bring, as the installed ones say."""
    todo = [(Requirement(text), "") for text in requirements]
    seen = set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                texts = importlib.metadata.requires(name) or []
                todo += [(Requirement(text), wanted) for text in texts]
        yield name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_pinned_to_the_version_that_was_tested_and_to_its_files(path: Path) -> None:
    tested = constraints()
    for name, (version, hashes) in entries(path).items():
        assert tested.get(name) == version, f"{name}: run .ci/hashes"
        assert hashes, name
        assert all(_HASH.fullmatch(text) for text in hashes), name
    assert "://" not in path.read_text(encoding="utf-8")


def test_the_command_of_the_readme_needs_these_and_no_others() -> None:
    project = PROJECT["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    assert set(needed(asked)) == entries(REPOSITORY / "requirements/cpu.txt").keys(), ".ci/hashes"


def test_what_builds_the_package_is_there() -> None:
    asked = [*PROJECT["build-system"]["requires"], "editables", "setuptools"]
    assert set(needed(asked)) == entries(REPOSITORY / "requirements/build.txt").keys(), ".ci/hashes"
