"""What the plugin of a variant may ask for: samples, cases, and the verdict on a candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path

from onnx import ModelProto

from converter.model.job import Derived
from converter.plugins import providers
from converter.plugins.variants import Given
from converter.worker.inputs import cases
from converter.worker.inputs.cases import Case
from converter.worker.inputs.inputs import Array, varies
from converter.worker.onnxfile import structure
from converter.worker.reference.kept import Kept
from converter.worker.sources import data
from converter.worker.verify.verification import Verdict

# A number of its own for each draw, beyond those that the cases have.
_FIRST = 1 << 20


def given(job: Derived, found: Kept, parent: ModelProto, judge: Callable[[Path], Verdict]) -> Given:
    """What there is for a job.

    Args:
        found: what its parent kept, whose job knows all inputs and axes.
        parent: what is in the file that it is made from; its weights do not matter.
        judge: gives the verdict on a file.
    """
    items = found.references.cases
    real = job.data is not None
    return Given(
        interface=structure.interface(parent),
        cases=[item.inputs for item in items],
        sizes={
            symbol: sorted({item.inputs[name].shape[axis] for item in items})
            for symbol, ((name, axis), *_) in cases.symbols(found.job).items()
        },
        samples=lambda limit: islice(_samples(found), limit),
        real=real,
        trained=real or not found.references.conditioned,
        verdict=lambda file: (lambda verdict: (verdict.error, verdict.accuracy))(judge(file)),
        threads=job.threads,
        seed=job.seed,
        runtime=_options(job),
    )


def _options(job: Derived) -> dict[str, str]:
    if not job.provider:
        return {}
    stated = job.provider_options.get(job.provider, {})
    return providers.options(providers.load(job.provider), stated)


def _samples(found: Kept) -> Iterator[Mapping[str, Array]]:
    """The user's samples, or draws without end; one where all inputs are stated.

    Of draws the second and those after it have the other sizes that files are verified at.
    """
    job = found.job
    if job.data is not None:
        yield from (sample.inputs for sample in data.samples(job))
        return
    first = Case("", job.inputs, _FIRST if any(map(varies, job.inputs.values())) else 0)
    yield first.draw(job.seed)
    numbers = count(_FIRST + 1)
    seen = [first.shapes]
    for item in found.references.cases:
        if item.case.shapes not in seen:
            seen.append(item.case.shapes)
            # Other values than it is verified on.
            yield Case("", item.case.inputs, next(numbers)).draw(job.seed)
    for number in numbers if first.sample else ():
        yield Case("", job.inputs, number).draw(job.seed)
