"""Sample inputs: the same everywhere, other values for each name, seed and sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec
from converter.worker.inputs import inputs

pytestmark = pytest.mark.integration


def draw(name: str = "x", seed: int = 0, sample: int = 0, **spec: Any) -> Any:
    return inputs.draw(name, InputSpec(**{"shape": [4, 5], **spec}), seed=seed, sample=sample)


def test_the_same_request_gives_the_same_numbers_on_every_machine() -> None:
    np.testing.assert_array_equal(draw(), draw())
    assert draw(shape=[2]).tolist() == pytest.approx([0.2680, 0.0766], abs=1e-4)


@pytest.mark.parametrize("other", [{"name": "y"}, {"seed": 1}, {"sample": 2}])
def test_names_seeds_and_samples_have_streams_of_their_own(other: dict[str, Any]) -> None:
    assert np.abs(draw() - draw(**other)).min() > 0


@pytest.mark.parametrize("seed", range(8))
def test_normal_samples_alternate_in_the_sign_of_their_sum(seed: int) -> None:
    assert draw(seed=seed).sum() > 0 > draw(seed=seed, sample=1).sum()


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"]
)
@pytest.mark.parametrize("shape", [[], [0], [3, 2]])
def test_shape_and_dtype_are_as_asked(shape: list[int], dtype: str) -> None:
    found = draw(shape=shape, dtype=dtype)
    assert (list(found.shape), found.dtype.name) == (shape, dtype)


def test_signed_integers_include_negatives_and_unsigned_do_not() -> None:
    assert draw(shape=[1000], dtype="int32").min() == -10
    found = draw(shape=[1000], dtype="uint8")
    assert (found.min(), found.max()) == (0, 9)


def test_bounds_hold_and_the_upper_is_excluded() -> None:
    found = draw(shape=[1000], dtype="int64", low=3, high=5)
    assert set(found.tolist()) == {3, 4}
    found = draw(shape=[1000], fill="uniform", low=-2.0, high=-1.0)
    assert -2 <= found.min() < found.max() < -1


@pytest.mark.parametrize(("value", "shape"), [(2.5, [2, 2]), ([[1, 2], [3, 4]], [2, 2])])
def test_a_constant_fills_the_shape(value: Any, shape: list[int]) -> None:
    found = draw(shape=shape, fill="constant", value=value)
    np.testing.assert_array_equal(found, np.broadcast_to(np.float32(value), shape))


@pytest.mark.parametrize("value", [[1, 2, 3], "red"])
def test_a_constant_that_does_not_fit(value: Any) -> None:
    with pytest.raises(StageError, match=r"inputs\.x\.value does not fit shape \[4, 5\]") as caught:
        draw(fill="constant", value=value)
    assert caught.value.hint == "give one number, or a list of the tensor's shape"


def test_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(20, dtype=np.float32).reshape(4, 5))
    np.testing.assert_array_equal(
        draw(fill="file", path=str(tmp_path / "x.npy")), np.arange(20).reshape(4, 5)
    )


def test_an_archive_of_several_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    image = np.arange(20, dtype=np.float32).reshape(4, 5)
    np.savez(path, image=image, mask=np.zeros(3))
    with pytest.raises(StageError, match=r"holds 2 tensors by name \(image, mask\)") as caught:
        draw(fill="file", path=str(path))
    assert (caught.value.code, caught.value.hint) == (Code.FORWARD, "Say which: key: image")
    np.testing.assert_array_equal(draw(fill="file", path=str(path), key="image"), image)
    np.testing.assert_array_equal(draw("image", fill="file", path=str(path)), image)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (None, "does not exist", "the folder where the command was started"),
        (b"", "cannot be read", "expected a .npy file"),
        (b"1,2,3", "cannot be read", "expected a .npy file"),
        (np.zeros((2, 2)), r"holds float64\[2, 2\], expected float32\[4, 5\]", "make shape and"),
        (np.array([{}]), "cannot be read", "expected a .npy file"),  # would unpickle
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, content: Any, message: str, hint: str) -> None:
    path = tmp_path / "x.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(StageError, match=message) as caught:
        draw(fill="file", path=str(path))
    assert caught.value.code is Code.FORWARD
    assert hint in caught.value.hint
    assert str(path) in caught.value.message
