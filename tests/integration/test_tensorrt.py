"""Engines of TensorRT, as far as a machine without a GPU goes: against a stand-in for its API."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from converter.layout.files import sha256
from converter.model.errors import Code, StageError
from converter.model.job import Derived, Variant
from converter.plugins.providers import tensorrt as runtime
from converter.plugins.runnable import Interface, Runnable
from converter.plugins.variants import Given
from converter.plugins.variants import tensorrt as variant
from converter.plugins.variants.tensorrt import Options
from converter.worker.onnxfile import structure
from converter.worker.pipeline import derive
from tests.integration import faked_tensorrt, jobs

pytestmark = pytest.mark.integration

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runtime, "_no_device", lambda: "")
    with faked_tensorrt.installed():
        yield


def model(operator: str = "Abs", kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    out, axes = (TensorProto.INT64, [2, "k"]) if operator == "NonZero" else (kind, ["n", 3])
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], name="/op")],
        "g",
        [value("x", kind, ["n", 3])],
        [value("y", out, axes)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def given(source: onnx.ModelProto, sizes: tuple[int, ...] = (2, 1, 5)) -> Given:
    cases = [{"x": np.ones((n, 3), np.float32)} for n in sizes]
    unused: Any = None
    return Given(structure.interface(source), cases, {}, unused, False, False, unused)


def built(folder: Path, options: Options | None = None, operator: str = "Abs") -> Path:
    source, target = folder / "m.onnx", folder / "m.tensorrt.engine"
    onnx.save(model(operator), source)
    variant.derive(source, target, options or Options(), given(model(operator)))
    return target


def opened(file: Path, interface: Interface | None = None) -> Runnable:
    asked = interface or structure.interface(model())
    return runtime.open(file, threads=1, options={}, interface=asked)


@pytest.mark.usefixtures("fake")
def test_an_engine_runs_at_every_size_of_its_profile(tmp_path: Path) -> None:
    engine = opened(built(tmp_path))
    assert (engine.provider, engine.binds) == ("TensorRT Fake GPU", True)
    assert engine.types == {"x": "tensor(float)", "y": "tensor(float)"}
    assert engine.declared() == {"x": [None, 3]}
    for n in (1, 2, 5):
        values = np.full((n, 3), -n, np.float32)
        (found,) = engine.run({"x": values})
        np.testing.assert_array_equal(found, -values)
    (first,) = engine.run({"x": X})
    engine.prepared({"x": 2 * X})()
    np.testing.assert_array_equal(first, np.abs(X))


@pytest.mark.usefixtures("fake")
def test_what_an_engine_was_not_built_for_is_refused(tmp_path: Path) -> None:
    engine = opened(built(tmp_path))
    why = "the engine was built for x of 1×3 to 5×3"
    assert (engine.refuses({"x": [3, 3]}), engine.refuses({"x": [6, 3]})) == ("", why)
    with pytest.raises(RuntimeError, match=f"TensorRT refuses x of 6×3: {why}"):
        engine.run({"x": np.ones((6, 3), np.float32)})
    with pytest.raises(RuntimeError, match=r"x is torch.float64, and the engine takes torch.floa"):
        engine.run({"x": X.astype(np.float64)})
    with pytest.raises(RuntimeError, match="the input x is missing"):
        engine.run({})


@pytest.mark.usefixtures("fake")
def test_an_output_whose_size_follows_from_values(tmp_path: Path) -> None:
    interface = structure.interface(model("NonZero"))
    engine = opened(built(tmp_path, operator="NonZero"), interface)
    for values in (X, np.zeros_like(X), np.eye(2, 3, dtype=np.float32)):
        (found,) = engine.run({"x": values})
        np.testing.assert_array_equal(found, np.array(np.nonzero(values)))


@pytest.mark.usefixtures("fake")
def test_tf32_is_off_and_the_engine_tells_what_it_computes_in(tmp_path: Path) -> None:
    file = built(tmp_path, Options(workspace_mb=64))
    config = faked_tensorrt.Builder.last
    assert config.flags == set()
    assert config.pools == {faked_tensorrt.MemoryPoolType.WORKSPACE: 64 << 20}
    assert runtime.check(file, tmp_path / "m.onnx", "float32").precision_nodes == 1.0
    with pytest.raises(StageError, match="float16") as caught:
        runtime.check(file, tmp_path / "m.onnx", "float16")
    assert caught.value.code is Code.PRECISION_NOT_REACHED


@pytest.mark.usefixtures("fake")
def test_the_timings_of_a_build_serve_the_next_one(tmp_path: Path) -> None:
    timings = built(tmp_path).with_suffix(".timing")
    assert timings.read_bytes() == b"timed on Fake GPU"
    built(tmp_path, Options(timing_cache=str(timings)))
    timings.write_bytes(b"timed on another GPU")
    with pytest.raises(ValueError, match=r"timing_cache: .* is of another GPU"):
        built(tmp_path, Options(timing_cache=str(timings)))
    with pytest.raises(ValueError, match=r"timing_cache: .*No such file"):
        built(tmp_path, Options(timing_cache=str(tmp_path / "absent")))


@pytest.mark.usefixtures("fake")
def test_what_the_parser_and_the_builder_refuse_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="TensorRT does not take the file: Refused /refused: No im"
    ):
        built(tmp_path, operator="Refused")
    onnx.save(model(), tmp_path / "m.onnx")
    wide = given(model())
    wide.cases = [{"x": np.ones((2, 4), np.float32)}]
    with pytest.raises(ValueError, match="TensorRT builds no engine: Error Code 4: static dimens"):
        variant.derive(tmp_path / "m.onnx", tmp_path / "m.engine", Options(), wide)


@pytest.mark.usefixtures("fake")
def test_an_engine_of_another_gpu_or_model_is_refused(tmp_path: Path) -> None:
    file = built(tmp_path)
    other = structure.interface(model())
    other.inputs[0] = other.inputs[0].model_copy(update={"name": "image"})
    with pytest.raises(StageError, match="has the inputs x, and not image") as caught:
        opened(file, other)
    assert caught.value.code is Code.SESSION
    file.write_bytes(b"of another version")
    with pytest.raises(StageError, match="cannot load the file: Error Code 1: Serialization"):
        opened(file)
    with pytest.raises(StageError) as caught:
        runtime.check(file, tmp_path / "m.onnx", "float32")
    assert caught.value.code is Code.CHECKER


def followed(folder: Path, **options: Any) -> Derived:
    asked = Variant(
        id="tensorrt", plugin="tensorrt", format="tensorrt", suffix=".engine",
        precision="float16" if options.get("fp16") else "float32", companions=[".timing"],
        provider="tensorrt", optional=False, cast_io=False, options=options,
    )  # fmt: skip
    return jobs.followed(
        jobs.make(folder, "Conv", inputs=jobs.IMAGE, dynamic_axes=jobs.BATCH, variants=[asked])
    )


@pytest.mark.parametrize("fp16", [False, True])
def test_an_engine_takes_the_road_of_every_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fp16: bool
) -> None:
    job = followed(tmp_path, fp16=fp16)
    monkeypatch.setattr(runtime, "_no_device", lambda: "")
    with faked_tensorrt.installed():
        done = derive.run(job, lambda news: None)
    assert done.error is None, done.error
    names = ["model.tensorrt.engine", "model.tensorrt.timing"]
    assert [part.path for part in done.files] == names
    assert done.files[0].sha256 == sha256(tmp_path / "derived" / names[0])
    assert done.verify.status == "passed"
    assert {case.provider for case in done.verify.cases} == {"TensorRT Fake GPU"}
    assert [axis.passed for axis in done.verify.dynamic] == [True]
    assert done.made is not None
    assert done.made.tools["gpu"] == "Fake GPU"
    assert done.made.notes[0].startswith("runs on Fake GPU with TensorRT 11.4.0.106 alone")
    assert done.made.notes[1].startswith("x: ")


def test_on_a_machine_without_it_the_variant_is_unavailable(tmp_path: Path) -> None:
    job = followed(tmp_path)
    with pytest.MonkeyPatch.context() as without:
        without.setitem(sys.modules, "tensorrt", None)
        done = derive.run(job, lambda news: None)
    assert done.error is not None
    assert (done.error.stage, done.error.code) == ("load", Code.EP_UNAVAILABLE)
    assert done.error.message == "TensorRT is not installed: there is no package tensorrt"
    assert done.verify.providers[0].status == "unavailable"
    assert list((tmp_path / "derived").iterdir()) == []


@pytest.mark.parametrize(
    ("version", "cuda", "driver", "devices", "words"),
    [
        ("8.6.1", "13.0", True, 1, "TensorRT 10 or later is not installed: tensorrt 8.6.1 has no"),
        ("11.4.0", None, True, 1, "is built without CUDA"),
        ("11.4.0", "13.0", False, 1, "the NVIDIA driver is not installed (no libcuda.so.1)"),
        ("11.4.0", "13.0", True, 0, "TensorRT is not available: the NVIDIA driver finds no GPU"),
        ("11.4.0", "13.0", True, 1, ""),
    ],
)
def test_each_part_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    cuda: str | None,
    driver: bool,
    devices: int,
    words: str,
) -> None:
    def load(name: str) -> Any:
        if not driver:
            raise OSError("libcuda.so.1: cannot open shared object file")
        return SimpleNamespace()

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    with faked_tensorrt.installed(version):
        assert (words in runtime.available()) if words else (runtime.available() == "")


def test_a_package_without_its_libraries_is_told_in_the_words_of_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the wheels of the bindings alone raise."""
    text = 'raise ImportError("libnvinfer.so.11: cannot open shared object file")'
    (tmp_path / "tensorrt.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    said = "TensorRT is not available: libnvinfer.so.11: cannot open shared object file"
    assert runtime.available() == said


def test_the_stand_in_has_no_name_that_tensorrt_has_not() -> None:
    """Read from tensorrt 11.4.0.106, whose bindings load over empty libraries, too."""
    package = pytest.importorskip("tensorrt", exc_type=ImportError)
    for name in faked_tensorrt.NAMES:
        kind, part = name.split(".")
        assert hasattr(getattr(package, kind), part), name
    importlib.invalidate_caches()
