"""Any call that changes a file may fail, and end its process: the short form of ``nth_call.py``."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from nth_call import matrix
from nth_shim import why_not
from nth_trials import Trial, Trials, opened

SHORT = 20
MEMORY = Path("/dev/shm")
pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    # Not on a disk, where there is a choice: most of a trial is small files that come and go.
    place = MEMORY if MEMORY.is_dir() else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(dir=place) as base, opened(Path(base)) as found:
        yield found


def check(trials: Trials, chosen: list[Trial]) -> Counter[str]:
    """Run trials; none may break a promise."""
    found = [trials.run(trial) for trial in chosen]
    broken = [(str(each.trial), each.call, each.wrong, each.told) for each in found if each.wrong]
    assert broken == []
    return Counter(each.ends for each in found)


def test_a_spread_of_calls_fails_and_is_resumed(trials: Trials) -> None:
    every = list(matrix(trials.calls))
    # Each scenario, mode and error, at calls far apart.
    apart = len(every) // SHORT
    ends = check(trials, every[apart // 2 :: apart])
    # The shim did its work: a run that nothing happens to ends with 0.
    assert ends["3"] > SHORT // 4
    assert ends["killed"] > 0


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_every_call_fails_and_is_resumed(trials: Trials) -> None:
    every = list(matrix(trials.calls))
    ends = check(trials, every)
    print({name: len(calls) for name, calls in trials.calls.items()}, len(every), ends)
