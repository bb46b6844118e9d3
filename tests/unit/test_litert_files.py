"""What is read of LiteRT's files, and told of the Python that has it, without either."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.model.errors import Code, StageError
from converter.plugins.providers import litert as runtime

DATA = Path(__file__).resolve().parents[1] / "data/litert"


def python(folder: Path, text: str) -> str:
    """A program that stands for the other Python."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def test_the_types_of_weights_are_read_from_the_file() -> None:
    """Six weights and two biases, of which the float16 file keeps none in float32."""
    assert runtime.weights((DATA / "tiny.tflite").read_bytes())[0] == 8
    assert runtime.weights((DATA / "tiny.fp16.tflite").read_bytes())[1] == 8


@pytest.mark.parametrize("name", ["tiny.tflite", "tiny.fp16.tflite"])
def test_a_file_is_of_one_precision(name: str) -> None:
    right, wrong = ("float16", "float32") if "fp16" in name else ("float32", "float16")
    assert runtime.check(DATA / name, DATA, right).precision_weights == 1.0
    with pytest.raises(StageError, match=f"only 0% of the elements .* are {wrong}") as caught:
        runtime.check(DATA / name, DATA, wrong)
    assert caught.value.code is Code.PRECISION_NOT_REACHED


@pytest.mark.parametrize("content", [b"", b"not a file of LiteRT", b"\x1c\0\0\0TFL3"])
def test_what_is_no_file_of_litert_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(content)
    with pytest.raises(StageError, match=r"m\.tflite is no file of LiteRT") as caught:
        runtime.check(file, file, "float32")
    assert caught.value.code is Code.CHECKER


@pytest.mark.parametrize("left", range(8, 600, 37))
def test_a_file_that_ends_too_early_never_passes_for_a_crash(tmp_path: Path, left: int) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes((DATA / "tiny.tflite").read_bytes()[:left])
    with pytest.raises(StageError):
        runtime.check(file, file, "float32")


def test_each_python_without_it_is_named(tmp_path: Path) -> None:
    absent = str(tmp_path / "nowhere/python")
    said = f"LiteRT is not available: {absent} is no Python that starts"
    assert runtime.missing({"python": absent}) == said
    half = python(tmp_path, """echo '{"ai-edge-litert": "2.1.2"}'""")
    assert runtime.missing({"python": half}) == f"LiteRT is not installed: {half} has no onnx2tf"
    assert runtime.versions({"python": half}) == "ai-edge-litert 2.1.2"
    assert runtime.decided_by({"python": half}) == {"ai-edge-litert": "2.1.2"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("""echo '{"error": "no Einsum"}'; exit 1""", "onnx2tf: no Einsum"),
        ("exit 0", "onnx2tf ended with code 0; the log has what it said"),
        ("kill -SEGV $$", "onnx2tf ended with signal 11"),
        ("echo text", "onnx2tf ended with code 0"),
    ],
)
def test_however_the_conversion_ends_it_is_a_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        runtime.convert({}, python(tmp_path, text), tmp_path)
