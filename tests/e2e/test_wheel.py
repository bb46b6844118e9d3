"""A built wheel works where there is no repository: any folder, a user's own configurations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).resolve().parents[2]
Installed = Callable[..., "subprocess.CompletedProcess[str]"]


def checked(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with the hatchling of this environment, so that nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    checked(*pip, "wheel", *options, str(REPOSITORY), cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the wheel away from the repository and return a way to run it from a folder.

    The folder of the installation comes first on the path; the libraries are this
    environment's. ``-P`` keeps the current folder off the path.
    """
    site = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip")
    checked(*pip, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel), cwd=site)

    def run(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "converter", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def only_manifest(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("outputs/*/2*/manifest.json")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def test_the_wheel_carries_configurations_and_checkpoints(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "converter/configs/config.yaml" in names
    assert "converter/configs/experiment/smoke.yaml" in names
    in_tree = {path.name for path in (REPOSITORY / "registry" / "data").glob("*.pth")}
    assert in_tree
    assert in_tree == {name.split("/")[-1] for name in names if name.startswith("registry/data/")}
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"converter", "registry"}


def test_the_installed_version_is_the_one_of_the_project(
    installed: Installed, tmp_path: Path
) -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    done = installed(tmp_path, "--version")
    assert done.returncode == 0, done.stderr
    assert f'version = "{done.stdout.split()[-1]}"' in pyproject


def test_smoke_runs_from_an_unrelated_folder(installed: Installed, tmp_path: Path) -> None:
    done = installed(tmp_path, "+experiment=smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = only_manifest(tmp_path)
    assert [row["status"] for row in manifest["models"]] == ["ok"] * 3
    assert manifest["run"]["exit_code"] == 0
    for row in manifest["models"]:
        (latency,) = row["artifacts"][0]["latency"]  # of the default, benchmark=cpu
        assert (latency["provider"], latency["status"]) == ("cpu", "measured")
        assert latency["torch_p50_ms"] > 0


def test_a_users_config_dir_adds_a_model_and_an_experiment(
    installed: Installed, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    (mine / "model").mkdir(parents=True)
    (mine / "experiment").mkdir()
    (mine / "model" / "tiny.yaml").write_text(
        "# @package models.tiny\nsource: single_conv\nopset: 15\n"
    )
    (mine / "experiment" / "own.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /model: [tiny, single_conv]\n"
    )
    done = installed(tmp_path, "--config-dir", "mine", "+experiment=own", "benchmark=off")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in only_manifest(tmp_path)["models"]}
    assert rows.keys() == {"tiny", "single_conv"}
    assert rows["tiny"]["artifacts"][0]["onnx"]["opset"] == 15
