"""The table of wrong kernels: each entry on the installed ONNX Runtime, beside a sound twin."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from converter.worker.onnxfile import kernels

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
_NEAREST = {"mode": "nearest", "nearest_mode": "floor"}


def graph(
    operator: str,
    inputs: list[tuple[str, int, list[int | str]]],
    constants: dict[int, np.ndarray] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node ``y``; ``constants`` are inputs at these places, others in between are absent."""
    constants = constants or {}
    places = range(len(inputs), max(constants, default=-1) + 1)
    names = [name for name, _, _ in inputs]
    names += [f"c{place}" if place in constants else "" for place in places]
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(operator, names, ["y"], **attributes)],
            "graph",
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info("y", inputs[0][1], None)],
            [numpy_helper.from_array(array, f"c{place}") for place, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, feeds)[0])


def nearest(before: int, after: int) -> onnx.ModelProto:
    sizes = np.array([1, 1, 1, after])
    value = ("x", TensorProto.FLOAT, [1, 1, 1, before])
    asymmetric = {"coordinate_transformation_mode": "asymmetric", **_NEAREST}
    return graph("Resize", [value], {3: sizes}, **asymmetric)


@pytest.mark.parametrize(("before", "after"), [(26, 64), (13, 64), (27, 64), (13, 26), (25, 50)])
def test_nearest_warns_where_pixels_differ(before: int, after: int) -> None:
    model = nearest(before, after)
    row = torch.arange(before, dtype=torch.float32).reshape(1, 1, 1, before)
    same = bool((run(model, x=row.numpy()) == F.interpolate(row, size=(1, after)).numpy()).all())
    assert same is (before != 26)
    warnings = kernels.known(model)
    assert bool(warnings) is not same
    assert same or warnings[0].startswith("Resize y: at these sizes ONNX Runtime takes some pixels")


def linear(height: int | str, scale: float) -> onnx.ModelProto:
    value = ("x", TensorProto.FLOAT, [1, 1, height, 16])
    scales = np.array([1, 1, scale, scale], np.float32)
    return graph("Resize", [value], {2: scales}, mode="linear")


@pytest.mark.parametrize(
    ("height", "scale", "kept"), [(3, 1.3, True), (8, 1.3, False), (3, 2.0, False)]
)
def test_a_scale_that_keeps_an_axis(height: int, scale: float, kept: bool) -> None:
    model = linear(height, scale)
    image = torch.rand(1, 1, height, 16, generator=torch.Generator().manual_seed(0))
    want = F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False).numpy()
    right = bool(np.allclose(run(model, x=image.numpy()), want, atol=1e-5))
    assert right is not kept
    assert bool(kernels.known(model)) is kept


def test_an_open_axis_may_be_kept_by_a_small_scale_only() -> None:
    assert kernels.known(linear("h", 1.3))
    assert kernels.known(linear("h", 2.0)) == kernels.known(linear("h", 0.5)) == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="Eigen is wrong with SSE2 only")
@pytest.mark.parametrize("operator", ["Max", "Min"])
def test_int64_beyond_int32(operator: str) -> None:
    values: list[tuple[str, int, list[int | str]]] = [
        (name, TensorProto.INT64, ["n"]) for name in ("a", "b")
    ]
    model = graph(operator, values)
    a, b = np.full(8, 4294967289), np.full(8, 609430995)
    wanted = (np.maximum if operator == "Max" else np.minimum)(a, b)
    assert (run(model, a=a, b=b) != wanted).any()
    assert "microsoft/onnxruntime#25280" in kernels.known(model)[0]
    floats = graph(operator, [(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b")])
    assert kernels.known(floats) == []


def test_fmod_of_int64() -> None:
    values: list[tuple[str, int, list[int | str]]] = [
        (name, TensorProto.INT64, ["n"]) for name in ("a", "b")
    ]
    a, b = np.array([2**53 + 1]), np.array([4])
    assert run(graph("Mod", values, fmod=1), a=a, b=b).tolist() != [1]
    assert "2**53" in kernels.known(graph("Mod", values, fmod=1))[0]
    assert kernels.known(graph("Mod", values)) == []


@pytest.mark.parametrize(("steps", "warned"), [(100_000, True), (100, False)])
def test_long_sums(steps: int, warned: bool) -> None:
    value = ("x", TensorProto.FLOAT, [steps])
    model = graph("CumSum", [value], {1: np.array(0)})
    array = np.random.default_rng(0).random(steps, dtype=np.float32)
    wanted = np.cumsum(array, dtype=np.float64)
    off = np.abs(run(model, x=array) / wanted - 1).max() > 2e-6
    assert (bool(off), bool(kernels.known(model))) == (warned, warned)


def test_what_was_fixed_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = tuple(replace(kernel, fixed="1.0") for kernel in kernels.TABLE)
    monkeypatch.setattr(kernels, "TABLE", fixed)
    assert kernels.known(nearest(26, 64)) == []


def test_the_row_says_it(convert: Convert) -> None:
    done = convert(
        {"_target_": "edges.Highest"},
        trust=["edges"],
        inputs={"x": {"shape": [2, 3], "dtype": "int64", "low": 0, "high": 9}},
    )
    assert done.code is None, done.result.error
    assert "int64 values beyond" in done.result.stages["verify"].warnings[0]


def test_an_ordinary_row_says_nothing(convert: Convert) -> None:
    done = convert("Net")
    assert done.result.stages["verify"].warnings == []
