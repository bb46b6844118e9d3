"""Checkpoints and published weights: rows 24–29 and 59 of the faults, and what fits."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import random
import socket
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.source import Checkpoint, Source
from converter.worker.sources import loading, weights

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning"),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)


KEYS = len(Net().state_dict())


@pytest.fixture
def module() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        key: torch.rand(value.shape).to(value.dtype) for key, value in Net().state_dict().items()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


def refused(module: nn.Module, path: Path, **settings: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        weights.load_checkpoint(module, Checkpoint(checkpoint=str(path), **settings))
    error = caught.value
    assert len(f"{error.message}\n{error.hint}".splitlines()) == 2
    return error


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


# What fits


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_is_loaded_and_hashed(
    module: Net, state: dict[str, Tensor], path: Path, legacy: bool
) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    found = weights.load_checkpoint(module, Checkpoint(checkpoint=str(path), sha256=sha256))
    assert found == sha256
    assert torch.equal(module.conv.weight, state["conv.weight"])


def test_key_and_prefix(module: Net, state: dict[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": prefixed(state, "generator."), "epoch": 7}, path)
    settings = Checkpoint(checkpoint=str(path), key="state_dict", strip_prefix="generator.")
    weights.load_checkpoint(module, settings)
    assert torch.equal(module.head.bias, state["head.bias"])


def test_a_checkpoint_from_before_batchnorm_counted(
    module: Net, state: dict[str, Tensor], path: Path
) -> None:
    del state["norm.num_batches_tracked"]
    torch.save(state, path)
    weights.load_checkpoint(module, Checkpoint(checkpoint=str(path)))
    assert torch.equal(module.norm.running_var, state["norm.running_var"])  # type: ignore[arg-type]


def test_a_script_module_takes_a_checkpoint(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, path)
    scripted = torch.jit.script(nn.Linear(2, 2))
    weights.load_checkpoint(scripted, Checkpoint(checkpoint=str(path)))
    assert scripted.weight.sum().item() == 4
    path.unlink()
    torch.save({"weight": torch.ones(2, 2)}, path)
    assert refused(scripted, path).code is Code.WEIGHTS_KEYS


# Rows 24 and 25: no checkpoint


def test_row_24_missing(module: Net, path: Path) -> None:
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_MISSING
    assert error.message == f"weights.checkpoint: {path} does not exist"
    assert "the folder where the command was started" in error.hint
    assert "is no file" in refused(module, path.parent).message


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4096\n"
PAGE = b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>\n"


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "looks", "hint"),
    [
        (b"", "it is empty", "Get the file again"),
        (PAGE, "looks like a web page (HTML)", "Get the file again"),
        (LFS, "looks like a Git LFS pointer", "git lfs pull --include model.pth"),
        (gzip.compress(b"x"), "looks like a gzip archive", "gunzip"),
        (b"\x90\0\0\0\0\0\0\0{}" + b" " * 14, "looks like a safetensors file, and is", "Get"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "looks like a HDF5 file (Keras)", "state dict"),
        (zipped(**{"weight.npy": b"x"}), "looks like an .npz archive of NumPy", "state dict"),
        (b"hello", "it cannot be read (", "Get the file again"),
        (random.Random(0).randbytes(300), "it cannot be read (", "Get the file again"),
        (zipped(readme=b"x"), "looks like a zip archive that torch.save did not write", "Get"),
        (saved([1]), "it holds a list, not a state dict", "Get"),
    ],
    ids=[
        "empty",
        "html",
        "lfs",
        "gzip",
        "safetensors",
        "hdf5",
        "npz",
        "text",
        "noise",
        "zip",
        "list",
    ],
)
def test_row_25_not_a_checkpoint(
    module: Net, path: Path, content: bytes, looks: str, hint: str
) -> None:
    path.write_bytes(content)
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_FORMAT
    assert error.message.startswith(str(path))
    assert looks in error.message
    assert hint in error.hint


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_row_25_truncated(
    module: Net, state: dict[str, Tensor], path: Path, legacy: bool, share: float
) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_FORMAT
    assert (
        "cannot be read (" if legacy else "a truncated or damaged zip archive ("
    ) in error.message
    assert "Get the file again" in error.hint


def test_row_25_a_torchscript_archive(module: Net, path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    error = refused(module, path)
    assert "looks like a TorchScript archive" in error.message
    assert "{torchscript: PATH}" in error.hint


def test_another_hash_than_promised(module: Net, state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)
    error = refused(module, path, sha256="0" * 64)
    assert error.code is Code.WEIGHTS_FORMAT
    assert "0" * 64 in error.message
    assert hashlib.sha256(path.read_bytes()).hexdigest() in error.message
    assert "state the new sha256" in error.hint


# Rows 26 and 27: hostile files


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_row_26_a_malicious_pickle(
    module: Net, path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool, forced: bool
) -> None:
    canary = path.with_name("canary")
    content = {"conv.weight": torch.ones(1), "x": Hostile(canary)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_UNSAFE
    assert f"asks to run '{os.system.__module__}.system'" in error.message
    assert "torch.save(model.state_dict(), path)" in error.hint
    assert not canary.exists()
    if not legacy and forced:  # the canary works: without the literal argument it sings
        with pytest.warns(UserWarning, match="forcing weights_only=False"):
            torch.load(path)
        assert canary.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("torch_saved", [False, True])
def test_row_26_a_malicious_pickle_of_every_protocol(
    module: Net, path: Path, protocol: int, torch_saved: bool
) -> None:
    canary = path.with_name("canary")
    content = {"os": 1, "system": "system", "x": Hostile(canary), "y": Hostile(canary)}
    if torch_saved:
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_UNSAFE
    assert f"asks to run '{os.system.__module__}.system'" in error.message
    assert "torch.save(model.state_dict(), path)" in error.hint
    assert not canary.exists()


def test_a_plain_pickle_of_harmless_values_is_no_checkpoint(module: Net, path: Path) -> None:
    path.write_bytes(pickle.dumps({"conv.weight": [1.0, 2.0]}))
    assert refused(module, path).code is Code.WEIGHTS_FORMAT


def test_row_26_a_pickled_module(module: Net, path: Path) -> None:
    torch.save(nn.Linear(1, 1), path)
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_UNSAFE
    assert "'torch.nn.modules.linear.Linear'" in error.message


def test_row_27_a_zip_bomb(module: Net, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}))
        with archive.open("model/data/0", "w") as entry:
            for _ in range(64):
                entry.write(bytes(1 << 20))
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_SIZE
    assert f"has {path.stat().st_size:,} bytes and would unpack to 67,108," in error.message
    assert "Get the file again" in error.hint


# Row 28: keys and shapes


def test_row_28_a_prefix_that_would_fit(module: Net, state: dict[str, Tensor], path: Path) -> None:
    torch.save(prefixed(state, "module."), path)
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_KEYS
    first = ", ".join(f"module.{key}" for key in list(state)[:5])
    # torch forgives a missing num_batches_tracked
    assert f"{KEYS - 1} missing ({', '.join(list(state)[:5])}, …)" in error.message
    assert f"{KEYS} extra ({first}, …)" in error.message
    assert error.hint == (
        f"Write weights: {{checkpoint: {path}, strip_prefix: module.}} "
        f"({KEYS} of {KEYS} keys would fit)."
    )


def test_row_28_another_prefix(module: Net, state: dict[str, Tensor], path: Path) -> None:
    torch.save(prefixed(state, "module.model."), path)
    error = refused(module, path, strip_prefix="model.")
    assert "no key starts with weights.strip_prefix 'model.'" in error.message
    assert "strip_prefix: module.model.}" in error.hint
    assert "strip_prefix: module.model.}" in refused(module, path, strip_prefix="module.").hint


def test_row_28_missing_and_extra(module: Net, state: dict[str, Tensor], path: Path) -> None:
    del state["head.bias"]
    torch.save({**state, "aux.weight": torch.ones(1)}, path)
    error = refused(module, path)
    assert "1 missing (head.bias), 1 extra (aux.weight)" in error.message
    assert "Is it a checkpoint of this model?" in error.hint


def test_row_28_keys_of_a_training_loop(module: Net, state: dict[str, Tensor], path: Path) -> None:
    """As Lightning saves it: the model below ``model.``, a loss and a metric beside it."""
    extra = {"loss.weight": torch.ones(2), "loss.pos.weight": torch.ones(1), "total": torch.ones(1)}
    torch.save({"state_dict": {**prefixed(state, "model."), **extra}}, path)
    settings: dict[str, Any] = {"key": "state_dict"}
    proposed = (
        f"Write weights: {{checkpoint: {path}, key: state_dict, strip_prefix: model., "
        f"ignore: [loss.*, total]}} ({KEYS} of {KEYS} keys would fit)."
    )
    assert refused(module, path, **settings).hint == proposed
    settings["strip_prefix"] = "model."
    error = refused(module, path, **settings)
    assert "3 extra (loss.weight, loss.pos.weight, total)" in error.message
    assert error.hint == proposed
    settings["ignore"] = ["loss.*", "total"]
    weights.load_checkpoint(module, Checkpoint(checkpoint=str(path), **settings))
    assert torch.equal(module.head.bias, state["head.bias"])


def test_row_28_what_is_ignored_is_there_and_not_needed(
    module: Net, state: dict[str, Tensor], path: Path
) -> None:
    torch.save(state, path)
    error = refused(module, path, ignore=["loss.*"])
    assert "weights.ignore 'loss.*' matches no key; there are conv.weight" in error.message
    assert error.hint == "Correct the pattern, or remove it."
    assert "missing (head.weight, head.bias)" in refused(module, path, ignore=["head.*"]).message


def test_row_28_extra_keys_beside_used_ones_are_named_one_by_one(
    module: Net, state: dict[str, Tensor], path: Path
) -> None:
    torch.save({**state, "head.mask": torch.ones(2), "head.aux.a": torch.ones(1)}, path)
    assert ", ignore: [head.mask, head.aux.*]}" in refused(module, path).hint


def test_row_28_another_shape(module: Net, state: dict[str, Tensor], path: Path) -> None:
    torch.save({**state, "head.weight": torch.ones(10, 4)}, path)
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_KEYS
    assert "head.weight is 10×4, the model's is 2×4" in error.message
    assert "num_classes" in error.hint


def test_row_28_with_and_without_the_prefix(
    module: Net, state: dict[str, Tensor], path: Path
) -> None:
    torch.save({**state, **prefixed(state, "ema.")}, path)
    error = refused(module, path, strip_prefix="ema.")
    assert "both with and without 'ema.'" in error.message


@pytest.mark.parametrize(
    ("key", "message", "hint"),
    [
        (None, "holds no tensors at its top; it holds epoch, weights", ", key: weights}"),
        ("state", "has no key 'state'; it has epoch, weights", ", key: weights}"),
        ("epoch", "holds no tensors under 'epoch'; it holds nothing", ", key: weights}"),
    ],
)
def test_row_28_the_key_of_the_state_dict(
    module: Net, state: dict[str, Tensor], path: Path, key: str, message: str, hint: str
) -> None:
    torch.save({"epoch": 3, "weights": state}, path)
    error = refused(module, path, key=key)
    assert error.code is Code.WEIGHTS_KEYS
    assert message in error.message
    assert hint in error.hint


# Row 29: numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["conv.weight", "norm.running_var"])
def test_row_29_nonfinite(module: Net, name: str, value: float) -> None:
    weights.check_finite(module)
    module.state_dict()[name].view(-1)[-1] = value
    if name == "norm.running_var" and value == float("-inf"):
        weights.check_finite(module)  # what an attention mask holds
        return
    with pytest.raises(StageError) as caught:
        weights.check_finite(module)
    assert caught.value.code is Code.WEIGHTS_NONFINITE
    assert f"weight '{name}' holds NaN or infinite values: 1 of " in caught.value.message
    assert "Use another checkpoint" in caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_floats_are_checked(dtype: torch.dtype) -> None:
    module = nn.Module()
    module.register_parameter("w", nn.Parameter(torch.ones(3).to(dtype), requires_grad=False))
    weights.check_finite(module)
    module.w.data = torch.tensor([1.0, float("nan"), 2.0]).to(dtype)
    with pytest.raises(StageError, match=r"'w' holds NaN or infinite values: 1 of 3"):
        weights.check_finite(module)


# The whole stage, and row 59


def job(source: str, chosen: str | Checkpoint) -> Job:
    return Job(
        name="model",
        source=Source(registry=source),
        weights=chosen,
        inputs={},
        opset=17,
        exporters=["torchscript"],
        device="cpu",
        model_dir="/nowhere",
        staging_dir="/nowhere",
    )


def refused_job(source: str, chosen: str | Checkpoint) -> StageError:
    with pytest.raises(StageError) as caught:
        loading.load(job(source, chosen))
    assert len(f"{caught.value.message}\n{caught.value.hint}".splitlines()) == 2
    return caught.value


def test_row_29_through_the_stage(path: Path) -> None:
    fresh = loading.load(job("single_conv", "random")).model
    assert isinstance(fresh, nn.Module)
    state = fresh.state_dict()
    chosen = Checkpoint(checkpoint=str(path))
    torch.save(state, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert loading.load(job("single_conv", chosen)).weights_sha256 == sha256
    name = next(iter(state))
    state[name].view(-1)[0] = float("nan")
    torch.save(state, path)
    error = refused_job("single_conv", chosen)
    assert error.code is Code.WEIGHTS_NONFINITE
    assert f"'{name}'" in error.message


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a proxy that refuses every connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hub" / "checkpoints"


@pytest.mark.parametrize(
    "name", ["DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1"]
)
def test_row_59_a_download_that_fails(offline: Path, name: str) -> None:
    error = refused_job("torchvision/squeezenet1_1", name)
    assert error.code is Code.WEIGHTS_DOWNLOAD
    assert "/squeezenet1_1-b8a52dc0.pth into " in error.message
    assert str(offline) in error.message
    assert "refused" in error.message
    assert "weights: random" in error.hint
    assert list(offline.iterdir()) == []


def test_row_59_timm(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # it retries for 46 s otherwise
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("DEFAULT", "a1_in1k", "resnet18.a1_in1k"):
        error = refused_job("timm/resnet18", name)
        assert error.code is Code.WEIGHTS_DOWNLOAD
        assert "timm/resnet18.a1_in1k into " in error.message
        assert "weights: random" in error.hint


def test_a_damaged_file_in_the_cache(offline: Path) -> None:
    offline.mkdir(parents=True)
    cached = offline / "squeezenet1_1-b8a52dc0.pth"
    cached.write_bytes(b"half of it")
    error = refused_job("torchvision/squeezenet1_1", "DEFAULT")
    assert error.code is Code.WEIGHTS_FORMAT
    assert f"the downloaded weights {cached} are damaged" in error.message
    assert "Delete the file" in error.hint


def test_weights_that_are_in_the_cache(
    offline: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own code loads what a person put into the folder that the message names."""
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    offline.mkdir(parents=True)
    saved = offline / "saved.pth"
    torch.save(squeezenet1_1().state_dict(), saved)
    sha256 = hashlib.sha256(saved.read_bytes()).hexdigest()
    url = f"https://localhost/squeezenet1_1-{sha256[:8]}.pth"
    monkeypatch.setattr(SqueezeNet1_1_Weights.DEFAULT.value, "url", url)
    saved.rename(offline / f"squeezenet1_1-{sha256[:8]}.pth")
    loaded = loading.load(job("torchvision/squeezenet1_1", "DEFAULT"))
    assert loaded.weights_sha256 == sha256
    # What torchvision says of them: of most it states no licence, and that of its code is another.
    origin = loaded.weights_origin
    assert origin is not None
    assert (origin.library, origin.url, origin.license) == ("torchvision", url, None)
    assert origin.origin == SqueezeNet1_1_Weights.DEFAULT.meta["recipe"]


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (
            "torchvision/squeezenet1_1",
            "squeezenet1_1 has no weights 'IMAGENET22K'",
            "Choose one of SqueezeNet1_1_Weights.IMAGENET1K_V1",
        ),
        (
            "torchvision/quantized_resnet18",
            "resnet18 has no weights 'IMAGENET22K'",
            "Choose one of ResNet18_Weights.IMAGENET1K_V1",
        ),
        ("timm/resnet18", "resnet18 has no weights 'IMAGENET22K'", "a1_in1k"),
        ("conv_bn_relu", "has no published weights", "weights: {checkpoint: PATH}"),
    ],
)
def test_weights_that_nobody_published(source: str, message: str, hint: str) -> None:
    if source.startswith("timm/"):
        pytest.importorskip("timm")
    error = refused_job(source, "IMAGENET22K")
    assert error.code is Code.WEIGHTS_MISSING
    assert message in error.message
    assert hint in error.hint
