"""Of several exporters' failures of one model: which one its row shows, and how the rest is told.

Used where the failures meet: in one process by the pipeline, over several by the executor.
"""

from __future__ import annotations

from collections.abc import Sequence

from converter.model.errors import Code
from converter.model.records import STAGES, ErrorRecord, ExporterAttempt

# A file was made and is wrong, or the line is named that has to change.
_TELLING = {
    Code.VERIFY_VALUE,
    Code.VERIFY_SHAPE,
    Code.VERIFY_NONFINITE,
    Code.VERIFY_VACUOUS,
    Code.VERIFY_UNREACHED,
    Code.ACCURACY,
    Code.INPUT_DROPPED,
    Code.INPUT_MUTATED,
    Code.DIM_SPECIALISED,
    Code.TRAINING_IGNORED,
}
# Not the model's fault, and to be mended before anything else is.
_SURROUNDINGS = {Code.MEM_LIMIT, Code.IO, Code.STDIN}
# In the hint of a failure for which a worker has found that PyTorch's fast path of attention is the
# cause: no other failure tells as much.
_CURE = "set_fastpath_enabled"
_MAX = 200


def clearest(errors: Sequence[ErrorRecord]) -> int:
    """The place of the failure that tells most; of several that tell as much, the first.

    A wrong file tells more than a refusal in our own words, and that more than what a library
    raised. Among equals the one that came furthest counts.
    """
    return max(range(len(errors)), key=lambda place: _weight(errors[place]))


def _weight(error: ErrorRecord) -> tuple[int, int]:
    if _CURE in error.hint:  # found by trying
        return 3, 0
    progress = STAGES.index(error.stage) if error.stage is not None else -1
    if error.code in _TELLING | _SURROUNDINGS:
        return 2, progress
    return int(error.type is None), progress


def in_full(error: ErrorRecord, attempts: Sequence[ExporterAttempt]) -> ErrorRecord:
    """The same error, its message followed by what the other exporters failed for, in short.

    The fingerprint stays that of the shown failure.
    """
    others = []
    for attempt in attempts:
        told, text = f"{attempt.exporter}: {attempt.code}: ", attempt.message or ""
        earlier = f"{attempt.exporter} had failed before: "  # of a process that was lost since
        known = error.message.startswith(text) or told in error.message or earlier in error.message
        if attempt.status == "failed" and not known:
            others.append(told + _short(text))
    if not others:
        return error
    # Made anew: a copy would not be validated.
    told = "; ".join([error.message, *others])
    return ErrorRecord.model_validate(dict(error) | {"message": told})


def _short(text: str) -> str:
    return text if len(text) <= _MAX else f"{text[: _MAX - 1].rstrip()}…"
