"""What a run is found to be beside its baseline: the types of the manifest's ``comparison``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from converter.model.artifact import ONNX, label
from converter.model.base import Frozen
from converter.model.records import StageName

Severity = Literal["regression", "improvement", "note"]
Verdict = Literal["no_baseline", "same", "changed", "better", "regression"]


class Change(Frozen):
    """What differs in one model from the baseline.

    Attributes:
        model: empty for what concerns the run as a whole.
        kind: added, removed, newly_failing, fixed, status, verification, cases, dynamic, domain,
            inputs, outputs, dtypes, exporter, simplify, opset, ops, nodes, content, size, error,
            accuracy, runtime (on one provider) or latency.
        cause: fingerprint of the error of a model that fails now.
        explained_by: what else differs and may be the reason, most specific first.
    """

    model: str
    artifact: str = ONNX
    kind: str
    severity: Severity = "note"
    before: Any = None
    after: Any = None
    detail: str = ""
    cause: str | None = None
    explained_by: list[str] = Field(default_factory=list)

    @property
    def about(self) -> str:
        return label(self.model, self.artifact) if self.model else "the run"


class Cause(Frozen):
    """Models that fail now and did not before, for the same reason."""

    fingerprint: str
    stage: StageName | None
    code: str
    message: str
    models: list[str]


class Difference(Frozen):
    """A part of the environment that is not what it was."""

    name: str
    before: str | None
    after: str | None


class Comparison(Frozen):
    baseline_run_id: str | None
    baseline_started_at: str | None = None
    verdict: Verdict
    changes: list[Change] = Field(default_factory=list)
    causes: list[Cause] = Field(default_factory=list)
    environment: list[Difference] = Field(default_factory=list)
