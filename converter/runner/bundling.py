"""A file of a run as a folder to hand on: model, test data, a check, and what it is."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from converter.layout import delivery, files, runfiles
from converter.model.artifact import ONNX
from converter.model.errors import ConfigError, Problem, RunError
from converter.model.job import Bundle, Job
from converter.model.markup import cell, code, prose
from converter.model.records import JobResult, ProviderVerdict, TensorInfo
from converter.plan import packages
from converter.runner import newfolder, rechecking
from converter.runner.recorded import published, recorded_job, recorded_result

README = "README.md"
# Those that a reader of the folder asks about; `packages` has all that decide a file.
_QUANTISED = (
    "It is quantised, and was judged by its signal as a whole: an element may be off by twice the "
    "largest error that it had."
)
_FOLDERS = re.compile(r"(?<![\w/…])/(?:[^/\s\"']+/)+")
_TOLD = ("converter", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")


@dataclass(frozen=True)
class Bundled:
    """What came of it.

    Attributes:
        folder: where it is, if the result is ok.
        log: the last lines of the log of its job.
    """

    folder: Path
    result: JobResult
    log: list[str]


def bundle(run: Path, name: str, folder: Path) -> Bundled:
    """Verify a published file once more and lay it out in a folder, which appears whole.

    Args:
        name: a model of the run, or ``NAME/ARTIFACT``.
        folder: a new or an empty one.

    Raises:
        ConfigError: there is no such run, model or file, or the folder is in use.
        RunError: nothing can be written beside the folder.
    """
    job = recorded_job("bundle", run, name)
    if job.format != ONNX:
        hint = f"Its cases are those of {job.name}: python -m converter bundle {run} {job.name}"
        message = f"bundles are of ONNX files; {name} is {job.format}."
        raise ConfigError(Problem("bundle", message, hint))
    file = published("bundle", run, name, _why_none(run, name))
    newfolder.refuse_used("bundle", folder)
    folder = folder.absolute()
    try:
        # Beside it: a rename is whole, a copy from another disk is not.
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converter-", dir=folder.parent) as scratch:
            work = Path(scratch)
            found = rechecking.recheck(Bundle, run, job, file, work)
            result = found.result
            if result.error is None:
                made = work / delivery.STAGING / Bundle.FOLDER
                newfolder.check(made, result)
                (made / README).write_text(_readme(run, job, result), encoding="utf-8")
                files.fsync(made / README)
                newfolder.install(made, folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error
    return Bundled(folder, result, found.log)


def _why_none(run: Path, name: str) -> str:
    """Why a model of a run has no file."""
    result = recorded_result(run, name)
    if result is None:
        return ""
    if result.error is None and result.status == "ok":
        return "It was made, and is gone: run the model again."
    if result.error is None:
        return f"It is {result.status}."
    error = result.error
    return f"It is {result.status}: {error.code}: {error.message}"


def _readme(run: Path, job: Job, result: JobResult) -> str:
    """What the folder is, for somebody who has nothing else."""
    sets = {part.path.split("/")[0] for part in result.files if "/" in part.path}
    samples = "one sample" if len(sets) == 1 else f"{len(sets)} samples"
    hashes = [
        f"| {cell(code(part.path))} | {part.bytes} | `{part.sha256}` |" for part in result.files
    ]
    blocks = [
        [f"# {job.label}"],
        [f"An ONNX model, and what {_judge(job)} gives for {samples} (`test_data_set_*`)."],
        ["```sh", "pip install 'numpy>=2' onnx onnxruntime", "python check.py", "```"],
        ["Exit code 0: ONNX Runtime gives the same here. Else the message says where it differs."],
        ["## What it is"],
        [f"- {line}" for line in _facts(run, job)],
        ["## Tolerance"],
        ["An element is right where `|onnx - torch| <= atol + rtol * |torch|`."],
        [
            "| sample | output | atol | rtol | largest error when it was made |",
            "|---|---|---|---|---|",
            *_tolerances(result),
        ],
        [f"The file was verified on {len(result.verify.cases)} samples in all."],
        [_QUANTISED] if result.accuracy is not None else [],
        ["## Files"],
        ["| file | bytes | SHA-256 |", "|---|---|---|", *hashes],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _judge(job: Job) -> str:
    # Of a file that is ONNX already there is no PyTorch.
    return "the source file" if job.source.kind == "onnx" else "PyTorch"


def _facts(run: Path, job: Job) -> list[str]:
    made = recorded_result(run, job.label)
    try:
        then = runfiles.read(run)
    except (OSError, ValidationError):
        then = None
    facts = [f"source: {code(_source(job))}, in {job.training} mode"]
    if made is not None and made.onnx is not None:
        opsets = ", ".join(f"{domain} {version}" for domain, version in made.onnx.opsets.items())
        facts.append(f"opset: {opsets} (IR version {made.onnx.ir_version})")
        facts.append(f"exporter: {made.onnx.exporter}, producer {prose(made.onnx.producer)}")
        facts += [f"input: {_tensor(one)}" for one in made.onnx.inputs]
        facts += [f"output: {_tensor(one)}" for one in made.onnx.outputs]
    if made is not None:
        facts += [_wrong(one) for one in made.verify.providers if one.status == "failed"]
    if then is not None:
        folder = ["--config-dir", then.run.config_dir] if then.run.config_dir else []
        words = shlex.join(["python", "-m", "converter", *folder, *then.run.overrides])
        facts.append(f"made by: {code(words, None)}, {then.run.started_at[:10]}")
        facts.append(f"made with: {_versions(then.environment.packages)}")
    facts.append(f"checked with: {_versions(packages.versions())}")
    return facts


def _wrong(verdict: ProviderVerdict) -> str:
    """What another runtime makes of the same file: for its maintainers."""
    where = verdict.version or verdict.provider
    # Of a crash the reason quotes the log, which has folders of this machine.
    reason = _FOLDERS.sub("…/", verdict.reason or "")
    return f"**wrong on {prose(where)}**: {verdict.code}: {prose(reason)}"


def _source(job: Job) -> str:
    """Without folders of this machine: the folder is for others."""
    source = job.source
    if source.path is None:
        return str(source)
    name = f":{source.name}" if source.name else ""
    return f"{source.kind}:{Path(source.path).name}{name}"


def _tensor(info: TensorInfo) -> str:
    shape = "×".join("?" if size is None else str(size) for size in info.shape)
    return f"{code(info.name)}, {info.dtype}, {prose(shape) or 'a scalar'}"


def _versions(found: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {found[name]}" for name in _TOLD if found.get(name))


def _tolerances(result: JobResult) -> Iterator[str]:
    cases = result.verify.cases
    for number, place in enumerate(Bundle.samples([case.label for case in cases])):
        for output in cases[place].outputs:
            worst = "-" if output.max_abs is None else f"{output.max_abs:.2g}"
            rtol, atol = Bundle.bound(output, quantised=result.accuracy is not None)
            bound = f"{atol:.2g} | {rtol:.2g}"
            yield f"| `test_data_set_{number}` | {cell(code(output.name))} | {bound} | {worst} |"
