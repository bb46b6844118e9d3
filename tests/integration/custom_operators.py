"""An operator of torch that ONNX does not have, and its ONNX forms."""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnxscript import values
from onnxscript.onnx_opset import opset18
from torch import Tensor, nn


@torch.library.custom_op("tiny_custom::inverse", mutates_args=())
def inverse(x: Tensor) -> Tensor:
    return torch.linalg.inv(x)


@inverse.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Inverting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.tiny_custom.inverse(x @ self.weight + 5 * torch.eye(3))
        return y


# onnxscript wants to know the inputs and outputs of an operator that onnx does not.
_tensor = onnx.defs.OpSchema.FormalParameter
_domain = "ai.onnx.contrib"
_schema = onnx.defs.OpSchema(
    "Inverse",
    _domain,
    1,
    inputs=[_tensor("X", "tensor(float)")],
    outputs=[_tensor("Y", "tensor(float)")],
)
_inverse = values.Op(values.Opset(_domain, 1), "Inverse", _schema)


def _written(x: Any) -> Any:
    return _inverse(x)


def _wrong(x: Any) -> Any:
    return opset18.Neg(_inverse(x))


_operator = torch.ops.tiny_custom.inverse.default
TABLE = {_operator: _written}
WRONG = {_operator: [_wrong]}
PACKET = {torch.ops.tiny_custom.inverse: _written}
NOTHING = {_operator: None}
LISTED = [_operator, _written]
