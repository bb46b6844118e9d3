"""Which files a checkpoint is, without reading a tensor: for the key, and before a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from converter.api.request import weights_of
from converter.config.validation import parse
from converter.model.errors import Code, ConfigError, StageError
from converter.model.job import Job
from converter.model.source import Checkpoint
from converter.plan import checkpoints, foresight, keys
from converter.plan.keys import Keys
from converter.storage import downloads

Make = Callable[..., Job]


def job(folder: Path, **weights: Any) -> Job:
    values = {
        "name": "m", "source": {"registry": "srcnn"}, "inputs": {}, "opset": 17,
        "weights": weights, "exporters": ["torchscript"],
        "model_dir": str(folder / "models"), "staging_dir": str(folder / "staging"),
    }  # fmt: skip
    return Job.model_validate(values)


def sharded(folder: Path, **table: str) -> Path:
    folder.mkdir(exist_ok=True)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    return index


def refused(path: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        checkpoints.require(path)
    return caught.value


@pytest.mark.parametrize("name", checkpoints.IN_FOLDER)
def test_a_folder_as_a_hub_has_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text(json.dumps({"weight_map": {"a": "one.bin"}}))
    (tmp_path / "one.bin").touch()
    found = checkpoints.require(tmp_path)
    wanted = [tmp_path / name]
    if name.endswith(".index.json"):
        wanted.append(tmp_path / "one.bin")
    assert list(found.files) == wanted
    assert list(found.names) == [f"weights.checkpoint/{path.name}" for path in wanted]
    assert weights_of(str(tmp_path)) == {"checkpoint": str(tmp_path)}


def test_a_folder_with_safetensors_and_a_pickle_is_read_from_the_first(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).touch()
    assert checkpoints.find(tmp_path).shards == (tmp_path / "model.safetensors",)


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.code is Code.WEIGHTS_MISSING
    assert f"{tmp_path} is no file, and as a folder it holds none of model.safe" in error.message
    assert "the folder where the command was started" in error.hint
    for name in ("b.pth", "a.ckpt", "notes.txt"):
        (tmp_path / name).touch()
    hint = refused(tmp_path).hint
    assert (
        hint
        == f"Name the file: weights: {{checkpoint: {tmp_path}/a.ckpt}}. There are a.ckpt, b.pth."
    )
    assert weights_of(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "..", "", "a\0b", "..\\x", "C:\\x", "C:x"]
)
def test_an_index_does_not_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    error = refused(sharded(tmp_path, a=name))
    assert error.code is Code.WEIGHTS_FORMAT
    assert "is not an index of shards: it names a file outside of its folder" in error.message
    assert "\0" not in error.message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "has no mapping weight_map"),
        ('{"weight_map": {}}', "has no mapping weight_map"),
        ('{"weight_map": ["a"]}', "has no mapping weight_map"),
        ('{"weight_map": {"a": 1}}', "names a file outside of its folder: '1'"),
    ],
)
def test_what_is_no_index(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "pytorch_model.bin.index.json"
    path.write_text(content)
    error = refused(path)
    assert error.code is Code.WEIGHTS_FORMAT
    assert why in error.message
    assert "name one file of weights" in error.hint


def test_missing_shards_are_told_before_a_run(tmp_path: Path) -> None:
    index = sharded(tmp_path, a="s1.safetensors", b="s2.safetensors", c="s3.safetensors")
    (tmp_path / "s2.safetensors").touch()
    for path in (index, tmp_path):
        (error,) = foresight.failures(job(tmp_path, checkpoint=str(path)))
        assert error.code is Code.WEIGHTS_MISSING
        assert error.message == (
            f"weights.checkpoint: {index} names 3 files, and 2 are not there: "
            "s1.safetensors, s3.safetensors"
        )
        assert error.hint.startswith("Put them beside it (1 are there)")


def test_all_shards_count_in_the_key(tmp_path: Path) -> None:
    index = sharded(tmp_path, a="s1.safetensors", b="part/s2.safetensors")
    second = tmp_path / "part/s2.safetensors"
    second.parent.mkdir()
    for path in (tmp_path / "s1.safetensors", second):
        path.write_bytes(b"1")
    made = job(tmp_path, checkpoint=str(tmp_path))
    makes = Keys({}, [])
    before = makes.of(made)
    assert {name for name in before.files if name.startswith("weights")} == {
        "weights.checkpoint/model.safetensors.index.json",
        "weights.checkpoint/s1.safetensors",
        "weights.checkpoint/part/s2.safetensors",
    }
    second.write_bytes(b"2")
    assert makes.changed_files(made, before) == [second]
    said = keys.difference(before.parts, makes.of(made).parts)
    assert said == "weights.checkpoint/part/s2.safetensors changed"
    second.unlink()
    index.unlink()
    assert index in makes.changed_files(made, before)


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "ema"}, {"strip_prefix": ["b.", "a."]}, {"rename": {"a": "b"}}, {"ignore": ["a"]},
    ],
)  # fmt: skip
def test_how_names_are_fitted_counts_in_the_key(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = tmp_path / "w.pth"
    path.touch()
    plain = {"checkpoint": str(path), "strip_prefix": ["a.", "b."]}
    one, other = (Keys({}, []).of(job(tmp_path, **w)) for w in (plain, plain | changed))
    assert keys.difference(one.parts, other.parts) == "weights changed"
    single = Keys({}, []).of(job(tmp_path, checkpoint=str(path), strip_prefix="a."))
    listed = Keys({}, []).of(job(tmp_path, checkpoint=str(path), strip_prefix=["a."]))
    assert single.digest == listed.digest


def test_the_hash_of_several_files_is_that_of_their_list(tmp_path: Path) -> None:
    index = sharded(tmp_path, a="s1.safetensors")
    shard = tmp_path / "s1.safetensors"
    shard.write_bytes(b"1")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (index, shard)}
    text = "".join(f"{name} {sums[name]}\n" for name in sorted(sums))
    found = checkpoints.require(tmp_path)
    assert checkpoints.sha256(found) == hashlib.sha256(text.encode()).hexdigest()
    assert checkpoints.sha256(checkpoints.require(index)) == checkpoints.sha256(found)
    assert checkpoints.sha256(checkpoints.require(shard)) == sums["s1.safetensors"]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"checkpoint": "https://hub.example/net.pth"}, "a URL needs 'sha256'"),
        (
            {"checkpoint": "https://hub.example/model.safetensors.index.json", "sha256": "0" * 64},
            "a URL names one file of weights",
        ),
    ],
)
def test_a_url_is_of_one_file_whose_hash_is_stated(stated: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Checkpoint.model_validate(stated)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://hub.example/net.pth?version=2", ""),
        ("s3://zoo/weights/net.pth", ""),
        ("weights/net.pth", ""),
        ("https://me:secret@hub.example/net.pth", "has credentials in it"),
        ("https://hub.example", "names no file"),
        ("https://hub.example/a/..", "names no file"),
        ("s3://me:secret@zoo/net.pth", "has credentials in it"),
        ("s3://zoo/weights/", "names no file"),
        ("file:///weights/net.pth", "is no URL of a server"),
    ],
)
def test_what_is_wrong_with_a_url(url: str, said: str) -> None:
    assert downloads.problem(url).startswith(said)
    assert bool(downloads.problem(url)) == bool(said)


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Algorithm=a&X-Amz-Signature=c0ffee", "AWSAccessKeyId=c0ffee&Signature=x",
        "sv=2024&sig=c0ffee", "token=c0ffee", "a=1&access_token=c0ffee", "key=c0ffee",
        "x-goog-signature=c0ffee", "api%5Fkey=c0ffee", "a=1;auth=c0ffee", "Key-Pair-Id=c0ffee",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["?", "#"])
def test_what_signs_a_url_is_refused_and_not_shown(query: str, mark: str) -> None:
    url = f"https://hub.example/net.npz{mark}{query}"
    pinned = {"sha256": "0" * 64}
    x = {"shape": [1]}
    model = {
        "source": "conv_bn_relu",
        "weights": {"checkpoint": url, **pinned},
        "inputs": {"x": {**x, "path": url, **pinned}},
        "verify": {"cases": [{"label": "c", "inputs": {"x": {"path": url, **pinned}}}]},
    }
    with pytest.raises(ConfigError) as caught:
        parse({"models": {"m": model}})
    keys = ("weights.checkpoint", "inputs.x.path", "verify.cases.0.inputs.x.path")
    assert {problem.key for problem in caught.value.problems} == {f"models.m.{key}" for key in keys}
    for problem in caught.value.problems:
        assert "https://hub.example/net.npz has '" in str(problem)
        assert "looks like a credential" in str(problem)
        assert "c0ffee" not in str(problem)


@pytest.mark.parametrize("query", ["", "?download=true", "?versionId=3&author=me", "?alt=media"])
def test_what_else_stands_behind_a_url_may(query: str) -> None:
    assert downloads.problem(f"https://hub.example/net.pth{query}") == ""
