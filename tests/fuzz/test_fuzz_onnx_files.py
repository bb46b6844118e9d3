"""Mutated ONNX files through all that reads them: the short form of ``onnx_files.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from onnx_trials import SEED, Trials

SHORT, LONG = 30, 10_000
# The libraries' own, at their import.
pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    found = Trials(tmp_path_factory.mktemp("onnx"), SEED)
    yield found
    found.close()


def check(trials: Trials, count: int, typed: int) -> Counter[str]:
    """Run so many files; none may break a promise."""
    ends: Counter[str] = Counter()
    broken = []
    for number in range(count):
        found = trials.run(number, commands=number % typed == typed - 1)
        ends.update(f"{step} {end}" for step, end in found.ends.items())
        if found.wrong:
            broken.append((number, found.ends, found.wrong, found.told[:2000]))
    print(f"{count} files, seed {SEED}", dict(sorted(ends.items())))
    assert broken == []
    return ends


def test_the_same_number_is_the_same_file(trials: Trials) -> None:
    assert [trials.mutant(n)[1] for n in range(30)] == [trials.mutant(n)[1] for n in range(30)]
    assert len({trials.mutant(n)[1] for n in range(30)}) > 20


def test_damaged_files_are_refused_or_right(trials: Trials) -> None:
    ends = check(trials, SHORT, SHORT)
    # All verdicts are there: a harness that lets every file fail would see nothing.
    assert ends["simplify ok"] > 2
    assert ends["verify ok"] > 1
    assert ends["inspect 2"] > 5
    assert sum(count for end, count in ends.items() if "SESSION" in end or "CHECKER" in end) > 10


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_ten_thousand_damaged_files(trials: Trials) -> None:
    check(trials, LONG, 100)
