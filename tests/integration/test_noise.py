"""How far rounding moves a model's outputs, of every kind of source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper

from converter.model.errors import Code
from converter.model.job import Job
from converter.model.spec import VerifySpec
from converter.worker.compare import detections, numerics, outputs
from converter.worker.compare.numerics import Noise
from converter.worker.inputs import cases
from converter.worker.inputs.inputs import Array
from converter.worker.reference import noise, preparing, reference
from converter.worker.reference.execution import Runner
from converter.worker.reference.rerounding import Rerounding
from converter.worker.sources import loading
from converter.worker.verify import verification

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
MakeJob = Callable[..., Job]
X = {"x": {"shape": [2, 8]}}
EVERY_KIND = ["NamesFloat32", "TakesAnotherWay", "scripted", "function", "exported"]


@pytest.fixture
def job(tiny_job: MakeJob) -> MakeJob:
    def make(name: str, **changes: Any) -> Job:
        source = {"_target_": f"rounding.{name}"}
        return tiny_job(source, **{"inputs": X, "trust": ["rounding"], **changes})

    return make


def measure(job: Job, members: Mapping[str, int] | None = None) -> tuple[Noise, list[Array]]:
    """Of the traced example."""
    loaded = loading.load(job)
    run = Runner(loaded, job, print)
    inputs = cases.fixed(job)[0].draw(job.seed)
    found = run(inputs)
    return noise.measure(run, loaded, inputs, found, members or {}, exact=True), found


@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_kind_of_source_has_a_floor(job: MakeJob, name: str) -> None:
    (floor,) = measure(job(name))[0].floors
    assert floor is not None
    assert 1e-8 < floor < 5e-7


def test_whole_numbers_and_operators_without_float64_have_one_too(job: MakeJob) -> None:
    ids = {"ids": {"shape": [2, 5], "dtype": "int64", "low": 0, "high": 10}}
    for made in (job("Names", inputs=ids), job("Recurrent", inputs={"x": {"shape": [60, 2, 8]}})):
        (floor,) = measure(made)[0].floors
        assert floor is not None
        assert 1e-8 < floor < 5e-7


def test_half_precision_has_a_floor_of_its_size(job: MakeJob) -> None:
    made = job("half", inputs={"x": {"shape": [2, 8], "dtype": "float16"}})
    (floor,) = measure(made)[0].floors
    assert floor is not None
    assert 1e-4 < floor < 2e-3


def through_float16(model: ModelProto) -> ModelProto:
    """What is right but for its input, which loses digits."""
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["back" if given == name else given for given in node.input]
    casts = [
        helper.make_node("Cast", [name], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["back"], to=TensorProto.FLOAT),
    ]
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    return model


@pytest.mark.parametrize("name", EVERY_KIND)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_an_input_that_goes_through_float16_is_noticed(
    job: MakeJob, tmp_path: Path, name: str
) -> None:
    made = job(name, exporters=["dynamo" if name == "exported" else "torchscript"])
    done = jobs.convert(made)
    assert done.code is None, done.result.error
    damaged = tmp_path / "damaged.onnx"
    onnx.save(through_float16(done.model), damaged)
    error = verification.verify(damaged, reference.compute(loading.load(made), made), made).error
    assert error is not None
    assert error.code is Code.VERIFY_VALUE


@pytest.mark.parametrize(
    ("text", "least"),
    [("(float[2, 8] x) => (float[2, 8] y) {y = Tanh(x)}", numerics.BOUNDS["float32"].unknown),
     ("(int64[2] x) => (float[2] y) {a = Cast<to = 1>(x) y = Tanh(a)}", None)],
)  # fmt: skip
def test_a_file_is_moved_by_its_inputs(
    tiny_job: MakeJob, tmp_path: Path, text: str, least: float | None
) -> None:
    path = tmp_path / "source.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {text}'), path)
    made = tiny_job({"onnx": str(path)}, inputs={}, opset=None, exporters=["original"])
    loaded, complete = preparing.load(made)
    run = Runner(loaded, complete, print)
    inputs = cases.fixed(complete)[0].draw(0)
    assert noise.measure(run, loaded, inputs, run(inputs), {}, exact=True).floors == [least]


# Detections


def test_the_detections_on_the_edge(job: MakeJob) -> None:
    made = job("Edge", seed=1, inputs={"x": {"shape": [9, 32]}}, outputs=["boxes", "scores"])
    members = {"boxes": 0, "scores": 1}
    found, (boxes, scores) = measure(made, members)
    assert boxes.shape == (9, 4)
    assert detections.ranked(members, [boxes, scores])
    edge = found.edge(6)
    assert set(map(tuple, edge.rows[0])) == {(0, 0, 10, 10), (1, 1, 11, 11)}

    kept = next(row for row in range(9) if boxes[row, 0] < 2)
    other = boxes.copy()
    other[kept] = (0, 0, 10, 10) if boxes[kept, 0] else (1, 1, 11, 11)

    def verdict(boxes_: Array, noise_: Noise) -> list[Code | None]:
        compared = outputs.compare(
            ["boxes", "scores"], [boxes, scores], [boxes_, scores], VerifySpec(), noise_, members
        )
        return [item.code for item in compared]

    assert verdict(other, found) == [None, None]
    assert verdict(other, Noise.none(2)) == [Code.VERIFY_VALUE, None]
    shifted = boxes.copy()
    shifted[kept - 1] += 1
    assert verdict(shifted, found) == [Code.VERIFY_VALUE, None]


# Rounding at random


def test_what_is_exact_stays_so() -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    grid = torch.arange(64.0)

    def exact() -> list[torch.Tensor]:
        whole = (grid * 3 + 1) / 2
        return [whole.floor(), x == x.max(), x.relu()[:, ::2] * 2, x.half().float(), x.sort()[0]]

    plain = exact()
    with Rerounding(0):
        assert all(torch.equal(*pair) for pair in zip(plain, exact(), strict=True))


def test_each_seed_rounds_otherwise_and_a_level_moves_as_far() -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))

    def off(**options: Any) -> float:
        with Rerounding(**options):
            moved = (x @ x).exp()
        return float((moved.log() - x @ x).norm() / x.norm())

    assert len({off(seed=seed) for seed in range(3)}) == 3
    assert off(seed=0) == off(seed=0)
    assert off(seed=0, level=64) > 8 * off(seed=0)


def test_results_written_in_place_and_through_views_are_kept() -> None:
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) + 0.5

    def written() -> torch.Tensor:
        y = x.clone(memory_format=torch.contiguous_format)
        y[:, 1:3] += 1 / 3
        y.t()[0].mul_(0.7)
        return y.div_(3)

    plain = written()
    with Rerounding(0):
        moved = written()
    assert not torch.equal(moved, plain)
    assert np.allclose(moved, plain, rtol=1e-6)


def test_what_a_model_makes_of_its_parameters_stays_with_it(job: MakeJob) -> None:
    made = job("Recurrent", inputs={"x": {"shape": [6, 2, 8]}})
    loaded = loading.load(made)
    run = Runner(loaded, made, print)
    inputs = cases.fixed(made)[0].draw(0)
    before = run(inputs)
    noise.measure(run, loaded, inputs, before, {}, exact=True)
    assert np.array_equal(run(inputs)[0], before[0])


def test_random_numbers_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    plain = torch.rand(8)
    with Rerounding(0):
        torch.manual_seed(0)
        assert torch.equal(torch.rand(8), plain)
