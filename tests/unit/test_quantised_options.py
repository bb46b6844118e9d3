"""Options of quantised variants: what the processor decides, and what the configuration says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml
from pydantic import ValidationError

from converter.model.batch import BatchSpec
from converter.model.spec import AccuracySpec, ModelSpec, VariantSpec
from converter.plan import variants
from converter.plugins import variants as variant_plugins
from converter.plugins.variants import _processor, int8, int8_dynamic
from converter.schemas.configuration import _of_plugins

WITH = "processor : 0\nflags : fpu sse avx2 avx512_vnni\n"
WITHOUT = "processor : 0\nflags : fpu sse avx2\n"


@pytest.mark.parametrize(
    ("said", "saturates"),
    [(WITH, False), (WITHOUT, True), (WITH + WITHOUT, True), ("", True)],
)
def test_what_a_processor_says_of_itself(said: str, saturates: bool) -> None:
    assert _processor.without_vnni(said) is saturates


@pytest.mark.parametrize("plugin", [int8, int8_dynamic])
@pytest.mark.parametrize("saturates", [True, False])
def test_the_range_follows_the_processor_unless_it_is_stated(
    plugin: object, saturates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_processor, "saturates", lambda: saturates)
    options = plugin.Options  # type: ignore[attr-defined]
    assert options().model_dump()["reduce_range"] is saturates
    assert options(reduce_range=not saturates).reduce_range is not saturates


def test_options_that_no_quantiser_has() -> None:
    with pytest.raises(ValidationError, match="calibration"):
        int8.Options.model_validate({"calibration": "mean"})
    with pytest.raises(ValidationError, match="percentile"):
        int8.Options.model_validate({"percentile": 101})


def test_thresholds_stand_beside_the_options() -> None:
    stated = VariantSpec.model_validate({"accuracy": {"sqnr_db": 20.0}, "per_channel": False})
    model = ModelSpec.model_validate({"source": {"registry": "resnet18"}})
    spec = cast("BatchSpec", SimpleNamespace(variant={"int8": stated}))
    (found,) = variants.of(spec, model)
    assert found.accuracy == AccuracySpec(sqnr_db=20.0)
    assert (found.precision, found.options["per_channel"]) == ("int8", False)


def test_a_key_of_several_plugins_is_described_for_each() -> None:
    one = {"type": "boolean", "default": True, "description": "A scale for each channel."}
    other = {"type": "boolean", "default": False, "description": "Scales of rows."}
    found = _of_plugins({"a": one, "b": other, "c": one})
    assert found == {
        "type": "boolean",
        "description": "Option of `a`, `c`: a scale for each channel; of `b`: scales of rows.",
    }


PRESETS = Path(variant_plugins.__file__).parents[3] / "configs" / "variant"


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_a_preset_states_all_options_of_its_plugin(preset: str) -> None:
    """Only a key that is there can be overridden on the command line."""
    stated = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    options = variant_plugins.load(preset).Options
    assert set(options.model_fields) == set(stated) - {"accuracy", "optional"}
    own = {key: value for key, value in stated.items() if key in options.model_fields}
    assert options.model_validate(own) == options()
