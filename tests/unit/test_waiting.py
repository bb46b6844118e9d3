"""Which job begins next: the longest that fits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pytest

import registry
from converter.model.job import Derived, Job
from converter.plugins.executors import Past
from converter.plugins.executors._waiting import Memory, Waiting

GB = 1 << 30


def job(name: str) -> Job:
    return Job(
        name=name,
        source={"registry": "none"},
        inputs={},
        opset=17,
        exporters=["torchscript"],
        model_dir="/m",
        staging_dir="/s",
    )


def order(jobs: list[Job], past: Mapping[str, Past], fits: Callable[[Job], bool]) -> Iterator[str]:
    waiting = Waiting(deque(jobs), past)
    while (found := waiting.pop(fits)) is not None:
        yield found.label


def test_the_longest_begins_first_and_what_was_never_seen_before_it() -> None:
    past = {"short": Past(1.0), "long": Past(9.0, estimated=True)}
    jobs = [job("short"), job("new"), job("long")]
    assert list(order(jobs, past, lambda _: True)) == ["new", "long", "short"]
    assert list(order(jobs, {}, lambda _: True)) == ["short", "new", "long"]


def test_what_derives_from_a_file_counts_as_that_file() -> None:
    variant = Derived(**{**dict(job("short")), "artifact": "fp16", "parent": "onnx"}, plugin="fp16")
    past = {"short": Past(1.0), "long": Past(9.0)}
    assert list(order([variant, job("long")], past, lambda _: True)) == ["long", "short/fp16"]


def test_a_shorter_one_passes_what_does_not_fit_and_keeps_its_place() -> None:
    past = {"large": Past(9.0, 12 * GB), "small": Past(1.0, GB), "other": Past(2.0, GB)}
    running = [job("running")]
    known = {**past, "running": Past(5.0, 10 * GB)}
    memory = Memory(16 * GB, workers=2)
    waiting = Waiting(deque(map(job, ["large", "small", "other"])), known)
    beside = partial(memory.fits, running=running, past=known)
    assert [found.label for _ in range(2) if (found := waiting.pop(beside))] == ["other", "small"]
    assert waiting.pop(beside) is None
    assert waiting, "it waits"
    alone = waiting.pop(partial(memory.fits, running=[], past=known))
    assert alone is not None
    assert alone.label == "large"


@pytest.mark.parametrize(("workers", "fits"), [(2, True), (1, False)])
def test_one_of_which_nothing_is_known_counts_as_its_share(workers: int, fits: bool) -> None:
    past = {"known": Past(1.0, 8 * GB)}
    memory = Memory(16 * GB, workers)
    assert memory.fits(job("new"), [job("known")], past) is fits


def test_without_a_budget_all_fit_and_what_is_too_large_runs_alone() -> None:
    past = {"huge": Past(1.0, 99 * GB)}
    assert Memory(None).fits(job("huge"), [job("huge")], past)
    assert Memory(GB).fits(job("huge"), [], past)


def test_torchvision_says_how_large_its_models_are() -> None:
    sizes = {name: registry.size(f"torchvision/{name}") for name in ("resnet18", "vit_b_16")}
    resnet, vit = sizes["resnet18"], sizes["vit_b_16"]
    assert resnet is not None and vit is not None  # noqa: PT018 - both for the types
    assert (resnet.parameters, vit.parameters) == (11689512, 86567656)
    assert vit.operations > resnet.operations > 1e9
    assert registry.size("torchvision/quantized_resnet18") == resnet
    assert registry.size("torchvision/none") is registry.size("simple_cnn") is None
