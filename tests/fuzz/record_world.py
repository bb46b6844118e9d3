"""Runs, a store and a published folder as the converter leaves them, for readers to be tried on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from converter.cache.entries import Store
from converter.cli import command_line
from converter.layout import delivery, runfiles
from converter.layout.files import sha256

NIGHTS, STORE = "outputs/nights", "outputs/.store"
_EXPERIMENT = """\
# @package _global_
defaults:
  - override /exporter: torchscript
  - override /benchmark: "off"
models:
  one: {source: simple_cnn, export: {external_data: always}}
  half: {source: single_conv, variants: [fp16]}
store: {path: outputs/.store}
publish_to: zoo
executor: {workers: 1, sandbox: "off"}
verify: {budget: 1}
reports: [csv]
"""


class World:
    """All of it below ``base/trial``, which is set up for each trial anew.

    Attributes:
        hashes: those of the published files of a run that nothing happened to, by their paths.
    """

    def __init__(self, base: Path) -> None:
        self.folder, self._template = base / "trial", base / "template"
        self.conf = base / "conf"
        (self.conf / "experiment").mkdir(parents=True)
        (self.conf / "experiment/nights.yaml").write_text(_EXPERIMENT)
        self.folder.mkdir()
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            self._make()
        finally:
            os.chdir(before)
        self.folder.rename(self._template)
        self.restore()

    def night(self, number: int) -> list[str]:
        """The words of a run."""
        where = f"hydra.run.dir={NIGHTS}/{number}"
        return ["--config-dir", str(self.conf), "+experiment=nights", where, "baseline=latest"]

    def _make(self) -> None:
        for number in (1, 2, 3):
            code = command_line.main(self.night(number))
            assert code == 0, f"run {number} ended with {code}"
        self.hashes = self.published(2)
        self._unfinish(self.folder / NIGHTS / "3")
        delivery.link_latest(self.folder / NIGHTS / "2")
        self.entries = [f"{STORE}/{key}" for key in Store(self.folder / STORE).held()]
        assert len(self.entries) == 3, self.entries

    def _unfinish(self, run: Path) -> None:
        """As a kill leaves it when both files were there and one row was recorded."""
        record = runfiles.read(run)
        began = {"finished_at": None, "complete": False, "exit_code": None}
        runfiles.write(record.model_copy(update={"run": record.run.model_copy(update=began)}), run)
        lines = (run / runfiles.RESULTS).read_bytes().splitlines(keepends=True)
        (run / runfiles.RESULTS).write_bytes(b"".join(lines[:1]))
        for name in ("results.csv", "report.html"):
            (run / name).unlink(missing_ok=True)

    def published(self, number: int) -> dict[str, str]:
        """The hashes of a run's files under a final name."""
        run = self.folder / NIGHTS / str(number)
        found = sorted((run / "models").rglob("*.onnx*"))
        return {str(path.relative_to(run)): sha256(path) for path in found if path.is_file()}

    def restore(self) -> None:
        """Set it up anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        # Hard links stay, and times: the store shares files with the runs.
        subprocess.run(["cp", "-a", self._template, self.folder], check=True)

    def served(self, number: int) -> list[str]:
        """What is wrong with the rows of a run that came to its end: never ok and damaged."""
        run = self.folder / NIGHTS / str(number)
        try:
            record = runfiles.read(run)
        except (OSError, ValueError) as error:
            return [f"its manifest cannot be read: {error}"[:300]]
        wrong = []
        for row in record.rows:
            for part in row.files if row.status == "ok" else []:
                path = run / part.path
                found = sha256(path) if path.is_file() else "missing"
                if found != part.sha256 or found != self.hashes.get(part.path):
                    wrong.append(f"{row.label} is ok, and {part.path} is another file")
        return wrong

    def texts(self) -> dict[str, list[str]]:
        """The files that trials damage, by kind; paths below ``folder``."""
        found = {
            "manifest": [f"{NIGHTS}/2/manifest.json"],
            "begun": [f"{NIGHTS}/3/manifest.json"],
            "results": [f"{NIGHTS}/3/results.jsonl"],
            "index": ["zoo/index.json"],
            "entry": [f"{entry}/entry.json" for entry in self.entries],
            "result": [f"{entry}/result.json" for entry in self.entries],
            "file": [str(path.relative_to(self.folder)) for entry in self.entries
                     for path in sorted((self.folder / entry).glob("*.onnx*"))],
            "configuration": [f"{NIGHTS}/3/.hydra/{name}.yaml"
                              for name in ("config", "hydra", "overrides")],
            "job": [f"{NIGHTS}/2/models/{name}/job.json" for name in ("one", "half", "half/fp16")],
            "ended": [f"{NIGHTS}/2/models/{name}/result.json" for name in ("one", "half")],
            "published": [str(path.relative_to(self.folder))
                          for path in sorted((self.folder / "zoo").rglob("*"))
                          if path.is_file() and path.name != "index.json"],
        }  # fmt: skip
        assert all((self.folder / path).is_file() for paths in found.values() for path in paths)
        return found
