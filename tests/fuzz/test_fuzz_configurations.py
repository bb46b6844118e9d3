"""Configurations and overrides that Hypothesis draws: the short form of ``configurations.py``."""

from __future__ import annotations

from pathlib import Path

import configurations
import pytest
from configuration_strategies import PLACES, Asked, commands
from configurations import SEED, drawn, real, tried
from hypothesis import HealthCheck, given, settings

SHORT, REAL, LONG = 40, 2, 3_000
pytestmark = pytest.mark.faults


def test_every_key_of_the_schema_is_a_place() -> None:
    keys = {".".join(map(str, place.path)) for place in PLACES}
    assert {"opset", "models.free.inputs.free.shape.0", "verify.rtol", "publish_to"} <= keys
    assert len(keys) > 250


def test_a_promise_that_is_broken_shows(tmp_path: Path) -> None:
    """What judges a command sees an exit code, a time and characters that must not be."""
    asked = Asked(b"# @package _global_\nmodels: {a: {source: conv_bn_relu}}\n", (), "plan")
    ended, wrong = tried(asked, tmp_path)
    assert (ended.code, wrong) == (0, [])
    loud = [chr(27) + "[2J", "Traceback (most recent call last)"]
    for text in loud:
        told = configurations.Ended(70, "exit", 0.1, 9.0, 0, text)
        broken = configurations.forked.promises(told, {0, 1, 2}, 2.0)
        assert len(broken) == 3, broken


def test_whatever_is_written_is_told_in_words(tmp_path: Path) -> None:
    @settings(
        max_examples=SHORT,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(commands())
    def each(asked: Asked) -> None:
        ended, wrong = tried(asked, tmp_path)
        assert wrong == [], (asked, ended.told[:3000])

    each()


def test_so_it_is_in_a_process_of_its_own(tmp_path: Path) -> None:
    taken: list[Asked] = []
    drawn(SEED, REAL, taken.append)
    for asked in taken[:REAL]:
        told, wrong = real(asked, tmp_path)
        assert wrong == [], (asked, told[:3000])


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_thousands_of_configurations(tmp_path: Path) -> None:
    broken = []

    def look(asked: Asked) -> None:
        ended, wrong = tried(asked, tmp_path)
        if wrong:
            broken.append((asked, wrong, ended.told[:500]))

    drawn(SEED, LONG, look)
    print(f"{LONG} commands, seed {SEED}")
    assert broken == []
