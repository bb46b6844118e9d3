"""One mutated ONNX file through inspect, diff, check, simplify and verify, and what must hold."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import random
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forked
import numpy as np
import onnx_mutations
import onnx_seeds
import onnxruntime
from forked import Tell

from converter.cli import command_line
from converter.config import validation
from converter.inspection import difference
from converter.model.errors import StageError
from converter.model.job import Job, Recheck, asked
from converter.model.manifest import model_of, row_of
from converter.model.plaintext import plain
from converter.model.source import Source
from converter.plan import jobs
from converter.plugins import simplifiers
from converter.processes import preload
from converter.worker.onnxfile import inspection
from converter.worker.pipeline import pipeline, recheck

SEED = 20263
_LOOK_S, _LOOK_BYTES = 8.0, 1 << 30
_JOB_S, _JOB_BYTES = 60.0, 4 << 30
_COMMAND_S = 120.0
SIMPLIFIERS = ("onnxsim", "onnxslim")
_ELSEWHERE = Path("/etc/passwd").read_bytes()[:16]  # what external data is not read from
# Of a lookup: all that was printed is of the file, whose names may be long.
_MOST_TOLD = 2_000_000


_STEPS = ("simplify", "verify")


@dataclass
class Found:
    """What one file came to.

    Attributes:
        ends: of each step how it ended, in a word or two.
        wrong: what broke a promise.
        unworded: errors whose words are those of a library's exception.
        seconds: of all steps.
    """

    number: int
    seed: str
    ends: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    unworded: list[str] = field(default_factory=list)
    seconds: float = 0.0
    told: str = ""


class Trials:
    """Files are made in ``folder``; the same seed and number give the same bytes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._paths = onnx_seeds.write(folder / "seeds")
        self._others = [path.read_bytes() for path in self._paths]
        self._work = folder / "work"
        self._jobs = {path.stem: _job(path, folder) for path in self._paths}
        preload.preload()
        preload.preload_for(["original"])
        self._looking = forked.Forks(self._look, folder, memory=_LOOK_BYTES)
        self._working = forked.Forks(self._job_steps, folder, memory=_JOB_BYTES)
        self._warm()  # what is imported late is imported once
        gc.collect()
        gc.freeze()

    def _warm(self) -> None:
        path = self._paths[0]
        self._fresh(path, path.read_bytes())
        with contextlib.redirect_stdout(io.StringIO()):
            _looked(lambda name, value: None, path, self._work / "mutant.onnx", number=0)
        pipeline.run(self._of_mutant(path, 0), lambda news: None)

    def _fresh(self, path: Path, data: bytes) -> Path:
        """A folder with the mutant, and beside it what its locations may name."""
        shutil.rmtree(self._work, ignore_errors=True)
        (self._work / "staging").mkdir(parents=True)
        mutant = self._work / "mutant.onnx"
        mutant.write_bytes(data)
        for data_file in path.parent.glob("*.data"):
            shutil.copyfile(data_file, self._work / data_file.name)
        os.mkfifo(self._work / "fifo")
        os.symlink("/etc/passwd", self._work / "link")
        return mutant

    def _of_mutant(self, path: Path, number: int) -> Job:
        """As `simplify` makes it: the inputs are those of the file."""
        name = SIMPLIFIERS[number // len(self._paths) % len(SIMPLIFIERS)]
        changed = {
            "source": Source.model_validate({"onnx": str(self._work / "mutant.onnx")}),
            "simplifier": name,
            "simplifier_options": simplifiers.load(name).Options().model_dump(),
        }
        return self._jobs[path.stem].model_copy(update=changed)

    def _rechecked(self, path: Path) -> Recheck:
        job = self._jobs[path.stem]
        changed = {"file": str(self._work / "mutant.onnx"), "simplifier": None}
        return Recheck.model_validate({**asked(job), **changed})

    def mutant(self, number: int) -> tuple[Path, bytes]:
        """The file that a number stands for, and what it was made of."""
        rng = random.Random(f"{self._seed}:{number}")
        path = self._paths[number % len(self._paths)]
        return path, onnx_mutations.mutant(path.read_bytes(), rng, self._others)

    def close(self) -> None:
        """End what takes files."""
        for forks in (self._looking, self._working):
            forks.__exit__()

    def run(self, number: int, *, commands: bool = False) -> Found:
        """Make one file, have all of them read it, and judge.

        Args:
            commands: `simplify` and `verify` as they are typed, with workers of their own, too.
        """
        path, data = self.mutant(number)
        mutant = self._fresh(path, data)
        found = Found(number, path.stem)
        looked = self._looking.call(number, seconds=_LOOK_S * 2)
        found.told = looked.told
        found.seconds += looked.seconds
        found.wrong += forked.promises(looked, {0, 2}, 2 * _LOOK_S, _MOST_TOLD)
        found.ends |= {name: str(value) for name, value in looked.values if name != "wrong"}
        found.wrong += [value for name, value in looked.values if name == "wrong"]
        steps = list(_STEPS)
        while steps:  # the second one has a fork of its own where the first ends that of both
            steps = steps[self._in_job(found, steps) :]
        equal = found.ends.get("equal") == "True"
        if equal and found.ends["verify"].startswith("failed VERIFY"):
            found.wrong.append(f"diff says equal, verify: {found.ends['verify']}")
        if commands:
            self._as_typed(found, path, mutant)
        return found

    def _look(self, number: int, tell: Tell) -> int:
        path = self._paths[number % len(self._paths)]
        return _looked(tell, path, self._work / "mutant.onnx", number=number)

    def _job_steps(self, given: tuple[int, list[str]], tell: Tell) -> int:
        number, steps = given
        path = self._paths[number % len(self._paths)]
        for step in steps:
            tell("step", step)
            if step == "simplify":
                _simplified(tell, self._of_mutant(path, number), self._work / "mutant.onnx")
            else:
                _verified(tell, self._rechecked(path), path)
        return 0

    def _in_job(self, found: Found, steps: Sequence[str]) -> int:
        """Steps that the product runs under a supervisor: there a crash or a hang has a row.

        Returns:
            How many were begun.
        """
        ended = self._working.call([found.number, steps], seconds=_JOB_S)
        found.seconds += ended.seconds
        step = ""
        for name, value in ended.values:
            if name == "step":
                step = value
                found.ends[step] = ended.why if ended.code is None else f"exit {ended.code}"
            elif name == "verdict":
                found.ends[step] = value
            elif name == "unworded":
                found.unworded.append(f"{step} {value}")
            else:
                found.wrong.append(f"{step}: {value}")
        # What compares numbers runs behind a verdict, and its own end is not the product's.
        if found.ends.get(step, "").startswith("exit"):
            found.wrong.append(f"{step}: the job left no result")
            found.told += ended.told
        return max(1, sum(name == "step" for name, _ in ended.values))

    def _as_typed(self, found: Found, path: Path, mutant: Path) -> None:
        run = self._folder / "run"
        if not run.exists():
            for stem, job in self._jobs.items():
                home = run / "models" / stem
                home.mkdir(parents=True)
                (home / "job.json").write_text(job.model_dump_json())
        words = {
            "simplify": [str(mutant), str(self._work / "out.onnx"), "store.use=false",
                         f"hydra.run.dir={self._work / 'run'}"],
            "verify": [str(run), path.stem, "--model", str(mutant)],
        }  # fmt: skip
        for verb, rest in words.items():
            ended = forked.call(
                lambda tell, line=[verb, *rest]: command_line.main(line),
                self._folder, seconds=_COMMAND_S, memory=_LOOK_BYTES,
            )  # fmt: skip
            found.seconds += ended.seconds
            found.ends[f"{verb} command"] = ended.why if ended.code is None else str(ended.code)
            wrong = forked.promises(ended, {0, 1, 2}, _COMMAND_S)
            if (self._work / "out.onnx").exists() and verb == "simplify" and ended.code != 0:
                wrong.append("the file is there, and the exit code says that it is not")
            found.wrong += [f"{verb} command: {line}" for line in wrong]
            found.told += ended.told if wrong else ""


def _job(path: Path, folder: Path) -> Job:
    """The job of a seed, as a run plans it."""
    stated = {"models": {path.stem: {"source": {"onnx": str(path)}}}, "opset": 17}
    (job,) = jobs.build(validation.parse(stated), run_dir=folder, cwd=folder, trust=[]).jobs
    staging = str(folder / "work/staging")
    return job.model_copy(update={"staging_dir": staging, "model_dir": str(folder / "work/model")})


def _looked(tell: Tell, seed: Path, mutant: Path, *, number: int) -> int:
    """`inspect` and `inspect --diff`, in this process as in that of the command."""
    more = ["--json"] if number % 2 else []
    codes = []
    for name, words in (
        ("inspect", [str(mutant), *more]),
        ("diff", [str(seed), "--diff", str(mutant), *more]),
    ):
        codes.append(command_line.main(["inspect", *words]))
        tell(name, codes[-1])
    with suppress(StageError):
        compared = difference.compare(inspection.read(seed, True), inspection.read(mutant, True))
        tell("equal", compared.equal)
    return max(codes)


def _told_of(tell: Tell, job: Job, result: Any) -> None:
    """The verdict, and whether its record is one that a manifest can hold."""
    error = result.error
    tell("verdict", result.status + (f" {error.code.value}" if error else ""))
    text = model_of([row_of(job, result)]).model_dump_json()
    json.loads(text)
    if len(text) > 1_000_000:
        tell("wrong", f"its row has {len(text)} characters")
    if error is None:
        return
    shown = f"{error.message} {error.hint}"
    if plain(shown) != shown or len(shown) > 4000:
        tell("wrong", f"its words are not plain: {shown[:200]!r}")
    if error.type is not None or error.code.value == "INTERNAL":
        tell("unworded", f"{error.stage} {error.code.value} {error.message[:160]}")


def _simplified(tell: Tell, job: Job, mutant: Path) -> int:
    """Load, check, simplify and verify a file; then run both beside each other."""
    original = mutant.read_bytes()
    result = pipeline.run(job, lambda news: None)
    _told_of(tell, job, result)
    if mutant.read_bytes() != original:
        tell("wrong", "the source was changed")
    if result.status == "ok":
        final = Path(job.staging_dir, result.files[0].path)
        if any(
            _ELSEWHERE in Path(job.staging_dir, part.path).read_bytes() for part in result.files
        ):
            tell("wrong", "ok, and it holds what lies outside of its folder")
        if why := _differ(mutant, final, by_name=True):
            tell("wrong", f"ok, and {why}")
    return 0


def _verified(tell: Tell, job: Recheck, seed: Path) -> int:
    """Judge a file by the numbers of another; then run both beside each other."""
    result = recheck.run(job, lambda news: None)
    _told_of(tell, job, result)
    if result.status == "ok" and (why := _differ(seed, Path(job.file), by_name=False)):
        tell("wrong", f"right, and {why}")
    return 0


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _fed(session: Any, rng: Any) -> dict[str, Any]:
    feeds = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else 3 for size in value.shape]
        if np.prod(shape, dtype=float) > 1e6:
            raise MemoryError
        if value.type == "tensor(bool)":
            feeds[value.name] = rng.random(shape) > 0.5
        elif "int" in value.type:
            kind = value.type[7:-1]
            feeds[value.name] = rng.integers(0, 5, shape).astype(kind)
        else:
            kind = {"tensor(double)": "float64", "tensor(float16)": "float16"}.get(
                value.type, "float32"
            )
            feeds[value.name] = rng.standard_normal(shape).astype(kind)
    return feeds


def _differ(one: Path, other: Path, *, by_name: bool) -> str:
    """What two files compute otherwise, without ONNX Runtime's optimisations; empty: nothing.

    Inputs are drawn here, and not by what has judged the file.
    """
    try:
        left = _session(one)
        right = _session(other)
        pairs = []
        for number in range(3):
            feeds = _fed(left, np.random.default_rng(number))
            pairs.append((left.run(None, feeds), right.run(None, feeds)))
    except Exception:  # what it cannot run is another's to judge
        return ""
    names: Sequence[str] = [value.name for value in left.get_outputs()]
    if by_name and names != [value.name for value in right.get_outputs()]:
        return "the outputs have other names"
    for expected, given in pairs:
        if len(expected) != len(given):
            return "the number of outputs differs"
        for name, a, b in zip(names, expected, given, strict=True):
            if why := _unlike(np.asarray(a), np.asarray(b)):
                return f"{name}: {why}"
    return ""


def _unlike(a: Any, b: Any) -> str:
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
    if not np.issubdtype(a.dtype, np.floating):
        return "" if np.array_equal(a, b) else "other values"
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return "other values are finite"
    if not finite.any():
        return ""
    far = np.abs(a[finite].astype(float) - b[finite].astype(float)).max()
    scale = np.abs(a[finite].astype(float)).max()
    return f"{far:.3g} apart at {scale:.3g}" if far > 1e-2 * (1e-6 + scale) else ""
