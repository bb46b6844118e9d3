"""The registry's models, built and run; the library's own list against ours."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import registry
from registry.make_srcnn_checkpoint import PATH, state_dict

pytestmark = [
    pytest.mark.integration,
    # The TorchScript exporter and torch.jit are deprecated, and say so in several ways.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:no signature found:UserWarning"),  # script function
    pytest.mark.filterwarnings("ignore:ONNX Preprocess:UserWarning"),  # train-mode BatchNorm
]

# The pitfalls are there to fail: tests/e2e/test_pitfalls.py runs them.
OWN = [
    name
    for name in registry.names()
    if registry.family(name) is None and not name.startswith("pitfalls/")
]
SHAPES = {
    "conv_bn_relu": (2, 32, 249, 249),
    "flatten_pool": (1, 10),
    "simple_cnn": (1, 10),
    "single_conv": (1, 3, 8, 8),
    "srcnn": (1, 3, 768, 768),
    "srcnn_dynamic": (1, 3, 768, 768),
    "scripted": (1, 3, 16, 16),
    "script_function": (4, 8),
    "clip_on_export": (1, 3, 32, 32),
    "contrib_gelu": (2, 4),
    "repeated": (1, 3, 16, 16),
}
# As they are run elsewhere: with a flag of the exporter's, and with a number beside the tensors.
OTHERWISE = ("clip_on_export", "repeated")
OPSETS = {"srcnn": 11, "srcnn_dynamic": 11, "simple_cnn": 12, "flatten_pool": 15}


def build(name: str, **kwargs: Any) -> tuple[registry.Entry, Any]:
    """A model as a worker builds it, with its default checkpoint and seeded weights."""
    torch.manual_seed(0)
    entry = registry.find(name)
    assert entry is not None
    model = getattr(import_module(entry.module), entry.builder)(**{**entry.kwargs, **kwargs})
    if isinstance(model, torch.nn.Module):
        model.eval()
    weights = entry.defaults.get("weights")
    if weights:
        tensors = torch.load(weights["checkpoint"], weights_only=True)[weights["key"]]
        prefix = weights["strip_prefix"]
        model.load_state_dict({key.removeprefix(prefix): value for key, value in tensors.items()})
    return entry, model


def example(entry: registry.Entry) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    tensors = []
    for spec in entry.inputs.values():
        if "value" in spec:
            tensors.append(torch.tensor(spec["value"]))
        else:
            draw = torch.rand if spec.get("fill") == "uniform" else torch.randn
            tensors.append(draw(spec["shape"], generator=generator))
    return tensors


def forward(model: Any, tensors: list[Tensor]) -> Any:
    with torch.inference_mode():
        return model(*[tensor.clone() for tensor in tensors])


def export(entry: registry.Entry, model: Any, tensors: list[Tensor], path: Path, **options: Any):
    torch.onnx.export(
        model, tuple(tensors), str(path), dynamo=False, input_names=list(entry.inputs),
        output_names=list(entry.outputs), **options,
    )  # fmt: skip
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, entry: registry.Entry, tensors: list[Tensor]):
    feed = {name: t.numpy() for name, t in zip(entry.inputs, tensors, strict=True)}
    return session.run(None, feed)[0]


def assert_equal(found: Any, reference: Tensor) -> None:
    """Element-wise, with the absolute bound in units of the reference's scale."""
    expected = reference.numpy()
    assert found.shape == expected.shape
    scale = float(np.sqrt(np.mean(expected**2)))
    assert scale > 1e-3, "a reference near zero proves nothing"
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("name", [name for name in OWN if name not in OTHERWISE])
def test_own_model_exports_and_matches(name: str, tmp_path: Path) -> None:
    entry, model = build(name)
    tensors = example(entry)
    reference = forward(model, tensors)
    assert tuple(reference.shape) == SHAPES[name]
    opset = OPSETS.get(name, 17)
    session = export(entry, model, tensors, tmp_path / "model.onnx", opset_version=opset)
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == opset
    assert_equal(run(session, entry, tensors), reference)


def test_every_own_model_has_a_shape_here() -> None:
    assert sorted(SHAPES) == OWN


@pytest.mark.parametrize("way", ["flatten", "view", "reshape"])
def test_the_ways_to_flatten_agree(way: str) -> None:
    entry, model = build("flatten_pool", way=way)
    _, flatten = build("flatten_pool")
    tensors = example(entry)
    assert torch.equal(forward(model, tensors), forward(flatten, tensors))


def test_a_wrong_way_to_flatten_names_the_choices() -> None:
    with pytest.raises(ValueError, match="expected one of flatten, view, reshape; found 'squash'"):
        build("flatten_pool", way="squash")


def test_srcnn_scale_is_an_input(tmp_path: Path) -> None:
    entry, model = build("srcnn_dynamic")
    axes = {"output": {2: "output_height", 3: "output_width"}}
    tensors = example(entry)
    session = export(
        entry, model, tensors, tmp_path / "model.onnx", opset_version=11, dynamic_axes=axes
    )
    assert session.get_outputs()[0].shape[2:] == ["output_height", "output_width"]
    for scale in (2, 3, 4):
        tensors[1] = torch.tensor([1.0, 1.0, scale, scale])
        assert_equal(run(session, entry, tensors), forward(model, tensors))
        static = build("srcnn", scale=scale)[1]
        assert torch.equal(forward(model, tensors), forward(static, tensors[:1]))


def test_scripted_control_flow_survives(tmp_path: Path) -> None:
    entry, model = build("scripted")
    tensors = example(entry)
    session = export(entry, model, tensors, tmp_path / "model.onnx", opset_version=17)
    nodes = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert {"Loop", "If"} <= nodes
    unit = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    for factor in (1.0, -1.0, 100.0, -10.0):
        assert_equal(run(session, entry, [unit * factor]), forward(model, [unit * factor]))


def test_script_function_takes_both_branches(tmp_path: Path) -> None:
    entry, model = build("script_function")
    tensors = example(entry)
    session = export(entry, model, tensors, tmp_path / "model.onnx", opset_version=17)
    for pair in (tensors, tensors[::-1]):
        assert_equal(run(session, entry, pair), forward(model, pair))


def test_clip_on_export_differs_from_eager(tmp_path: Path) -> None:
    entry, model = build("clip_on_export")
    tensors = example(entry)
    found = run(export(entry, model, tensors, tmp_path / "model.onnx"), entry, tensors)
    eager = forward(model, tensors)
    assert np.abs(found - eager.numpy()).max() > 0.1
    assert_equal(found, eager.clip(-0.5, 0.5))


def test_batchnorm_stays_in_train_mode(tmp_path: Path) -> None:
    entry, model = build("conv_bn_relu")
    tensors = example(entry)
    session = export(
        entry, model, tensors, tmp_path / "model.onnx", opset_version=12,
        training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False,
    )  # fmt: skip
    nodes = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert nodes.count("BatchNormalization") == 2
    assert_equal(run(session, entry, tensors), forward(model.train(), tensors))


def test_the_checkpoint_is_what_its_script_makes() -> None:
    stored = torch.load(PATH, weights_only=True)["state_dict"]
    made = state_dict()
    assert list(stored) == [f"generator.{name}" for name in made]
    for name, tensor in made.items():
        torch.testing.assert_close(stored[f"generator.{name}"], tensor)


def test_torchvision_names_are_those_of_torchvision() -> None:
    import torchvision

    ours = [name.removeprefix("torchvision/") for name in registry.names("torchvision/*")]
    assert ours == sorted(torchvision.models.list_models())


def test_torchvision_builders_are_those_of_torchvision() -> None:
    import torchvision

    for name in registry.names("torchvision/*"):
        entry = registry.find(name)
        assert entry is not None
        builder = getattr(import_module(entry.module), entry.builder)
        short = name.removeprefix("torchvision/")
        assert builder is torchvision.models.get_model_builder(short), name


def test_timm_input_sizes_are_those_of_timm() -> None:
    timm = pytest.importorskip("timm")
    ours = registry.names("timm/*")
    assert [name.removeprefix("timm/") for name in ours] == sorted(timm.list_models())
    different = []
    for name in ours:
        entry = registry.find(name)
        assert entry is not None
        assert hasattr(import_module(entry.module), entry.builder), name
        config = timm.get_pretrained_cfg(entry.builder)
        if entry.inputs["input"]["shape"] != [1, *config.input_size]:
            different.append(name)
    assert len(different) <= 0.005 * len(ours), different  # those that compute their size


def flatten(outputs: Any) -> tuple[tuple[str, ...] | None, list[Tensor]]:
    """The names that an output's structure gives, if any, and its tensors."""
    if isinstance(outputs, Tensor):
        return None, [outputs]
    if isinstance(outputs, list) and isinstance(outputs[0], Mapping):
        (outputs,) = outputs
    if isinstance(outputs, Mapping):
        return tuple(outputs), list(outputs.values())
    return None, list(outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("torchvision/*"))
def test_torchvision_model_runs_at_its_default_input(name: str) -> None:
    entry, model = build(name)
    keys, tensors = flatten(forward(model, example(entry)))
    assert len(tensors) == len(entry.outputs)
    assert keys is None or keys == entry.outputs
    assert all(isinstance(tensor, Tensor) for tensor in tensors)
    del model, tensors
    gc.collect()
