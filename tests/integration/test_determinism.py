"""P7: the same job twice gives the same bytes, in another process and folder too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import pytest

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
HERE = Path(__file__).parent
WIDE = {"kwargs": {"width": 200}, "dynamic_axes": jobs.BATCH}
TRAIN = {"training": "train", "inputs": {"x": {"shape": [6, 3]}}}
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "torchscript": ("Net", WIDE),
    "onnxsim": ("Conv", {"inputs": jobs.IMAGE, "simplifier": "onnxsim"}),
    "onnxslim": ("Conv", {"inputs": jobs.IMAGE, "simplifier": "onnxslim"}),
    "external": ("Net", {**WIDE, "export": {"external_data": "always"}}),
    "training": ("Dropping", {**TRAIN, "simplifier": "onnxsim"}),
    # Neither converted to another opset nor simplified: the exporter's notes on its source, which
    # name folders, are still there.
    "dynamo": (
        "Net",
        {**WIDE, "exporters": ["dynamo"], "opset": 18, "export": {"external_data": "always"}},
    ),
}


def hashes(done: jobs.Converted) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in done.files.items()}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Every job in one other process, with another order of sets and another clock."""
    folder = tmp_path_factory.mktemp("elsewhere-with-a-longer-name")
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    command = [sys.executable, "-W", "ignore", str(Path(__file__)), str(folder)]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", JOBS)
def test_the_same_bytes_everywhere(
    convert: Convert, elsewhere: dict[str, dict[str, str]], tmp_path: Path, name: str
) -> None:
    source, changes = JOBS[name]
    done = convert(source, **changes)
    assert done.code is None
    assert hashes(done) == elsewhere[name]
    for content in done.files.values():
        assert str(tmp_path).encode() not in content
        assert str(HERE).encode() not in content


@pytest.mark.parametrize("name", [name for name in JOBS if name != "dynamo"])
def test_the_same_bytes_once_more(convert: Convert, name: str) -> None:
    source, changes = JOBS[name]
    assert convert(source, **changes).files == convert(source, **changes).files


def test_another_seed_gives_other_weights(convert: Convert) -> None:
    assert convert("Net").files != convert("Net", seed=1).files


if __name__ == "__main__":
    print(
        json.dumps(
            {
                name: hashes(jobs.convert(jobs.make(Path(sys.argv[1]) / name, source, **changes)))
                for name, (source, changes) in JOBS.items()
            }
        )
    )
