"""ncnn: files that pnnx makes from ONNX, and what becomes of those that it makes wrong."""

from __future__ import annotations

import gc
import importlib.util
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter.model.errors import Code, StageError
from converter.model.job import Derived, Variant
from converter.model.records import JobResult
from converter.plugins import loader, providers
from converter.plugins.providers import _ncnn_files as files
from converter.plugins.providers import _ncnn_server as server
from converter.plugins.runnable import Runnable
from converter.plugins.variants import Given, _pnnx
from converter.plugins.variants import ncnn as variant
from converter.worker.onnxfile import structure
from converter.worker.pipeline import derive
from tests.integration import jobs

ncnn = pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
pytestmark = pytest.mark.integration

PROVIDER: Any = providers.load("ncnn")
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
RANDOM = np.random.default_rng(0)
Value = tuple[str, int, Sequence[int | str]]


def drawn(*shape: int) -> Any:
    return RANDOM.standard_normal(shape, dtype=np.float32)


KERNEL, WIDE = drawn(4, 3, 3, 3), drawn(5, 3, 1, 1)


def model(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    **weights: Any,
) -> Path:
    values = [
        [helper.make_tensor_value_info(*one) for one in several] for several in (inputs, outputs)
    ]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", *values, held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    path = folder / "parent.onnx"
    onnx.save(made, path)
    return path


def conv(folder: Path, batch: int | str = 2, size: int | str = 8) -> Path:
    return model(
        folder,
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["y"]),
        ],
        [("x", FLOAT, [batch, 3, size, size])],
        [("y", FLOAT, [batch, 4, size, size])],
        w=KERNEL,
    )


def given(parent: Path, *cases: dict[str, Any]) -> Given:
    return Given(
        interface=structure.interface(structure.read(parent)),
        cases=cases or [{"x": drawn(2, 3, 8, 8)}],
        sizes={},
        samples=lambda limit: iter(()),
        real=False,
        trained=False,
        verdict=lambda file: (None, None),
    )


def made(parent: Path, *cases: dict[str, Any], **options: Any) -> Path:
    folder = parent.parent / "made"
    folder.mkdir()
    target = folder / "net.ncnn.param"
    variant.derive(parent, target, variant.Options(**options), given(parent, *cases))
    assert sorted(path.name for path in folder.iterdir()) == [
        "net.ncnn.bin", "net.ncnn.json", "net.ncnn.param",
    ]  # fmt: skip
    return target


def opened(target: Path, parent: Path, **options: Any) -> Runnable:
    runnable: Runnable = PROVIDER.open(
        target,
        threads=1,
        options=providers.options(PROVIDER, options),
        interface=structure.interface(structure.read(parent)),
    )
    return runnable


def errors(runnable: Runnable, parent: Path, feeds: dict[str, Any]) -> list[float]:
    """The relative L2 error of each output against ONNX Runtime."""
    session = onnxruntime.InferenceSession(parent, providers=["CPUExecutionProvider"])
    found = []
    for array, wanted in zip(runnable.run(feeds), session.run(None, feeds), strict=True):
        assert array.shape == wanted.shape
        assert array.dtype == wanted.dtype
        found.append(float(np.linalg.norm(array - wanted) / np.linalg.norm(wanted)))
    return found


def followed(folder: Path, **options: Any) -> Derived:
    """The job of the variant behind the conversion of a module with a dynamic batch."""
    chosen = variant.Options(**options)
    asked = Variant(
        id="ncnn", plugin="ncnn", format="ncnn", precision=variant.precision(chosen),
        optional=False, cast_io=False, suffix=".param", companions=[".bin", ".json"],
        provider="ncnn", options=chosen.model_dump(),
    )  # fmt: skip
    return jobs.followed(
        jobs.make(folder, "Conv", variants=[asked], inputs=jobs.IMAGE, dynamic_axes=jobs.BATCH)
    )


def run(job: Derived) -> JobResult:
    result = derive.run(job, lambda stage: None)
    assert JobResult.model_validate_json(result.model_dump_json()) == result
    return result


@pytest.mark.parametrize("half", [False, True])
def test_a_file_is_right_in_every_batch(tmp_path: Path, half: bool) -> None:
    done = run(followed(tmp_path, fp16=half))
    assert done.error is None, done.error
    assert [part.path for part in done.files] == [
        "model.ncnn.param", "model.ncnn.bin", "model.ncnn.json",
    ]  # fmt: skip
    assert done.check.precision_weights == 1.0
    assert {case.provider for case in done.verify.cases} == {"ncnn"}
    assert len({tuple(case.shapes["x"]) for case in done.verify.cases}) > 2
    worst = max(item.rel_l2 or 0 for case in done.verify.cases for item in case.outputs)
    assert worst < (1e-2 if half else 1e-5)
    assert done.made is not None
    assert set(done.made.tools) == {"pnnx"}


def test_for_the_sizes_of_the_example_the_row_says_so(tmp_path: Path) -> None:
    done = run(followed(tmp_path, sizes="example"))
    assert done.error is None, done.error
    assert "batch is 2 in this file: it was made for the sizes of the example alone" in (
        done.verify.reason or ""
    )
    assert done.made is not None
    assert done.made.notes == ["for the sizes of the example alone: x 2×3×8×8"]


def test_open_sizes_stay_open(tmp_path: Path) -> None:
    parent = conv(tmp_path, "batch", "size")
    target = made(parent, {"x": drawn(2, 3, 8, 8)}, {"x": drawn(1, 3, 9, 9)})
    file = opened(target, parent)
    for shape in ((2, 3, 8, 8), (1, 3, 12, 12), (4, 3, 5, 5)):
        assert errors(file, parent, {"x": drawn(*shape)})[0] < 1e-6


def test_inputs_and_outputs_keep_names_and_order(tmp_path: Path) -> None:
    parent = model(
        tmp_path,
        [
            # Used in the order opposite to that of the inputs; `unused` is an input all the same.
            helper.make_node("Conv", ["second", "w"], ["b"]),
            helper.make_node("Conv", ["first", "w"], ["a"]),
            helper.make_node("Sub", ["b", "a"], ["difference"]),
            helper.make_node("ReduceMean", ["difference"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Relu", ["difference"], ["above"]),
        ],
        [(name, FLOAT, [2, 3, 4, 4]) for name in ("first", "unused", "second")],
        [
            ("mean", FLOAT, [2]),
            ("above", FLOAT, [2, 5, 4, 4]),
            ("difference", FLOAT, [2, 5, 4, 4]),
        ],
        w=WIDE,
    )
    feeds = {name: drawn(2, 3, 4, 4) for name in ("first", "unused", "second")}
    file = opened(made(parent, feeds), parent)
    assert (file.inputs, file.outputs) == (
        ["first", "unused", "second"], ["mean", "above", "difference"],
    )  # fmt: skip
    assert max(errors(file, parent, feeds)) < 1e-5


def test_ids_are_int32_for_ncnn(tmp_path: Path) -> None:
    parent = model(
        tmp_path,
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [("ids", INT64, [2, 7])],
        [("y", FLOAT, [2, 7, 6])],
        table=drawn(10, 6),
    )
    feeds = {"ids": RANDOM.integers(0, 10, (2, 7))}
    file = opened(made(parent, feeds), parent)
    assert file.types["ids"] == "tensor(int64)"
    assert errors(file, parent, feeds) == [0.0]
    with pytest.raises(RuntimeError, match="ids: ncnn takes int32"):
        file.run({"ids": feeds["ids"] + 2**33})


def test_what_is_timed_is_ncnn_in_this_process(tmp_path: Path) -> None:
    parent = conv(tmp_path)
    feeds = {"x": drawn(2, 3, 8, 8)}
    call = opened(made(parent), parent).prepared(feeds)
    (first,), (second,) = call(), call()  # type: ignore[misc]
    np.testing.assert_array_equal(server.unpacked(first, 0), server.unpacked(second, 0))


def test_the_defaults_of_ncnn_are_wrong_and_so_not_ours(tmp_path: Path) -> None:
    parent = model(
        tmp_path,
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Flatten", ["a"], ["b"]),
            helper.make_node("Gemm", ["b", "g", "c"], ["y"], transB=1),
        ],
        [("x", FLOAT, [2, 3, 8, 8])],
        [("y", FLOAT, [2, 9])],
        w=WIDE,
        g=drawn(9, 320),
        c=drawn(9),
    )
    target, feeds = made(parent), {"x": drawn(2, 3, 8, 8)}
    assert errors(opened(target, parent), parent, feeds)[0] < 1e-6
    assert errors(opened(target, parent, winograd="0", packing="0"), parent, feeds)[0] < 1e-6
    # The error of ncnn's own options: that they are off is seen only by what they would do.
    for precision in ("fp16", "bf16"):
        assert errors(opened(target, parent, **{precision: "1"}), parent, feeds)[0] > 1e-5


def test_the_default_of_pnnx_is_not_reached_silently(tmp_path: Path) -> None:
    parent = conv(tmp_path)
    target = made(parent, fp16=True)
    assert PROVIDER.check(target, parent, "float16").precision_weights == 1.0
    with pytest.raises(StageError, match="weight of layer convrelu_0 is float16") as caught:
        PROVIDER.check(target, parent, "float32")
    assert caught.value.code is Code.PRECISION_NOT_REACHED


def refusal(parent: Path, *cases: dict[str, Any], **options: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the sentence is what is tested
        made(parent, *cases, **options)
    return str(caught.value)


def test_layers_that_are_left_over_are_named(tmp_path: Path) -> None:
    # As in the merging of patches of a Swin transformer.
    slicing = {"starts": [0], "ends": [8], "axes": [2], "steps": [2]}
    parent = model(
        tmp_path,
        [helper.make_node("Slice", ["x", *slicing], ["y"])],
        [("x", FLOAT, [2, 3, 8, 8])],
        [("y", FLOAT, [2, 3, 4, 8])],
        **{name: np.array(value) for name, value in slicing.items()},
    )
    said = refusal(parent)
    assert said.startswith("pnnx left layers over that ncnn does not have: Tensor.slice (")
    assert "slice with step 2 is not supported" in said


def test_what_pnnx_says_while_it_exits_with_zero_counts(tmp_path: Path) -> None:
    parent = model(
        tmp_path,
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("ReduceMean", ["a"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["a", "m"], ["y"]),
        ],
        [("x", FLOAT, [2, 3, 8, 8])],
        [("y", FLOAT, [2, 5, 8, 8])],
        w=WIDE,
    )
    assert refusal(parent) == (
        "pnnx exited with 0 and said: mean along batch axis is not supported yet"
    )


@pytest.mark.parametrize("outputs", [["y"], ["y", "mean", "variance"]])
def test_a_train_mode_normalisation_is_refused(tmp_path: Path, outputs: list[str]) -> None:
    # At this opset an attribute says it; below 14 further outputs do.
    trains = {"training_mode": 1} if len(outputs) == 3 else {}
    values = {name: np.abs(drawn(3)) + 0.5 for name in ("scale", "bias", "m", "v")}
    parent = model(
        tmp_path,
        [helper.make_node("BatchNormalization", ["x", *values], outputs, name="bn", **trains)],
        [("x", FLOAT, [2, 3, 8, 8])],
        [("y", FLOAT, [2, 3, 8, 8])],
        **values,
    )
    if trains:
        assert "BatchNormalization (bn) normalises by the statistics of the batch" in refusal(
            parent
        )
    else:
        target = made(parent)
        assert errors(opened(target, parent), parent, {"x": drawn(2, 3, 8, 8)})[0] < 1e-6


def test_a_crash_of_pnnx_is_a_sentence(tmp_path: Path) -> None:
    branch = [
        helper.make_graph(
            [helper.make_node(kind, ["x"], [out])],
            out,
            [],
            [helper.make_tensor_value_info(out, FLOAT, [2, 3, 8, 8])],
        )
        for kind, out in (("Relu", "one"), ("Neg", "other"))
    ]
    parent = model(
        tmp_path,
        [
            helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
            helper.make_node("Greater", ["s", "zero"], ["c"]),
            helper.make_node(
                "If", ["c"], ["y"], "choice", then_branch=branch[0], else_branch=branch[1]
            ),
        ],
        [("x", FLOAT, [2, 3, 8, 8])],
        [("y", FLOAT, [2, 3, 8, 8])],
        zero=np.float32(0),
    )
    said = refusal(parent)
    assert "If (choice)" in said or "layers over that ncnn does not have: " in said


@pytest.mark.parametrize(
    ("kind", "where", "why"),
    [
        (TensorProto.BOOL, "input", "input x is bool; ncnn takes float32, int64, int32"),
        (TensorProto.DOUBLE, "input", "input x is float64"),
        (INT64, "output", "output y is int64; a blob of ncnn does not say"),
    ],
)
def test_types_that_ncnn_does_not_have(tmp_path: Path, kind: int, where: str, why: str) -> None:
    kinds = {"x": FLOAT, "y": FLOAT} | {"x" if where == "input" else "y": kind}
    parent = model(
        tmp_path,
        [helper.make_node("Cast", ["x"], ["y"], to=kinds["y"])],
        [("x", kinds["x"], [2, 3])],
        [("y", kinds["y"], [2, 3])],
    )
    assert refusal(parent).startswith(why)


def program(folder: Path, text: str) -> Path:
    path = folder / "pnnx"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exit 0", "pnnx exited with 0 and wrote no ncnn file"),
        ("exit 3", "pnnx exited with 3"),
        ("echo '##### pass_ncnn'; kill -SEGV $$", "pnnx crashed with SIGSEGV in pass_ncnn"),
        ("exec sleep 60", "pnnx took longer than 1 s"),
    ],
)
def test_how_pnnx_ends_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    found = program(tmp_path, text)
    monkeypatch.setattr(_pnnx, "_program", lambda: found)
    assert refusal(conv(tmp_path), time_limit_s=1).startswith(why)


def test_an_output_that_pnnx_drops_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _pnnx._program()
    # As pnnx, and then as if its file had fewer outputs.
    found = program(
        tmp_path, f'"{real}" "$@"\ncode=$?\nsed -i /out.append/d model_ncnn.py\nexit $code'
    )
    monkeypatch.setattr(_pnnx, "_program", lambda: found)
    assert refusal(conv(tmp_path)) == "the model has y, and pnnx made none of them"


Damage = Callable[[Any], Any]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda held: held[:-1], "end in layer convrelu_0"),
        (lambda held: np.append(held, held[:1]), "and its layers read"),
        (lambda held: -held, "weight of layer convrelu_0 is w, but multiplied by -1"),
        (lambda held: held * 0, "is w, but all zeros"),
        (lambda held: held * held.dtype.type(1.5), r"is w, but multiplied by 1\.(5|49)"),
        (lambda held: np.where(np.arange(held.size) % 9, held, 0), "differs in 12 of 108"),
    ],
)
def test_damaged_weights_are_noticed(tmp_path: Path, half: bool, damage: Damage, why: str) -> None:
    parent = conv(tmp_path)
    target = made(parent, fp16=half)
    kind = "float16" if half else "float32"
    assert PROVIDER.check(target, parent, kind).status == "passed"
    path = target.with_suffix(".bin")
    tag, held = path.read_bytes()[:4], np.frombuffer(path.read_bytes()[4:], kind)
    path.write_bytes(tag + np.asarray(damage(held), kind).tobytes())
    with pytest.raises(StageError, match=why) as caught:
        PROVIDER.check(target, parent, kind)
    assert caught.value.code is Code.CHECKER


@pytest.mark.parametrize(
    ("suffix", "change", "code", "why"),
    [
        (".param", lambda text: text.replace("Convolution ", "Convolutoin "), Code.CHECKER,
         "ncnn has no layer Convolutoin"),
        (".param", lambda text: text.replace("7767517", "7767518"), Code.CHECKER, "line 1"),
        (".json", lambda text: text[:20], Code.CHECKER, "does not say which blobs"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(
    tmp_path: Path, suffix: str, change: Callable[[str], str], code: Code, why: str
) -> None:
    parent = conv(tmp_path)
    target = made(parent)
    path = target.with_suffix(suffix)
    path.write_text(change(path.read_text()))
    with pytest.raises(StageError, match=why) as caught:
        PROVIDER.check(target, parent, "float32")
    assert caught.value.code is code


def test_what_does_not_load_is_a_session_error(tmp_path: Path) -> None:
    parent = conv(tmp_path)
    target = made(parent)
    target.write_text(target.read_text().replace("Convolution ", "Nonsense    "))
    with pytest.raises(StageError, match="layer Nonsense not exists") as caught:
        opened(target, parent)
    assert caught.value.code is Code.SESSION


def test_names_that_are_not_those_of_the_parent_do_not_open(tmp_path: Path) -> None:
    parent = conv(tmp_path)
    target = made(parent)
    path = target.with_suffix(".json")
    path.write_text(path.read_text().replace('"x"', '"z"'))
    with pytest.raises(StageError, match=r"inputs of the ncnn file are z, those .* x") as caught:
        opened(target, parent)
    assert caught.value.code is Code.SESSION


def test_a_crash_of_ncnn_costs_the_job_nothing(tmp_path: Path) -> None:
    parent = conv(tmp_path)
    file: Any = opened(made(parent), parent)
    # ncnn 20261020 reads weights for all channels that it is given, which has no end here.
    with pytest.raises(RuntimeError, match="ncnn crashed with SIGSEGV"):
        file._process.ask([np.zeros((1, 200_000, 8, 8), np.float32)])
    with pytest.raises(RuntimeError, match="ncnn crashed with SIGSEGV"):
        file.run({"x": drawn(2, 3, 8, 8)})


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((2, 3, 8, 8, 8), "x has 5 axes, expected 4"),
        ((3, 8), "x has 2 axes, expected 4"),
        ((2, 4, 8, 8), "axis 1 of x is 4, expected 3"),
        ((1, 3, 0, 0), "ncnn gives no out0: a layer before it failed with -100"),
    ],
)
def test_inputs_that_it_cannot_have_are_refused(
    tmp_path: Path, shape: tuple[int, ...], why: str
) -> None:
    parent = conv(tmp_path, "batch", "size")
    with pytest.raises(RuntimeError, match=why):
        opened(made(parent), parent).run({"x": np.zeros(shape, np.float32)})


def test_its_process_goes_with_the_session(tmp_path: Path) -> None:
    parent = conv(tmp_path)
    file: Any = opened(made(parent), parent)
    number = file._process._popen.pid
    os.kill(number, 0)
    del file
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_absent_packages_are_a_sentence_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert PROVIDER.available() == "the package ncnn is not installed"
    assert refusal(conv(tmp_path)) == (
        "the package pnnx is not installed: install the extra `ncnn`"
    )


def test_an_old_ncnn_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PROVIDER.available() == ""
    monkeypatch.delattr(ncnn.Mat, "batch")
    assert "has no batch axis" in PROVIDER.available()


def test_the_plugins_are_known_by_their_folder() -> None:
    assert loader.load("variants", "ncnn") is variant
    assert files.MAGIC == "7767517"
