"""What else a machine did during a measurement, read from a /proc and a /sys of our own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from converter.worker.benchmark import machine
from converter.worker.benchmark.machine import Snapshot

QUIET = Snapshot(
    at=100.0, busy_s=50.0, own_s=10.0, stolen_s=0.0, held_s=0.0, throttled=0, clocks=[1.0, 1.0]
)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.25, 1.0, 1.0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "proc/stat": "cpu  500 100 200 9000 50 30 20 40 60 0\ncpu0 1 2 3\n",
        "proc/self/cgroup": "0::/ours\n",
        "sys/fs/cgroup/ours/cpu.stat": "usage_usec 1\nnr_throttled 3\nthrottled_usec 1500000\n",
    }
    for core, clock in enumerate((1_200_000, 2_400_000)):
        folder = f"sys/devices/system/cpu/cpu{core}"
        files[f"{folder}/cpufreq/scaling_cur_freq"] = f"{clock}\n"
        files[f"{folder}/cpufreq/cpuinfo_max_freq"] = "2400000\n"
        files[f"{folder}/thermal_throttle/core_throttle_count"] = "4\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_counters_are_read(root: Path) -> None:
    found = machine.snapshot(root)
    ticks = os.sysconf("SC_CLK_TCK")
    assert found.busy_s == pytest.approx((500 + 100 + 200 + 30 + 20) / ticks)
    assert found.stolen_s == pytest.approx(40 / ticks)
    assert (found.held_s, found.throttled) == (1.5, 8)
    assert sorted(found.clocks) == [0.5, 1.0]


def test_what_the_machine_does_not_tell_is_zero(tmp_path: Path) -> None:
    found = machine.snapshot(tmp_path)
    assert (found.busy_s, found.stolen_s, found.held_s, found.throttled) == (0, 0, 0, 0)
    assert found.clocks == []


def test_this_machine_tells_its_counters() -> None:
    assert machine.snapshot().busy_s > 0


def test_a_quiet_machine_has_no_note() -> None:
    own_work = replace(QUIET, at=110.0, busy_s=70.5, own_s=30.0)
    assert machine.disturbances(QUIET, own_work, 2) == []


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            {"busy_s": 64.0},
            "busy: other processes used 1.4 of 2 cores (load average 3.2)",
        ),
        ({"stolen_s": 5.0}, "busy: the hypervisor gave 0.5 of 2 cores to others"),
        ({"held_s": 2.0}, "throttled: the container's CPU quota stopped it for 2.0 s"),
        ({"throttled": 3}, "throttled: the processor slowed itself down 3 times against heat"),
        ({"clocks": [0.5, 0.6]}, "slow clock: the cores ran at 55% of their highest frequency"),
    ],
)
def test_a_disturbance_is_told(change: dict[str, float], note: str) -> None:
    after = replace(QUIET, at=110.0, **change)
    assert machine.disturbances(QUIET, after, 2) == [note]


def test_idle_cores_may_be_slow() -> None:
    after = replace(QUIET, at=110.0, clocks=[1.0, 0.3])
    assert machine.disturbances(QUIET, after, 1) == []
