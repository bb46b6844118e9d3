"""Data of a model as a configuration states it: files, fills with a meaning, samples, a metric."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.config.validation import parse
from converter.model.errors import Code, ConfigError, StageError
from converter.model.inputs import CaseInput, ImageSpec, InputSpec
from converter.model.job import Composed, Derived, Job
from converter.model.spec import DataSpec
from converter.plan import foresight, jobs, keys, samples
from converter.plan.keys import Keys

ImageJob = Callable[..., Job]


def problems(**model: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse({"models": {"m": {"source": "conv_bn_relu", **model}}})
    return [str(problem) for problem in caught.value.problems]


def of_input(**keys: Any) -> str:
    (message,) = problems(inputs={"x": keys})
    assert message.startswith("models.m.inputs.x")
    return message.partition(": ")[2]


def job(model: dict[str, Any], trust: list[str] | None = None) -> Job:
    config = {"models": {"m": {"source": "conv_bn_relu", "outputs": ["y"], **model}}}
    made = jobs.build(parse(config), run_dir=Path("/run"), cwd=Path("/"), trust=trust or [])
    return made.jobs[0]


# Fills: no key is ignored, none means what the fill cannot do


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fill": "mask", "low": 0}, "fill mask of float32 has no use for 'low'."),
        ({"padding": "left"}, "fill normal of float32 has no use for 'padding'."),
        ({"of": "t"}, "fill normal of float32 has no use for 'of'."),
        ({"key": "k"}, "fill normal of float32 has no use for 'key'."),
        ({"value": 1, "image": {}}, "fill constant of float32 has no use for 'image'."),
        ({"limit": 3}, "fill normal of float32 has no use for 'limit'."),
        ({"fill": "file"}, "fill file needs 'path', a file, a folder or a glob."),
        ({"fill": "mask", "shape": []}, "fill mask is made row by row; the shape [] has no axis."),
        ({"fill": "lengths"}, "fill lengths draws whole numbers; float32 is none: use int64"),
        ({"fill": "lengths", "dtype": "int64", "low": 0}, "low (0) of lengths must be 1 or more."),
        ({"fill": "sorted", "dtype": "bool"}, "fill sorted needs numbers; use fill: mask for bool"),
        (
            {"fill": "probabilities", "dtype": "int64"},
            "fill probabilities draws fractions, which int64 cannot hold; use a float dtype.",
        ),
        ({"low": [0, 1], "high": 5}, "low has 2 numbers for a last axis of 3."),
        ({"low": [0, 1, 5], "high": 5}, "low (5) must be below high (5) in column 2."),
        ({"low": [0, 1, 2]}, "bounds of single columns need both 'low' and 'high'."),
        (
            {"fill": "sorted", "low": [0, 1, 2], "high": 5},
            "fill sorted takes one number for low and high, no list.",
        ),
        ({"path": "x.npy", "key": "k"}, "'key' names a tensor among several; x.npy holds one."),
        ({"path": "x.pt", "image": {}}, "'image' is for pictures (.png, .jpg, .jpeg, .bmp, .webp)"),
        ({"path": "x.png"}, "a picture has 3 axes (chw) or 4 (nchw); the shape [2, 3] has 2."),
        ({"path": "https://a.example/x.npy"}, "a URL needs 'sha256', the SHA-256 of the file"),
        ({"path": "x.npy", "sha256": "0" * 64}, "'sha256' is of a file at a URL; one of this"),
        ({"sha256": "0" * 64}, "fill normal of float32 has no use for 'sha256'."),
        (
            {"path": "https://a.example/x.npy?v=1", "sha256": "0" * 64, "key": "k"},
            "'key' names a tensor among several; x.npy holds one.",
        ),
        (
            {"path": "https://a.example/x.PNG?v=1", "sha256": "0" * 64},
            "a picture has 3 axes (chw) or 4 (nchw); the shape [2, 3] has 2.",
        ),
    ],
)
def test_what_a_fill_cannot_mean_is_refused(keys: dict[str, Any], message: str) -> None:
    assert of_input(**{"shape": [2, 3], **keys}).startswith(message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"shape": [1, 5, 8, 8]},
            "the shape [1, 5, 8, 8] has 5 channels (nchw), a picture of mode",
        ),
        ({"image": {"mean": [0.5]}}, "image.mean has 1 numbers for 3 channels."),
        ({"image": {"layout": "nhwc"}}, "has 8 channels (nhwc), a picture of mode RGB has 3."),
        ({"dtype": "int64"}, "a picture is read as uint8, or as a float dtype with mean and std"),
        (
            {"dtype": "uint8", "image": {"std": [1, 1, 1]}},
            "a picture is read as uint8, or as a float dtype with mean and std, not as uint8 with",
        ),
        ({"image": {"std": [1, 0, 1]}}, "std is [1.0, 0.0, 1.0]; what is divided by must be above"),
        ({"image": {"size": [1, 2, 3]}}, "size is [1, 2, 3]; write [height, width], or one number"),
    ],
)
def test_a_picture_has_to_fit_its_shape(keys: dict[str, Any], message: str) -> None:
    assert message in of_input(**{"shape": [1, 3, 8, 8], "path": "x.JPG", **keys})


def test_lengths_belong_to_an_axis() -> None:
    x = {"shape": [4, 9, 2]}
    lengths = {"shape": [4], "dtype": "int64", "fill": "lengths"}

    def of(**keys: Any) -> str | None:
        inputs = {"x": {**x, **keys.pop("x", {})}, "n": {**lengths, **keys}}
        return job({"inputs": inputs, "dynamic_axes": {"x": {1: "t"}}}).inputs["n"].of

    assert of() == "x.1"
    assert of(of="t") == "x.1"
    assert of(of="x.2") == "x.2"
    (message,) = problems(inputs={"n": lengths})
    assert message == (
        "models.m.inputs.n.fill: no other input has as many rows, so that nothing says how long "
        "they may be. State of: SYMBOL, or of: INPUT.AXIS"
    )
    for wrong in ("u", "x.7", "y.1"):
        axes = {"x": {1: "t"}}
        (message,) = problems(inputs={"x": x, "n": {**lengths, "of": wrong}}, dynamic_axes=axes)
        assert message.endswith(
            f"found '{wrong}'; expected a symbol of an input's dynamic_axes, or INPUT.AXIS. "
            "Known: t, x.AXIS."
        )


def test_columns_need_a_last_axis_of_one_size() -> None:
    spec = {"shape": [4, 2], "low": [0, 1], "high": [2, 3]}
    (message,) = problems(inputs={"x": spec}, dynamic_axes={"x": [1]})
    assert message.endswith("need a last axis of one size; it is dynamic. State one number for all "
                            "columns.")  # fmt: skip
    assert job({"inputs": {"x": spec}, "dynamic_axes": {"x": [0]}}).inputs["x"].columns == [
        (0, 2), (1, 3),
    ]  # fmt: skip


def test_a_case_takes_over_how_a_picture_is_read() -> None:
    declared = InputSpec(shape=[1, 3, 8, 8], path="a.png", image=ImageSpec(mean=[0.5] * 3))
    # What a job has stated for the shape of the input does not hold for that of a case.
    declared = declared.model_copy(update={"image": declared.image.on([1, 3, 8, 8])})  # type: ignore[union-attr]
    found = CaseInput(path="b.png", shape=[1, 3, 16, 4]).on(declared)
    assert found.image is not None
    assert (found.image.mean, found.image.size) == ([0.5] * 3, None)
    assert CaseInput(path="b.npy").on(declared).image is None


# Samples and the metric


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "expected 'path' or '_target_'; found neither."),
        ({"path": "a", "_target_": "b.c"}, "expected 'path' or '_target_'; found both."),
        ({"path": "a", "limt": 3}, "unknown key limt; a path takes 'limit' alone."),
        ({"path": "a", "limit": 0}, "found 0; expected a whole number from 1 to 100."),
    ],
)
def test_data_is_in_one_place(data: dict[str, Any], message: str) -> None:
    (found,) = problems(data=data)
    assert found.endswith(message)


def test_a_metric_needs_samples() -> None:
    (message,) = problems(metric={"_target_": "a.b"})
    assert message.startswith("models.m.metric: a metric scores outputs on real samples; none")
    assert message.endswith(
        "State models.m.data: FOLDER (of .npz files, or test_data_set_N), or remove the key."
    )
    made = job({"data": "val", "metric": {"_target_": "a.b", "k": 5, "max_drop": 0.5}})
    assert made.data == DataSpec(path="/val")
    assert made.metric is not None
    assert (made.metric.arguments, made.metric.max_drop) == ({"k": 5}, 0.5)
    # It crosses the boundary to a worker.
    assert Job.model_validate_json(made.model_dump_json()) == made


def test_labels_of_real_samples_are_taken() -> None:
    cases = [{"label": "data 1"}, {"label": "data sheet"}]
    (message,) = problems(data="val", verify={"cases": cases})
    assert "the label 'data 1' is the name of another case" in message


# Files: what is read, and what the key covers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.npy", "a.npy", "c.npy", ".hidden"):
        (tmp_path / name).write_bytes(b"\x93NUMPY")
    return tmp_path


def test_a_folder_and_a_glob_are_read_by_name(folder: Path) -> None:
    def names(**keys: Any) -> list[str]:
        return [Path(path).name for path in samples.of(InputSpec(shape=[1], **keys))]

    assert names(path=str(folder)) == ["a.npy", "b.npy", "c.npy"]
    assert names(path=str(folder), limit=2) == ["a.npy", "b.npy"]
    assert names(path=f"{folder}/[bc].npy") == ["b.npy", "c.npy"]
    odd = folder / "odd[1].npy"
    odd.write_bytes(b"")
    assert names(path=str(odd)) == ["odd[1].npy"]


def test_test_sets_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        one = tmp_path / f"test_data_set_{number}"
        one.mkdir()
        for name in ("input_0", "input_10", "input_2", "output_0"):
            (one / f"{name}.pb").write_bytes(b"")
    found = samples.all_of_data(DataSpec(path=str(tmp_path)))
    assert [one.label for one in found] == [f"test_data_set_{n}" for n in (0, 2, 10)]
    assert [Path(path).stem for path in found[0].inputs] == ["input_0", "input_2", "input_10"]
    assert [Path(path).stem for path in found[0].outputs] == ["output_0"]
    with pytest.raises(StageError, match=r"nowhere does not exist"):
        samples.all_of_data(DataSpec(path=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StageError, match=r"holds no \.npz file and no test_data_set_N folder"):
        samples.all_of_data(DataSpec(path=str(tmp_path / "empty")))


def test_foresight_tells_what_cannot_be_read(tmp_path: Path, folder: Path) -> None:
    def told(**keys: Any) -> list[str]:
        made = job({"inputs": {"x": {"shape": [1], **keys.pop("x", {})}}, **keys})
        return [f"{error.code} {error.message}" for error in foresight.failures(made)]

    assert told(x={"path": str(folder)}) == []
    (folder / "README.txt").write_text("not a sample")
    (message,) = told(x={"path": str(folder)})
    assert "README.txt is none of the files that are read: .npy, .npz, .pt" in message
    assert told(x={"path": f"{folder}/*.npy"}) == []
    assert told(x={"path": f"{folder}/[ab].*", "key": "k"})[0].endswith(
        "a.npy holds one tensor, and 'key' names one among several"
    )
    header = json.dumps({"a": {}, "b": {}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert told(x={"path": str(path), "key": "a"}) == []
    assert told(x={"path": str(path)})[0].endswith(
        "holds 2 tensors by name (a, b), none of them 'x'"
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", b"")
        archive.writestr("y.npy", b"")
    assert told(x={"path": str(tmp_path / "x.npz")}) == []
    assert told(x={}, data=str(tmp_path / "gone"))[0].startswith("FORWARD data: ")
    code = str(Code.TARGET_DENIED)
    target = {"_target_": "mine.f"}
    assert [one.split()[0] for one in told(x={}, data=target, metric=target)] == [code, code]


def test_samples_and_functions_count_in_the_key(tmp_path: Path) -> None:
    val = tmp_path / "val"
    val.mkdir()
    for number in range(4):
        (val / f"{number}.npz").write_bytes(b"1")
    (tmp_path / "mine.py").write_text("def metric(samples, outputs): ...")
    model = {
        "inputs": {"x": {"shape": [1], "path": f"{val}/*.npz", "limit": 2}},
        "data": {"path": str(val), "limit": 3},
        "metric": {"_target_": "mine.metric"},
    }
    made = job(model, trust=[str(tmp_path)])
    makes = Keys({}, [])
    before = makes.of(made)
    names = {name for name in before.files if not name.startswith("registry/")}
    assert names >= {
        "inputs.x.path/0.npz", "inputs.x.path/1.npz", "data/val/0.npz", "data/val/2.npz", "mine.py",
    }  # fmt: skip
    assert "data/val/3.npz" not in names
    assert str(tmp_path) not in json.dumps(before.parts)

    def changed() -> str:
        return keys.difference(before.parts, makes.of(made).parts)

    (val / "2.npz").write_bytes(b"2")
    assert changed() == "data/val/2.npz changed"
    assert makes.changed_files(made, before) == [val / "2.npz"]
    (val / "2.npz").write_bytes(b"1")
    (tmp_path / "mine.py").write_text("def metric(samples, outputs): return 1.0")
    assert changed() == "mine.py changed"
    (tmp_path / "mine.py").write_text("def metric(samples, outputs): ...")
    # How many are not read stands in the row.
    (val / "4.npz").write_bytes(b"1")
    assert "samples left out of data 1 → 2" in changed()
    (val / "4.npz").unlink()
    assert changed() == ""


# Files at a URL


URL = "https://a.example/x.npy?v=1"


def test_a_url_is_no_path_and_no_glob_and_is_not_looked_at() -> None:
    picture = {"path": "s3://zoo/x.png", "sha256": "1" * 64}
    inputs = {"x": {"shape": [1], "path": URL, "sha256": "0" * 64},
              "z": {"shape": [1, 3, 8, 8], **picture}}  # fmt: skip
    cases = [{"label": "c", "inputs": {"x": {**picture, "path": "s3://zoo/x.npy"}}}]
    made = job({"inputs": inputs, "verify": {"cases": cases}})
    assert (made.inputs["x"].path, made.inputs["z"].path) == (URL, picture["path"])
    assert made.inputs["z"].image is not None
    assert made.inputs["z"].image.size == [8, 8]
    assert made.verify.cases[0].inputs["x"].path == "s3://zoo/x.npy"
    assert samples.of(made.inputs["x"]) == [URL]
    assert samples.sets(made.inputs) == {}
    assert foresight.failures(made) == []


def test_a_case_at_a_url_has_a_hash_of_its_own() -> None:
    declared = InputSpec(shape=[1], path=URL, sha256="0" * 64)
    assert CaseInput(path="b.npy").on(declared).sha256 is None
    assert CaseInput(shape=[2]).on(declared).sha256 == "0" * 64
    (message,) = problems(
        inputs={"x": {"shape": [1]}},
        verify={"cases": [{"label": "c", "inputs": {"x": {"path": URL}}}]},
    )
    assert message.startswith("models.m.verify.cases.0.inputs.x: a URL needs 'sha256'")


def test_samples_are_read_by_path() -> None:
    (message,) = problems(data="https://a.example/val?token=c0ffee")
    assert message == (
        "models.m.data.path: https://a.example/val is a URL; samples are read by path. Download "
        "the folder, and name it; inputs and cases take URLs of single files."
    )


def test_a_file_counts_by_its_hash_wherever_it_lies(tmp_path: Path) -> None:
    contents = {"x.npy": b"\x93NUMPY 1", "c.npy": b"\x93NUMPY 2"}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    def digests(x: dict[str, Any], c: dict[str, Any]) -> dict[str, str]:
        cases = [{"label": "c", "inputs": {"x": c}}]
        made = job({"inputs": {"x": {"shape": [1], **x}}, "verify": {"cases": cases}})
        asked = {name: getattr(made, name) for name in Job.model_fields}
        variant = Derived.model_validate({**asked, "plugin": "int8"})
        composed = Composed.model_validate({**asked, "graphs": {"a": made}})
        found = [Keys({}, []).of(one).digest for one in (made, variant, composed)]
        return dict(zip(("made", "variant", "composed"), found, strict=True))

    def at(place: str, name: str, **changes: str) -> dict[str, Any]:
        return {"path": f"{place}/{name}", "sha256": hashes[name], **changes}

    here = digests({"path": str(tmp_path / "x.npy")}, {"path": str(tmp_path / "c.npy")})
    for place in ("https://a.example", "s3://zoo/inputs"):
        assert digests(at(place, "x.npy"), at(place, "c.npy")) == here
        x = digests(at(place, "x.npy", sha256="0" * 64), at(place, "c.npy"))
        c = digests(at(place, "x.npy"), at(place, "c.npy", sha256="0" * 64))
        assert not x.items() & here.items()
        assert not c.items() & here.items()


def test_an_argument_of_a_function_counts_whatever_it_is_called() -> None:
    def digest(**arguments: Any) -> str:
        return Keys({}, []).of(job({"data": {"_target_": "mine.f", **arguments}})).digest

    assert digest(sha256="0") != digest(sha256="1")
    assert digest(of={"path": "a"}) != digest(of={"path": "b"})
