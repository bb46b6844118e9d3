"""Row 60: a builder of a library loads no weights by itself, and unpickles nothing."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.reference import conditioning
from converter.worker.sources import loading

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # torchvision's, on its old arguments
]


class Planted:
    """A pickle that runs code when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.canary), "w")


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What planted files in the cache of torch.hub would make."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub/checkpoints"
    cache.mkdir(parents=True)
    names = (
        "squeezenet1_1-b8a52dc0", "resnet50-0676ba61", "resnet50-11ad3fa6", "resnet18-f37072fd",
        "resnet18-5c106cde",
    )  # fmt: skip
    for name in names:
        (cache / f"{name}.pth").write_bytes(pickle.dumps(Planted(tmp_path / "canary")))
    return tmp_path / "canary"


def job(source: dict[str, str], folder: Path, **more: Any) -> Job:
    values = {
        "name": "m", "source": source, "inputs": {"x": {"shape": [1, 3, 64, 64]}}, "opset": 17,
        "exporters": ["torchscript"], "device": "cpu", "trust": [str(folder)],
        "model_dir": str(folder / "models/m"), "staging_dir": str(folder / "staging/m"),
    }  # fmt: skip
    return Job.model_validate({**values, **more})


def refused(job: Job) -> StageError:
    with pytest.raises(StageError) as caught:
        loading.load(job)
    return caught.value


@pytest.mark.parametrize(
    ("source", "kwargs"),
    [
        ({"registry": "torchvision/squeezenet1_1"}, {"pretrained": True}),
        ({"registry": "torchvision/fcn_resnet50"}, {"weights_backbone": "DEFAULT"}),
        ({"registry": "torchvision/fcn_resnet50"}, {"weights_backbone": "IMAGENET1K_V1"}),
        ({"_target_": "torchvision.models.resnet18"}, {"pretrained": True}),
    ],
)
def test_row_60_a_planted_file_is_not_unpickled(
    canary: Path, tmp_path: Path, source: dict[str, str], kwargs: dict[str, Any]
) -> None:
    error = refused(job(source, tmp_path, kwargs=kwargs))
    assert error.code is Code.WEIGHTS_UNSAFE
    assert f"kwargs.{next(iter(kwargs))} makes " in error.message
    assert str(tmp_path / "hub/checkpoints") in error.message
    assert "weights: {checkpoint: PATH}" in error.hint
    assert not canary.exists()


def test_row_60_a_download_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = {"registry": "torchvision/squeezenet1_1"}
    error = refused(job(source, tmp_path, kwargs={"weights": "DEFAULT"}))
    assert error.code is Code.WEIGHTS_UNSAFE
    assert "download from https://download.pytorch.org/" in error.message


def test_row_60_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    canary = tmp_path / "canary"
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Planted(canary)))
    for more in ({}, {"pretrained_cfg_overlay": {"file": str(tmp_path / "w.pth")}}):
        kwargs = {"pretrained": True, **more}
        error = refused(job({"registry": "timm/resnet18"}, tmp_path, kwargs=kwargs))
        assert error.code is Code.WEIGHTS_UNSAFE
        assert "kwargs.pretrained" in error.message
    assert not canary.exists()


@pytest.mark.parametrize(
    "kwargs", [{}, {"pretrained": False}, {"weights": None}, {"num_classes": 3}]
)
def test_what_loads_nothing_is_built(canary: Path, tmp_path: Path, kwargs: dict[str, Any]) -> None:
    wanted = job({"registry": "torchvision/squeezenet1_1"}, tmp_path, kwargs=kwargs)
    assert conditioning.applies(loading.load(wanted), wanted)


OWN = """
import torch, torchvision

def build():
    model = torchvision.models.squeezenet1_1(weights="DEFAULT")
    return model
"""


def test_a_builder_of_the_users_may_load_what_it_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub/checkpoints/squeezenet1_1-b8a52dc0.pth"
    cached.parent.mkdir(parents=True)
    state = squeezenet1_1().state_dict()
    torch.save(state, cached)
    (tmp_path / "own.py").write_text(OWN)
    wanted = job({"file": str(tmp_path / "own.py"), "name": "build"}, tmp_path)
    loaded = loading.load(wanted)
    name = next(iter(state))
    assert torch.equal(loaded.torch_model.state_dict()[name], state[name])
    assert not conditioning.applies(loaded, wanted)
    assert loaded.reading.files() == [str(cached), str(tmp_path / "own.py")]
    assert SqueezeNet1_1_Weights.DEFAULT.url.endswith(cached.name)


def test_published_weights_hold_tensors_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a file that has the hash in its name, which is short."""
    from torchvision.models import SqueezeNet1_1_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    data = pickle.dumps(Planted(tmp_path / "canary"))
    cached = tmp_path / f"hub/checkpoints/squeezenet1_1-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(data)
    url = f"https://localhost/{cached.name}"
    monkeypatch.setattr(SqueezeNet1_1_Weights.DEFAULT.value, "url", url)
    error = refused(job({"registry": "torchvision/squeezenet1_1"}, tmp_path, weights="DEFAULT"))
    assert error.code is Code.WEIGHTS_UNSAFE
    assert not (tmp_path / "canary").exists()
