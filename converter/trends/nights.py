"""What is kept of a night: the run, and the figures of each artifact.

They are validated where they are made, whether of a manifest or of what was kept: whoever has one
need not ask what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from converter.compare import causes
from converter.display import summary
from converter.model import matrix
from converter.model.changes import Change, Difference
from converter.model.manifest import ArtifactRow, Environment, Manifest
from converter.model.records import Latency, Status

_LINE = 200  # characters of a message: the manifest has all of it
_MOST = 1e300  # so that bands and drawings need not think of infinity
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d[T\d:.Z+-]*$")]
Measure = Annotated[float, Field(ge=0, le=_MOST)]
Name = Annotated[str, Field(min_length=1)]
Folder = Annotated[str, Field(pattern=r"^[^./\x00][^/\x00]*$")]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Night:
    """A run of the experiment.

    Attributes:
        directory: its name below the folder of the experiment; it may be gone.
        counts: models by status.
    """

    id: Name
    directory: Folder
    started_at: Time
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


@dataclass(frozen=True, slots=True, config=_STRICT)
class Median:
    """Of the latency on a provider, with its 95 % confidence interval; milliseconds."""

    p50: Measure
    low: Measure | None = None
    high: Measure | None = None


@dataclass(frozen=True, slots=True, config=_STRICT)
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

    status: Status
    optional: bool = False
    code: Name | None = None
    message: str | None = None
    share: Measure | None = None
    max_abs: Measure | None = None
    bytes: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    seconds: Measure | None = None
    cached: bool = False
    sha256: str | None = None
    failing_since: Time | None = None
    changed: str | None = None
    latency: dict[Name, Median] = field(default_factory=dict)

    @property
    def expected(self) -> bool:
        """Whether nobody has to look at it."""
        return self.status in summary.EXPECTED


Label = tuple[str, str]
"""A model and its artifact's id."""


def night_of(manifest: Manifest, directory: str) -> Night:
    """The run.

    Raises:
        ValidationError: the manifest, or the name of its folder, says what none can.
    """
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
    """Those of each artifact of a run.

    Raises:
        ValidationError: the manifest says what none can.
    """
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
        # An exact output that differs has no bound to be a multiple of.
        share=_measure(share),
        max_abs=_measure(worst.max_abs) if worst else None,
        bytes=row.bytes if row.files else None,
        seconds=None if row.cached or row.status == "not_run" else summary.seconds(row),
        cached=row.cached,
        sha256=row.files[0].sha256 if row.files else None,
        failing_since=row.failing_since,
        changed="; ".join(began.explained_by) if began and began.explained_by else None,
        latency=_medians(row.latency),
    )


def _measure(value: float | None) -> float | None:
    """A number that can be drawn; ``None``: it is beyond all measure."""
    return value if value is not None and value <= _MOST else None


def _medians(records: list[Latency]) -> dict[str, Median]:
    """The first record of each provider that has a figure: that of the model's own shapes."""
    found: dict[str, Median] = {}
    for record in records:
        if record.p50_ms is not None and record.provider not in found:
            low, high = record.ci95_ms if len(record.ci95_ms) == 2 else (None, None)
            found[record.provider] = Median(record.p50_ms, low, high)
    return found
