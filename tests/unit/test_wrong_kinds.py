"""A value of the wrong kind is refused by the name of its key, at every key of the schema."""

from __future__ import annotations

import pytest

from converter.config.validation import parse
from converter.model.errors import ConfigError
from converter.schemas import configuration
from tests.wrong_kinds import Wrong, wrong_kinds

WRONG = wrong_kinds(configuration.schemas(built_in=True)["experiment"])


def test_every_key_of_a_model_and_of_a_run_is_tried() -> None:
    tried = {wrong.key for wrong in WRONG}
    assert {"opset", "models", "models.free.inputs.free.shape.0", "verify.rtol"} <= tried
    assert {"models.free.variants.free.keep_io_types", "simplifier.skipped_optimizers.0"} <= tried
    assert len(WRONG) > 600


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_value_of_the_wrong_kind_is_told_with_its_key(wrong: Wrong) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(wrong.config)
    # A list of names stands for a mapping, which has no such item.
    key = "variant" if wrong.key == "variant.0" else wrong.key
    # The options of the only layout are told without its number, however it was written.
    keys = {key, key.replace("publish_to.0.", "publish_to.")}
    assert [problem.key for problem in caught.value.problems] in [[key] for key in keys]
