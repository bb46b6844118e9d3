"""The command in surroundings that nobody sets up on purpose, and that machines have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534
MEMORY = Path("/dev/shm")
# What the shell of whoever runs the tests has set is not part of any of them.
_NOT_OURS = ("LANG", "LC_", "PYTHON", "ORT_", "XDG_")
_MODEL = """\
from torch import nn

class Größe(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        print("größer → 中文")
        return self.linear(x)
"""
_EXPERIMENT = """\
# @package _global_
models:
  net:
    source: {file: "zoo é/größe.py", name: Größe}
    inputs: {"höhe": {shape: [2, 4]}}
    outputs: ["länge"]
    variants: [fp16]
benchmark: {budget_s: 0.05, torch: false}
"""


@dataclass(frozen=True)
class Surroundings:
    """What is other than usual.

    Attributes:
        variables: ``{home}`` and ``{memory}`` stand for folders.
        nobody: the user is another one, to whom the checkout is read-only.
        read_only: the folder that the command runs in; its run and its store lie elsewhere.
        home: mode of the folder ``{home}``.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    nobody: bool = False
    umask: int = 0o022
    read_only: bool = False
    home: int = 0o755


# All at once, as far as they go together: in the gate.
COMBINED = {
    "another user": Surroundings(
        {"HOME": "{home}/nowhere", "LC_ALL": "C", "TMPDIR": "{memory}", "PYTHONOPTIMIZE": "2"},
        nobody=True,
        umask=0o077,
    ),
    "a home that cannot be written": Surroundings(
        {"HOME": "/proc", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C"}, umask=0o077
    ),
}
# One by one: a night's work of `.ci/environments`.
EACH = {
    "nobody": Surroundings({"HOME": "{home}"}, nobody=True),
    "umask": Surroundings(umask=0o077),
    "LANG=C": Surroundings({"LANG": "C"}),
    "LC_ALL=POSIX": Surroundings({"LC_ALL": "POSIX"}),
    "read-only HOME": Surroundings({"HOME": "{home}"}, nobody=True, home=0o555),
    "no HOME": Surroundings({"HOME": "{home}/nowhere"}, nobody=True),
    "a home of somebody else": Surroundings({"HOME": "{home}"}, nobody=True, home=0o700),
    "HOME=/proc": Surroundings({"HOME": "/proc"}),
    "TMPDIR": Surroundings({"TMPDIR": "{memory}"}),
    "PYTHONOPTIMIZE": Surroundings({"PYTHONOPTIMIZE": "2"}),
    "no bytecode": Surroundings({"PYTHONDONTWRITEBYTECODE": "1"}),
    "read-only folder": Surroundings({"HOME": "{home}"}, read_only=True, nobody=True),
}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    usual = {key: text for key, text in os.environ.items() if not key.startswith(_NOT_OURS)}
    # The libraries of this environment, also for an interpreter that is not the one of it.
    path = os.pathsep.join([str(REPOSITORY), sysconfig.get_path("purelib")])
    return {**usual, "PYTHONPATH": path, **variables}


def interpreter(nobody: bool) -> str:
    """A Python of this version with these libraries, that the user of the test may run."""
    if not nobody:
        return sys.executable
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    this = tuple(sys.version_info[:2])
    code = f"import sys, hydra, torch.version; assert sys.version_info[:2] == {this}"
    for found in (sys.executable, shutil.which(version, path=os.defpath)):
        command = [found or "", "-c", code]
        usual: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
        try:
            done = subprocess.run(command, **usual, env=environment({}), check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return str(found)
    pytest.skip(f"another user may not run {sys.executable} here, nor {version} with its libraries")


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that others may enter, which those of pytest are not."""
    base = tmp_path_factory.getbasetemp()
    place = Path(tempfile.gettempdir()).resolve() / f"{base.parent.name}-{base.name}-environments"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    yield place
    shutil.rmtree(place)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder of another file system than that of the run."""
    if not MEMORY.is_dir():
        pytest.skip("there is no /dev/shm")
    folder = MEMORY / f"converter-environments-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def check(other: Surroundings, place: Path, memory: Path) -> None:
    """A run comes to what it comes to anywhere, prints no more, and leaves nothing elsewhere."""
    python = interpreter(other.nobody)
    zoo, work, home = place / "zoo é", place / "wörk", place / "home"
    for folder in (zoo / "conf/experiment", work, home):
        folder.mkdir(parents=True)
    (zoo / "größe.py").write_text(_MODEL, encoding="utf-8")
    text = _EXPERIMENT.replace("zoo é", str(zoo))
    (zoo / "conf/experiment/sizes.yaml").write_text(text, encoding="utf-8")
    home.chmod(other.home)
    os.chown(work, *((NOBODY, NOBODY) if other.nobody else (-1, -1)))
    stated = {key: text.format(home=home, memory=memory) for key, text in other.variables.items()}
    here = work
    if other.read_only:
        here = place / "read-only"
        here.mkdir(mode=0o555)
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    words = ["--config-dir", str(zoo / "conf"), "+experiment=sizes"]
    places = [f"hydra.run.dir='{work}/größe'", f"store.path='{work}/stö'"]
    before = sorted(home.rglob("*"))
    done = subprocess.run(
        [python, "-m", "converter", *words, *places],
        cwd=here,
        env=environment({"OMP_NUM_THREADS": "1", **stated, "CONVERTER_TRUST": str(zoo)}),
        umask=other.umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        **(user if other.nobody else {}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "elemetry" not in done.stdout
    run = work / "größe"
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    (model,) = manifest["models"]
    assert [row["status"] for row in model["artifacts"]] == ["ok", "ok"]
    assert model["artifacts"][0]["onnx"]["inputs"][0]["name"] == "höhe"
    assert {entry["status"] for row in model["artifacts"] for entry in row["latency"]} == {
        "measured"
    }
    log = (run / "models/net/log.txt").read_text(encoding="utf-8")
    assert "größer → 中文" in log
    assert "elemetry" not in log
    # No library leaves files of its own, such as an id of the machine, where nobody looks.
    assert sorted(home.rglob("*")) == before
    assert list(memory.iterdir()) == []


@pytest.mark.parametrize("name", COMBINED)
def test_a_run_comes_out_right_in_odd_surroundings(name: str, place: Path, memory: Path) -> None:
    check(COMBINED[name], place, memory)


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_a_run_comes_out_right_in_each_of_them(name: str, place: Path, memory: Path) -> None:
    check(EACH[name], place, memory)


def test_the_fixture_fails_a_test_also_without_asserts(tmp_path: Path) -> None:
    text = "def test_zoo(converter_zoo):\n    converter_zoo('+experiment=smoke', 'deadline=0.01')\n"
    (tmp_path / "test_zoo.py").write_text(text)
    command = [sys.executable, "-O", "-m", "pytest", "-q", "--assert=plain"]
    plugin = ["-p", "no:cacheprovider", "-p", "converter.pytest_plugin"]
    done = subprocess.run(
        [*command, *plugin, "test_zoo.py"],
        cwd=tmp_path,
        env=environment({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 not_run" in done.stdout
