"""Where the file of a job begins to be wrong: load → reference → export → … → verify → publish.

The job is done again up to the wrong file. Then all values of its graph are held against those of
the computation that is right: PyTorch's own, operator by operator, or where the simplifier is at
fault the graph that it was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx
import torch
from onnx import ModelProto

from converter.layout import files
from converter.model.errors import Code, StageError
from converter.model.job import Debug, Job
from converter.model.records import ErrorRecord, FileInfo, JobResult, VerifyRecord
from converter.worker.debug import eager, inside, minimal, search
from converter.worker.debug.values import USUAL, Known, Value, distance, form
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking, publishing, simplification
from converter.worker.pipeline import pipeline
from converter.worker.pipeline.pipeline import Emit
from converter.worker.recording.stages import Recorder, StageFailedError
from converter.worker.reference import preparing, reference
from converter.worker.reference.reference import Reference, References
from converter.worker.runtime import custom_ops
from converter.worker.sources import loading
from converter.worker.sources.loading import Loaded
from converter.worker.verify import verification
from converter.worker.verify.verification import Verdict


@dataclass
class _Found:
    """What has been found out so far; it outlives the stage that fails."""

    files: list[FileInfo] = field(default_factory=list)
    verify: VerifyRecord = field(default_factory=VerifyRecord)


@custom_ops.loaded
def run(job: Debug, emit: Emit) -> JobResult:
    """Find the first wrong node, and write what shows it.

    Returns:
        A result whose files are those of the folder ``Debug.FOLDER``, by their paths in it; none
        where the file is right.
    """
    torch.set_num_threads(job.threads)
    recorder = Recorder(job, emit, loading.describe)
    found = _Found()
    error: ErrorRecord | None = None
    try:
        _run(job, recorder, found)
    except StageFailedError as failed:
        error = failed.error
    return JobResult(
        name=job.name,
        artifact=job.artifact,
        status="ok" if error is None else "failed",
        error=error,
        stages=recorder.records,
        files=found.files,
        verify=found.verify,
    )


def _run(job: Debug, recorder: Recorder, found: _Found) -> None:
    with recorder.stage("load"):
        loaded, complete = preparing.load(job)
    with recorder.stage("reference"):
        references = reference.compute(loaded, complete)
        complete = references.of_job(pipeline.named(complete, references))
    folder = Path(job.staging_dir) / "again"
    with recorder.stage("export"):
        exporter = job.exporters[0]
        values = pipeline.parameters(loaded, complete)
        raw = folder / "raw.onnx"
        pipeline.export(exporter, loaded, references, complete, raw)
    with recorder.stage("check"):
        model = checking.exported(raw, complete, references.cases)
        checking.check(model, complete, exporter, set(values))
        del model
    with recorder.stage("verify") as notes:
        wrong = verification.verify(raw, references, complete, parameters=values)
        found.verify = wrong.record
        against, told = "PyTorch", wrong
        other: ModelProto | None = None
        if wrong.error is None and complete.simplifier is not None:
            other = onnx.load(raw)
            told = _simplified(complete, references, folder, values)
            found.verify = told.record
            against = f"the graph before {complete.simplifier}"
            raw = folder / "simplified.onnx"
        if told.error is None or told.failed is None:
            notes.append("the file is right on all cases")
            return
        guilty = _search(raw, other, loaded, complete, told.failed, values, folder)
    with recorder.stage("publish"):
        found.files = _write(job, guilty, told, against)


def _simplified(
    job: Job, references: References, folder: Path, values: dict[str, Array]
) -> Verdict:
    """The verdict on the simplified file, which is written beside the export."""
    model = checking.exported(folder / "raw.onnx", job, references.cases)
    done = simplification.simplify(
        model, str(job.simplifier), job.simplifier_options, set(), folder
    )
    path = folder / "simplified.onnx"
    publishing.save(done.model or model, path, job.export, {}, folder)
    return verification.verify(path, references, job, parameters=values)


@dataclass(frozen=True)
class _Searched:
    model: ModelProto
    guilty: search.Guilty
    values: dict[str, Array]
    constants: set[str]
    case: Reference
    left_out: int


def _search(
    path: Path,
    other: ModelProto | None,
    loaded: Loaded,
    job: Job,
    case: Reference,
    parameters: dict[str, Array],
    folder: Path,
) -> _Searched:
    """Where a file begins to differ, on a case that shows it.

    Raises:
        StageError: VERIFY_VALUE, where no node does by itself.
    """
    model = onnx.load(path)
    feeds = {**case.inputs, **parameters}
    constants = inside.constants(model)
    try:
        found = inside.values(model, feeds, folder, threads=job.threads)
    except inside.StoppedError as stopped:
        if stopped.node is None:
            raise StageError(Code.SESSION, str(stopped)) from stopped
        node, why = stopped.node, str(stopped)
        guilty = search.Guilty(node, [node], "", None, float("inf"), 0.0, stops=why)
        return _Searched(model, guilty, feeds, constants, case, 0)
    if other is None:
        recording = eager.record(loaded, job, case.inputs)
        known, left_out, outputs = recording.values, recording.left_out, case.outputs
    else:
        right = inside.values(other, feeds, folder, threads=job.threads)
        known, left_out = _of_graph(right), 0
        outputs = [right[info.name] for info in other.graph.output]
    guilty = _judge(model, found, constants | {*feeds}, known, outputs)
    return _Searched(model, guilty, {**feeds, **found}, constants, case, left_out)


def _of_graph(values: dict[str, Array]) -> list[Value]:
    floats = [(name, array) for name, array in values.items() if array.dtype.kind == "f"]
    return [Value(number, name, "", array) for number, (name, array) in enumerate(floats)]


def _judge(
    model: ModelProto,
    found: dict[str, Array],
    given: set[str],
    known: list[Value],
    outputs: list[Array],
) -> search.Guilty:
    wanted = {info.name: array for info, array in zip(model.graph.output, outputs, strict=True)}
    errors = {name: distance(found[name], array) for name, array in wanted.items()}
    bound = search.tolerance([*errors.values()], USUAL)
    off = [name for name, error in errors.items() if error > bound]
    # Where numbers are wrong, shapes follow: they alone are looked at where no number is.
    formed = [name for name, array in wanted.items() if form(found[name]) != form(array)]
    wrong = search.guilty(
        model.graph, found, given, Known(known, bound), off or formed, by_form=not off
    )
    if wrong is None:
        raise StageError(
            Code.VERIFY_VALUE,
            f"no node makes the outputs that are wrong ({', '.join(off) or 'none here'})",
            "an output that is an input or a constant of the graph, or an error that is no greater "
            "than rounding, has no node to be blamed",
        )
    return wrong


def _write(job: Debug, found: _Searched, verdict: Verdict, against: str) -> list[FileInfo]:
    folder = Path(job.staging_dir) / job.FOLDER
    folder.mkdir()
    error = verdict.error
    assert error is not None, "there is something to show"
    if against == "PyTorch":
        against = f"PyTorch {torch.__version__}, operator by operator"
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in found.case.inputs.items())
    told = minimal.Told(
        model=f"{job.label} ({job.exporters[0]}, opset {job.opset})",
        case=f"{found.case.case.label} ({shapes})",
        verdict=f"{error.code}: {error.message}",
        against=against,
        left_out=found.left_out,
    )
    names = minimal.write(folder, found.model, found.guilty, found.values, found.constants, told)
    return [
        FileInfo(path=name, bytes=path.stat().st_size, sha256=files.sha256(path))
        for name, path in ((name, folder / name) for name in names)
    ]
