"""What a job may do to its machine: write to its own folders and to caches, and no network.

For accidents, and for what trust did not foresee: the code of a model is trusted all the same.
Where Linux has Landlock, the process of a job gives up the rest before the job's code runs, and
what it starts inherits that. Reading stays free.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from converter.layout import landlock
from converter.model import urls
from converter.model.batch import ExecutorSpec
from converter.model.job import Composed, Job
from converter.model.records import ErrorRecord, JobResult
from converter.model.source import UNTRAINED, Checkpoint

# Folders that libraries keep things in for the next time, where a variable says where.
_CACHES = (
    "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE",
    "HF_ASSETS_CACHE", "HF_MODULES_CACHE", "TRANSFORMERS_CACHE", "TORCH_HOME",
    "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_HOME", "TRITON_CACHE_DIR",
    "CUDA_CACHE_PATH", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "PYTHONPYCACHEPREFIX",
)  # fmt: skip
# Those that lie elsewhere than in the folder of caches unless they are stated, and the usual place
# in the home, if any. Where that is not there they get one in the folder of caches.
_ELSEWHERE = {
    "TORCHINDUCTOR_CACHE_DIR": "",  # in the folder for temporary files, which goes with the job
    "TRITON_CACHE_DIR": ".triton",
    "CUDA_CACHE_PATH": ".nv",
}
# Of processes that share memory, of pseudo-terminals, and of accelerators: all of them are written.
_DEVICES = (
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm",
    "/dev/ptmx", "/dev/pts", "/dev/nvidia*", "/dev/dri", "/dev/dxg", "/dev/kfd", "/dev/accel",
)  # fmt: skip
# Here a stage begins a new high-water mark of its memory.
_OWN_PROCESS = "/proc/self"

# As many links as Linux follows on the way to one file.
_LINKS = 40

_SWITCH_OFF = "or write executor.sandbox=off"
_QUOTED = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
# As Python words an OSError: `[Errno 13] Permission denied: '/a'`, for a move `'/a' -> '/b'`.
_REFUSED = re.compile(
    rf"(?:Permission denied|Invalid cross-device link)(?:: ({_QUOTED})(?: -> ({_QUOTED}))?)?"
)
# Libraries word a connection that was refused in their own ways.
_UNREACHED = re.compile(r"connect|network|download|max retries|urlopen|offline", re.IGNORECASE)


@dataclass(frozen=True)
class Sandbox:
    """What a configuration says; ``writable``: further places, absolute."""

    mode: Literal["auto", "on", "off"] = "off"
    writable: tuple[str, ...] = ()

    @property
    def applies(self) -> bool:
        """Whether jobs of this machine are in one."""
        return self.mode != "off" and landlock.offered().version > 0

    @property
    def refusal(self) -> str:
        """Why no job may run here, a clause; empty: they may."""
        return landlock.offered().reason if self.mode == "on" else ""


OFF = Sandbox()


def of(spec: ExecutorSpec) -> Sandbox:
    """What a configuration says, on the machine where it is read."""
    return Sandbox(spec.sandbox, tuple(os.path.abspath(path) for path in spec.writable))


@dataclass(frozen=True)
class Rules:
    """What one job may do.

    Attributes:
        writable: places that it may write to, folders with all below them.
        network: whether it may connect to others, and be connected to.
        environ: variables that lead libraries to those places.
    """

    writable: tuple[str, ...]
    network: bool
    environ: dict[str, str] = field(default_factory=dict)


def rules(job: Job, stated: Sandbox, temporary: str, environ: Mapping[str, str]) -> Rules:
    """What a job may do on this machine; folders of caches are made where they are missing.

    A place within another one is left out, since a job could put a link there: it would give the
    next job the right to write where that leads.

    Args:
        temporary: the folder for its temporary files.
        environ: that of the job.
    """
    home = Path(os.path.expanduser("~"))
    named = environ.get("XDG_CACHE_HOME", "")
    # A relative one is ignored, as the rules of XDG have it.
    cache = Path(named) if os.path.isabs(named) else home / ".cache"
    caches = [str(cache), *filter(os.path.isabs, (environ.get(name, "") for name in _CACHES))]
    apart = [name for name in _ELSEWHERE if not environ.get(name)]
    there = {name: home / _ELSEWHERE[name] for name in apart if _ELSEWHERE[name]}
    # Not `Path.is_dir`, which raises where the user may not look into the home.
    usual = {name: str(place) for name, place in there.items() if os.path.isdir(place)}
    devices = [path for pattern in _DEVICES for path in sorted(glob.glob(pattern))]
    own = [job.staging_dir, temporary, _OWN_PROCESS]
    places = outermost([*own, *stated.writable, *caches, *usual.values(), *devices])
    for place in {*places} & {*caches}:
        # Not in the job, which may not make a folder in the home.
        with suppress(OSError):
            os.makedirs(place, exist_ok=True)
    # Where there is no home to write to, what would be kept goes with the job.
    base = cache if os.access(cache, os.W_OK) else Path(temporary)
    led = {name: str(base / name.partition("_")[0].lower()) for name in apart if name not in usual}
    led["TMPDIR"] = temporary
    return Rules(tuple(places), needs_network(job), led)


def outermost(places: Iterable[str]) -> list[str]:
    """The places, absolute ones, that are not found by way of another one of them."""
    found = {place: os.path.realpath(place) for place in places}
    real = {*found.values()}
    return [place for place in found if real.isdisjoint(_way(place))]


def _way(path: str) -> Iterator[str]:
    """The folders, without links, in each of which the system looks up a name of a path."""
    folder, names, followed = "/", path.split("/")[::-1], 0
    while names:
        name = names.pop()
        if name == "..":
            folder = os.path.dirname(folder)
        elif name not in ("", "."):
            yield folder
            step = os.path.join(folder, name)
            if os.path.islink(step) and followed < _LINKS:
                followed += 1
                target = os.readlink(step)
                folder = "/" if os.path.isabs(target) else folder
                names += target.split("/")[::-1]
            else:
                folder = step


def needs_network(job: Job) -> bool:
    """Whether what the configuration says of a job has to be downloaded."""
    if isinstance(job, Composed):
        return any(needs_network(each) for each in job.graphs.values())
    if isinstance(job.weights, Checkpoint):
        downloads = job.weights.is_url
    else:
        downloads = job.weights not in UNTRAINED  # published weights
    return downloads or any(urls.is_url(path) for path in _named(job))


def _named(job: Job) -> Iterator[str]:
    """The files of a job's inputs."""
    inputs = [*job.inputs.values(), *(job.first.inputs.values() if job.first else ())]
    changes = [change for case in job.verify.cases for change in case.inputs.values()]
    yield from (each.path for each in (*inputs, *changes) if each.path is not None)


_held: list[int] = []


def enter(given: Rules) -> None:
    """Restrict this process, which has one thread, and lead its libraries to where they may write.

    Raises:
        OSError: the kernel refuses.
    """
    import tempfile

    os.environ.update(given.environ)
    tempfile.tempdir = None  # of the server; the next call looks at the environment
    # The rule is about what `/proc/PID` is now; held open, it stays that.
    _held.append(os.open(_OWN_PROCESS, os.O_PATH | os.O_CLOEXEC))
    landlock.restrict(given.writable, tcp=not given.network)


def explained(result: JobResult, given: Rules) -> JobResult:
    """The result, with the key to change where a job failed because it is in a sandbox."""
    error = result.error
    hint = _hint(error, given) if error is not None else ""
    if error is None or not hint:
        return result
    said = f"{hint}; {error.hint}" if error.hint else hint
    # Made anew: a copy would not be validated.
    told = ErrorRecord.model_validate(dict(error) | {"hint": said})
    return result.model_copy(update={"error": told})


def _hint(error: ErrorRecord, given: Rules) -> str:
    found = _REFUSED.search(error.message)
    paths = [path[1:-1] for path in found.groups() if path] if found else []
    outside = [path for path in paths if _is_refused(path, given)]
    if outside:
        return (
            "executor.sandbox lets a job write only to its staging folder, its TMPDIR and caches: "
            f"name the folder ('executor.writable=[{_folder(outside[0])}]'), {_SWITCH_OFF}"
        )
    by_network = found is not None and not paths
    restricted = not given.network and landlock.offered().tcp
    if restricted and (by_network or _UNREACHED.search(error.message)):
        return (
            "executor.sandbox lets a job connect only where its weights or inputs are to be "
            f"downloaded: state them (weights, path), download them before, {_SWITCH_OFF}"
        )
    return ""


def _folder(path: str) -> str:
    """What to name for a path to be written."""
    # A name without its folder, as of a file that `shutil.rmtree` could not remove.
    if not os.path.isabs(path) and not os.path.lexists(path):
        return "FOLDER"
    return os.path.abspath(path if os.path.isdir(path) else os.path.dirname(path) or ".")


def _is_refused(path: str, given: Rules) -> bool:
    """Whether writing there is the user's right, and was not the job's."""
    real = os.path.realpath(path)
    if any(Path(real).is_relative_to(os.path.realpath(place)) for place in given.writable):
        return False
    # It asks for the user's rights alone, which Landlock does not change.
    there = real if os.path.lexists(real) else os.path.dirname(real)
    return os.access(there, os.W_OK) or os.access(os.path.dirname(real), os.W_OK)
