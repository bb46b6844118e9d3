"""Bounds for files that compute in float16: right ones pass, damaged ones do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from converter.model.errors import Code
from converter.model.job import Job
from converter.model.spec import VerifySpec
from converter.worker.compare import numerics, outputs
from converter.worker.compare.numerics import BOUNDS, Noise
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import FLOAT16
from converter.worker.onnxfile import overflow
from converter.worker.reference import noise, preparing, reference
from converter.worker.reference.execution import Runner, flatten, replica, tensors
from converter.worker.reference.reference import References
from converter.worker.reference.rerounding import Rerounding
from converter.worker.sources import loading
from converter.worker.verify import mutation, rounded_weights, verification

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
MakeJob = Callable[..., Job]
X = {"x": {"shape": [2, 8]}}
EVERY_KIND = ["NamesFloat32", "TakesAnotherWay", "scripted", "function", "exported"]
HALF = BOUNDS["float16"]


@pytest.fixture
def job(tiny_job: MakeJob) -> MakeJob:
    def make(name: str, **changes: Any) -> Job:
        source = {"_target_": f"rounding.{name}"}
        return tiny_job(source, **{"inputs": X, "trust": ["rounding"], **changes})

    return make


def in_float16(job: Job, *, keeps_io: bool = True) -> References:
    loaded = loading.load(job)
    return reference.compute(loaded, job).in_precision("float16", keeps_io=keeps_io)


def halved(model: ModelProto, *, keeps_io: bool = True) -> ModelProto:
    """All floats as float16, between casts where the interface stays."""
    graph = model.graph
    constants = [attribute for node in graph.node for attribute in node.attribute]
    for tensor in (*graph.initializer, *(attribute.t for attribute in constants)):
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for attribute in constants:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
    del graph.value_info[:]
    renamed = {}
    before, after = [], []
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        if not keeps_io:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
            continue
        inner = renamed[value.name] = f"{value.name}_half"
        if value in graph.input:
            before.append(helper.make_node("Cast", [value.name], [inner], to=TensorProto.FLOAT16))
        else:
            after.append(helper.make_node("Cast", [inner], [value.name], to=TensorProto.FLOAT))
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def saved(model: ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


# The model's rounding to float16


@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_kind_of_source_has_a_floor_of_float16(job: MakeJob, name: str) -> None:
    found = in_float16(job(name)).noise
    (floor,) = found.floors
    assert floor is not None
    assert 1e-4 < floor < 1e-2
    # Nobody conditioned these weights.
    assert found.bounds is numerics.bounds_of("float16", conditioned=False)


def test_a_recurrent_one_too(job: MakeJob) -> None:
    (floor,) = in_float16(job("Recurrent", inputs={"x": {"shape": [6, 2, 8]}})).noise.floors
    assert floor is not None
    assert 1e-4 < floor < 1e-2


def test_what_is_measured_belongs_to_a_precision(job: MakeJob) -> None:
    made = job("NamesFloat32")
    wide = reference.compute(loading.load(made), made)
    assert wide.noise.floors[0] < 1e-6
    narrow = wide.in_precision("float16")
    assert narrow.noise.floors[0] > 1e-4
    assert wide.noise.floors[0] < 1e-6
    assert wide.noise.bounds is BOUNDS["float32"]


def test_to_nearest_it_is_float16_arithmetic() -> None:
    """Against PyTorch's own kernels for float16."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(16 * 36, 64), torch.nn.GELU(), torch.nn.Linear(64, 64),
    ).eval()  # fmt: skip
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        plain = model(x)
        with Rerounding(0, 0.0, precision=torch.float16):
            nearest = model(x)
        with Rerounding(0, precision=torch.float16):
            moved = model(x)
        own = model.half()(x.half()).float()
    scale = plain.norm()
    wrong = float((own - plain).norm() / scale)
    assert float((nearest - plain).norm() / scale) == pytest.approx(wrong, rel=0.2)
    assert 0.5 < float((moved - plain).norm() / scale) / wrong < 2
    assert torch.equal(nearest, nearest.half().float())


def test_float16_has_its_range_and_whole_numbers_are_kept() -> None:
    x = torch.tensor([1.0, 300.0, -300.0])
    with Rerounding(0, precision=torch.float16):
        assert (x * x).tolist() == [1, torch.inf, torch.inf]
        assert (x * 2 + 1).tolist() == [3, 601, -599]
        assert (x + torch.arange(2047.0, 2050.0)).tolist() == [2048, 2348, 1748]


def test_positions_are_rounded_once_they_meet_the_input() -> None:
    """A file computes with them in float32: an angle of 4001 is no number of float16."""
    places, table, x = torch.tensor([4001, 3]), torch.tensor([0.5, 1.0]), torch.ones(2)
    with Rerounding(0, precision=torch.float16, level=0, constants=[table]):
        angles = places[:, None].float() * table
        assert angles[0].tolist() == [2000.5, 4001]
        sines = angles.sin()
        assert (x + torch.arange(2.0)).tolist() == [1, 2]
        assert (angles + x)[0].tolist() == [2001, 4000]
        filled = torch.zeros(2)
        filled[:1] = x[:1] / 3
        moved = filled * 1.0
    exact = (places[:, None].double() * table).sin()
    assert torch.equal(sines, exact.float().half().float())
    # What an operator in place wrote into a constant is of the input.
    assert torch.equal(moved, moved.half().float())


@pytest.mark.parametrize("product", ["ids * w", "ids[:, None] @ w[None]", "torch.outer(ids, w)"])
def test_a_product_that_adds_nothing_up_keeps_positions(product: str) -> None:
    ids, w = torch.tensor([4001]), torch.tensor([1.0])
    with Rerounding(0, precision=torch.float16, level=0, constants=[w]):
        found = eval(product, {"ids": ids.float(), "w": w, "torch": torch})
    assert found.flatten().tolist() == [4001]


def test_parameters_are_left_as_they_were(job: MakeJob) -> None:
    made = job("Recurrent", inputs={"x": {"shape": [6, 2, 8]}})
    found = in_float16(made)
    first = found.cases[0]
    _ = found.noise
    assert np.array_equal(found.rerun(first)[0], first.outputs[0])


def test_detections_that_come_and_go_are_on_the_edge(job: MakeJob) -> None:
    made = job("Ranked", inputs={"x": {"shape": [1, 8]}}, outputs=["boxes", "scores"])
    found = in_float16(made)
    assert found.detections
    got = found.noise_of(found.cases[0])
    assert got.floors[found.detections["scores"]] is not None
    again = rerounded(made, found)
    compared = outputs.compare(
        found.names, found.cases[0].outputs, again, VerifySpec(), got, found.detections
    )
    assert [item.reason for item in compared] == [None] * len(compared)


def rerounded(job: Job, found: References) -> list[Array]:
    """The outputs in float16 arithmetic, as float32."""
    loaded = loading.load(job)
    run = Runner(loaded, job, print)
    with Rerounding(0, 0.0, precision=torch.float16):
        arguments = tensors(found.cases[0].inputs, run.device)
        result = run.forward(arguments, model=replica(run.model))
    return [tensor.detach().numpy() for tensor in flatten(result)]


def test_a_file_is_moved_by_steps_of_float16(tiny_job: MakeJob, tmp_path: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[2, 8] x) => (float[2, 8] y) {y = Exp(x)}'
    )
    path = saved(onnx.parser.parse_model(text), tmp_path / "source.onnx")
    made = tiny_job({"onnx": str(path)}, inputs={}, opset=None, exporters=["original"])
    loaded, complete = preparing.load(made)
    found = reference.compute(loaded, complete).in_precision("float16").noise
    assert found.floors == [HALF.unknown]
    run, item = Runner(loaded, complete, print), reference.compute(loaded, complete).cases[0]
    got = noise.measure(
        run, loaded, item.inputs, item.outputs, {}, exact=False, precision="float16"
    )
    assert max(got.parts[0].decades.values()) > 1e-4


# Verdicts


@pytest.fixture
def convert(tiny_job: MakeJob) -> Callable[[str], tuple[Job, ModelProto]]:
    def make(name: str) -> tuple[Job, ModelProto]:
        made = tiny_job(
            {"_target_": f"rounding.{name}"}, inputs=X, trust=["rounding"],
            exporters=["torchscript"],
        )  # fmt: skip
        done = jobs.convert(made)
        assert done.code is None, done.result.error
        return made, done.model

    return make


def test_a_right_file_passes_and_a_damaged_one_does_not(
    convert: Callable[[str], tuple[Job, ModelProto]], tmp_path: Path
) -> None:
    made, model = convert("NamesFloat32")
    wide_file = saved(model, tmp_path / "wide.onnx")
    path = saved(halved(model), tmp_path / "half.onnx")  # in place
    wide = reference.compute(loading.load(made), made)
    assert verification.verify(path, wide, made).error is not None  # by the bounds of float32
    found = wide.in_precision("float16")
    assert verification.verify(path, found, made).error is None
    assert rounded_weights.changed(wide_file, path) is None
    for name in mutation.initializers(onnx.load(path), 8):
        for kind in ("negated", "x 1.1"):
            wrong = saved(mutation.damaged(path, name, kind), tmp_path / "damaged.onnx")
            error = verification.verify(wrong, found, made).error
            assert error is not None or ("bias" in name and kind == "x 1.1"), (name, kind)
            assert f"weight '{name}'" in str(rounded_weights.changed(wide_file, wrong))


@pytest.mark.parametrize(
    ("want", "got", "right"),
    [
        (0.1, np.float16(0.1), True),
        (0.1, np.float16(0.11), False),
        (-1e9, -np.inf, True),
        (-1e9, -1e4, True),
        (-1e9, np.inf, False),
        (-1e9, -7.0, False),
        (3e4, 1e4, True),
        (3e4, 2e4, False),
        (1e-12, 0.0, True),
        (1e-12, 1e-7, True),
        (-np.inf, -np.inf, True),
    ],
)
def test_a_weight_is_the_rounded_one_or_it_is_named(
    tmp_path: Path, want: float, got: float, right: bool
) -> None:
    files = []
    for name, value in (("wide", np.float32(want)), ("half", np.float16(got))):
        made = onnx.load(graph("y = Add(x, c)", tmp_path, name))
        made.graph.initializer.append(numpy_helper.from_array(np.asarray([value]), "c"))
        files.append(saved(made, tmp_path / f"{name}.onnx"))
    assert (rounded_weights.changed(*files) is None) is right


@pytest.mark.parametrize("change", ["renamed", "transposed", "negated", "wide"])
def test_a_weight_is_compared_under_any_name(tmp_path: Path, change: str) -> None:
    values = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    files = []
    for name in ("wide", "half"):
        made = onnx.load(graph("y = Add(x, c)", tmp_path, name))
        held = values if name == "wide" else values.astype(np.float16)
        if name == "half" and change == "transposed":
            held = held.T
        if name == "half" and change in ("negated", "wide"):
            held = held.copy()
            held[0, 0] *= -1
        if change == "wide":  # left in float32, and another one
            held = held.astype(np.float32)
        called = "c" if name == "wide" else "other"
        made.graph.node[0].input[1] = called
        made.graph.initializer.append(numpy_helper.from_array(held, called))
        if name == "half":  # what nobody takes stands for nothing
            made.graph.initializer.append(numpy_helper.from_array(values, "c"))
        files.append(saved(made, tmp_path / f"{name}.onnx"))
    found = rounded_weights.changed(*files)
    if change in ("renamed", "transposed"):
        assert found is None
    else:
        assert found == (
            "weight 'other' stands for none of the float32 file, and none stands for its 'c' [4, 8]"
        )


@pytest.mark.parametrize("keeps_io", [True, False])
def test_outputs_of_float16_are_accepted_only_where_that_is_declared(
    convert: Callable[[str], tuple[Job, ModelProto]], tmp_path: Path, keeps_io: bool
) -> None:
    made, model = convert("NamesFloat32")
    path = saved(halved(model, keeps_io=keeps_io), tmp_path / "half.onnx")
    found = in_float16(made, keeps_io=keeps_io)
    assert verification.verify(path, found, made).error is None
    other = verification.verify(path, in_float16(made, keeps_io=not keeps_io), made).error
    assert other is not None
    assert other.code in (Code.OUTPUT_STRUCTURE, Code.VERIFY_SHAPE, Code.SESSION)


def test_an_output_beyond_float16_says_so() -> None:
    want = np.array([7e4, 1.0], np.float32)
    with np.errstate(over="ignore"):
        got = want.astype(np.float16)
    found = numerics.compare("y", want, got, rtol=None, atol=None, limits=HALF, narrowed=True)
    assert found.code is Code.VERIFY_NONFINITE
    assert found.reason == "y: PyTorch gives 7e+04, float16 ends at 65504"


# Range


def graph(body: str, tmp_path: Path, name: str = "wide") -> Path:
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> g (float[2, 2] x) => (float[2, 2] y) {{{body}}}'
    )
    return saved(onnx.parser.parse_model(text), tmp_path / f"{name}.onnx")


def both(body: str, tmp_path: Path, **constants: Any) -> tuple[Path, Path]:
    wide = graph(body, tmp_path)
    model = onnx.load(wide)
    for place, node in enumerate(model.graph.node):
        node.name = f"node{place}"
    arrays = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in arrays.items()
    )
    onnx.save(model, wide)
    with np.errstate(over="ignore"):
        return wide, saved(halved(onnx.load(wide)), tmp_path / "half.onnx")


def first(wide: Path, half: Path, feeds: Mapping[str, Array]) -> overflow.Overflow | None:
    with overflow.opened(wide, half, FLOAT16) as overflows:
        return overflows.first(feeds)


FEEDS: Mapping[str, Array] = {"x": np.array([[100, -2], [3, 4]], np.float32)}


@pytest.mark.parametrize(
    ("body", "constants", "words"),
    [
        ("a = Mul(x, x) b = Mul(a, x) y = Div(b, x)", {}, "Mul 'node1' gives 1e+06, float16 ends"),
        ("a = Mul(x, c) y = Sub(a, a)", {"c": 660}, "Mul 'node0' gives 6.6e+04, float16 ends"),
        ("a = Add(x, c) y = Sub(a, a)", {"c": -3.4e38}, "Sub 'node1' gives NaN where"),
    ],
)  # fmt: skip
def test_the_first_result_out_of_range_is_named(
    tmp_path: Path, body: str, constants: dict[str, Any], words: str
) -> None:
    found = first(*both(body, tmp_path, **constants), FEEDS)
    assert str(found).startswith(words)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("a = Mul(x, x) y = Sqrt(a)", {}),
        ("m = Mul(c, d) a = Add(x, m) y = Softmax(a)", {"c": [-1e9, 0], "d": 1.0}),
        ("a = Add(x, c) y = Softmax(a)", {"c": [float("-inf"), 0]}),
    ],
)
def test_masks_and_what_fits_are_no_overflow(
    tmp_path: Path, body: str, constants: dict[str, Any]
) -> None:
    assert first(*both(body, tmp_path, **constants), FEEDS) is None


def test_an_input_that_is_too_large_is_named(tmp_path: Path) -> None:
    feeds = {"x": np.full((2, 2), 1e5, np.float32)}
    found = first(*both("y = Relu(x)", tmp_path), feeds)
    assert str(found) == "input 'x' gives 1e+05, float16 ends at 65504"


def test_bounds_of_float16_reach_every_part_of_a_comparison() -> None:
    """Slices and magnitudes by the steps of float16, whatever dtype the outputs have."""
    draw = np.random.default_rng(0)
    want = draw.standard_normal((8, 64)).astype(np.float32)
    want[0] *= 1e-4  # a slice that float16 does not hold to a hundredth
    got = want + (1e-5 * draw.standard_normal(want.shape)).astype(np.float32)
    none = Noise.none(1, HALF)
    (found,) = outputs.compare(["y"], [want], [got], VerifySpec(), none, {})
    assert found.code is None
    (found,) = outputs.compare(
        ["y"], [want], [got], VerifySpec(), replace(none, bounds=BOUNDS["float32"]), {}
    )
    assert found.code is Code.VERIFY_VALUE


def test_few_numbers_may_round_by_more_than_was_measured() -> None:
    """A mean of 16 numbers, in float16: off by more than a step in one of four draws."""
    one, many = np.float32([1.0]), np.ones(64, np.float32)

    def code(want: Array, off: float, precision: str) -> Code | None:
        limits = BOUNDS[precision]
        got = want * np.float32(1 + off)
        return numerics.compare(
            "y", want, got, rtol=None, atol=None, floor=1e-5, limits=limits
        ).code

    assert code(one, 2.5e-3, "float16") is None
    assert code(many, 2.5e-3, "float16") is Code.VERIFY_VALUE
    assert code(one, 6e-3, "float16") is Code.VERIFY_VALUE
    assert code(one, 2.5e-3, "float32") is Code.VERIFY_VALUE
