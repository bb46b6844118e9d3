"""What a run does with the store: look before a job starts, keep what came out right."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from converter.cache.entries import DamagedError, LatencyRecord, Stored
from converter.cache.stores import AnyStore
from converter.layout import delivery
from converter.model.artifact import QUANTISED, rounding_of
from converter.model.batch import BenchmarkSpec, OnCached
from converter.model.errors import Code
from converter.model.job import Composed, Derived, Job
from converter.model.manifest import ArtifactRow, Environment
from converter.model.records import FileInfo, JobResult, Latency, NodeInfo, StageRecord
from converter.plan import edited, keys, reads, variants
from converter.plan.keys import JobKey, Keys, Parts
from converter.processes import outcome
from converter.storage import side_by_side
from converter.storage.location import Location
from converter.storage.retrying import FailedError

_NEW = "not in the store"
_SHOWN = 3  # models of which the end of a run says why they were not stored


@dataclass(frozen=True)
class Lookup:
    """The entry of a job, or why there is none to use.

    Attributes:
        damaged: its key is occupied.
        precisions: for which an entry has bounds that lacks others; what is made in its place is
            to have those too, or two runs with other variants would make it in turns.
    """

    stored: Stored | None
    reason: str | None = None
    damaged: bool = False
    precisions: tuple[str, ...] = ()

    def widened(self, job: Job) -> Job:
        """The job that makes what the entry has, too."""
        if not self.precisions:
            return job
        return job.model_copy(update={"precisions": list(self.precisions)})


@dataclass(frozen=True)
class Timing:
    """When files of the store are timed again.

    Attributes:
        basis: what figures of this run depend on.
        elsewhere: tells whether they may be taken on a node; ``None``: this machine takes them.
    """

    policy: OnCached
    basis: Parts
    providers: list[str]
    optional: bool
    elsewhere: Callable[[NodeInfo], bool] | None = None


def timing_of(
    spec: BenchmarkSpec,
    environment: Environment,
    elsewhere: Callable[[NodeInfo], bool] | None = None,
) -> Timing | None:
    """How a run treats the latency of stored files; ``None`` where it measures none.

    Args:
        environment: of the runner.
        elsewhere: see ``Timing``.
    """
    if not spec.providers:
        return None
    # A record of latency holds the time of PyTorch as well. What else made the file is in its key.
    packages = ("torch", "onnxruntime", "onnxruntime-gpu")
    # Where there are none, nothing is asked of them: that is how most records were made.
    unasked = {"on_cached", "optional"} | ({"nodes"} if not spec.nodes else set())
    machine: Parts = {
        "cpu": environment.cpu,
        "cores": environment.cores,
        "gpus": [f"{gpu.name} {gpu.driver}" for gpu in environment.gpus],
    }
    basis: Parts = {
        # On a cluster each latency says on which node it was taken.
        **(machine if elsewhere is None else {}),
        "packages": {name: environment.packages.get(name) for name in packages},
        # Those two say when to measure and what to make of it, not what comes out.
        "benchmark": spec.model_dump(mode="json", exclude=unasked),
    }
    return Timing(spec.on_cached, basis, list(spec.providers), spec.optional, elsewhere)


def keys_for(
    environment: Environment,
    store: Location | None,
    looking: Callable[[], None] = lambda: None,
) -> Keys:
    """The keys that jobs have in an environment.

    Args:
        store: where it is; in a folder it keeps what code imports as well.
        looking: called before each file of code that is read.
    """
    gpus = [f"{gpu.name} {gpu.driver}" for gpu in environment.gpus]
    folder = store if isinstance(store, Path) else None
    return Keys(environment.packages, gpus, folder, looking)


class CacheSession:
    """The store as one run sees it.

    Args:
        store: ``None`` where the run uses none: then no job has a key, and no code is parsed.
        timing: ``None`` where the run measures no latency.
    """

    def __init__(self, store: AnyStore | None, makes: Keys, timing: Timing | None = None) -> None:
        self._store = store
        self._makes = makes
        self._timing = timing
        self._keys: dict[tuple[str, ...], JobKey] = {}
        self._of_labels: dict[str, JobKey] = {}
        self._making = Lock()
        self._reasons: dict[str, str] = {}
        self._found: dict[str, Stored] = {}
        self._not_stored: dict[str, str] = {}
        self._began_ns = time.time_ns()
        self._absent: dict[str, list[Path]] = {}
        # The last error of the store. It is told at the end and fails no model: the next run builds
        # again what could not be kept.
        self.problem: OSError | None = None
        self._not_read: OSError | None = None

    def of_another_run(self) -> CacheSession:
        """The same store for the jobs of another run, which have the labels of these."""
        return CacheSession(self._store, self._makes, self._timing)

    def lacks(self, job: Job) -> bool:
        """Whether the store would keep a job's result and has none of its key, whole or damaged."""
        if self._store is None or self.key(job).incomplete is not None:
            return False
        try:
            return self._store.read(self.key(job).digest) is None
        except (DamagedError, OSError):
            return False

    def open(self) -> None:
        """See that the store can be written.

        Raises:
            RunError: it cannot.
        """
        if self._store is not None:
            self._store.open()

    def key(self, job: Job) -> JobKey:
        """The key of a job as it was when it was first asked for."""
        made_from = dict(job.parent_files) if isinstance(job, Derived) else {}
        if isinstance(job, Composed):
            made_from = {k: v for files in job.graph_hashes.values() for k, v in files.items()}
        # What a variant is made from is known only once its parent's file is there.
        known = (job.label, *made_from.values())
        # Kept as it was before the job ran: `unless_changed` compares the files of now with it, and
        # what is put into the store goes under it.
        # One thread at a time: a file that several jobs have is hashed once.
        with self._making:
            if known not in self._keys:
                self._keys[known] = self._of_labels[job.label] = self._makes.of(job)
            return self._keys[known]

    def look_up(self, job: Job) -> Lookup:
        """Nothing is changed or moved; a damaged entry is only told."""
        if self._store is None:
            self._absent[job.label] = edited.absent(job)
            return Lookup(None)
        key = self.key(job)
        # It would be the same for another version of the model.
        if key.incomplete is not None:
            return Lookup(None, key.incomplete)
        try:
            stored = self._store.read(key.digest)
        except DamagedError as error:
            return Lookup(None, f"the stored entry is damaged: {error}", damaged=True)
        except OSError as error:
            return Lookup(None, self._unread(error))
        if stored is None:
            return Lookup(None, self.why(key, job.label))
        missing = [entry for entry in stored.entry.trust if entry not in job.trust]
        # The registry is always trusted, and an ONNX file brings no code.
        if missing and job.source.kind not in ("registry", "onnx"):
            return Lookup(None, f"CONVERTER_TRUST no longer lists {', '.join(missing)}")
        lacking = self.lacking(job, stored.result.files)
        if lacking:
            return Lookup(None, lacking, precisions=tuple(stored.result.precisions))
        return Lookup(stored)

    def look_up_all(self, jobs: Sequence[Job]) -> Generator[Lookup]:
        """``look_up`` of each, in their order; a server is asked for several at a time."""
        at_a_time = self._store.at_a_time if self._store is not None else 1
        return side_by_side.in_order(self.look_up, jobs, at_a_time)

    def _unread(self, error: OSError) -> str:
        """Note that the store does not answer; the reason of a miss."""
        self._not_read = error
        return f"the store could not be read: {error.strerror or error}"

    def lacking(
        self, job: Job, files: Sequence[FileInfo], done: Set[str] = frozenset()
    ) -> str | None:
        """Why the variants of a file cannot be made without its model; ``None``: they can.

        Args:
            files: of the job.
            done: the labels of those that are there.
        """
        for stub in variants.jobs_of(job):
            if stub.label in done:
                continue
            derived = variants.from_parent(stub, files)
            # A variant that the store has needs no references. One that has to be made needs them
            # with bounds of its precision: an entry of a run without variants has neither.
            if self.look_up(derived).stored is None and not self._has_references(job, stub):
                return f"what {stub.artifact} is verified on was not kept"
        return None

    def _has_references(self, job: Job, derived: Derived) -> bool:
        stored, bounds = self._entry(job), rounding_of(derived.precision)
        return (
            stored is not None
            and stored.result.references is not None
            and (derived.precision in QUANTISED or bounds in stored.result.precisions)
        )

    def _entry(self, job: Job) -> Stored | None:
        try:
            return self._store.read(self.key(job).digest) if self._store is not None else None
        except DamagedError:
            return None
        except OSError as error:
            self._unread(error)
            return None

    def references(self, job: Job, folder: Path) -> FileInfo | None:
        """Put what the variants of a stored file are verified on into a folder, if it is there.

        Raises:
            OSError: it cannot be written.
        """
        stored = self._entry(job)
        kept = stored.result.references if stored is not None else None
        if self._store is None or stored is None or kept is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._store.copy(stored, kept, folder)
        except (FileNotFoundError, DamagedError):  # concurrent garbage collection
            return None
        return kept

    def has(self, job: Job, found: Lookup) -> bool:
        """Whether the store seems to have a job's result; a damaged entry is set aside."""
        if found.damaged:
            self.set_aside(job, str(found.reason))
        elif found.reason is not None:
            self._reasons[job.label] = found.reason
        if found.stored is not None:
            self._found[job.label] = found.stored
        return found.stored is not None

    def take(self, job: Job) -> JobResult | None:
        """Put the files that the store has into the job's staging folder; their result.

        ``None`` when they are gone.

        Raises:
            OSError: the staging folder cannot be made or written.
        """
        assert self._store is not None, "it has the job's result"
        # `place` links into an empty folder, and an attempt of a killed run may have left files
        # there.
        delivery.clear_staging(job)
        try:
            self._store.place(self._found[job.label], Path(job.staging_dir))
        except FileNotFoundError as error:  # concurrent garbage collection
            self._reasons[job.label] = f"{_NEW}: {error.filename} is gone"
            return None
        except DamagedError as error:
            self.set_aside(job, f"the stored entry is damaged: {error}")
            return None
        except FailedError as error:
            self._reasons[job.label] = self._unread(error)
            return None
        return _timed(self._found[job.label], self._timing, job)

    def set_aside(self, job: Job, reason: str) -> None:
        """The entry of a job is not what it says: move it away, so that it is built again."""
        self._reasons[job.label] = reason
        if self._store is not None:
            try:
                self._store.set_aside(self.key(job).digest)
            except OSError as error:
                self.problem = error

    def keep(self, job: Job, result: JobResult, directory: Path, references: Path | None) -> None:
        """Store an ok result whose artifact is published; one that cannot be stored is no harm."""
        if self._store is not None and result.not_stored is None:
            try:
                self._store.put(job, self.key(job), result, directory, references)
            except OSError as error:
                self.problem = error

    def amend(self, job: Job, result: JobResult) -> None:
        """Keep what was measured of a stored file; drop a file that turned out to be no result."""
        if self._store is None:
            return
        absent = result.error is not None and result.error.code is Code.EP_UNAVAILABLE
        if absent and result.verify.status != "failed":  # on a provider that it has
            return  # this machine lacks something; the file is as it was proven
        key = self.key(job).digest
        try:
            if result.status != "ok":
                self._store.drop(key)
            else:
                self._store.keep_latency(key, self._measured(job, result))
        except OSError as error:
            self.problem = error

    def _measured(self, job: Job, result: JobResult) -> LatencyRecord:
        """What is kept beside an entry; of a run that times nothing the figures of before stay."""
        stored = self._found.get(job.label)
        if self._timing is None and stored is not None and stored.latency is not None:
            return stored.latency.model_copy(update={"verify": result.verify})
        return LatencyRecord(
            # Of no machine: whoever asks for figures finds none that are its own.
            basis=self._timing.basis if self._timing else {},
            latency=result.latency,
            stage=result.stages["benchmark"],
            verify=result.verify,
        )

    def unless_changed(self, job: Job, result: JobResult) -> JobResult:
        """The result, or its refusal when a file of the job is not what it was at the start."""
        if result.status not in ("ok", "failed"):
            return result
        if self._store is None:
            read, never = reads.code(result.files_read), self._absent.get(job.label, ())
            paths = edited.since(self._began_ns, job, read, never)
        else:
            # A file that was edited in between fits neither its old key nor its new one.
            paths = self._makes.changed_files(job, self.key(job))
        return outcome.input_changed(result, paths) if paths else result

    def with_files(self, job: Job, result: JobResult) -> JobResult:
        """The result with the files to name in its row, and why it cannot be kept without them."""
        if self._store is None:
            return result.model_copy(update={"files_read": reads.data(result.files_read)})
        # The worker lists all that it saw. Only the parent has the key, and so knows what it
        # covers.
        read, problem = reads.judge(self.key(job), result.files_read)
        if result.status != "ok":
            # A failure is never stored, so that nothing has to be said of it.
            problem = None
        elif problem is not None:
            self._not_stored[job.label] = problem
        return result.model_copy(update={"files_read": read, "not_stored": problem})

    def labelled(self, job: Job, row: ArtifactRow, *, cached: bool = False) -> ArtifactRow:
        """The row with its key, and where it is from."""
        reason = None if cached else self._reasons.get(job.label)
        # What it is made from.
        unknown = self._store is None or (isinstance(job, Derived) and not job.parent_files)
        unknown = unknown or (isinstance(job, Composed) and not job.graph_hashes)
        return row.model_copy(
            update={
                "job_key": None if unknown else self.key(job).digest,
                "cached": cached,
                "cache_miss_reason": reason,
            }
        )

    def words(self) -> list[str]:
        """What to tell the user about the store."""
        said = [f"Not stored: {name}: {why}." for name, why in self._not_stored.items()]
        more = [f"Not stored: {len(said) - _SHOWN} more."] if len(said) > _SHOWN else []
        said = said[:_SHOWN] + more
        if self._store is None:
            return said
        said += self._store.told()
        if self._not_read is not None:
            why = self._not_read.strerror or self._not_read
            said.append(
                f"The store {self._store.where} could not be read: {why} "
                f"({self._not_read.filename}). What it may have was built again."
            )
        if self.problem is not None:
            why = self.problem.strerror or self.problem
            said.append(
                f"The store {self._store.where} could not be written: {why} "
                f"({self.problem.filename}). What it could not keep is built again by the next run."
            )
        return said

    def parts_of(self, key: str | None) -> Parts | None:
        """What a key was made of, where the store has an entry of it."""
        try:
            stored = self._store.read(key) if self._store and key else None
        except (DamagedError, OSError):
            return None
        return stored.entry.parts if stored else None

    def inputs_changed(self, before: ArtifactRow, after: ArtifactRow) -> list[str]:
        """What a row and that of an earlier run were made from that differs, as far as is known."""
        now, was = self._of_labels.get(after.label), self.parts_of(before.job_key)
        return keys.inputs_changed(was, now.parts) if was and now is not None else []

    def why(self, key: JobKey, name: str) -> str:
        """What differs from the entry of that model that is nearest."""
        try:
            found = self._store.named(name) if self._store is not None else ()
            # Of several that are as near: the newest.
            entries = sorted((entry for _, entry in found), key=lambda entry: entry.created_at)
        except OSError as error:
            return self._unread(error)
        if not entries:
            return _NEW
        nearest = min(reversed(entries), key=lambda e: keys.distance(e.parts, key.parts))
        return keys.difference(nearest.parts, key.parts) or _NEW


def measure_again(recorded: LatencyRecord | None, timing: Timing) -> bool:
    """Whether to time a file that came from the store: ``benchmark.on_cached``.

    What was not measured then is tried again: ``stale`` must not make a missing provider pass.
    """
    # `always` and `never` do not look at what was recorded.
    if timing.policy != "stale":
        return timing.policy == "always"
    if recorded is None or recorded.basis != timing.basis:
        return True
    if timing.elsewhere is not None and not all(
        entry.node is not None and timing.elsewhere(entry.node) for entry in recorded.latency
    ):
        return True
    accepted = ("measured", "unavailable") if timing.optional else ("measured",)
    return any(entry.status not in accepted for entry in recorded.latency)


def _timed(stored: Stored, timing: Timing | None, job: Job) -> JobResult:
    """The stored result with the latency that this run shows, or with the wish to measure it."""
    result, recorded = stored.result, stored.latency
    latency: list[Latency] = []
    verified = {v.provider for v in recorded.verify.providers} if recorded else set()
    if not verified.issuperset(job.verify.providers):
        stage = StageRecord()  # it is to be verified elsewhere, and timed where that was asked for
    elif timing is None:
        stage = StageRecord(status="not_requested")
        if recorded is not None and job.verify.providers:
            result = result.model_copy(update={"verify": recorded.verify})
    elif measure_again(recorded, timing):
        # `not_run` is what phase 2 looks for (`manifest.awaits_benchmark`): the file will be timed.
        stage = StageRecord()
    elif recorded is None:
        stage = StageRecord(status="skipped", warnings=[_unmeasured(timing)])
    else:
        latency, stage = _remembered(recorded, timing)
        # What was verified on other providers came after the entry, and stands in the record beside
        # it.
        result = result.model_copy(update={"verify": recorded.verify})
    stages = {**result.stages, "benchmark": stage}
    return result.model_copy(update={"latency": latency, "stages": stages})


def _remembered(recorded: LatencyRecord, timing: Timing) -> tuple[list[Latency], StageRecord]:
    """What ``never`` shows; a provider that was absent, and may not be, was not measured."""
    latency = [e for e in recorded.latency if timing.optional or e.status != "unavailable"]
    shown = {entry.provider for entry in latency}
    missing = [provider for provider in timing.providers if provider not in shown]
    if not missing:
        return latency, recorded.stage
    words = f"{', '.join(missing)} {_unmeasured(timing)}"
    warnings = [*recorded.stage.warnings, words]
    return latency, recorded.stage.model_copy(update={"status": "skipped", "warnings": warnings})


def _unmeasured(timing: Timing) -> str:
    return f"not measured: benchmark.on_cached is {timing.policy}"
