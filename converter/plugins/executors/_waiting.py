"""What has not begun yet: in which order it begins, and whether it fits beside what runs."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from converter.model.job import Job
from converter.plugins.executors import Past


class Waiting:
    """Jobs that have not begun, in their order; where the past is known the longest first.

    A long one that begins last is what all others wait for. One that was never seen may be long.

    Args:
        jobs: further ones may come behind them at any time.
    """

    def __init__(self, jobs: deque[Job], past: Mapping[str, Past]) -> None:
        self._jobs = jobs
        self._past = past
        self._sorted: list[tuple[float, int, Job]] = []
        self._places = count()

    def __bool__(self) -> bool:
        return bool(self._jobs or self._sorted)

    def pop(self, fits: Callable[[Job], bool]) -> Job | None:
        """The next job that fits; ``None``: none does."""
        self._sort()
        passed_over = []
        found = None
        while self._sorted and found is None:
            entry = heapq.heappop(self._sorted)
            if fits(entry[2]):
                found = entry[2]
            else:
                passed_over.append(entry)
        for entry in passed_over:
            heapq.heappush(self._sorted, entry)
        return found

    def _sort(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            known = of(self._past, job)
            seconds = known.seconds if known is not None else math.inf
            # Without a past all are alike, and keep their places.
            heapq.heappush(self._sorted, (-seconds, next(self._places), job))


@dataclass(frozen=True)
class Memory:
    """What all jobs together may hold; it is only foreseen, and not enforced.

    Attributes:
        bytes: of all; ``None``: nobody counts.
        workers: jobs at a time. One of which nothing is known counts as the share of one.
    """

    bytes: int | None = None
    workers: int = 1

    def fits(self, job: Job, running: Iterable[Job], past: Mapping[str, Past]) -> bool:
        """Whether a job may begin beside others. One that is too large for all runs alone."""
        beside = list(running)
        if self.bytes is None or not beside:
            return True
        return sum(self._peak(one, past) for one in (job, *beside)) <= self.bytes

    def _peak(self, job: Job, past: Mapping[str, Past]) -> int:
        assert self.bytes is not None
        known = of(past, job)
        peak = known.peak_bytes if known is not None else None
        return self.bytes // self.workers if peak is None else peak


def of(past: Mapping[str, Past], job: Job) -> Past | None:
    """What is known of a job; what derives from a file counts as that file until it was seen."""
    return past.get(job.label) or past.get(job.name)
