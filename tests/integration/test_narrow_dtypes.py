"""Dtypes that NumPy, ONNX or ONNX Runtime has no arithmetic for: converted, or refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch

from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec
from converter.model.job import Bundle, Recheck
from converter.worker.compare import numerics
from converter.worker.inputs import inputs, tensors
from converter.worker.pipeline import bundling, recheck
from converter.worker.reference import kept
from converter.worker.runtime.session import Session

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
NARROW = {
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
BATCH = {"x": {0: "batch"}}
ORIGINAL: dict[str, Any] = {"opset": None, "exporters": ["original"], "inputs": {}}


def narrow(name: str, exporter: str = "dynamo", **changes: Any) -> dict[str, Any]:
    """What makes a job of a class of ``narrow.py``."""
    target = {"_target_": f"narrow.{name}"}
    options = {"source": target, "exporters": [exporter], "opset": 20, "trust": ["narrow"]}
    return {**options, **changes}


def of(dtype: str, **keys: Any) -> dict[str, Any]:
    return {"x": {"shape": [4, 8], "dtype": dtype, **keys}}


def source(graph: str, folder: Path, name: str = "source") -> dict[str, str]:
    head = '<ir_version: 10, opset_import: ["": 20, "ai.onnx.ml": 3]>'
    onnx.save_model(onnx.parser.parse_model(f"{head}\n{graph}"), folder / f"{name}.onnx")
    return {"onnx": str(folder / f"{name}.onnx")}


# bfloat16 and float8


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_arithmetic_in_float32_between_inputs_and_outputs_of_bfloat16(
    convert: Convert, exporter: str
) -> None:
    inputs = of("bfloat16")
    done = convert(**narrow("Between", exporter, inputs=inputs, dynamic_axes=BATCH))
    assert done.code is None, done.result.error
    assert [tensor.dtype for tensor in done.onnx.inputs] == ["bfloat16"]
    assert [tensor.dtype for tensor in done.onnx.outputs] == ["bfloat16", "float32"]
    first, second = done.result.verify.cases[0].outputs
    # One step of bfloat16 above what float32 rounds.
    assert 2**-7 < first.rtol < 2**-7 + 1e-3
    assert second.rtol < 1e-3
    # Through the runtime alone, fed by bits.
    x = np.linspace(-2, 2, 24).reshape(3, 8).astype(ml_dtypes.bfloat16)
    narrowed, whole = Session(done.path).run({"x": x})
    assert narrowed.dtype == ml_dtypes.bfloat16
    assert np.array_equal(narrowed, whole.astype(ml_dtypes.bfloat16))


def test_weights_of_bfloat16_that_are_cast(convert: Convert) -> None:
    for exporter in ("torchscript", "dynamo"):
        done = convert(**narrow("Held", exporter, inputs={"x": {"shape": [4, 8]}}))
        assert done.code is None, done.result.error


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_inputs_of_float8(convert: Convert, dtype: str) -> None:
    options = {"kwargs": {"dtype": dtype}, "inputs": of(dtype), "verify": {"rtol": 0.1}}
    done = convert(**narrow("Between", **options))
    assert done.code is None, done.result.error
    assert done.onnx.inputs[0].dtype == dtype


def test_the_torchscript_exporter_has_no_float8(convert: Convert) -> None:
    dtype = "float8_e4m3fn"
    options = {"kwargs": {"dtype": dtype}, "inputs": of(dtype)}
    error = convert(**narrow("Between", "torchscript", **options)).result.error
    assert (error.stage, error.code) == ("export", Code.EXPORT_UNSUPPORTED)
    assert "has no float8" in error.message
    assert "exporter: dynamo" in error.hint


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_model_in_bfloat16_all_through_is_refused(convert: Convert, exporter: str) -> None:
    error = convert(**narrow("Through", exporter, inputs=of("bfloat16"))).result.error
    assert (error.stage, error.code) == ("check", Code.SESSION)
    assert error.message.startswith("ONNX Runtime's CPU provider has no bfloat16 kernel for Gemm")
    assert "keep the arithmetic in float32" in error.hint


def test_a_write_into_an_input_of_bfloat16_is_seen(convert: Convert) -> None:
    done = convert(**narrow("Writes", inputs=of("bfloat16")))
    notes = [note for stage in done.result.stages.values() for note in stage.warnings]
    told = [*notes, str(done.result.error and done.result.error.message)]
    assert any("forward changes its argument x in place" in text for text in told)


def test_an_original_file_that_computes_in_bfloat16_names_the_operator(
    convert: Convert, tmp_path: Path
) -> None:
    graph = "g (bfloat16[3] x) => (bfloat16[3] y) {m = Identity(x) y = Mul(m, m)}"
    error = convert(source(graph, tmp_path), **ORIGINAL).result.error
    assert (error.stage, error.code) == ("reference", Code.SESSION)
    assert error.message.startswith("ONNX Runtime's CPU provider has no bfloat16 kernel for Mul")
    assert error.hint.endswith("keep the arithmetic in float32: Cast what this operator reads")


SQUARE = (
    "g (bfloat16[4,3] x) => (bfloat16[4,3] y) <float s = {%s}> "
    "{f = Cast<to=1>(x) m = Mul(f, f) n = Mul(m, s) y = Cast<to=16>(n)}"
)


@pytest.mark.parametrize(
    ("scale", "code"), [("1.0", None), ("1.0000001", None), ("1.02", Code.VERIFY_VALUE),
                        ("0.98", Code.VERIFY_VALUE)]
)  # fmt: skip
def test_a_file_whose_bfloat16_output_is_off(
    tiny_job: Convert, tmp_path: Path, scale: str, code: Code | None
) -> None:
    job = tiny_job(source(SQUARE % "1.0", tmp_path), **ORIGINAL)
    other = source(SQUARE % scale, tmp_path, "other")["onnx"]
    result = recheck.run(Recheck.model_validate({**dict(job), "file": other}), lambda _: None)
    assert (result.error.code if result.error else None) is code


@pytest.mark.parametrize("dtype", NARROW)
def test_a_right_output_is_rounded_once_more(dtype: str) -> None:
    exact = np.random.default_rng(0).standard_normal(4000)
    expected = exact.astype(NARROW[dtype])
    moved = (exact * (1 + 1e-6)).astype(NARROW[dtype])
    # Whatever lies on the border of two numbers may go to either, all of it even.
    up = np.nextafter(expected, np.full_like(expected, 100))
    for actual in (expected, moved, up):
        found = numerics.compare("y", expected, actual, rtol=None, atol=None, floor=0.0)
        assert found.code is None, found.reason
    two = np.nextafter(up, np.full_like(expected, 100))
    found = numerics.compare("y", expected, two, rtol=None, atol=None, floor=0.0)
    assert found.code is Code.VERIFY_VALUE


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_two_percent_are_never_rounding_of_bfloat16(factor: float) -> None:
    exact = np.random.default_rng(0).standard_normal(4000)
    expected, actual = (values.astype(ml_dtypes.bfloat16) for values in (exact, exact * factor))
    # However badly the model rounds.
    found = numerics.compare("y", expected, actual, rtol=None, atol=None, floor=1.0)
    assert found.code is Code.VERIFY_VALUE


def test_a_single_wrong_element_of_bfloat16() -> None:
    expected = np.random.default_rng(0).standard_normal(4000).astype(ml_dtypes.bfloat16)
    actual = expected.copy()
    at = int(np.argmax(np.abs(expected.astype(np.float32))))
    actual[at] *= ml_dtypes.bfloat16(1.02)
    found = numerics.compare("y", expected, actual, rtol=None, atol=None, floor=0.0)
    assert found.code is Code.VERIFY_VALUE
    assert f"y[{at}]" in str(found.reason)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    "keys",
    [{}, {"low": 0.0, "high": 5.0}, {"value": 1.5}, {"fill": "sorted"}, {"fill": "onehot"},
     {"fill": "probabilities"}, {"fill": "mask"}, {"low": [0.0, 1.0, 2.0], "high": 8.0}],
)  # fmt: skip
def test_values_are_drawn_in_the_dtype(dtype: str, keys: dict[str, Any]) -> None:
    spec = InputSpec.model_validate({"shape": [2, 3], "dtype": dtype, **keys})
    drawn = inputs.draw("x", spec, seed=0)
    assert drawn.dtype == NARROW[dtype]
    assert drawn.shape == (2, 3)
    assert np.isfinite(drawn).all()
    # What PyTorch is given is what the file is given.
    again = tensors.array(tensors.of(drawn))
    assert again.dtype == drawn.dtype
    assert again.tobytes() == drawn.tobytes()


def test_a_value_beyond_float8_is_refused_by_name() -> None:
    spec = InputSpec.model_validate({"shape": [2], "dtype": "float8_e4m3fn", "value": 1000})
    with pytest.raises(StageError, match=r"holds 1000.*float8_e4m3fn cannot hold"):
        inputs.draw("x", spec, seed=0)


def test_bfloat16_out_of_files(tmp_path: Path) -> None:
    import safetensors.torch

    values = torch.randn(2, 3)
    torch.save(values.bfloat16(), tmp_path / "x.pt")
    safetensors.torch.save_file({"x": values.bfloat16()}, tmp_path / "x.safetensors")
    np.save(tmp_path / "x.npy", values.numpy())  # which NumPy has no bfloat16 in: it is rounded
    wanted = tensors.array(values.bfloat16())
    for file in ("x.pt", "x.safetensors", "x.npy"):
        keys = {"shape": [2, 3], "dtype": "bfloat16", "path": str(tmp_path / file)}
        found = inputs.draw("x", InputSpec.model_validate(keys), seed=0)
        assert found.dtype == ml_dtypes.bfloat16
        assert np.array_equal(found, wanted)


def test_a_variant_reads_bfloat16_and_strings_as_they_were() -> None:
    bfloat = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    words = np.array([["a", ""], ["é", "b c"]], object)
    for array, dtype in ((bfloat, "bfloat16"), (words, "string")):
        stored = kept._stored(array)
        assert stored.dtype.kind in "uU"  # what NumPy's files hold without pickling
        again = kept._again(stored, dtype)
        assert again.dtype == array.dtype
        assert np.array_equal(again, array)


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_the_operator_without_a_kernel_of_bfloat16_is_named(
    convert: Convert, exporter: str
) -> None:
    error = convert("BrainInside", exporters=[exporter], opset=18).result.error
    assert (error.stage, error.code) == ("check", Code.SESSION)
    assert error.message.startswith("ONNX Runtime's CPU provider has no bfloat16 kernel for Gemm")
    assert "convert the float32 module (module.float())" in error.hint


# Strings


def test_strings_are_drawn_out_of_what_the_file_knows(convert: Convert, tmp_path: Path) -> None:
    graph = """g (string[n] x) => (int64[n] y) {y = ai.onnx.ml.LabelEncoder
        <keys_strings=["cat", "dog"], values_int64s=[1, 2], default_int64=-1> (x)}"""
    done = convert(source(graph, tmp_path), **ORIGINAL)
    assert done.code is None, done.result.error
    assert done.onnx.inputs[0].dtype == "string"
    patterns = done.result.verify.domain.inputs[0].patterns
    assert {"words", "all 'cat'"} <= {*patterns}


STRINGS = {
    "g (string[3,2] x, string[3,2] z) => (string[3,2] y) {y = StringConcat(x, z)}": 2,
    'g (string[4] x) => (string[k] y) {y = StringNormalizer<case_change_action="UPPER", '
    'locale="C", stopwords=["THE"]>(x)}': 1,
    "g (string[3] x, float[3,2] z) => (string[3] y, float[3,2] w) {y = Identity(x) w = Neg(z)}": 2,
}


@pytest.mark.parametrize("graph", STRINGS)
def test_strings_in_and_out(convert: Convert, tmp_path: Path, graph: str) -> None:
    done = convert(source(graph, tmp_path), **ORIGINAL)
    assert done.code is None, done.result.error
    assert len(done.onnx.inputs) == STRINGS[graph]
    assert len(done.result.verify.cases) > 3


def test_strings_that_are_stated(convert: Convert, tmp_path: Path) -> None:
    graph = "g (string[n] x, string[n] z) => (string[n] y) {y = StringConcat(x, z)}"
    np.save(tmp_path / "z.npy", np.array(["a", "bc", "def"]))
    named: dict[str, Any] = {
        "x": {"shape": [3], "dtype": "string", "value": ["cat", "dog", "emu"]},
        "z": {"shape": [3], "dtype": "string", "path": str(tmp_path / "z.npy")},
    }
    verify = {"cases": [{"label": "cows", "inputs": {"x": {"value": "cow"}}}]}
    done = convert(source(graph, tmp_path), **{**ORIGINAL, "inputs": named, "verify": verify})
    assert done.code is None, done.result.error
    assert "cows" in [case.label for case in done.result.verify.cases]
    drawn = {key: inputs.draw(key, InputSpec.model_validate(of), seed=0)
             for key, of in named.items()}  # fmt: skip
    assert list(Session(done.path).run(drawn)[0]) == ["cata", "dogbc", "emudef"]


def test_a_file_that_gives_another_string_is_refused(tiny_job: Convert, tmp_path: Path) -> None:
    graph = """g (string[4] x) => (string[4] y) {y = ai.onnx.ml.LabelEncoder
        <keys_strings=["cat", "dog"], values_strings=["A", "B"], default_string="?"> (x)}"""
    job = tiny_job(source(graph, tmp_path), **ORIGINAL)
    other = source(graph.replace('"B"', '"C"'), tmp_path, "other")["onnx"]
    result = recheck.run(Recheck.model_validate({**dict(job), "file": other}), lambda _: None)
    assert result.error is not None
    assert result.error.code is Code.VERIFY_VALUE
    assert "is 'C', the source gives 'B'" in result.error.message


def bundled(job: Any, file: Path) -> Any:
    staging = Path(job.staging_dir).parent / "bundle"
    staging.mkdir()
    changes = {"file": str(file), "staging_dir": str(staging)}
    return bundling.run(Bundle.model_validate({**dict(job), **changes}), lambda _: None), staging


def test_the_check_of_a_bundle_compares_strings(tiny_job: Convert, tmp_path: Path) -> None:
    graph = "g (string[2] x, float[2] z) => (string[2] y, float[2] w) {y = Identity(x) w = Neg(z)}"
    named = source(graph, tmp_path)
    result, staging = bundled(tiny_job(named, **ORIGINAL), Path(named["onnx"]))
    assert result.error is None
    folder = staging / "bundle"
    run = [sys.executable, str(folder / "check.py")]
    assert subprocess.run(run, capture_output=True, check=False).returncode == 0
    # A file that gives other strings.
    swapped = source(graph.replace("Identity(x)", "StringConcat(x, x)"), tmp_path, "other")
    (folder / "model.onnx").write_bytes(Path(swapped["onnx"]).read_bytes())
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "test_data_set_0: y" in done.stderr


def test_bfloat16_has_no_bundle(tiny_job: Convert, tmp_path: Path) -> None:
    named = source(SQUARE % "1.0", tmp_path)
    result, _ = bundled(tiny_job(named, **ORIGINAL), Path(named["onnx"]))
    assert result.error.code is Code.OUTPUT_STRUCTURE
    assert "takes or gives bfloat16" in result.error.message
    assert result.error.hint == "hand on the file alone"


# Complex numbers


@pytest.mark.parametrize(
    ("name", "named", "pairs"),
    [
        ("Rotated", {"z": {"shape": [3, 5, 2]}, "x": {"shape": [3, 5]}}, ["z"]),
        ("Spectrum", {"x": {"shape": [3, 16]}}, []),
        ("Short", {"x": {"shape": [2, 64]}}, []),
        ("Back", {"z": {"shape": [3, 9, 2]}}, ["z"]),
    ],
)
def test_complex_numbers_are_pairs_of_reals(
    convert: Convert, name: str, named: dict[str, Any], pairs: list[str]
) -> None:
    options = {"inputs": named, "complex": "pairs", "complex_inputs": pairs}
    axes = {key: {0: "batch"} for key in named}
    done = convert(**narrow(name, **options, dynamic_axes=axes))
    assert done.code is None, done.result.error
    assert {tensor.dtype for tensor in (*done.onnx.inputs, *done.onnx.outputs)} == {"float32"}
    first = np.random.default_rng(1).standard_normal((4, *next(iter(named.values()))["shape"][1:]))
    if name == "Spectrum":  # an oracle of its own
        wanted = np.fft.rfft(first)
        found = done.run(x=first)
        assert np.allclose(found[..., 0] + 1j * found[..., 1], wanted, atol=1e-4)
    if name == "Back":
        assert np.allclose(done.run(z=first), np.fft.irfft(first[..., 0] + 1j * first[..., 1]),
                           atol=1e-5)  # fmt: skip


def test_real_samples_of_dtypes_that_numpy_files_lack(convert: Convert, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "z").mkdir()
    values = rng.standard_normal((3, 9)) + 1j * rng.standard_normal((3, 9))
    np.savez(tmp_path / "z/0.npz", z=values.astype(np.complex64))
    (tmp_path / "x").mkdir()
    np.savez(tmp_path / "x/0.npz", x=rng.standard_normal((4, 8)).astype(np.float32))
    inputs = {"z": {"shape": [3, 9, 2]}}
    options = {"inputs": inputs, "complex": "pairs", "complex_inputs": ["z"]}
    for name, keys in (("Back", options), ("Between", {"inputs": of("bfloat16")})):
        folder = tmp_path / ("z" if name == "Back" else "x")
        done = convert(**narrow(name, **keys, data={"path": str(folder)}))
        assert done.code is None, done.result.error
        labels = [case.label for case in done.result.verify.cases]
        assert any(label.startswith("data 0") for label in labels)


def test_complex_numbers_out_of_a_file(tmp_path: Path) -> None:
    values = np.array([[1 + 2j, 3], [4j, 5]], np.complex64)
    np.save(tmp_path / "z.npy", values)
    keys = {"shape": [2, 2, 2], "path": str(tmp_path / "z.npy")}
    found = inputs.draw("z", InputSpec.model_validate(keys), seed=0)
    assert found.dtype == np.float32
    assert np.array_equal(found[..., 0] + 1j * found[..., 1], values)


def test_the_torchscript_exporter_has_no_complex_numbers(convert: Convert) -> None:
    options = {"inputs": {"x": {"shape": [3, 16]}}, "complex": "pairs"}
    error = convert(**narrow("Spectrum", "torchscript", **options)).result.error
    assert (error.stage, error.code) == ("export", Code.EXPORT_UNSUPPORTED)
    assert error.hint.endswith("try exporter: dynamo")


def test_a_complex_output_names_the_key(convert: Convert) -> None:
    error = convert("Spectrum", exporters=["dynamo"], opset=18).result.error
    assert (error.stage, error.code) == ("reference", Code.OUTPUT_STRUCTURE)
    assert "is complex64: no file has complex outputs" in error.message
    assert "complex: pairs" in error.hint
    assert convert("SpectrumPairs", exporters=["dynamo"], opset=18).code is None
    done = convert("Spectrum", exporters=["dynamo"], opset=18, complex="pairs")
    assert done.onnx.outputs[0].shape == [2, done.onnx.outputs[0].shape[1], 2]
