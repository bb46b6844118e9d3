"""Make one artifact from another one that is there: load → derive → check → verify → publish.

The plugin makes files. Everything that says whether they are right is the same code as for the
file that they are made from, on the same cases.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto

from converter.layout.files import sha256
from converter.model.errors import Code, StageError
from converter.model.job import (
    CheckRecord,
    Derived,
    ErrorRecord,
    FileInfo,
    JobResult,
    OnnxInfo,
    VerifyRecord,
)
from converter.plugins import loader, variants
from converter.worker.onnxfile import checking, publishing, structure
from converter.worker.pipeline import onnx_wording
from converter.worker.pipeline.pipeline import Emit
from converter.worker.recording import isolation, opening
from converter.worker.recording.stages import OnError, Recorder, StageFailedError
from converter.worker.reference import kept
from converter.worker.reference.kept import Kept
from converter.worker.reference.reference import References
from converter.worker.runtime import custom_ops
from converter.worker.sources import data, loading
from converter.worker.verify import conclusion, domain, mutation, precision, real, verification
from converter.worker.verify.verification import Verdict

_ELSEWHERE = "the plugin of a variant may write into its own folder only"
_IN_THE_LOG = "the log has the rest"
# The limits of the job count its children: these only keep the numbers finite.
_LONGEST_S, _MOST_BYTES = 7 * 86400.0, 1 << 45


@dataclass
class _Done:
    """What has been found out so far; it outlives the stage that fails."""

    check: CheckRecord = field(default_factory=CheckRecord)
    verify: VerifyRecord = field(default_factory=VerifyRecord)
    files: list[FileInfo] = field(default_factory=list)
    onnx: OnnxInfo | None = None


@custom_ops.loaded
def run(job: Derived, emit: Emit, on_error: OnError | None = None) -> JobResult:
    """Make and prove one artifact.

    Returns:
        The result; its files lie in ``job.staging_dir``, paths relative to that.
    """
    torch.set_num_threads(job.threads)
    recorder = Recorder(job, emit, loading.describe, on_error)
    done = _Done()
    error: ErrorRecord | None = None
    try:
        _run(job, recorder, done)
    except StageFailedError as failed:
        error = failed.error
    check = CheckRecord.of(recorder.records)
    result = JobResult(
        name=job.name,
        artifact=job.artifact,
        status="ok" if error is None else "oom" if error.code is Code.MEM_LIMIT else "failed",
        error=error,
        stages=recorder.records,
        files=done.files,
        onnx=done.onnx,
        check=done.check.model_copy(update={"status": check.status}),
        verify=done.verify,
    )
    return onnx_wording.of_result(result, job)


def _run(job: Derived, recorder: Recorder, done: _Done) -> None:
    final = Path(job.staging_dir) / job.target
    with recorder.stage("load"):
        _unchanged(job)
        custom_ops.require(job)
        found = kept.read(Path(job.references), job)
        # With inputs and outputs of the types that the variant declares.
        references = precision.asked_of(found.references, job)
        asked = found.job
        metric = data.metric(job)
    with recorder.stage("derive"):
        _make(job, final)
        # Once more: a plugin that writes into its parent's folder would be compared with itself.
        _unchanged(job)
    with recorder.stage("check"):
        model = checking.load(final)
        # With the parent's request: a variant keeps opset, names and axes.
        checking.check(model, asked, job.plugin, set(), job.precision)
        done.check = precision.check(model, job)
    with recorder.stage("verify"):
        graph = structure.read(final)
        del model  # the session holds its own copy of the weights
        verdict = _verdict(final, job.parent_file, graph, found, references)
        verdict = real.judged(verdict, final, references, asked, {}, metric)
        done.verify = verdict.record
        if verdict.error is not None:
            raise verdict.error
        if job.verify.mutations:
            folder = Path(job.staging_dir) / "damaged"
            folder.mkdir()
            verdict = mutation.prove(final, verdict, references, asked, {}, folder)
            done.verify = verdict.record
            shutil.rmtree(folder)
            if verdict.error is not None:
                raise verdict.error
    with recorder.stage("publish"):
        done.files = publishing.seal(final, graph)
        done.onnx = publishing.described(graph, job, job.plugin, None)


def _unchanged(job: Derived) -> None:
    """Raise where the parent, or what was kept of it, is not what the runner hashed."""
    parent, references = Path(job.parent_file), Path(job.references)
    wanted = {parent.parent / name: wanted for name, wanted in job.parent_files.items()}
    for path, expected in {**wanted, references: job.references_sha256}.items():
        if not path.is_file() or sha256(path) != expected:
            raise StageError(
                Code.INPUT_CHANGED,
                f"{path.name} of {job.parent} is not the file that was verified",
                f"nothing may write there; if the plugin {job.plugin} does, it is at fault",
            )


def _make(job: Derived, final: Path) -> None:
    """Have the plugin write its files, and nothing else, and take them over.

    It is imported and called in a child: what it changes in memory, in the libraries that judge
    its file too, goes with that.

    Raises:
        StageError: DERIVE.
    """
    staging = Path(job.staging_dir)
    folder = staging / "made"
    folder.mkdir()
    # Not the staging folder itself: what stands there after the call is exactly what the plugin
    # wrote.
    target = folder / final.name
    before = _seen(staging, Path(job.parent_file).parent)
    strays = _in_child(job, folder, target)
    after = _seen(staging, Path(job.parent_file).parent)
    strays += sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
    if strays:
        named = ", ".join(dict.fromkeys(Path(name).name for name in strays[:3]))
        raise StageError(Code.DERIVE, f"{job.plugin} wrote outside its folder: {named}", _ELSEWHERE)
    _take(job, target, staging)


def _in_child(job: Derived, folder: Path, target: Path) -> list[str]:
    """Call the plugin; the files that it opened for writing elsewhere.

    Raises:
        StageError: DERIVE, with what the plugin raised or how its process ended.
    """
    # In the staging folder, which goes at the end of the run also where this process is killed.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        told, log = Path(scratch) / "told.json", Path(scratch) / "log"

        def work() -> None:
            plugin = variants.load(job.plugin)
            refusal = None
            with _confined(folder, folder.parent / "tmp") as strays:
                try:
                    options = loader.options_of(plugin).model_validate(job.options)
                    plugin.derive(Path(job.parent_file), target, options)
                # By contract this is a plugin's way to say no; anything else is a defect of it.
                except ValueError as error:
                    refusal = " ".join(str(error).split()) or type(error).__name__
            told.write_text(json.dumps({"strays": strays, "refusal": refusal}))

        try:
            isolation.call(work, seconds=_LONGEST_S, memory_bytes=_MOST_BYTES, log=log)
        except isolation.ChildError as error:
            raise StageError(Code.DERIVE, f"{job.plugin}: {error}", _IN_THE_LOG) from error
        finally:
            if log.is_file():
                # Its messages belong in the log of the job, whatever became of it.
                sys.stderr.write(log.read_text(errors="replace"))
        # Exit code 0 without an answer: os._exit(0) in a plugin.
        if not told.is_file():
            raise StageError(Code.DERIVE, f"{job.plugin} ended its process", _IN_THE_LOG)
        found = json.loads(told.read_text())
    if found["refusal"] is not None:
        raise StageError(Code.DERIVE, f"{job.plugin}: {found['refusal']}")
    return list(found["strays"])


def _take(job: Derived, target: Path, staging: Path) -> None:
    """Move the files of a plugin out of its folder.

    Raises:
        StageError: DERIVE, where there are others than one file and its external data.
    """
    wanted = [target.name, f"{target.name}.data"]
    found = sorted(path.name for path in target.parent.iterdir())
    others = [name for name in found if name not in wanted]
    if target.name not in found:
        instead = f", but {', '.join(others[:3])}" if others else ""
        raise StageError(Code.DERIVE, f"{job.plugin} wrote no {target.name}{instead}")
    if others:
        raise StageError(
            Code.DERIVE,
            f"{job.plugin} wrote {', '.join(others[:3])} beside {target.name}",
            "a variant is one file, with its external data in FILE.data",
        )
    for name in found:
        path = target.parent / name
        # A link would be published in place of what it leads to.
        if path.is_symlink() or not path.is_file():
            raise StageError(Code.DERIVE, f"{job.plugin} left {name}, which is no plain file")
        os.rename(path, staging / name)
    target.parent.rmdir()


def _seen(*folders: Path) -> dict[str, tuple[int, int]]:
    """The files of folders, with their size and when they changed: native code tells nobody."""
    files = [path for folder in folders for path in folder.iterdir() if not path.is_dir()]
    found = {str(path): path.lstat() for path in files}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


@contextmanager
def _confined(folder: Path, temporary: Path) -> Iterator[list[str]]:
    """Within it files that Python opens for writing elsewhere are noted, and left in the list."""
    strays: list[str] = []
    allowed = [folder.resolve(), temporary.resolve(), Path("/dev"), Path("/proc")]

    def listener(event: str, arguments: tuple[Any, ...]) -> None:
        path = opening.written(event, arguments)
        # Python itself writes the bytecode of what a plugin imports.
        if path is None or "__pycache__" in path:
            return
        if not any(Path(path).is_relative_to(place) for place in allowed):
            strays.append(path)

    temporary.mkdir()
    # Libraries that plugins call may need temporary files: they get a place that goes away.
    before, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        with opening.listening(listener):
            yield strays
    finally:
        tempfile.tempdir = before
        shutil.rmtree(temporary, ignore_errors=True)


def _verdict(
    final: Path, parent: str, graph: ModelProto, found: Kept, references: References
) -> Verdict:
    """The verdict on the file, which says on what it was verified."""
    job = found.job
    verdict = verification.verify(final, references, job, graph=graph)
    verdict = precision.judged(verdict, final, Path(parent), references, job)
    verdict = _with_domain(conclusion.drawn(verdict, references, job), found)
    said = {entry.key: entry.value for entry in graph.metadata_props if entry.key == domain.KEY}
    return conclusion.told(verdict, {domain.KEY: "", **said}, final, references, job, {})


def _with_domain(verdict: Verdict, found: Kept) -> Verdict:
    """With what the parent's record says of the model's code, which nobody ran again."""
    record = verdict.record
    changes: dict[str, Any] = {}
    # The branches are those of the parent's references: a variant runs no code of the model.
    if record.domain is not None and found.domain is not None:
        parent = found.domain
        kept_ways = {"branches_seen": parent.branches_seen, "unreached": parent.unreached}
        changes["domain"] = record.domain.model_copy(update=kept_ways)
    if verdict.error is None:
        # Both records may say the same of the cases: each sentence stands once.
        said = [part for text in (found.reason, record.reason) if text for part in text.split("; ")]
        changes["reason"] = "; ".join(dict.fromkeys(said)) or None
    return replace(verdict, record=record.model_copy(update=changes))
