"""Operators that torch's TorchScript exporter has no ONNX form for, put together from others."""

from __future__ import annotations

from typing import Any

import torch
from torch import onnx as torch_onnx
from torch.onnx._internal.torchscript_exporter import symbolic_helper
from torch.onnx._internal.torchscript_exporter._globals import GLOBALS
from torch.onnx._internal.torchscript_exporter._type_utils import JitScalarType

_OLDEST_OPSET = 7


def register() -> None:
    """Make them known to ``torch.onnx.export(dynamo=False)``; once more does no harm."""
    torch_onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]  # exported, not listed
        "aten::rms_norm", _rms_norm, _OLDEST_OPSET
    )


@symbolic_helper.parse_args("v", "is", "v", "v")
def _rms_norm(g: Any, value: Any, normalized_shape: list[int], weight: Any, eps: Any) -> Any:
    """``x / sqrt(mean(x²) + eps) * weight`` over the last axes, as torch.nn.RMSNorm states it."""
    dtype = JitScalarType.from_value(value).dtype()
    epsilon = torch.finfo(dtype).eps
    if not symbolic_helper._is_none(eps):
        epsilon = symbolic_helper._get_const(eps, "f", "eps")  # type: ignore[no-untyped-call]
    axes = list(range(-len(normalized_shape), 0))
    squares = g.op("Mul", value, value)
    if GLOBALS.export_onnx_opset_version < 18:
        mean = g.op("ReduceMean", squares, axes_i=axes, keepdims_i=1)
    else:  # the axes became an input
        mean = g.op(
            "ReduceMean", squares, g.op("Constant", value_t=torch.tensor(axes)), keepdims_i=1
        )
    tiny = g.op("Constant", value_t=torch.tensor(epsilon, dtype=dtype))
    scaled = g.op("Div", value, g.op("Sqrt", g.op("Add", mean, tiny)))
    return scaled if symbolic_helper._is_none(weight) else g.op("Mul", scaled, weight)
