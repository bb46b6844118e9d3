"""Files that were edited after a moment: where a job has no key to hold its files against.

By the time of the change, which only the kernel sets; what was put back counts as edited too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from converter.model.job import Composed, Derived, Job
from converter.plan import sources


def absent(job: Job) -> list[Path]:
    """The files that a job names and that are not there."""
    if isinstance(job, Derived):  # the worker has looked at what it is made from
        return []
    each = job.graphs.values() if isinstance(job, Composed) else [job]
    return [path for one in each for path in sources.named(one) if not path.exists()]


def since(
    moment_ns: int, job: Job, read: Iterable[str], never: Collection[Path] = ()
) -> list[Path]:
    """The files of a job that were edited or removed after a moment.

    Args:
        moment_ns: by the clock of this machine.
        read: what its code has opened beside the files that it names; one that is gone was its own.
        never: what was ``absent`` at that moment: a path that is wrong, and no change.
    """
    if isinstance(job, Derived):  # the worker has looked at what it is made from
        return []
    each = job.graphs.values() if isinstance(job, Composed) else [job]
    named = [path for one in each for path in sources.named(one)]
    gone = [path for path in absent(job) if path not in never]
    others = dict.fromkeys([*named, *map(Path, read)])
    return [*gone, *(path for path in others if _changed(path) > moment_ns)]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return 0
