"""The examples run as their pages say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e

EXAMPLES = REPOSITORY / "examples"


def python(*words: str | Path, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def converted(example: str, model: str, cwd: Path) -> Path:
    """The file of an example's experiment."""
    words = ["--config-dir", EXAMPLES / example, f"+experiment={example}", "hydra.run.dir=run"]
    assert "1 model: 1 ok" in python("-m", "converter", *words, cwd=cwd)
    return cwd / "run" / "models" / model / f"{model}.onnx"


@pytest.fixture(scope="module")
def enlarging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("super_resolution")
    return converted("super_resolution", "super_resolution", folder)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of pictures 0…255, in dB."""
    error = np.square(one.astype(np.float64) - other.astype(np.float64)).mean()
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("size", [None, (51, 37)])
def test_a_picture_is_enlarged_as_pytorch_does(
    enlarging: Path, tmp_path: Path, size: tuple[int, int] | None
) -> None:
    import torch

    from registry import srcnn

    picture = Image.open(EXAMPLES / "super_resolution" / "picture.png")
    picture = picture.resize(size) if size else picture
    picture.save(tmp_path / "in.png")
    script = EXAMPLES / "super_resolution" / "upscale.py"
    python(script, enlarging, "in.png", "out.png", cwd=tmp_path)
    made = Image.open(tmp_path / "out.png")
    assert made.size == (3 * picture.width, 3 * picture.height)
    model = srcnn.build().eval()
    state = torch.load(REPOSITORY / "registry" / "data" / "srcnn_x3.pth")["state_dict"]
    model.load_state_dict({k.removeprefix("generator."): v for k, v in state.items()})
    pixels = torch.tensor(np.asarray(picture), dtype=torch.float32) / 255
    with torch.no_grad():
        wanted = model(pixels.permute(2, 0, 1)[None])[0].permute(1, 2, 0).clamp(0, 1) * 255
    assert psnr(np.asarray(made), wanted.round().numpy()) > 60
    # It is the picture, and not just any.
    plain = np.asarray(picture.resize(made.size, Image.Resampling.BICUBIC))
    assert psnr(np.asarray(made), plain) > 12


def test_the_picture_is_the_one_that_is_drawn(tmp_path: Path) -> None:
    picture = EXAMPLES / "super_resolution" / "picture.png"
    assert picture.stat().st_size < 30_000
    python(EXAMPLES / "super_resolution" / "draw.py", "drawn.png", cwd=tmp_path)
    # Another Pillow may round an edge otherwise.
    drawn = np.asarray(Image.open(tmp_path / "drawn.png"))
    assert psnr(drawn, np.asarray(Image.open(picture))) > 40


def test_a_model_of_a_collection_is_verified_and_compared_with_its_data(tmp_path: Path) -> None:
    """A folder as an archive of onnx/models unpacks."""
    data = tmp_path / "net" / "test_data_set_0"
    data.mkdir(parents=True)
    python(
        "-m", "converter", "convert", "simple_cnn", "-o", "net/model.onnx", "simplify=false",
        cwd=tmp_path,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "net" / "model.onnx")
    (taken,) = session.get_inputs()
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    for name, array in (("input_0", x), ("output_0", session.run(None, {taken.name: x})[0])):
        (data / f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    file = converted("onnx_models", "net", tmp_path)
    script = EXAMPLES / "onnx_models" / "compare.py"
    assert "test_data_set_0: equal" in python(script, file, "net", cwd=tmp_path)
    model = onnx.load(file)
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
    onnx.save_model(model, tmp_path / "damaged.onnx")
    said = python(script, "damaged.onnx", "net", cwd=tmp_path, code=1)
    assert "test_data_set_0: outputs differ" in said


def test_a_pointer_of_git_lfs_is_told(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    (tmp_path / "net" / "model.onnx").write_text(pointer)
    words = ["--config-dir", EXAMPLES / "onnx_models", "+experiment=onnx_models"]
    said = python("-m", "converter", *words, cwd=tmp_path, code=1)
    assert "It is a pointer of Git LFS: run git lfs pull in its repository." in said
