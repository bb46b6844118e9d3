"""Every silent failure that is known is caught, for the reason that the gallery states."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).resolve().parents[2]
GALLERY = REPOSITORY / "configs" / "experiment" / "pitfalls.yaml"
ERRORS = REPOSITORY / "docs" / "errors.md"
MODELS: dict[str, dict[str, Any]] = yaml.safe_load(GALLERY.read_text(encoding="utf-8"))["models"]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of the whole gallery, which must exit 0."""
    folder = tmp_path_factory.mktemp("gallery")
    done = subprocess.run(
        [sys.executable, "-m", "converter", "+experiment=pitfalls"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def rows(gallery: Path) -> dict[str, dict[str, Any]]:
    return manifest_rows(gallery)


def manifest_rows(folder: Path) -> dict[str, dict[str, Any]]:
    manifest = json.loads((folder / "outputs/pitfalls/latest/manifest.json").read_text())
    return {model["name"]: model["artifacts"][0] for model in manifest["models"]}


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if "expect" in model])
def test_the_trap_is_caught(rows: dict[str, dict[str, Any]], name: str) -> None:
    assert rows[name]["status"] == "xfail"
    assert rows[name]["error"]["code"] == MODELS[name]["expect"]["code"]
    assert (rows[name]["files"], rows[name]["onnx"]) == ([], None)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if "expect" not in model])
def test_the_rewrite_is_right(rows: dict[str, dict[str, Any]], name: str) -> None:
    assert rows[name]["status"] == "ok"
    assert rows[name]["verify"]["status"] == "passed"


def test_the_gallery_shows_at_least_ten_codes(rows: dict[str, dict[str, Any]]) -> None:
    assert len({row["error"]["code"] for row in rows.values() if row["error"]}) >= 10


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("input_mutated", "INPUT_MUTATED: forward changes its argument x in place"),
        ("counter", "STATE_MUTATED: forward changes the buffer calls"),
    ],
)
def test_a_right_file_of_a_careless_model_has_a_warning(
    rows: dict[str, dict[str, Any]], name: str, warning: str
) -> None:
    assert warning in rows[name]["stages"]["reference"]["warnings"]


def test_a_script_that_keeps_tuples_is_told_what_to_write(
    rows: dict[str, dict[str, Any]],
) -> None:
    hint = rows["list_of_tuples"]["error"]["hint"]
    assert "fill one list for each item of the tuple" in hint


def test_a_simplification_that_drops_inputs_is_not_used(rows: dict[str, dict[str, Any]]) -> None:
    made = rows["initializers_as_inputs"]["onnx"]
    assert len(made["inputs"]) > 1
    assert "changed the graph's inputs" in made["simplify"]["reverted_reason"]


def test_a_cache_that_the_reference_filled_is_not_in_the_file(
    gallery: Path, rows: dict[str, dict[str, Any]]
) -> None:
    tried = {case["shapes"]["x"][1] for case in rows["lazy_cache"]["verify"]["cases"]}
    length = 10 * max(tried)
    file = gallery / "outputs/pitfalls/latest" / rows["lazy_cache"]["files"][0]["path"]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.zeros((2, length, 4), np.float32)})
    assert y[0, :, 0].tolist() == list(range(length))


def test_a_trap_without_its_expectation_fails_the_run(
    converter_command: Command, tmp_path: Path
) -> None:
    done = converter_command(
        "+experiment=pitfalls", "select=[item,item_fixed]", "~models.item.expect"
    )
    assert done.returncode == 1
    assert "INPUT_DROPPED" in done.stdout
    rows = manifest_rows(tmp_path)
    assert {name: row["status"] for name, row in rows.items()} == {
        "item": "failed",
        "item_fixed": "ok",
    }


def test_a_trap_that_is_gone_fails_the_run_and_says_which(converter_command: Command) -> None:
    done = converter_command(
        "+experiment=pitfalls", "select=[item]", "+models.item.kwargs.fixed=true"
    )
    assert done.returncode == 1
    assert "xpass item: expected to fail, but it is ok: remove its 'expect'" in done.stdout


def test_errors_md_has_an_example_of_each_code_in_the_gallery() -> None:
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", ERRORS.read_text(), re.M | re.S))
    for name, model in MODELS.items():
        if "expect" in model:
            assert "\n**Example** " in sections[model["expect"]["code"]], name
    for code, section in sections.items():
        for line in re.findall(r"^\*\*Example\*\* (.*)$", section, re.M):
            named = [name for name in re.findall(r"`(\w+)`", line) if name in MODELS]
            assert any(MODELS[name].get("expect", {}).get("code") == code for name in named), code
