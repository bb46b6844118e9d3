"""Settle who is slower: time the baseline's files again beside the new ones, one pair at a time.

Each pair runs in a supervised process with the machine to itself: a file that crashes or hangs
costs its own verdict only. On a cluster that machine is the node that the latency was taken on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from converter.compare.latency import Remeasured, Suspect
from converter.config import standard
from converter.finalize.baseline import Baseline
from converter.layout import delivery, environment, files
from converter.model.batch import BatchSpec
from converter.model.inputs import InputSpec
from converter.model.job import Job, asked
from converter.model.manifest import ArtifactRow
from converter.model.measure import PairedBenchmark
from converter.model.records import JobResult, NodeInfo
from converter.plugins import executors
from converter.plugins.executors import Executor, Finished

_NO_TIME = "the run had to end"
_PAIR_S = 60.0  # loading large files may take longer than timing them


def remeasure(
    suspects: Sequence[Suspect],
    old: Baseline,
    new: Baseline,
    budget_s: float,
    stopped: Callable[[], bool],
    spec: BatchSpec | None = None,
) -> dict[str, Remeasured]:
    """Time suspects again until the budget is used up.

    Args:
        stopped: whether the user has cancelled.
        spec: of the run, whose executor may reach other machines; ``None``: there is this one.

    Returns:
        By ``Suspect.key``, for every suspect.
    """
    end = time.monotonic() + budget_s
    found = {}
    for suspect in suspects:
        if stopped():
            found[suspect.key] = Remeasured(reason=_NO_TIME)
        # Looked at between pairs only: each has a limit of its own (`_PAIR_S`).
        elif time.monotonic() >= end:
            reason = f"compare.remeasure_budget_s ({budget_s:g} s) was used up by slower models"
            found[suspect.key] = Remeasured(reason=reason)
        else:
            found[suspect.key] = _remeasured(suspect, old, new, stopped, spec)
    return found


def _remeasured(
    suspect: Suspect,
    old: Baseline,
    new: Baseline,
    stopped: Callable[[], bool],
    spec: BatchSpec | None,
) -> Remeasured:
    executor = _executor(suspect.after.node, spec)
    if isinstance(executor, str):
        return Remeasured(reason=executor)
    before, after = _row(suspect.label, old), _row(suspect.label, new)
    for row, run in ((before, old), (after, new)):
        # A verdict on other bytes than those that were measured would be about another file.
        for file in row.files:
            path = run.directory / file.path
            if not path.is_file() or files.sha256(path) != file.sha256:
                return Remeasured(reason=f"{path} is gone or is not the file of that run")
    # That of the model for a variant too: it has the inputs and the options of providers.
    job = new.directory / delivery.MODELS / suspect.model / delivery.JOB
    try:
        # The run directory is what a node has in common with this machine.
        above = new.directory if suspect.after.node is not None else None
        with tempfile.TemporaryDirectory(prefix=".converter-compare-", dir=above) as folder:
            recorded = Job.model_validate_json(job.read_bytes())
            changed = {
                "inputs": _inputs(recorded, _source(after, new), suspect),
                "threads": suspect.after.threads or environment.cores(),
                "model_dir": folder,
                "staging_dir": str(Path(folder) / delivery.STAGING),
                "baseline_file": _path(before, old),
                "baseline_source": _path(_source(before, old), old),
                "file": _path(after, new),
                "source_file": _path(_source(after, new), new),
                "provider": suspect.after.provider,
            }
            pair = PairedBenchmark.model_validate({**asked(recorded), **changed})
            return _run(pair, executor, stopped)
    # The job may be gone, or of another version: the manifests alone decide then.
    except (OSError, ValidationError) as error:
        return Remeasured(reason=str(error).splitlines()[0])


def _executor(node: NodeInfo | None, spec: BatchSpec | None) -> Executor | str:
    """What times a pair on the machine of a latency; text: why nothing can."""
    if node is not None and spec is not None:
        limited = spec.executor.model_copy(update={"timeout_s": _PAIR_S})
        there = spec.benchmark.model_copy(update={"nodes": [node.id]})
        if (alone := executors.alone(limited, there)) is not None:
            return alone
    if node is not None:
        here = environment.collect({})
        gpus = {gpu.name for gpu in here.gpus}
        if (node.cpu, node.cores) != (here.cpu, here.cores) or not gpus.issuperset(node.gpus):
            return f"its latency was taken on {node.name}, which this machine is not like"
    return executors.create(standard.executor(workers=1, retries=0, timeout_s=_PAIR_S))


def _run(pair: PairedBenchmark, executor: Executor, stopped: Callable[[], bool]) -> Remeasured:
    with closing(executor.run([pair])) as events:
        for event in events:
            # Leaving closes the events, and that ends the process of the pair.
            if stopped():
                return Remeasured(reason=_NO_TIME)
            if isinstance(event, Finished):
                return _verdict(event.result)
    raise AssertionError("unreachable: an executor gives a result for each job")


def _verdict(result: JobResult) -> Remeasured:
    if result.error is not None:
        return Remeasured(reason=f"{result.error.code}: {result.error.message}")
    before, after = result.latency
    return Remeasured(before, after)


def _row(label: str, run: Baseline) -> ArtifactRow:
    (row,) = [row for row in run.manifest.rows if row.label == label]
    return row


def _source(row: ArtifactRow, run: Baseline) -> ArtifactRow:
    """The row of the ONNX file that says what a file takes and gives: its own, or its parent's."""
    return row if row.onnx is not None else _row(row.name, run)


def _path(row: ArtifactRow, run: Baseline) -> str:
    return str((run.directory / row.files[0].path).absolute())


def _inputs(job: Job, row: ArtifactRow, suspect: Suspect) -> dict[str, InputSpec]:
    """What to feed: the job's inputs in the shapes that were measured, parameters as declared."""
    inputs = {}
    for tensor in row.onnx.inputs if row.onnx else []:
        declared = job.inputs.get(tensor.name)
        shape = suspect.after.shapes.get(tensor.name)
        if declared is not None:
            # Of the file, not of the job: a float16 variant may take its inputs in float16.
            changed = {"dtype": tensor.dtype, **({"shape": shape} if shape else {})}
            inputs[tensor.name] = declared.model_copy(update=changed)
        else:
            sizes = shape or [size if isinstance(size, int) else 1 for size in tensor.shape]
            inputs[tensor.name] = InputSpec.model_validate({"shape": sizes, "dtype": tensor.dtype})
    return inputs
