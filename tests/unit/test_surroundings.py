"""The environment in which the libraries of conversions start."""

from __future__ import annotations

import pytest

from converter.processes.local import surroundings

POLICY, SPINS, TUNABLES = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GLIBC_TUNABLES"


@pytest.fixture(autouse=True)
def nothing_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (POLICY, SPINS, TUNABLES):
        monkeypatch.delenv(name, raising=False)


def test_threads_that_wait_sleep_and_large_blocks_come_in_huge_pages() -> None:
    assert surroundings() == {POLICY: "PASSIVE", TUNABLES: "glibc.malloc.hugetlb=1"}


@pytest.mark.parametrize(("name", "value"), [(POLICY, "ACTIVE"), (SPINS, "1000")])
def test_what_the_user_says_of_threads_counts(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert POLICY not in surroundings()


def test_other_tunables_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TUNABLES, "glibc.malloc.arena_max=2")
    assert surroundings()[TUNABLES] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"
    monkeypatch.setenv(TUNABLES, "glibc.malloc.hugetlb=2")
    assert TUNABLES not in surroundings()
