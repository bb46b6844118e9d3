"""Every execution provider in the folder keeps the contract; none falls back in silence."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from provider_contract import ProviderContract, doubling

from converter import plugins
from converter.errors import Code, StageError
from converter.worker.session import Session

pytestmark = pytest.mark.integration


class TestCpu(ProviderContract):
    name = "cpu"


class TestCuda(ProviderContract):
    name = "cuda"


class TestTensorrt(ProviderContract):
    name = "tensorrt"


class TestOpenvino(ProviderContract):
    name = "openvino"


def test_every_provider_is_under_contract() -> None:
    tested = {case.name for case in ProviderContract.__subclasses__()}
    assert tested == set(plugins.names("providers"))


@pytest.fixture
def dead_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime takes a provider that it cannot start with a warning, and runs on the CPU."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    create = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers: create(
            model, options, providers=["CPUExecutionProvider"]
        ),
    )


@pytest.mark.usefixtures("dead_cuda")
def test_a_provider_that_does_not_become_active_is_no_fallback() -> None:
    with pytest.raises(StageError, match="fell back to CPUExecutionProvider") as caught:
        Session(doubling(), provider="cuda")
    assert caught.value.code is Code.EP_UNAVAILABLE
    assert "install the extra `gpu`" in caught.value.hint


@pytest.mark.usefixtures("dead_cuda")
def test_the_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader's own words, here of a library that is no library."""
    (tmp_path / "capi").mkdir()
    for name in ("shared", "cuda"):
        (tmp_path / f"capi/libonnxruntime_providers_{name}.so").write_text("not a library")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(StageError) as caught:
        Session(doubling(), provider="cuda")
    assert caught.value.message.endswith("libonnxruntime_providers_shared.so: file too short")


@pytest.mark.parametrize("content", [b"", b"not a model", doubling()[:-9]])
def test_a_file_that_onnx_runtime_refuses(content: bytes) -> None:
    with pytest.raises(StageError, match="ONNX Runtime cannot load the file: ") as caught:
        Session(content)
    assert caught.value.code is Code.SESSION
    assert "[ONNXRuntimeError]" not in caught.value.message
