"""The record of a sweep while it runs: written again whenever a point begins or ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from converter.layout import claim, files
from converter.layout.runfiles import MANIFEST
from converter.model import manifest
from converter.model.errors import ExitCode, RunError
from converter.model.manifest import Manifest
from converter.runner import resuming
from converter.sweep import SweepPoint, page, worst
from converter.sweep.record import SWEEP, PointRecord, Sweep, SweepInfo, matrix

# The pages of a run that a person would open, the best first.
_PAGES = ("report.html", MANIFEST)


class Journal:
    """Keeps ``sweep.json`` and ``sweep.html`` true, so that a sweep that is killed leaves both.

    Args:
        folder: of the sweep; it exists.
        points: all of them; the sweep notes there what becomes of each.
        info: as it is at the start.
    """

    def __init__(self, folder: Path, points: Sequence[SweepPoint], info: SweepInfo) -> None:
        self._folder = folder
        self._points = points
        # Kept: the record is written after each point, and n points would be read n times.
        self._manifests: dict[str, Manifest] = {}
        self._info = info

    def write(self) -> Sweep:
        """Write what is known now; gives what was written.

        Raises:
            RunError: the folder cannot be written, or the disk is full.
        """
        sweep = self.sweep()
        try:
            files.write_atomic(self._folder / SWEEP, manifest.dump(sweep))
            # Behind the record: the page shows nothing that is not in it.
            files.write_atomic(self._folder / page.FILE, page.render(sweep))
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunError(f"cannot write the record of the sweep: {self._folder}: {reason}") from (
                error
            )
        return sweep

    def sweep(self) -> Sweep:
        """The record of what is known now."""
        points = [self._record(point) for point in self._points]
        return Sweep(sweep=self._info, points=points, models=matrix(points, self._manifests))

    def close(self, code: ExitCode) -> Sweep:
        """Write the final record: complete when every point came to its end.

        Raises:
            RunError: as ``write``.
        """
        complete = all(point.exit_code is not None for point in self._points)
        # A signal may come after the last point: all have an exit code then, and the sweep was
        # stopped.
        stopped = code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
        self._info = self._info.model_copy(
            update={
                "finished_at": now(),
                "complete": complete and not stopped,
                "exit_code": int(code),
            }
        )
        return self.write()

    def _record(self, point: SweepPoint) -> PointRecord:
        name = point.name
        if point.exit_code is None:
            state = "not_run" if point.directory is None else "started"
        else:
            state = "done" if self._read(point) else "refused"
        found = self._manifests.get(name)
        pages = [file for file in _PAGES if found and (self._folder / name / file).is_file()]
        return PointRecord.model_validate(
            {
                "name": name,
                "overrides": point.swept,
                "state": state,
                "exit_code": point.exit_code,
                "directory": name if point.directory else None,
                "manifest": f"{name}/{MANIFEST}" if found else None,
                "report": f"{name}/{pages[0]}" if pages else None,
                "run_id": found and found.run.id,
                "counts": found.run.counts if found else {},
                "problems": point.problems,
            }
        )

    def _read(self, point: SweepPoint) -> bool:
        """Read the manifest of a point that came to its end, once; false where there is none."""
        known = self._manifests
        if point.name not in known and point.directory is not None:
            found = resuming.earlier(point.directory)
            known |= {} if found is None else {point.name: found}
        return point.name in known


def read(folder: Path) -> Sweep | None:
    """The record of a sweep; ``None`` where there is none that can be read."""
    try:
        return Sweep.model_validate_json((folder / SWEEP).read_bytes())
    except (OSError, ValidationError):
        return None


def refresh(folder: Path) -> None:
    """Write the record of a sweep again, after a run of its points was resumed.

    Nothing is written where there is no record or nothing has changed, or while the sweep is still
    going: it writes its own at its end.

    Raises:
        RunError: the folder cannot be written.
    """
    before = read(folder)
    if before is None:
        return
    # The sweep holds its folder from its first point to its end.
    if claim.held_by(folder) is not None:
        return
    points = [_point(record, folder) for record in before.points]
    codes = [point.exit_code for point in points if point.exit_code is not None]
    found = Journal(folder, points, before.sweep)
    current, all_ended = found.sweep(), len(codes) == len(points)
    told = before.sweep.finished_at is not None and before.sweep.complete == all_ended
    if told and (current.points, current.models) == (before.points, before.models):
        return
    if all_ended:
        found.close(worst(codes))
    else:  # it has no exit code but the one that it was stopped with
        found.write()


def _point(record: PointRecord, folder: Path) -> SweepPoint:
    """A point as its run is now, where it has one that came to its end."""
    directory = folder / record.directory if record.directory else None
    code, problems = record.exit_code, record.problems
    found = resuming.earlier(directory) if directory is not None else None
    if found is not None:
        # A run writes a manifest before its first model; only one that came to its end has an exit
        # code.
        code = found.run.exit_code if found.run.finished_at is not None else None
        problems = problems if code == record.exit_code else []  # else it was resumed
    elif record.manifest is not None:
        problems = [*problems, f"{record.manifest} cannot be read"]
    return SweepPoint(
        name=record.name,
        overrides=[],
        swept=record.overrides,
        directory=directory,
        exit_code=None if code is None else ExitCode(code),
        problems=problems,
    )


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
