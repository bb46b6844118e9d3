"""Which files and facts a job's key covers, and how a difference is put into words."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import registry
from converter.job import Job
from converter.store import keys
from converter.store.keys import Keys

PACKAGES = {"torch": "2.15.0", "onnx": "1.23.2", "onnxsim": "0.8.1", "timm": None}
Make = Callable[..., Job]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def job(source: dict[str, Any], **more: Any) -> Job:
        values = {
            "name": "m", "source": source, "inputs": {"x": {"shape": [1, 3]}}, "opset": 17,
            "exporters": ["torchscript"], "simplifier": "onnxsim", "trust": [str(tmp_path)],
            "model_dir": str(tmp_path / "run/models/m"), "staging_dir": str(tmp_path / "s"),
        }  # fmt: skip
        return Job.model_validate({**values, **more})

    return job


def key_of(job: Job, packages: dict[str, str | None] | None = None) -> keys.JobKey:
    return Keys(packages or PACKAGES, []).of(job)


def write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_key_is_the_same_elsewhere_and_later(make: Make, tmp_path: Path) -> None:
    write(tmp_path / "a", {"model": "import torch"})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b/model.py", (0, 0))  # a clock that was a year off
    first = make({"file": str(tmp_path / "a/model.py"), "name": "M"})
    second = make(
        {"file": str(tmp_path / "b/model.py"), "name": "M"},
        model_dir="/elsewhere", staging_dir="/there", threads=7, tags=["slow"],
        expect={"status": "failed", "code": "EXPORT", "reason": "known"},
    )  # fmt: skip
    assert key_of(first).digest == key_of(second).digest
    assert len(key_of(first).digest) == 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"opset": 18}, "opset 17 → 18"),
        ({"seed": 1}, "seed 0 → 1"),
        ({"training": "train"}, "training eval → train"),
        ({"simplifier": None}, "simplifier onnxsim → none"),
        ({"kwargs": {"way": "view"}}, 'kwargs {} → {"way": "view"}'),
        ({"inputs": {"x": {"shape": [1, 4]}}}, "inputs changed"),
        ({"exporters": ["dynamo"]}, 'exporters ["torchscript"] → ["dynamo"]'),
        ({"export": {"constant_folding": False}}, "export changed"),
        ({"verify": {"rtol": 0.5}}, "verify changed"),
        ({"weights": "DEFAULT"}, "weights random → DEFAULT"),
        ({"source": {"registry": "single_conv"}}, "registry/single_conv.py is new"),
    ],
)
def test_what_is_asked_for_is_in_the_key(make: Make, changes: dict[str, Any], words: str) -> None:
    source = changes.pop("source", {"registry": "conv_bn_relu"})
    before, now = key_of(make({"registry": "conv_bn_relu"})), key_of(make(source, **changes))
    assert before.digest != now.digest
    assert words in keys.difference(before.parts, now.parts)


def test_equal_requests_written_otherwise_have_one_key(make: Make) -> None:
    source = {"registry": "conv_bn_relu"}
    spelled = make(source, inputs={"x": {"shape": [1, 3], "fill": "normal"}}, exporter="auto")
    assert key_of(make(source, exporter="torchscript")).digest == key_of(spelled).digest


def test_the_order_of_the_inputs_counts(make: Make) -> None:
    x, y = {"shape": [1, 3]}, {"shape": [2, 3]}
    source = {"registry": "conv_bn_relu"}
    one, other = make(source, inputs={"x": x, "y": y}), make(source, inputs={"y": y, "x": x})
    assert key_of(one).digest != key_of(other).digest


def test_an_upgrade_is_a_miss_that_names_the_versions(make: Make) -> None:
    job = make({"registry": "conv_bn_relu"})
    before, now = key_of(job, {**PACKAGES, "torch": "2.14.0", "timm": "1.0"}), key_of(job)
    assert keys.difference(before.parts, now.parts) == "torch 2.14.0 → 2.15.0"


def test_many_differences_are_counted_causes_first() -> None:
    before = {"request.opset": 17, "package torch": "1", "file a.py": "x", "request.seed": 0}
    now = {"request.opset": 18, "package torch": "2", "file a.py": "y", "request.seed": 1}
    assert keys.difference(before, now) == "torch 1 → 2; a.py changed; opset 17 → 18; and 1 more"
    assert keys.distance(before, now) == (2, 2)


def test_a_registry_model_is_its_module(make: Make) -> None:
    key = key_of(make({"registry": "srcnn"}))
    assert key.files == {"registry/srcnn.py": registry.FOLDER / "srcnn.py"}
    library = key_of(make({"registry": "torchvision/resnet18"}))
    assert list(library.files) == ["torchvision/models/resnet.py"]
    assert key_of(make({"registry": "none"})).files == {}


def test_a_file_counts_with_what_it_imports_beside_it(make: Make, tmp_path: Path) -> None:
    texts = {
        "model": "import torch, helper\nfrom pack.deep import part\ndef f():\n    import late",
        "helper": "from broken import x",
        "broken": "def (",
        "late": "",
        "unused": "",
        "pack/__init__": "",
        "pack/deep/__init__": "from . import near\nfrom ..top import y",
        "pack/deep/part": "",
        "pack/deep/near": "",
        "pack/top": "",
    }
    write(tmp_path, texts)
    key = key_of(make({"file": str(tmp_path / "model.py"), "name": "M"}))
    assert sorted(key.files) == [
        "broken.py", "helper.py", "late.py", "model.py", "pack/__init__.py",
        "pack/deep/__init__.py", "pack/deep/near.py", "pack/deep/part.py", "pack/top.py",
    ]  # fmt: skip
    write(tmp_path, {"late": "x = 1"})
    now = key_of(make({"file": str(tmp_path / "model.py"), "name": "M"}))
    assert keys.difference(key.parts, now.parts) == "late.py changed"


def test_a_target_is_its_whole_package(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"mine/b": "import aside"}
    empty = ("mine/__init__", "mine/a", "mine/unseen", "mine/.cache/x", "aside", "other")
    write(tmp_path, texts | dict.fromkeys(empty, ""))
    job = make({"_target_": "mine.a.build"})
    found = ["aside.py", "mine/__init__.py", "mine/a.py", "mine/b.py", "mine/unseen.py"]
    assert sorted(key_of(job).files) == found
    monkeypatch.syspath_prepend(str(tmp_path))  # without trust it is found all the same
    assert sorted(key_of(job.model_copy(update={"trust": []})).files) == found


def test_a_target_of_an_installed_package_is_its_version(make: Make) -> None:
    key = key_of(make({"_target_": "yaml.loader.Loader"}))
    assert list(key.files) == ["yaml/loader.py"]
    assert key.parts["package PyYAML"]


def test_data_counts_by_its_content(make: Make, tmp_path: Path) -> None:
    for name in ("w.pth", "x.npy", "c.npy"):
        (tmp_path / name).write_bytes(b"1")
    job = make(
        {"registry": "srcnn"},
        weights={"checkpoint": str(tmp_path / "w.pth")},
        inputs={"x": {"shape": [1], "path": str(tmp_path / "x.npy")}},
        verify={"cases": [{"label": "c", "inputs": {"x": {"path": str(tmp_path / "c.npy")}}}]},
    )
    makes = Keys(PACKAGES, [])
    before = makes.of(job)
    assert makes.changed_files(job, before) == []
    names = {"weights.checkpoint": "w", "inputs.x.path": "x", "verify.cases.0.inputs.x.path": "c"}
    for name, stem in names.items():
        path = next(tmp_path.glob(f"{stem}.*"))
        path.write_bytes(b"2")
        assert makes.changed_files(job, before) == [path]
        said = keys.difference(before.parts, makes.of(job).parts)
        assert said == f"{name} changed"
        path.write_bytes(b"1")
        assert makes.of(job).digest == before.digest


def test_a_file_that_is_not_there_has_a_key_too(make: Make, tmp_path: Path) -> None:
    job = make({"torchscript": str(tmp_path / "gone.pt")})
    before = key_of(job)
    (tmp_path / "gone.pt").write_bytes(b"here")
    assert keys.difference(before.parts, key_of(job).parts) == "source.torchscript is new"


def test_external_data_of_an_onnx_source_counts(make: Make, tmp_path: Path) -> None:
    location = b"weights/all.bin"
    entry = b"\x0a\x08location\x12" + bytes([len(location)]) + location
    outside = b"\x0a\x08location\x12\x0b/etc/passwd"
    chance = b"\x0a\x08location\x12\x03a\x00b"
    (tmp_path / "m.onnx").write_bytes(b"\x08\x09" + entry + entry + outside + chance)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/all.bin").write_bytes(b"1")
    job = make({"onnx": str(tmp_path / "m.onnx")})
    before = key_of(job)
    assert sorted(before.files) == ["source.onnx", "source.onnx/weights/all.bin"]
    (tmp_path / "weights/all.bin").write_bytes(b"2")
    said = keys.difference(before.parts, key_of(job).parts)
    assert said == "source.onnx/weights/all.bin changed"


def test_gpus_count_where_one_may_be_used(make: Make) -> None:
    source = {"registry": "conv_bn_relu"}
    auto, cpu = make(source), make(source, device="cpu")
    with_gpu = Keys(PACKAGES, ["NVIDIA H100 560.1"])
    assert with_gpu.of(cpu).digest == key_of(cpu).digest
    assert with_gpu.of(auto).digest != key_of(auto).digest
