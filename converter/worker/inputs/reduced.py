"""float16 and bfloat16: what the two floats of 16 bits hold, which a float32 file is brought to.

Numbers of IEEE 754-2019 (binary16) and of bfloat16, which is float32 without its last 16 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto


@dataclass(frozen=True)
class Reduced:
    """A float of 16 bits.

    Attributes:
        name: as PyTorch, NumPy and ONNX call it.
        dtype: of arrays.
        element: ``TensorProto.DataType``; ``typed`` as schemas and ONNX Runtime write it.
        bits: of the significand, the leading one too.
        largest: its largest number.
        normal: its smallest number with all bits; ``subnormal``: the steps below that.
    """

    name: str
    dtype: np.dtype[Any]
    element: int
    bits: int
    largest: float
    normal: float
    subnormal: float

    @property
    def typed(self) -> str:
        return f"tensor({self.name})"

    @property
    def eps(self) -> float:
        """The relative distance of neighbouring numbers; rounding moves by half of it."""
        return 2.0 ** (1 - self.bits)

    @property
    def infinite(self) -> float:
        """Halfway from the largest number to what would follow it: infinity from there on."""
        return self.largest * (1 + self.eps / (2 * (2 - self.eps)))


FLOAT16 = Reduced(
    "float16", np.dtype(np.float16), TensorProto.FLOAT16, 11, 65504.0, 2.0**-14, 2.0**-24
)
BFLOAT16 = Reduced(
    "bfloat16",
    np.dtype(ml_dtypes.bfloat16),
    TensorProto.BFLOAT16,
    8,
    float.fromhex("0x1.fep127"),
    2.0**-126,
    2.0**-133,
)
REDUCED: Mapping[str, Reduced] = {kind.name: kind for kind in (FLOAT16, BFLOAT16)}
"""By the name of the precision."""
