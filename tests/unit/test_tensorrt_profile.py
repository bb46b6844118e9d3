"""What a TensorRT engine is built with, and what is read from it: all that needs no TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from converter.model.errors import Code, StageError
from converter.plugins.providers import tensorrt as runtime
from converter.plugins.variants import tensorrt
from converter.plugins.variants.tensorrt import Options, Range, profile

IMAGE = {"x": ["batch", 3, "h", 224]}
CASES = [{"x": (2, 3, 64, 224)}, {"x": (1, 3, 64, 224)}, {"x": (5, 3, 96, 224)}]


def test_a_profile_spans_the_verified_sizes_around_the_traced_ones() -> None:
    found = profile(IMAGE, CASES, {})
    assert found == {"x": Range((1, 3, 64, 224), (2, 3, 64, 224), (5, 3, 96, 224))}
    assert str(found["x"]) == "1×3×64×224 to 5×3×96×224, best at 2×3×64×224"
    assert not found["x"].is_fixed


def test_a_stated_range_takes_the_place_of_the_verified_sizes() -> None:
    found = profile(IMAGE, CASES, {"batch": [1, 8, 32]})["x"]
    assert (found.least[0], found.best[0], found.most[0]) == (1, 8, 32)
    assert (found.least[2], found.best[2], found.most[2]) == (64, 64, 96)


def test_a_fixed_input_and_a_single_number() -> None:
    found = profile({"x": [1, 4], "scale": []}, [{"x": (1, 4), "scale": ()}], {})
    assert (found["x"].is_fixed, str(found["x"])) == (True, "1×4")
    assert found["scale"] == Range((), (), ())


def test_axes_without_a_name_follow_the_cases() -> None:
    found = profile({"x": [None, "2*h"]}, [{"x": (3, 8)}, {"x": (4, 6)}], {})
    assert found["x"] == Range((3, 6), (3, 8), (4, 8))


def test_a_symbol_that_the_file_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="profile: seq is no dynamic axis; the file has: batch, h"):
        profile(IMAGE, CASES, {"seq": [1, 2, 3]})


def test_a_range_without_the_traced_size_is_refused() -> None:
    with pytest.raises(ValueError, match="profile: batch of 3 to 9 leaves out the traced 2"):
        profile(IMAGE, CASES, {"batch": [3, 4, 9]})


@pytest.mark.parametrize("sizes", [[1, 2], [4, 2, 8], [-1, 2, 3], []])
def test_three_sizes_in_order_are_needed(sizes: list[int]) -> None:
    with pytest.raises(
        ValidationError, match="batch: three sizes are needed, least, best and most"
    ):
        Options(profile={"batch": sizes})


def test_the_precision_is_that_of_the_options() -> None:
    assert tensorrt.precision(Options()) == "float32"
    assert tensorrt.precision(Options(fp16=True)) == "float16"
    assert tensorrt.keeps_io(Options(fp16=True))


def test_the_key_has_the_content_of_the_timing_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options(timing_cache="a.timing")
    assert options.timing_cache == str(tmp_path / "a.timing")
    assert tensorrt.decided_by(Options()) == {}
    assert tensorrt.decided_by(options) == {"timing_cache": "absent"}
    (tmp_path / "a.timing").write_bytes(b"one")
    first = tensorrt.decided_by(options)
    (tmp_path / "a.timing").write_bytes(b"two")
    assert first != tensorrt.decided_by(options)


def layer(kind: str, tactic: str = "sgemm", key: str = "DataType") -> dict[str, Any]:
    return {"Name": "/conv", "Outputs": [{key: kind}], "TacticName": tactic}


@pytest.mark.parametrize(
    ("layers", "precision", "share"),
    [
        ([layer("Float"), layer("Int64")], "float32", 1.0),
        ([layer("Half"), layer("Half"), layer("Float")], "float16", 0.6667),
        # TensorRT 10.
        ([layer("Row major linear FP16 format", key="Format/Datatype")], "float16", 1.0),
        ([layer("Row major linear FP32", key="Format/Datatype")], "float32", 1.0),
    ],
)
def test_an_engine_tells_what_its_layers_compute_in(
    layers: list[Any], precision: str, share: float
) -> None:
    assert runtime.judged({"Layers": layers}, precision).precision_nodes == share


@pytest.mark.parametrize(
    ("layers", "precision", "code", "words"),
    [
        ([layer("Float", "xmma_tf32f32")], "float32", Code.PRECISION_NOT_REACHED,
         "the engine is float32, but /conv computes in TF32"),
        ([layer("Half"), layer("Float")], "float32", Code.PRECISION_NOT_REACHED,
         "the engine is float32, but layers compute in float16"),
        ([layer("Float")] * 9 + [layer("Half")], "float16", Code.PRECISION_NOT_REACHED,
         "only 10% of the tensors"),
        (["/conv", "/relu"], "float32", Code.CHECKER, "does not tell what its layers"),
        ([], "float32", Code.CHECKER, "does not tell what its layers"),
    ],
)  # fmt: skip
def test_an_engine_of_another_precision_is_refused(
    layers: list[Any], precision: str, code: Code, words: str
) -> None:
    with pytest.raises(StageError, match=words) as caught:
        runtime.judged({"Layers": layers}, precision)
    assert caught.value.code is code
