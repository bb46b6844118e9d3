"""The registry and the shipped configurations, without torch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import registry
from converter.model.inputs import InputSpec
from converter.model.source import Checkpoint
from converter.model.spec import ModelSpec

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = sorted((CONFIGS / "model").glob("*.yaml"))
EXPERIMENTS = sorted((CONFIGS / "experiment").glob("*.yaml"))
OWN = ["clip_on_export", "contrib_gelu", "conv_bn_relu", "flatten_pool", "repeated",
       "script_function", "scripted", "simple_cnn", "single_conv", "srcnn",
       "srcnn_dynamic"]  # fmt: skip
PITFALLS = registry.names("pitfalls/*")
FLOW = [1, 3, 128, 128]


def entry_of(name: str) -> registry.Entry:
    entry = registry.find(name)
    assert entry is not None, f"{name} is not in the registry"
    return entry


def composed(*overrides: str) -> dict[str, Any]:
    """Compose as the command does, with only what this folder ships."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("config", list(overrides))
    assert isinstance(config, DictConfig)
    return OmegaConf.to_container(config)  # type: ignore[return-value]


def in_bare_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=CONFIGS.parent,
    )  # fmt: skip
    return done.stdout.strip()


def test_lookup_does_not_import_torch() -> None:
    heavy = ["torch", "torchvision", "timm", "onnx", "onnxruntime", "numpy"]
    found = in_bare_python(
        "import sys, registry\n"
        "for name in registry.names(): registry.find(name)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert found == "[]"


def test_family_modules_are_imported_only_when_needed() -> None:
    found = in_bare_python(
        "import sys, registry\n"
        "assert registry.find('srcnn') and registry.names('conv*')\n"
        "print([name for name in sys.modules if name.endswith('_zoo')])\n"
        "registry.names('torchvision/resnet*')\n"
        "print([name for name in sys.modules if name.endswith('_zoo')])"
    )
    assert found.splitlines() == ["[]", "['registry.torchvision_zoo']"]


def test_own_models_are_found_by_reading_the_folder() -> None:
    own = [name for name in registry.names() if registry.family(name) is None]
    assert [name for name in own if name not in PITFALLS] == OWN
    assert PITFALLS


@pytest.mark.parametrize("name", OWN + PITFALLS)
def test_own_entry_is_complete(name: str) -> None:
    entry = entry_of(name)
    assert entry.name == name
    assert entry.task
    assert entry.outputs
    assert (registry.FOLDER / f"{entry.module.removeprefix('registry.')}.py").is_file()
    for spec in entry.inputs.values():
        InputSpec.model_validate(spec)
    ModelSpec.model_validate(dict(entry.defaults))


def test_parameters_are_those_of_the_builder() -> None:
    assert entry_of("flatten_pool").parameters == {"way": "flatten"}
    assert entry_of("srcnn").parameters == {"scale": 3}
    deeplab = entry_of("torchvision/deeplabv3_resnet50").parameters
    assert deeplab["weights_backbone"] == "ResNet50_Weights.IMAGENET1K_V1"
    assert "weights" not in deeplab


def test_the_default_checkpoint_is_absolute_and_there() -> None:
    checkpoint = Checkpoint.model_validate(entry_of("srcnn").defaults["weights"])
    assert Path(checkpoint.checkpoint).is_absolute()
    assert Path(checkpoint.checkpoint).is_file()
    assert checkpoint.strip_prefix == "generator."


def test_a_source_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "raise ImportError('never executed')\n"
        "SOURCES = {'mine': {'task': 't', 'inputs': {'x': {'shape': [1]}}, 'outputs': ['y']}}\n"
        "def build(width, depth=3, *, act=nn.ReLU): ...\n"
    )
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    registry._modules.cache_clear()
    registry._own.cache_clear()
    try:
        entry = entry_of("mine")
    finally:
        registry._modules.cache_clear()
        registry._own.cache_clear()
    assert (entry.module, entry.builder) == ("registry.mine", "build")
    assert entry.parameters == {"width": None, "depth": 3, "act": "nn.ReLU"}


@pytest.mark.parametrize(
    ("name", "task", "inputs", "kwargs"),
    [
        ("resnet18", "classification", {"input": [1, 3, 224, 224]}, {}),
        ("inception_v3", "classification", {"input": [1, 3, 299, 299]}, {"init_weights": False}),
        ("quantized_resnet18", "quantization", {"input": [1, 3, 224, 224]}, {}),
        ("fcn_resnet50", "segmentation", {"input": [1, 3, 224, 224]}, {"weights_backbone": None}),
        ("ssd300_vgg16", "detection", {"input": [1, 3, 300, 300]}, {"weights_backbone": None}),
        ("r3d_18", "video", {"input": [1, 3, 16, 112, 112]}, {}),
        ("mvit_v2_s", "video", {"input": [1, 3, 16, 224, 224]}, {}),
        ("raft_small", "optical_flow", {"image1": FLOW, "image2": FLOW}, {}),
    ],
)  # fmt: skip
def test_torchvision_defaults(
    name: str, task: str, inputs: dict[str, list[int]], kwargs: dict[str, Any]
) -> None:
    entry = entry_of(f"torchvision/{name}")
    assert entry.task == task
    assert {key: spec["shape"] for key, spec in entry.inputs.items()} == inputs
    assert dict(entry.kwargs) == kwargs
    for spec in entry.inputs.values():
        InputSpec.model_validate(spec)


def test_quantized_builders_have_another_name() -> None:
    entry = entry_of("torchvision/quantized_resnet18")
    assert entry.module == "torchvision.models.quantization.resnet"
    assert entry.builder == "resnet18"


def test_patterns() -> None:
    assert registry.names("srcnn*") == ["srcnn", "srcnn_dynamic"]
    assert registry.names("torchvision/vgg1[69]") == ["torchvision/vgg16", "torchvision/vgg19"]
    assert "torchvision/resnet18" in registry.names("*resnet18")
    assert registry.names("torchvision/no_such*") == []


def test_unknown_names() -> None:
    assert registry.find("srcn") is None
    assert registry.find("torchvision/resnet_18") is None
    assert registry.family("torchvision/resnet_18") == "torchvision/"
    assert registry.family("srcn") is None


def test_nearest_names() -> None:
    assert registry.nearest("srcn")[0] == "srcnn"
    assert "torchvision/resnet18" in registry.nearest("resnet18")
    assert registry.nearest("torchvision/resnet_18")[0] == "torchvision/resnet18"
    assert registry.nearest("qqqqqqqq") == []


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_model_file_is_valid_and_named_as_its_package(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# @package models.{path.stem}"
    spec = ModelSpec.model_validate(yaml.safe_load(text))
    assert spec.source is not None
    assert spec.source.registry is not None
    entry = entry_of(spec.source.registry)
    inputs = spec.inputs or entry.inputs
    outputs = spec.outputs or entry.outputs
    assert set(spec.dynamic_axes) <= {*inputs, *outputs}
    assert set(spec.kwargs) <= set(entry.parameters)
    assert {name for case in spec.verify.cases for name in case.inputs} <= set(inputs)
    assert {name for shape in spec.verify.shapes for name in shape} <= set(inputs)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment_is_global_and_its_models_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    stated = yaml.safe_load(text)
    shipped = {model.stem for model in MODELS}
    for item in stated.get("defaults", []):
        if isinstance(item, dict):
            assert set(item.get("/model", [])) <= shipped
    for name, model in stated.get("models", {}).items():
        source = model["source"]
        assert isinstance(source, dict) or registry.find(source) is not None, name
    for pattern in stated.get("include", []):
        assert registry.names(pattern), pattern


def test_seeds_need_no_network() -> None:
    models = composed("+experiment=seeds")["models"]
    shipped = {model.stem for model in MODELS}
    assert set(models) == {name for name in shipped if not name.endswith("_pretrained")}
    assert not [name for name, model in models.items() if isinstance(model.get("weights"), str)]


def test_smoke_follows_the_opset_of_the_run() -> None:
    models = composed("+experiment=smoke")["models"]
    assert len(models) == 3
    assert sum("opset" not in model for model in models.values()) >= 2


def test_zoo_is_the_seeds_and_more_than_one_task() -> None:
    models = composed("+experiment=zoo")["models"]
    assert set(composed("+experiment=seeds")["models"]) < set(models)
    tasks = {entry_of(model["source"]).task for model in models.values()}
    assert {"classification", "segmentation", "video", "optical_flow"} <= tasks


@pytest.mark.parametrize(
    ("overrides", "present", "absent"),
    [
        (["+experiment=[smoke,seeds]"], {"single_conv", "srcnn"}, {"vgg16"}),
        (["+experiment=[seeds,zoo]"], {"srcnn", "vgg16"}, set()),
        (["+experiment=zoo", "~models.vgg16"], {"srcnn"}, {"vgg16"}),
        (["+experiment=smoke", "+model=srcnn"], {"srcnn", "single_conv"}, set()),
        (["+experiment=smoke", "+models.mine={source: torchvision/resnet18}"], {"mine"}, set()),
        (["+model=[srcnn,resnet18]"], {"srcnn", "resnet18"}, {"single_conv"}),
    ],
)
def test_experiments_and_models_combine(
    overrides: list[str], present: set[str], absent: set[str]
) -> None:
    models = set(composed(*overrides)["models"])
    assert present <= models
    assert not absent & models


def test_a_model_can_be_changed_from_the_command_line() -> None:
    models = composed(
        "+experiment=zoo", "models.srcnn.opset=13", "++models.vgg16.opset=13"
    )["models"]  # fmt: skip
    assert models["srcnn"]["opset"] == models["vgg16"]["opset"] == 13


def test_names_of_a_whole_registry_are_listed_in_a_moment() -> None:
    start = time.perf_counter()
    registry.names()
    assert time.perf_counter() - start < 0.5
