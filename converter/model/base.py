"""What the types of configurations, jobs and records have in common."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from converter.model import urls

Dtype = Literal[
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool",
    "bfloat16", "float8_e4m3fn", "float8_e5m2", "string", "complex64",
]  # fmt: skip
Training = Literal["eval", "train"]
Pass = Literal["position", "keyword"]
Device = Literal["auto", "cpu", "cuda"]
Opset = Annotated[int, Field(ge=7, le=25, description="ONNX opset of the default domain")]
Tolerance = Annotated[float, Field(ge=0)]
Dim = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1, max_length=urls.LONGEST)]
"""A name, a path, a line: what is longer is none."""

PathText = Annotated[Text, AfterValidator(urls.one_line)]
"""A file, a folder, a glob or a URL."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=1)]
Bound = float | list[float]
"""One number, or one for each entry of the last axis."""
Reference = Annotated[str, Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$")]
"""``module:NAME``."""


class Frozen(BaseModel):
    """Base of all configuration and job types: immutable, closed, finite numbers only."""

    # By name as well: `_target_` is dumped as `target`, and a job must survive JSON.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True, strict=True
    )

    def __deepcopy__(self, memo: dict[int, object] | None = None) -> Self:
        """Itself: pydantic would copy each default of this kind whenever it stands for a value."""
        return self
