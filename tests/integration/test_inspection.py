"""``inspect`` on real files: what it reads, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from converter.cli import command_line

pytestmark = pytest.mark.integration


def model(opset: int = 17) -> ModelProto:
    """``y = relu(x w + b)`` inside an If, with attributes of several kinds."""
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "w")
    typed = helper.make_tensor("b", TensorProto.FLOAT, [2], [0.5, -0.5])
    then = helper.make_graph(
        [helper.make_node("Relu", ["z"], ["t"], name="inner")], "then", [], [value("t", ["n", 2])]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["z"], ["e"])], "else", [], [value("e", ["n", 2])]
    )
    limit = numpy_helper.from_array(np.array(float("inf"), dtype=np.float32))
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"], name="/fc/Gemm", alpha=0.25, transB=0),
        helper.make_node("Constant", [], ["limit"], value=limit),
        helper.make_node("Less", ["b0", "limit"], ["small"]),
        helper.make_node("If", ["small"], ["y"], then_branch=then, else_branch=other),
    ]
    inputs = [value("x", ["n", 3]), value("b0", [])]
    graph = helper.make_graph(nodes, "net", inputs, [value("y", ["n", 2])], [weight, typed])
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9, producer_name="hand"
    )
    helper.set_model_props(made, {"author": "somebody"})
    return made


def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(model(), "net.onnx")
    return tmp_path


def inspect(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = command_line.main(["inspect", *words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


@pytest.mark.usefixtures("folder")
def test_everything_that_people_look_for(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(inspect(capsys, "net.onnx", "--json"))
    assert {key: record[key] for key in ("ir_version", "producer", "graph", "opsets")} == {
        "ir_version": 9, "producer": "hand", "graph": "net", "opsets": {"ai.onnx": 17},
    }  # fmt: skip
    assert record["metadata"] == {"author": "somebody"}
    assert record["inputs"][0] == {"name": "x", "dtype": "float32", "shape": ["n", 3]}
    assert record["outputs"] == [{"name": "y", "dtype": "float32", "shape": ["n", 2]}]
    sizes = [(t["name"], t["shape"], t["bytes"]) for t in record["initializers"]]
    assert sizes == [("w", [3, 2], 24), ("b", [2], 8)]
    assert record["parameters"] == 8
    assert record["ops"]["If"] == 1
    assert [(n["op"], n["depth"]) for n in record["nodes"]] == [
        ("Gemm", 0), ("Constant", 0), ("Less", 0), ("If", 0), ("Identity", 1), ("Relu", 1),
    ]  # fmt: skip
    assert record["nodes"][0]["attributes"] == {"alpha": 0.25, "transB": 0}
    assert record["nodes"][1]["attributes"]["value"]["values"] == ["inf"]  # JSON has no infinity
    assert record["nodes"][3]["attributes"]["then_branch"] == {"graph": "then", "nodes": 1}
    assert "nodes" not in json.loads(inspect(capsys, "net.onnx", "--json", "--no-nodes"))


@pytest.mark.usefixtures("folder")
def test_text_and_a_difference_of_opsets(capsys: pytest.CaptureFixture[str]) -> None:
    shown = inspect(capsys, "net.onnx")
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "    1 Gemm  /fc/Gemm\n        (x, w, b) -> z\n        alpha=0.25, transB=0\n" in shown
    assert "\nnodes\n" not in inspect(capsys, "net.onnx", "--no-nodes")
    onnx.save(model(18), "new.onnx")
    shown = inspect(capsys, "net.onnx", "--diff", "new.onnx")
    assert "* opset ai.onnx" in shown
    assert shown.endswith("nodes: 6 equal\n  (6 equal nodes)\n")
    record = json.loads(inspect(capsys, "net.onnx", "--diff", "new.onnx", "--json", "--no-nodes"))
    assert not record["equal"]
    assert "nodes" not in record["before"]


@pytest.mark.usefixtures("folder")
def test_values_are_equal_however_they_are_stored(capsys: pytest.CaptureFixture[str]) -> None:
    other = model()
    other.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.array([0.5, -0.5], dtype=np.float32), "b")
    )
    onnx.save(other, "other.onnx")
    assert "initializers: 2 equal" in inspect(capsys, "net.onnx", "--diff", "other.onnx")


@pytest.mark.usefixtures("folder")
def test_external_data_is_never_opened(capsys: pytest.CaptureFixture[str]) -> None:
    made = model()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    onnx.save(made, "outside.onnx")
    record = json.loads(inspect(capsys, "outside.onnx", "--json"))
    first = record["initializers"][0]
    assert (first["external"], first["bytes"], first["sha256"]) == ("../../etc/passwd", 24, None)
    assert "24 B in ../../etc/passwd" in inspect(capsys, "outside.onnx")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text.onnx", b"hello world\n", "text.onnx is damaged or not ONNX: "),
        ("empty.onnx", b"", "empty.onnx is damaged or not ONNX: it holds no model. It must be"),
        ("half.onnx", None, "half.onnx is damaged or not ONNX: "),
        ("nett.onnx", b"-", "nett.onnx does not exist. Did you mean net.onnx?"),
    ],
)
def test_what_is_no_model_is_one_sentence_and_exit_2(
    name: str, data: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if data is None:
        data = Path("net.onnx").read_bytes()[:-40]
    if data != b"-":
        Path(name).write_bytes(data)
    assert command_line.main(["inspect", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"configuration: 1 problem\n  inspect: {message}")
    assert len(err.splitlines()) == 2


@pytest.mark.usefixtures("folder")
def test_names_and_types_that_are_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    whole = Path("net.onnx").read_bytes()
    Path("name.onnx").write_bytes(whole.replace(b"/fc/Gemm", b"/fc\xff\xfeemm"))
    assert command_line.main(["inspect", "name.onnx"]) == 2
    assert "name.onnx is damaged: a name in it is not text" in capsys.readouterr().err
    odd = model()
    odd.graph.initializer[0].data_type = 99
    onnx.save(odd, "type.onnx")
    assert command_line.main(["inspect", "type.onnx"]) == 2
    assert "it holds a tensor of an unknown type, 99" in capsys.readouterr().err
