"""What runs the graphs of a model together, and what it needs of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from converter.model.artifact import ONNX
from converter.model.job import Composed
from converter.model.manifest import ArtifactRow
from converter.model.records import JobResult, VerifyRecord
from converter.processes import outcome

_GOOD = ("ok", "xpass")
"""With a verified file: of `xpass` only the configuration had expected something else."""


class Compositions:
    """Args: jobs: without the files of their graphs; directory: of the run."""

    def __init__(self, jobs: Sequence[Composed], directory: Path) -> None:
        self.jobs = list(jobs)
        self._directory = directory
        self._begun: set[str] = set()

    def after(
        self, row: ArtifactRow, rows: Mapping[str, ArtifactRow]
    ) -> list[tuple[Composed, JobResult | None]]:
        """The jobs whose graphs are all done, each once; with its result where it cannot run.

        Args:
            row: the one that is new.
            rows: all, by their labels.
        """
        found = []
        for job in self.jobs:
            if row.id != ONNX or row.name not in parts(job) or job.name in self._begun:
                continue
            graphs = {graph: rows[part.name] for graph, part in job.graphs.items()}
            if any(each.status == "not_run" for each in graphs.values()):
                continue
            self._begun.add(job.name)
            # In a run that is resumed it may be done.
            if rows[job.label].status == "not_run":
                found.append((with_files(job, graphs, self._directory), _without(job, graphs)))
        return found


def parts(job: Composed) -> set[str]:
    """The names of the models that it runs together."""
    return {graph.name for graph in job.graphs.values()}


def with_files(job: Composed, graphs: Mapping[str, ArtifactRow], directory: Path) -> Composed:
    """The job with the files of its graphs, as their rows have them.

    Args:
        graphs: by their names in the configuration.
    """
    there = {name: row for name, row in graphs.items() if row.files}
    return job.model_copy(
        update={
            # Absolute: an executor may run the job somewhere else.
            "graph_files": {
                name: str((directory / row.files[0].path).absolute()) for name, row in there.items()
            },
            "graph_hashes": {
                name: {Path(part.path).name: part.sha256 for part in row.files}
                for name, row in there.items()
            },
            "graph_weights": {name: row.request.weights.sha256 for name, row in there.items()},
        }
    )


def _without(job: Composed, graphs: Mapping[str, ArtifactRow]) -> JobResult | None:
    """The result of a job that lacks a file."""
    lacking = [row for row in graphs.values() if not row.files or row.status not in _GOOD]
    if not lacking:
        return None
    listed = ", ".join(f"{row.name} is {row.status}" for row in lacking)
    reason = f"{listed}: the graphs are not run together"
    return outcome.not_run(job).model_copy(
        update={
            "status": "skipped",
            "verify": VerifyRecord(status="not_measured", reason=reason),
        }
    )
