"""The driver's end of submitit: tasks are submitted, looked after and cancelled."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Protocol

from converter.plugins.executors import _slurm_boot

_COMMAND_S = 60.0
_AT_ONCE = 500  # ids in a command
_WORDS = 300
_CODE_OF_TASK = re.compile(r"srun: (error: \S+: tasks? \S+: Exited with|Terminating)|srun: launch")
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING = frozenset(
    {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT",
     "RESIZING", "RESV_DEL_HOLD"}
)  # fmt: skip

# Of the site or the user, who may mean them for every task. Others are of a task that this may
# itself be, or set for sbatch what is said here; a variable counts more than a script.
_OF_THE_SITE = frozenset(
    {"SLURM_CLUSTERS", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT",
     "SBATCH_ACCOUNT", "SBATCH_CLUSTERS", "SBATCH_CONSTRAINT", "SBATCH_PARTITION", "SBATCH_QOS",
     "SBATCH_RESERVATION", "SBATCH_WCKEY"}
)  # fmt: skip
_OF_TASKS, _OF_QUESTIONS = ("SLURM_", "SBATCH_", "SRUN_"), ("SQUEUE_", "SCANCEL_", "SINFO_")

Parameters = Mapping[str, Any]
"""Of a task, by the names of sbatch's long options, with ``_`` for ``-``."""


class RefusedError(Exception):
    """The cluster takes no such task, or none now; with its words."""


class Queue(Protocol):
    """Tasks of a cluster, which are called by their ids.

    Attributes:
        reasons: why tasks wait, as the cluster said when it was asked last.
    """

    reasons: Mapping[str, str]

    def submit(self, calls: Sequence[bytes], parameters: Parameters) -> list[str]:
        """Submit tasks as one array; their ids, in order.

        Args:
            calls: what each is given, see ``_slurm_task.run``.

        Raises:
            RefusedError: none was submitted.
        """

    def states(self, ids: Sequence[str]) -> dict[str, str] | None:
        """What each does, in Slurm's words.

        Returns:
            By id; one that is missing has ended. ``None``: nobody knows now.
        """

    def cancel(self, ids: Sequence[str]) -> None:
        """Have tasks ended, or never started."""

    def last_words(self, id_: str) -> str:
        """The last line that a task has written to its errors."""

    def close(self) -> None:
        """Wait a moment for tasks that have said their last."""


class SlurmQueue:
    """A ``Queue``: Slurm.

    Args:
        folder: on a file system that the nodes share.
        parallel: how many tasks of one array may run at a time.
        setup: lines of shell before each task.
    """

    def __init__(self, folder: Path, parallel: int, setup: Sequence[str]) -> None:
        self.reasons: Mapping[str, str] = {}
        self._folder = folder
        self._common = {"array_parallelism": parallel, "setup": list(setup) or None}

    def submit(self, calls: Sequence[bytes], parameters: Parameters) -> list[str]:
        submitit = _imported()
        executor = submitit.SlurmExecutor(self._folder)
        known = {*executor._valid_parameters()}
        own = {name: value for name, value in parameters.items() if name in known}
        others = {
            name.replace("_", "-"): value for name, value in parameters.items() if name not in known
        }
        # Since 22.05 srun does not take it from sbatch; a task that is alone has all cores.
        cpus = parameters.get("cpus_per_task")
        bound = [f"--cpus-per-task={cpus}"] if cpus is not None else ["--cpu-bind=none"]
        executor.update_parameters(
            **own, **self._common, srun_args=bound, additional_parameters=others
        )
        with _surroundings(parameters):
            return _submitted(submitit, executor, calls)

    def states(self, ids: Sequence[str]) -> dict[str, str] | None:
        arrays = sorted({one.partition("_")[0] for one in ids})
        found: dict[str, str] = {}
        reasons: dict[str, str] = {}
        for place in range(0, len(arrays), _AT_ONCE):
            jobs = f"--jobs={','.join(arrays[place : place + _AT_ONCE])}"
            arguments = ["--noheader", "--array", "--states=all", "--format=%i|%T|%r", jobs]
            done = _run(["squeue", *arguments])
            if done.returncode and "Invalid job id" not in done.stderr:
                return None
            # What has ended some minutes ago is not listed any more.
            for line in filter(None, map(str.strip, done.stdout.splitlines())):
                one, state, reasons[one] = line.split("|", 2)
                found[one] = state
        self.reasons = reasons
        return found

    def cancel(self, ids: Sequence[str]) -> None:
        for place in range(0, len(ids), _AT_ONCE):
            _run(["scancel", *ids[place : place + _AT_ONCE]])

    def last_words(self, id_: str) -> str:
        return _last_line(self._folder / f"{id_}_0_log.err")

    def close(self) -> None:
        pass


class LocalQueue:
    """A ``Queue``: processes of this machine, by submitit's local executor.

    Args:
        minutes: that a task may take.
    """

    def __init__(self, folder: Path, minutes: int) -> None:
        self.reasons: Mapping[str, str] = {}
        self._folder = folder
        self._minutes = minutes
        self._jobs: dict[str, Any] = {}

    def submit(self, calls: Sequence[bytes], parameters: Parameters) -> list[str]:
        submitit = _imported()
        executor = submitit.LocalExecutor(self._folder)
        gpus = 1 if "gres" in parameters else 0
        executor.update_parameters(timeout_min=self._minutes, gpus_per_node=gpus)
        return _submitted(submitit, executor, calls, self._jobs)

    def states(self, ids: Sequence[str]) -> dict[str, str] | None:
        return {one: self._jobs[one].state for one in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        for one in ids:
            if not self._jobs[one].done():
                # Not submitit's own, SIGINT, after which it prints a stack and kills in a second.
                # This one it passes on, and its id is that of its process.
                os.kill(int(one), signal.SIGTERM)

    def last_words(self, id_: str) -> str:
        return _last_line(self._folder / f"{id_}_0_log.err")

    def close(self) -> None:
        end = time.monotonic() + _COMMAND_S
        while any(not job.done() for job in self._jobs.values()) and time.monotonic() < end:
            time.sleep(0.01)


def refusal(parameters: Parameters) -> str:
    """Why Slurm would not take a task of some parameters; empty: it would."""
    flags = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in parameters.items()
    ]
    with _surroundings(parameters):
        done = _run(["sbatch", "--test-only", *flags, "--wrap=true"])
    return _words(done.stderr) if done.returncode else ""


def nodes() -> dict[str, bool]:
    """The names of Slurm's nodes, and whether nothing runs there."""
    # A line for each node and partition. One that sleeps is woken; `idle*` does not answer.
    told = _run(["sinfo", "--noheader", "--Node", "--format=%N %T"]).stdout.splitlines()
    states = [line.split() for line in told]
    return {one[0]: one[1] in ("idle", "idle~") for one in sorted(states) if len(one) == 2}


def is_there() -> bool:
    return shutil.which("sbatch") is not None and shutil.which("srun") is not None


def _imported() -> Any:
    import submitit

    # It writes to the output of a command.
    logging.getLogger("submitit").setLevel(logging.CRITICAL)
    return submitit


def _submitted(
    submitit: Any, executor: Any, calls: Sequence[bytes], jobs: dict[str, Any] | None = None
) -> list[str]:
    import cloudpickle

    path = list(sys.path)
    cloudpickle.register_pickle_by_value(_slurm_boot)
    try:
        # What sbatch says of a refusal is in the exception, too.
        with _deaf_to_the_terminal(), redirect_stderr(io.StringIO()):
            made = executor.map_array(_slurm_boot.carry, [path] * len(calls), calls)
    except submitit.core.utils.FailedJobError as error:
        raise RefusedError(_words(str(error))) from error
    finally:
        cloudpickle.unregister_pickle_by_value(_slurm_boot)
    if jobs is not None:
        jobs |= {job.job_id: job for job in made}
    return [job.job_id for job in made]


@contextmanager
def _surroundings(parameters: Parameters) -> Iterator[None]:
    """Have sbatch, which submitit calls, see no variable that would change a task."""
    before = dict(os.environ)
    kept = _OF_THE_SITE - {f"SBATCH_{name.upper()}" for name in parameters}
    for name in before:
        if name.startswith(_OF_TASKS) and name not in kept:
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


@contextmanager
def _deaf_to_the_terminal() -> Iterator[None]:
    """Have what is started here not hear of SIGINT: the driver notes it, and ends what runs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        with _deaf_to_the_terminal():
            return subprocess.run(
                command,
                # `SQUEUE_USERS` would hide tasks, which then count as ended.
                env={k: v for k, v in os.environ.items() if not k.startswith(_OF_QUESTIONS)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_COMMAND_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: {error}")


def _words(text: str) -> str:
    """The last words of a command of Slurm, on one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines)[-_WORDS:] or "its command failed without a word"


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    # What srun says of the code of a task is known; why it ended stands before it.
    said = [line for line in lines if not _CODE_OF_TASK.match(line)] or lines
    return said[-1][:_WORDS] if said else ""
