"""Damaged records before the commands that read them: the short form of ``records.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from record_trials import SEED, Trials

SHORT, LONG = 15, 2_000
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    found = Trials(tmp_path_factory.mktemp("records"), SEED)
    yield found
    found.close()


def check(trials: Trials, count: int) -> Counter[str]:
    """Damage so many records; none may break a promise."""
    ends: Counter[str] = Counter()
    broken = []
    for number in range(count):
        found = trials.run(number)
        ends[found.ends] += 1
        if found.wrong:
            broken.append((number, found.path, found.words, found.wrong, found.told[:2000]))
    print(f"{count} records, seed {SEED}", dict(sorted(ends.items())))
    assert broken == []
    return ends


def test_damaged_records_are_told_or_made_again(trials: Trials) -> None:
    ends = check(trials, SHORT)
    # Some are refused, and with some the command comes to its end.
    assert {end.rpartition(" ")[2] for end in ends} >= {"0", "2"}


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_thousands_of_damaged_records(trials: Trials) -> None:
    check(trials, LONG)
