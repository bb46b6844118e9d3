"""Any process may be killed or stopped at any moment: the short form of ``random_kills.py``."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_trials import Trial, Trials, drawn, opened
from random_kills import NUMBER, SEED

SHORT = 6
MEMORY = Path("/dev/shm")
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    place = MEMORY if MEMORY.is_dir() else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(dir=place) as base, opened(Path(base)) as found:
        yield found


def check(trials: Trials, chosen: list[Trial]) -> Counter[str]:
    """Run trials; none may break a promise."""
    found = [trials.run(trial) for trial in chosen]
    broken = [(str(each.trial), each.role, each.wrong, each.told) for each in found if each.wrong]
    assert broken == []
    return Counter(each.role for each in found)


def test_a_few_processes_are_killed_or_stopped(trials: Trials) -> None:
    roles = check(trials, drawn(SEED, SHORT))
    # A command may have ended by the moment of its signal, but not each of them.
    assert sum(count for role, count in roles.items() if role) > SHORT // 2


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_five_hundred_processes_are_killed_or_stopped(trials: Trials) -> None:
    roles = check(trials, drawn(SEED, NUMBER))
    print(roles)
    assert {"runner", "fork server", "supervisor", "job"} <= roles.keys()
