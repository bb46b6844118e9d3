"""A variant whose plugin crashes, hangs or is killed costs itself only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.faults, pytest.mark.e2e]

# A distribution as an installer leaves it: found by its metadata on the path.
_METADATA = "Metadata-Version: 2.1\nName: bad-variants\nVersion: 1.0\n"
_PLUGIN = """
import os, shutil, signal, sys, time
from converter.model.base import Frozen

FORMAT, PRECISION, PACKAGES = "onnx", "float32", ()


class Options(Frozen):
    pass


def keeps_io(options):
    return True


def derive(parent, target, options, given):
    {body}
"""
_BODIES = {
    "crash": "os.kill(os.getpid(), signal.SIGSEGV)",
    "leave": "os._exit(0)",
    "hang": "time.sleep(600)",
    "flood": "block = [bytearray(1 << 26) for _ in range(200)]",
    "kill": "os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)",
    "copy": "shutil.copyfile(parent, target)",
    "spoil": "shutil.copyfile(parent, target); os.system(f'printf x >> {parent}')",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the distribution."""
    folder = tmp_path / "site"
    info = folder / "bad_variants-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(_METADATA)
    points = [f"{name} = variant_{name}" for name in _BODIES]
    (info / "entry_points.txt").write_text("\n".join(["[converter.variants]", *points]))
    for name, body in _BODIES.items():
        (folder / f"variant_{name}.py").write_text(_PLUGIN.replace("{body}", body))
    return folder


def run(folder: Path, site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "converter", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{site}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def rows(directory: Path) -> dict[str, dict[str, Any]]:
    models = json.loads((directory / "manifest.json").read_text())["models"]
    return {f"{m['name']}/{part['id']}": part for m in models for part in m["artifacts"]}


def test_each_costs_itself_only(tmp_path: Path, site: Path) -> None:
    listed = ", ".join(name for name in _BODIES if name != "spoil")
    done = run(
        tmp_path, site, f"+models.a={{source: single_conv, variants: [{listed}]}}",
        "+models.b={source: single_conv, variants: [copy]}", "benchmark=off",
        "executor.timeout_s=15", "executor.memory_mb=3000", "executor.retries=1",
        "hydra.run.dir=out",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    found = rows(tmp_path / "out")
    codes = {label: (row["error"] or {}).get("code") for label, row in found.items()}
    assert codes == {
        "a/onnx": None,
        "a/crash": "DERIVE",
        "a/leave": "DERIVE",
        "a/hang": "TIMEOUT",
        "a/flood": "MEM_LIMIT",
        "a/kill": "SIGNAL",
        "a/copy": None,
        "b/onnx": None,
        "b/copy": None,
    }
    assert "crashed with SIGSEGV" in found["a/crash"]["error"]["message"]
    assert found["a/kill"]["attempts"] == 2
    assert found["a/hang"]["stages"]["derive"]["status"] == "failed"
    assert "derive" in found["a/hang"]["error"]["message"]
    assert [found[label]["attempts"] for label in ("a/onnx", "a/copy")] == [1, 1]
    assert "(try 2)" in done.stdout

    # What is right is stored by itself; what failed is tried again.
    again = run(
        tmp_path, site, "+models.a={source: single_conv, variants: [copy, leave]}",
        "benchmark=off", "hydra.run.dir=again",
    )  # fmt: skip
    found = rows(tmp_path / "again")
    cached = {label: row["cached"] for label, row in found.items()}
    assert cached == {"a/onnx": True, "a/copy": True, "a/leave": False}, again.stdout


def test_a_file_that_a_plugin_spoils_is_no_file(tmp_path: Path, site: Path) -> None:
    words = ["+models.a={source: single_conv, variants: {spoil: {optional: true}}}"]
    # A sandbox does not let it.
    words += ["benchmark=off", "publish_to=good", "executor.sandbox=off"]
    done = run(tmp_path, site, *words, "hydra.run.dir=out")
    assert done.returncode == 1, done.stdout + done.stderr
    found = rows(tmp_path / "out")
    assert found["a/spoil"]["error"]["code"] == "DERIVE"
    assert (found["a/onnx"]["status"], found["a/onnx"]["error"]["code"]) == ("failed", "IO")
    assert not (tmp_path / "out/models/a/a.onnx").exists()
    assert not (tmp_path / "good/a").exists()
    # The entry of the store is the same file on the disk: it was moved out of the way.
    again = run(tmp_path, site, "+models.a={source: single_conv}", "benchmark=off")
    assert again.returncode == 0, again.stdout
    assert "1 ok" in again.stdout


def test_a_plugin_that_is_broken_is_told_before_the_run(tmp_path: Path, site: Path) -> None:
    for name, text in {"leave": "import sys; sys.exit(0)", "hang": "FORMAT = ", "copy": ""}.items():
        (site / f"variant_{name}.py").write_text(text)
        done = run(tmp_path, site, f"+models.a={{source: single_conv, variants: [{name}]}}")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "bad-variants" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_optional_variant_that_fails_fails_nothing(tmp_path: Path, site: Path) -> None:
    done = run(
        tmp_path, site,
        "+models.a={source: single_conv, variants: {leave: {optional: true}, copy: {}}}",
        "benchmark=off", "hydra.run.dir=out", "publish_to=good",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(tmp_path / "out")["a/leave"]["status"] == "failed"
    index = json.loads((tmp_path / "good/index.json").read_text())
    assert list(index["models"]["a"]["variants"]) == ["copy"]


def test_the_last_good_set_stays(tmp_path: Path, site: Path) -> None:
    words = ("benchmark=off", "publish_to=good", "store.use=false")
    model = "+models.a={source: single_conv, variants: {x: {plugin: %s}}}"
    assert run(tmp_path, site, model % "copy", *words, "hydra.run.dir=one").returncode == 0
    before = json.loads((tmp_path / "good/index.json").read_text())["models"]["a"]
    assert run(tmp_path, site, model % "leave", *words, "hydra.run.dir=two").returncode == 1
    after = json.loads((tmp_path / "good/index.json").read_text())["models"]["a"]
    assert after["failing_since"] is not None
    assert after["variants"] == before["variants"]
    for part in before["variants"]["x"]["files"]:
        assert (tmp_path / "good" / part["path"]).is_file()
