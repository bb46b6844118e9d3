"""One model in words or in Python values, as the configuration that does the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import converter
from converter.api import given, request
from converter.api.runs import quoted
from converter.cli.command_line import main
from converter.model.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        ("torchvision/resnet18", "torchvision/resnet18", "resnet18"),
        ("srcnn", "srcnn", "srcnn"),
        ("nets.py:Net", {"file": "nets.py", "name": "Net"}, "Net"),
        ("a b.onnx", {"onnx": "a b.onnx"}, "a_b"),
        ("m.pt2", {"exported_program": "m.pt2"}, "m"),
        ("my_package.nets.build", {"_target_": "my_package.nets.build"}, "build"),
    ],
)
def test_a_source_in_words(
    text: str, source: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("nets.py", "a b.onnx", "m.pt2"):
        Path(file).touch()
    found, trusted = request.source_of(text)
    assert found == source
    assert request.name_of(found) == name
    assert trusted == (tmp_path if ".py:" in text else None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.py:Net"], "convert: nowhere.py does not exist."),
        (["nowhere.onnx"], "convert: nowhere.onnx does not exist."),
        (["net.py"], "Name the class or function that builds the model: net.py:NAME"),
        (["srcnn", "--input", "x=1,3"], "--input: found 'x=1,3'. Write NAME=SIZExSIZE[:DTYPE]"),
        (["srcnn", "--input", "x=1", "--input", "x=2"], "--input: two inputs have one name."),
        (["srcnn", "--dynamic", "x=b"], "--dynamic: found 'x=b'. Write INPUT:AXIS=NAME"),
        (["srcnn", "-o", "x.bin"], "--output: x.bin is no name of an ONNX file here."),
        (["srcnn", "-o", "no/x.onnx"], "--output: there is no folder no."),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_that_does_the_same() -> None:
    name, one = request.input_of("ids=1x16:int64")
    asked = request.Request(
        "net",
        {"file": "nets.py", "name": "Net"},
        inputs={name: one},
        dynamic_axes=request.dynamic_of(["ids:0=batch", "ids:1=length"]),
        opset=18,
        variants=["fp16"],
    )
    text = asked.yaml()
    assert text.startswith("# @package _global_\n")
    assert yaml.safe_load(text) == {
        "defaults": [{"override /benchmark": "off"}, {"override /variant": ["fp16"]}],
        "models": {
            "net": {
                "source": {"file": "nets.py", "name": "Net"},
                "inputs": {"ids": {"shape": [1, 16], "dtype": "int64"}},
                "dynamic_axes": {"ids": {0: "batch", 1: "length"}},
                "opset": 18,
            }
        },
    }
    assert request.input_of("n=:int64") == ("n", {"shape": [], "dtype": "int64"})


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        ((1, 3), {"shape": [1, 3]}),
        ({"shape": [2], "dtype": "bool"}, {"shape": [2], "dtype": "bool"}),
        (np.array([0.5, 2], np.float32), {"shape": [2], "dtype": "float32", "low": 0.5, "high": 2}),
        (np.ones((2, 2), np.float32), {"shape": [2, 2], "dtype": "float32"}),
        (np.array(0.7), {"shape": [], "dtype": "float64", "value": 0.7}),
        (np.zeros(3, np.int64), {"shape": [3], "dtype": "int64", "low": 0, "high": 2}),
        (np.array([5, 99]), {"shape": [2], "dtype": "int64", "low": 0, "high": 100}),
        (np.array([True]), {"shape": [1], "dtype": "bool"}),
    ],
)
def test_an_array_says_what_inputs_are_like(value: Any, declared: Any, tmp_path: Path) -> None:
    found = given.stated({"x": value}, None, tmp_path)
    assert found["inputs"] == {"x": declared}
    drawn = isinstance(value, np.ndarray) and "value" not in declared
    cases = [{"label": "given", "inputs": {"x": {"path": str(tmp_path / "0.npy")}}}]
    assert list(found["cases"]) == (cases if drawn else [])


def test_inputs_are_named_after_the_arguments_of_forward() -> None:
    shapes = [(1, 3), (2,)]
    assert list(given.stated(shapes, ["a", "b", "c"], None)["inputs"]) == ["a", "b"]
    assert given.stated((4, 5), ["a"], None)["inputs"] == {"a": {"shape": [4, 5]}}
    with pytest.raises(ConfigError, match="inputs: their names are not known"):
        given.stated(shapes, None, None)
    with pytest.raises(ConfigError, match=r"inputs\.x: found str; expected a tensor, an array"):
        given.stated({"x": "1x3"}, None, None)


@pytest.mark.parametrize("name", ["plain", "a b", "it's", "back\\slash", "a=b,c{d}[e]$f"])
def test_any_folder_can_be_named(name: str, tmp_path: Path) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (found,) = OverridesParser.create().parse_overrides([f"hydra.run.dir={quoted(Path(name))}"])
    assert found.value() == name


def test_the_api_is_imported_when_it_is_used() -> None:
    assert {"convert", "run", "verify", "load_manifest"} <= set(converter.__all__)
    assert callable(converter.run)
    with pytest.raises(AttributeError, match="no attribute 'convret'"):
        converter.convret  # noqa: B018
    with pytest.raises(converter.ConfigError, match=r"nowhere: is no manifest of a run"):
        converter.load_manifest("nowhere")
    with pytest.raises(converter.ConfigError, match="this configuration is a sweep"):
        converter.run("+experiment=opset_sweep", quiet=True)


def test_files_of_a_zoo_are_validated_by_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "zoo"
    assert main(["init", str(folder)]) == 0
    assert "CONVERTER_TRUST=. python -m converter --config-dir . " in capsys.readouterr().out
    assert main(["init", str(folder)]) == 2
    assert "is in use. Name a new or an empty folder." in capsys.readouterr().err
    model, experiment = folder / "model" / "tiny.yaml", folder / "experiment" / "mine.yaml"
    assert main(["validate", str(model), str(experiment)]) == 0
    assert capsys.readouterr().out == "2 files: 2 right, 0 wrong\n"
    model.write_text(model.read_text().replace("shape", "shap"))
    assert main(["validate", str(model), str(folder / "nets.py"), str(folder / "no.yaml")]) == 2
    said = capsys.readouterr().err
    assert f"{model}: models.tiny.inputs.image.shap: unknown key. Did you mean shape or" in said
    assert "is in no folder of a group" in said
    assert "no.yaml does not exist" in said


@pytest.mark.parametrize("file", sorted(Path("configs").rglob("*.yaml")), ids=str)
def test_every_shipped_file_is_valid_by_itself(file: Path) -> None:
    from converter.config import zoo_files

    if file.name != "config.yaml":
        assert zoo_files.problems(file) == []


class Module:
    """What the API takes for a module."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def forward(self, x: object) -> object:
        return x


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        (None, {}, "model: found NoneType; expected a torch.nn.Module or a source in words."),
        (Module, {}, r"model: Module is a class. Make one: Module\("),
        (Module(), {"dynamic": "x:0=b"}, "dynamic: expected a mapping of inputs to mappings of"),
        (Module(), {"dynamic": {"x": [0]}}, "Write {'x': {0: 'batch'}}"),
        (Module(), {"variants": "fp16"}, r"variants: found text; write \['fp16'\]."),
        (Module(), {"overrides": "seed=1"}, r"overrides: found text; write \['seed=1'\]."),
        (Module(), {"weights": "DEFAULT"}, "weights: a module has its own already."),
    ],
)
def test_arguments_of_another_kind(model: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        converter.convert(model, (1, 3), **more)


def test_a_module_that_cannot_be_copied() -> None:
    class Stuck(Module):
        def __deepcopy__(self, memo: object) -> object:
            raise RuntimeError("Only Tensors created explicitly by the user\nsupport it")

    with pytest.raises(ConfigError, match="model: cannot be copied: Only Tensors created expl"):
        converter.convert(Stuck(), (1, 3))  # type: ignore[arg-type]


def test_ranges_of_an_input() -> None:
    assert request.input_of("ids=1x16:int64:0..100")[1] == {
        "shape": [1, 16], "dtype": "int64", "low": 0, "high": 100,
    }  # fmt: skip
    assert request.input_of("x=4:-0.5..1.5")[1] == {"shape": [4], "low": -0.5, "high": 1.5}


def test_a_folder_that_trust_cannot_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("a:b")
    folder.mkdir()
    (folder / "nets.py").touch()
    with pytest.raises(ConfigError, match="has ':' in its name"):
        request.source_of("a:b/nets.py:Net")
    Path("net.onnx").mkdir()
    with pytest.raises(ConfigError, match=r"--output: net\.onnx is a folder"):
        request.output_of(Path("net.onnx"))


def test_a_model_without_its_package_line_is_told_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "zoo" / "model" / "net.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("source: srcnn\n")
    assert main(["validate", str(file)]) == 2
    assert "# @package models.net" in capsys.readouterr().err


def test_copies_replace_the_model_before_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A death in between must not leave a model of before with weights of now."""
    from types import SimpleNamespace

    from converter.api import single
    from converter.layout import files

    run, target = tmp_path / "run", tmp_path / "target"
    run.mkdir()
    target.mkdir()
    parts = []
    for name in ("net.onnx", "net.onnx.data"):
        (run / name).write_text(f"new {name}")
        (target / name).write_text("old")
        parts.append(SimpleNamespace(path=name, sha256=files.sha256(run / name)))
    row: Any = SimpleNamespace(id="onnx", files=parts)
    replace, seen = single.os.replace, []

    def spied(source: Path, to: Path) -> None:
        seen.append((to.name, (target / "net.onnx").exists()))
        replace(source, to)

    monkeypatch.setattr(single.os, "replace", spied)
    assert single._copied([row], run, target) == {"onnx": target / "net.onnx"}
    assert seen == [("net.onnx.data", False), ("net.onnx", False)]
    assert (target / "net.onnx").read_text() == "new net.onnx"
    assert sorted(path.name for path in target.iterdir()) == ["net.onnx", "net.onnx.data"]


def test_a_tensor_that_numpy_has_no_array_of_is_to_be_stated() -> None:
    class Tensor:
        dtype, shape = "torch.bfloat16", (2, 3)

        def detach(self) -> Tensor:
            return self

        def cpu(self) -> Tensor:
            return self

        def numpy(self) -> Any:
            raise TypeError("Got unsupported ScalarType BFloat16")

    with pytest.raises(ConfigError) as caught:
        given._array("x", Tensor())
    (problem,) = caught.value.problems
    assert problem.key == "inputs.x"
    assert problem.hint == "State it: {'x': {'shape': [2, 3], 'dtype': 'bfloat16'}}."


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2"])
def test_an_array_of_ml_dtypes(dtype: str, tmp_path: Path) -> None:
    import ml_dtypes

    array = np.array([[-1.5, 2.0]], getattr(ml_dtypes, dtype))
    found = {"shape": [1, 2], "dtype": dtype, "low": -1.5, "high": 2.0}
    assert given._declared(array) == found
    given._save(str(tmp_path / "x.npy"), array)
    assert np.load(tmp_path / "x.npy").tolist() == [[-1.5, 2.0]]
