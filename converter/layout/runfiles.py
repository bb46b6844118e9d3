"""The files in which a run tells what it did: its manifest, and the rows that are done."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from converter.layout import files
from converter.model import version_1
from converter.model.manifest import Manifest, ModelRecord, counts, models_of
from converter.model.records import JobResult

MANIFEST = "manifest.json"
RESULTS = "results.jsonl"


def write(manifest: Manifest, directory: Path) -> None:
    """Put ``manifest.json`` into the run directory, whole or not at all."""
    files.write_atomic(directory / MANIFEST, manifest.model_dump_json(indent=2), "\n")


def read(path: Path) -> Manifest:
    """Read a manifest from its file or its run directory."""
    text = (path / MANIFEST if path.is_dir() else path).read_bytes()
    return Manifest.model_validate_json(version_1.manifest(text))


def with_partial_results(found: Manifest, directory: Path) -> Manifest:
    """A manifest with the models that its run had finished when it was killed."""
    # A run that came to its end wrote its manifest last: nothing in `results.jsonl` is newer.
    if found.run.finished_at is not None:
        return found
    done = {row.label: row for model in last_rows(directory).values() for row in model.rows}
    models = models_of(done.get(row.label, row) for row in found.rows)
    run = found.run.model_copy(update={"counts": counts(models)})
    return found.model_copy(update={"models": models, "run": run})


def last_rows(directory: Path) -> dict[str, ModelRecord]:
    """The last record of each model in ``results.jsonl``; a torn line is none."""
    rows = {}
    try:
        # Bytes: as text, `splitlines` would also divide at a U+2028 within a line.
        lines = (directory / RESULTS).read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            # A kill while a line was written leaves half of it. `resume` writes the file anew
            # before it appends, so that no line is ever joined to a torn one.
            row = ModelRecord.model_validate_json(version_1.model(line))
        except ValidationError:
            continue
        # Later lines win: phase 2 appends a model again, with its latency.
        rows[row.name] = row
    return rows


def read_result(path: Path) -> JobResult:
    """What became of a job, from its ``result.json``.

    Raises:
        OSError: it cannot be read.
        ValidationError: it is none.
    """
    return JobResult.model_validate_json(version_1.result(path.read_bytes()))


def append_result(directory: Path, row: ModelRecord) -> None:
    """Append one finished row to ``results.jsonl`` and force it to the disk."""
    # One line for each record, so that a reader of a file that is still written can use all but the
    # last.
    data = memoryview(row.model_dump_json().encode() + b"\n")
    descriptor = os.open(directory / RESULTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        while data:  # a full disk first shortens a write, and refuses the next one
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
