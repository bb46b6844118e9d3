"""``inspect`` on what hides: functions, subgraphs, sparse and external tensors; what is equal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from converter.cli import command_line
from converter.inspection import sidebyside
from converter.inspection.difference import Difference, compare
from converter.model.errors import StageError
from converter.worker.onnxfile import inspection

pytestmark = pytest.mark.integration


def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def tensor(numbers: Any, name: str = "") -> TensorProto:
    return numpy_helper.from_array(np.array(numbers, dtype=np.float32), name)


def sparse(numbers: list[float], name: str = "s") -> SparseTensorProto:
    places = numpy_helper.from_array(np.array([0, 3], dtype=np.int64), f"{name}_places")
    return helper.make_sparse_tensor(tensor(numbers, name), places, [4])


def model() -> ModelProto:
    """An If with an initializer in a branch, a sparse one, constants, a local function."""
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "k"], ["t"])],
        "then", [], [value("t", [4])], [tensor([1, 2, 3, 4], "k")],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["e"])], "else", [], [value("e", [4])]
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=tensor(range(20)), name="constant"),
        helper.make_node("Constant", [], ["d"], sparse_value=sparse([1, 2])),
        helper.make_node("If", ["b"], ["z"], then_branch=then, else_branch=other),
        helper.make_node("F", ["z"], ["f"], domain="my"),
        helper.make_node("Sum", ["f", "s", "w"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("b", TensorProto.BOOL, []), value("x", [4])]
    graph = helper.make_graph(
        nodes, "net", inputs, [value("y", [4])], [tensor([5, 6, 7, 8], "w")],
        value_info=[value("z", [4]), value("f", [4])], sparse_initializer=[sparse([1, 2])],
        doc_string="net",
    )  # fmt: skip
    function = helper.make_function(
        "my", "F", ["a"], ["b"],
        [helper.make_node("Elu", ["a"], ["r"], alpha=0.5), helper.make_node("Neg", ["r"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    made = helper.make_model(
        graph, functions=[function], ir_version=10, producer_name="hand",
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my", 1)],
    )  # fmt: skip
    helper.set_model_props(made, {"author": "somebody"})
    made.training_info.add().algorithm.name = "step"
    made.graph.quantization_annotation.add(tensor_name="z")
    return made


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(model(), "net.onnx")
    return tmp_path


def difference(other: ModelProto) -> Difference:
    """Of the model, and of another one."""
    Path("other.onnx").write_bytes(other.SerializeToString())  # onnx.save refuses some damage
    return compare(*(inspection.read(Path(name), True) for name in ("net.onnx", "other.onnx")))


def inspect(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert command_line.main(["inspect", *words]) == 0
    return capsys.readouterr().out


def test_all_that_a_file_holds_is_listed_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    shown = inspect(capsys, "net.onnx")
    assert "  If_3.then_branch/k  float32  [4]  16 B\n" in shown
    assert "  s                   float32  [4]  24 B sparse, 2 stored values\n" in shown
    assert "initializers: 3, 10 numbers, 56 B\n" in shown
    assert "operators: 9 nodes, 2 of them in subgraphs, 2 of them in functions\n" in shown
    assert shown.endswith(
        "\n\nfunction my::F\n  (a) -> b\n  opsets ai.onnx 17\n"
        "    1 Elu\n        (a) -> r\n        alpha=0.5\n    2 Neg\n        (r) -> b\n"
    )
    record = json.loads(inspect(capsys, "net.onnx", "--json", "--no-nodes"))
    assert (record["parameters"], record["ops"]["Elu"], record["ops"]["Relu"]) == (10, 1, 1)
    assert [function.get("nodes") for function in record["functions"]] == [None]


def test_the_initializers_of_a_subgraph_in_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    made = model()
    node = helper.make_node("If", ["a"], ["q"], name="pick")
    node.attribute.extend(made.graph.node[2].attribute)
    made.functions[0].node.append(node)
    onnx.save(made, "net.onnx")
    assert "  my::F/pick.then_branch/k  float32" in inspect(capsys, "net.onnx")


def test_a_file_that_lacks_opsets_and_a_type(capsys: pytest.CaptureFixture[str]) -> None:
    made = model()
    del made.opset_import[:]
    made.graph.output[0].ClearField("type")
    Path("net.onnx").write_bytes(made.SerializeToString())
    shown = inspect(capsys, "net.onnx")
    assert "\nopsets      none\n" in shown
    assert "\n  y  unknown\n" in shown


def test_a_sparse_initializer_that_is_an_input_need_not_be_fed() -> None:
    made = model()
    made.graph.input.append(value("s", [4]))
    Path("net.onnx").write_bytes(made.SerializeToString())
    content = inspection.read(Path("net.onnx"))
    assert [one.name for one in content.inputs] == ["b", "x"]
    assert [one.name for one in content.initializers if one.also_input] == ["s"]


def _branch(made: ModelProto) -> None:
    (then,) = (a.g for a in made.graph.node[2].attribute if a.name == "then_branch")
    then.initializer[0].CopyFrom(tensor([1, 2, 3, 9], "k"))


def _function(made: ModelProto) -> None:
    made.functions[0].node[1].op_type = "Abs"


def _function_attribute(made: ModelProto) -> None:
    made.functions[0].node[0].attribute[0].f = 0.25


def _function_opset(made: ModelProto) -> None:
    made.functions[0].opset_import[0].version = 18


def _sparse(made: ModelProto) -> None:
    made.graph.sparse_initializer[0].CopyFrom(sparse([1, 9]))


def _sparse_places(made: ModelProto) -> None:
    places = numpy_helper.from_array(np.array([0, 2], dtype=np.int64), "s_places")
    made.graph.sparse_initializer[0].indices.CopyFrom(places)


def _constant(made: ModelProto) -> None:
    made.graph.node[0].attribute[0].t.CopyFrom(tensor([*range(19), 0]))


def _sparse_constant(made: ModelProto) -> None:
    made.graph.node[1].attribute[0].sparse_tensor.CopyFrom(sparse([1, 9]))


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (_branch, "- If_3.then_branch/k  float32  [4]  16 B, other values\n"),
        (_sparse, "- s  float32  [4]  24 B sparse, 2 stored values, other values\n"),
        (_sparse_places, "- s  float32  [4]  24 B sparse, 2 stored values, other values\n"),
        (_function, "~ function my::F\n  nodes: 1 equal, 1 removed, 1 added\n"),
        (_function_attribute, "~ Elu\n    - alpha=0.5\n    + alpha=0.25"),
        (_function_opset, "~ function my::F\n    - opsets ai.onnx 17\n    + opsets ai.onnx 18\n"),
        (_constant, "~ Constant\n    - value=float32[20] sha256 "),
        (_sparse_constant, "    - sparse_value=float32[4] sparse, 2 stored values sha256 "),
    ],
)
def test_what_hides_is_compared_too(change: Callable[[ModelProto], None], shown: str) -> None:
    other = model()
    change(other)
    found = difference(other)
    assert not found.alike
    text = sidebyside.render(found)
    assert shown in text
    assert "are equal" not in text


def test_equal_in_spite_of_how_it_is_stored() -> None:
    other = model()
    other.graph.initializer[0].CopyFrom(helper.make_tensor("w", 1, [4], [5, 6, 7, 8]))
    other.graph.initializer.append(tensor([0], "last"))
    onnx.save(other, "net.onnx")
    other.graph.initializer.reverse()
    for node in other.graph.node:
        node.domain = node.domain or "ai.onnx"
        node.attribute.reverse()
    assert difference(other).equal


def _where(message: Message, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all messages in one."""
    yield path
    for field, inner in message.ListFields():
        if field.message_type is None:
            continue
        if isinstance(inner, Message):
            yield from _where(inner, (*path, field.name))
        else:
            for number, entry in enumerate(inner):
                yield from _where(entry, (*path, field.name, number))


def _at(message: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        message = message[step] if isinstance(step, int) else getattr(message, step)
    return message


def _alter(message: Any, field: Any) -> None:
    """Another value of a field that holds no message, one more of a list."""
    held = getattr(message, field.name)
    if isinstance(held, (str, bytes, int, float)):
        more = {str: "_", bytes: b"_"}.get(type(held), 1)
        setattr(message, field.name, held + more)
    else:
        held.append("_" if field.name in _TEXTS else b"_" if field.name in _BYTES else 1)


_TEXTS = {"input", "output", "attribute"}
_BYTES = {"strings", "string_data"}


def test_another_value_of_any_field_anywhere_is_never_called_equal() -> None:
    assert difference(model()).equal
    tried = 0
    for path in _where(model()):
        for field in _at(model(), path).DESCRIPTOR.fields:
            other = model()
            message = _at(other, path)
            if field.message_type is None:
                _alter(message, field)
            elif isinstance(getattr(message, field.name), Message):
                getattr(message, field.name).SetInParent()
            else:
                getattr(message, field.name).add()
            if other == model():
                continue
            tried += 1
            with suppress(StageError):  # what is damaged now
                assert not difference(other).equal, f"{path} {field.name}"
    assert tried > 400


def test_a_field_of_a_newer_onnx_is_never_called_equal() -> None:
    data = Path("net.onnx").read_bytes()
    Path("newer.onnx").write_bytes(data + b"\x98\x06\x01")  # field 99, the number 1
    found = compare(*(inspection.read(Path(name), True) for name in ("net.onnx", "newer.onnx")))
    assert (found.equal, found.elsewhere) == (False, ["what is not listed here"])


def external(name: str, numbers: list[float]) -> None:
    """A file whose initializer lies in another one."""
    Path(f"{name}.data").unlink(missing_ok=True)  # onnx writes over none
    graph = helper.make_graph(
        [helper.make_node("Relu", ["w"], ["y"])], "g", [], [value("y", [4])], [tensor(numbers, "w")]
    )
    made = helper.make_model(graph, ir_version=8)
    onnx.save(made, name, save_as_external_data=True, location=f"{name}.data", size_threshold=0)


def test_external_data_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    external("a.onnx", [1, 2, 3, 4])
    external("b.onnx", [1, 2, 3, 4])
    onnx.save(onnx.load("a.onnx"), "inline.onnx")
    for other in ("b.onnx", "inline.onnx"):
        assert "\nThe two files are equal: " in inspect(capsys, "a.onnx", "--diff", other)
    external("b.onnx", [1, 2, 3, 9])
    shown = inspect(capsys, "a.onnx", "--diff", "b.onnx")
    assert "- w  float32  [4]  16 B in a.onnx.data\n+ w  float32  [4]  16 B in b.onnx" in shown
    assert "are equal" not in shown


@pytest.mark.parametrize("wrong", ["missing", "short", "pipe", "outside", "constant"])
def test_external_data_that_cannot_be_read_is_never_called_equal(
    wrong: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    external("a.onnx", [1, 2, 3, 4])
    data, reason = folder / "a.onnx.data", "does not exist"
    if wrong == "short":
        data.write_bytes(data.read_bytes()[:-1])
        reason = "is shorter than the model says"
    elif wrong == "constant":
        made = onnx.load("a.onnx", load_external_data=False)
        made.graph.node.insert(0, helper.make_node("Constant", [], ["w"]))
        made.graph.node[0].attribute.append(
            helper.make_attribute("value", made.graph.initializer.pop())
        )
        onnx.save(made, "a.onnx")
    if wrong != "short":
        outside = folder.parent / f"{folder.name}.data"
        data.rename(outside)
    if wrong == "outside":
        data.symlink_to(outside)
        reason = "lies outside of the model's folder"
    elif wrong == "pipe":
        os.mkfifo(data)
        reason = "is no file"
    shown = " ".join(inspect(capsys, "a.onnx", "--diff", "a.onnx").split())
    assert shown.endswith(f"Not compared: external data of a.onnx: a.onnx.data {reason}.")
    assert "are equal" not in shown
    assert not json.loads(inspect(capsys, "a.onnx", "--diff", "a.onnx", "--json"))["equal"]
