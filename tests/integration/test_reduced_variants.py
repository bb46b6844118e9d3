"""bf16, mixed, and what judges files of 16-bit floats: on every case, and by no run that was none.

Sources are ONNX files: nothing of a model's own code stands between them and the variant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from converter.model.errors import Code
from converter.model.job import Derived, Variant
from converter.model.records import JobResult
from converter.plugins import loader, variants
from converter.plugins.variants import Given, _opset
from converter.plugins.variants._reduced import convert
from converter.worker.inputs.reduced import BFLOAT16, FLOAT16, Reduced
from converter.worker.onnxfile import structure
from converter.worker.pipeline import derive
from converter.worker.verify import domain, precision, unrounded
from tests.integration import jobs

pytestmark = pytest.mark.integration

Make = Callable[..., JobResult]
Plant = Callable[[Path], None]

CONV = (
    "g (float[N,3,8,8] x) => (float[N,8,6,6] y) <float[8,3,3,3] w, float[8] b> "
    "{ c = Conv(x, w, b) y = Relu(c) }"
)
DENSE = (
    "g (float[N,16] x) => (float[N,16] y) <float[16,16] w, float[16,16] v> "
    "{ [first] a = MatMul(x, w) [second] b = Relu(a) [third] c = MatMul(b, v) "
    "[last] y = Add(c, a) }"
)
# Squares of numbers around 400 are beyond float16; their root is not.
SQUARE = (
    "g (float[N,16] x) => (float[N,16] y) <float[16,16] w, float[16,16] v, float k={400.0}> "
    "{ [first] a = MatMul(x, w) [large] b = Add(a, k) [square] c = Mul(b, b) "
    "[mean] d = ReduceMean<axes=[1]>(c) [root] e = Sqrt(d) [divided] f = Div(a, e) "
    "[scaled] h = Mul(f, k) [last] y = MatMul(h, v) }"
)
# The variance as a difference of means: around 60 float16 has none of its digits left.
VARIANCE = (
    "g (float[N,64] x) => (float[N,64] y) <float[64,64] w, float o={60.0}> "
    "{ [shifted] s = Add(x, o) [squared] q = Mul(s, s) [mean] m = ReduceMean<axes=[1]>(s) "
    "[mean_of_squares] n = ReduceMean<axes=[1]>(q) [square_of_mean] p = Mul(m, m) "
    "[difference] d = Sub(n, p) [product] a = MatMul(x, w) [last] y = Mul(a, d) }"
)

# An encoding of positions by waves: float16 keeps no angle of several hundred.
WAVES = (
    "g (float[N,16] x) => (float[N,8] y) <float[16,8] w, float f={300.0}> "
    "{ [angle] a = Mul(x, f) [wave] s = Sin(a) [last] y = MatMul(s, w) }"
)


def source(folder: Path, text: str, opset: int = 17) -> Path:
    """A model in ONNX's text form; what is declared and has no value is a weight."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    draw = np.random.default_rng(0)
    for value in list(model.graph.value_info):
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        scale = sizes[0] ** -0.5 if len(sizes) == 2 else np.prod(sizes[1:]) ** -0.5
        array = (scale * draw.standard_normal(sizes)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, value.name))
    model.graph.ClearField("value_info")
    path = folder / "source.onnx"
    onnx.save(model, path)
    return path


def followed(
    folder: Path, file: Path, plugin: Any, name: str, asked_for: dict[str, Any], **options: Any
) -> Derived:
    """The job that makes a variant of a file that was converted."""
    chosen = plugin.Options(**options)
    asked = Variant(
        id=name, plugin=name, format="onnx", precision=plugin.PRECISION, optional=False,
        partial=getattr(plugin, "PARTIAL", False), cast_io=not plugin.keeps_io(chosen),
        options=chosen.model_dump(mode="json"),
    )  # fmt: skip
    usual = {"source": {"onnx": str(file)}, "inputs": {}, "opset": None}
    return jobs.followed(jobs.make(folder, variants=[asked], **(usual | asked_for)))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A variant of a file, as its plugin makes it, or with damage planted in it."""

    def run(
        name: str, text: str, *, opset: int = 17, plant: Plant | None = None, **changes: Any
    ) -> JobResult:
        plugin = loader.load("variants", name)
        options = {
            key: changes.pop(key) for key in plugin.Options.model_fields.keys() & changes.keys()
        }
        file = source(tmp_path, text, opset)
        job = followed(tmp_path, file, plugin, name, changes, **options)
        if plant is not None:
            planted = _Planted(plugin, plant)
            monkeypatch.setattr(variants, "load", lambda wanted: planted)
        return derive.run(job, lambda news: None)

    return run


class _Planted:
    """A plugin whose file is changed once it is written."""

    def __init__(self, plugin: Any, plant: Plant) -> None:
        self._plugin, self._plant = plugin, plant
        self.Options, self.PRECISION = plugin.Options, plugin.PRECISION

    def derive(self, parent: Path, target: Path, options: Any, given: Given) -> None:
        self._plugin.derive(parent, target, options, given)
        self._plant(target)


def code(done: JobResult) -> Code | None:
    return done.error.code if done.error else None


def file_of(tmp_path: Path, done: JobResult) -> onnx.ModelProto:
    return onnx.load(tmp_path / "derived" / done.files[0].path)


# bfloat16


@pytest.mark.parametrize(
    ("text", "opset", "raised"), [(CONV, 17, 22), (DENSE, 17, 17), (DENSE, 11, 13)]
)
def test_a_file_in_bfloat16_is_right_by_emulation_and_says_so(
    make: Make, tmp_path: Path, text: str, opset: int, raised: int
) -> None:
    done = make("bf16", text, opset=opset)
    assert done.error is None, done.error
    model = file_of(tmp_path, done)
    onnx.checker.check_model(model, full_check=True)
    assert structure.opsets(model)["ai.onnx"] == raised
    assert (done.check.precision_weights, done.check.precision_nodes) == (1.0, 1.0)
    assert done.verify.arithmetic == "emulated"
    # No run is claimed: ONNX Runtime's CPU has no kernel of it.
    assert {case.provider for case in done.verify.cases} == {precision.EMULATION}
    (verdict,) = done.verify.providers
    assert (verdict.provider, verdict.status) == ("cpu", "unavailable")
    assert "has no bfloat16 kernel for" in str(verdict.reason)
    assert "verified in float32, with every result rounded to bfloat16" in str(done.verify.reason)
    (output,) = done.verify.cases[0].outputs
    assert 1e-4 < (output.rel_l2 or 0) < 5e-2
    assert done.made is not None
    told = [f"opset raised from {opset} to {raised}, where ONNX has its operators in bfloat16"]
    assert done.made.notes == (told if raised != opset else [])


def test_what_the_cpu_computes_in_bfloat16_is_run_and_emulated(make: Make) -> None:
    text = (
        "g (float[4,16] x) => (float[4,32] y) <float[4,16] w> "
        "{ c = Concat<axis=0>(x, w) t = Transpose<perm=[1,0]>(c) y = Reshape(t, k) }"
    ).replace("w>", "w, int64[2] k={4, 32}>")
    done = make("bf16", text)
    assert done.error is None, done.error
    assert (done.verify.arithmetic, done.verify.providers[0].status) == ("emulated", "passed")


def test_inputs_and_outputs_may_be_bfloat16_too(make: Make, tmp_path: Path) -> None:
    done = make("bf16", DENSE, keep_io_types=False)
    assert done.error is None, done.error
    assert done.onnx is not None
    assert [value.dtype for value in (*done.onnx.inputs, *done.onnx.outputs)] == ["bfloat16"] * 2


def test_an_opset_that_cannot_be_raised_is_told() -> None:
    parsed = onnx.parser.parse_model(
        '<ir_version: 7, opset_import: ["" : 12]> g (float[2,4,5] x, float[4] s, float[4] b, '
        "float[4] m, float[4] v) => (float[2,4,5] y) "
        "{ y, om, ov, sm, sv = BatchNormalization(x, s, b, m, v) }"
    )
    with pytest.raises(ValueError, match=r"it needs opset 22, and the model's opset 12 cannot be"):
        _opset.raised(parsed, 22)


def test_words_are_written_into_a_file_that_no_kernel_computes(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is looked at once more behind that, by emulation."""
    numbers = count()
    monkeypatch.setattr(domain, "words", lambda found: f"other words {next(numbers)}")
    done = make("bf16", DENSE)
    assert done.error is None, done.error


@pytest.mark.parametrize("damage", ["negated", "zeroed", "scaled"])
def test_a_damaged_weight_in_bfloat16_is_noticed(make: Make, damage: str) -> None:
    def plant(file: Path) -> None:
        model = onnx.load(file)
        tensor = next(t for t in model.graph.initializer if t.name == "w")
        values = numpy_helper.to_array(tensor)
        factor = {"negated": -1.0, "zeroed": 0.0, "scaled": 1.5}[damage]
        changed = (values.astype(np.float32) * factor).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(changed, "w"))
        onnx.save(model, file)

    assert code(make("bf16", DENSE, plant=plant)) == Code.VERIFY_VALUE


def test_a_broken_file_in_bfloat16_is_not_excused_by_a_lacking_kernel(make: Make) -> None:
    """ONNX Runtime finds types before it looks for kernels."""

    def plant(file: Path) -> None:
        model = onnx.load(file)
        model.opset_import[0].version = 17  # where ONNX has no Conv in bfloat16
        onnx.save(model, file)

    done = make("bf16", CONV, plant=plant)
    assert code(done) in (Code.CHECKER, Code.SESSION)
    assert done.error is not None
    assert "bfloat16" in done.error.message


# An output that hardly depends on the input, by less than bfloat16 rounds it.
FLAT = (
    "g (float[N,16] x) => (float[N,16] y) <float[16,16] w, float k={10.0}, float s={0.2}> "
    "{ [first] a = MatMul(x, w) [second] b = Relu(a) [third] c = Mul(b, s) [last] y = Add(c, k) }"
)


def test_where_rounding_drowns_the_input_the_graph_is_verified_without(make: Make) -> None:
    done = make("bf16", FLAT)
    assert done.error is None, done.error
    assert "the graph was verified without rounding" in str(done.verify.reason)
    assert done.verify.arithmetic == "emulated"


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_a_precision_that_spoils_fixed_weights_is_refused(make: Make, name: str) -> None:
    """The output moves with the input: nothing random excuses what rounding does to it."""
    done = make(name, WAVES)
    assert code(done) == Code.VERIFY_VALUE, done.verify.reason
    assert done.error is not None
    assert re.search(r"float16 rounds this model by \d+% of its output", done.error.message)
    assert ("the variant mixed" in str(done.error.hint)) == (name == "fp16")
    assert done.verify.reason == done.error.message


def test_mixed_says_where_nothing_was_left_to_float16(make: Make) -> None:
    done = make("mixed", DENSE, op_block_list=["MatMul", "Relu", "Add"])
    assert code(done) == Code.PRECISION_NOT_REACHED
    assert done.made is not None
    assert done.made.notes == ["no node was left to compute in float16"]


def test_mixed_computes_in_float32_what_float16_spoils(make: Make) -> None:
    done = make("mixed", WAVES)
    assert done.error is None, done.error
    assert done.made is not None
    assert set(done.made.float_nodes) == {"angle", "wave"}
    errors = [output.rel_l2 or 0.0 for case in done.verify.cases for output in case.outputs]
    assert max(errors) < 5e-3


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("fp16", DENSE, None),
        # Outputs alone are VERIFY_VACUOUS, and right without rounding.
        ("fp16", FLAT.replace("10.0", "100.0"), None),
        # Outputs alone are right: the overflow is found behind that.
        ("fp16", SQUARE, Code.VERIFY_NONFINITE),
        ("mixed", SQUARE, None),
    ],
)
def test_a_provider_has_the_verdict_of_the_artifact(
    make: Make, name: str, text: str, error: Code | None
) -> None:
    done = make(name, text)
    assert code(done) == error, done.error
    (verdict,) = done.verify.providers
    assert (verdict.status, verdict.code) == ("passed" if error is None else "failed", error)
    assert verdict.reason == (done.verify.reason if error is not None else None)


@pytest.mark.parametrize("kind", [FLOAT16, BFLOAT16])
@pytest.mark.parametrize("replaced", ["", "second", "w", "k"])
def test_without_rounding_a_file_is_its_parent_or_it_is_not(
    tmp_path: Path, kind: Reduced, replaced: str
) -> None:
    """Weights of the file do not matter there, which are compared one by one."""
    parent, file = source(tmp_path, FLAT), tmp_path / "reduced.onnx"
    model = convert(onnx.load(parent), kind, keep_io_types=True, op_block_list=[])
    for node in model.graph.node:
        node.op_type = "Abs" if node.name == replaced else node.op_type
    for tensor in model.graph.initializer:
        if tensor.name == replaced:
            values = 1.1 * numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(kind.dtype), replaced))
    onnx.save(model, file)
    cases = [{"x": np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)}]
    assert unrounded.same(file, parent, kind, cases) is (replaced != "second")


# Silent downgrades


@pytest.mark.parametrize("name", ["fp16", "bf16", "mixed"])
def test_a_file_that_stayed_in_float32_is_refused(make: Make, tmp_path: Path, name: str) -> None:
    def plant(file: Path) -> None:
        file.write_bytes((tmp_path / "source.onnx").read_bytes())

    done = make(name, DENSE, plant=plant)
    assert code(done) == Code.PRECISION_NOT_REACHED
    assert done.error is not None
    assert "only 0% of the weights and 0% of the nodes" in done.error.message


def test_float16_is_no_bfloat16(make: Make, tmp_path: Path) -> None:
    def plant(file: Path) -> None:
        wide = onnx.load(tmp_path / "source.onnx")
        onnx.save(convert(wide, FLOAT16, keep_io_types=True, op_block_list=[]), file)

    assert code(make("bf16", DENSE, plant=plant)) == Code.PRECISION_NOT_REACHED


# Overflow


def test_every_case_is_looked_at_for_overflow(make: Make) -> None:
    """The traced example is within the range, a larger size of the same model is not."""
    text = (
        "g (float[N,T] x) => (float[N,1] y) <int64[1] k={1}, float f={3000.0}, float s={0.001}> "
        "{ [size] a = Abs(x) [total] b = ReduceSum<keepdims=1>(a, k) [large] c = Mul(b, f) "
        "[last] y = Mul(c, s) }"
    )
    inputs = {"x": {"shape": [2, 8]}}
    done = make("fp16", text, inputs=inputs, dynamic_axes={"x": {1: "T"}})
    assert code(done) == Code.VERIFY_NONFINITE, done.error
    assert done.error is not None
    assert "Mul 'large' gives" in done.error.message
    assert done.error.message.startswith("case T=")


# mixed


def test_where_float16_is_right_mixed_is_float16(make: Make, tmp_path: Path) -> None:
    done = make("mixed", DENSE)
    assert done.error is None, done.error
    assert done.made is not None
    assert done.made.float_nodes == []
    assert done.made.notes == ["float16 is right as it is: no node had to stay in float32"]
    assert done.check.precision_nodes == 1.0


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        (SQUARE, {"square", "mean", "root"}),
        (VARIANCE, {"squared", "mean", "mean_of_squares", "square_of_mean", "difference"}),
    ],
)
def test_few_nodes_stay_in_float32(make: Make, tmp_path: Path, text: str, needed: set[str]) -> None:
    done = make("mixed", text)
    assert done.error is None, done.error
    assert done.made is not None
    left = set(done.made.float_nodes)
    assert "product" not in left
    assert "first" not in left
    assert left & needed
    assert left <= needed | {"large", "shifted"}
    model = file_of(tmp_path, done)
    held = {node.name for node in model.graph.node}
    assert left <= held
    assert done.made.curve[0].error is not None  # all of it in float16 is wrong
    assert done.made.curve[-1].error is None
    assert str(len(left)) in done.made.notes[0]


def test_the_same_file_in_float16_is_refused(make: Make) -> None:
    assert code(make("fp16", SQUARE)) == Code.VERIFY_NONFINITE


def test_where_nothing_can_stay_in_float16_it_is_refused(make: Make) -> None:
    """One node, whose result is beyond float16."""
    text = "g (float[N,8] x) => (float[N,8] y) <float k={1000.0}> { [only] y = Mul(x, k) }"
    text = text.replace("1000.0", "60000.0")
    done = make("mixed", text)
    assert code(done) == Code.DERIVE, done.error
    assert done.error is not None
    assert "with every node in float32 only is the file right" in done.error.message
