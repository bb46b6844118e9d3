"""Inputs from files, fills with a meaning, real samples and a metric, on real files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec
from converter.worker.inputs import cases, inputs, patterns

pytestmark = pytest.mark.integration
MakeJob = Callable[..., Any]
TRUST = {"trust": ["tiny", "meanings"]}
NUMBERS = np.arange(24, dtype=np.float32).reshape(2, 4, 3)


def draw(name: str = "x", sample: int = 0, resize: bool = False, **spec: Any) -> Any:
    made = InputSpec.model_validate({"shape": [2, 4, 3], **spec})
    return inputs.draw(name, made, seed=0, sample=sample, resize=resize)


def refused(**spec: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        draw(**spec)
    assert caught.value.code is Code.FORWARD
    return caught.value


def safetensors(path: Path, dtype: str = "F32", **arrays: Any) -> None:
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def picture(path: Path, height: int = 8, width: int = 6, colour: Any = (255, 0, 51)) -> Path:
    mode = "RGB" if isinstance(colour, tuple) else "L"
    image = Image.new(mode, (width, height), colour)
    image.save(path)
    return path


# Readers


def test_tensors_of_every_kind(tmp_path: Path) -> None:
    import torch

    other = np.zeros(3, np.float32)
    np.save(tmp_path / "a.npy", NUMBERS)
    np.savez_compressed(tmp_path / "a.npz", only=NUMBERS)
    np.savez(tmp_path / "b.npz", x=NUMBERS, y=other)
    torch.save(torch.from_numpy(NUMBERS), tmp_path / "a.pt")
    torch.save({"x": torch.zeros(1), "deep": torch.from_numpy(NUMBERS)}, tmp_path / "b.pt")
    safetensors(tmp_path / "a.safetensors", only=NUMBERS)
    safetensors(tmp_path / "b.safetensors", deep=NUMBERS, other=other)
    for name, key in (
        ("a.npy", None), ("a.npz", None), ("b.npz", None), ("b.npz", "x"), ("a.pt", None),
        ("b.pt", "deep"), ("a.safetensors", None), ("b.safetensors", "deep"),
    ):  # fmt: skip
        found = draw(path=str(tmp_path / name), key=key)
        np.testing.assert_array_equal(found, NUMBERS, err_msg=name)
        # Cut along an axis that is dynamic, repeated along another one.
        other_size = draw(path=str(tmp_path / name), key=key, shape=[3, 2, 3], resize=True)
        np.testing.assert_array_equal(other_size, NUMBERS[[0, 1, 0], :2])
        other_size[:] = 0  # what was read can be written to


@pytest.mark.parametrize(
    ("name", "content", "key", "message", "hint"),
    [
        ("x.txt", b"1 2", None, "is none of the files that are read: .npy, .npz", "FOLDER/*.png"),
        ("x.npz", b"PK no", None, "x.npz cannot be read", "expected an .npz file"),
        ("x.pt", b"PK no", None, "x.pt ", ""),
        ("x.safetensors", b"\xff" * 9, None, "its header is truncated", "a safetensors file"),
        ("x.safetensors", b"", None, "its header is truncated", "a safetensors file"),
        ("x.png", b"\x89PNG\r\n\x1a\n", None, "x.png cannot be read", "the file may be truncated"),
        ("x.npy", None, None, "x.npy does not exist", "A relative path"),
    ],
)
def test_files_that_are_damaged(
    tmp_path: Path, name: str, content: bytes | None, key: str | None, message: str, hint: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    shape = [1, 3, 4, 4] if name.endswith("png") else [2, 4, 3]
    error = refused(path=str(tmp_path / name), key=key, shape=shape)
    assert message in error.message
    assert hint in error.hint


def test_a_pickle_that_wants_to_run_code_is_not_run(tmp_path: Path) -> None:
    import torch

    canary = tmp_path / "canary"

    class Opening:
        def __reduce__(self) -> Any:
            return open, (str(canary), "w")

    torch.save(Opening(), tmp_path / "x.pt")
    error = refused(path=str(tmp_path / "x.pt"))
    assert "holds more than tensors" in error.message
    assert error.hint.startswith("Save the tensor alone")
    assert not canary.exists()
    torch.save({"x": [1, 2]}, tmp_path / "y.pt")
    assert "holds 0 tensors by name" in refused(path=str(tmp_path / "y.pt")).message
    torch.save(torch.zeros(1), tmp_path / "z.pt")
    message = refused(path=str(tmp_path / "z.pt"), key="deep").message
    assert "it holds a Tensor, which has no key 'deep'" in message


def test_pictures(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "x.png"))
    found = draw(path=path, shape=[1, 3, 4, 4])
    np.testing.assert_allclose(found[0, :, 1, 2], [1, 0, 0.2])
    raw = draw(path=path, shape=[4, 4, 3], dtype="uint8", image={"layout": "hwc"})
    assert raw[1, 2].tolist() == [255, 0, 51]
    scaled = draw(path=path, shape=[3, 4, 4], image={"mean": [0.5, 0, 0], "std": [0.5, 1, 0.1]})
    np.testing.assert_allclose(scaled[:, 0, 0], [1, 0, 2], rtol=1e-6)
    gray = draw(path=path, shape=[1, 2, 2, 1], image={"layout": "nhwc"})
    assert gray.shape == (1, 2, 2, 1)
    assert 0.2 < gray.max() < 0.4


def test_a_picture_is_resized_as_stated_and_cut_for_other_sizes(tmp_path: Path) -> None:
    left = Image.new("L", (8, 4), 0)
    left.paste(255, (4, 0, 8, 4))
    left.save(tmp_path / "x.bmp")
    spec = {"path": str(tmp_path / "x.bmp"), "dtype": "uint8"}
    stretched = draw(shape=[1, 1, 4, 4], **spec)
    assert stretched[0, 0, 0].tolist()[::3] == [0, 255]
    covered = draw(shape=[1, 1, 4, 4], image={"resize": "cover"}, **spec)
    np.testing.assert_array_equal(covered[0, 0, 0], [0, 0, 255, 255])
    error = refused(shape=[1, 1, 4, 4], image={"resize": "none"}, **spec)
    assert "is 4×8 (height × width), expected 4×4" in error.message
    assert error.hint == "image.resize: stretch or cover resizes it."
    # The size that was stated stays, and the tensor is cut and repeated.
    wide = draw(shape=[1, 1, 4, 10], resize=True, image={"size": [4, 8]}, **spec)
    np.testing.assert_array_equal(wide[0, 0, 0], [0] * 4 + [255] * 4 + [0] * 2)


def test_a_picture_that_would_unpack_to_too_many_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(picture(tmp_path / "x.png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    error = refused(path=path, shape=[1, 3, 4, 4])
    assert "would unpack to too many pixels" in error.message
    assert error.hint == "Give a smaller picture."
    half = picture(tmp_path / "half.png", 64, 64).read_bytes()
    buffer = io.BytesIO(half[: len(half) // 2])
    (tmp_path / "half.png").write_bytes(buffer.getvalue())
    monkeypatch.undo()
    assert "cannot be read" in refused(path=str(tmp_path / "half.png"), shape=[3, 4, 4]).message


# Folders and globs of samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "val"
    made.mkdir()
    for number in range(4):
        np.save(made / f"s{number}.npy", NUMBERS + number)
    (made / ".hidden").write_text("not a sample")
    return made


def test_each_file_of_a_folder_is_a_case(tiny_job: MakeJob, folder: Path) -> None:
    spec = {"shape": [2, 4, 3], "path": str(folder)}
    found = cases.fixed(tiny_job("Net", inputs={"x": spec}))
    assert [case.label for case in found] == ["traced", "second", "sample s2.npy", "sample s3.npy"]
    assert [case.draw(0)["x"][0, 0, 0] for case in found] == [0, 1, 2, 3]
    globbed = cases.fixed(tiny_job("Net", inputs={"x": {**spec, "path": f"{folder}/s[13].npy"}}))
    assert [case.draw(0)["x"][0, 0, 0] for case in globbed] == [1, 3]
    job = tiny_job("Net", inputs={"x": {**spec, "limit": 3}})
    assert [case.label for case in cases.fixed(job)] == ["traced", "second", "sample s2.npy"]
    assert cases.left_out(job) == ["x: 1 more of val/ (limit 3)"]
    # Files are fed as they are.
    assert patterns.groups(job, ()) == []


def test_files_of_two_folders_are_paired(tiny_job: MakeJob, folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    # Two masks are equal: the second sample is the second of both all the same.
    for number, value in enumerate((0, 0, 2, 3)):
        np.save(masks / f"m{number}.npy", np.full((2, 4, 3), value, np.float32))
    spec = {"shape": [2, 4, 3], "path": str(folder)}
    made = {"x": spec, "y": {**spec, "path": str(masks)}}
    drawn = [case.draw(0) for case in cases.fixed(tiny_job("Two", inputs=made))]
    assert [(a["x"][0, 0, 0], a["y"][0, 0, 0]) for a in drawn] == [(0, 0), (1, 0), (2, 2), (3, 3)]
    (masks / "m3.npy").unlink()
    with pytest.raises(StageError, match=r"differ: inputs\.x\.path 4, inputs\.y\.path 3"):
        cases.fixed(tiny_job("Two", inputs=made))
    for path in masks.iterdir():
        path.unlink()
    with pytest.raises(StageError, match="holds no file"):
        cases.fixed(tiny_job("Two", inputs=made))


def test_a_batch_of_pictures_has_several(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", colour=255)
    picture(tmp_path / "b.png", colour=0)
    spec = {"path": str(tmp_path), "shape": [3, 1, 2, 2], "dtype": "uint8", "image": {}}
    assert draw(**spec)[:, 0, 0, 0].tolist() == [255, 0, 255]
    assert draw(sample=1, **spec)[:, 0, 0, 0].tolist() == [0, 255, 0]


def test_a_model_is_verified_on_pictures(convert: MakeJob, tmp_path: Path) -> None:
    from registry import FOLDER

    assert FOLDER.is_dir()
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 256, (9, 7, 3), np.uint8)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    spec = {"shape": [2, 3, 8, 8], "path": str(tmp_path), "image": {"mean": [0.5] * 3}}
    done = convert("Conv", inputs={"x": spec}, dynamic_axes={"x": {0: "batch"}})
    assert done.result.status == "ok", done.result.error
    domain = done.result.verify.domain
    assert domain is not None
    assert domain.inputs[0].patterns == [f"3 samples of {tmp_path.name}/"]
    labels = [case.label for case in done.result.verify.cases]
    assert {"traced", "second", "sample 2.png", "batch=1"} <= {*labels}


# Fills with a meaning


def rows(**spec: Any) -> Any:
    return draw(**{"shape": [6, 7], **spec})


def of_patterns(make: MakeJob, **spec: Any) -> dict[str, Any]:
    """Every pattern of an input beside another one, drawn."""
    declared = {"shape": [6, 7], **spec}
    other = {"shape": [declared["shape"][0], 9]}
    job = make("Two", inputs={"x": other, "y": declared})
    found = {}
    for group in patterns.groups(job, [3.0]):
        for name, listed in group.members.items():
            for pattern in listed if name == "y" else ():
                made = job.inputs["y"]
                found[pattern.name] = pattern.draw("y", made, seed=0, sample=1, full=9)
    return found


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32", "uint8"])
@pytest.mark.parametrize("padding", ["left", "right", None])
def test_masks_are_padded_on_one_side(tiny_job: MakeJob, padding: str | None, dtype: str) -> None:
    spec = {"fill": "mask", "padding": padding, "dtype": dtype}
    drawn = [*of_patterns(tiny_job, **spec).values(), rows(**spec), rows(sample=1, **spec)]
    for found in drawn:
        steps = np.diff(found.astype(int), axis=-1)
        assert ((steps >= 0) if padding == "left" else (steps <= 0)).all()
        assert found.astype(int).sum(-1).min() >= 1
        assert set(np.unique(found.astype(int))) <= {0, 1}
        assert found.dtype.name == dtype
    assert any(found.all() for found in drawn)
    assert len(drawn) == 6


def test_lengths_follow_the_size_of_their_axis(tiny_job: MakeJob) -> None:
    made = {"x": {"shape": [3, 8, 2]}, "y": {"shape": [3], "dtype": "int64", "fill": "lengths"}}
    job = tiny_job("Two", inputs=made, dynamic_axes={"x": {1: "t"}})
    for case in cases.fixed(job):
        lengths = case.draw(0)["y"]
        assert 1 <= lengths.min() <= lengths.max() <= 8
    listed = dict(next(iter(patterns.groups(job, ())[1].members.items()))[1][0].__dict__)
    assert listed["name"] == "all full"
    for case in list(cases.candidates(job, ["t"])):
        full = case.sizes["t"]
        assert 1 <= case.draw(0)["y"].min() <= case.draw(0)["y"].max() <= full
        at_size = patterns.groups(job, ())[1].members["y"][0]
        filled = cases.replace(case, filled={"y": at_size})
        assert filled.draw(0)["y"].tolist() == [full] * 3
    drawn = of_patterns(tiny_job, shape=[6], dtype="int32", fill="lengths", low=2)
    assert {name: (a.min(), a.max()) for name, a in drawn.items()} == {
        "all full": (9, 9), "all one": (2, 2), "mixed": (2, 9), "one full": (2, 9),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "int64", "float16"])
def test_sorted_rows_ascend_within_their_bounds(tiny_job: MakeJob, dtype: str) -> None:
    spec = {"fill": "sorted", "low": 0.0, "high": 20.0, "dtype": dtype}
    drawn = of_patterns(tiny_job, **spec)
    for found in [*drawn.values(), rows(**spec)]:
        assert (np.diff(found.astype(np.float64), axis=-1) >= 0).all()
        assert 0 <= found.min() <= found.max() < 20
    # Of seven numbers three have an equal one beside them.
    assert ((np.diff(drawn["equal neighbours"], axis=-1) == 0).sum(-1) >= 3).all()
    assert np.ptp(drawn["wide"]) > 18


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_one_hot_rows_have_a_single_one(tiny_job: MakeJob, dtype: str) -> None:
    drawn = of_patterns(tiny_job, fill="onehot", dtype=dtype)
    for found in [*drawn.values(), rows(fill="onehot", dtype=dtype)]:
        assert (found.astype(int).sum(-1) == 1).all()
    assert drawn["first"][:, 0].all()
    assert drawn["last"][:, -1].all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_probabilities_are_positive_and_sum_to_one(tiny_job: MakeJob, dtype: str) -> None:
    drawn = of_patterns(tiny_job, fill="probabilities", dtype=dtype)
    for found in [*drawn.values(), rows(fill="probabilities", dtype=dtype)]:
        np.testing.assert_allclose(found.astype(np.float64).sum(-1), 1, rtol=2e-3)
        assert (found > 0).all()
    assert drawn["nearly certain"].max() > 0.9


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_each_column_has_its_own_bounds(tiny_job: MakeJob, dtype: str) -> None:
    low, high = [18.0, 0.0, -3.0], [99.0, 2e5, 1.0]
    spec = {"shape": [5, 3], "low": low, "high": high, "dtype": dtype}
    drawn = of_patterns(tiny_job, **spec)
    for found in [*drawn.values(), rows(**spec)]:
        assert (found >= low).all()
        assert (found < high).all()
    assert drawn["low ends"][0].tolist() == low
    np.testing.assert_allclose(drawn["high ends"][0], high, atol=1.01)
    mixed = rows(**{**spec, "low": 0.0, "high": [1.0, 2.0, 3.0]})
    assert (mixed < [1, 2, 3]).all()


MEANINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "MaskedMean",
        {"x": {"shape": [4, 6, 3]}, "mask": {"shape": [4, 6], "fill": "mask", "padding": "left"}},
        {"x": {1: "t"}, "mask": {1: "t"}},
    ),
    (
        "MaskedByLength",
        {"x": {"shape": [3, 6, 3]}, "lengths": {"shape": [3], "dtype": "int64", "fill": "lengths"}},
        {"x": {0: "batch", 1: "t"}, "lengths": {0: "batch"}},
    ),
    ("Sorted", {"t": {"shape": [2, 6], "fill": "sorted"}}, {"t": {1: "n"}}),
    ("Classes", {"c": {"shape": [4, 5], "fill": "onehot", "dtype": "int64"}}, {"c": {0: "n"}}),
    ("Entropy", {"p": {"shape": [4, 5], "fill": "probabilities"}}, {"p": {1: "n"}}),
    (
        "Columns",
        {"f": {"shape": [4, 3], "low": [18.0, 0.0, 0.0], "high": [99.0, 2e5, 1.0]}},
        {"f": {0: "n"}},
    ),
]


@pytest.mark.parametrize(("source", "made", "axes"), MEANINGS, ids=[m[0] for m in MEANINGS])
def test_a_model_that_checks_its_inputs_is_verified(
    convert: MakeJob, source: str, made: Any, axes: Any
) -> None:
    """Each of these raises where it is fed what is never fed."""
    target = {"_target_": f"meanings.{source}"}
    done = convert(target, inputs=made, dynamic_axes=axes, **TRUST)
    assert done.result.status == "ok", done.result.error
    domain = done.result.verify.domain
    assert domain is not None
    # Sizes aside, nothing was tried that the model refuses.
    assert domain.dropped == []
    assert all(len(one.sizes) > 2 for one in domain.symbols)


def test_what_is_said_to_be_never_fed_is_not_tried(convert: MakeJob) -> None:
    """Right for left padding alone: with a mask of any kind the file is wrong."""
    made = {"x": {"shape": [4, 6, 3]}, "mask": {"shape": [4, 6], "dtype": "bool"}}
    target = {"_target_": "meanings.FirstKept"}
    done = convert(target, inputs=made, **TRUST)
    assert done.code is Code.VERIFY_VALUE
    made["mask"] |= {"fill": "mask", "padding": "left"}
    assert convert(target, inputs=made, **TRUST).result.status == "ok"
    made["mask"]["padding"] = "right"
    assert convert(target, inputs=made, **TRUST).code is Code.VERIFY_VALUE


# Real samples


def flatten(convert: MakeJob, source: str = "Flatten", **changes: Any) -> Any:
    made = {
        "inputs": {"x": {"shape": [2, 6, 3]}}, "dynamic_axes": {"x": {1: "t"}}, "outputs": ["y"],
    }  # fmt: skip
    return convert({"_target_": f"meanings.{source}"}, **{**made, **TRUST, **changes})


@pytest.fixture
def val(tmp_path: Path) -> Path:
    made = tmp_path / "val"
    made.mkdir()
    for number in range(3):
        x = np.random.default_rng(number).standard_normal((2, 5 + number, 3))
        np.savez(made / f"{number}.npz", x=x.astype(np.float32), label=number)
    return made


def test_real_samples_are_cases_of_their_own_sizes(convert: MakeJob, val: Path) -> None:
    done = flatten(convert, data={"path": str(val), "limit": 2})
    verify = done.result.verify
    assert done.result.status == "ok", done.result.error
    shapes = {case.label: case.shapes["x"] for case in verify.cases if "data" in case.label}
    assert shapes == {"data 0: 0.npz": [2, 5, 3], "data 1: 1.npz": [2, 6, 3]}
    assert "data: 2 samples of val/" in verify.domain.inputs[0].patterns
    assert "data: 1 more of val/ (limit 2)" in verify.domain.left_out


def test_a_function_yields_samples(convert: MakeJob) -> None:
    data = {"_target_": "meanings.samples", "count": 4, "limit": 3}
    metric = {"_target_": "meanings.agreement"}
    done = flatten(convert, data=data, metric=metric)
    verify = done.result.verify
    assert done.result.status == "ok", done.result.error
    assert "data: 3 samples of samples()" in verify.domain.inputs[0].patterns
    assert "data: more samples of samples() (limit 3)" in verify.domain.left_out
    assert verify.metric.model_dump() == {
        "name": "agreement", "samples": 3, "torch": 1.0, "onnx": 1.0, "drop": 0.0,
        "max_drop": 0.01, "passed": True,
    }  # fmt: skip


def test_a_wrong_file_shows_on_real_samples_alone(convert: MakeJob, tmp_path: Path) -> None:
    assert flatten(convert, "Bright").result.status == "ok"
    x = np.broadcast_to(np.float32([900, -900, 0]), (2, 6, 3))
    np.savez(tmp_path / "bright.npz", x=x)
    done = flatten(convert, "Bright", data={"path": str(tmp_path / "bright.npz")})
    assert done.code is Code.VERIFY_VALUE
    assert "case data 0: bright.npz (x 2×6×3)" in done.result.error.message


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros(1)}, "data 0: s.npz has no x; it holds y"),
        ({"x": np.zeros((2, 6, 3))}, "data 0: s.npz: x is float64[2, 6, 3], expected float32[2, t"),
        ({"x": np.zeros((3, 6, 3), "f4")}, "x is float32[3, 6, 3], expected float32[2, t, 3]"),
        ({"x": np.full((2, 6, 3), 99, "f4")}, "data 0: s.npz (x 2×6×3): PyTorch refuses this"),
    ],
)
def test_samples_that_do_not_fit_are_named(
    convert: MakeJob, tmp_path: Path, arrays: Any, message: str
) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    done = flatten(convert, "Choosy", data={"path": str(tmp_path)})
    assert done.code is Code.FORWARD
    assert message in done.result.error.message


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("meanings.pairs", Code.FORWARD, "data 0: meanings.pairs yields tuple; expected a mapping"),
        ("meanings.nothing", Code.FORWARD, "data: nothing() yields no sample"),
        ("meanings.gone", Code.LOAD, "meanings has no 'gone'"),
        ("os.listdir", Code.TARGET_DENIED, "_target_ 'os.listdir' is not trusted"),
    ],
)
def test_functions_that_yield_no_samples(
    convert: MakeJob, target: str, code: Code, message: str
) -> None:
    done = flatten(convert, data={"_target_": target})
    assert done.code is code
    assert message in done.result.error.message


def test_set(folder: Path, *arrays: Any, **stored: Any) -> None:
    folder.mkdir(parents=True)
    for number, array in enumerate(arrays):
        tensor = onnx.numpy_helper.from_array(array, "anything")
        (folder / f"input_{number}.pb").write_bytes(tensor.SerializeToString())
    for name, array in stored.items():
        tensor = onnx.numpy_helper.from_array(array)
        (folder / f"{name}.pb").write_bytes(tensor.SerializeToString())


test_set.__test__ = False  # type: ignore[attr-defined]


def test_folders_of_onnx_are_read(convert: MakeJob, tmp_path: Path) -> None:
    first = flatten(convert)
    x = [np.random.default_rng(n).standard_normal((2, 4 + n, 3)).astype("f4") for n in range(2)]
    outputs = [first.run(x=array) for array in x]
    test_set(tmp_path / "sets/test_data_set_0", x[0], output_0=outputs[0])
    test_set(tmp_path / "sets/test_data_set_1", x[1], output_0=outputs[1] + 1)
    source = {"onnx": str(first.path)}
    asked = {
        "inputs": {"x": {"shape": [2, 4, 3]}}, "outputs": ["y"],
        "data": {"path": str(tmp_path / "sets")},
    }  # fmt: skip
    done = convert(source, **asked)
    assert done.result.status == "ok", done.result.error
    assert "data 1: test_data_set_1" in {case.label for case in done.result.verify.cases}
    reason = str(done.result.verify.reason)
    assert "y differs from output_0.pb of data 1: test_data_set_1: by up to 1" in reason
    assert "data 0" not in reason
    (tmp_path / "sets/test_data_set_1/input_0.pb").write_bytes(b"\xff\xff")
    done = convert(source, **asked)
    assert done.code is Code.FORWARD
    assert done.result.error.hint == "expected a TensorProto, as onnx.save_tensor writes it"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"_target_": "meanings.falling"}, "falling is 1 in PyTorch and 0.5 in the file, a drop"),
        ({"_target_": "meanings.broken"}, "metric meanings.broken raised KeyError: 'label'"),
        ({"_target_": "meanings.endless"}, "metric meanings.endless returned nan"),
        ({"_target_": "meanings.agreement", "k": 1}, "meanings.agreement raised TypeError"),
    ],
)
def test_a_score_that_falls_fails_the_model(convert: MakeJob, metric: Any, message: str) -> None:
    import meanings

    meanings.Score.calls = 0
    done = flatten(convert, data={"_target_": "meanings.samples"}, metric=metric)
    assert done.code is Code.ACCURACY
    assert message in done.result.error.message
    assert done.result.verify.status == "failed"


def test_a_drop_that_is_allowed_is_recorded(convert: MakeJob) -> None:
    import meanings

    meanings.Score.calls = 0
    metric = {"_target_": "meanings.falling", "by": 0.25, "max_drop": 0.25}
    done = flatten(convert, data={"_target_": "meanings.samples"}, metric=metric)
    assert done.result.status == "ok", done.result.error
    assert done.result.verify.metric.drop == 0.25


def test_a_case_is_one_file(tiny_job: MakeJob, folder: Path) -> None:
    case = {"label": "other", "inputs": {"x": {"path": str(folder)}}}
    made = tiny_job("Net", inputs={"x": {"shape": [2, 4, 3]}}, verify={"cases": [case]})
    with pytest.raises(StageError, match=r"inputs\.x\.path .*val is no file"):
        cases.fixed(made)


def test_a_file_is_scored_again_when_it_is_verified_again(
    convert: MakeJob, tiny_job: MakeJob
) -> None:
    import meanings

    from converter.model.job import Recheck
    from converter.worker.pipeline import recheck

    metric = {"_target_": "meanings.falling", "max_drop": 1.0}
    asked = {
        "inputs": {"x": {"shape": [2, 6, 3]}}, "dynamic_axes": {"x": {1: "t"}}, "outputs": ["y"],
        "data": {"_target_": "meanings.samples"}, **TRUST,
    }  # fmt: skip
    target = {"_target_": "meanings.Flatten"}
    meanings.Score.calls = 0
    done = convert(target, metric=metric, **asked)
    assert done.result.verify.metric.drop == 0.5
    strict = tiny_job(target, metric={**metric, "max_drop": 0.1}, **asked)
    again = Recheck.model_validate({**dict(strict), "file": str(done.path)})
    found = recheck.run(again, lambda news: None)
    assert found.error is not None
    assert found.error.code is Code.ACCURACY
    assert found.verify.metric is not None
    assert not found.verify.metric.passed


def test_a_sample_that_is_not_finite_is_named(convert: MakeJob, tmp_path: Path) -> None:
    for number, value in enumerate((1.0, np.nan)):
        x = np.random.default_rng(number).normal(size=(2, 6, 3)).astype(np.float32)
        x[0, 0, 0] = value
        np.savez(tmp_path / f"{number}.npz", x=x)
    done = flatten(convert, data={"path": str(tmp_path)})
    assert done.code is Code.VERIFY_NONFINITE
    assert "input x of 'data 1: 1.npz' holds such itself" in done.result.error.message
