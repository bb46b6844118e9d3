"""Every provider in the folder keeps the contract; none falls back in silence."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state
from provider_contract import (
    ProviderContract,
    RunnableContract,
    RuntimeContract,
    SessionContract,
    X,
    doubling,
)

from converter.model.errors import Code, StageError
from converter.plugins import loader
from converter.plugins.variants import Given
from converter.worker.onnxfile import structure
from converter.worker.runtime import starting
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors

pytestmark = pytest.mark.integration

BLOBS = ("in0", "out0")


class TestCpu(ProviderContract, SessionContract):
    name = "cpu"


class TestCuda(ProviderContract):
    name = "cuda"


@pytest.mark.gpu
class TestCudaSessions(SessionContract):
    name = "cuda"


class TestTensorrtEp(ProviderContract):
    name = "tensorrt_ep"


@pytest.mark.gpu
@pytest.mark.skipif(not importlib.util.find_spec("tensorrt"), reason="tensorrt is not installed")
class TestTensorrtSessions(SessionContract):
    name = "tensorrt_ep"


class TestTensorrt(RuntimeContract):
    name = "tensorrt"
    modules = ("tensorrt",)


@pytest.mark.gpu
@pytest.mark.skipif(not importlib.util.find_spec("tensorrt"), reason="tensorrt is not installed")
class TestTensorrtEngines(RunnableContract):
    name = "tensorrt"

    def written(self, folder: Path) -> Path:
        from converter.plugins.variants import tensorrt

        source, target = folder / "doubling.onnx", folder / "doubling.engine"
        source.write_bytes(doubling())
        interface = structure.interface(onnx.load(source))
        cases = [{"x": np.ones((n, 3), np.float32)} for n in (2, 1, 4)]
        unused: Any = None
        given = Given(interface, cases, {}, unused, False, False, unused)
        tensorrt.derive(source, target, tensorrt.Options(), given)
        return target


class TestLitert(RuntimeContract):
    name = "litert"
    # In another Python: its absence is tested in `tests/unit/test_litert_files.py`.
    modules = ()


@pytest.mark.skipif(not os.environ.get("LITERT_PYTHON"), reason="LITERT_PYTHON names no Python")
class TestLitertFiles(RunnableContract):
    """Run as ``LITERT_PYTHON=/opt/litert/bin/python python -m pytest …``."""

    name = "litert"
    stated: ClassVar = {"litert": {"python": os.environ.get("LITERT_PYTHON", "")}}

    def written(self, folder: Path) -> Path:
        from converter.plugins.variants import litert

        source, target = folder / "doubling.onnx", folder / "doubling.tflite"
        source.write_bytes(doubling())
        interface = structure.interface(onnx.load(source))
        cases = [{"x": X}]
        unused: Any = None
        given = Given(
            interface, cases, {}, unused, False, False, unused, runtime=self.stated["litert"]
        )
        litert.derive(source, target, litert.Options(), given)
        # onnx2tf writes over its input: it must have been given a copy.
        assert source.read_bytes() == doubling()
        return target


class TestOpenvinoEp(ProviderContract):
    name = "openvino_ep"


@pytest.mark.skipif(
    "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="onnxruntime-openvino is not installed",
)
class TestOpenvinoSessions(SessionContract):
    name = "openvino_ep"


class TestOpenvino(RuntimeContract):
    name = "openvino"
    modules = ("openvino",)


@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is not installed")
class TestOpenvinoFiles(RunnableContract):
    name = "openvino"


class TestNcnn(RuntimeContract):
    name = "ncnn"
    modules = ("ncnn",)


@pytest.mark.skipif(not importlib.util.find_spec("ncnn"), reason="ncnn is not installed")
class TestNcnnFiles(RunnableContract):
    name = "ncnn"

    def written(self, folder: Path) -> Path:
        file = folder / "doubling.param"
        file.write_text("7767517\n2 2\nInput a 0 1 in0\nBinaryOp b 1 1 in0 out0 0=2 1=1 2=2.0\n")
        file.with_suffix(".bin").write_bytes(b"")
        tensors = [{"blob": blob, "batch_axis": None, "dtype": "float32"} for blob in BLOBS]
        told = [{"name": name, **tensor} for name, tensor in zip("xy", tensors, strict=True)]
        binding = {"format": 1, "inputs": told[:1], "outputs": told[1:]}
        file.with_suffix(".json").write_text(json.dumps(binding))
        return file


def test_every_provider_is_under_contract() -> None:
    tested = {
        case.name for kind in (ProviderContract, RuntimeContract) for case in kind.__subclasses__()
    }
    assert tested == set(loader.names("providers"))


def has_cuda(monkeypatch: pytest.MonkeyPatch, really: bool = False) -> None:
    """A build with CUDA's provider, whose library loads, or is looked for."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    if not really:
        monkeypatch.setattr(starting, "_missing_library", lambda provider: "")


@pytest.fixture
def dead_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime takes a provider that it cannot start with a warning, and runs on the CPU."""
    has_cuda(monkeypatch)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu(onnxruntime.InferenceSession))


def on_cpu(create: Any) -> Any:
    return lambda model, options, **_: create(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.usefixtures("dead_cuda")
def test_a_provider_that_does_not_become_active_is_no_fallback() -> None:
    with pytest.raises(StageError, match="fell back to CPUExecutionProvider") as caught:
        Session(doubling(), provider="cuda")
    assert caught.value.code is Code.EP_UNAVAILABLE
    assert "with the extra `gpu`" in caught.value.hint


def test_the_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader's own words, here of a library that is no library."""
    has_cuda(monkeypatch, really=True)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu(onnxruntime.InferenceSession))
    (tmp_path / "capi").mkdir()
    for name in ("shared", "cuda"):
        (tmp_path / f"capi/libonnxruntime_providers_{name}.so").write_text("not a library")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(StageError) as caught:
        Session(doubling(), provider="cuda")
    assert caught.value.message.endswith("libonnxruntime_providers_shared.so: file too short")


class Refusing:
    """ONNX Runtime's own session under Python's; what is not refused here, the CPU does."""

    def __init__(self, model: Any, options: Any, *, providers: Any, **words: Any) -> None:
        assert words == {"enable_fallback": False}
        if isinstance(model, str) or len(model) > self.most:
            raise state.Fail("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory")

    most = 0

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]


def test_a_provider_that_starts_with_no_model_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Refusing)
    with pytest.raises(StageError) as caught:
        Session(doubling(), provider="cuda")
    assert caught.value.code is Code.EP_UNAVAILABLE
    assert (
        caught.value.message == "CUDAExecutionProvider did not start: CUDA failure 2: out of memory"
    )


def test_a_model_that_a_live_provider_refuses_is_told_of_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    has_cuda(monkeypatch)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Refusing)
    monkeypatch.setattr(Refusing, "most", 10**6)
    with pytest.raises(StageError) as caught:
        Session(tmp_path / "large.onnx", provider="cuda")
    assert caught.value.code is Code.SESSION
    assert caught.value.message.endswith("CUDA failure 2: out of memory")


def test_a_run_that_fails_on_the_provider_is_not_run_on_the_cpu() -> None:
    """ONNX Runtime's Python layer would: it takes the outputs of another session."""
    session = Session(doubling())
    inner = session._session._sess

    class Failing:
        def run(self, *_: Any) -> None:
            raise state.EPFail("[ONNXRuntimeError] : 11 : EP_FAIL : the device is lost")

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    session._session._sess = Failing()
    session._session._providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    with pytest.raises(RuntimeErrors, match="the device is lost"):
        session.run({"x": X})


@pytest.mark.parametrize("content", [b"", b"not a model", doubling()[:-9]])
def test_a_file_that_onnx_runtime_refuses(content: bytes) -> None:
    with pytest.raises(StageError, match="ONNX Runtime cannot load the file: ") as caught:
        Session(content)
    assert caught.value.code is Code.SESSION
    assert "[ONNXRuntimeError]" not in caught.value.message
