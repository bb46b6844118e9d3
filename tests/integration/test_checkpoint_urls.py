"""Checkpoints at a URL, from a server on loopback: downloaded once, hashed each time."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from website import Site

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.source import Checkpoint
from converter.plan.keys import Keys
from converter.storage import downloads
from converter.worker.sources import loading, weights

pytestmark = pytest.mark.integration
NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
"""


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    path = tmp_path / "made.pth"
    torch.save({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, path)
    return path.read_bytes()


def at(site: Site, sha256: str, name: str = "net.pth") -> Checkpoint:
    return Checkpoint(checkpoint=f"{site.address}/{name}", sha256=sha256)


def test_it_is_downloaded_once_and_fits_as_a_file_does(site: Site, content: bytes) -> None:
    site.answers["/net.pth"] = [(200, content)]
    digest = hashlib.sha256(content).hexdigest()
    for _ in range(2):
        module = nn.Linear(3, 2)
        assert weights.load_checkpoint(module, at(site, digest)) == digest
        assert torch.equal(module.weight, torch.ones(2, 3))
    assert site.asked == {"/net.pth": 1}


def test_many_jobs_at_once_download_it_once(site: Site, content: bytes) -> None:
    site.answers["/net.pth"] = [(200, content)]
    digest = hashlib.sha256(content).hexdigest()
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(downloads.fetched, [f"{site.address}/net.pth"] * 8, [digest] * 8))
    assert {path.read_bytes() for path in paths} == {content}
    assert site.asked == {"/net.pth": 1}


def test_one_that_is_damaged_here_is_downloaded_again(site: Site, content: bytes) -> None:
    site.answers["/net.pth"] = [(200, content)]
    digest = hashlib.sha256(content).hexdigest()
    path = downloads.fetched(f"{site.address}/net.pth", digest)
    path.write_bytes(content[::-1])
    assert downloads.fetched(f"{site.address}/net.pth", digest).read_bytes() == content
    assert site.asked == {"/net.pth": 2}


def test_what_a_server_does_once_is_no_failure(site: Site, content: bytes) -> None:
    cut = content[:100]
    site.answers["/net.pth"] = [(503, b"busy"), (206, cut), (200, content)]
    digest = hashlib.sha256(content).hexdigest()
    weights.load_checkpoint(nn.Linear(3, 2), at(site, digest))
    assert site.asked == {"/net.pth": 3}


def test_another_file_is_refused_and_not_kept(site: Site, content: bytes) -> None:
    site.answers["/net.pth"] = [(200, content + b" ")]
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(StageError, match="is not the checkpoint that was promised") as caught:
        weights.load_checkpoint(nn.Linear(3, 2), at(site, digest))
    assert caught.value.code is Code.WEIGHTS_FORMAT
    assert [path.name for path in (downloads.folder() / digest).iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("name", "said"), [("gone.pth", "Not Found"), ("broken.pth", "Internal Server Error")]
)
def test_what_does_not_come_says_so(site: Site, name: str, said: str) -> None:
    site.answers["/broken.pth"] = [(500, b"")]
    with pytest.raises(
        StageError, match=f"weights.checkpoint: cannot download {site.address}/{name}: {said}"
    ) as found:
        weights.load_checkpoint(nn.Linear(3, 2), at(site, "0" * 64, name))
    assert found.value.code is Code.WEIGHTS_DOWNLOAD
    assert site.asked == {f"/{name}": 3 if name == "broken.pth" else 1}


def test_its_job_has_the_key_of_one_with_the_file_and_reads_nothing_else(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NET)
    path = tmp_path / "net.pth"
    state = {"linear.weight": torch.ones(2, 3), "linear.bias": torch.zeros(2)}
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    site.answers["/net.pth"] = [(200, path.read_bytes())]
    digests = []
    for stated in (at(site, digest), Checkpoint(checkpoint=str(path))):
        job = Job.model_validate(
            {
                "name": "net",
                "source": {"file": str(tmp_path / "net.py"), "name": "Net"},
                "weights": stated,
                "inputs": {},
                "opset": 17,
                "exporters": ["torchscript"],
                "trust": [str(tmp_path)],
                "model_dir": str(tmp_path / "models"),
                "staging_dir": str(tmp_path / "staging"),
            }
        )
        digests.append(Keys({}, []).of(job).digest)
        for _ in range(2):  # downloaded, and found
            found = loading.load(job)
            found.reading.stop()
            assert found.weights_sha256 == digest
            names = {Path(one).name for one in found.reading.files()}
            assert names - {"net.py"} == ({"net.pth"} if not stated.is_url else set())
    assert digests[0] == digests[1]
