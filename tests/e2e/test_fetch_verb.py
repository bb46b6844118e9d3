"""``python -m converter fetch``: of a zoo that a real run published, and that was moved since."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from converter.cli import command_line, completion
from converter.finalize import zoo_index
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e
Fetch = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published zoo, in another folder than the run published it to."""
    folder = tmp_path_factory.mktemp("fetch")
    done = subprocess.run(
        [
            sys.executable, "-m", "converter", "hydra.run.dir=night", "publish_to=zoo",
            "exporter=torchscript", "simplifier=onnxsim", "benchmark=off", "variant=[fp16]",
            "+models.plain={source: single_conv, license: MIT}",
            "+models.heavy={source: simple_cnn, export: {external_data: always}}",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(folder / "night")
    (folder / "elsewhere").mkdir()
    return (folder / "zoo").rename(folder / "elsewhere" / "models")


@pytest.fixture
def zoo(moved: Path, tmp_path: Path) -> Path:
    """A copy of it with its links."""
    return Path(shutil.copytree(moved, tmp_path / "zoo", symlinks=True))


@pytest.fixture
def fetch(
    zoo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Fetch:
    """The verb, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: str) -> tuple[int, str, str]:
        code = command_line.main(["fetch", str(zoo), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def opened(path: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    fed = {
        value.name: np.ones(
            [size if isinstance(size, int) else 2 for size in value.shape], types[value.type]
        )
        for value in session.get_inputs()
    }
    outputs: list[np.ndarray] = session.run(None, fed)
    return outputs


def test_a_published_zoo_has_no_lock_and_paths_that_can_be_opened(moved: Path) -> None:
    assert not (moved / ".holder").exists()
    for name in ("plain", "heavy"):
        whole = opened(moved / name / "model.onnx")
        half = opened(moved / name / "model.fp16.onnx")
        assert np.allclose(whole[0], half[0], rtol=0.05, atol=0.05)
        # Weights beside the file are found there by onnx, too.
        onnx.checker.check_model(str(moved / name / "model.onnx"))
    keys = {prop.key for prop in onnx.load(moved / "plain/model.onnx").metadata_props}
    assert {key.partition(".")[0] for key in keys} == {"converter"}
    assert command_line.main(["verify", str(moved)]) == 0


def test_a_model_is_fetched_and_opened(
    fetch: Fetch, zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = fetch("heavy")
    assert (code, err) == (0, "")
    names = ["model.onnx", "heavy.onnx.data", "README.md", "SHA256SUMS"]
    assert out.splitlines()[:4] == [f"heavy/{name}" for name in names]
    assert sorted(os.listdir("heavy")) == sorted(names)
    assert np.array_equal(opened(Path("heavy/model.onnx"))[0], opened(zoo / "heavy/model.onnx")[0])
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd="heavy", check=True)
    assert command_line.main(["verify", "heavy"]) == 0
    # What it prints does what it says.
    shown = "\n".join(out.splitlines()[5:])
    assert len(shown.splitlines()) <= 5
    subprocess.run([sys.executable, "-c", shown], check=True)
    assert Path("heavy").stat().st_mode & 0o777 == 0o777 & ~os.umask(os.umask(0o22))


def test_a_variant_is_fetched(fetch: Fetch) -> None:
    code, out, _ = fetch("plain/fp16")
    assert code == 0
    assert out.startswith("plain.fp16/model.fp16.onnx\n")
    held = onnx.load("plain.fp16/model.fp16.onnx").graph.initializer
    assert {tensor.data_type for tensor in held} == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("file", ["model.onnx", "heavy.onnx.data", "README.md"])
def test_a_byte_that_changed_is_refused(fetch: Fetch, zoo: Path, file: str) -> None:
    path = zoo / zoo_index.read(zoo).models["heavy"].path
    path = path.with_name(file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, out, err = fetch("heavy")
    assert (code, out) == (1, "")
    assert re.match(rf"heavy: not fetched: heavy/[0-9a-f]+/{re.escape(file)} is not what ", err)
    path.unlink()
    code, _, err = fetch("heavy")
    assert (code, f"{file} is missing" in err) == (1, True)
    path.symlink_to("/etc/hostname")
    assert fetch("heavy")[0] == 1
    assert os.listdir() == []


def test_a_path_that_leads_out_is_refused(fetch: Fetch, zoo: Path) -> None:
    text = (zoo / "index.json").read_text()
    said = json.loads(text)
    said["models"]["plain"]["path"] = "../../x/model.onnx"
    (zoo / "index.json").write_text(json.dumps(said))
    code, _, err = fetch("plain")
    assert code == 2
    assert "index.json: is damaged (plain: '../../x/model.onnx' leads out of its sets)" in err


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
    ids=["TERM", "INT"],
)
def test_a_signal_leaves_nothing(
    zoo: Path, tmp_path: Path, number: signal.Signals, code: int, said: str
) -> None:
    """In the middle of a copy, which SIGTERM left where it was."""
    index = json.loads((zoo / "index.json").read_text())
    index["models"]["plain"]["bytes"] = 64 << 30
    (zoo / "index.json").write_text(json.dumps(index))
    os.truncate(zoo / index["models"]["plain"]["path"], 64 << 30)  # holes: it takes no room
    here = tmp_path / "here"
    here.mkdir()
    command = [sys.executable, "-m", "converter", "fetch", str(zoo), "plain"]
    with subprocess.Popen(
        command,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores SIGINT, and so would this.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as child:
        end = time.monotonic() + 60
        while not any(path.stat().st_size for path in here.glob(".converter-*/made/model.onnx")):
            assert child.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err, os.listdir(here)) == (code, f"fetch: {said}\n", [])


def test_a_retired_model_is_fetched_and_said_to_be_one(fetch: Fetch, zoo: Path) -> None:
    said = json.loads((zoo / "index.json").read_text())
    said["models"]["plain"].update(retired=True, retired_since="2026-11-03T02:00:00.000Z")
    (zoo / "index.json").write_text(json.dumps(said))
    code, _, err = fetch("plain")
    assert (code, err) == (0, "note: it is retired since 2026-11-03: no run makes it now\n")


def test_what_is_not_there_is_exit_2(fetch: Fetch, tmp_path: Path) -> None:
    code, _, err = fetch("heavi")
    assert code == 2
    assert "has no 'heavi'. Did you mean heavy" in err
    code, _, err = fetch("plain/fp61")
    assert (code, "Did you mean plain/fp16" in err) == (2, True)
    assert command_line.main(["fetch", str(tmp_path), "plain"]) == 2
    Path("plain").mkdir()
    Path("plain/notes").write_text("mine")
    code, _, err = fetch("plain")
    assert (code, "plain is not empty. Name a new or an empty folder" in err) == (2, True)
    assert os.listdir("plain") == ["notes"]


def test_names_of_the_zoo_are_completed(zoo: Path) -> None:
    commands = command_line.commands()
    assert completion.suggestions(f"fetch {zoo} pl", [], commands) == ["plain", "plain/fp16"]
    assert completion.suggestions(f"fetch {zoo}/no pl", [], commands) == []
