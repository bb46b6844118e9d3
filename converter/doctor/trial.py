"""One convolution, converted with each exporter in a worker: does it work end to end?"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from converter.config import standard
from converter.model.base import Frozen
from converter.model.records import JobResult
from converter.plan import jobs, request
from converter.plugins import executors
from converter.plugins.executors import Finished

_MODEL = "single_conv"
_TIMEOUT_S = 300.0


class Trial(Frozen):
    """Attributes: error: empty when the file was made and verified."""

    exporter: str
    seconds: float
    error: str = ""
    simplifier_error: str = ""


def run() -> list[Trial]:
    """Convert with every exporter that there is, in a temporary folder; takes some seconds.

    Raises:
        OSError: there is no room for temporary files.
    """
    names = {f"{_MODEL}-{exporter}": exporter for exporter in request.exporters()}
    spec = standard.spec(
        models={name: {"source": _MODEL, "exporter": e} for name, e in names.items()},
        executor={"timeout_s": _TIMEOUT_S, "retries": 0},
    )
    with tempfile.TemporaryDirectory(prefix="converter-doctor-") as folder:
        work = Path(folder)
        # No trust: the registry needs none.
        planned = jobs.build(spec, run_dir=work, cwd=work, trust=[]).jobs
        for job in planned:
            # The runner would do that: the supervisor opens the log there.
            Path(job.model_dir).mkdir(parents=True)
        with closing(executors.create(spec.executor).run(planned)) as events:
            results = [event.result for event in events if isinstance(event, Finished)]
    # Jobs end in any order.
    order = list(names)
    results.sort(key=lambda result: order.index(result.name))
    return [_trial(result, names[result.name]) for result in results]


def _trial(result: JobResult, exporter: str) -> Trial:
    error = result.error
    simplify = result.onnx.simplify if result.onnx else None
    return Trial(
        exporter=exporter,
        seconds=round(sum(stage.seconds or 0.0 for stage in result.stages.values()), 2),
        error=f"{error.code}: {error.message}" if error else "",
        simplifier_error=(simplify.reverted_reason or "") if simplify else "",
    )
