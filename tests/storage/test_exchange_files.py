"""Files of jobs on their way to a node and back, through a server that speaks S3."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.exchange import receiving
from converter.exchange.luggage import Luggage, Sent
from converter.exchange.scratch import Run, Scratch
from converter.exchange.sending import Exchange
from converter.layout import delivery
from converter.model.errors import RunError
from converter.model.job import Derived, Job
from converter.model.records import FileInfo, JobResult
from converter.storage import blobs, objects
from converter.storage.location import Url
from tests.objectstore import Store

LARGE = b"weights" * 300_000  # beyond what travels in an archive
MIB = 1 << 20
pytestmark = pytest.mark.integration


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "net.py").write_text("import part\n")
    (folder / "part.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.pth").write_bytes(LARGE)
    return folder


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def exchange(place: Url, run_directory: Path) -> Exchange:
    return Exchange(place, run_directory, MIB)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Run]:
    run = Scratch(tmp_path / "node").claim("one")
    yield run
    run.remove()


@pytest.fixture
def job(zoo: Path, run_directory: Path) -> Job:
    staging = run_directory / ".staging" / "net"
    model = run_directory / "models" / "net"
    model.mkdir(parents=True)
    return Job.model_validate(
        {
            "name": "net",
            "source": {"file": str(zoo / "net.py"), "name": "Net"},
            "weights": {"checkpoint": str(zoo.parent / "net.pth")},
            "inputs": {},
            "opset": 17,
            "exporters": ["torchscript"],
            "trust": [str(zoo)],
            "model_dir": str(model),
            "staging_dir": str(staging),
        }
    )


def brought(luggage: Luggage, node: Run, job: Job) -> tuple[Luggage, Job]:
    there = dataclasses.replace(luggage, root=str(node.files))
    own = there.job(job)
    receiving.fetch(there, own)
    return there, own


def of_job(exchange: Exchange, node: Run, job: Job) -> tuple[Luggage, Job]:
    return brought(exchange.luggage(job), node, job)


def test_a_job_finds_on_the_node_what_it_has_here(
    exchange: Exchange, node: Run, job: Job, zoo: Path
) -> None:
    luggage, there = of_job(exchange, node, job)
    assert there.source.file == f"{node.files}{zoo}/net.py"
    assert Path(there.source.file).read_text() == "import part\n"
    assert Path(f"{node.files}{zoo}/part.py").read_text() == "WIDTH = 4\n"
    assert not isinstance(there.weights, str)
    assert there.weights.checkpoint == f"{node.files}{zoo.parent}/net.pth"
    assert Path(there.weights.checkpoint).read_bytes() == LARGE
    assert (len(luggage.packs), len(luggage.files)) == (1, 1)
    assert Path(there.model_dir).is_dir()


def test_the_same_content_is_sent_once_and_fetched_once(
    exchange: Exchange, place: Url, node: Run, job: Job, bucket: Store, run_directory: Path
) -> None:
    of_job(exchange, node, job)
    bucket.faults.calls.clear()
    # A later command, and another job of the same folder and weights.
    again = Exchange(place, run_directory, MIB)
    of_job(again, node, job.model_copy(update={"name": "other"}))
    assert bucket.faults.calls["PUT"] + bucket.faults.calls["POST"] == 0
    assert bucket.faults.calls["GET"] == 0


def test_what_is_old_in_the_store_gets_a_new_age_and_is_not_sent_again(
    exchange: Exchange, place: Url, job: Job, bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    luggage = exchange.luggage(job)
    monkeypatch.setattr(blobs, "GRACE_S", -10.0)
    store = objects.opened(place)
    sizes = bucket.faults.calls["POST"]
    path = Path(dict(luggage.files) and next(iter(dict(luggage.files))))
    digest = hashlib.sha256(LARGE).hexdigest()
    assert not blobs.keep(store, path, len(LARGE), digest)
    assert bucket.faults.calls["POST"] == sizes
    assert [each.key for each in store.list(objects.TEMPORARY)] == []
    store.delete(blobs.key_of(digest))
    assert blobs.keep(store, path, len(LARGE), digest)


def test_a_blob_that_is_damaged_on_the_node_is_fetched_again(
    exchange: Exchange, node: Run, job: Job
) -> None:
    luggage, there = of_job(exchange, node, job)
    digest = hashlib.sha256(LARGE).hexdigest()
    (node.scratch.blobs / digest).write_bytes(LARGE[::-1])
    other = node.scratch.claim("two")
    _, there = brought(luggage, other, job)
    assert not isinstance(there.weights, str)
    assert Path(there.weights.checkpoint).read_bytes() == LARGE
    other.remove()


def test_other_bytes_under_a_name_are_refused(
    exchange: Exchange, node: Run, job: Job, place: Url
) -> None:
    luggage = exchange.luggage(job)
    objects.opened(place).write(blobs.key_of(luggage.packs[0].sha256), b"other bytes")
    with pytest.raises(OSError, match="checksum mismatch: it is not the file that was put there"):
        brought(luggage, node, job)
    assert not Path(f"{node.files}{job.source.file}").exists()


def test_what_was_replaced_in_the_store_is_sent_anew(
    exchange: Exchange, node: Run, job: Job, place: Url
) -> None:
    luggage, there = exchange.luggage(job), objects.opened(place)
    key = blobs.key_of(hashlib.sha256(LARGE).hexdigest())
    there.write(key, LARGE[::-1])  # as large, so that a look does not show it
    with pytest.raises(OSError, match="checksum mismatch"):
        brought(luggage, node, job)
    with pytest.raises(OSError, match="checksum mismatch"):  # it is believed to be there
        brought(exchange.luggage(job), node, job)
    exchange.doubt()
    of_job(exchange, node, job)
    assert there.sha256(key) == hashlib.sha256(LARGE).hexdigest()


def test_an_artifact_that_was_replaced_in_the_store_is_removed_there(
    exchange: Exchange, node: Run, job: Job, place: Url
) -> None:
    luggage, made = of_job(exchange, node, job)
    sent = [Sent(**one) for one in receiving.sent(luggage, made, left(made))]
    key = blobs.key_of(sent[0].sha256)
    objects.opened(place).write(key, LARGE[::-1])
    with pytest.raises(OSError, match="checksum mismatch"):
        exchange.collect(sent, job, 1)
    assert objects.opened(place).about(key) is None


def test_a_node_whose_disk_was_emptied_makes_its_folders_anew(
    exchange: Exchange, node: Run, job: Job
) -> None:
    of_job(exchange, node, job)
    shutil.rmtree(node.scratch.folder)
    _, there = of_job(exchange, node, job)
    assert not isinstance(there.weights, str)
    assert Path(there.weights.checkpoint).read_bytes() == LARGE


def test_what_a_job_writes_to_its_files_is_of_no_other_daemon(
    exchange: Exchange, node: Run, job: Job
) -> None:
    luggage, there = of_job(exchange, node, job)
    assert not isinstance(there.weights, str)
    with open(there.weights.checkpoint, "r+b") as file:
        file.write(b"changed")
    other = node.scratch.claim("two")
    _, there = brought(luggage, other, job)
    assert not isinstance(there.weights, str)
    assert Path(there.weights.checkpoint).read_bytes() == LARGE
    other.remove()


def left(there: Job, content: bytes = LARGE) -> JobResult:
    """What a job leaves on its node."""
    staging = Path(there.staging_dir)
    staging.mkdir(parents=True)
    (staging / "net.onnx").write_bytes(content)
    (staging / "references").write_bytes(b"cases")
    (staging / "attempt").write_bytes(b"of no use")
    (Path(there.model_dir) / delivery.LOG).write_text("said\n")
    digest = hashlib.sha256(content).hexdigest()
    return JobResult(
        name="net",
        status="ok",
        files=[FileInfo(path="net.onnx", bytes=len(content), sha256=digest)],
        references=FileInfo(path="references", bytes=5, sha256="0" * 64),
    )


def test_what_a_job_left_comes_to_its_folder_here(exchange: Exchange, node: Run, job: Job) -> None:
    luggage, there = of_job(exchange, node, job)
    told = receiving.sent(luggage, there, left(there))
    assert not Path(there.staging_dir).exists()
    (Path(job.model_dir) / delivery.LOG).write_text("of another run\n")
    exchange.collect([Sent(**one) for one in told], job, 1)
    staging = Path(job.staging_dir)
    assert {path.name for path in staging.iterdir()} == {"net.onnx", "references"}
    assert (staging / "net.onnx").read_bytes() == LARGE
    log = Path(job.model_dir) / delivery.LOG
    assert log.read_text() == "said\n"
    exchange.collect([Sent(**one) for one in told], job, 2)
    assert log.read_text() == "said\nsaid\n"


def test_a_variant_of_it_fetches_nothing_where_it_was_made(
    exchange: Exchange, node: Run, job: Job, bucket: Store, run_directory: Path
) -> None:
    luggage, there = of_job(exchange, node, job)
    told = receiving.sent(luggage, there, left(there))
    exchange.collect([Sent(**one) for one in told], job, 1)
    os.rename(Path(job.staging_dir) / "net.onnx", Path(job.model_dir) / "net.onnx")
    derived = Derived.model_validate(
        {
            **{name: getattr(job, name) for name in Job.model_fields},
            "artifact": "fp16",
            "plugin": "fp16",
            "parent": "onnx",
            "parent_file": str(Path(job.model_dir) / "net.onnx"),
            "references": str(Path(job.staging_dir) / "references"),
        }
    )
    bucket.faults.calls.clear()
    luggage = exchange.luggage(derived)
    assert bucket.faults.calls["PUT"] + bucket.faults.calls["POST"] == 0
    _, there = brought(luggage, node, derived)
    assert isinstance(there, Derived)
    assert bucket.faults.calls["GET"] == 0
    assert Path(there.parent_file).read_bytes() == LARGE
    assert Path(there.references).read_bytes() == b"cases"


def test_the_graph_of_what_is_wrong_comes_along(exchange: Exchange, node: Run, job: Job) -> None:
    luggage, there = of_job(exchange, node, job)
    result = left(there).model_copy(update={"status": "failed", "files": [], "references": None})
    (Path(there.staging_dir) / "wrong.dynamo.pb").write_bytes(b"graph")
    exchange.collect([Sent(**one) for one in receiving.sent(luggage, there, result)], job, 1)
    assert [path.name for path in Path(job.staging_dir).iterdir()] == ["wrong.dynamo.pb"]


def test_a_link_in_place_of_a_file_is_not_sent(exchange: Exchange, node: Run, job: Job) -> None:
    luggage, there = of_job(exchange, node, job)
    result = left(there)
    (Path(there.staging_dir) / "net.onnx").unlink()
    (Path(there.staging_dir) / "net.onnx").symlink_to("/etc/hostname")
    assert [one["name"] for one in receiving.sent(luggage, there, result)] == ["references", ""]


@pytest.mark.parametrize("name", ["../net.onnx", "a/b", "/etc/net.onnx"])
def test_a_name_with_a_path_is_refused(exchange: Exchange, job: Job, name: str) -> None:
    with pytest.raises(OSError, match="a node has sent a file with a path"):
        exchange.collect([Sent(name, "0" * 64, 1)], job, 1)


def test_a_full_store_says_so(exchange: Exchange, node: Run, job: Job, bucket: Store) -> None:
    luggage, there = of_job(exchange, node, job)
    bucket.faults.answer = ("507 Insufficient Storage", "QuotaExceeded", "Full.")
    with pytest.raises(OSError, match="the object store is full, or over its quota"):
        receiving.sent(luggage, there, left(there, LARGE[1:]))


def test_uploads_that_are_broken_off_are_made_again(
    exchange: Exchange, node: Run, job: Job, bucket: Store
) -> None:
    bucket.faults.share = 0.3
    luggage, there = of_job(exchange, node, job)
    told = receiving.sent(luggage, there, left(there))
    exchange.collect([Sent(**one) for one in told], job, 1)
    assert bucket.faults.told
    assert (Path(job.staging_dir) / "net.onnx").read_bytes() == LARGE


def test_a_trusted_folder_that_is_too_large_is_told_with_its_largest_files(
    exchange: Exchange, job: Job, zoo: Path
) -> None:
    (zoo / "video.bin").write_bytes(b"0" * (2 * MIB))
    with pytest.raises(RunError, match=rf"has 2 MiB, .*: {zoo}/video\.bin \(2 MiB\), .*pack_mb"):
        exchange.check([job])
