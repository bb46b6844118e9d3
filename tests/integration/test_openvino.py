"""OpenVINO: what it runs is what was asked for, and its files are those of their parent."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from converter.model.errors import Code, StageError
from converter.model.measure import Measure
from converter.model.records import JobResult
from converter.plugins import variants
from converter.plugins.runnable import Interface, Runnable
from converter.plugins.variants import Given, fp16
from converter.worker.benchmark import benchmarking
from converter.worker.onnxfile import structure
from tests.integration import runtimes

pytestmark = pytest.mark.integration
openvino: Any = pytest.importorskip("openvino")

# After the package is known to be there.
from converter.plugins.providers import _openvino  # noqa: E402
from converter.plugins.providers import openvino as provider  # noqa: E402

Options = dict[str, Any]
CAPABILITIES = _openvino.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
GIVEN: Any = None  # what these plugins do not ask
X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def model(
    op: str = "MatMul", kind: int = TensorProto.FLOAT, axes: tuple[Any, ...] = ("n", 3)
) -> onnx.ModelProto:
    """x, of ``axes``, times a constant, or with an operator of one input."""
    value = helper.make_tensor_value_info
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3], np.arange(9) / 7)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"] if op == "MatMul" else ["x"], ["y"], name="the node")],
        "g",
        [value("x", kind, list(axes))],
        [value("y", kind, list(axes))],
        [weight] if op == "MatMul" else [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def opened(
    folder: Path, proto: onnx.ModelProto, options: Options | None = None, threads: int = 1
) -> Runnable:
    file = folder / "model.onnx"
    onnx.save(proto, file)
    return provider.open(
        file, threads=threads, options=options or {}, interface=structure.interface(proto)
    )


def refusal(folder: Path, proto: onnx.ModelProto, **options: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        opened(folder, proto, options)
    return caught.value


def test_it_runs_under_the_names_of_the_file(tmp_path: Path) -> None:
    session = opened(tmp_path, model())
    assert (session.inputs, session.outputs) == (["x"], ["y"])
    assert session.types == {"x": "tensor(float)", "y": "tensor(float)"}
    assert session.declared() == {"x": [None, 3]}
    assert session.provider == "OpenVINO CPU"
    weight = np.arange(9, dtype=np.float32).reshape(3, 3) / 7
    for rows in (X, X[:1], X[:0]):
        np.testing.assert_allclose(session.run({"x": rows})[0], rows @ weight, rtol=1e-6)


def test_outputs_are_copies(tmp_path: Path) -> None:
    session = opened(tmp_path, model("Relu"))
    (first,) = session.run({"x": X})
    session.run({"x": -X})
    np.testing.assert_array_equal(first, np.maximum(X, 0))


def test_prepared_runs_do_not_share_their_inputs(tmp_path: Path) -> None:
    session = opened(tmp_path, model("Relu"))
    requests: list[Any] = []
    create = session._compiled.create_infer_request  # type: ignore[attr-defined]

    class Compiled:
        def create_infer_request(self) -> Any:
            requests.append(create())
            return requests[-1]

    session._compiled = Compiled()  # type: ignore[attr-defined]
    calls = [session.prepared({"x": rows}) for rows in (X, X + 1)]
    for call in calls:
        call()
    for request, rows in zip(requests, (X, X + 1), strict=True):
        np.testing.assert_array_equal(request.get_tensor("y").data, np.maximum(rows, 0))


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({}, "input 'x' is not fed"),
        ({"x": X[:, :2]}, "are incompatible"),
        ({"x": X[0]}, "are incompatible"),
        ({"x": X.astype(np.float64)}, "f64"),
        ({"x": X, "z": X}, "there is no input 'z', but x"),
    ],
)
def test_inputs_that_it_would_take_in_silence(
    tmp_path: Path, feeds: dict[str, Any], said: str
) -> None:
    """``infer(feeds)`` computes on an empty tensor in place of the first four (2026.4)."""
    session = opened(tmp_path, model())
    with pytest.raises(RuntimeError, match=said):
        session.run(feeds)


def test_bfloat16_crosses_by_its_bits(tmp_path: Path) -> None:
    session = opened(tmp_path, model("Neg", TensorProto.BFLOAT16))
    (found,) = session.run({"x": X.astype(ml_dtypes.bfloat16)})
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found, -X.astype(ml_dtypes.bfloat16))


def test_threads_are_those_that_were_given_and_nothing_is_pinned(tmp_path: Path) -> None:
    session: Any = opened(tmp_path, model())
    assert session._compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert session._compiled.get_property("ENABLE_CPU_PINNING") is False
    session.run({"x": X})
    allowed = {
        line
        for thread in Path("/proc/self/task").iterdir()
        for line in (thread / "status").read_text().splitlines()
        if line.startswith("Cpus_allowed_list")
    }
    assert len(allowed) == 1


def test_a_signal_is_handled_after_files_were_run(tmp_path: Path) -> None:
    """It ends the process where two cores have ended in the order in which they came (2026.4)."""
    first = opened(tmp_path, model())
    second = opened(tmp_path, model())
    first.run({"x": X})
    second.run({"x": X})
    del first
    gc.collect()
    del second
    gc.collect()
    handled: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: handled.append(number))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handled == [signal.SIGTERM]


def test_an_operator_that_it_does_not_have_is_named(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Det", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [3, 3])],
        [value("y", TensorProto.FLOAT, [])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    error = refusal(tmp_path, proto)
    assert error.code is Code.SESSION
    assert error.message == (
        "OpenVINO cannot load the file: No conversion rule found for operations: Det-17"
    )


def test_strings_are_refused_before_they_end_the_process(tmp_path: Path) -> None:
    error = refusal(tmp_path, model("Identity", TensorProto.STRING))
    assert (error.code, error.message[:24]) == (Code.SESSION, "input 'x' holds strings,")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    error = refusal(tmp_path, model(), device="NPU")
    assert error.code is Code.EP_UNAVAILABLE
    assert error.message.startswith("OpenVINO has no device NPU here; available: CPU")


def test_a_device_that_is_chosen_is_none_that_was_asked_for(tmp_path: Path) -> None:
    error = refusal(tmp_path, model(), device="AUTO")
    assert (error.code, error.message) == (
        Code.EP_UNAVAILABLE,
        "OpenVINO computes the file on CPU, not on AUTO",
    )


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_precision_that_the_processor_has_not_is_said(tmp_path: Path, precision: str) -> None:
    if precision.replace("f16", "fp16").replace("bfp16", "bf16").upper() in CAPABILITIES:
        pytest.skip(f"this processor has {precision}")
    error = refusal(tmp_path, model(), precision=precision)
    assert error.code is Code.PRECISION_NOT_REACHED
    assert error.message.startswith("OpenVINO computes in ")
    assert error.message.endswith(f"{_openvino._WORDS[precision]} was requested")


@pytest.mark.skipif("BF16" not in CAPABILITIES, reason="this processor has no bfloat16")
def test_bfloat16_in_place_of_float32_is_refused_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What OpenVINO does by itself on such a processor, and where the property lies, too."""
    said = "OpenVINO computes in bfloat16 on this device (CPU); float32 was requested"
    with monkeypatch.context() as patched:
        patched.setattr(_openvino, "_configuration", lambda *_: {"INFERENCE_NUM_THREADS": 1})
        error = refusal(tmp_path, model())
    assert (error.code, error.message) == (Code.PRECISION_NOT_REACHED, said)
    read = _openvino.read(tmp_path / "model.onnx")
    hint = {"INFERENCE_PRECISION_HINT": "bf16"}
    compiled = _openvino.core().compile_model(read, "CPU", hint)

    class Lying:
        def get_property(self, name: str) -> Any:
            asked = name == "INFERENCE_PRECISION_HINT"
            return openvino.Type.f32 if asked else compiled.get_property(name)

        def get_runtime_model(self) -> Any:
            return compiled.get_runtime_model()

    with pytest.raises(StageError) as caught:
        _openvino._as_asked(Lying(), read, "CPU", "f32")
    assert (caught.value.code, caught.value.message) == (Code.PRECISION_NOT_REACHED, said)


@pytest.mark.skipif("BF16" not in CAPABILITIES, reason="this processor has no bfloat16")
def test_bfloat16_that_was_asked_for_is_given(tmp_path: Path) -> None:
    weight = np.arange(9, dtype=np.float32).reshape(3, 3) / 7
    (found,) = opened(tmp_path, model(), {"precision": "bf16"}).run({"x": X})
    error = np.abs(found - X @ weight).max()
    assert 1e-4 < error < 2e-2


def test_what_it_reads_otherwise_than_the_file_says(tmp_path: Path) -> None:
    proto = model()
    onnx.save(proto, tmp_path / "model.onnx")
    told = structure.interface(proto)

    def code(inputs: dict[str, Any], outputs: dict[str, Any]) -> Code:
        asked = Interface(
            [told.inputs[0].model_copy(update=inputs)], [told.outputs[0].model_copy(update=outputs)]
        )
        with pytest.raises(StageError) as caught:
            provider.open(tmp_path / "model.onnx", threads=1, options={}, interface=asked)
        return caught.value.code

    assert code({"name": "z"}, {}) is Code.INPUT_DROPPED
    assert code({}, {"name": "z"}) is Code.OUTPUT_STRUCTURE
    assert code({"dtype": "float16"}, {}) is Code.SESSION
    assert code({"shape": ["n", "m"]}, {}) is Code.DIM_SPECIALISED
    assert code({"shape": ["n", 3, 1]}, {}) is Code.DIM_SPECIALISED


def test_importing_it_tells_nobody_and_writes_nothing(tmp_path: Path) -> None:
    """The package sends usage statistics when it is imported (2026.4)."""
    script = """
import sys
def hook(event, arguments):
    if event.startswith("socket.") or event == "open" and "intel" in str(arguments[0]).lower():
        if "/openvino/" not in str(arguments[0]):
            print("SEEN", event, arguments)
sys.addaudithook(hook)
from converter.plugins.providers import _openvino
_openvino.package().Core()
import openvino_telemetry
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HOME": str(tmp_path)}, text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["done"]
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert provider.available() == ""
    job = runtimes.followed(tmp_path, "openvino_ir")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert provider.available() == "the package openvino is not installed"
    done = runtimes.made(job)
    assert done.error is not None
    assert "openvino" in done.error.message


Derive = Callable[[Path, Path, Any, Given], None]


@pytest.fixture
def derived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobResult]:
    """What comes of the variant, where ``after`` changes what it has written."""

    def run(
        after: Callable[[Path], None] | None = None, options: Options | None = None, **changes: Any
    ) -> JobResult:
        job = runtimes.followed(tmp_path, "openvino_ir", options, **changes)
        plugin: Any = variants.load("openvino_ir")
        derive: Derive = plugin.derive

        def changed(parent: Path, target: Path, options: Any, given: Given) -> None:
            derive(parent, target, options, given)
            if after is not None:
                after(target)

        monkeypatch.setattr(plugin, "derive", changed)
        return runtimes.made(job)

    return run


def code(result: JobResult) -> tuple[Code, str] | None:
    return (result.error.code, result.error.stage or "") if result.error else None


def test_a_right_ir(derived: Callable[..., JobResult]) -> None:
    done = derived()
    assert done.error is None, done.error
    assert [part.path for part in done.files] == ["model.other.xml", "model.other.bin"]
    assert done.check.precision_weights == 1.0
    assert {case.provider for case in done.verify.cases} == {"OpenVINO CPU"}
    assert [axis.passed for axis in done.verify.dynamic] == [True]
    (verdict,) = done.verify.providers
    assert (verdict.provider, verdict.status) == ("openvino", "passed")
    assert verdict.version.startswith("openvino 20")
    assert done.made is not None
    assert set(done.made.tools) == {"openvino"}


def test_a_compressed_ir_is_float16(derived: Callable[..., JobResult]) -> None:
    done = derived(options={"compress_to_fp16": True})
    assert done.error is None, done.error
    assert done.check.precision_weights == 1.0
    assert done.verify.arithmetic == "emulated"
    worst = max(out.rel_l2 or 0.0 for case in done.verify.cases for out in case.outputs)
    assert 1e-5 < worst < 1e-2


def rewritten(change: Callable[[Any], None], compress: bool = False) -> Callable[[Path], None]:
    """Read the IR, change the model, write it over."""

    def after(target: Path) -> None:
        read = _openvino.core().read_model(
            target.read_bytes(), target.with_suffix(".bin").read_bytes()
        )
        change(read)
        openvino.save_model(read, str(target), compress_to_fp16=compress)

    return after


def nothing(read: Any) -> None: ...


def test_a_compressed_ir_that_is_called_float32(derived: Callable[..., JobResult]) -> None:
    """What ``save_model`` writes unless told."""
    done = derived(rewritten(nothing, compress=True))
    assert code(done) == (Code.PRECISION_NOT_REACHED, "check")
    assert done.error is not None
    assert "of a file that is called float32 are f16" in done.error.message
    assert "unless told" in done.error.hint


def test_a_float32_ir_that_is_called_float16(derived: Callable[..., JobResult]) -> None:
    done = derived(called="float16")
    assert code(done) == (Code.PRECISION_NOT_REACHED, "check")


def test_an_output_of_another_name(derived: Callable[..., JobResult]) -> None:
    done = derived(rewritten(lambda read: read.outputs[0].set_names({"z"})))
    assert code(done) == (Code.OUTPUT_STRUCTURE, "verify")
    assert done.error is not None
    assert "it has: z" in done.error.message


def test_an_input_of_another_name(derived: Callable[..., JobResult]) -> None:
    done = derived(rewritten(lambda read: read.inputs[0].set_names({"z"})))
    assert code(done) == (Code.INPUT_DROPPED, "verify")


def test_an_axis_that_was_frozen(derived: Callable[..., JobResult]) -> None:
    done = derived(rewritten(lambda read: read.reshape({0: [2, 3, 8, 8]})))
    assert code(done) == (Code.DIM_SPECIALISED, "verify")
    assert done.error is not None
    assert done.error.message.startswith("input 'x' is [2, 3, 8, 8] in OpenVINO, and [batch, 3")


def test_weights_that_are_missing(derived: Callable[..., JobResult]) -> None:
    done = derived(lambda target: target.with_suffix(".bin").unlink())
    assert code(done) == (Code.CHECKER, "check")
    assert done.error is not None
    assert "model.other.bin is missing" in done.error.message


def test_weights_that_are_cut_off(derived: Callable[..., JobResult]) -> None:
    def cut(target: Path) -> None:
        weights = target.with_suffix(".bin")
        weights.write_bytes(weights.read_bytes()[:-4])

    done = derived(cut)
    assert code(done) == (Code.CHECKER, "check")


def test_a_graph_that_is_damaged(derived: Callable[..., JobResult]) -> None:
    done = derived(lambda target: target.write_bytes(target.read_bytes()[:-200]))
    assert code(done) == (Code.CHECKER, "check")


def test_an_onnx_file_is_verified_and_timed_there(tmp_path: Path) -> None:
    job = runtimes.followed(tmp_path, "openvino_ir")
    parent = {
        **{name: getattr(job, name) for name in Measure.model_fields if hasattr(job, name)},
        "artifact": "onnx", "format": "onnx", "parent": None, "suffix": ".onnx", "companions": [],
        "parent_file": "", "file": job.parent_file, "provider": "openvino", "timed": True,
        "time_torch": False, "budget_s": 0.1,
    }  # fmt: skip
    done = benchmarking.run(Measure.model_validate(parent), lambda stage: None)
    assert done.error is None, done.error
    assert [verdict.provider for verdict in done.verify.providers] == ["openvino"]
    (latency,) = done.latency
    assert (latency.status, latency.active) == ("measured", ["OpenVINO CPU"])
    assert latency.p50_ms


@pytest.mark.skipif("BF16" not in CAPABILITIES, reason="this processor has no bfloat16")
def test_a_verdict_in_bfloat16_is_one_on_bfloat16(tmp_path: Path) -> None:
    """Who asks for it gets it, and float32's bounds."""
    job = runtimes.followed(tmp_path, "openvino_ir")
    asked = job.model_copy(update={"provider_options": {"openvino": {"precision": "bf16"}}})
    done = runtimes.made(asked)
    assert code(done) == (Code.VERIFY_VALUE, "verify")
    assert {case.provider for case in done.verify.cases} == {"OpenVINO CPU bf16"}


def test_quantised_and_half_files_run_as_they_are(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = [{"x": X}]

        def get_next(self) -> Any:
            return self._left.pop() if self._left else None

    proto = model()
    onnx.save(proto, tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Reader())
    (wanted,) = opened(tmp_path, proto).run({"x": X})
    fp16.derive(tmp_path / "float.onnx", tmp_path / "half.onnx", fp16.Options(), GIVEN)
    half = onnx.load(tmp_path / "half.onnx")
    for file, bound in ((onnx.load(tmp_path / "int8.onnx"), 3e-2), (half, 1e-3)):
        (found,) = opened(tmp_path, file).run({"x": X})
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert 0 < error < bound
