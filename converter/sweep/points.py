"""A sweep: the points that Hydra's sweeper makes of a command line, run one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from converter.config import point, resolution
from converter.config.hydra_errors import reworded
from converter.config.point import CONFIG, Report, Task
from converter.layout import claim
from converter.layout.interrupts import Interrupts, exit_code
from converter.model.errors import ConfigError, ConverterError, ExitCode, Problem
from converter.sweep import SweepPoint, worst

if TYPE_CHECKING:
    from converter.sweep.journal import Journal

_STOP = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


def run(hydra: Hydra, config: DictConfig, task: Task, report: Report) -> ExitCode:
    """Run all points; one that cannot be composed or run does not keep the others from it.

    Args:
        config: composed for the sweep as a whole.

    Raises:
        ConverterError: the sweep as a whole cannot be composed, or its folder not be used.
    """
    with reworded(hydra, CONFIG, []):
        _refuse_other_sweepers(config)
        HydraConfig.instance().set_config(config)
        keys, points = _points(hydra, config)
        folder = _Folder(config, keys, points)
    codes: list[ExitCode] = []
    with Interrupts() as interrupts, folder:
        for number, planned in enumerate(points):
            try:
                with reworded(hydra, CONFIG, planned.overrides):
                    composed = _composed(hydra, config, planned.overrides, number)
                    create = partial(folder.create, planned)
                    one = point.create(
                        composed,
                        folder.path,
                        create,
                        name=planned.name,
                        interrupts=interrupts,
                        later=partial(_later, hydra, config, points, number + 1),
                    )
                del composed  # what the point needs of it is in there
                planned.exit_code = task(one)
            except ConverterError as error:
                problems = error.problems if isinstance(error, ConfigError) else [error]
                planned.problems = [str(problem) for problem in problems]
                planned.exit_code = report(error, planned.name)
            codes.append(planned.exit_code)
            folder.note()
            if interrupts.received is not None:
                # The point may have ended well before the signal came: the sweep was stopped all
                # the same.
                codes.append(exit_code(interrupts.received))
            if codes[-1] in _STOP:
                break
        code = worst(codes)
        folder.close(code)
    return code


def _later(
    hydra: Hydra, config: DictConfig, points: list[SweepPoint], first: int
) -> Iterator[dict[str, Any]]:
    """The configurations of later points; one that cannot be composed says so at its turn."""
    for number, planned in enumerate(points[first:], first):
        try:
            with reworded(hydra, CONFIG, planned.overrides):
                composed = _composed(hydra, config, planned.overrides, number)
                values = resolution.resolve(composed, without="hydra")
        except ConverterError:
            continue
        finally:
            HydraConfig.instance().cfg = None
        yield values


def _composed(hydra: Hydra, config: DictConfig, overrides: list[str], number: int) -> DictConfig:
    """The configuration of a point."""
    composed = hydra.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed):
        # As Hydra's own launcher does, for configurations that use `${hydra:job.num}`.
        composed.hydra.job.id = composed.hydra.job.num = number
    # For `${hydra:...}` of this point: the resolver looks there, not into what is resolved.
    HydraConfig.instance().set_config(composed)
    return composed


class _Folder:
    """The folder of a sweep: checked at once; created, held and written from its first run on."""

    def __init__(self, config: DictConfig, keys: list[str], points: list[SweepPoint]) -> None:
        self.path = point.folder_of(config, "hydra.sweep.dir")
        self._chosen = point.is_chosen(config, "hydra.sweep.dir")
        self._config = config
        self._keys = keys
        self._points = points
        self._journal: Journal | None = None
        # The lock is taken with the first run, in a method, and freed with the sweep.
        self._held = ExitStack()
        if self._chosen:
            claim.refuse_used(self.path, "hydra.sweep.dir")

    def __enter__(self) -> _Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def create(self, planned: SweepPoint) -> Path:
        """Create the folder of a point."""
        if self._journal is None:
            self._journal = self._begin()
        # Chosen: a point has exactly this folder, and never a number behind its name.
        planned.directory = claim.create(self.path / planned.name, chosen=True)
        self._journal.write()
        return planned.directory

    def _begin(self) -> Journal:
        # Only now: a wrong configuration is told without waiting for these.
        from converter.layout.runlock import locked
        from converter.sweep.journal import Journal, now
        from converter.sweep.record import SweepInfo

        # A sweep whose points are all wrong leaves no folder.
        self.path = claim.create(self.path, chosen=self._chosen)
        self._held.enter_context(locked(self.path))
        return Journal(
            self.path,
            self._points,
            SweepInfo(
                experiment=resolution.experiment(self._config),
                started_at=now(),
                overrides=resolution.overrides(self._config),
                keys=self._keys,
            ),
        )

    def note(self) -> None:
        """Record that a point came to its end."""
        if self._journal is not None:
            self._journal.write()

    def close(self, code: ExitCode) -> None:
        """Write the final record and print it; nothing where no point could run."""
        if self._journal is not None:
            from converter.sweep import screen

            screen.show(self._journal.close(code), self.path)


def _points(hydra: Hydra, config: DictConfig) -> tuple[list[str], list[SweepPoint]]:
    """The swept keys, and the points; the name of a point states the swept keys only."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    given = parser.parse_overrides(resolution.overrides(config))
    keys = {override.get_key_element().lstrip("+~") for override in given}
    # The command line takes precedence over what the experiment sweeps over.
    params = (config.hydra.sweeper.params or {}).items()
    stated = parser.parse_overrides([f"{key}={value}" for key, value in params if key not in keys])
    parsed = [*stated, *given]
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    points: list[SweepPoint] = []
    names: set[str] = set()
    # Without a size of batches all points are in the first one.
    for overrides in BasicSweeper.split_arguments(parsed, None)[0]:
        named = [text for text in overrides if text.split("=", 1)[0] in swept]
        name = claim.safe_name(",".join(text.lstrip("+~") for text in named))
        # Long names are cut, and may be equal then.
        name = next(unique for unique in _numbered(name) if unique not in names)
        names.add(name)
        points.append(SweepPoint(name, overrides, named))
    order = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    return [key.lstrip("+~") for key in order], points


def _numbered(name: str) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3``, …"""
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _refuse_other_sweepers(config: DictConfig) -> None:
    for group in ("hydra/sweeper", "hydra/launcher"):
        if (choice := config.hydra.runtime.choices[group]) != "basic":
            hint = "The executor runs models side by side; points run one after the other."
            raise ConfigError(Problem(group, f"found '{choice}'; expected basic.", hint))
    if point.raw(config, "hydra.sweep.subdir") != "${hydra.job.num}":
        message = "a point's folder is named by the swept keys, nothing else."
        raise ConfigError(Problem("hydra.sweep.subdir", message, "Remove it."))
