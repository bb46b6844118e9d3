"""The verdict on a file without its model: on the cases that a conversion has kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from converter.model.artifact import ONNX
from converter.model.errors import StageError
from converter.model.job import Derived
from converter.model.measure import Measure
from converter.worker.onnxfile import publishing, structure
from converter.worker.reference.kept import Kept
from converter.worker.reference.reference import References
from converter.worker.verify import conclusion, precision, stamp, verification
from converter.worker.verify.settled import settled
from converter.worker.verify.verification import Verdict


@dataclass(frozen=True)
class Judge:
    """Gives the verdict on a file, on what a conversion kept.

    Attributes:
        job: whose file it is.
        references: what was kept, as a file of the job's precision is judged by it.
        parent: what is in the ONNX file that it is made from, or that it is.
    """

    job: Derived | Measure
    found: Kept
    references: References
    parent: ModelProto

    @property
    def source(self) -> Path | None:
        """The ONNX file that says what a file of another format takes and gives."""
        return None if self.job.format == ONNX else Path(self.job.parent_file)

    def verdict(self, file: Path, provider: str | None = None) -> Verdict:
        """The verdict, which says on what it was verified.

        Args:
            provider: to run it on; ``None``: the one that verifies files of its format.
        """
        asked, references = self.found.job, self.references
        parent = Path(self.job.parent_file) if self.job.parent_file else None
        # Only ONNX files have a place for words; a published one, and the parent, are what they
        # are.
        speaks = self.source is None and not isinstance(self.job, Measure) and file != parent
        if speaks:  # before it is judged, since another file must be judged again
            words = stamp.inherited(self.parent, references, asked, self.job.precision)
            publishing.tell(file, words)
        graph = structure.read(file) if self.source is None else self.parent
        verdict = verification.verify(
            file,
            references,
            asked,
            graph=graph,
            provider=provider or self.job.provider or None,
            source=self.source,
        )
        verdict = precision.judged(verdict, file, parent, references, asked, provider)
        if verdict.error is not None and verdict.error.hint in verification.OF_TRACING:
            verdict = replace(verdict, error=_not_of_the_model(verdict.error))
        verdict = _with_domain(conclusion.drawn(verdict, references, asked), self.found)
        if not speaks:
            return settled(verdict)
        said = {entry.key: entry.value for entry in graph.metadata_props}
        return settled(conclusion.told(verdict, said, file, references, asked, {}))


def _not_of_the_model(error: StageError) -> StageError:
    """An error of a file whose ONNX file was right on the same cases."""
    hint = (
        "the model's ONNX file is right in this case: what made this file of it, or what runs it, "
        "computes something else; the log has all that it said"
    )
    found = StageError(error.code, error.message, hint)
    found.__cause__ = error.__cause__
    return found


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
