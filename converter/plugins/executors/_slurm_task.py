"""A task of the cluster: it runs one attempt as ``process`` does, and tells of it in a file."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from converter.layout import environment
from converter.model.errors import Code
from converter.plan import packages
from converter.plugins.executors._slurm_files import Lease, Record
from converter.processes import limits
from converter.processes.carrier import ENDS, Message
from converter.processes.daemon import Machine, Parcel
from converter.processes.local import LocalCarrier, servers

_TICK_S = 0.2
# How long after the process of a job the signal that ended it may reach this one: the cluster sends
# it to all processes of a task, one after the other.
_NOTICE_S = 0.5
_NODE = "SLURMD_NODENAME"


@dataclass(frozen=True)
class Errand:
    """What a task is to do.

    Attributes:
        key: of the attempt.
        record: the file that it writes.
        heart: the file of its driver.
        wants_gpu: whether the task was given one.
    """

    parcel: Parcel
    key: int
    record: Path
    heart: Path
    lease_s: float
    wants_gpu: bool


def run(content: bytes) -> None:
    """Args: content: an ``Errand``, pickled.

    Raises:
        OSError: the folder of the run is not there.
    """
    errand: Errand = pickle.loads(content)  # noqa: S301 - the driver of this run has written it
    notices = _Notices()
    try:
        record = Record(errand.record)
    except FileExistsError:
        # Slurm has started it again. Whether it is tried again is the driver's to decide, who sees
        # that this task has ended.
        return
    record.write(_hello(errand))
    lease = Lease(errand.heart, errand.key, errand.lease_s)
    end: Message = {"node_lost": "its driver had gone before it began"}
    if lease.begins():
        end = _Attempt(errand, record, lease, notices).run()
    record.write(end)


class _Notices:
    """The signals that a cluster sends to a task before it ends it.

    In place of submitit's handlers, which have the cluster begin again with the same task: retries
    are the dispatcher's. They are only noted, since a handler may interrupt any line.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        # SIGTERM: cancelled, preempted, out of time. The others: submitit's warning before the end.
        for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(one, self._note)
        # Of the terminal, where the cluster is this machine: the driver notes it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)


def _hello(errand: Errand) -> Message:
    found = environment.collect(packages.versions())
    machine = Machine(**dict(found), name=socket.gethostname(), pid=os.getpid())
    gpus = _gpus().split(",") if errand.wants_gpu and _gpus() else []
    return {"machine": machine.model_dump(mode="json"), "id": _node(), "gpus": gpus}


def _node() -> str:
    return os.environ.get(_NODE) or socket.gethostname()


def _gpus() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


class _Attempt:
    def __init__(self, errand: Errand, record: Record, lease: Lease, notices: _Notices) -> None:
        self._errand = errand
        self._record = record
        self._lease = lease
        self._notices = notices
        # The limits come with the attempt.
        self._carrier = LocalCarrier(limits.Limits(0, 0, None), workers=0)

    def run(self) -> Message:
        """The last word of the attempt; all that it started has ended."""
        # Also where there is none: a job that did not ask for a GPU must not take another's.
        environ = {"CUDA_VISIBLE_DEVICES": _gpus() if self._errand.wants_gpu else ""}
        if folder := os.environ.get("TMPDIR"):  # the cluster may have made one for this task
            environ["TMPDIR"] = folder
        with self._carrier.opened():
            try:
                self._carrier.begin(self._errand.key, self._errand.parcel.opened(environ))
                return self._watch()
            finally:
                self._carrier.close([self._errand.key])
                for one in servers.values():
                    one.close()

    def _watch(self) -> Message:
        next_sign = 0.0
        while True:
            for _, message in self._carrier.poll(_TICK_S):
                if ENDS & message.keys():
                    return self._judged(message)
                self._record.write(message)
            if why := self._called_off():
                return {"node_lost": why}
            if time.monotonic() > next_sign:
                next_sign = time.monotonic() + self._errand.lease_s / 3
                self._record.write({"alive": True})

    def _called_off(self) -> str:
        """Why this attempt is to end; empty: it is not."""
        self._lease.look()
        if self._notices.received is not None:
            return f"the cluster ended its task on {_node()} ({self._notices.received.name})"
        if self._lease.cancelled:
            return "it was cancelled"
        if self._lease.expired:
            return f"its driver was not heard of for {self._errand.lease_s:g} s"
        return ""

    def _judged(self, message: Message) -> Message:
        """The end of an attempt, unless the cluster ended it: then that is not the job's doing."""
        error = (message.get("result") or {}).get("error") or {}
        if "lost" not in message and error.get("code") != Code.SIGNAL:
            return message
        end = time.monotonic() + _NOTICE_S
        while self._notices.received is None and time.monotonic() < end:
            time.sleep(0.01)
        return {"node_lost": why} if (why := self._called_off()) else message
