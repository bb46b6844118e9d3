"""Artifacts that derive from a file: what the runner refuses, whatever the plugin says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter.layout.files import sha256
from converter.model.base import Frozen
from converter.model.errors import Code
from converter.model.job import Derived, Variant
from converter.model.records import JobResult
from converter.plugins import providers, variants
from converter.plugins.variants import Given, fp16
from converter.worker.pipeline import derive
from converter.worker.reference import kept
from tests.integration import jobs

pytestmark = pytest.mark.integration

Derive = Callable[[Path, Path, Any], None]

# The conversion to float16 asks for nothing but the file.
UNUSED: Any = None


class Plugin:
    """A variant that does what a test says."""

    FORMAT = "onnx"
    PACKAGES = ()
    Options = Frozen

    def __init__(self, derive: Derive, precision: str = "float32", keeps: bool = True) -> None:
        self.PRECISION = precision
        self._derive, self._keeps = derive, keeps

    def keeps_io(self, options: Any) -> bool:
        return self._keeps

    def derive(self, parent: Path, target: Path, options: Any, given: Given) -> None:
        self._derive(parent, target, options)


def followed(folder: Path, precision: str, source: str = "Conv", **changes: Any) -> Derived:
    """The job that follows from a converted model."""
    asked = Variant(
        id="other", plugin="other", format="onnx", precision=precision, optional=False,
        cast_io=changes.pop("cast_io", False), options=changes.pop("options", {}),
    )  # fmt: skip
    usual = {"inputs": jobs.IMAGE, "dynamic_axes": jobs.BATCH} if source == "Conv" else {}
    return jobs.followed(jobs.make(folder, source, variants=[asked], **(usual | changes)))


def copied(parent: Path, target: Path, options: Any) -> None:
    target.write_bytes(parent.read_bytes())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobResult]:
    """What comes of a plugin that writes its files so."""

    def run(how: Derive, precision: str = "float32", **changes: Any) -> JobResult:
        job = followed(tmp_path, precision, **changes)
        plugin = Plugin(how, precision, keeps=not job.cast_io)
        monkeypatch.setattr(variants, "load", lambda name: plugin)
        return derive.run(job, lambda news: None)

    return run


def code(result: JobResult) -> Code | None:
    return result.error.code if result.error else None


def test_a_right_file_is_checked_verified_and_sealed(
    made: Callable[..., JobResult], tmp_path: Path
) -> None:
    done = made(copied)
    assert done.error is None, done.error
    assert (done.artifact, done.check.status, done.verify.status) == ("other", "passed", "passed")
    file = tmp_path / "derived" / done.files[0].path
    assert (file.name, sha256(file)) == ("model.other.onnx", done.files[0].sha256)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert done.verify.domain is not None
    assert {case.label for case in done.verify.cases} >= {"traced", "second"}
    assert [axis.passed for axis in done.verify.dynamic] == [True]
    assert list(done.stages) == ["load", "derive", "check", "verify", "benchmark", "publish"]
    assert done.onnx is not None
    assert done.onnx.exporter == "other"


def negated(parent: Path, target: Path, options: Any) -> None:
    model = onnx.load(parent)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(model, target)


def invalid(parent: Path, target: Path, options: Any) -> None:
    model = onnx.load(parent)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, target)


def nothing(parent: Path, target: Path, options: Any) -> None:
    pass


def misnamed(parent: Path, target: Path, options: Any) -> None:
    copied(parent, target.with_name("mine.onnx"), options)


def two(parent: Path, target: Path, options: Any) -> None:
    copied(parent, target, options)
    copied(parent, target.with_name("second.onnx"), options)


def elsewhere(parent: Path, target: Path, options: Any) -> None:
    copied(parent, target, options)
    (target.parents[1] / "notes.txt").write_text("mine")


def far_away(parent: Path, target: Path, options: Any) -> None:
    copied(parent, target, options)
    (parent.parents[1] / "far.txt").write_text("mine")


def native(parent: Path, target: Path, options: Any) -> None:
    """As native code does: no event of Python's."""
    import subprocess

    copied(parent, target, options)
    subprocess.run(["touch", str(parent.parent / "beside.onnx")], check=True)


def overwrites(parent: Path, target: Path, options: Any) -> None:
    copied(parent, target, options)
    negated(parent, parent, options)


def links(parent: Path, target: Path, options: Any) -> None:
    target.symlink_to(parent)


def text(parent: Path, target: Path, options: Any) -> None:
    target.write_text("no model")


def refuses(parent: Path, target: Path, options: Any) -> None:
    raise ValueError("weight w of 1e6 is beyond float16")


def fails(parent: Path, target: Path, options: Any) -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("how", "expected", "words"),
    [
        (negated, Code.VERIFY_VALUE, "PyTorch gives"),
        (invalid, Code.CHECKER, "NoSuchOperator"),
        (text, Code.CHECKER, "cannot be read"),
        (nothing, Code.DERIVE, "wrote no model.other.onnx"),
        (misnamed, Code.DERIVE, "wrote no model.other.onnx, but mine.onnx"),
        (two, Code.DERIVE, "wrote second.onnx beside model.other.onnx"),
        (elsewhere, Code.DERIVE, "wrote outside its folder: notes.txt"),
        (far_away, Code.DERIVE, "wrote outside its folder: far.txt"),
        (native, Code.DERIVE, "wrote outside its folder: beside.onnx"),
        (overwrites, Code.DERIVE, "wrote outside its folder: model.onnx"),
        (links, Code.DERIVE, "no plain file"),
        (refuses, Code.DERIVE, "other: weight w of 1e6 is beyond float16"),
        (fails, Code.DERIVE, "RuntimeError: a bug"),
    ],
)
def test_what_is_not_one_right_file_is_refused(
    made: Callable[..., JobResult], how: Derive, expected: Code, words: str
) -> None:
    done = made(how)
    assert (done.status, code(done)) == ("failed", expected)
    assert done.error is not None
    assert words in done.error.message
    assert done.files == []


def by_batch(parent: Path, target: Path, options: Any) -> None:
    """Right for the traced batch alone: it divides by the size of another one."""
    model = onnx.load(parent)
    (output,) = model.graph.output
    maker = next(node for node in model.graph.node if output.name in node.output)
    maker.output[:] = ["before"]
    node = helper.make_node
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis"))
    model.graph.node.extend(
        [
            node("Shape", ["before"], ["shape"]),
            node("Gather", ["shape", "axis"], ["batch"]),
            node("Cast", ["batch"], ["size"], to=TensorProto.FLOAT),
            node("Max", ["size", "traced"], ["more"]),
            node("Div", ["more", "traced"], ["factor"]),
            node("Mul", ["before", "factor"], [output.name]),
        ]
    )
    traced = np.float32([jobs.IMAGE["x"]["shape"][0]])
    model.graph.initializer.append(numpy_helper.from_array(traced, "traced"))
    onnx.save(model, target)


def test_what_a_variant_gets_wrong_is_not_blamed_on_tracing(
    made: Callable[..., JobResult],
) -> None:
    done = made(by_batch)
    assert done.error is not None
    assert (done.error.code, done.error.stage) == (Code.VERIFY_VALUE, "verify")
    assert done.error.hint.startswith("the model's ONNX file is right in this case: what made this")


def test_a_plugin_may_write_temporary_files(made: Callable[..., JobResult]) -> None:
    import tempfile

    def how(parent: Path, target: Path, options: Any) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"so")
        copied(parent, target, options)

    assert made(how).error is None


def test_what_a_plugin_changes_in_memory_judges_nothing(made: Callable[..., JobResult]) -> None:
    def how(parent: Path, target: Path, options: Any) -> None:
        import onnxruntime

        negated(parent, target, options)
        whole = onnxruntime.InferenceSession(parent, providers=["CPUExecutionProvider"])
        right = whole.run
        onnxruntime.InferenceSession.run = lambda self, *args: right(*args)

    assert code(made(how)) == Code.VERIFY_VALUE


def test_external_data_may_lie_beside_the_file(
    made: Callable[..., JobResult], tmp_path: Path
) -> None:
    def how(parent: Path, target: Path, options: Any) -> None:
        onnx.save_model(
            onnx.load(parent), target, save_as_external_data=True, size_threshold=0,
            location=f"{target.name}.data",
        )  # fmt: skip

    done = made(how)
    assert done.error is None, done.error
    assert [part.path for part in done.files] == ["model.other.onnx", "model.other.onnx.data"]


def test_a_file_that_came_out_float32_is_no_float16_file(made: Callable[..., JobResult]) -> None:
    done = made(copied, "float16")
    assert code(done) == Code.PRECISION_NOT_REACHED
    assert done.error is not None
    assert "only 0% of the weights" in done.error.message


def test_a_runtime_that_is_not_there_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = SimpleNamespace(
        available=lambda: "Other is not installed", open=None, INSTALL="install other", PACKAGES=()
    )
    asked: list[str] = []
    job = followed(tmp_path, "float32").model_copy(update={"provider": "other"})
    monkeypatch.setattr(providers, "load", lambda name: absent)
    monkeypatch.setattr(variants, "load", asked.append)
    done = derive.run(job, lambda news: None)
    assert done.error is not None
    assert (done.error.stage, done.error.code) == ("load", Code.EP_UNAVAILABLE)
    assert (done.error.message, done.error.hint) == ("Other is not installed", "install other")
    (verdict,) = done.verify.providers
    assert (verdict.provider, verdict.status) == ("other", "unavailable")
    assert verdict.reason == "Other is not installed"
    assert asked == []


def half(parent: Path, target: Path, options: Any) -> None:
    fp16.derive(parent, target, fp16.Options(), UNUSED)


def test_float16_is_verified_with_bounds_of_its_own(made: Callable[..., JobResult]) -> None:
    done = made(half, "float16")
    assert done.error is None, done.error
    assert done.verify.arithmetic == "emulated"
    assert done.check.precision_weights == 1.0
    (output,) = done.verify.cases[0].outputs
    assert output.dtype == "float32"
    assert 1e-5 < (output.rel_l2 or 0) < 1e-2


def test_a_negated_weight_of_a_float16_file_is_refused(made: Callable[..., JobResult]) -> None:
    def how(parent: Path, target: Path, options: Any) -> None:
        half(parent, target, options)
        negated(target, target, options)

    assert code(made(how, "float16")) == Code.VERIFY_VALUE


def test_inputs_and_outputs_may_be_float16_too(made: Callable[..., JobResult]) -> None:
    def how(parent: Path, target: Path, options: Any) -> None:
        fp16.derive(parent, target, fp16.Options(keep_io_types=False), UNUSED)

    done = made(how, "float16", cast_io=True)
    assert done.error is None, done.error
    assert done.onnx is not None
    assert [tensor.dtype for tensor in (*done.onnx.inputs, *done.onnx.outputs)] == ["float16"] * 2


def test_float16_outputs_that_nobody_asked_for_are_refused(made: Callable[..., JobResult]) -> None:
    def how(parent: Path, target: Path, options: Any) -> None:
        fp16.derive(parent, target, fp16.Options(keep_io_types=False), UNUSED)

    assert code(made(how, "float16")) == Code.OUTPUT_STRUCTURE


def test_a_parent_that_has_changed_is_no_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = followed(tmp_path, "float32")
    monkeypatch.setattr(variants, "load", lambda name: Plugin(copied))
    Path(job.parent_file).write_bytes(b"another")
    assert code(derive.run(job, lambda news: None)) == Code.INPUT_CHANGED


def test_references_that_have_changed_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = followed(tmp_path, "float32")
    monkeypatch.setattr(variants, "load", lambda name: Plugin(copied))
    with Path(job.references).open("ab") as file:
        file.write(b"x")
    assert code(derive.run(job, lambda news: None)) == Code.INPUT_CHANGED


def test_what_is_kept_is_what_was_known(tmp_path: Path) -> None:
    job = followed(tmp_path, "float16")
    found = kept.read(Path(job.references), job)
    assert found.references.precision == "float16"
    assert found.job.inputs == job.inputs
    assert found.domain is not None
    labels = [item.case.label for item in found.references.cases]
    assert labels[:2] == ["traced", "second"]
    for item in found.references.cases:
        assert item.exact
        assert item.noise is not None
        assert list(item.inputs) == ["x"]
    floor = found.references.cases[0].noise.floors[0]
    assert 1e-5 < floor < 1e-2


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    job = followed(tmp_path, "float16")
    with np.load(job.references, allow_pickle=False) as held:
        assert all(held[name].dtype.kind != "O" for name in held.files)


def large() -> bytes:
    """x·1000·1000: finite in float32, beyond float16 on the way."""
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["a"]),
        helper.make_node("Mul", ["a", "k"], ["b"]),
        helper.make_node("Mul", ["b", "s"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    tensors = [
        helper.make_tensor("k", TensorProto.FLOAT, [4], [1000.0] * 4),
        helper.make_tensor("s", TensorProto.FLOAT, [4], [0.001] * 4),
    ]
    io = [[value(n, TensorProto.FLOAT, [2, 4])] for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", io[0], io[1], tensors)
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def source(tmp_path: Path, text: str) -> dict[str, Any]:
    """A job's source: a model in ONNX's text form."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    onnx.save(model, tmp_path / "source.onnx")
    return {"source": {"onnx": str(tmp_path / "source.onnx")}, "inputs": {}, "opset": None}


@pytest.mark.parametrize(
    ("text", "expected", "words"),
    [
        (  # the mean of squares less the square of the mean, around 60
            "g (float[4,64] x) => (float[4,1] y) <float o={60.0}> { s = Add(x, o) q = Mul(s, s) "
            "m = ReduceMean<axes=[1]>(s) n = ReduceMean<axes=[1]>(q) p = Mul(m, m) y = Sub(n, p) }",
            Code.VERIFY_VALUE,
            "computed in float16, as on a device: ",
        ),
        (  # a mask that closes a row: no infinity in float32
            "g (float[4,8] x, bool[4,8] m) => (float[4,8] y) "
            "<float k={-1e9}, float[8] g={1,2,3,4,5,6,7,8}> "
            "{ n = Not(m) "
            "f = Cast<to=1>(n) b = Mul(f, k) z = Relu(x) t = Sigmoid(z) u = Mul(t, g) "
            "v = Add(u, t) w = Mul(v, v) s = Add(w, b) y = Softmax(s) }",
            Code.VERIFY_NONFINITE,
            "computed in float16, as on a device: case m: all false",
        ),
    ],
)
def test_what_only_a_device_gets_wrong_is_refused(
    made: Callable[..., JobResult], tmp_path: Path, text: str, expected: Code, words: str
) -> None:
    done = made(half, "float16", **source(tmp_path, text))
    assert done.error is not None
    assert (done.error.code, done.error.stage) == (expected, "verify")
    assert done.error.message.startswith(words)


def test_a_source_in_float16_stays_as_it_is(made: Callable[..., JobResult], tmp_path: Path) -> None:
    text = "g (float16[4,8] x) => (float16[4,8] y) { a = Relu(x) b = Sigmoid(a) y = Add(a, b) }"
    done = made(half, "float16", **source(tmp_path, text))
    assert done.error is None, done.error


def test_arithmetic_that_overflows_is_refused_though_a_cpu_computes_it(
    made: Callable[..., JobResult], tmp_path: Path
) -> None:
    (tmp_path / "large.onnx").write_bytes(large())
    done = made(
        half, "float16", source={"onnx": str(tmp_path / "large.onnx")},
        inputs={"x": {"shape": [2, 4]}}, opset=None,
    )  # fmt: skip
    assert code(done) == Code.VERIFY_NONFINITE
    assert done.error is not None
    assert "65504" in done.error.message


def test_a_variant_is_scored_on_the_samples_of_its_model(made: Callable[..., JobResult]) -> None:
    """With what the samples hold besides, which no model reads; it runs without the model."""
    import meanings

    meanings.Score.calls = 0
    asked = {
        "inputs": {"x": {"shape": [2, 6, 3]}}, "dynamic_axes": {"x": {1: "t"}}, "outputs": ["y"],
        "data": {"_target_": "meanings.samples"}, "trust": ["tiny", "meanings"],
    }  # fmt: skip
    found = made(copied, source={"_target_": "meanings.Flatten"},
                 metric={"_target_": "meanings.agreement"}, **asked)  # fmt: skip
    assert found.error is None, found.error
    assert found.verify.metric is not None
    assert found.verify.metric.samples == 3
    assert found.verify.domain is not None
    assert "data: 3 samples of samples()" in found.verify.domain.inputs[0].patterns
