"""A writer of its own process: lines of a published index, and entries of a store.

python -m tests.storage.writer URL NAME STEPS FOLDER: it prints a line for each step that is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

from converter.cache.remote import RemoteStore
from converter.finalize.prefix import Prefix
from converter.finalize.zoo_index import Entry, Provenance
from converter.model.job import Job
from converter.model.records import FileInfo, JobResult
from converter.plan.keys import JobKey
from converter.storage import location
from converter.storage.location import Url
from converter.storage.objects import Objects, opened
from tests.unit.test_runner import make_plan, ok, sha256

ZOO, STORE = "zoo", "store"
SHARED = 2  # writers that build the same entry at the same time


def line_of(name: str) -> Entry:
    """A model of the index."""
    made = Provenance(run_id=name, experiment="zoo", at="", source=name, exporter="", packages={})
    return Entry(
        path=f"{name}/0/{name}.onnx",
        bytes=1,
        sha256="0" * 64,
        opset=17,
        inputs=[],
        outputs=[],
        provenance=made,
        verified_by=name,
        verified_at="",
    )


def entry_of(job: Job, number: int, folder: Path) -> tuple[JobKey, JobResult]:
    """An entry with a file that is its own; the same number gives the same one."""
    content = f"the file of entry {number}".encode() * 100
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.onnx").write_bytes(content)
    file = FileInfo(path="a.onnx", bytes=len(content), sha256=sha256(content))
    return JobKey({"number": number}, {}), ok(job).model_copy(update={"files": [file]})


def main(url: str, name: str, steps: int, folder: Path) -> None:
    place = location.parse(url)
    assert isinstance(place, Url)
    patient = Objects(place / ZOO, opened(place)._driver, tries=12)
    target, store = Prefix(patient), RemoteStore(Objects(place / STORE, patient._driver, 12))
    job, number = make_plan(folder, "a").jobs[0], int(name)
    for step in range(steps):
        if step % 2 == 0:
            line = f"w{number}-{step}"
            entry = line_of(line)
            target.change(target.read(), lambda index, a=line, b=entry: index.having(a, b))
            print("line", line, flush=True)
        else:
            shared = number // SHARED * 10_000 + step
            key, result = entry_of(job, shared, folder / "files")
            store.put(job, key, result, folder / "files", None)
            print("entry", key.digest, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
