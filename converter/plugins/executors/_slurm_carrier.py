"""Attempts as tasks of submitit: how they are submitted, followed, given up and cancelled."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

from converter.layout import environment
from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.plugins.executors import _nodes, _slurm_options, _slurm_queue
from converter.plugins.executors._parcels import parcel
from converter.plugins.executors._slurm_files import Heart, Tail
from converter.plugins.executors._slurm_options import Needs, Options
from converter.plugins.executors._slurm_queue import (
    RUNNING,
    WAITING,
    LocalQueue,
    Queue,
    RefusedError,
    SlurmQueue,
)
from converter.plugins.executors._slurm_task import Errand
from converter.processes.carrier import ENDS, Message, Work

_QUEUED = 1000  # tasks that run or wait, where `workers` is `auto`: an array of Slurm has 1001
_GATHER_S = 2.0
_SETTLE_S = 2.0  # until what a task wrote last is seen here
_FILES = 100  # that are looked into at a time
_PAUSE_S = 0.05
_CLOSE_S = 60.0
_QUIET_S = 30.0  # for which a task may wait before it is said why
# Of a refusal that fewer tasks would not have met: `MaxArraySize`, `MaxSubmitJobs`, quotas.
_TOO_MANY = re.compile("array|limit|policy", re.IGNORECASE)
# Slurm itself has gone: that is no fault of a job.
_NOBODY = re.compile("contact slurm controller|connect failure|Connection refused", re.IGNORECASE)
# What keeps a task waiting for ever, and who has to do what.
_NEVER = {
    "PartitionTimeLimit": "lower executor.time_min, or choose another executor.partition",
    "PartitionNodeLimit": "choose another executor.partition",
    "BadConstraints": "no node has what executor.constraint, cpus, mem_mb and gres ask for",
    "QOSMaxWallDurationPerJobLimit": "lower executor.time_min",
    "AssocMaxWallDurationPerJobLimit": "lower executor.time_min",
}
_AGAIN_S = 10.0
_LOCAL_POLL_S = 0.2
# What Slurm's words for the end of a task mean for who has to do something.
_MEANING = {
    "OUT_OF_MEMORY": "Slurm's limit of memory: raise executor.mem_mb",
    "TIMEOUT": "Slurm's limit of time: raise executor.time_min",
    "": "Slurm does not know it any more",
}

Found = list[tuple[int, Message]]


@dataclass
class _Running:
    """An attempt that was given to the cluster; times are monotonic.

    Attributes:
        since: when it was given to us, or submitted again.
        task: empty: it waits for others, to be submitted with them.
        node: that it runs on; empty: it has not begun.
        heard: when it wrote something.
        ended: when the cluster said that its task has ended, with ``state``.
    """

    work: Work
    needs: Needs
    record: Path
    tail: Tail
    since: float
    task: str = ""
    node: str = ""
    heard: float = 0.0
    ended: float | None = None
    state: str = ""


@dataclass(frozen=True)
class _Home:
    """A folder in that of the run, for its driver and its tasks."""

    folder: Path
    queue: Queue
    heart: Heart


class SlurmCarrier:
    """A ``Carrier``: each attempt is a task of submitit.

    Args:
        alone: attempts are latencies, each of which has a node for itself.
    """

    several_nodes = True

    def __init__(
        self, spec: ExecutorSpec, options: Options, alone: BenchmarkSpec | None = None
    ) -> None:
        self._spec = spec
        self._options = options
        self._alone = alone
        self._running: dict[int, _Running] = {}
        self._home: _Home | None = None
        self._refused_since: float | None = None
        self._batch = options.batch
        self._told: set[str] = set()
        self._next_submission = 0.0
        self._next_question = 0.0
        self._next_file = 0
        self._unfit: set[str] = set()
        self._unsuited: Counter[str] = Counter()

    @contextmanager
    def opened(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._home is not None:
                self._home.queue.close()
                self._home.heart.close()
                # What a task may still want to write there is for nobody.
                shutil.rmtree(self._home.folder, ignore_errors=True)

    def room(self) -> bool:
        return len(self._running) < self._places

    @cached_property
    def _places(self) -> int:
        if self._spec.workers != "auto":
            return self._spec.workers
        # More than Slurm has room for: it orders them itself.
        return _QUEUED if self._options.is_slurm else environment.cores()

    def workers(self) -> int:
        # How many Slurm will run beside each other nobody knows before they do.
        running = sum(bool(running.node) for running in self._running.values())
        return running if self._options.is_slurm else self._places

    def idle(self) -> bool:
        return self.room() and all(running.node for running in self._running.values())

    def start(self, key: int, work: Work) -> None:
        home = self._home or self._found(Path(work.job.staging_dir).parent)
        record = home.folder / f"{key}.jsonl"
        needs = Needs(
            _nodes.needs_gpu(work.job),
            tuple(sorted(self._unfit)),
            tuple(sorted(work.avoid - self._unfit)),
            None if self._alone is None else tuple(self._alone.nodes),
        )
        self._running[key] = _Running(work, needs, record, Tail(record), time.monotonic())

    def _found(self, parent: Path) -> _Home:
        """Make the folder, beside those of the attempts: it goes with them at the end of the run.

        Raises:
            OSError: it cannot be made.
        """
        folder = parent.absolute() / f".tasks.{os.urandom(4).hex()}"
        folder.mkdir(parents=True)
        options = self._options
        queue: Queue
        if options.is_slurm:
            queue = SlurmQueue(folder, options.array_parallelism, options.setup)
        else:
            queue = LocalQueue(folder, _slurm_options.minutes(self._spec, options))
        self._home = _Home(folder, queue, Heart(folder / "heart", options.lease_s))
        return self._home

    def poll(self, timeout_s: float) -> Found:
        end = time.monotonic() + timeout_s
        while True:
            found = [*self._submit(), *self._read(), *self._look()]
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(_PAUSE_S, left))

    def _submit(self) -> Found:
        """Give what waits to the cluster, in as few arrays as can be."""
        waiting = [(one.needs, key) for key, one in self._running.items() if not one.task]
        now = time.monotonic()
        if not waiting or now < self._next_submission:
            return []
        oldest = min(self._running[key].since for _, key in waiting)
        many = len(waiting) >= min(self._batch, self._places)
        if self._options.is_slurm and not many and now - oldest < _GATHER_S:
            return []
        found: Found = []
        for needs, group in groupby(sorted(waiting), key=lambda one: one[0]):
            keys = [key for _, key in group]
            while keys:
                array = keys[: self._batch]
                try:
                    self._submit_array(needs, array)
                except RefusedError as error:
                    words = str(error)
                    if len(array) == 1 or not _TOO_MANY.search(words):
                        found += self._refused(needs, keys, words)
                        break
                    # Nobody tells how many it would take.
                    self._batch = len(array) // 2
                else:
                    keys = keys[len(array) :]
        return found

    def _submit_array(self, needs: Needs, keys: Sequence[int]) -> None:
        assert self._home is not None
        nodes = _slurm_queue.nodes() if needs.places and self._options.is_slurm else {}
        asked = _slurm_options.parameters(self._spec, self._options, needs, nodes)
        calls = [pickle.dumps(self._errand(key)) for key in keys]
        tasks = self._home.queue.submit(calls, asked)
        self._refused_since = None
        for key, task in zip(keys, tasks, strict=True):
            running = self._running[key]
            running.task, running.since = task, time.monotonic()

    def _refused(self, needs: Needs, keys: Sequence[int], words: str) -> Found:
        """What becomes of attempts that the cluster does not take, for now or at all."""
        now = time.monotonic()
        if needs.avoid:  # there may be no other node
            for key in keys:
                self._running[key].needs = replace(needs, avoid=())
            return []
        self._next_submission = now + min(_AGAIN_S, self._options.wait_s)
        # Its own tasks may be the ones that fill a limit: it takes more when they have ended.
        if _TOO_MANY.search(words) and any(one.task for one in self._running.values()):
            self._refused_since = None
            return []
        self._refused_since = self._refused_since or now
        if now - self._refused_since < self._options.wait_s:
            return self._tell(keys[0], f"the cluster takes no task for it now: {words}")
        if _NOBODY.search(words):
            raise OSError(errno.EHOSTUNREACH, f"Slurm does not answer: {words}", "sbatch")
        for key in keys:
            del self._running[key]
        where = f" on benchmark.nodes ({', '.join(needs.places)})" if needs.places else ""
        told = f"the cluster takes no task for it{where}: {words}"
        return [(key, {"no_node": told}) for key in keys]

    def _tell(self, key: int, words: str) -> Found:
        """Say what a run waits for, once."""
        if words in self._told:
            return []
        self._told.add(words)
        return [(key, {"waits": words})]

    def _errand(self, key: int) -> Errand:
        assert self._home is not None
        running = self._running[key]
        return Errand(
            parcel(self._spec, running.work, self._options.cpus, self._alone),
            key,
            running.record,
            self._home.folder / "heart",
            self._options.lease_s,
            running.needs.gpu,
        )

    def _read(self) -> Found:
        """What attempts have written; not all files each time, which a file server may serve."""
        begun = [key for key, running in self._running.items() if running.task]
        place = self._next_file if self._next_file < len(begun) else 0
        self._next_file = place + _FILES
        return [said for key in begun[place : place + _FILES] for said in self._read_one(key)]

    def _read_one(self, key: int) -> Found:
        running = self._running[key]
        found: Found = []
        for message in running.tail.read():
            running.heard = time.monotonic()
            if "alive" in message:
                continue
            if "machine" in message:
                message = self._arrived(key, message)
            found.append((key, message))
            if ENDS & message.keys():
                del self._running[key]
                break
        return found

    def _arrived(self, key: int, hello: Message) -> Message:
        """An attempt has come to its node."""
        running = self._running[key]
        # What the cluster said of it before it began says nothing of it now.
        running.node, running.state = hello["id"], ""
        other = _nodes.differences(hello["machine"])
        if not other or self._options.allow_skew:
            return {"node": _nodes.described(hello, hello["id"]).model_dump(mode="json")}
        self._unfit.add(running.node)
        self._cancel([key])
        label = running.work.job.label
        self._unsuited[label] += 1
        words = f"the node {running.node} has other versions than this machine: {other}"
        # Not for ever: of `local` there is no other node.
        if self._unsuited[label] > self._options.node_retries:
            return {"no_node": f"{words}; executor.allow_skew=true takes them"}
        return {"unsuited": words}

    def _look(self) -> Found:
        """Ask the cluster for what has ended without a word, and give that up."""
        now = time.monotonic()
        given = {key: running for key, running in self._running.items() if running.task}
        found: Found = []
        if given and now >= self._next_question:
            assert self._home is not None
            each = self._options.poll_s if self._options.is_slurm else _LOCAL_POLL_S
            self._next_question = now + each
            states = self._home.queue.states([running.task for running in given.values()])
            if states is not None:
                for running in given.values():
                    self._take(running, states.get(running.task, ""))
                found += self._pending(given)
        for key, running in given.items():
            if key not in self._running or not (why := self._loss(running)):
                continue
            # It may have said its last meanwhile.
            said = self._read_one(key)
            if key in self._running:
                self._cancel([key])
                del self._running[key]
                said.append((key, {"node_lost": why}))
            found += said
        return found

    def _pending(self, given: Mapping[int, _Running]) -> Found:
        """Say why tasks wait, and give those up that would wait for ever."""
        assert self._home is not None
        found: Found = []
        now = time.monotonic()
        by_reason: dict[str, list[int]] = {}
        for key, running in given.items():
            waits = running.task and running.state in WAITING and not running.node
            if waits and now - running.since > min(_QUIET_S, self._options.wait_s):
                reason = self._home.queue.reasons.get(running.task, "")
                by_reason.setdefault(reason, []).append(key)
        for reason, keys in sorted(by_reason.items()):
            what = _NEVER.get(reason, "")
            late = [key for key in keys if now - given[key].since > self._options.wait_s]
            if what and late:
                self._cancel(late)
                for key in late:
                    del self._running[key]
                    words = f"Slurm does not start a task for it ({reason}): {what}"
                    found.append((key, {"no_node": words}))
            elif reason not in ("", "None"):
                told = f"; {what}" if what else ""
                words = f"its task waits in the queue of Slurm: {reason}{told}"
                found += self._tell(keys[0], words)
        return found

    def _take(self, running: _Running, state: str) -> None:
        """Note what the cluster says of a task."""
        if state not in RUNNING | WAITING:
            running.ended = running.ended or time.monotonic()
            running.state = state
        elif self._waits_for_another_node(running, state):
            assert self._home is not None
            self._home.queue.cancel([running.task])
            running.needs = replace(running.needs, avoid=())
            running.task, running.since = "", time.monotonic()
        running.state = state

    def _waits_for_another_node(self, running: _Running, state: str) -> bool:
        """Whether a task waits so long that the nodes may be down that it was not to avoid."""
        waits = state in WAITING and not running.node and bool(running.needs.avoid)
        return waits and time.monotonic() - running.since > self._options.wait_s

    def _loss(self, running: _Running) -> str:
        """Why nothing is to be expected of a task any more; empty: something is."""
        assert self._home is not None
        now = time.monotonic()
        task = f"the task {running.task}" + (f" on {running.node}" if running.node else "")
        if running.ended is not None and now - running.ended > _SETTLE_S:
            meaning = _MEANING.get(running.state)
            why = f"{running.state}, {meaning}" if running.state and meaning else ""
            words = self._home.queue.last_words(running.task)
            ended = f"{task} ended without a result ({why or meaning or running.state})"
            return f"{ended}: {words}" if words else ended
        if running.node and running.state in WAITING:
            return f"{task} was put back into the queue"
        if running.node and now - running.heard > 2 * self._options.lease_s:
            return f"{task} was not heard of for {now - running.heard:.0f} s"
        return ""

    def _cancel(self, keys: Collection[int]) -> None:
        assert self._home is not None
        # Where neither arrives the task ends with its lease.
        with suppress(OSError):
            self._home.heart.cancel(keys)
        self._home.queue.cancel([self._running[key].task for key in keys])

    def close(self, keys: Collection[int]) -> None:
        """Cancel tasks and wait until each says that all of its attempt has ended."""
        left = {key: self._running[key] for key in keys if key in self._running}
        submitted = [key for key, running in left.items() if running.task]
        if submitted:
            self._cancel(submitted)
        for key in left:
            del self._running[key]
        end, next_question = time.monotonic() + _CLOSE_S, 0.0
        waited = {key: left[key] for key in submitted}
        while waited and time.monotonic() < end:
            said = {key for key, one in waited.items() if _has_ended(one)}
            if time.monotonic() > next_question:
                next_question = time.monotonic() + (1.0 if self._options.is_slurm else 0.0)
                said |= self._gone(waited)
            waited = {key: one for key, one in waited.items() if key not in said}
            time.sleep(_PAUSE_S if waited else 0)

    def _gone(self, waited: dict[int, _Running]) -> set[int]:
        """Those whose tasks are not there any more, as the cluster says."""
        assert self._home is not None
        states = self._home.queue.states([one.task for one in waited.values()])
        if states is None:
            return set()
        there = {task for task, state in states.items() if state in RUNNING | WAITING}
        return {key for key, one in waited.items() if one.task not in there}


def _has_ended(running: _Running) -> bool:
    return any(ENDS & message.keys() for message in running.tail.read())
