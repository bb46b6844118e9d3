"""A distribution adds a plugin of each kind and models, from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The converter in an environment of its own, into which the package was installed as a wheel.

    The libraries are those of this environment, so that nothing is fetched.
    """
    folder = tmp_path_factory.mktemp("acme")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(REPOSITORY / "tests" / "plugin")], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "here.pth").write_text(f"{sysconfig.get_path('purelib')}\n{REPOSITORY}\n")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}

    def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(folder / "env" / "bin" / "python"), "-m", "converter", *arguments],
            cwd=cwd,
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call


def test_from_wheel_to_report(run: Run, tmp_path: Path) -> None:
    models = "+experiment=acme"  # from the configurations of the package
    chosen = ("benchmark.providers=[cpu,acme_cpu]", "reports=[acme_lines,markdown]")
    stamped = "+models.one.variants={acme_stamp: {stamp: mine}}"
    named = "+exporter.options.acme_trace.producer=acme-2"
    arena = "+benchmark.options.acme_cpu.arena_extend_strategy=kNextPowerOfTwo"
    shelf = "publish_to={path: shelf, layout: acme_shelf, owner: me}"
    chosen = (*chosen, stamped, named, arena, shelf)
    done = run(models, *chosen, "benchmark.budget_s=0.2", "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    assert (out / "acme.txt").read_text() == "one ok\n"
    assert not (out / "report.html").exists()
    (model,) = json.loads((out / "manifest.json").read_text())["models"]
    row, variant = model["artifacts"]
    assert (variant["id"], variant["status"]) == ("acme_stamp", "ok")
    props = onnx.load(out / variant["files"][0]["path"]).metadata_props
    assert {prop.key: prop.value for prop in props}["acme.stamp"] == "mine"
    assert row["onnx"]["exporter"] == "acme_trace"
    assert (tmp_path / "shelf/one/label.txt").read_text() == "one 1 of me\n"
    assert (tmp_path / "shelf/one/1/it-acme_stamp.onnx").is_file()
    assert [(one["provider"], one["status"]) for one in row["latency"]] == [
        ("cpu", "measured"),
        ("acme_cpu", "measured"),
    ]
    assert onnx.load(out / "models" / "one" / "one.onnx").producer_name == "acme-2"
    again = run(models, *chosen, "benchmark=off", "hydra.run.dir=again", cwd=tmp_path)
    assert "2 from the store" in again.stdout
    wrong = run(models, "+models.one.variants={acme_stamp: {stmp: x}}", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Did you mean stamp?" in wrong.stderr


def test_a_simplifier_and_an_executor(run: Run, tmp_path: Path) -> None:
    chosen = (
        "simplifier.name=acme_name",
        "~simplifier.skipped_optimizers",
        "executor.name=acme_here",
    )
    options = ("+simplifier.stamp=mine", "+executor.word=here", "++models.one.simplify=true")
    done = run(
        "+experiment=acme", *chosen, *options, "benchmark=off", "hydra.run.dir=out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "here one ok" in done.stdout
    assert onnx.load(tmp_path / "out/models/one/one.onnx").graph.name == "mine"
    wrong = run("+experiment=acme", *chosen[2:], "+executor.wrd=x", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Did you mean" in wrong.stderr


def test_it_is_listed(run: Run, tmp_path: Path) -> None:
    assert "acme/twice" in run("list", "acme/*", cwd=tmp_path).stdout
    done = run("doctor", "--json", cwd=tmp_path)
    plugins = json.loads(done.stdout)["plugins"]
    added = [one for one in plugins if one["distribution"] == "acme-plugins"]
    assert [(one["kind"], one["name"], one["version"]) for one in added] == [
        ("exporters", "acme_trace", "1.2.0"),
        ("simplifiers", "acme_name", "1.2.0"),
        ("variants", "acme_stamp", "1.2.0"),
        ("providers", "acme_cpu", "1.2.0"),
        ("executors", "acme_here", "1.2.0"),
        ("reports", "acme_lines", "1.2.0"),
        ("layouts", "acme_shelf", "1.2.0"),
        ("models", "acme", "1.2.0"),
        ("configs", "acme", "1.2.0"),
    ]


def test_what_it_cannot_do_is_told_before_any_work(run: Run, tmp_path: Path) -> None:
    models = "+models={one: {source: acme/twice, exporter: acme_trace}}"
    done = run(models, "opset=20", "benchmark=off", cwd=tmp_path)
    assert done.returncode == 2
    assert "acme_trace supports opsets 13 to 18" in done.stderr
