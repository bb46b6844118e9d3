"""A sweep directory made by hand: for the tests of what is written there."""

from __future__ import annotations

from pathlib import Path

from converter.layout import runfiles
from converter.model.errors import ExitCode
from converter.model.manifest import ArtifactRow
from converter.sweep import SweepPoint
from converter.sweep.journal import Journal, now
from converter.sweep.record import Sweep, SweepInfo
from tests.manifests import manifest_of


class Folder:
    """A sweep of ``zoo`` over ``opset`` with points of these names, and its journal."""

    def __init__(self, path: Path, *names: str) -> None:
        self.path = path
        self.points = [SweepPoint(name, [name], [name]) for name in names]
        info = SweepInfo(
            experiment="zoo", started_at=now(), overrides=["+experiment=zoo"], keys=["opset"]
        )
        self.journal = Journal(path, self.points, info)

    def end(self, number: int, code: ExitCode, *rows: ArtifactRow) -> None:
        """A point came to its end with these rows in its manifest."""
        point = self.points[number]
        point.directory = self.path / point.name
        point.directory.mkdir()
        runfiles.write(manifest_of(*rows), point.directory)
        point.exit_code = code

    def read(self) -> Sweep:
        return Sweep.model_validate_json((self.path / "sweep.json").read_bytes())
