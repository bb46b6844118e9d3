"""What executors of several machines ask of a node: whether it is like this one, and for a GPU."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

from converter.model.job import Job
from converter.model.records import NodeInfo
from converter.plan import packages
from converter.plugins import providers


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
    )


def _is_place(gpu: str, machine: dict[str, Any]) -> bool:
    """Whether a GPU is called by its place in what the machine lists; some have an id."""
    return gpu.isdigit() and int(gpu) < len(machine["gpus"])


def alike(node: NodeInfo, machine: dict[str, Any]) -> bool:
    """Whether a figure of a node says what one of a machine would."""
    gpus = {gpu["name"] for gpu in machine["gpus"]}
    same = (node.cpu, node.cores) == (machine["cpu"], machine["cores"])
    return same and gpus.issuperset(node.gpus) and node.packages == skew(machine)


def needs_gpu(job: Job) -> bool:
    """Whether a job asks for a GPU, or runs its file where one is."""
    if job.device == "cuda":
        return True
    return bool(job.provider) and bool(providers.load(job.provider).DEVICE == "cuda")
