"""PyTorch as users call it, to be timed beside the file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from converter.model.job import Job
from converter.worker.benchmark import timing
from converter.worker.reference import execution
from converter.worker.reference.execution import Runner


@contextmanager
def calls_of(
    runner: Runner, job: Job, samples: list[tuple[torch.Tensor, ...]]
) -> Iterator[list[timing.Call]]:
    """Calls of the PyTorch model as users make them: eager, without gradients, its state kept."""
    # Once for all calls: a copy for each would be timed with it.
    model = execution.replica(runner.model)
    torch.manual_seed(job.seed)

    def call_on(tensors: tuple[torch.Tensor, ...]) -> Callable[[], object]:
        # Made before the clock starts: users have their arguments at hand.
        placed, named = runner.arguments(tensors)
        call = functools.partial(model, *placed, **named)
        return functools.partial(_on_device, call) if tensors and tensors[0].is_cuda else call

    with torch.inference_mode():
        yield [call_on(arguments) for arguments in samples]


def _on_device(call: Callable[[], object]) -> None:
    """A call and its end: CUDA works on after the call has returned."""
    call()
    torch.cuda.synchronize()
