"""What is said of a source that is ONNX already: not of PyTorch, nor of code that nobody has.

The stages compare with "PyTorch" and advise its author. Here, where a result leaves the worker,
the reference side gets its name, and advice about code is replaced by what a user of a file can do.
"""

from __future__ import annotations

import re
from typing import TypeVar

from pydantic import BaseModel

from converter.model.errors import Code
from converter.model.job import Job
from converter.model.records import ErrorRecord, JobResult, OnnxInfo
from converter.worker.onnxfile import checking

_M = TypeVar("_M", bound=BaseModel)

# Our own phrases; names in a graph that happen to look alike stay.
_PHRASES = (
    (r"; whole numbers are exact: let forward return .*?(?=;|$)", "; whole numbers are exact"),
    (r"\bthe PyTorch model\b", "the original file"),
    (r"\bPyTorch(?='s (?:output|are)| gives| returns| is\b)", "the original file"),
    (r"\bforward(?= returns| takes| changes| keeps)", "the original file"),
    (r"\bthe original exporter wrote\b", "the file has"),
    (r"\bthe original export\b", "the file"),
)
_OF_CODE = re.compile(
    r"\bPyTorch\b|\bforward\b|\bexporters?\b|\bthe model's code\b|\bmodule\b|\btracing\b|"
    r"\btraced\b|\btrained weights\b|\bdropout\b|\btorch\b|\bthe model does not use it\b|"
    r"\bdynamic_axes\b|\boutputs` agree\b"
)
_INSTEAD = {
    Code.VERIFY_VACUOUS: "give inputs that the file responds to (inputs, verify.cases), or get a "
    "file with trained weights",
    Code.VERIFY_NONFINITE: "give inputs in the range that the file expects (fill, low, high)",
    Code.VERIFY_VALUE: "its numbers change with the opset or with ONNX Runtime's optimisations: "
    "leave out opset to keep the file's own",
    Code.DIM_SPECIALISED: "something inside the file fixes the size: get a file without it, or one "
    "whose axis is a number",
    Code.INPUT_DROPPED: "nothing in the file uses it: remove the input",
    Code.NONDETERMINISTIC: "the file has a random operator: get one exported in eval mode",
    Code.OUTPUT_STRUCTURE: "make `inputs` and `outputs` agree with the file",
    Code.CHECKER: "the file is invalid: get it again from its source; where opset is stated, leave "
    "it out to keep the file's own",
}
_OTHERWISE = "something inside the file causes it: get the file again from its source"


def of_result(result: JobResult, job: Job) -> JobResult:
    """The result, in words that fit the job's source."""
    if job.source.kind != "onnx":
        return result
    stages = {
        name: _changed(stage, warnings=[said(text) for text in stage.warnings])
        for name, stage in result.stages.items()
    }
    attempts = [
        _changed(attempt, message=said(attempt.message)) for attempt in result.attempts_by_exporter
    ]
    return result.model_copy(
        update={
            "error": _error(result.error),
            "stages": stages,
            "attempts_by_exporter": attempts,
            "verify": _changed(result.verify, reason=said(result.verify.reason)),
            "onnx": _onnx(result.onnx),
        }
    )


def said(text: str | None) -> str | None:
    """A sentence of ours, with the reference side called by its name."""
    for phrase, instead in _PHRASES if text else ():
        text = re.sub(phrase, instead, str(text))
    return text


def _error(error: ErrorRecord | None) -> ErrorRecord | None:
    if error is None:
        return None
    hint = error.hint
    # What is said while a source or a provider starts is meant for its user already.
    of_code = _OF_CODE.search(hint) or hint == checking.OTHER_OPSET
    if error.stage not in ("load", "benchmark") and of_code:
        hint = _INSTEAD.get(error.code, _OTHERWISE)
    return _changed(error, message=said(error.message), hint=hint)


def _onnx(info: OnnxInfo | None) -> OnnxInfo | None:
    if info is None or info.simplify is None:
        return info
    why = said(info.simplify.reverted_reason)
    return _changed(info, simplify=_changed(info.simplify, reverted_reason=why))


def _changed(record: _M, **changes: object) -> _M:
    return record.model_copy(update=changes)
