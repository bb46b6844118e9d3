"""Nights that go wrong: killed while publishing, past the deadline, two at a time, a full disk."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import all_gone
from test_run_faults import REPOSITORY, Runs, runs

from converter.finalize import zoo_index
from converter.layout import files, runfiles
from tests.published import stray

pytestmark = [pytest.mark.faults]
__all__ = ["runs"]

# Publishes the two versions of its models again and again; says so each time.
PUBLISH = """
import json, sys
from itertools import count
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_publication import made, manifest
from converter.finalize import publication
from converter.model.batch import PublishSpec

folder = Path(sys.argv[1])
spec = PublishSpec.model_validate({"path": str(folder / "zoo"), **json.loads(sys.argv[3])})
versions = [
    manifest(*(made(folder / f"run{day}", name, bytes([day]) * 300_000, bytes([9 - day]) * 500_000)
               for name in "abc"), day=day)
    for day in (1, 2)
]
print("ready", flush=True)
for number in count():
    day = 1 + number % 2
    publication.publish(versions[day - 1], folder / f"run{day}", spec, ["a", "b", "c"])
"""


def named(target: Path) -> set[Path]:
    """The files that the index names; each must be what it says."""
    found = set()
    for entry in zoo_index.read(target).models.values():
        for part in entry.parts:
            path = target / part.path
            assert (path.stat().st_size, files.sha256(path)) == (part.bytes, part.sha256)
            found.add(path)
    return found


@pytest.mark.parametrize("layout", ["zoo", "triton", "huggingface"])
def test_a_run_that_is_killed_while_it_publishes_leaves_an_index_that_fits(
    tmp_path: Path, layout: str
) -> None:
    rng = random.Random(5)
    said = json.dumps({"layout": layout})
    target = tmp_path / "zoo"
    target.mkdir()
    unit = str(REPOSITORY / "tests" / "unit")
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", PUBLISH, str(tmp_path), unit, said],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.0, 0.15))
            process.kill()
        named(target)
    again = subprocess.run(
        [
            sys.executable,
            "-c",
            PUBLISH.replace("in count()", "in range(2)"),
            str(tmp_path),
            unit,
            said,
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert again.returncode == 0
    assert stray(target) == []
    assert len([path for path in named(target) if path.stat().st_size > 100_000]) == 6


@pytest.mark.e2e
def test_the_deadline_ends_a_model_that_hangs(runs: Runs) -> None:
    before = time.monotonic()
    code, output = runs.done(runs.command({"hang": "Hangs", "last": "Hangs"}, "deadline=6"))
    assert code == 1, output
    assert time.monotonic() - before < 40
    assert {row.status for row in runs.rows().values()} == {"not_run"}
    assert not runfiles.read(runs.directory).run.complete
    assert "The deadline passed and what was running was ended: 0 of 2 models finished" in output


@pytest.mark.e2e
def test_a_second_night_waits_for_its_turn(runs: Runs) -> None:
    """Row 50: exclusive, in another run directory; the first is untouched."""
    command = runs.command({"hang": "Hangs"}, "exclusive=true", "publish_to=zoo")
    other = [word.replace(f"={runs.directory}", "=second") for word in command]
    with runs.started(command) as first:
        runs.wait_for("models/hang/job.json")
        with runs.started(other) as second:
            output, _ = second.communicate(timeout=30)
        assert second.returncode == 3, output
        held = f"{runs.folder}/outputs/adhoc is held by process {first.pid} on "
        assert held in output
        assert "only one run at a time may use it: wait for that one, or end it" in output
        assert not (runs.folder / "second").exists()
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=20)
    assert first.returncode == 130
    assert all_gone(runs.mark, set(), 2) == {}


# Runs on a file system of 2 MB of its own, and copies what is left there out of it.
FULL = """
mount -t tmpfs -o size=2m none "$1" || exit 99
shift
"$@"
code=$?
cp -r full left
exit $code
"""


@pytest.mark.e2e
def test_a_full_disk_stops_the_run_and_leaves_its_record_whole(runs: Runs) -> None:
    """Row 51, on a disk that is really full."""
    if subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this kernel lets nobody mount a file system of their own")
    text = (runs.folder / "models.py").read_text()
    big = "torch.nn.Linear(8, 200_000)"
    text += f"""
class Big(Good):
    def __init__(self):
        super().__init__()
        self.linear = {big}
"""
    (runs.folder / "models.py").write_text(text)
    (runs.folder / "full").mkdir()
    run = runs.command({"first": "Good", "big": "Big", "last": "Good"}, "executor.workers=1")
    run = [word.replace(f"={runs.directory}", "=full/run") for word in run]
    code, output = runs.done(["unshare", "-Urm", "sh", "-c", FULL, "full", "full", *run])
    assert code == 3, output
    assert "No space left on device" in output
    runs.directory = runs.folder / "left" / "run"
    found = {name: (row.status, row.error and row.error.code) for name, row in runs.rows().items()}
    assert found == {"first": ("ok", None), "big": ("failed", "IO"), "last": ("not_run", None)}
    file = runs.rows()["first"].files[0]
    assert files.sha256(runs.directory / file.path) == file.sha256
    assert not list((runs.directory / "models/big").glob("*.onnx*"))
    assert (runfiles.read(runs.directory).run.exit_code) == 3
