"""What a verdict comes to: on which domain, up to which limit, and what was not reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import Branch, Domain
from converter.worker.inputs import cases
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import publishing
from converter.worker.recording.coverage import Place
from converter.worker.reference.reference import References
from converter.worker.verify import domain, limits, multiples, precision, stamp, verification
from converter.worker.verify.limits import FrozenPlaces
from converter.worker.verify.verification import Verdict

# Of a sentence in the row; `verify.domain` lists all of them.
_MOST_SHOWN = 3


def drawn(
    verdict: Verdict, references: References, job: Job, frozen: FrozenPlaces | None = None
) -> Verdict:
    """The verdict with its domain; a wrong file with its limit, a right one with what is open.

    Args:
        frozen: lines at which the exporter turned a tensor into a number.
    """
    frozen = frozen or FrozenPlaces()
    # A wrong file is told up to where it is right. What no case reached matters only for one that
    # would pass.
    if verdict.error is not None:
        found = domain.of(references, job, verdict.undecided)
        return _limited(verdict, found, references, frozen.places, job)
    symbols = bool(cases.symbols(job))
    # Undecided cases count for nothing here: a branch that only they took is not verified.
    open_ = limits.unreached(references, verdict.undecided, frozen, symbols=symbols)
    found = domain.of(references, job, verdict.undecided, open_)
    reason = verdict.record.reason
    if open_:
        reason = "; ".join(text for text in (reason, _not_reached(open_)) if text)
    changes = {"domain": found, "reason": reason}
    record = verdict.record.model_copy(update=changes)
    # In `standard` an open branch is told and no failure; `verify=strict` makes it one.
    if not open_ or job.verify.unreached != "fail":
        return replace(verdict, record=record)
    error = StageError(
        Code.VERIFY_UNREACHED,
        _not_reached(open_),
        "state a case that reaches it in verify.cases or verify.shapes, or rewrite the line with "
        "tensor operations (torch.where)",
    )
    record = record.model_copy(update={"status": "failed", "reason": error.message})
    return replace(verdict, record=record, error=error)


def told(
    verdict: Verdict,
    words: Mapping[str, str],
    final: Path,
    references: References,
    job: Job,
    values: dict[str, Array],
) -> Verdict:
    """The verdict on the file once it says what was found: it is another file then.

    Args:
        words: what it says so far.
        values: of parameters that are graph inputs.
    """
    # A wrong file keeps the words that it was written with: it is not published.
    if verdict.error is not None or verdict.record.domain is None:
        return verdict
    said = stamp.found(verdict.record, words)
    # The file on the disk is the very one that was verified.
    if all(words.get(key) == value for key, value in said.items()):
        return verdict
    publishing.tell(final, said)
    # Only metadata has changed: one case shows that the rewritten file still loads and runs.
    with precision.computable(final, references, job) as (runs, asked):
        error = verification.traced_error(runs, asked, job, values)
    if error is None:
        return verdict
    # It was `passed` until now, and the manifest must not say both.
    changes = {"status": "failed", "reason": error.message}
    record = verdict.record.model_copy(update=changes)
    return replace(verdict, record=record, error=error, failed=references.cases[0])


def _not_reached(branches: Sequence[Branch]) -> str:
    listed = ", ".join(map(str, branches[:_MOST_SHOWN]))
    more = len(branches) - _MOST_SHOWN
    return f"no case reached {listed}" + (f" and {more} more" if more > 0 else "")


def _limited(
    verdict: Verdict, found: Domain, references: References, places: Sequence[Place], job: Job
) -> Verdict:
    error = verdict.error
    assert error is not None, "it is asked for wrong files only"
    said = related = None
    rule: dict[str, int] = {}
    if verdict.failed is not None:
        tried = (references, verdict.passed, job)
        rule = multiples.rule(*tried)
        related = multiples.relation(*tried)
        said = limits.explain(references, verdict.failed, verdict.passed, places)
    # What may be stated is told in the place of the advice to rewrite.
    advice = multiples.hint(rule) if rule else related or error.hint
    error = StageError(
        error.code, "; ".join(part for part in (error.message, said) if part), advice
    )
    limits_ = [said] if said is not None else []
    changes = {"domain": found.model_copy(update={"limits": limits_}), "reason": error.message}
    record = verdict.record.model_copy(update=changes)
    refuses = bool(rule) and multiples.refuses(record.cases, verdict.passed)
    return replace(verdict, record=record, error=error, rule=rule if refuses else {})
