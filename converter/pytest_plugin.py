"""The fixture ``converter_zoo``: run a configuration in a test.

Loaded by pytest in every session of an environment that has the converter: nothing is imported
before the fixture is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from converter.api import Run


class ConverterZoo(Protocol):
    """What the fixture gives."""

    def __call__(self, *overrides: str, config_dir: str | Path | None = None) -> Run:
        """Run a configuration; its files are in the test's temporary folder.

        Raises:
            AssertionError: a model is not as expected; the message has the summary.
            ConfigError: the configuration is wrong.
        """


@pytest.fixture
def converter_zoo(tmp_path: Path) -> ConverterZoo:
    """Run a configuration: ``converter_zoo("+experiment=mine", config_dir="zoo")``."""

    def run(*overrides: str, config_dir: str | Path | None = None) -> Run:
        from converter import api
        from converter.api.runs import quoted
        from converter.display import summary

        number = len(list(tmp_path.glob("zoo-*")))
        place = [
            f"hydra.run.dir={quoted(tmp_path / f'zoo-{number}')}",
            f"store.path={quoted(tmp_path / 'store')}",
        ]
        done = api.run(*place, *overrides, config_dir=config_dir, quiet=True)
        if done.exit_code != 0:  # not `assert`, which `python -O` leaves out
            raise AssertionError(summary.render(done.manifest, done.directory))
        return done

    return run
