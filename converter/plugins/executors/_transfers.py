"""Files on their way to nodes and from there, beside the jobs that run meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from multiprocessing.pool import AsyncResult, ThreadPool

from converter.exchange.luggage import Luggage, Sent
from converter.exchange.sending import Exchange
from converter.model.job import Job
from converter.model.records import JobResult
from converter.processes import outcome
from converter.processes.carrier import Message, Work
from converter.storage.objects import MismatchError

_AT_A_TIME = 4  # downloads; what is sent goes one after the other
_CLOSE_S = 5.0


class Transfers:
    """Args: exchange: the way of files."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        # Their threads are no reason for a command to wait at its end.
        self._out, self._in = ThreadPool(1), ThreadPool(_AT_A_TIME)
        self._coming: dict[int, tuple[AsyncResult[None], Work, Message]] = {}

    def pack(self, job: Job) -> AsyncResult[Luggage]:
        """Have what a job needs sent."""
        return self._out.apply_async(self._exchange.luggage, [job])

    def doubt(self) -> None:
        """Look again for all that was sent, before the next luggage is made."""
        self._out.apply_async(self._exchange.doubt)

    def collect(self, key: int, work: Work, message: Message) -> None:
        """Have the files of an attempt brought here that has said this."""
        sent = [Sent(**one) for one in message["sent"]]
        coming = self._in.apply_async(self._exchange.collect, [sent, work.job, work.attempt])
        self._coming[key] = coming, work, {"result": message["result"]}

    def collected(self) -> list[tuple[int, Message]]:
        """What attempts have said whose files are here."""
        done = [key for key, (coming, _, _) in self._coming.items() if coming.ready()]
        return [(key, self._message(*self._coming.pop(key))) for key in done]

    def _message(self, coming: AsyncResult[None], work: Work, message: Message) -> Message:
        try:
            coming.get()
        except OSError as error:
            # As JSON: strict types take text for an enum there only.
            result = JobResult.model_validate_json(json.dumps(message["result"]))
            if result.status == "ok":  # else there is only its log to miss
                result = outcome.not_exchanged(work.job, error, result)
            # What lay in the store under its name is gone: the next try sends it anew.
            stranded = isinstance(error, MismatchError)
            return {"result": result.model_dump(mode="json"), "stranded": stranded}
        return message

    def forget(self, keys: Collection[int]) -> None:
        """What comes of these attempts is of no use any more."""
        end = time.monotonic() + _CLOSE_S
        for coming in [self._coming.pop(key)[0] for key in keys if key in self._coming]:
            # Its folder is removed next.
            coming.wait(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """Begin nothing more."""
        self._out.terminate()
        self._in.terminate()
