"""A corpus of planted faults and sound twins: what is wrongly ok, and what is wrongly refused.

The modules of ``benchmarks/corpus`` are written to files and converted by the real command, with
``exporter=auto`` and with ``exporter=torchscript``. Each published file is then run on probes of
the module's own, around what was planted. A file that is wrong there is *wrongly ok*. A module that
was refused although an exporter's plain file is right on all probes is *wrongly refused*::

    python benchmarks/planted.py [--seed 0] [--count 60] [--keep DIR]

The converter is the one that Python finds first: set PYTHONPATH to another checkout for its
figures. Exits 1 unless both counts are 0.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corpus
import torch
import yaml
from corpus import exports, probing
from corpus.module import Module

ROOT = Path(__file__).resolve().parents[1]
RUNS = {"auto": exports.EXPORTERS, "torchscript": ("torchscript",)}
# Declared otherwise than it is, or with state: to refuse it is right, whatever an exporter writes.
REFUSABLE = ("interface", "state")


@dataclass
class Judge:
    """Probes files; what a plain export of a module gives is found once."""

    folder: Path
    cache: dict[tuple[str, str], bool] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)

    def references(self, module: Module) -> Any:
        if module.name not in self.wanted:
            self.wanted[module.name] = probing.references(module, self.folder)
        return self.wanted[module.name]

    def fault(self, module: Module, file: Path) -> str | None:
        return probing.fault(file, module, self.references(module))

    def convertible(self, module: Module, exporters: tuple[str, ...]) -> str | None:
        """The first exporter whose plain file is right on all probes."""
        return next((name for name in exporters if self._right(module, name)), None)

    def _right(self, module: Module, exporter: str) -> bool:
        key = (module.name, exporter)
        if key not in self.cache:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / "plain.onnx"
                made = exports.plain(module, self.folder, exporter, file)
                self.cache[key] = made and self.fault(module, file) is None
        return self.cache[key]


@dataclass
class Findings:
    wrongly_ok: list[str] = field(default_factory=list)
    wrongly_refused: list[str] = field(default_factory=list)
    hopeless: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(
        self, module: Module, row: dict[str, Any], judge: Judge, exporters: Any, run: Path
    ) -> None:
        status = row["status"]
        who = "twin" if module.sound else "plant"
        what = f"{module.name}: {module.what}"
        if status == "ok":
            found = judge.fault(module, run / row["artifact"]["path"])
            self.counts[f"{who} ok, {'right' if found is None else 'wrong'}"] += 1
            if found is not None:
                self.wrongly_ok.append(f"{what}\n      {found}{_stated(row)}")
            return
        error = row["error"] or {}
        told = f"{error.get('code', status)} {error.get('message', '')}"[:240]
        self.counts[f"{who} refused ({error.get('code', status)})"] += 1
        if module.kind in REFUSABLE and not module.sound:
            return
        exporter = judge.convertible(module, exporters)
        if exporter is not None:
            self.wrongly_refused.append(f"{what}\n      right by {exporter}; {told}")
        elif module.sound:
            self.hopeless.append(f"{what}\n      {told}")


def _stated(row: dict[str, Any]) -> str:
    """Whether the row itself says that a branch was not reached."""
    unreached = (row["verify"].get("domain") or {}).get("unreached")
    return f"\n      (stated as not reached: {len(unreached)} branches)" if unreached else ""


def write(modules: list[Module], folder: Path) -> None:
    """The source files, and an experiment that lists them."""
    for module in modules:
        for name, text in module.files.items():
            (folder / name).write_text(text, encoding="utf-8")
    (folder / "experiment").mkdir(exist_ok=True)
    listed = yaml.safe_dump({"models": {m.name: m.entry for m in modules}}, sort_keys=False)
    text = f"# @package _global_\n{listed}"
    (folder / "experiment/corpus.yaml").write_text(text, encoding="utf-8")


def convert(folder: Path, exporter: str, workers: int) -> tuple[Path, dict[str, dict[str, Any]]]:
    """One run over the corpus: its directory, and its rows by name."""
    run = folder / f"run_{exporter}"
    command = [
        sys.executable, "-m", "converter", "--config-dir", ".", "+experiment=corpus",
        f"hydra.run.dir={run}", f"exporter={exporter}", f"executor.workers={workers}",
        "benchmark=off", "store.use=false",
    ]  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT)} | os.environ | {"CONVERTER_TRUST": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if not (run / "manifest.json").exists():
        sys.exit(f"no run: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    rows = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["models"]
    return run, {row["name"]: row for row in rows}


def report(exporter: str, findings: Findings, seconds: float) -> None:
    print(f"\n== exporter={exporter}, {seconds:.0f} s of conversion")
    for heading, lines in (
        ("wrongly ok", findings.wrongly_ok),
        ("wrongly refused", findings.wrongly_refused),
        ("twins that no exporter converts", findings.hopeless),
    ):
        print(f"{heading}: {len(lines)}")
        for line in lines:
            print(f"    {line}")
    for outcome, count in sorted(findings.counts.items()):
        print(f"  {count:4} {outcome}")
    sys.stdout.flush()


def check_corpus(modules: list[Module], judge: Judge) -> None:
    """Each module must run in PyTorch, or there is nothing to judge."""
    for module in modules:
        if not judge.references(module):
            sys.exit(f"{module.name}: PyTorch takes none of its probes ({module.what})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60, help="plants; as many twins")
    parser.add_argument("--keep", type=Path, help="a folder for modules and runs")
    parser.add_argument("--workers", type=int, default=1, help="of the converter")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        modules = corpus.draw(arguments.seed, arguments.count)
        write(modules, folder)
        judge = Judge(folder)
        check_corpus(modules, judge)
        for exporter, exporters in RUNS.items():
            start = time.perf_counter()
            run, rows = convert(folder, exporter, arguments.workers)
            seconds = time.perf_counter() - start
            findings = Findings()
            for module in modules:
                findings.add(module, rows[module.name], judge, exporters, run)
            report(exporter, findings, seconds)
            wrong += len(findings.wrongly_ok) + len(findings.wrongly_refused)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
