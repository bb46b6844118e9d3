"""Random weights under which a comparison can tell right from wrong; trained ones untouched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from jobs import IMAGE
from torch import nn

from converter.model.errors import Code
from converter.model.manifest import request_of
from converter.plan.keys import Keys
from converter.worker.reference import conditioning

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
INPUT = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    state = torch.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.set_rng_state(state)


def conditioned(model: nn.Module, seed: int = 0) -> nn.Module:
    conditioning.condition(model, lambda: model(INPUT), seed)
    return model


def equal(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def test_the_same_seed_gives_the_same_weights() -> None:
    model = tiny.Vanishing().eval()
    one, same, other = (conditioned(copy.deepcopy(model), seed) for seed in (1, 1, 2))
    assert equal(one, same)
    assert not equal(one, other)
    assert not equal(one, model)


def test_a_vanishing_net_becomes_healthy() -> None:
    """Scale, dependence on the input, and on each of its parameters."""
    model = tiny.Vanishing().eval()
    assert model(INPUT).abs().max() == 0
    conditioned(model)
    output, other = model(INPUT), model(-INPUT)
    assert 0.1 < output.pow(2).mean().sqrt() < 10
    assert (output - other).pow(2).mean().sqrt() > 1e-2
    output.pow(2).sum().backward()
    weak = [name for name, p in model.named_parameters() if p.grad is None or p.grad.norm() < 1e-3]
    assert weak == []


def test_modes_and_hooks_are_as_before() -> None:
    model = tiny.Vanishing().train()
    model.head.eval()
    conditioned(model)
    assert (model.training, model.body.training, model.head.training) == (True, True, False)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.isfinite(torch.cat([p.flatten() for p in model.state_dict().values()])).all()


@pytest.mark.parametrize(
    ("source", "weights", "kind", "expected"),
    [
        ("registry", "random", "module", True),
        ("registry", "DEFAULT", "module", False),
        ("registry", "random", "script_module", False),
        ("target", "random", "module", False),
        ("file", "random", "module", False),
        ("registry", "conditioned", "module", True),
        ("target", "conditioned", "module", True),
        ("file", "conditioned", "module", True),
        ("file", "conditioned", "script_module", False),
    ],
)
def test_only_weights_that_are_random_by_construction(
    source: str, weights: str, kind: str, expected: bool
) -> None:
    job: Any = SimpleNamespace(weights=weights, source=SimpleNamespace(kind=source))
    loaded: Any = SimpleNamespace(kind=kind)
    assert conditioning.applies(loaded, job) is expected


# In a job


@pytest.mark.usefixtures("zoo")
def test_a_registry_model_is_conditioned_and_says_so(convert: Convert) -> None:
    done = convert({"registry": "Vanishing"}, inputs=IMAGE)
    assert (done.code, done.result.conditioned) == (None, True)
    assert done.result.verify.sensitivity.input_delta > 1e-2
    assert done.files == convert({"registry": "Vanishing"}, inputs=IMAGE).files
    assert done.files != convert({"registry": "Vanishing"}, inputs=IMAGE, seed=1).files


@pytest.mark.usefixtures("zoo")
def test_a_checkpoint_is_not_touched(convert: Convert, tmp_path: Path) -> None:
    state = tiny.Net().state_dict()
    torch.save(state, tmp_path / "net.pth")
    checkpoint = {"checkpoint": str(tmp_path / "net.pth")}
    done = convert({"registry": "Net"}, weights=checkpoint)
    assert (done.code, done.result.conditioned) == (None, False)
    for name, tensor in state.items():
        np.testing.assert_array_equal(done.weights[name], tensor.numpy())


def test_a_users_own_builder_is_not_touched(convert: Convert, tmp_path: Path) -> None:
    """It may have read trained weights: vanishing outputs are told, not mended."""
    done = convert("Vanishing", inputs=IMAGE)
    assert done.code is Code.VERIFY_VACUOUS
    assert "weights: conditioned redraws them" in done.result.error.hint
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "def build():\n"
        "    layer = torch.nn.Linear(3, 4)\n"
        "    torch.nn.init.constant_(layer.weight, 0.25)\n"
        "    return layer\n"
    )
    source = {"file": str(tmp_path / "own.py"), "name": "build"}
    done = convert(source, trust=[str(tmp_path)])
    assert (done.code, done.result.conditioned) == (None, False)
    assert np.unique(done.weights["weight"]).tolist() == [0.25]


def test_a_users_own_builder_is_conditioned_where_it_is_stated(convert: Convert) -> None:
    """A net that is not trained yet can be tried, and its row says so."""
    done = convert("Vanishing", inputs=IMAGE, weights="conditioned")
    assert (done.code, done.result.conditioned) == (None, True)
    assert done.result.verify.sensitivity.input_delta > 1e-2
    assert done.files == convert("Vanishing", inputs=IMAGE, weights="conditioned").files


def test_the_manifest_and_the_key_tell_what_was_conditioned(
    tiny_job: Callable[..., Any], convert: Convert
) -> None:
    job = tiny_job("Vanishing", inputs=IMAGE, weights="conditioned")
    request = request_of(job, convert("Vanishing", inputs=IMAGE, weights="conditioned").result)
    assert (request.weights.kind, request.weights.name) == ("random", "conditioned")
    assert request.conditioned is True
    plain = tiny_job("Vanishing", inputs=IMAGE)
    assert request_of(plain).weights != request.weights
    made = Keys({}, [])
    assert made.of(job).parts["request.weights"] == "conditioned"
    assert made.of(plain).digest != made.of(job).digest


def test_what_is_no_module_of_the_builders_is_not_conditioned(
    convert: Convert, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "def build():\n"
        "    return torch.jit.script(torch.nn.Linear(3, 4))\n"
        "ready = torch.nn.Linear(3, 4)\n"
    )
    for name in ("build", "ready"):
        source = {"file": str(tmp_path / "own.py"), "name": name}
        done = convert(source, trust=[str(tmp_path)], weights="conditioned")
        assert done.code is Code.LOAD
        assert "weights" in done.result.error.message
