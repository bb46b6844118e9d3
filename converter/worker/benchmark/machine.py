"""Notice what else the machine did during a measurement: other processes, a slow clock.

Linux tells it through /proc and /sys; where a file is missing (most virtual machines have no
clock to read), nothing is said of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Shares of the machine's cores, and of the highest clock, beyond which a note is made.
_BUSY = 0.05
_SLOW = 0.7
_ROOT = Path("/")
_CPUS = "sys/devices/system/cpu"


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment; seconds of CPU are summed over all cores.

    Attributes:
        busy_s: CPU that all processes have used.
        own_s: CPU that this process has used.
        stolen_s: CPU that the hypervisor gave to others.
        held_s: time that the container's CPU quota stopped its processes.
        throttled: how often the processor slowed itself down, against heat.
        clocks: of each core: the share of its highest clock that it runs at.
    """

    at: float
    busy_s: float
    own_s: float
    stolen_s: float
    held_s: float
    throttled: int
    clocks: list[float]


def snapshot(root: Path = _ROOT) -> Snapshot:
    """The counters of now, zero where the machine does not tell.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    # The first line sums over all cores, in ticks.
    stat = _text(root / "proc/stat").partition("\n")[0].split()[1:]
    # user nice system idle iowait irq softirq steal (guest time is in user already)
    values = [int(value) / ticks for value in stat[:8]] or [0.0] * 8
    own = os.times()
    return Snapshot(
        at=time.monotonic(),
        # Neither idle nor waiting for a disk is work, and stolen time is counted by itself.
        busy_s=sum(values[:3]) + sum(values[5:7]),
        own_s=own.user + own.system + own.children_user + own.children_system,
        stolen_s=values[7],
        held_s=_held(root),
        throttled=sum(
            _number(path)
            for path in (root / _CPUS).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        ),
        clocks=_clocks(root),
    )


@contextmanager
def watched(threads: int) -> Iterator[list[str]]:
    """What is within is a measurement; the list that this gives then holds what disturbed it."""
    notes: list[str] = []
    before = snapshot()
    yield notes
    notes += disturbances(before, snapshot(), threads)


def disturbances(before: Snapshot, after: Snapshot, threads: int) -> list[str]:
    """What else happened between two moments, in words; nothing on a quiet machine.

    Args:
        threads: of the measurement: as many cores should run at full clock.
    """
    wall = max(after.at - before.at, 1e-9)
    cores = os.cpu_count() or 1
    others = (after.busy_s - before.busy_s - after.own_s + before.own_s) / wall
    stolen = (after.stolen_s - before.stolen_s) / wall
    notes = []
    if others > _BUSY * cores:
        load = os.getloadavg()[0]
        notes.append(
            f"busy: other processes used {others:.1f} of {cores} cores (load average {load:.1f})"
        )
    if stolen > _BUSY * cores:
        notes.append(f"busy: the hypervisor gave {stolen:.1f} of {cores} cores to others")
    if (held := after.held_s - before.held_s) > _BUSY * wall:
        notes.append(f"throttled: the container's CPU quota stopped it for {held:.1f} s")
    if after.throttled > before.throttled:
        times = after.throttled - before.throttled
        notes.append(f"throttled: the processor slowed itself down {times} times against heat")
    # On which cores the threads ran is not known: idle ones are slow by right.
    fastest = sorted(after.clocks, reverse=True)[:threads]
    if fastest and (share := sum(fastest) / len(fastest)) < _SLOW:
        notes.append(f"slow clock: the cores ran at {share:.0%} of their highest frequency")
    return notes


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _clocks(root: Path) -> list[float]:
    found = []
    for folder in (root / _CPUS).glob("cpu[0-9]*/cpufreq"):
        # Kilohertz in both, so that only their ratio matters.
        now, highest = _number(folder / "scaling_cur_freq"), _number(folder / "cpuinfo_max_freq")
        if now and highest:
            found.append(now / highest)
    return found


def _held(root: Path) -> float:
    """Seconds for which a quota of cgroup version 2 stopped this process's group."""
    group = _text(root / "proc/self/cgroup").strip().rpartition("::")[2].lstrip("/")
    base = root / "sys/fs/cgroup"
    for folder in (base / group, base):
        for line in _text(folder / "cpu.stat").splitlines():
            key, _, value = line.partition(" ")
            if key == "throttled_usec":
                return int(value) / 1e6
    return 0.0
