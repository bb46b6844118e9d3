"""What is kept of a night: the run, and the figures of each artifact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from converter.compare import causes
from converter.display import summary
from converter.model import matrix
from converter.model.changes import Change, Difference
from converter.model.manifest import ArtifactRow, Environment, Manifest
from converter.model.records import Latency

_LINE = 200  # characters of a message: the manifest has all of it


@dataclass(frozen=True, slots=True)
class Night:
    """A run of the experiment.

    Attributes:
        directory: its name below the folder of the experiment; it may be gone.
        counts: models by status.
    """

    id: str
    directory: str
    started_at: str
    exit_code: int | None
    counts: dict[str, int]
    environment: Environment

    @property
    def date(self) -> str:
        return self.started_at[:10]

    @property
    def time(self) -> str:
        """``2026-11-21 02:00``, UTC."""
        return self.started_at[:16].replace("T", " ")

    def changed_since(self, before: Night) -> list[Difference]:
        """Versions and parts of the machine that are not those of another night."""
        return causes.environment(before.environment, self.environment)


@dataclass(frozen=True, slots=True)
class Median:
    """Of the latency on a provider, with its 95 % confidence interval; milliseconds."""

    p50: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of an artifact in a night.

    Attributes:
        optional: its failure does not fail the model.
        message: the first line of its error.
        share: its worst error as a multiple of the tolerance; ``max_abs`` is that error.
        seconds: of its stages; ``None``: it came from the store, which costs a night nothing.
        changed: what else had changed when it began to fail, as the comparison of that run says.
        latency: by provider.
    """

    status: str
    optional: bool = False
    code: str | None = None
    message: str | None = None
    share: float | None = None
    max_abs: float | None = None
    bytes: int | None = None
    seconds: float | None = None
    cached: bool = False
    sha256: str | None = None
    failing_since: str | None = None
    changed: str | None = None
    latency: dict[str, Median] = field(default_factory=dict)

    @property
    def expected(self) -> bool:
        """Whether nobody has to look at it."""
        return self.status in summary.EXPECTED


Label = tuple[str, str]
"""A model and its artifact's id."""


def night_of(manifest: Manifest, directory: str) -> Night:
    run = manifest.run
    return Night(
        id=run.id,
        directory=directory,
        started_at=run.started_at,
        exit_code=run.exit_code,
        counts=run.counts,
        environment=manifest.environment,
    )


def figures_of(manifest: Manifest) -> Iterator[tuple[Label, Figures]]:
    """Those of each artifact of a run."""
    changes = manifest.comparison.changes if manifest.comparison else []
    began = {each.about: each for each in changes if each.kind == "newly_failing"}
    for row in manifest.rows:
        yield (row.name, row.id), _figures(row, began.get(row.label))


def _figures(row: ArtifactRow, began: Change | None) -> Figures:
    worst = matrix.worst(row.verify.cases)
    share = matrix.share(worst) if worst else None
    return Figures(
        status=row.status,
        optional=row.optional,
        code=row.error.code if row.error else None,
        message=row.error.message.partition("\n")[0][:_LINE] if row.error else None,
        # JSON has no infinity, and an exact output that differs has no bound to be a multiple of.
        share=share if share is not None and math.isfinite(share) else None,
        max_abs=worst.max_abs if worst else None,
        bytes=row.bytes if row.files else None,
        seconds=None if row.cached or row.status == "not_run" else summary.seconds(row),
        cached=row.cached,
        sha256=row.files[0].sha256 if row.files else None,
        failing_since=row.failing_since,
        changed="; ".join(began.explained_by) if began and began.explained_by else None,
        latency=_medians(row.latency),
    )


def _medians(records: list[Latency]) -> dict[str, Median]:
    """The first record of each provider that has a figure: that of the model's own shapes."""
    found: dict[str, Median] = {}
    for record in records:
        if record.p50_ms is not None and record.provider not in found:
            low, high = record.ci95_ms if len(record.ci95_ms) == 2 else (None, None)
            found[record.provider] = Median(record.p50_ms, low, high)
    return found
