"""What this machine and this installation are, without judging it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from pydantic import Field

from converter.layout import environment, landlock, trust
from converter.model.base import Frozen
from converter.model.manifest import Environment
from converter.plan import packages
from converter.worker.runtime.probe import LIBRARIES, WORKER

OURS = "onnx-zoo-converter"
_PROBE_S = 300.0
# With our own `sys.path`: a checkout that is not installed has to be found as it is here.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from converter.worker.runtime.probe import main; main(sys.argv[2])"
)
_MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object")


class Probe(Frozen):
    """What came of importing a library in a process of its own.

    Attributes:
        values: library → what it says of itself.
        error: the last line that it printed, or how it ended; empty when all is well.
        missing: shared libraries that could not be opened.
    """

    seconds: float
    error: str = ""
    missing: list[str] = Field(default_factory=list)
    values: dict[str, Any] = Field(default_factory=dict)


class Unmet(Frozen):
    """What an installed package needs; ``found``: the version that is there, or ``None``."""

    package: str
    needs: str
    found: str | None


class Facts(Frozen):
    """Everything that is looked at.

    Attributes:
        runtimes: the installed packages that provide ``onnxruntime``.
        unmet: what installed packages need and do not find.
        torch_for_cuda: the installed build of torch brings CUDA along.
        address_space: the limit on this process in bytes (``ulimit -v``), ``None`` without one.
        outputs: the folder that runs go to.
        outputs_error: why it cannot be written; empty when it can.
        probes: ``worker``, and where that fails, the libraries.
        trusted: the entries of ``CONVERTER_TRUST``.
        astray: those that lead nowhere.
        no_sandbox: why jobs run without a sandbox; empty: they have one.
    """

    environment: Environment
    runtimes: list[str]
    unmet: list[Unmet]
    torch_for_cuda: bool
    address_space: int | None
    outputs: str
    outputs_error: str
    free_bytes: int
    trusted: list[str]
    astray: list[str]
    no_sandbox: str = ""
    probes: dict[str, Probe]

    def said(self, library: str) -> dict[str, Any]:
        """What a library says of itself; nothing when it cannot be imported."""
        for probe in self.probes.values():
            if library in probe.values:
                return dict(probe.values[library])
        return {}


def collect() -> Facts:
    """Look at everything; takes as long as the imports do, some seconds."""
    outputs = Path("outputs").absolute()
    # The first run makes the folder: until then its nearest parent decides.
    there = next(path for path in (outputs, *outputs.parents) if path.exists())
    entries = trust.parse(os.environ.get(trust.VARIABLE, ""), Path.cwd())
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return Facts(
        environment=environment.collect(packages.versions()),
        runtimes=runtimes(),
        unmet=list(unmet()),
        # From its metadata: the import may be what fails.
        torch_for_cuda=any("cuda" in text or "nvidia" in text for text in _requires("torch")),
        address_space=None if limit == resource.RLIM_INFINITY else limit,
        outputs=str(outputs),
        outputs_error=_write_error(there),
        free_bytes=shutil.disk_usage(there).free,
        trusted=entries,
        astray=[entry for entry in entries if not _leads_somewhere(entry, entries)],
        no_sandbox=landlock.offered().reason,
        probes=_probes(),
    )


def _probes() -> dict[str, Probe]:
    """All that a worker imports; where that fails, each library by itself: which is it?"""
    whole = probe(WORKER)
    if not whole.error:
        return {WORKER: whole}
    with ThreadPoolExecutor(len(LIBRARIES)) as pool:
        alone = dict(zip(LIBRARIES, pool.map(probe, LIBRARIES), strict=True))
    return {WORKER: whole, **alone}


def probe(library: str, timeout_s: float = _PROBE_S) -> Probe:
    """Import a library in a process of its own."""
    start = time.monotonic()
    # `-W ignore`: the last line on stderr is taken for the error, and must not be a warning.
    command = [sys.executable, "-W", "ignore", "-c", _BOOT, json.dumps(sys.path), library]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(seconds=timeout_s, error=f"timed out after {timeout_s:g} s")
    seconds = round(time.monotonic() - start, 2)
    # Of an import that succeeds too: a provider that lacks one is only told on stderr.
    missing = sorted(set(_MISSING_LIBRARY.findall(done.stderr)))
    if done.returncode == 0:
        # Libraries may print while they are imported.
        values = json.loads(done.stdout.splitlines()[-1])
        return Probe(seconds=seconds, missing=missing, values=values)
    words = [line for line in done.stderr.splitlines() if line.strip()]
    error = words[-1].strip() if words else f"exit status {done.returncode}"
    if done.returncode < 0:
        error = f"killed by {_signal(-done.returncode)}"
    return Probe(seconds=seconds, error=error, missing=missing)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def runtimes() -> list[str]:
    """The installed packages that bring ``onnxruntime``; they share its folder."""
    # By the folder that they install into: a list of names would miss a build that is new.
    found = importlib.metadata.packages_distributions().get("onnxruntime", [])
    return sorted({name.lower() for name in found})


def unmet() -> Iterator[Unmet]:
    """What our packages say they need, against what is installed."""
    for name in (OURS, *packages.names()):
        for text in _requires(name):
            wanted = Requirement(text)
            # What only an extra needs is not missing.
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            found = environment.version(wanted.name)
            # A prerelease that is installed was chosen; packaging would leave it out.
            if found is None or not wanted.specifier.contains(found, prereleases=True):
                package = f"{name} {environment.version(name)}"
                needs = f"{wanted.name}{wanted.specifier}"
                yield Unmet(package=package, needs=needs, found=found)


def _requires(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _write_error(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder"
    # To make something in a folder takes both.
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable"


def _leads_somewhere(entry: str, entries: list[str]) -> bool:
    """Is an entry of ``CONVERTER_TRUST`` a folder, or a module that can be found?"""
    if os.sep in entry:
        return Path(entry).is_dir()
    places = [*sys.path, *(other for other in entries if os.sep in other)]
    # importlib's own `find_spec` looks on `sys.path` only, where a trusted folder need not be.
    # The package only: to find what is below it one has to import it, which runs its code.
    return PathFinder.find_spec(entry.partition(".")[0], places) is not None
