"""The wheel and the source distribution: only what they should hold, the same bytes each time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".toml", ".html", ".css", ".js", ".yaml", ".md", ".pth"}
# What `init` writes has one of its own.
HIDDEN = {".gitignore"}


def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def copied(folder: Path, umask: int) -> Path:
    """What the distributions are made from, copied with an umask, at a time of its own."""
    targets = project()["tool"]["hatch"]["build"]["targets"]
    names = {*targets["sdist"]["only-include"], *targets["wheel"]["only-include"]}
    before = os.umask(umask)
    try:
        folder.mkdir()
        for name in sorted({*names, "pyproject.toml", ".gitignore"}):
            source, target = REPOSITORY / name, folder / name
            if source.is_dir():
                left_out = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target, ignore=left_out, copy_function=shutil.copyfile)
            else:
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(source, target)
    finally:
        os.umask(before)
    return folder


def built(folder: Path, umask: int) -> dict[str, bytes]:
    """The bytes of both distributions, by the suffix of their names."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")]
    usual = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        command, cwd=folder, env=usual, umask=umask, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.suffix: path.read_bytes() for path in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def littered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Both distributions of a copy in which much else lies about: their folder, and their bytes."""
    base = tmp_path_factory.mktemp("littered")
    folder = copied(base / "other place", 0o077)
    for name in (
        "outputs/zoo/run.log", ".venv/bin/python", "tests/unit/test_x.py", ".ci/run", "notes.txt",
        "converter/__pycache__/x.cpython-311.pyc", "configs/.mypy_cache/x", "shared/x", ".env",
        "dist/old-0.1.tar.gz.part", "models/own.onnx",
    ):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    found = built(folder, 0o077)
    assert found.pop(".part") == b"mine"
    assert found.keys() == {".whl", ".gz"}
    return folder / "dist", found


def test_both_are_the_same_bytes_whatever_else_is_there(
    littered: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    clean = built(copied(tmp_path / "clean", 0o022), 0o022)
    assert clean.keys() == {".whl", ".gz"}
    assert {kind: littered[1][kind] == data for kind, data in clean.items()} == {
        ".whl": True, ".gz": True
    }  # fmt: skip


def test_the_source_distribution_holds_what_is_listed_and_no_more(
    littered: tuple[Path, dict[str, bytes]],
) -> None:
    (path,) = littered[0].glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    names = [PurePosixPath(member.name).relative_to(path.name[:-7]) for member in members]
    listed = project()["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    # Those that hatchling adds.
    assert {name.parts[0] for name in names} == {
        *(PurePosixPath(name).parts[0] for name in listed),
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    }
    assert not [name for name in names if "__pycache__" in name.parts or name.suffix == ".pyc"]
    assert {(member.uid, member.uname, member.mode & 0o022) for member in members} == {(0, "", 0)}


def test_the_wheel_holds_the_packages_and_nothing_beside_them(
    littered: tuple[Path, dict[str, bytes]],
) -> None:
    (path,) = littered[0].glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
        (about,) = {name.parts[0] for name in names if name.parts[0].endswith(".dist-info")}
        metadata = Parser().parsestr(archive.read(f"{about}/METADATA").decode())
        scripts = archive.read(f"{about}/entry_points.txt").decode()
    assert {name.parts[0] for name in names} == {"converter", "registry", about}
    own = [name for name in names if name.parts[0] != about]
    assert {name.suffix or name.name for name in own} == SUFFIXES | HIDDEN
    assert {name.name for name in own if name.name.startswith(".")} == HIDDEN
    stated = project()["project"]
    for key, name in (("Name", "name"), ("Version", "version"), ("Summary", "description")):
        assert metadata[key] == stated[name]
    assert metadata["License-Expression"] == stated["license"]
    assert metadata["Requires-Python"] == stated["requires-python"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(stated["optional-dependencies"])
    required = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {_name(line) for line in required} == {_name(line) for line in stated["dependencies"]}
    assert "converter = converter.cli.command_line:script" in scripts


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()
