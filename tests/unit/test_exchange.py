"""What travels to nodes: which files, in which archive, and where they lie there."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.exchange import archive, needs
from converter.exchange.archive import RefusedError
from converter.exchange.luggage import Luggage
from converter.exchange.scratch import Run, Scratch
from converter.model.job import Composed, Derived, Job
from converter.model.measure import Measure
from converter.plan.codebases import CodeBases
from converter.plan.contents import Contents
from converter.plan.modules import Modules


def job(folder: Path, **changes: object) -> Job:
    usual: dict[str, object] = {
        "name": "net",
        "source": {"file": str(folder / "net.py"), "name": "Net"},
        "inputs": {},
        "opset": 17,
        "exporters": ["torchscript"],
        "trust": [str(folder)],
        "model_dir": "/runs/1/models/net",
        "staging_dir": "/runs/1/.staging/net",
    }
    return Job.model_validate({**usual, **changes})


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    (folder / "parts").mkdir(parents=True)
    (folder / "net.py").write_text("from parts import head\n")
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "head.py").write_text("WIDTH = 4\n")
    (folder / "words.txt").write_text("a b c")
    return folder


def relative(found: needs.Files, folder: Path) -> set[str]:
    return {os.path.relpath(path, folder) for path in found.real}


def test_a_trusted_folder_travels_without_what_no_model_means(zoo: Path) -> None:
    for name in (".git/config", ".env", "__pycache__/net.pyc", "run/.hydra/config.yaml"):
        (zoo / name).parent.mkdir(parents=True, exist_ok=True)
        (zoo / name).write_text("no")
    (zoo / "venv").mkdir()
    (zoo / "venv" / "pyvenv.cfg").write_text("no")
    (zoo / "mine").mkdir()
    (zoo / "mine" / "manifest.json").write_text("no")
    found = needs.of_folder(str(zoo), [str(zoo / "mine")])
    assert relative(found, zoo) == {"net.py", "words.txt", "parts/__init__.py", "parts/head.py"}
    assert found.links == {}


def test_a_folder_travels_only_where_code_of_the_job_lies_in_it(zoo: Path, tmp_path: Path) -> None:
    other = tmp_path / "data"
    other.mkdir()
    weights = other / "net.pth"
    weights.write_bytes(b"w")
    one = job(zoo, trust=[str(zoo), str(other)], weights={"checkpoint": str(weights)})
    contents = Contents()
    bases = CodeBases(contents, Modules(contents))
    named = needs.named(one, bases)
    assert needs.folders(one, named) == [str(zoo)]
    assert str(weights) in named
    # The node downloads it by itself.
    at_url = {"path": "https://hub.example/x.npy?v=1", "sha256": "0" * 64}
    registry = job(
        zoo,
        source={"registry": "single_conv"},
        weights={"checkpoint": "s3://zoo/net.pth", "sha256": "0" * 64},
        inputs={"x": {"shape": [1], **at_url}},
        verify={"cases": [{"label": "c", "inputs": {"x": at_url}}]},
    )
    assert needs.named(registry, bases) == []
    assert needs.folders(registry, []) == []


def test_what_a_variant_may_be_calibrated_on_travels(zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"x")
    one = job(zoo, inputs={"x": {"shape": [1], "path": str(tmp_path / "x.npy")}})
    contents = Contents()
    derived = Derived.model_validate({**asked_of(one), "plugin": "int8"})
    bases = CodeBases(contents, Modules(contents))
    assert needs.named(derived, bases) == [str(tmp_path / "x.npy")]


def test_a_link_that_leads_out_of_a_trusted_folder_stays_one(zoo: Path, tmp_path: Path) -> None:
    """On the node the trust ends where it ends here."""
    foreign = tmp_path / "foreign.py"
    foreign.write_text("")
    (zoo / "other.py").symlink_to(foreign)
    found = needs.of_folder(str(zoo), [])
    assert found.links == {str(zoo / "other.py"): str(foreign)}
    assert str(foreign) in found.real
    pack = tmp_path / "pack"
    archive.write(pack, found.real, found.links)
    root = tmp_path / "node"
    archive.unpack(pack, root)
    luggage = Luggage("s3://b/p", (str(zoo),), (str(zoo),), root=str(root))
    there = luggage.job(job(zoo, source={"file": str(zoo / "other.py"), "name": "Net"}))
    assert there.source.file == f"{root}{zoo}/other.py"
    assert Path(there.source.file).resolve() == Path(f"{root}{foreign}")
    assert not Path(there.source.file).resolve().is_relative_to(there.trust[0])


def test_a_trusted_folder_that_is_a_link_is_trusted_where_it_leads(
    zoo: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(zoo)
    found = needs.of_folder(str(link), [])
    assert found.links[str(link / "net.py")] == str(zoo / "net.py")
    assert str(zoo / "net.py") in found.real


def test_the_same_files_give_the_same_archive(zoo: Path, tmp_path: Path) -> None:
    hashes = set()
    for number, time_s in enumerate((1e9, 1.5e9)):
        found = needs.of_folder(str(zoo), [])
        for path in found.real:
            os.utime(path, (time_s, time_s))
        pack = tmp_path / str(number)
        archive.write(pack, reversed(list(found.real)), found.links)
        hashes.add(hashlib.sha256(pack.read_bytes()).hexdigest())
    assert len(hashes) == 1
    (zoo / "words.txt").write_text("a b d")
    archive.write(tmp_path / "2", found.real, found.links)
    assert hashlib.sha256((tmp_path / "2").read_bytes()).hexdigest() not in hashes


def asked_of(one: Job) -> dict[str, object]:
    return {name: getattr(one, name) for name in Job.model_fields}


def test_what_earlier_jobs_made_travels_with_what_belongs_to_it(zoo: Path, tmp_path: Path) -> None:
    models = tmp_path / "run" / "models" / "net"
    models.mkdir(parents=True)
    for name in ("net.onnx", "net.onnx.data", "log.txt", "other.onnx", "nets.onnx"):
        (models / name).write_bytes(b"x")
    own = {str(models / "net.onnx"), str(models / "net.onnx.data")}
    one, cases = job(zoo), str(tmp_path / "run" / ".staging" / "references.npz")
    derived = Derived.model_validate(
        {
            **asked_of(one),
            "plugin": "fp16",
            "parent_file": str(models / "net.onnx"),
            "references": cases,
        }
    )
    assert set(needs.made(derived)) == {*own, cases}
    composed = Composed.model_validate(
        {**asked_of(one), "graphs": {"a": one}, "graph_files": {"a": str(models / "net.onnx")}}
    )
    assert set(needs.made(composed)) == own
    measure = Measure.model_validate(
        {**asked_of(one), "file": str(models / "net.onnx"), "budget_s": 1.0}
    )
    assert set(needs.made(measure)) == own
    assert list(needs.made(one)) == []


def test_the_graphs_of_a_model_trust_on_the_node_what_they_trust_here(zoo: Path) -> None:
    one = job(zoo)
    composed = Composed.model_validate({**asked_of(one), "graphs": {"a": one}})
    there = Luggage("s3://b/p", (str(zoo),), (str(zoo),), root="/node").job(composed)
    assert isinstance(there, Composed)
    assert there.graphs["a"].trust == there.trust == [f"/node{zoo}"]


def packed(place: Path, *members: tuple[str, Callable[[tarfile.TarInfo], None], bytes]) -> Path:
    with tarfile.open(place, "w") as written:
        for name, change, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            written.addfile(member, io.BytesIO(content))
    return place


def of_kind(kind: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return change


def plain(member: tarfile.TarInfo) -> None:
    """A file."""


@pytest.mark.parametrize(
    "members",
    [
        [("../out", plain, b"x")],
        [("a/../../out", plain, b"x")],
        [("/etc/passwd", plain, b"x")],
        [("//out", plain, b"x")],
        [("a//b", plain, b"x")],
        [("./a", plain, b"x")],
        [("a", of_kind(tarfile.LNKTYPE, "/etc/passwd"), b"")],
        [("a", of_kind(tarfile.CHRTYPE), b"")],
        [("a", of_kind(tarfile.FIFOTYPE), b"")],
        [("a", of_kind(tarfile.SYMTYPE, "../../out"), b"")],
        [("a", of_kind(tarfile.SYMTYPE, "/x/../../out"), b"")],
        [("a", of_kind(tarfile.SYMTYPE, "/out"), b""), ("a/b", plain, b"x")],
    ],
    # Said, since those of functions differ from process to process.
    ids=[
        "above", "above-later", "absolute", "two-slashes", "empty-part", "dot", "hard-link",
        "device", "fifo", "link-above", "link-above-later", "through-a-link",
    ],
)  # fmt: skip
def test_no_member_leads_out_of_the_folder(tmp_path: Path, members: list[object]) -> None:
    folder = tmp_path / "deep" / "node"
    folder.mkdir(parents=True)
    with pytest.raises(RefusedError):
        archive.unpack(packed(tmp_path / "pack", *members), folder)  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "pack"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["node"]


def test_a_link_leads_into_the_folder_however_it_is_written(tmp_path: Path) -> None:
    pack = packed(tmp_path / "pack", ("a", of_kind(tarfile.SYMTYPE, "/etc/passwd"), b""))
    archive.unpack(pack, tmp_path / "node")
    assert os.readlink(tmp_path / "node" / "a") == str(tmp_path / "node" / "etc" / "passwd")


def test_what_is_cut_short_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"no archive" * 100)
    with pytest.raises(RefusedError):
        archive.unpack(tmp_path / "none", tmp_path / "node")


def test_paths_of_a_job_lie_below_the_folder_of_the_node(zoo: Path) -> None:
    luggage = Luggage("s3://b/p", (str(zoo), "/runs/1"), (str(zoo), "mine"), root="/node")
    one = job(zoo, kwargs={"words": f"{zoo}/words.txt", "name": f"{zoo}2", "deep": [str(zoo)]})
    there = luggage.job(one)
    assert there.source.file == f"/node{zoo}/net.py"
    assert there.kwargs == {
        "words": f"/node{zoo}/words.txt",
        "name": f"{zoo}2",  # of another folder
        "deep": [f"/node{zoo}"],
    }
    assert there.trust == [f"/node{zoo}", "mine"]
    assert (there.model_dir, there.staging_dir) == (
        "/node/runs/1/models/net",
        "/node/runs/1/.staging/net",
    )


def test_a_node_has_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of-the-node")
    monkeypatch.delenv("TMPDIR", raising=False)
    given = {"HOME": "/home/me", "TMPDIR": "/tmp/me", "PYTHONPATH": "/code", "MODE": "x"}
    there = Luggage("s3://b/p", (), root="/node").environ(given)
    assert there["HOME"] == "/home/of-the-node"
    assert "TMPDIR" not in there
    assert there["PYTHONPATH"] == os.pathsep.join(["/node/code", "/code"])
    assert there["MODE"] == "x"


def test_what_a_killed_daemon_has_left_goes_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch")
    living = scratch.claim("living")
    killed = scratch.claim("killed")
    assert killed.lock is not None
    killed.lock.close()
    old = scratch.blobs / "old"
    old.write_bytes(b"x")
    os.utime(old, (1e9, 1e9))
    (scratch.blobs / "new").write_bytes(b"x")
    third = scratch.claim("third")
    runs = {path.name for path in (tmp_path / "scratch" / "runs").iterdir()}
    assert runs == {"living", "third"}
    assert [path.name for path in scratch.blobs.iterdir()] == ["new"]
    assert Run.of(str(third.files)).folder == third.folder
    living.remove()
    assert not living.folder.exists()
    third.remove()


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(OSError, match=r"is open to other users.*executor\.scratch"):
        Scratch(tmp_path / "open").claim("one")
