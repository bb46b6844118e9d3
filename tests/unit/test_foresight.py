"""What shows before a job runs: files, names and trust; nothing of the model's is imported."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from converter.model.errors import Code
from converter.model.job import Job
from converter.plan import foresight

NET = """
from elsewhere import Other as Renamed

class Net: ...

def build(): ...

ready = Net()
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of a package that ends the process when it is imported."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('imported')\n")
    (folder / "nets.py").write_text(NET)
    (folder / "lazy.py").write_text("def __getattr__(name): ...\n")
    (folder / "broken.py").write_text("def f(:\n")
    return tmp_path


def told(package: Path, source: Any, **changes: Any) -> list[tuple[Code, str, str]]:
    values: dict[str, Any] = {
        "name": "m", "source": source, "inputs": {"x": {"shape": [1]}}, "opset": 17,
        "exporters": ["dynamo"], "trust": [str(package)], "model_dir": "m", "staging_dir": "s",
    }  # fmt: skip
    job = Job.model_validate(values | changes)
    return [(error.code, error.message, error.hint) for error in foresight.failures(job)]


@pytest.mark.parametrize("name", ["Net", "build", "ready", "Renamed"])
def test_a_name_that_is_there(package: Path, name: str) -> None:
    assert told(package, {"_target_": f"mine.nets.{name}"}) == []
    assert told(package, {"file": str(package / "mine/nets.py"), "name": name}) == []


def test_a_module_that_computes_its_names_is_for_the_worker(package: Path) -> None:
    assert told(package, {"_target_": "mine.lazy.Anything"}) == []


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("mine.netz.Net", "mine has no 'netz'", "Near names: nets."),
        ("mine.nets.Nett", "mine.nets has no 'Nett'", "Near names: Net."),
        ("mine", "is no dotted name", "Write package.module.name."),
    ],
)
def test_a_name_that_is_not_there(package: Path, target: str, message: str, hint: str) -> None:
    ((code, said, what),) = told(package, {"_target_": target})
    assert code is Code.LOAD
    assert message in said
    assert what == hint


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("mine.nets:ready", None),
        ("mine.nets:TABEL", "export.translations 'mine.nets:TABEL': mine.nets has no 'TABEL'"),
        ("json:TABLE", "export.translations 'json:TABLE' is not trusted"),
    ],
)
def test_a_table_of_translations(package: Path, table: str, message: str | None) -> None:
    found = told(package, {"_target_": "mine.nets.Net"}, export={"translations": table})
    assert [said for _, said, _ in found] == ([message] if message else [])


def test_a_library_of_custom_operators(package: Path, tmp_path_factory: Any) -> None:
    def of(path: Path) -> list[tuple[Code, str, str]]:
        return told(package, {"_target_": "mine.nets.Net"}, export={"custom_ops": [str(path)]})

    ((code, said, _),) = of(package / "missing.so")
    assert code is Code.LOAD
    assert f"export.custom_ops: {package / 'missing.so'}" in said
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "lib.so"
    elsewhere.write_bytes(b"")
    ((code, said, hint),) = of(elsewhere)
    assert code is Code.TARGET_DENIED
    assert said == f"export.custom_ops: {elsewhere} is not inside a trusted folder"
    assert "export CONVERTER_TRUST=" in hint
    (package / "lib.so").write_bytes(b"")
    assert of(package / "lib.so") == []


def test_a_module_that_is_not_installed(package: Path) -> None:
    ((code, said, hint),) = told(
        package, {"_target_": "nowhere_at_all.Net"}, trust=["nowhere_at_all"]
    )
    assert (code, said) == (
        Code.LOAD,
        "_target_ 'nowhere_at_all.Net': there is no module 'nowhere_at_all'",
    )
    assert "or list the folder in CONVERTER_TRUST" in hint


def test_a_file_that_is_no_python(package: Path) -> None:
    ((code, said, hint),) = told(package, {"_target_": "mine.broken.Net"})
    assert code is Code.LOAD
    assert "mine/broken.py:1: SyntaxError: " in said
    assert hint == "Correct the file."


def test_code_that_is_not_trusted(package: Path) -> None:
    ((code, _, hint),) = told(package, {"_target_": "mine.nets.Net"}, trust=[])
    assert code is Code.TARGET_DENIED
    assert hint == "If you trust it: export CONVERTER_TRUST=mine"
    file = str(package / "mine/nets.py")
    ((code, _, hint),) = told(package, {"file": file, "name": "Net"}, trust=[])
    assert code is Code.TARGET_DENIED
    assert hint == f"If you trust it: export CONVERTER_TRUST={package}/mine"


def test_a_model_that_the_registry_lacks(package: Path) -> None:
    ((code, _, hint),) = told(package, {"registry": "torchvision/resnet19"})
    assert code is Code.LOAD
    assert hint.startswith("The installed torchvision does not have it; near names: torchvision/")


def test_all_files_that_are_missing_are_told(package: Path) -> None:
    inputs = {"x": {"shape": [1], "path": str(package / "x.npy")}}
    weights = {"checkpoint": str(package / "w.pth")}
    source = {"onnx": str(package / "net.onnx")}
    found = told(package, source, inputs=inputs, weights=weights)
    assert [(code, message) for code, message, _ in found] == [
        (Code.LOAD, f"source.onnx: {package}/net.onnx does not exist"),
        (Code.WEIGHTS_MISSING, f"weights.checkpoint: {package}/w.pth does not exist"),
        (Code.FORWARD, f"inputs.x.path {package}/x.npy does not exist"),
    ]
    assert {hint for _, _, hint in found} == {
        "A relative path counts from the folder where the command was started."
    }


def test_an_archive_without_the_inputs_array_needs_a_key(package: Path) -> None:
    path = package / "in.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", b"")
        archive.writestr("mask.npy", b"")
    case = {"label": "other", "inputs": {"x": {"path": str(path)}}}
    source = {"registry": "srcnn"}
    ((code, message, hint),) = told(package, source, verify={"cases": [case]})
    assert code is Code.FORWARD
    assert message.endswith("in.npz holds 2 tensors by name (image, mask), none of them 'x'")
    assert hint == "Say which: key: image"
    case["inputs"]["x"]["key"] = "imagee"
    ((_, message, hint),) = told(package, source, verify={"cases": [case]})
    assert message.endswith("in.npz has no tensor 'imagee' (image, mask)")
    assert hint == "Did you mean image?"
    case["inputs"]["x"]["key"] = "mask"
    assert told(package, source, verify={"cases": [case]}) == []


@pytest.mark.parametrize("name", ["DEFAULT", "IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1"])
def test_published_weights_are_read_from_the_library(package: Path, name: str) -> None:
    assert told(package, {"registry": "torchvision/resnet18"}, weights=name) == []


def test_a_name_that_no_weights_have(package: Path) -> None:
    ((code, message, hint),) = told(
        package, {"registry": "torchvision/resnet18"}, weights="IMAGENET1K_V9"
    )
    assert (code, message) == (
        Code.WEIGHTS_MISSING, "weights: resnet18 has no weights 'IMAGENET1K_V9'",
    )  # fmt: skip
    assert hint.startswith("Choose one of IMAGENET1K_V1, DEFAULT; or random")
