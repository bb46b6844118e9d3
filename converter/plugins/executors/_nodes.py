"""What executors of several machines ask of a node: whether it is like this one, and for a GPU."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from converter.exchange import needs
from converter.model import urls
from converter.model.job import Job
from converter.model.records import NodeInfo
from converter.model.source import Checkpoint
from converter.plan import checkpoints, packages
from converter.plugins import providers

# Of a job that names no files, or small ones. Peaks of the zoo's models over 100 MB (38 models, two
# cores) were 0.7 GB and 3.4 to 3.8 times their weights, those of their variants up to 16 times.
_UNKNOWN = 2 << 30
_LIBRARIES = 1 << 30
_OF_FILES, _OF_MADE = 4, 12


def skew(machine: dict[str, Any]) -> dict[str, str | None]:
    """The versions of a machine that are not those of this one; Python's, too."""
    theirs = {**machine["packages"], "python": machine["python"]}
    ours = here()
    return {
        name: theirs.get(name)
        for name in dict.fromkeys([*ours, *theirs])
        if theirs.get(name) != ours.get(name)
    }


def differences(machine: dict[str, Any]) -> str:
    """``skew`` for people: ``onnx 1.20.0 (here 1.23.2)``; empty: there is none."""
    ours = here()
    return ", ".join(
        f"{name} {theirs or 'missing'} (here {ours.get(name) or 'missing'})"
        for name, theirs in skew(machine).items()
    )


@cache
def here() -> dict[str, str | None]:
    return {**packages.versions(), "python": platform.python_version()}


def described(hello: dict[str, Any], address: str) -> NodeInfo:
    """The record of a node.

    Args:
        hello: its ``machine`` (a ``daemon.Machine``), its ``id``, and the ``gpus`` of the job.
    """
    machine = hello["machine"]
    gpus = [machine["gpus"][int(one)]["name"] for one in hello["gpus"] if _is_place(one, machine)]
    return NodeInfo(
        id=hello["id"],
        name=machine["name"],
        address=address,
        cpu=machine["cpu"],
        cores=machine["cores"],
        gpus=gpus,
        packages=skew(machine),
        landlock=machine.get("landlock", 0),
    )


def _is_place(gpu: str, machine: dict[str, Any]) -> bool:
    """Whether a GPU is called by its place in what the machine lists; some have an id."""
    return gpu.isdigit() and int(gpu) < len(machine["gpus"])


def alike(node: NodeInfo, machine: dict[str, Any]) -> bool:
    """Whether a figure of a node says what one of a machine would."""
    gpus = {gpu["name"] for gpu in machine["gpus"]}
    same = (node.cpu, node.cores) == (machine["cpu"], machine["cores"])
    return same and gpus.issuperset(node.gpus) and node.packages == skew(machine)


def estimated_bytes(job: Job) -> int:
    """What a job may hold that was never seen, by the sizes of the files that it names."""
    made = _size(map(Path, needs.made(job)))
    named = [Path(job.source.path)] if job.source.path is not None else []
    stated = job.weights.checkpoint if isinstance(job.weights, Checkpoint) else ""
    if stated and not urls.is_url(stated):
        named += checkpoints.names(Path(stated)).values()
    return max(_UNKNOWN, _LIBRARIES + _OF_FILES * _size(named) + _OF_MADE * made)


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def needs_gpu(job: Job) -> bool:
    """Whether a job asks for a GPU, or runs its file where one is."""
    if job.device == "cuda":
        return True
    return bool(job.provider) and bool(providers.load(job.provider).DEVICE == "cuda")
