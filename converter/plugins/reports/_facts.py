"""What the reports say of a row, worked out once: causes, worst errors, sizes, latencies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converter.display import summary
from converter.model import matrix
from converter.model.manifest import ArtifactRow, Manifest, awaits_benchmark
from converter.model.records import Branch, Latency, OutputCheck


@dataclass(frozen=True)
class Cause:
    """Rows that are not ok for the same reason; ``first`` speaks for all of them."""

    rows: tuple[ArtifactRow, ...]

    @property
    def first(self) -> ArtifactRow:
        return self.rows[0]

    @property
    def expected(self) -> bool:
        """Whether nobody has to look: expected failures, stated constraints, what is optional."""
        return self.first.status in summary.EXPECTED or self.first.optional

    @property
    def code(self) -> str:
        return self.first.error.code if self.first.error else ""

    @property
    def message(self) -> str:
        error = self.first.error
        if error is not None and self.first.status != "xpass":
            return error.message
        if self.first.status == "not_run":
            return "the run ended before these were done"
        return summary.reason(self.first)

    @property
    def hint(self) -> str:
        return self.first.error.hint if self.first.error else ""


def causes(rows: Iterable[ArtifactRow]) -> list[Cause]:
    """Rows that are not ok by cause: what needs a look first, then the larger groups."""
    groups: dict[tuple[str, str, bool], list[ArtifactRow]] = {}
    for row in rows:
        if row.status != "ok":
            # A skipped row has no error: its reason tells it apart.
            mark = row.error.fingerprint if row.error else summary.reason(row)
            groups.setdefault((row.status, mark, row.optional), []).append(row)
    found = [Cause(tuple(group)) for group in groups.values()]
    # False sorts before true: what nobody expected comes first.
    return sorted(found, key=lambda cause: (cause.expected, -len(cause.rows)))


def codes(manifest: Manifest) -> list[str]:
    """All error codes that are anywhere in the run, in the order of their names."""
    rows = manifest.rows
    found: set[str | None] = {row.error.code for row in rows if row.error}
    found |= {each.code for row in rows for each in row.verify.providers}
    found |= {each.code for row in rows for each in row.attempts_by_exporter}
    if manifest.comparison is not None:
        found |= {cause.code for cause in manifest.comparison.causes}
    return sorted(code for code in found if code)


_ENDED = {
    "deadline": "the deadline passed",
    "signal": "the run was interrupted",
    "failure": "the run failed",
    # Of a manifest that is older than `ended_by`.
    None: "the run ended before",
}


def verdict(manifest: Manifest) -> str:
    """The run in one sentence; further ones for the latencies that it owes and what followed."""
    if manifest.run.finished_at is None:
        return "The run has not come to its end."
    if count := len(manifest.run.problems):
        went = "one thing" if count == 1 else f"{count} things"
        return f"{_converted(manifest)} After the last model {went} went wrong."
    return _converted(manifest)


def _converted(manifest: Manifest) -> str:
    missing = 0 if manifest.run.complete else sum(map(awaits_benchmark, manifest.rows))
    if not missing:
        return _judged(manifest)
    why = _ENDED[manifest.run.ended_by]
    models = "model" if missing == 1 else "models"
    return f"{_judged(manifest)} The latency of {missing} {models} is not measured: {why}."


def _judged(manifest: Manifest) -> str:
    wrong = sum(row.status not in summary.EXPECTED for row in manifest.models)
    total = len(manifest.models)
    if not wrong:
        if manifest.comparison is not None and manifest.comparison.verdict == "regression":
            return "Every model is as expected, but something is worse than in the baseline."
        return "Every model is as expected."
    return f"{wrong} of {total} {'model' if total == 1 else 'models'} failed unexpectedly."


def with_unreached(rows: Iterable[ArtifactRow]) -> list[ArtifactRow]:
    """Rows that are ok and whose model has branches that no case reached; most of them first."""
    found = [row for row in rows if row.status == "ok" and unreached(row)]
    return sorted(found, key=lambda row: -len(unreached(row)))


def unreached(row: ArtifactRow) -> list[Branch]:
    return row.verify.domain.unreached if row.verify.domain else []


def file_bytes(row: ArtifactRow) -> int | None:
    """Size of all files of the artifact."""
    return row.bytes if row.files else None


def worst_output(row: ArtifactRow) -> OutputCheck | None:
    """The output that came closest to its tolerance on any provider, or went furthest beyond it.

    None where one could not even be compared.
    """
    return matrix.worst(row.verify.cases)


def providers(rows: Iterable[ArtifactRow]) -> list[str]:
    """The execution providers that were timed or should have been, in their order."""
    names = (entry.provider for row in rows for entry in row.latency)
    return list(dict.fromkeys(names))


def latency(row: ArtifactRow, provider: str) -> Latency | None:
    """The first record of a provider: that of the model's own shapes."""
    return next((entry for entry in row.latency if entry.provider == provider), None)


def short(provider: str) -> str:
    """``CUDA`` for ``CUDAExecutionProvider``."""
    return provider.removesuffix("ExecutionProvider") or provider


def measured(rows: Sequence[ArtifactRow]) -> bool:
    return any(entry.status == "measured" for row in rows for entry in row.latency)


_NOT_ASKED = "the run did not ask for it (benchmark=off)"


def untimed(row: ArtifactRow) -> str:
    """Why a row has no record of any latency."""
    stage = row.stages["benchmark"]
    if stage.status == "not_requested":
        return _NOT_ASKED
    if stage.warnings:  # the store's file was not to be timed
        return "; ".join(stage.warnings).removeprefix("not measured: ")
    if row.status == "not_run" or awaits_benchmark(row):
        return "the run ended before it"
    return "the model was skipped" if row.status == "skipped" else "the model failed before it"


def unmeasured(rows: Sequence[ArtifactRow]) -> str:
    """Why there are no latencies, in one or two sentences."""
    reasons = {
        f"{short(entry.provider)} {entry.status}: {entry.reason or 'no reason was recorded'}"
        for row in rows
        for entry in row.latency
        if entry.status in ("unavailable", "failed")
    }
    if not reasons:
        models = Counter(map(untimed, rows))
        if models.keys() == {_NOT_ASKED}:
            return f"No latency was measured: {_NOT_ASKED}."
        told = [f"{why} ({n} model{'s' * (n != 1)})" for why, n in models.most_common()]
        return f"No latency was measured: {'; '.join(told) or 'there are no models'}."
    listed = sorted(reasons)
    more = f" (and {len(listed) - 3} more reasons)" if len(listed) > 3 else ""
    return f"No latency was measured. {'; '.join(listed[:3])}{more}."
