"""A published model of a run, verified again: shared by the scores of damaged files."""

from __future__ import annotations

import contextlib
import fnmatch
import gc
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from pathlib import Path

import onnx
import torch
from onnx import ModelProto

from converter.model.job import Job
from converter.model.records import VerifyRecord
from converter.worker.compare import numerics
from converter.worker.inputs import cases
from converter.worker.inputs.inputs import Array
from converter.worker.reference import preparing, reference
from converter.worker.reference.reference import References
from converter.worker.verify import mutation
from converter.worker.verify.verification import verify

ROOT = Path(__file__).resolve().parents[1]
NOISE = 2.0  # two roundings may differ by more than each from the exact value
FRESH = (1000, 1001)  # sample numbers that no verification case uses


class Subject:
    """One published model: its reference, its sound outputs and their noise.

    Args:
        folder: of the model in a run directory.
        work: for damaged copies.
        sizes: run the cases of other sizes too, not only those of the traced shapes.
    """

    def __init__(self, folder: Path, work: Path, *, sizes: bool = False) -> None:
        self.job = Job.model_validate_json((folder / "job.json").read_bytes())
        self.file = folder / f"{self.job.name}.onnx"
        self.work = work
        torch.set_num_threads(1)
        with quiet():
            self.references = reference.compute(*preparing.load(self.job))
        # The verdict leaves cases out at which even a sound file differs.
        judged = verify(self.file, self.references, self.job).passed
        found = [item for item in self.references.cases if item.case.label in judged]
        self.feeds = [item.inputs for item in found if sizes or not item.case.sizes]
        self.feeds += [cases.Case("fresh", self.job.inputs, n).draw(self.job.seed) for n in FRESH]
        self.sound = self._sound(self.feeds)

    def also(self, feeds: Iterable[dict[str, Array]]) -> None:
        """Compare damaged files on further inputs."""
        self.feeds += feeds
        self.sound = self._sound(self.feeds)

    def _sound(self, feeds: Sequence[dict[str, Array]]) -> mutation.Sound:
        return mutation.Sound(self.file, self.references, feeds, threads=1)

    def excess(self, file: Path) -> float:
        """How many times the noise the outputs of a file differ from the sound one's."""
        pairs = zip(self.sound.moves(file), self.sound.noise, strict=True)
        return max(move / noise if noise else (inf if move else 0.0) for move, noise in pairs)

    def verdict(self, file: Path, *, optimise: bool = True) -> tuple[bool, VerifyRecord]:
        found = verify(file, self.references, self.job, optimise=optimise)
        return found.error is None, found.record

    def saved(self, model: ModelProto) -> Path:
        path = self.work / "file.onnx"
        onnx.save_model(model, path)
        return path


def subjects(run: Path, select: str, work: Path, *, sizes: bool = False) -> Iterator[Subject]:
    """The published models of a run whose names match a glob."""
    for file in sorted(run.glob("models/*/*.onnx")):
        if fnmatch.fnmatch(file.parent.name, select):
            yield Subject(file.parent, work, sizes=sizes)
            gc.collect()


def describe(subject: Subject, excess: float, record: VerifyRecord) -> str:
    worst = max(
        (output.rel_l2 or 0.0 for case in record.cases for output in case.outputs), default=0
    )
    return (
        f"{excess:.1f} times the noise ({max(subject.sound.noise):.1e}), "
        f"relative L2 error {worst:.1e}, allowed {allowed(subject.references):.1e}"
    )


def allowed(references: References) -> float:
    return max(numerics.tolerance(floor) for floor in references.noise.floors)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Models and exporters print and warn; the table is what is wanted here."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def convert(directory: str, *arguments: str, trust: str = "") -> Path:
    """A run of the real command in ``directory``/run; what fails is printed."""
    command = [
        sys.executable, "-m", "converter", f"hydra.run.dir={directory}/run", "executor.workers=1",
        "benchmark=off", "store.use=false", *arguments,
    ]  # fmt: skip
    environment = os.environ | ({"CONVERTER_TRUST": trust} if trust else {})
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:], sep="\n")
    return Path(directory) / "run"
