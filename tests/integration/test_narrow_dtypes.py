"""Dtypes that a file, or ONNX Runtime, has no arithmetic for: refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from converter.model.errors import Code

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_the_operator_without_a_kernel_of_bfloat16_is_named(
    convert: Convert, exporter: str
) -> None:
    error = convert("BrainInside", exporters=[exporter], opset=18).result.error
    assert (error.stage, error.code) == ("check", Code.SESSION)
    assert error.message.startswith("ONNX Runtime's CPU provider has no bfloat16 kernel for Gemm")
    assert "convert the float32 module (module.float())" in error.hint


def test_a_complex_output_names_the_pairs(convert: Convert) -> None:
    error = convert("Spectrum", exporters=["dynamo"], opset=18).result.error
    assert (error.stage, error.code) == ("reference", Code.OUTPUT_STRUCTURE)
    assert "is complex64: no file has complex outputs" in error.message
    assert "torch.view_as_real(y)" in error.hint
    assert convert("SpectrumPairs", exporters=["dynamo"], opset=18).code is None
