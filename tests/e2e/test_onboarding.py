"""examples/onboarding: every kind of model is `ok` in one run, and equal for its own oracle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import REPOSITORY

MISSING = [name for name in ("transformers", "diffusers", "timm") if find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.onboarding,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"{', '.join(MISSING)} missing: pip install -c constraints.txt -e '.[examples]'",
    ),
]
EXAMPLE = REPOSITORY / "examples" / "onboarding"
NAMES = sorted(path.stem for path in (EXAMPLE / "model").glob("*.yaml"))
TRUST = ".:transformers:diffusers:timm:torchvision"


def python(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Without the network: small random models need none."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2000,
        check=False,
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the example, with its run in `run/`."""
    folder = tmp_path_factory.mktemp("onboarding") / "onboarding"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("hub", "run", "outputs"))
    hub = python("hub.py", cwd=folder)
    assert hub.returncode == 0, hub.stderr
    words = ["--config-dir", ".", "+experiment=onboarding", "hydra.run.dir=run", "store.use=false"]
    path = {"PYTHONPATH": str(REPOSITORY), "CONVERTER_TRUST": TRUST}
    done = python("-m", "converter", *words, cwd=folder, **path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(NAMES)} models: {len(NAMES)} ok" in done.stdout + done.stderr
    return folder


def verdicts(folder: Path, run: str, *names: str) -> tuple[int, dict[str, str]]:
    """Exit code of the oracle, and its word on each model."""
    done = python("oracle.py", run, *names, cwd=folder)
    lines = [line.split() for line in done.stdout.splitlines()]
    found = {line[1]: line[0] for line in lines if line and line[0] in ("equal", "WRONG")}
    assert found, done.stdout + done.stderr
    return done.returncode, found


def test_every_file_is_equal_to_pytorch(converted: Path) -> None:
    code, found = verdicts(converted, "run")
    assert found == dict.fromkeys(NAMES, "equal")
    assert code == 0


@pytest.mark.parametrize("name", ["pooled", "yolo"])
def test_the_oracle_finds_a_file_that_is_wrong(converted: Path, name: str) -> None:
    """`yolo` too, whose weights it reads from the file: another graph with the same weights."""
    folder = converted / "damaged" / "models" / name
    folder.mkdir(parents=True)
    model = onnx.load(converted / "run" / "models" / name / f"{name}.onnx")
    if name == "yolo":
        sigmoid = [node for node in model.graph.node if node.op_type == "Sigmoid"][-1]
        sigmoid.op_type = "Tanh"
    else:
        stored = next(one for one in model.graph.initializer if len(one.dims) == 2)
        values = numpy_helper.to_array(stored) * 1.1
        stored.CopyFrom(numpy_helper.from_array(values.astype("float32"), stored.name))
    onnx.save(model, folder / f"{name}.onnx")
    assert verdicts(converted, "damaged", name) == (1, {name: "WRONG"})


def test_a_file_says_which_sizes_its_rule_allows(converted: Path) -> None:
    path = converted / "run" / "models" / "segformer" / "segformer.onnx"
    metadata = {one.key: one.value for one in onnx.load(path).metadata_props}
    said = "64 to 256, multiples of 32"
    assert json.loads(metadata["converter.verified"])["dims"] == {"h": said, "w": said}
