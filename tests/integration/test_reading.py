"""Which files of the user's a model's code reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
import torch.package
from torchvision import io

from converter.worker.recording.reading import Reading

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*TorchVision are:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TypedStorage is:UserWarning"),
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


def test_what_torch_maps_and_torchvision_decodes_is_noted_although_cpp_opens_it(
    reading: Reading, tmp_path: Path
) -> None:
    reading.stop()
    names = ("mapped", "by_keyword", "storage", "typed", "bytes", "picture.png", "archive")
    paths = {name: str(tmp_path / name) for name in names}
    for path in paths.values():
        Path(path).write_bytes(bytes(8))
    io.write_png(torch.zeros(3, 2, 2, dtype=torch.uint8), paths["picture.png"])
    with torch.package.PackageExporter(paths["archive"]) as package:
        package.save_pickle("held", "x.pkl", [1])
    reading.start()
    torch.from_file(paths["mapped"], size=1, dtype=torch.float64)
    torch.from_file(size=1, filename=paths["by_keyword"], dtype=torch.float64)
    torch.UntypedStorage.from_file(paths["storage"], False, 8)
    torch.FloatStorage.from_file(paths["typed"], False, 2)
    io.read_file(paths["bytes"])
    assert io.read_image(paths["picture.png"]).shape == (3, 2, 2)
    assert torch.package.PackageImporter(paths["archive"]).load_pickle("held", "x.pkl") == [1]
    assert reading.files() == sorted(paths.values())


def scripted(path: str) -> torch.Tensor:
    return torch.from_file(path, size=1, dtype=torch.float64) + len(torch.ops.image.read_file(path))


def test_what_tells_of_its_files_can_be_scripted(reading: Reading, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(8))
    assert torch.jit.script(scripted)(str(tmp_path / "a")).item() == 8
    assert callable(torch.ops.image.read_file.default)


def test_a_database_is_noted_unless_the_job_made_it(reading: Reading, tmp_path: Path) -> None:
    reading.stop()
    for name in ("plain.db", "a uri.db"):
        with closing(sqlite3.connect(tmp_path / name)) as made:
            made.execute("CREATE TABLE t (x)")
    reading.start()
    uri = f"{(tmp_path / 'a uri.db').as_uri()}?mode=ro"
    for name in (tmp_path / "plain.db", uri, ":memory:", tmp_path / "new.db", tmp_path / "new.db"):
        with closing(sqlite3.connect(name, uri=name == uri)) as opened:
            opened.execute("CREATE TABLE IF NOT EXISTS t (x)" if name != uri else "SELECT * FROM t")
    assert reading.files() == [str(tmp_path / name) for name in ("a uri.db", "plain.db")]
