"""The files of ncnn, read without ncnn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converter.plugins.providers import _ncnn_files as files

CONV = "Convolution c 1 1 in0 1 0=2 1=1 5=1 6=4"
NET = f"7767517\n3 3\nInput in0 0 1 in0\n{CONV}\nReLU r 1 1 1 out0\n"
WEIGHTS = np.arange(4, dtype=np.float32)
BIAS = np.array([5.0, 6.0], np.float32)
TAG, HALF = bytes(4), (0x01306B47).to_bytes(4, "little")
WHOLE = TAG + WEIGHTS.tobytes() + BIAS.tobytes()


def weights_of(folder: Path, param: str, held: bytes) -> list[files.Weight]:
    path = folder / "net.bin"
    path.write_bytes(held)
    return files.read_weights(path, files.parse_param(param))


def one(line: str) -> str:
    return f"7767517\n1 1\n{line}\n"


def test_layers_with_their_blobs_and_parameters() -> None:
    _, conv, relu = files.parse_param(NET)
    assert (conv.type, conv.name, conv.inputs, conv.outputs) == (
        "Convolution", "c", ("in0",), ("1",),
    )  # fmt: skip
    assert (conv.integer(6), conv.integer(8), conv.integer(11, 7)) == (4, 0, 7)
    assert relu.parameters == {}


def test_an_array_has_its_values_without_their_number() -> None:
    (layer,) = files.parse_param(one("Input in0 0 1 in0 -23309=3,1,2,4"))
    assert layer.parameters == {9: "1,2,4"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1 is not 7767517"),
        (NET.replace("7767517", "7767516"), "line 1 is not 7767517"),
        (NET.replace("3 3", "3"), "line 2"),
        (NET.replace("3 3", "4 3"), "says 4 layers and has 3"),
        (NET.replace("3 3", "3 2"), "says 2 blobs and has 3"),
        (NET.replace("1 1 in0 1 0", "1 1 in1 1 0"), "c reads in1, which no layer made"),
        (NET.replace("ReLU r 1 1 1 out0", "ReLU r 1 2 1 out0"), "names fewer blobs"),
        (NET.replace("ReLU r 1 1", "ReLU r one 1"), "line 5 is no layer"),
        (NET.replace("0=2", "0:2"), "0:2 is no parameter"),
        (NET.replace("0=2", "32=2"), "there is no parameter 32"),
    ],
)
def test_what_is_no_param_is_told_with_its_line(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        files.parse_param(text)


def test_weights_are_read_to_the_end(tmp_path: Path) -> None:
    weight, bias = weights_of(tmp_path, NET, WHOLE)
    assert (weight.layer, weight.role, weight.tagged, bias.tagged) == ("c", "weight", True, False)
    np.testing.assert_array_equal(weight.values, WEIGHTS)
    np.testing.assert_array_equal(bias.values, BIAS)


def test_half_weights_fill_up_to_four_bytes(tmp_path: Path) -> None:
    values = np.arange(3, dtype=np.float16)
    held = HALF + values.tobytes() + bytes(2) + BIAS.tobytes()
    weight, bias = weights_of(tmp_path, NET.replace("6=4", "6=3"), held)
    assert weight.values.dtype == np.float16
    np.testing.assert_array_equal(weight.values, values)
    np.testing.assert_array_equal(bias.values, BIAS)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (WHOLE[:-4], "end in layer c: bias needs 4 bytes more"),
        (WHOLE[:8], "end in layer c: weight needs 12 bytes more"),
        (WHOLE + bytes(4), "has 32 bytes, and its layers read 28"),
        (b"abcd" + WHOLE[4:], "weight begins with the unknown tag"),
    ],
)
def test_weights_that_do_not_fit_the_layers(tmp_path: Path, held: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        weights_of(tmp_path, NET, held)


def test_int8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="c has int8 weights"):
        weights_of(tmp_path, NET.replace("6=4", "6=4 8=2"), WHOLE)


COUNTS: list[tuple[str, list[int]]] = [
    ("Convolution c 1 1 a b 0=2 6=4 19=1", []),
    ("DeconvolutionDepthWise c 1 1 a b 0=2 5=1 6=8 7=2", [8, 2]),
    ("Deconvolution c 1 1 a b 0=2 6=8 28=1", []),
    ("InnerProduct f 1 1 a b 0=3 1=1 2=12", [12, 3]),
    ("Embed e 1 1 a b 0=6 1=10 2=0 3=60", [60]),
    ("Gemm g 1 1 a b 3=1 5=1 6=1 8=3 9=4 10=4", [12, 3]),
    ("Gemm g 2 1 a a b", []),
    ("BatchNorm n 1 1 a b 0=5", [5, 5, 5, 5]),
    ("GroupNorm n 1 1 a b 0=2 1=4", [4, 4]),
    ("LayerNorm n 1 1 a b 0=8 2=1", [8, 8]),
    ("RMSNorm n 1 1 a b 0=8", [8]),
    ("InstanceNorm n 1 1 a b 0=8 2=0", []),
    ("LSTM l 1 1 a b 0=3 1=48", [48, 12, 36]),
    ("LSTM l 1 1 a b 0=2 1=48 3=3", [48, 12, 24, 6]),
    ("GRU l 1 1 a b 0=3 1=72 2=2", [72, 24, 54]),
    ("MultiHeadAttention m 1 1 a b 0=4 1=2 2=16", [16, 4, 16, 4, 16, 4, 16, 4]),
    ("MemoryData m 0 1 b 0=3 1=2", [6]),
    ("Scale s 1 1 a b 0=3 1=1", [3, 3]),
    ("Scale s 2 1 a a b 0=-233", []),
    ("PReLU p 1 1 a b 0=4", [4]),
    ("Padding p 1 1 a b 6=3", [3]),
    ("Pooling p 1 1 a b 0=1", []),
]


@pytest.mark.parametrize(("line", "counts"), COUNTS, ids=[line for line, _ in COUNTS])
def test_what_layers_read(tmp_path: Path, line: str, counts: list[int]) -> None:
    words = line.split()
    first = "" if words[2] == "0" else "Input a 0 1 a\n"
    param = f"7767517\n{2 if first else 1} {2 if first else 1}\n{first}{line}\n"
    # Zeros are a tag as well as a value: any file of zeros that is long enough will do.
    layers = files.parse_param(param)
    reads = files._reads(layers[-1])
    assert [count for _, count, _ in reads] == counts
    size = sum(4 * count + 4 * tagged for _, count, tagged in reads)
    assert len(weights_of(tmp_path, param, bytes(size))) == len(counts)


def test_the_binding_survives_its_file(tmp_path: Path) -> None:
    binding = files.Binding(
        (files.Tensor("x", "in0", 0, "float32"),),
        (files.Tensor("y", "out0", None, "float32"),),
        {"x": [1, 3]},
    )
    path = tmp_path / "net.json"
    path.write_text(binding.text())
    assert files.read_binding(path) == binding


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"blob"', '"bulb"'),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text[:-10],
        lambda text: text.replace("float32", "bool"),
        lambda text: "[]",
    ],
)
def test_what_is_no_binding_is_refused(tmp_path: Path, change: Callable[[str], str]) -> None:
    path = tmp_path / "net.json"
    path.write_text(change(files.Binding((files.Tensor("x", "in0", 0, "float32"),), ()).text()))
    with pytest.raises(ValueError, match=r"net\.json"):
        files.read_binding(path)
