"""An input that no machine holds is refused by its name, before NumPy is asked for it."""

from __future__ import annotations

import pytest

from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec
from converter.worker.inputs.inputs import draw


@pytest.mark.parametrize("shape", [[1 << 40], [1 << 62, 8]])
def test_it_is_named_with_what_it_takes(shape: list[int]) -> None:
    spec = InputSpec.model_validate({"shape": shape, "dtype": "int64"})
    with pytest.raises(StageError) as caught:
        draw("ids", spec, seed=0, sample=0)
    assert caught.value.code is Code.MEM_LIMIT
    sizes = "×".join(map(str, shape))
    assert caught.value.message.startswith(f"input ids of {sizes} int64 takes ")
    assert caught.value.hint == "correct the shape of ids"
