"""One verdict on one file: the provider that was asked has that of the artifact.

What outputs cannot show, real samples, damaged copies: much changes a verdict after ONNX Runtime's
own. Whatever gives a verdict away passes it through here last.
"""

from __future__ import annotations

from dataclasses import replace

from converter.model.records import VerifyRecord
from converter.worker.verify.verification import Verdict


def settled(verdict: Verdict) -> Verdict:
    """The verdict, whose provider says the same as its error.

    A provider that did not run the file (``unavailable``) has no verdict on it.
    """
    return replace(verdict, record=_with_provider(verdict))


def _with_provider(verdict: Verdict) -> VerifyRecord:
    record, error = verdict.record, verdict.error
    if not record.providers or record.providers[-1].status == "unavailable":
        return record
    *others, asked = record.providers
    told = asked.model_copy(
        update={
            "status": "passed" if error is None else "failed",
            "code": error.code if error is not None else None,
            "reason": error.message if error is not None else None,
        }
    )
    return record.model_copy(update={"providers": [*others, told]})
