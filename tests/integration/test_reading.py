"""Which files of the user's a model's code reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from converter.worker.recording.reading import Reading

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning"),
]


@pytest.fixture
def reading() -> Iterator[Reading]:
    found = Reading()
    found.start()
    yield found
    found.stop()


def test_what_python_and_torch_open_is_noted(
    reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reading.stop()
    torch.save(torch.zeros(3), "a.pt")
    torch.jit.script(torch.nn.ReLU()).save("b.pt")
    Path("c.json").write_text("{}")
    Path("unread.json").write_text("{}")
    Path("pack.egg-info").mkdir()
    Path("pack.egg-info/PKG-INFO").write_text("")
    reading.start()
    torch.load("a.pt", mmap=True)
    torch.jit.load("b.pt")
    Path("c.json").read_text()
    Path("pack.egg-info/PKG-INFO").read_text()
    Path(torch.__file__).read_bytes()
    Path("/proc/self/status").read_text()
    with pytest.raises(FileNotFoundError):
        Path("absent").read_text()
    assert reading.files() == [str(tmp_path / name) for name in ("a.pt", "b.pt", "c.json")]


def test_safetensors_are_noted_although_rust_opens_them(reading: Reading, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    for name in ("a", "b"):
        safetensors.save_file({"x": torch.zeros(3)}, tmp_path / name)
    safetensors.load_file(tmp_path / "a")
    from safetensors import safe_open

    with safe_open(str(tmp_path / "b"), framework="pt") as file:
        assert list(file.keys()) == ["x"]
    assert reading.files() == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_what_the_job_wrote_itself_is_left_out(reading: Reading, tmp_path: Path) -> None:
    (tmp_path / "new.part").write_text("x")
    (tmp_path / "new.part").rename(tmp_path / "new")
    (tmp_path / "new").read_text()
    (tmp_path / "log").open("a").close()
    assert reading.files() == []
    reading.stop()
    (tmp_path / "late").write_text("")
    (tmp_path / "late").read_text()
    assert reading.files() == []
