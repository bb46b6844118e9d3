"""What a file says of itself in its ``metadata_props``, under keys that begin with ``converter.``

``converter.name``: of the model; ``converter.source``: what it was made from, with the hash of the
code that builds it; ``converter.weights``: which weights, with their hash; ``converter.license``:
as the configuration states it; ``converter.made``: which exporter and simplifier made the file;
``converter.version``: of this program;
``converter.verified``: on which sizes and values it was found right; ``converter.tolerance``: how
far each output may be from PyTorch's at the traced example.

No time, no path and no commit is in it: the same job gives the same bytes, in another folder, on
another day, and after a commit that has nothing to do with the model. The hash of the code says
what a commit would; which commit a run was started in is in its manifest and in what is published.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

import converter
import registry
from converter.layout import environment, files
from converter.model.artifact import QUANTISED
from converter.model.job import Job
from converter.model.records import OutputCheck, VerifyRecord
from converter.model.source import Source, without_folders
from converter.plugins import loader, simplifiers
from converter.worker.compare.numerics import Noise
from converter.worker.compare.outputs import compare
from converter.worker.inputs.cases import TRACED
from converter.worker.reference.reference import References
from converter.worker.sources.loading import Loaded
from converter.worker.verify import domain

PREFIX = "converter."
NAME = f"{PREFIX}name"
SOURCE = f"{PREFIX}source"
WEIGHTS = f"{PREFIX}weights"
LICENSE = f"{PREFIX}license"
MADE = f"{PREFIX}made"
VERSION = f"{PREFIX}version"
TOLERANCE = f"{PREFIX}tolerance"
BY_SIGNAL = '{"by":"signal to quantisation noise"}'


def expected(loaded: Loaded, references: References, job: Job, exporter: str) -> dict[str, str]:
    """The entries of a file that was not verified yet, as if all will go well."""
    said = {NAME: job.name, **({LICENSE: job.license} if job.license else {})}
    return {
        **said,
        SOURCE: _words({"name": without_folders(str(job.source)), **_code(job.source)}),
        WEIGHTS: _words(_weights(loaded, job)),
        MADE: _words({"exporter": exporter, "simplifier": _simplifier(job)}),
        VERSION: converter.__version__,
        domain.KEY: domain.words(domain.of(references, job, {})),
        TOLERANCE: _tightest(references, job),
    }


def unsimplified(told: Mapping[str, str]) -> dict[str, str]:
    """The entries of a file whose simplification was taken back."""
    return {**told, MADE: _words({**json.loads(told[MADE]), "simplifier": None})}


def inherited(
    parent: ModelProto, references: References, job: Job, precision: str
) -> dict[str, str]:
    """The entries of a file that derives from another one, as if all will go well."""
    said = {e.key: e.value for e in parent.metadata_props if e.key.startswith(PREFIX)}
    # No bound holds for each number of a quantised file.
    bound = BY_SIGNAL if precision in QUANTISED else _tightest(references, job)
    return {**said, TOLERANCE: bound}


def found(record: VerifyRecord, words: Mapping[str, str]) -> dict[str, str]:
    """What a verified file has to say of its verification.

    Args:
        words: what it says so far.
    """
    said = {}
    if record.domain is not None:
        said[domain.KEY] = domain.words(record.domain)
    for case in record.cases:
        if case.label == TRACED and words.get(TOLERANCE) != BY_SIGNAL:
            said[TOLERANCE] = _bounds(case.outputs)
    return said


def _tightest(references: References, job: Job) -> str:
    """The bounds by which most right files pass: nothing is granted for rounding."""
    outputs = references.cases[0].outputs
    same = compare(
        references.names,
        outputs,
        outputs,
        job.verify,
        Noise.none(len(outputs), references.bounds),
        references.detections,
    )
    return _bounds([item.check for item in same])


def _bounds(checks: Iterable[OutputCheck]) -> str:
    # Two digits: the sums of another processor differ in the last ones.
    return _words(
        [{"atol": float(f"{c.atol:.1e}"), "rtol": float(f"{c.rtol:.1e}")} for c in checks]
    )


def _simplifier(job: Job) -> str | None:
    """Its name, with the version of what it is made of."""
    if job.simplifier is None:
        return None
    found = map(environment.version, loader.packages_of(simplifiers.load(job.simplifier)))
    return " ".join([job.simplifier, *(version for version in found if version)])


def _weights(loaded: Loaded, job: Job) -> dict[str, Any]:
    said: dict[str, Any] = {"name": job.weights if isinstance(job.weights, str) else "checkpoint"}
    if loaded.weights_sha256 is not None:
        said["sha256"] = loaded.weights_sha256
    elif said["name"] != "checkpoint":  # drawn
        said["seed"] = job.seed
    return said


def _code(source: Source) -> Mapping[str, str]:
    """The hash of the Python file that builds the model; that of the weights is of other files."""
    path = _file(source)
    return {"code_sha256": files.sha256(path)} if path is not None else {}


def _file(source: Source) -> Path | None:
    if source.file is not None:
        return Path(source.file)
    name = source.target
    if source.registry is not None:
        entry = registry.find(source.registry)
        name = entry.module if entry is not None else None
    # A target may be a function of a class: its module is the longest part that is one.
    while name:
        place = getattr(sys.modules.get(name), "__file__", None)
        if place is not None and place.endswith(".py"):
            return Path(place)
        name = name.rpartition(".")[0]
    return None


def _words(said: Any) -> str:
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False)
