"""Options that several variants have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from converter.model.base import Frozen
from converter.plugins.variants import _processor


class Reduced(Frozen):
    """What a conversion to 16 bits may be told.

    Attributes:
        keep_io_types: inputs and outputs stay float32; else they are of 16 bits too.
        op_block_list: operators that compute in float32. Example:
            ``[LayerNormalization, "com.microsoft::Gelu"]``.
        node_block_list: nodes that compute in float32, by name. Example: ``[/head/MatMul]``.
    """

    keep_io_types: bool = True
    op_block_list: list[str] = Field(default_factory=list)
    node_block_list: list[str] = Field(default_factory=list)


class Searched(Frozen):
    """What a quantiser may be told whose nodes go back to float32 where the accuracy falls short.

    Attributes:
        node_block_list: nodes that stay in float32, by name. Example: ``[/head/MatMul]``.
        fallback_tries: how many files may be made to find nodes that have to stay in float32 where
            the accuracy falls short, and as many to try them together; 0: none.
    """

    node_block_list: list[str] = Field(default_factory=list)
    fallback_tries: Annotated[int, Field(ge=0, le=100)] = 12


class InEightBits(Searched):
    """What ONNX Runtime's quantisers may be told.

    Attributes:
        op_types: operators that are quantised; none: those that suit the model. Example:
            ``[MatMul, Gemm]``.
        op_block_list: operators that stay in float32. Example: ``[Softmax, LayerNormalization]``.
        reduce_range: weights in 7 bits, so that sums of products do not saturate; by default where
            the processor has no VNNI; ``null``: as the processor needs it. Example: ``true``.
    """

    op_types: list[str] = Field(default_factory=list)
    op_block_list: list[str] = Field(default_factory=list)
    reduce_range: bool | None = Field(default=None, validate_default=True)

    # Where the job is planned, so that the record and the key of the store have it.
    _resolved = field_validator("reduce_range")(_processor.resolved)
