"""The weights of an OpenVINO IR are those of the ONNX file: what is damage, and what is none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from converter.model.errors import Code, StageError

pytestmark = pytest.mark.integration
openvino: Any = pytest.importorskip("openvino")

# After the package is known to be there.
from converter.plugins.providers import _openvino, _openvino_ir  # noqa: E402
from converter.plugins.providers._openvino_ir import Constant, Matched  # noqa: E402


class Attention(nn.Module):
    """Weights that are renamed and transposed on the way: one block of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embedding = nn.Embedding(11, 8)

    def forward(self, x: torch.Tensor) -> Any:
        return self.block(x + self.embedding.weight[:4])


class Recurrent(nn.Module):
    """OpenVINO has the gates of recurrent networks in another order than ONNX."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(8, 6, 2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)[0]


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), nn.GELU(), nn.PReLU())

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "attention": Attention,
    "convolution": Convolution,
    "gru": lambda: Recurrent(nn.GRU),
    "lstm": lambda: Recurrent(nn.LSTM),
}
DAMAGES: dict[str, Callable[[Any], Any]] = {
    "negated": lambda weight: -weight,
    "zeroed": np.zeros_like,
    "scaled": lambda weight: weight * weight.dtype.type(1.5),
}


@pytest.fixture(scope="module", params=MODELS)
def parent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp(request.param) / "model.onnx"
    network = MODELS[request.param]().eval()
    with torch.no_grad():
        for buffer in network.buffers():
            if buffer.dtype.is_floating_point:
                buffer.add_(0.25)
    with warnings.catch_warnings():
        # That this exporter is an old one, and what tracing says of sizes that are fixed here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.randn(2, 4, 8),), file, dynamo=False, opset_version=17,
            input_names=["x"],
        )  # fmt: skip
    return file


def written(parent: Path, compress: bool) -> Path:
    file = parent.with_name(f"{'half' if compress else 'full'}.xml")
    read = _openvino.core().read_model(str(parent))
    openvino.save_model(read, str(file), compress_to_fp16=compress)
    return file


def damaged(file: Path) -> Iterator[tuple[str, Path]]:
    """Copies with one weight that is another, which holds more than one number."""
    weights = [item for item in _openvino_ir.read(file) if item.kind in ("f32", "f16")]
    data = file.with_suffix(".bin").read_bytes()
    copy = file.with_name("damaged.xml")
    copy.write_bytes(file.read_bytes())
    for item in weights:
        assert item.values is not None
        held = item.values.tobytes()
        end = item.start + len(held)
        for how, damage in DAMAGES.items():
            other = damage(item.values)
            # Zeros are the same after each of them.
            if item.size > 1 and not np.array_equal(other, item.values):
                changed = data[: item.start] + other.tobytes() + data[end:]
                copy.with_suffix(".bin").write_bytes(changed)
                yield f"{item.name} {how}", copy


@pytest.mark.parametrize(("compress", "precision"), [(False, "float32"), (True, "float16")])
def test_sound_weights_are_right_and_damaged_ones_are_not(
    parent: Path, compress: bool, precision: str
) -> None:
    file = written(parent, compress)
    # An epsilon of 1e-5 is no number of float16, and stays.
    assert (_openvino_ir.check(file, parent, precision).precision_weights or 0) > 0.98
    found = {what: noticed(copy, parent, precision) for what, copy in damaged(file)}
    assert len(found) >= 6
    assert set(found.values()) == {Code.VERIFY_VALUE}, found


def noticed(file: Path, parent: Path, precision: str) -> Code | None:
    try:
        _openvino_ir.check(file, parent, precision)
    except StageError as error:
        return error.code
    return None


def test_all_weights_are_matched(parent: Path) -> None:
    weights = dict(_openvino_ir._weights(onnx.load(parent).graph))
    found = _openvino_ir.compare(list(_openvino_ir.read(written(parent, False))), weights)
    assert isinstance(found, Matched)
    assert found.name >= 3
    assert found.own <= 2


def constant(values: Any, name: str = "w") -> Constant:
    array = np.asarray(values)
    kind = {"float32": "f32", "float16": "f16"}[array.dtype.name]
    return Constant(name, kind, array.shape, array.ravel())


WEIGHT = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 1e6]], np.float32)


@pytest.mark.parametrize(
    "item",
    [
        constant(WEIGHT),
        constant(WEIGHT.T.copy()),
        constant(WEIGHT.T.copy(), "other"),
        constant(np.minimum(WEIGHT, 65504).astype(np.float16), "w_compressed"),
        constant(np.float32(7)),
        constant(np.float32([np.nan, 1]), "v"),
    ],
)
def test_what_is_the_same_weight(item: Constant) -> None:
    weights = {"w": WEIGHT, "v": np.float32([np.nan, 1])}
    _openvino_ir.compare([item], weights)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (constant(WEIGHT[::-1].copy()), "weight 'w' holds 4 at 0, the ONNX file 1"),
        (constant(-WEIGHT.T), "weight 'w' holds -1 at 0, the ONNX file 1"),
        (constant(-WEIGHT, "other"), r"weight 'other' \[2, 3\] of the IR is none of the ONNX file"),
        (constant(np.zeros((2, 3), np.float16)), "weight 'w' holds 0 at 0, the ONNX file 1"),
    ],
)
def test_what_is_another_weight(item: Constant, said: str) -> None:
    with pytest.raises(StageError, match=said):
        _openvino_ir.compare([item], {"w": WEIGHT})
