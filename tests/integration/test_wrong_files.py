"""Files that were `ok` and wrong, by kind: refused now, or right on the inputs that showed it.

The number at the front of a test's id is the kind: 1 detections, 2 values, 3 sizes, 5 numbers,
6 state, 7 interface, 8 ONNX sources. Each case has a sound twin that must stay ok.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jobs
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import wrong_files
from onnx import TensorProto, helper, numpy_helper

from converter.model.errors import Code
from converter.model.job import Recheck
from converter.worker.pipeline import recheck

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script`"),
    # torch's own fast path of attention, and its own exporters.
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]
BOTH = ["torchscript", "dynamo"]
VALUE = {Code.VERIFY_VALUE, Code.VERIFY_NONFINITE}
SIZE = VALUE | {Code.VERIFY_SHAPE, Code.DIM_SPECIALISED}
INTERFACE = {Code.OUTPUT_STRUCTURE}
Feed = dict[str, Any]


def normal(*shape: int, scale: float = 1.0) -> Any:
    return (scale * np.random.default_rng(1).standard_normal(shape)).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """What went wrong: the models of ``wrong_files.py``, what is declared, where it shows.

    Attributes:
        codes: that a refusal may have.
        curable: another translation may be right; what leaves state behind is never.
        alike: the twin's ``kwargs`` or axes, where it is the same class.
    """

    kind: int
    name: str
    model: str
    inputs: dict[str, Any]
    probe: Feed
    codes: set[Code]
    axes: dict[str, dict[int, str]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    exporters: tuple[str, ...] = tuple(BOTH)
    kwargs: dict[str, Any] = field(default_factory=dict)
    curable: bool = True
    twin: str = ""
    alike: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.name}"

    def wish(self, *, twin: bool) -> dict[str, Any]:
        wish: dict[str, Any] = {
            "inputs": self.inputs,
            "outputs": list(self.outputs),
            "dynamic_axes": self.axes,
            "exporters": list(self.exporters),
            "kwargs": self.kwargs,
            "trust": ["wrong_files"],
        }
        return wish | (self.alike if twin else {})


IMAGE = {"x": {"shape": [1, 3, 8, 8]}}
FRAMES = {"x": {"shape": [1, 4, 40]}}
FROZEN = {"codes": {Code.DIM_SPECIALISED}, "exporters": ("torchscript",), "model": "Strided"}
LONG = {"x": normal(1, 4, 400)}

CASES = [
    Case(
        1, "det_grid_static", "DetGrid", {"x": {"shape": [100, 5]}}, {"x": normal(100, 5)}, VALUE,
        outputs=("boxes", "scores"),
    ),
    Case(
        2, "encoder_pool", "EncoderPool",
        {"x": {"shape": [2, 6, 16]}, "pad": {"shape": [2, 6], "dtype": "bool"}},
        {"x": normal(4, 6, 16), "pad": np.arange(6)[None] >= np.array([1, 6, 2, 6])[:, None]},
        VALUE, {"x": {0: "b"}, "pad": {0: "b"}, "y": {0: "b"}},
    ),
    Case(
        2, "lengths", "Lengths",
        {
            "x": {"shape": [3, 6, 4]},
            "lengths": {"shape": [3], "dtype": "int64", "low": 1, "high": 7},
        },
        {"x": normal(2, 6, 4), "lengths": np.array([6, 6])},
        VALUE, {"x": {0: "b"}, "lengths": {0: "b"}, "y": {0: "b"}},
    ),
    Case(
        2, "outlier_clamp", "OutlierClamp", {"x": {"shape": [4, 8]}},
        {"x": normal(4, 8, scale=10)}, VALUE, {"x": {0: "n"}, "y": {0: "n"}},
    ),
    Case(
        3, "pad_to_32", "PadTo32", {"x": {"shape": [1, 3, 40]}}, {"x": normal(1, 3, 64)}, SIZE,
        {"x": {2: "t"}, "y": {2: "u"}},
    ),
    Case(
        3, "causal_if_equal", "CausalIfEqual",
        {"q": {"shape": [1, 4, 8]}, "k": {"shape": [1, 7, 8]}},
        {"q": normal(1, 5, 8), "k": normal(1, 5, 8) + 1},
        SIZE, {"q": {1: "l"}, "k": {1: "s"}, "y": {1: "l"}}, twin="CausalSound",
    ),
    Case(
        3, "pos_enc", "PosEnc", {"x": {"shape": [2, 8, 8]}}, {"x": normal(2, 40, 8)}, SIZE,
        {"x": {0: "b", 1: "t"}, "y": {0: "b", 1: "t"}},
    ),
    Case(
        3, "strided_own_symbol", inputs=FRAMES, probe=LONG, **FROZEN, twin="Strided",
        axes={"x": {2: "samples"}, "y": {1: "frames"}}, alike={"kwargs": {"how": "sound"}},
    ),
    Case(
        3, "strided_not_declared", inputs=FRAMES, probe=LONG, **FROZEN, twin="Strided",
        axes={"x": {2: "samples"}}, alike={"kwargs": {"how": "sound"}},
    ),
    Case(
        3, "strided_same_symbol", inputs=FRAMES, probe=LONG, **FROZEN, twin="Strided",
        axes={"x": {2: "t"}, "y": {1: "t"}},
        alike={
            "kwargs": {"how": "sound"}, "dynamic_axes": {"x": {2: "samples"}, "y": {1: "frames"}}
        },
    ),
    Case(
        3, "strided_loop", inputs=FRAMES, probe=LONG, **FROZEN, twin="Strided",
        axes={"x": {2: "samples"}, "y": {1: "frames"}}, kwargs={"how": "loop"},
        alike={"kwargs": {"how": "sound"}},
    ),
    Case(
        5, "logsig", "LogSig", {"x": {"shape": [4, 8]}}, {"x": normal(4, 8, scale=60)}, VALUE,
        {"x": {0: "n"}, "y": {0: "n"}},
    ),
    Case(
        5, "cos_sim", "CosSim", {"a": {"shape": [4, 8]}, "b": {"shape": [4, 8]}},
        {"a": normal(4, 8, scale=1e-5), "b": normal(8, 8, scale=1e-5)[4:]}, VALUE,
        {"a": {0: "n"}, "b": {0: "n"}, "y": {0: "n"}},
    ),
    Case(
        5, "voxel", "Voxel", {"p": {"shape": [1, 64, 3]}},
        {"p": (np.arange(60).reshape(1, 20, 3) * 0.1).astype(np.float32)}, VALUE,
        {"p": {1: "n"}, "y": {1: "n"}},
    ),
    Case(
        5, "bilinear_scale", "BilinearScale", IMAGE, {"x": normal(1, 3, 3, 16)}, SIZE,
        {"x": {2: "h", 3: "w"}, "y": {2: "oh", 3: "ow"}},
    ),
    Case(
        6, "cache", "Cache", {"x": {"shape": [2, 4, 4]}}, {"x": normal(2, 3, 4)},
        {Code.STATE_MUTATED}, {"x": {1: "t"}}, curable=False,
    ),
    Case(
        7, "scalar_value", "Pick",
        {"x": {"shape": [4, 3]}, "i": {"shape": [], "dtype": "int64", "value": 2}},
        {"x": normal(4, 3), "i": np.array(1)}, INTERFACE, twin="Pick",
        alike={
            "inputs": {
                "x": {"shape": [4, 3]},
                "i": {"shape": [], "dtype": "int64", "low": 0, "high": 4},
            }
        },
    ),
    Case(
        7, "wrong_rank", "rows", {"x": {"shape": [4, 5, 6]}}, {"x": normal(4, 5, 6)}, INTERFACE,
        twin="rows_sound",
    ),
    Case(
        7, "same_names", "Twice", IMAGE, {"x": normal(1, 3, 6, 9)}, INTERFACE,
        {"x": {2: "height", 3: "width"}, "y": {2: "height", 3: "width"}}, twin="Twice",
        alike={"dynamic_axes": {"x": {2: "height", 3: "width"}, "y": {2: "rows", 3: "columns"}}},
    ),
]  # fmt: skip
NAMED = [case for case in CASES if case.codes in (VALUE, SIZE) and case.kind in (2, 3)]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., jobs.Converted]:
    """What the pipeline makes of a case or of its twin; made once."""
    made: dict[tuple[str, bool], jobs.Converted] = {}

    def convert(case: Case, *, twin: bool = False) -> jobs.Converted:
        if (case.id, twin) not in made:
            source = {"_target_": f"wrong_files.{model(case, twin=twin)}"}
            folder = tmp_path_factory.mktemp("case")
            made[case.id, twin] = jobs.convert(jobs.make(folder, source, **case.wish(twin=twin)))
        return made[case.id, twin]

    return convert


def model(case: Case, *, twin: bool) -> str:
    return (case.twin or f"{case.model}Sound") if twin else case.model


def wanted(case: Case, *, twin: bool = False) -> list[Any]:
    """What PyTorch computes on the probe."""
    torch.manual_seed(0)
    kwargs = case.wish(twin=twin)["kwargs"]
    built = getattr(wrong_files, model(case, twin=twin))(**kwargs).eval()
    with torch.no_grad():
        found = built(*(torch.from_numpy(np.asarray(value)) for value in case.probe.values()))
    values = found.values() if isinstance(found, dict) else [found]
    return [value.numpy() for value in values]


def assert_right(done: jobs.Converted, feed: Feed, want: list[Any]) -> None:
    """The file's numbers are PyTorch's, and its interface is true of them."""
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    got = session.run(None, feed)
    assert [value.shape for value in got] == [value.shape for value in want]
    for value, expected in zip(got, want, strict=True):
        assert value.dtype == expected.dtype
        scale = float(np.sqrt((expected.astype(np.float64) ** 2).mean())) or 1.0
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-3 * scale)
    sizes: dict[str, int] = {}
    declared = [(item, feed[item.name]) for item in session.get_inputs()]
    declared += list(zip(session.get_outputs(), got, strict=True))
    for item, value in declared:
        assert len(item.shape) == value.ndim, item.name
        for size, found in zip(item.shape, value.shape, strict=True):
            if isinstance(size, str):
                assert sizes.setdefault(size, found) == found, size
            elif size is not None:
                assert size == found, item.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_is_refused_or_right(outcome: Callable[..., Any], case: Case) -> None:
    done = outcome(case)
    if done.code is None and case.curable:
        assert_right(done, case.probe, wanted(case))
    else:
        assert done.code in case.codes, done.result.error


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_its_sound_twin_is_ok(outcome: Callable[..., Any], case: Case) -> None:
    done = outcome(case, twin=True)
    assert done.code is None, done.result.error
    assert_right(done, case.probe, wanted(case, twin=True))


def marked(name: str) -> int | None:
    """The line of ``wrong_files.py`` that a class has marked."""
    lines, first = inspect.getsourcelines(getattr(wrong_files, name))
    found = [first + number for number, line in enumerate(lines) if line.endswith("# here\n")]
    return found[0] if found else None


@pytest.mark.parametrize(
    "case", [case for case in NAMED if marked(case.model)], ids=lambda case: case.id
)
def test_a_refusal_names_the_line(outcome: Callable[..., Any], case: Case) -> None:
    done = outcome(case)
    if done.code is None:
        assert_right(done, case.probe, wanted(case))
        return
    told = f"{done.result.error.message} {done.result.error.hint} {done.result.verify.reason}"
    assert f"wrong_files.py:{marked(case.model)}" in told


def test_2_the_hint_names_the_fast_path(outcome: Callable[..., Any]) -> None:
    case = next(case for case in CASES if case.name == "encoder_pool")
    done = outcome(case)
    if done.code is None:
        assert_right(done, case.probe, wanted(case))
        return
    assert "torch.backends.mha.set_fastpath_enabled(False)" in done.result.error.hint


# Kind 1, of a file that exists


@pytest.mark.parametrize(("level", "cells"), [(0, 64), (1, 16), (2, 4)])
def test_1_a_negated_level_is_wrong(tiny_job: Callable[..., Any], level: int, cells: int) -> None:
    wish = {"inputs": {"x": {"shape": [1, 3, 32, 32]}}, "outputs": ["boxes", "scores"]}
    job = tiny_job({"_target_": "wrong_files.Pyramid"}, **wish, trust=["wrong_files"])
    sound = jobs.convert(job)
    assert sound.code is None
    damaged = onnx.load(sound.path)
    held = {tensor.name: tensor for tensor in damaged.graph.initializer}
    for name in (f"heads.{level}.weight", f"heads.{level}.bias"):
        held[name].CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(held[name]), name))
    file = sound.folder / "damaged.onnx"
    onnx.save_model(damaged, file)

    def verified(path: str) -> Any:
        return recheck.run(Recheck(**job.model_dump(), file=path), lambda stage: None).error

    assert verified(str(sound.path)) is None
    error = verified(str(file))
    assert error is not None, f"{cells} of 84 boxes are wrong"
    assert error.code is Code.VERIFY_VALUE


# Kind 8


def fixed_batch(rows: int) -> onnx.ModelProto:
    """``batch``×4 → ``batch``×3 as declared; a Reshape fixes the rows, or keeps them (0)."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["r"]),
            helper.make_node("MatMul", ["r", "w"], ["y"]),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 4])],
        [value("y", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(normal(4, 3), "w"),
            numpy_helper.from_array(np.array([rows, 4]), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


STATED: list[dict[str, Any]] = [
    {"inputs": {}},
    {"inputs": {"x": {"shape": [2, 4]}}},
    {"inputs": {"x": {"shape": [2, 4]}}, "dynamic_axes": {"x": {0: "batch"}}},
]
HOW = ["without_inputs", "with_inputs", "with_declared_axis"]


@pytest.mark.parametrize("stated", STATED, ids=[f"8-{how}" for how in HOW])
def test_an_onnx_source_runs_at_its_own_sizes(
    convert: Callable[..., Any], tmp_path: Any, stated: dict[str, Any]
) -> None:
    onnx.save_model(fixed_batch(2), tmp_path / "fixed.onnx")
    wish = {"opset": None, "exporters": ["original"]} | stated
    done = convert({"onnx": str(tmp_path / "fixed.onnx")}, **wish)
    # Without inputs the example has one row, which the file itself refuses.
    assert done.code in {Code.DIM_SPECIALISED, Code.FORWARD}
    if stated["inputs"]:
        assert done.code is Code.DIM_SPECIALISED


@pytest.mark.parametrize("stated", STATED, ids=[f"8-{how}" for how in HOW])
def test_an_onnx_source_of_any_size_is_ok(
    convert: Callable[..., Any], tmp_path: Any, stated: dict[str, Any]
) -> None:
    onnx.save_model(fixed_batch(0), tmp_path / "any.onnx")
    wish = {"opset": None, "exporters": ["original"]} | stated
    done = convert({"onnx": str(tmp_path / "any.onnx")}, **wish)
    assert done.code is None, done.result.error
    assert_right(done, {"x": normal(5, 4)}, [normal(5, 4) @ normal(4, 3)])


def test_8_a_list_does_not_excuse_its_dynamic_axes(convert: Callable[..., Any]) -> None:
    done = convert(
        {"_target_": "wrong_files.Scaled"},
        trust=["wrong_files"],
        inputs={"x": {"shape": [2, 2], "value": [[1, 2], [3, 4]]}, "size": {"shape": [1]}},
        dynamic_axes={"x": {0: "b"}},
    )
    assert done.code is None, done.result.error
    assert done.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "b"


# What our own lines must not fail


@pytest.mark.parametrize("exporters", [["torchscript"], ["dynamo"], BOTH])
def test_a_lazy_negative_bit_is_no_failure_of_its_own(
    convert: Callable[..., Any], exporters: list[str]
) -> None:
    wish = {"inputs": {"x": {"shape": [2, 8]}}, "exporters": exporters, "trust": ["wrong_files"]}
    lazy, plain = (
        convert({"_target_": f"wrong_files.{name}"}, **wish)
        for name in ("NegativeBit", "NegativeBitResolved")
    )
    assert lazy.code is not Code.FORWARD, lazy.result.error
    assert "negative bit" not in (lazy.result.error.message if lazy.result.error else "")
    assert lazy.code == plain.code
