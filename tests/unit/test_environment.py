from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from converter.layout import environment
from converter.plan import packages


def test_collect_describes_this_machine() -> None:
    found = environment.collect(packages.versions())
    assert found.cores == environment.cores() <= (os.cpu_count() or 1)
    assert 1 << 28 < found.memory_bytes <= environment.memory_bytes()
    assert found.packages["pydantic"]
    assert found.packages["converter"]
    assert {"torch", "onnxruntime", "onnxruntime-gpu"} <= set(found.packages)


@pytest.mark.parametrize(
    ("own", "above", "expected"), [("200000 100000", "max 100000", 2), ("max 1", "50000 100000", 1)]
)
def test_a_cgroup_bounds_cores_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, above: str, expected: int
) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text(own)
    (tmp_path / "a" / "cpu.max").write_text(above)
    (folder / "memory.max").write_text("max\n")
    (tmp_path / "a" / "memory.max").write_text("1000000\n")
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    monkeypatch.setattr(environment, "_cgroup_lines", lambda: ["0::/a/b"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert environment.cores() == expected
    assert environment.memory_bytes() == 1_000_000


def test_version_1_of_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for controller, file, text in (
        ("cpu", "cpu.cfs_quota_us", "300000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("memory", "memory.limit_in_bytes", "2000000"),
    ):
        (tmp_path / controller / "job").mkdir(parents=True, exist_ok=True)
        (tmp_path / controller / "job" / file).write_text(text)
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    monkeypatch.setattr(environment, "_cgroup_lines", lambda: ["4:memory:/job", "3:cpu:/job"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert environment.cores() == 3
    assert environment.memory_bytes() == 2_000_000


def test_git_state_tells_commit_and_dirt(tmp_path: Path) -> None:
    assert environment.git_state(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    (tmp_path / "file").write_text("one")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    state = environment.git_state(tmp_path)
    assert state is not None
    assert (len(state.commit), state.dirty) == (40, False)
    (tmp_path / "file").write_text("two")
    state = environment.git_state(tmp_path)
    assert state is not None
    assert state.dirty


def test_the_gpus_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Board, 80 GB, 81559, 570.1'\necho 'Other, [N/A], 570.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    first, second = environment.collect(packages.versions()).gpus
    assert (first.name, first.memory_bytes, first.driver) == (
        "Board, 80 GB",
        81559 << 20,
        "570.1",
    )
    assert (second.name, second.memory_bytes) == ("Other", None)


def test_two_hardware_threads_of_a_core_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def siblings(path: Path) -> str:
        number = int(str(path).split("/cpu/cpu")[1].split("/")[0])
        return f"{number % 2},{number % 2 + 2}\n"

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(environment, "cores", lambda: 4)
    monkeypatch.setattr(Path, "read_text", siblings)
    assert environment.physical_cores() == 2


def test_without_a_topology_every_core_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {100_000})
    monkeypatch.setattr(environment, "cores", lambda: 4)
    assert environment.physical_cores() == 4


def test_plugins_state_their_packages() -> None:
    """What another distribution brought stands for itself, and is not imported for that."""
    assert {"onnxsim", "onnxslim"} <= set(packages.of_plugins("simplifiers"))
    assert len(packages.names()) == len(set(packages.names()))
