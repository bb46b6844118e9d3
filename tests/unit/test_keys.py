"""Which files and facts a job's key covers, and how a difference is put into words."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import registry
from converter.model.job import Job, Variant
from converter.model.records import FileInfo
from converter.model.spec import DataSpec
from converter.plan import keys, packages, reads, sources, variants
from converter.plan.keys import Keys

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


def key_of(job: Job, installed: dict[str, str | None] | None = None) -> keys.JobKey:
    return Keys(installed or PACKAGES, []).of(job)


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


def install(site: Path, name: str, version: str, module: str) -> None:
    """What pip leaves of a package with one module."""
    write(site, {module: ""})
    for old in site.glob("*.dist-info"):
        shutil.rmtree(old)
    records = site / f"{name.lower().replace('-', '_')}-{version}.dist-info"
    records.mkdir()
    (records / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (records / "RECORD").write_text(f"{module}.py,,\n")


@pytest.mark.parametrize("source", ["file", "_target_"])
def test_a_package_that_the_models_code_imports_is_its_version(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    site = tmp_path / "venv" / "site-packages"
    install(site, "Acme-Layers", "1.0", "acme_layers")
    monkeypatch.syspath_prepend(str(site))
    texts = {
        "mine": "import json, helper, acme_gone",
        "helper": "def late():\n    from acme_layers import act",
    }
    write(tmp_path, texts)
    sources = {"file": {"file": str(tmp_path / "mine.py"), "name": "M"}}
    job = make(sources.get(source, {"_target_": "mine.M"}))
    before = key_of(job)
    assert sorted(before.files) == ["helper.py", "mine.py"]
    assert before.parts["package Acme-Layers"] == "1.0"
    assert not [name for name in before.parts if "gone" in name or "json" in name]
    install(site, "Acme-Layers", "2.0", "acme_layers")
    importlib.invalidate_caches()  # both may be written within one tick of the file system
    assert keys.difference(before.parts, key_of(job).parts) == "Acme-Layers 1.0 → 2.0"


def test_what_every_model_needs_is_looked_up_once_for_the_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: pytest.fail("slow"))
    assert key_of(make({"registry": "srcnn"})).parts["package torch"] == PACKAGES["torch"]
    assert set(keys._ALWAYS) <= set(packages.names())


def test_an_installed_registry_does_not_take_the_libraries_beside_it_for_its_own(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    shutil.copytree(registry.FOLDER, site / "registry")
    write(site, {"torch/__init__": ""})
    monkeypatch.setattr(registry, "FOLDER", site / "registry")
    assert list(key_of(make({"registry": "srcnn"})).files) == ["registry/srcnn.py"]


class EditableFinder:
    """What setuptools installs for `pip install -e` of a flat layout."""

    def __init__(self, name: str, place: Path) -> None:
        self._name, self._place = name, place

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        return spec_from_file_location(name, self._place) if name == self._name else None


@pytest.mark.parametrize("source", ["file", "_target_"])
def test_an_editable_install_is_a_folder_of_the_users(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    texts = {
        "checkout/acme/__init__": "",
        "checkout/acme/net": "from acme import near",
        "checkout/acme/near": "from . import deep",
        "checkout/acme/deep": "",
        "zoo/model": "from acme.net import Net",
    }
    write(tmp_path, texts)
    finder = EditableFinder("acme", tmp_path / "checkout/acme/__init__.py")
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    sources = {"file": {"file": str(tmp_path / "zoo/model.py"), "name": "Net"}}
    job = make(sources.get(source, {"_target_": "acme.net.Net"}), trust=["acme"])
    before = key_of(job)
    write(tmp_path, {"checkout/acme/deep": "x = 1"})
    assert keys.difference(before.parts, key_of(job).parts) == "acme/deep.py changed"


def test_the_code_that_exporters_share_counts(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "converter"
    shutil.copytree(keys._PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(keys, "_PACKAGE", package)
    monkeypatch.setattr(keys, "_worker_code", keys._worker_code.__wrapped__)
    job = make({"registry": "srcnn"})
    before = key_of(job)
    (package / "plugins/exporters/_symbolics.py").write_text("# other")
    said = keys.difference(before.parts, key_of(job).parts)
    assert said == "the converter's own code changed"


HALF = Variant(
    id="half", plugin="fp16", format="onnx", precision="float16", optional=False, cast_io=False,
    options={"keep_io_types": True},
)  # fmt: skip


def derived(make: Make, sha256: str = "a", **changes: Any) -> Job:
    variant = HALF.model_copy(update=changes)
    (stub,) = variants.jobs_of(make({"registry": "srcnn"}, variants=[variant]))
    return variants.from_parent(stub, [FileInfo(path="m.onnx", bytes=1, sha256=sha256)])


def test_the_key_of_a_variant_is_made_of_its_parent_and_its_plugin(make: Make) -> None:
    before = key_of(derived(make))
    assert before == key_of(derived(make, optional=True))
    assert key_of(make({"registry": "srcnn"})).digest != before.digest
    for changed, said in (
        (derived(make, "b"), "what it is made from changed"),
        (derived(make, options={"keep_io_types": False}), "options changed"),
        (derived(make, rtol=1e-3), "verify changed"),
    ):
        assert keys.difference(before.parts, key_of(changed).parts) == said
    assert not any(name.startswith(("file ", "package torch")) for name in before.parts)


def test_a_file_for_a_device_is_of_that_device(make: Make) -> None:
    """An engine of TensorRT runs on the model of GPU that it was built on."""
    packages: dict[str, str | None] = {"tensorrt_ep": None}
    first, second, none = (
        Keys(packages, gpus).of(derived(make, provider="tensorrt_ep"))
        for gpus in (["H200 590.1"], ["L4 590.1"], [])
    )
    assert keys.difference(first.parts, second.parts).startswith("gpus ")
    assert first.digest != none.digest
    on_cpu = [Keys(packages, gpus).of(derived(make)).digest for gpus in (["H200"], ["L4"])]
    assert on_cpu[0] == on_cpu[1]


def test_the_code_of_a_variant_rebuilds_no_model(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "converter"
    shutil.copytree(keys._PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(keys, "_PACKAGE", package)
    for name in ("_worker_code", "_shared_code"):
        monkeypatch.setattr(keys, name, getattr(keys, name).__wrapped__)
    model, half = make({"registry": "srcnn"}, variants=[HALF]), derived(make)
    before = key_of(model), key_of(half)
    (package / "plugins/variants/_float16.py").write_text("# other")
    assert key_of(model).digest == before[0].digest == key_of(make({"registry": "srcnn"})).digest
    said = keys.difference(before[1].parts, key_of(half).parts)
    assert said == "the converter's own code changed"


def test_a_file_that_kwargs_name_counts_by_its_content(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.bin").write_bytes(b"1")
    strings = ["no such file", "a\0b", "x" * 5000, ""]
    kwargs = {"tables": [{"path": "w.bin"}], "strings": strings, "width": 3}
    job = make({"registry": "srcnn"}, kwargs=kwargs)
    before = key_of(job)
    assert set(before.files) == {"kwargs.tables.0.path", "registry/srcnn.py"}
    (tmp_path / "w.bin").write_bytes(b"2")
    said = keys.difference(before.parts, key_of(job).parts)
    assert said == "kwargs.tables.0.path changed"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as ``from_pretrained`` reads it, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf/tokenizer").mkdir(parents=True)
    for name in ("weights.bin", "config.json", "tokenizer/vocab.txt"):
        (tmp_path / "hf" / name).write_bytes(b"1")
    return tmp_path / "hf"


def test_custom_operators_count_by_their_content(make: Make, tmp_path: Path) -> None:
    write(
        tmp_path, {"own/__init__": "", "own/tables": "import own.forms", "own/forms": "TABLE = {}"}
    )
    library = tmp_path / "lib.so"
    library.write_bytes(b"1")
    export = {"translations": "own.tables:TABLE", "custom_ops": str(library)}
    job = make({"onnx": str(tmp_path / "m.onnx")}, export=export)
    first = key_of(job)
    assert {"export.custom_ops.0", "own/tables.py", "own/forms.py"} <= {*first.files}
    # The place of a library is not what it is.
    moved = make(
        {"onnx": str(tmp_path / "m.onnx")},
        export={**export, "custom_ops": str(shutil.copy(library, tmp_path / "other.so"))},
    )
    assert key_of(moved).digest == first.digest
    library.write_bytes(b"2")
    (tmp_path / "own/forms.py").write_text("TABLE = {1: 2}")
    now = key_of(job)
    assert keys.difference(first.parts, now.parts) == (
        "export.custom_ops.0 changed; own/forms.py changed"
    )


def test_a_folder_that_kwargs_name_counts_with_all_its_files(make: Make, folder: Path) -> None:
    job = make({"registry": "srcnn"}, kwargs={"paths": [{"folder": "hf"}], "sep": "/"})
    makes = Keys(PACKAGES, [])
    before = makes.of(job)
    place = "kwargs.paths.0.folder"
    assert {name for name in before.files if name.startswith("kwargs")} == {
        f"{place}/config.json", f"{place}/tokenizer/vocab.txt", f"{place}/weights.bin",
    }  # fmt: skip
    os.utime(folder / "weights.bin", (0, 0))
    assert makes.of(job).digest == before.digest
    (folder / "weights.bin").write_bytes(b"2")
    (folder / "tokenizer/vocab.txt").unlink()
    (folder / "more.bin").touch()
    assert keys.difference(before.parts, makes.of(job).parts) == (
        f"{place}/tokenizer/vocab.txt is gone; {place}/weights.bin changed; {place}/more.bin is new"
    )


def test_of_a_folder_counts_what_a_builder_may_mean(make: Make, folder: Path) -> None:
    for name in (".cache/x", "__pycache__/m.pyc", "venv/pyvenv.cfg", "outputs/.hydra/config.yaml"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / ".DS_Store").touch()
    (folder / "venv/python").touch()
    (folder / "outputs/m.onnx").touch()
    os.mkfifo(folder / "pipe")
    (folder / "back").symlink_to(folder)
    (folder.parent / "blobs").mkdir()
    (folder.parent / "blobs/abc").write_bytes(b"1")
    (folder / "model.safetensors").symlink_to(folder.parent / "blobs/abc")
    (folder / "shards").symlink_to(folder.parent / "blobs")
    job = make({"registry": "srcnn"}, kwargs={"folder": str(folder)})
    makes = Keys(PACKAGES, [])
    before = makes.of(job)
    assert sorted(name for name in before.files if name.startswith("kwargs")) == [
        "kwargs.folder/config.json", "kwargs.folder/model.safetensors",
        "kwargs.folder/shards/abc", "kwargs.folder/tokenizer/vocab.txt",
        "kwargs.folder/weights.bin",
    ]  # fmt: skip
    (folder.parent / "blobs/abc").write_bytes(b"2")
    said = keys.difference(before.parts, makes.of(job).parts)
    assert said == "kwargs.folder/model.safetensors changed; kwargs.folder/shards/abc changed"


def test_a_folder_with_too_many_files_is_told(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make({"registry": "srcnn"}, kwargs={"folder": "hf"})
    monkeypatch.setattr(sources, "MOST_FILES", 3)
    assert key_of(job).incomplete is None
    monkeypatch.setattr(sources, "MOST_FILES", 2)
    key = key_of(job)
    assert key.incomplete == "kwargs.folder: the folder has more than 2 files"
    assert reads.judge(key, []) == (
        [],
        "kwargs.folder: the folder has more than 2 files, too many for the key: "
        "name the files that are read",
    )


def test_what_is_new_and_that_nobody_asked_for_has_not_changed(make: Make, folder: Path) -> None:
    root = folder.parent
    texts = {"mine/__init__": "", "mine/a": "try:\n    from mine import fast\nexcept: pass"}
    write(root, texts)
    job = make({"_target_": "mine.a.build"}, kwargs={"folder": "hf"})
    makes = Keys(PACKAGES, [])
    before = makes.of(job)
    (folder / "more.bin").write_bytes(b"1")
    write(root, {"mine/unseen": "import mine.other", "mine/other": "", "beside": ""})
    assert makes.changed_files(job, before) == []
    write(root, {"mine/fast": ""})  # its import may have found it, or not
    assert makes.changed_files(job, before) == [root / "mine/fast.py"]
    (root / "mine/fast.py").unlink()
    (folder / "weights.bin").unlink()
    (folder / "config.json").write_bytes(b"2")
    write(root, {"mine/a": "# edited"})
    assert set(makes.changed_files(job, before)) == {
        folder / "weights.bin", folder / "config.json", root / "mine/a.py",
    }  # fmt: skip


def test_jobs_of_one_package_cost_one_walk(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 100
    names = [f"pack/m{index}" for index in range(count)]
    texts = dict.fromkeys(names, "import torch, os\nfrom pack import m0, m1\nfrom . import m2")
    write(tmp_path, texts | {"pack/__init__": ""})
    jobs = [make({"_target_": f"pack.m{index}.build"}) for index in range(10)]
    # What was written just now is not taken for being at rest; the clock may be set meanwhile.
    written = [tmp_path, tmp_path / "pack", *(tmp_path / "pack").iterdir()]
    while time.time_ns() - max(path.stat().st_ctime_ns for path in written) < 100_000_000:
        time.sleep(0.05)
    stats = 0

    def counting(*args: Any, **kwargs: Any) -> os.stat_result:
        nonlocal stats
        stats += 1
        return stat(*args, **kwargs)

    stat = os.stat
    monkeypatch.setattr(os, "stat", counting)
    makes = Keys(PACKAGES, [])
    found = [makes.of(jobs[0])]
    stats = 0  # the first walk looks in every folder that this process imports from
    found += [makes.of(job) for job in jobs[1:]]
    assert [makes.changed_files(*pair) for pair in zip(jobs, found, strict=True)] == [[]] * 10
    assert len(found[0].files) == count + 1
    assert stats < 3 * 2 * len(jobs) * count  # 60 times as many where each import is looked up
    found[0].files["pack/m5.py"].write_text("import pack.late")
    write(tmp_path, {"pack/late": ""})
    assert "pack/late.py" in makes.of(jobs[0]).files  # and it looks again where something changed


def test_files_that_were_read_are_held_against_the_key(make: Make, folder: Path) -> None:
    write(folder.parent, {"model": "import helper", "helper": ""})
    checkpoint = {"checkpoint": str(folder.parent / "w.pth")}
    (folder.parent / "w.pth").touch()
    job = make(
        {"file": str(folder.parent / "model.py"), "name": "M"},
        kwargs={"folder": "hf"}, weights=checkpoint,
    )  # fmt: skip
    key = key_of(job)
    own = [str(folder.parent / name) for name in ("helper.py", "model.py", "w.pth")]
    weights = str(folder / "weights.bin")
    assert reads.judge(key, [*own, weights]) == (["hf/weights.bin"], None)
    hidden, code = str(folder / ".hidden"), str(folder.parent / "computed.py")
    assert reads.judge(key, [code, weights, hidden, "/data/x.bin"]) == (
        ["computed.py", "hf/.hidden", "/data/x.bin", "hf/weights.bin"],
        "hf/.hidden and 1 more were read and not part of the key: "
        "name the file or its folder in kwargs",
    )
    assert reads.judge(key, [code])[1] == (
        "computed.py was imported and not part of the key: "
        "import it by an import statement, with its folder on PYTHONPATH"
    )


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


def test_the_key_of_a_variant_has_the_samples_that_it_may_calibrate_on(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "val").mkdir()
    for number in range(3):
        (tmp_path / "val" / f"{number}.npz").write_bytes(bytes([number]))
    # More than it is verified on.
    data = DataSpec(path=str(tmp_path / "val"), limit=1)
    job = derived(make).model_copy(update={"data": data})
    found = {name for name in key_of(job).files if name.startswith("data/")}
    assert found == {"data/val/0.npz", "data/val/1.npz", "data/val/2.npz"}
    before = key_of(job).digest
    (tmp_path / "val" / "2.npz").write_bytes(b"other")
    assert key_of(job).digest != before


def test_the_files_that_differ_between_two_keys_are_told_and_nothing_else() -> None:
    before = {"file nets.py": "1", "file a.npy": "1", "package torch": "2.14", "request.seed": 0}
    now = {"file nets.py": "2", "file b.npy": "1", "package torch": "2.15", "request.seed": 1}
    said = keys.inputs_changed(before, {**now, "code mono/zoo": "3"})
    assert said == ["a.npy is gone", "b.npy is new", "nets.py changed", "and 1 more"]
    assert keys.inputs_changed(before, before) == []
