"""The node with which a file begins to be wrong: planted ones, and those that exporters make."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, numpy_helper

from converter.model.errors import Code
from converter.model.job import Debug, Job
from converter.worker.debug import eager, inside, minimal, search
from converter.worker.debug.values import USUAL, Known, Value, distance
from converter.worker.pipeline import comparisons, debugging

pytestmark = pytest.mark.integration
X = np.random.default_rng(1).standard_normal((2, 5, 16)).astype(np.float32)


class Deep(torch.nn.Module):
    """What exporters take apart: norms, attention, an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first = torch.nn.LayerNorm(16), torch.nn.Linear(16, 16)
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
        self.groups = torch.nn.GroupNorm(4, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.gelu(self.first(self.norm(x)))
        z, _ = self.attention(y, y, y)
        return torch.softmax(self.groups(z.transpose(1, 2)).transpose(1, 2) + x, -1)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelProto, list[Value]]:
    torch.manual_seed(0)
    model, path = Deep().eval(), tmp_path_factory.mktemp("deep") / "deep.onnx"
    recording = eager.Recording()
    with torch.no_grad(), eager.watched(recording), recording:
        model(torch.from_numpy(X))
    with pytest.warns():
        torch.onnx.export(model, (torch.from_numpy(X),), path, dynamo=False, input_names=["x"])
    return onnx.load(path), recording.values


def found(model: ModelProto, known: list[Value], folder: Path) -> search.Guilty | None:
    values = inside.values(model, {"x": X}, folder)
    given = inside.constants(model) | {"x"}
    outputs = [info.name for info in model.graph.output]
    off = [distance(values[name], known[-1].array) for name in outputs]
    bound = search.tolerance(off, USUAL)
    wrong = [name for name, error in zip(outputs, off, strict=True) if error > bound]
    return search.guilty(model.graph, values, given, Known(known, bound), wrong)


def scaled(model: ModelProto, node: NodeProto) -> bool:
    """Change the weights of a node; whether it has any."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for place, name in enumerate(node.input):
        if name in held and held[name].data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(held[name]) * np.float32(1.5) + np.float32(0.1)
            model.graph.initializer.append(numpy_helper.from_array(array, f"{name}.changed"))
            node.input[place] = f"{name}.changed"
            return True
    return False


def test_in_a_right_file_no_output_is_wrong(deep: Any, tmp_path: Path) -> None:
    assert found(deep[0], deep[1], tmp_path) is None


def test_a_planted_fault_is_found_in_its_node_or_its_operator(deep: Any, tmp_path: Path) -> None:
    named = within = tried = 0
    for place in range(len(deep[0].graph.node)):
        model = ModelProto()
        model.CopyFrom(deep[0])
        node = model.graph.node[place]
        if node.op_type == "Erf":
            node.op_type = "Tanh"
        elif not scaled(model, node):
            continue
        guilty = found(model, deep[1], tmp_path)
        if guilty is None:  # its values decide nothing, as the bias of keys
            continue
        tried += 1
        named += list(guilty.node.output) == list(node.output)
        within += any(list(each.output) == list(node.output) for each in guilty.block)
    assert tried >= 6
    assert within == tried
    assert named >= tried / 2


def test_what_shows_it_stands_by_itself(deep: Any, tmp_path: Path) -> None:
    model = ModelProto()
    model.CopyFrom(deep[0])
    node = next(node for node in model.graph.node if node.op_type == "MatMul")
    assert scaled(model, node)
    guilty = found(model, deep[1], tmp_path)
    assert guilty is not None
    assert guilty.expected is not None
    values = {"x": X, **inside.values(model, {"x": X}, tmp_path)}
    told = minimal.Told("deep", "traced", "VERIFY_VALUE: wrong", "PyTorch")
    names = minimal.write(tmp_path, model, guilty, values, inside.constants(model), told)
    assert names == ["report.md", "minimal.onnx", "data.npz", "repro.py"]
    onnx.checker.check_model(tmp_path / "minimal.onnx", full_check=True)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "repro.py")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("largest error ")
    assert len((tmp_path / "repro.py").read_text().splitlines()) <= 20
    text = (tmp_path / "report.md").read_text()
    assert f"{Path(__file__).name}:" in text  # the line that asked for it
    assert "MatMul" in text


def test_right_numbers_in_a_wrong_shape_lead_to_the_node_that_made_it(tmp_path: Path) -> None:
    x, w = X[0, :4, :6], np.eye(6, dtype=np.float32) + 1
    recording = eager.Recording()
    with recording:
        y = torch.relu(torch.from_numpy(x) @ torch.from_numpy(w))
        -y.reshape(3, -1)  # the batch
    graph = onnx.parser.parse_graph(
        "g (float[4, 6] x) => (float[a, b] y) <float[6, 6] w, int64[2] s = {2, -1}>"
        "{ m = MatMul(x, w) r = Relu(m) z = Reshape(r, s) y = Neg(z) }"
    )
    held = next(tensor for tensor in graph.initializer if tensor.name == "s")
    del graph.initializer[:]
    graph.initializer.extend([held, numpy_helper.from_array(w, "w")])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    values = {"x": x, **inside.values(model, {"x": x}, tmp_path)}
    outputs = [recording.values[-1].array]
    given = {"x", *inside.constants(model)}
    guilty = comparisons.judge(model, values, given, recording.values, outputs)
    assert (guilty.node.op_type, guilty.form) == ("Reshape", ((2, 12), "float32"))
    told = minimal.Told("made", "traced", "DIM_SPECIALISED: wrong", "PyTorch")
    minimal.write(tmp_path, model, guilty, values, given - {"x"}, told)
    text = (tmp_path / "report.md").read_text()
    assert "`z` is float32 [2, 12] where `aten.relu.default` has float32 [3, 8]" in text
    assert "y.reshape(3, -1)  # the batch" in text
    done = subprocess.run(
        [sys.executable, str(tmp_path / "repro.py")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "largest error inf; shape (2, 12), expected (3, 8)\n"


def asked(tiny_job: Callable[..., Job], name: str, **changes: Any) -> Debug:
    return Debug.model_validate(dict(tiny_job(name, **changes)))


def ended(job: Debug) -> tuple[Any, Path]:
    return debugging.run(job, lambda news: None), Path(job.staging_dir) / Debug.FOLDER


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_branch_that_was_frozen_leads_to_the_line(tiny_job: Callable[..., Job]) -> None:
    result, folder = ended(asked(tiny_job, "Branch"))
    assert (result.status, result.error) == ("ok", None)
    text = (folder / "report.md").read_text()
    assert "tiny.py:" in text
    assert {part.path for part in result.files} >= {"report.md"}


def test_a_right_file_has_nothing_to_show(tiny_job: Callable[..., Job]) -> None:
    result, folder = ended(asked(tiny_job, "Net"))
    assert (result.status, result.files, folder.exists()) == ("ok", [], False)
    assert result.stages["verify"].warnings == ["the file is right on all cases"]


def test_what_does_not_export_is_told(tiny_job: Callable[..., Job]) -> None:
    result, _ = ended(asked(tiny_job, "Raises"))
    assert result.error.code is Code.FORWARD


def test_values_that_look_alike_are_told_apart_by_their_order() -> None:
    ones = np.ones((2, 3), np.float32)
    known = Known([Value(0, "a", "", ones), Value(1, "b", "", ones * 2)], 1e-4)
    assert known.match(ones, 0) is known.values[0]
    assert known.match(ones, 1) is None
    assert known.match((ones * 2).reshape(3, 2), 0) is known.values[1]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.1),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.inf], [1.0, 2.0], np.inf),
        ([1.0], [1.0, 2.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_the_distance_of_two_values(one: Any, other: Any, expected: float) -> None:
    assert distance(np.array(one), np.array(other)) == pytest.approx(expected)
