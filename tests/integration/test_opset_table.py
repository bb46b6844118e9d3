"""The table of opsets against what the installed torch and onnxscript state themselves."""

from __future__ import annotations

import pytest

from converter.plan import opsets

pytestmark = pytest.mark.integration


def test_torchscript_does_what_torch_states() -> None:
    from torch.onnx import _constants

    stated = (_constants.ONNX_MIN_OPSET, _constants.ONNX_MAX_OPSET)
    assert opsets.span("torchscript", opsets.installed_torch()) == stated


def test_dynamo_reaches_what_onnxscript_converts_to() -> None:
    from onnxscript.version_converter import _version_converter
    from torch.onnx._internal.exporter import _constants

    low, high = opsets.span("dynamo", opsets.installed_torch())
    assert high == _version_converter.SUPPORTED_MAX_ONNX_OPSET
    # Lower ones go through the converter of onnx, which knows no bound: 16 was found by trial.
    assert low < _constants.TORCHLIB_OPSET == _version_converter.SUPPORTED_MIN_ONNX_OPSET
