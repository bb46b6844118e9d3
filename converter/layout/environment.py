"""What a run ran on: for the manifest, and for the executor's defaults."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from converter.layout import landlock
from converter.model.manifest import Environment, Git, Gpu

_COMMAND_S = 10.0
_CGROUP = Path("/sys/fs/cgroup")


def collect(packages: Mapping[str, str | None]) -> Environment:
    """Everything at once; takes a fraction of a second, more where nvidia-smi is slow.

    Args:
        packages: the versions that are recorded with it.
    """
    return Environment(
        os=platform.platform(),
        python=platform.python_version(),
        cpu=_cpu(),
        cores=cores(),
        memory_bytes=memory_bytes(),
        gpus=_gpus(),
        landlock=landlock.offered().version,
        packages=dict(packages),
    )


def cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its cgroup."""
    # macOS tells no affinity.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A container of half a machine sees all cores and is stopped beyond its quota: `os.cpu_count`
    # would start too many workers. Rounded down, for a thread too many is stopped in each period.
    quota = _cpu_quota()
    return max(1, min(allowed or 1, int(quota) if quota is not None else allowed or 1))


def physical_cores() -> int:
    """Like ``cores``, but two hardware threads of one core count once."""
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(cores())
    try:
        # Threads of one core state the same list.
        distinct = {Path(topology.format(number)).read_text() for number in allowed}
    except OSError:
        return cores()
    # A quota may allow less than the affinity.
    return min(cores(), len(distinct))


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or the limit of its cgroup."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [_number(folder / "memory.max") for folder in _cgroup_folders("")]
    # Version 1 states a number beyond all memory where there is no limit, version 2 the word `max`.
    limits += [_number(folder / "memory.limit_in_bytes") for folder in _cgroup_folders("memory")]
    return min([machine, *(limit for limit in limits if limit)])


def git_state(folder: Path) -> Git | None:
    """Commit of the working tree around ``folder``, and whether tracked files differ from it."""
    commit = _output(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if commit is None:
        return None
    status = _output(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return Git(commit=commit.strip(), dirty=bool(status))


def version(package: str) -> str | None:
    """The installed version of a package, ``None`` without one; nothing is imported."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(command: list[str]) -> str | None:
    """What a command prints; ``None`` when it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _gpus() -> list[Gpu]:
    fields = "name,memory.total,driver_version"
    text = _output(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    gpus = []
    for line in (text or "").splitlines():
        # From the right: a name may hold commas.
        parts = [part.strip() for part in line.rsplit(",", 2)]
        if len(parts) == 3:
            # nvidia-smi counts in MiB, and has words where a device does not tell.
            mib = int(parts[1]) if parts[1].isdigit() else None
            memory = mib << 20 if mib is not None else None
            gpus.append(Gpu(name=parts[0], memory_bytes=memory, driver=parts[2]))
    return gpus


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cgroup_folders(controller: str) -> list[Path]:
    """The folders of this process's cgroup and those above it.

    Args:
        controller: of cgroup version 1 (``memory``, ``cpu``); empty for version 2.
    """
    for line in _cgroup_lines():
        _, controllers, path = line.split(":", 2)
        # Version 2 has the one line `0::PATH`: no controllers, which split into one empty name.
        if controller in controllers.split(","):
            root = _CGROUP / controller
            own = root / path.lstrip("/")
            # The limit of every group above holds as well.
            above = [folder for folder in own.parents if folder.is_relative_to(root)]
            return [own, *above]
    return []


def _cgroup_lines() -> list[str]:
    try:
        return Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cpu_quota() -> float | None:
    quotas = []
    for folder in _cgroup_folders(""):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        # `max` stands there where there is no limit.
        if quota.isdigit():
            quotas.append(int(quota) / int(period))
    for folder in _cgroup_folders("cpu"):
        # Version 1 has -1 for no limit, which `_number` takes for no number.
        quota_us = _number(folder / "cpu.cfs_quota_us")
        period_us = _number(folder / "cpu.cfs_period_us")
        if quota_us and period_us:
            quotas.append(quota_us / period_us)
    return min(quotas, default=None)
