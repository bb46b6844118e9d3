"""Nearest resize as PyTorch computes it, at sizes that are not those of the export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import resizes
import torch
from jobs import make
from torch import nn

from converter.plugins import exporters
from converter.plugins.exporters._resizing import Axis
from converter.worker.sources.loading import Loaded

pytestmark = pytest.mark.integration
BOTH = ["torchscript", "dynamo"]
# What 2 to 70 elements are made.
SIZES = [64, 50, 33, 7]
FACTORS = (1.3, 2.0, 0.5, 0.7, 2.01)


def exported(
    folder: Path, exporter: str, model: Any, x: torch.Tensor, dynamic: bool = True, opset: int = 18
) -> tuple[list[str], onnxruntime.InferenceSession]:
    """The operators of the file, and the file."""
    axes = {"x": {axis: f"d{axis}" for axis in range(2, x.dim())}} if dynamic else {}
    inputs = {"x": {"shape": list(x.shape)}}
    job = make(folder, "Net", inputs=inputs, opset=opset, exporters=[exporter], dynamic_axes=axes)
    kind = "script_module" if isinstance(model, torch.jit.ScriptModule) else "module"
    loaded: Any = Loaded(model.eval(), kind, torch.device("cpu"), None)
    path = folder / "model.onnx"
    exporters.export(exporter, loaded, job, (x,), path)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    return operators, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def numbered(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Every element another."""
    return torch.arange(np.prod(shape), dtype=dtype).reshape(1, 1, *shape)


def wrong(session: onnxruntime.InferenceSession, model: nn.Module, x: torch.Tensor) -> list[int]:
    """Outputs that are not PyTorch's, bit by bit."""
    wanted = model(x)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    got = session.run(None, {"x": x.numpy()})
    pairs = enumerate(zip(wanted, got, strict=True))
    return [index for index, (want, have) in pairs if not np.array_equal(want.numpy(), have)]


@pytest.mark.parametrize("exporter", BOTH)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_length(tmp_path: Path, exporter: str, rank: int) -> None:
    sizes = tuple((3,) * (rank - 1) + (size,) for size in SIZES)
    model = resizes.Resized(sizes, FACTORS, ("nearest", "nearest-exact"))
    _, session = exported(tmp_path, exporter, model, numbered(*[6] * (rank - 1), 24))
    found = {
        length: outputs
        for length in range(2, 71)
        if (outputs := wrong(session, model, numbered(*[2] * (rank - 1), length)))
    }
    assert found == {}


@pytest.mark.parametrize("exporter", BOTH)
@pytest.mark.parametrize("height", [2, 200])
def test_float64_is_computed_as_pytorch_does(tmp_path: Path, exporter: str, height: int) -> None:
    """39 elements to 33: PyTorch's small images are computed in float32, the others are not."""
    model = resizes.Resized(((height, 33),))
    x = numbered(height, 39, dtype=torch.float64)
    _, session = exported(tmp_path, exporter, model, x)
    assert [
        n for n in (1, 2, 39, 77, 78) if wrong(session, model, numbered(height, n).double())
    ] == []


@pytest.mark.parametrize("exporter", BOTH)
def test_a_pyramid_of_any_size(tmp_path: Path, exporter: str) -> None:
    model = resizes.Pyramid()
    _, session = exported(tmp_path, exporter, model, numbered(24, 32))
    assert [n for n in range(2, 71) if wrong(session, model, numbered(n, 71 - n + 1))] == []


@pytest.mark.parametrize("exporter", BOTH)
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (resizes.Pyramid(), (24, 32)),
        (resizes.Resized(((64, 50),)), (32, 25)),
        (resizes.Resized(((64, 26),)), (27, 26)),
        (resizes.Resized(factors=(2.0,)), (24, 32)),
    ],
)
def test_resize_stays_where_it_is_right(
    tmp_path: Path, exporter: str, model: nn.Module, shape: tuple[int, ...]
) -> None:
    x = numbered(*shape)
    operators, session = exported(tmp_path, exporter, model, x, dynamic=False)
    assert "Resize" in operators
    assert not {"Range", "Floor"} & set(operators)
    assert wrong(session, model, x) == []


@pytest.mark.parametrize("exporter", BOTH)
def test_a_fixed_size_that_resize_gets_wrong(tmp_path: Path, exporter: str) -> None:
    model, x = resizes.Resized(((64, 64),)), numbered(26, 26)
    operators, session = exported(tmp_path, exporter, model, x, dynamic=False)
    assert "Resize" not in operators
    assert wrong(session, model, x) == []


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_script(tmp_path: Path) -> None:
    model = torch.jit.script(resizes.Scripted())
    _, session = exported(tmp_path, "torchscript", model, numbered(24, 32))
    assert [n for n in range(1, 71) if wrong(session, model, numbered(n, n))] == []


def test_a_length_known_at_run_time_only(tmp_path: Path) -> None:
    model, x = resizes.Masked(), numbered(26, 20)
    _, session = exported(tmp_path, "torchscript", model, x, dynamic=False)
    x[0, 0, ::3, 0] = -1
    assert wrong(session, model, x) == []


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_the_same_at_other_opsets(tmp_path: Path, opset: int) -> None:
    model = resizes.Resized(((64, 64),))
    _, session = exported(tmp_path, "torchscript", model, numbered(24, 32), opset=opset)
    assert [n for n in range(1, 71) if wrong(session, model, numbered(n, n))] == []


@pytest.mark.parametrize(
    ("factor", "agrees"), [(2.0, True), (0.5, True), (41.0, False), (1.3, False), (2.01, False)]
)
def test_factors_that_resize_gets_right_at_any_length(factor: float, agrees: bool) -> None:
    assert Axis(2, None, None, factor=factor).agrees is agrees


@pytest.mark.parametrize("exporter", BOTH)
@pytest.mark.parametrize(("mode", "rank"), [("linear", 1), ("bilinear", 2), ("trilinear", 3)])
def test_a_factor_that_keeps_a_length(
    request: pytest.FixtureRequest, tmp_path: Path, exporter: str, mode: str, rank: int
) -> None:
    if (exporter, rank) == ("dynamo", 1):
        # torch.export decomposes it before a translation of ours could replace it.
        wrong = pytest.mark.xfail(strict=True, raises=AssertionError, reason="the file is wrong")
        request.node.add_marker(wrong)
    model = resizes.Resized(factors=(1.3,), modes=(mode,))
    _, session = exported(tmp_path, exporter, model, torch.rand(1, 1, *[6] * rank))
    for length in range(2, 20):
        x = torch.rand(1, 1, *[3] * (rank - 1), length)
        got = session.run(None, {"x": x.numpy()})[0]
        np.testing.assert_allclose(got, model(x)[0].numpy(), atol=1e-6)
