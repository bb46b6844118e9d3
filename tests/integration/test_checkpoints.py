"""Checkpoints as users bring them: each shape is made here, loaded, or refused with what fits."""

from __future__ import annotations

import argparse
import builtins
import collections
import datetime
import enum
import functools
import io
import json
import os
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from converter.model.errors import Code, StageError
from converter.model.source import Checkpoint
from converter.worker.sources import tensorpickle, weights

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning"),
]
State = dict[str, Tensor]


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
def state() -> State:
    torch.manual_seed(1)
    return {
        key: torch.rand(value.shape).to(value.dtype) for key, value in Net().state_dict().items()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


def load(module: nn.Module, path: Path, **settings: Any) -> str:
    return weights.load_checkpoint(module, Checkpoint(checkpoint=str(path), **settings))


def refused(module: nn.Module, path: Path, **settings: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        load(module, path, **settings)
    assert len(f"{caught.value.message}\n{caught.value.hint}".splitlines()) == 2
    return caught.value


def pasted(error: StageError) -> dict[str, Any]:
    """What stands in the hint as YAML, as a person copies it."""
    line = error.hint[error.hint.index("weights: ") : error.hint.rindex("}") + 1]
    return yaml.safe_load(line)["weights"]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def holds(module: nn.Module, state: State) -> bool:
    own = module.state_dict()
    return all(torch.equal(own[key], value.to(own[key].dtype)) for key, value in state.items())


# What users bring


class Loop(enum.Enum):
    FIT = "fit"


class Callback:
    """Of a training library that is not installed."""

    def __init__(self) -> None:
        self.best = np.float64(0.5)
        self.where = pathlib.PurePosixPath("/a/b")


def lightning(state: State) -> object:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.1",
        "state_dict": collections.OrderedDict(prefixed(state, "model.")),
        "loops": {"fit_loop": {"state_dict": {}, "progress": Loop.FIT}},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": Callback()},
        "optimizer_states": [optimizer.state_dict()],
        "hparams_name": "kwargs",
        "hyper_parameters": argparse.Namespace(lr=1e-3, loss=nn.CrossEntropyLoss(), at=Path("/x")),
    }


def with_arguments(state: State) -> object:
    return {
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"), size=torch.Size([1, 2])),
        "model": state,
        "best": np.float32(0.7),
        "history": collections.defaultdict(list, loss=[np.float64(1.0)]),
        "when": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        "delta": datetime.timedelta(1),
        "mean": np.ones(3),
        "act": functools.partial(nn.functional.relu, inplace=True),
        "dtype": torch.float16,
        "rng": (np.random.RandomState(0).get_state(), {1, 2}, frozenset("a"), b"bytes", 1 << 80),
    }


BROUGHT: dict[str, tuple[Callable[[State], object], dict[str, Any]]] = {
    "lightning": (lightning, {"key": "state_dict", "strip_prefix": "model."}),
    "arguments": (with_arguments, {"key": "model"}),
    "mmcv": (
        lambda state: {"meta": {"time": np.int64(1), "CLASSES": ("a", "b")}, "state_dict": state},
        {"key": "state_dict"},
    ),
    "dino": (
        lambda state: {
            "teacher": {**prefixed(state, "backbone."), "head.mlp.0.weight": torch.ones(3, 3)},
            "args": argparse.Namespace(arch="vit"),
        },
        {"key": "teacher", "strip_prefix": "backbone.", "ignore": ["head.*"]},
    ),
    "parallel": (lambda state: prefixed(state, "module."), {"strip_prefix": "module."}),
    "compiled": (lambda state: prefixed(state, "_orig_mod."), {"strip_prefix": "_orig_mod."}),
    "ema": (
        lambda state: {"ema": {"module": state, "decay": np.float64(0.9)}, "iter": np.int64(7)},
        {"key": "ema.module"},
    ),
    "counted": (
        lambda state: {**state, "conv.total_ops": torch.ones(1), "total_ops": torch.ones(1)},
        {"ignore": ["conv.total_ops", "total_ops"]},
    ),
    "renamed": (
        lambda state: {k.replace("head.", "fc."): v for k, v in state.items()},
        {"rename": {"fc.": "head."}},
    ),
    "one renamed": (
        lambda state: {k.replace("head.weight", "classifier"): v for k, v in state.items()},
        {"rename": {"classifier": "head.weight"}},
    ),
    "parts": (
        lambda state: {
            f"module.{'enc.' if k.startswith('conv') else ''}{k}": v for k, v in state.items()
        },
        {"strip_prefix": ["module.", "enc."]},
    ),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("shape", BROUGHT)
def test_what_users_bring_is_loaded(
    module: Net, state: State, path: Path, shape: str, protocol: int
) -> None:
    make, settings = BROUGHT[shape]
    torch.save(make(state), path, pickle_protocol=protocol)
    load(module, path, **settings)
    assert holds(module, state)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shape", BROUGHT)
def test_what_is_proposed_can_be_pasted(
    module: Net, state: State, path: Path, shape: str, legacy: bool
) -> None:
    make, settings = BROUGHT[shape]
    torch.save(make(state), path, _use_new_zipfile_serialization=not legacy)
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_KEYS
    assert error.hint.endswith(f"({KEYS} of {KEYS} keys would fit).")
    line = pasted(error)
    assert line == {"checkpoint": str(path), **settings}
    weights.load_checkpoint(module, Checkpoint.model_validate(line))
    assert holds(module, state)


def test_a_model_that_wraps_the_saved_one(state: State, path: Path) -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

    torch.save(state, path)
    line = pasted(refused(Wrapper(), path))
    assert line["rename"] == {"": "net."}
    module = Wrapper()
    weights.load_checkpoint(module, Checkpoint.model_validate(line))
    assert holds(module.net, state)


def test_the_proposal_keeps_the_hash_and_names_the_other_key(
    module: Net, state: State, path: Path
) -> None:
    torch.save({"model": state, "ema": {k: v + 1 for k, v in state.items()}}, path)
    sha256 = load(module, path, key="ema")
    error = refused(module, path, sha256=sha256)
    assert "; key: ema would fit as well)" in error.hint
    line = yaml.safe_load(error.hint[error.hint.index("{") : error.hint.index("}") + 1])
    assert line == {"checkpoint": str(path), "key": "model", "sha256": sha256}
    # What is stated already is no way out.
    assert "key: ema" in refused(module, path, key="ema", strip_prefix="x.").hint


def test_nothing_is_guessed_between_modules_that_are_built_alike(path: Path) -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(2, 2), nn.Linear(2, 2)

    state = Twins().state_dict()
    torch.save({k.replace("left", "a").replace("right", "b"): v for k, v in state.items()}, path)
    assert refused(Twins(), path).hint.startswith("Is it a checkpoint of this model?")


def test_names_with_the_signs_of_globs_are_ignored_by_name(
    module: Net, state: State, path: Path
) -> None:
    torch.save({**state, "a[0].w": torch.ones(1), "b*": torch.ones(1)}, path)
    weights.load_checkpoint(module, Checkpoint.model_validate(pasted(refused(module, path))))


# Keys


def test_a_key_with_dots_of_its_own_comes_first(module: Net, state: State, path: Path) -> None:
    other = {key: value + 1 for key, value in state.items()}
    torch.save({"ema": {"module": other, "a.b": {"c": state}}, "ema.module": state}, path)
    load(module, path, key="ema.module")
    assert holds(module, state)
    load(module, path, key="ema.a.b.c")
    error = refused(module, path, key="ema.none")
    assert "has no key 'ema.none'; it has ema, ema.module" in error.message


def test_renames_that_do_not_fit(module: Net, state: State, path: Path) -> None:
    torch.save(state, path)
    error = refused(module, path, rename={"fc.": "head."})
    assert "weights.rename 'fc.' matches no key; there are conv.weight" in error.message
    error = refused(module, path, rename={"conv.bias": "head.bias"})
    assert (
        "weights.rename gives conv.bias and head.bias the same name, head.bias" in error.message
        or "gives head.bias and conv.bias the same name" in error.message
    )
    assert "weights.ignore" in error.hint


def test_two_modules_change_their_names(path: Path) -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    state = {
        key: torch.rand(value.shape).to(value.dtype) for key, value in module.state_dict().items()
    }
    torch.save(state, path)
    load(module, path, rename={"a.": "b.", "b.": "a."})
    assert torch.equal(module["b"].weight, state["a.weight"])  # type: ignore[arg-type]
    # A name of its own comes before the module's.
    with pytest.raises(StageError, match=r"1 missing \(a.bias\), 1 extra \(b.extra\)"):
        load(module, path, rename={"a.bias": "b.extra"})


def test_a_list_of_prefixes_must_match_each(module: Net, state: State, path: Path) -> None:
    torch.save(prefixed(state, "module."), path)
    error = refused(module, path, strip_prefix=["module.", "module."])
    assert "no key starts with weights.strip_prefix 'module.'" in error.message


# Safetensors, shards and folders


def test_safetensors(module: Net, state: State, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(prefixed(state, "model."), path)
    assert pasted(refused(module, path))["strip_prefix"] == "model."
    load(module, path, strip_prefix="model.")
    assert holds(module, state)
    # Whatever its name is.
    other = path.rename(tmp_path / "model.bin")
    load(Net(), other, strip_prefix="model.")
    torch.save(state, path)
    load(Net(), path)


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        raw({"a": entry(0, 8)}, bytes(4)),
        raw({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
        raw({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)),
        raw({"a": entry(0, 8)}, bytes(8), length=1 << 60),
        raw({"a": entry(0, 8)}, bytes(8), length=5),
        raw({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        raw({"a": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 8]}}, bytes(8)),
        b"\x08\0\0\0\0\0\0\0" + b"notjson!",
        b"\x08",
    ],
    ids=["truncated", "overlap", "hole", "long", "short", "dtype", "overflow", "json", "byte"],
)
def test_damaged_safetensors(module: Net, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_FORMAT
    assert "looks like a safetensors file, and is truncated or damaged" in error.message
    assert "Get the file again" in error.hint


def sharded(folder: Path, state: State, kind: str) -> Path:
    folder.mkdir()
    names = list(state)
    stem, ending = kind.split(".")
    table = {}
    for number, part in enumerate((names[:4], names[4:]), start=1):
        file = f"{stem}-{number:05}-of-00002.{ending}"
        tensors = {name: state[name] for name in part}
        if ending == "bin":
            torch.save(tensors, folder / file)
        else:
            save_file(tensors, folder / file)
        table |= dict.fromkeys(part, file)
    index = folder / f"{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))
    return index


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_shards_by_their_index_or_their_folder(
    module: Net, state: State, tmp_path: Path, kind: str
) -> None:
    index = sharded(tmp_path / "hub", state, kind)
    sha256 = load(module, index)
    assert holds(module, state)
    assert load(Net(), index.parent, sha256=sha256) == sha256
    error = refused(module, index, sha256="0" * 64)
    assert f"the files have {sha256}" in error.message
    shard = sorted(index.parent.glob("*-of-*"))[1]
    shard.unlink()
    error = refused(module, index.parent)
    assert error.code is Code.WEIGHTS_MISSING
    assert f"names 2 files, and 1 are not there: {shard.name}" in error.message


def test_shards_that_do_not_belong_together(module: Net, state: State, tmp_path: Path) -> None:
    index = sharded(tmp_path / "hub", state, "model.safetensors")
    first, second = sorted(index.parent.glob("*-of-*"))
    save_file({"conv.weight": state["conv.weight"]}, second)
    error = refused(module, index)
    assert error.code is Code.WEIGHTS_FORMAT
    assert "conv.weight in two of its files" in error.message
    save_file({"other": torch.ones(1)}, second)
    error = refused(module, index)
    assert f"which {second.name} should hold" in error.message
    assert "Get all files again" in error.hint
    assert first.is_file()


# Hostile files


class Reduced:
    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("call", [os.system, builtins.eval, builtins.exec, builtins.__import__])
def test_what_runs_programs_is_refused_beside_a_state_dict(
    module: Net, state: State, path: Path, call: Any, legacy: bool
) -> None:
    content = {"state_dict": state, "args": argparse.Namespace(x=Reduced(call, ("1",)))}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    error = refused(module, path, key="state_dict")
    assert error.code is Code.WEIGHTS_UNSAFE
    assert f"asks to run '{call.__module__}.{call.__name__}'" in error.message


def assembled(pickled: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", "3")
        archive.writestr("x/byteorder", "little")
        archive.writestr("x/data/0", bytes(16))


TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000"
    b"X\x03\0\0\0cpuK\x04tQK\x00%s%s\x89ccollections\nOrderedDict\n)RtR"
)


def tensor(size: bytes = b"(K\x02K\x02t", stride: bytes = b"(K\x02K\x01t") -> bytes:
    return TENSOR % (size, stride)


@pytest.mark.parametrize(
    "sneaked",
    [
        # getattr(module, "system")(command), and the result as a callee
        b"c__builtin__\ngetattr\n(cmymod\nos\nX\x06\0\0\0systemtR(X\x07\0\0\0touch xtR",
        # attributes set on what was named, and on a class
        b"cmymod\nA\n)\x81}X\x0c\0\0\0__setstate__cmymod\nB\nsb",
        b"cmymod\nA\n}X\x07\0\0\0__new__K\x01sb",
        # state for a tensor
        tensor() + b"}X\x08\0\0\0__call__K\x01sb",
        # an item of something that was not made
        b"cmymod\nA\n)\x81(X\x01\0\0\0aK\x01u",
        b"cmymod\nA\n)\x81K\x01a",
        b"(cmymod\nA\nK\x01o",
        b"(K\x01imymod\nA\n",
        b"\x82\x01)R",
        b"cmymod\nA\n)}\x92",
        b"cos_path\nsystem\n)R",
    ],
)
def test_what_a_file_names_is_never_made(
    state: State, path: Path, sneaked: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither imported nor called: the tensors are read, and nothing else happened."""
    assembled(b"\x80\x02}(X\x01\0\0\0w" + tensor() + b"X\x01\0\0\0x" + sneaked + b"u.", path)
    imported: list[str] = []
    true_import = builtins.__import__

    def noted(name: str, *more: Any, **named: Any) -> Any:
        imported.append(name)
        return true_import(name, *more, **named)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", noted)
        found = tensorpickle.read(path)
    assert not {"mymod", "os_path", "torch._utils"} & set(imported)
    assert isinstance(found, dict)
    assert torch.equal(found["w"], torch.zeros(2, 2))


@pytest.mark.parametrize(
    "pickled",
    [
        tensor(b"(K\x09K\x02t"),
        tensor(b"(K\x02K\x02t", b"(J\xff\xff\xff\xffK\x01t"),
        tensor(b"(K\x02t"),
        tensor(b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"),
        b"K\x01K\x02a",
        b"K\x01)R",
        b"}(K\x01u",
        b"h\x09",
        b"}(]K\x01u",
        b"X\xff\0\0\0a",
        b"P1\n",
        b"t",
        b"K\x01Q",
        b"",
    ],
)
def test_a_damaged_pickle_is_no_traceback(module: Net, path: Path, pickled: bytes) -> None:
    # With a name that torch refuses, so that our own reader is asked.
    assembled(b"\x80\x02cmymod\nA\n0}X\x01\0\0\0w" + pickled + b"s.", path)
    assert refused(module, path).code in (Code.WEIGHTS_FORMAT, Code.WEIGHTS_KEYS)


def test_a_mapping_that_holds_itself(module: Net, state: State, path: Path) -> None:
    content: dict[str, Any] = {"args": argparse.Namespace(), "model": state}
    content["self"] = content
    torch.save(content, path)
    assert "key: model" in refused(module, path).hint


@pytest.mark.parametrize("seed", range(300))
def test_damage_anywhere_is_told(module: Net, state: State, path: Path, seed: int) -> None:
    """What was changed at random in a pickle with arguments is loaded, or refused by a code."""
    random = np.random.default_rng(seed)
    buffer = io.BytesIO()
    torch.save(lightning(state), buffer, pickle_protocol=2 + 2 * (seed % 2))
    with zipfile.ZipFile(buffer) as archive, zipfile.ZipFile(path, "w") as damaged:
        for name in archive.namelist():
            data = bytearray(archive.read(name))
            if name.endswith("data.pkl"):
                for place in random.integers(0, len(data), 1 + seed % 3):
                    data[place] = random.integers(0, 256)
            damaged.writestr(name, bytes(data))
    settings = Checkpoint(checkpoint=str(path), key="state_dict", strip_prefix="model.")
    code = None
    try:
        weights.load_checkpoint(module, settings)
    except StageError as error:
        code = error.code
    assert code is None or code.startswith("WEIGHTS_")


# Pickled modules


class Pickled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)
        return result


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_pickled_module_is_refused_and_both_ways_are_shown(path: Path, legacy: bool) -> None:
    """As ultralytics saves it. What the hint shows is tried, word by word."""
    pickled = Pickled()
    content = {"epoch": 1, "model": pickled, "ema": None, "train_args": argparse.Namespace()}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    for settings in ({}, {"key": "model"}):
        error = refused(Pickled(), path, **settings)
        assert error.code is Code.WEIGHTS_UNSAFE
        assert f"holds a pickled module '{__name__}.Pickled' as 'model'" in error.message
    save = error.hint[error.hint.index("torch.save(") :].partition(". Or")[0]
    exec(save.replace("'state.pth'", repr(str(path.with_name("state.pth")))), {"torch": torch})
    module = Pickled()
    load(module, path.with_name("state.pth"))
    assert holds(module, pickled.state_dict())
    shown = error.hint[error.hint.index("def build") :].partition(" with source")[0]
    names: dict[str, Any] = {}
    exec(shown, names)
    assert holds(names["build"](str(path)), pickled.state_dict())
    assert f"kwargs: {{path: {path}}}" in error.hint


def test_a_module_beside_a_state_dict_that_fits(path: Path) -> None:
    torch.save({"model": Pickled(), "weights": Pickled().state_dict()}, path)
    error = refused(Pickled(), path, key="model")
    assert error.code is Code.WEIGHTS_UNSAFE
    load(Pickled(), path, **{k: v for k, v in pasted(error).items() if k != "checkpoint"})


def test_an_object_in_the_place_of_a_tensor(module: Net, state: State, path: Path) -> None:
    torch.save({**state, "head.bias": Callback()}, path)
    error = refused(module, path)
    assert error.code is Code.WEIGHTS_UNSAFE
    assert f"'{__name__}.Callback' as 'head.bias'" in error.message


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_read_as_torch_reads_them(path: Path, legacy: bool) -> None:
    """Views, dtypes, sizes without elements, parameters and subclasses."""
    base = torch.arange(24.0)
    state = {
        "view": base.reshape(4, 6)[1:, ::2],
        "turned": base.reshape(4, 6).T,
        "expanded": torch.ones(1, 3).expand(2, 3),
        "half": base.half(), "bfloat": base.bfloat16(), "bool": base > 3, "long": base.long(),
        "complex": torch.complex(base, base), "byte": base.byte(), "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 3), "float8": base.to(torch.float8_e4m3fn),
        "parameter": nn.Parameter(base), "uint16": base.to(torch.uint16),
        "buffer": nn.Buffer(base),
    }  # fmt: skip
    torch.save({"state": state, "x": Loop.FIT}, path, _use_new_zipfile_serialization=not legacy)
    found = tensorpickle.read(path)
    assert isinstance(found, dict)
    for name, wanted in state.items():
        got = found["state"][name]
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), name
        assert torch.equal(got.to(torch.complex64), wanted.detach().to(torch.complex64)), name


def test_a_checkpoint_of_a_plain_pickle_is_none(module: Net, state: State, path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": {k: v.numpy() for k, v in state.items()}}))
    assert refused(module, path).code is Code.WEIGHTS_FORMAT


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"head.weight": torch.ones(2, 4, dtype=torch.int8)},
            "head.weight is int8, the model's is",
        ),
        (
            {"head.bias": torch.tensor([1 + 2j, 0])},
            "head.bias is complex64, the model's is float32",
        ),
        ({"norm.num_batches_tracked": torch.tensor(0.5)}, "is float32, the model's is int64"),
    ],
)
def test_what_copying_would_change_is_refused(
    module: Net, state: State, tmp_path: Path, changed: State, says: str
) -> None:
    path = tmp_path / "model.pth"
    torch.save({**state, **changed}, path)
    with pytest.raises(StageError) as caught:
        weights.load_checkpoint(module, Checkpoint(checkpoint=str(path)))
    assert caught.value.code is Code.WEIGHTS_FORMAT
    assert says in caught.value.message


def test_two_tensors_for_one_of_the_model_are_refused(tmp_path: Path) -> None:
    tied = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    tied["b"].weight = tied["a"].weight
    path = tmp_path / "model.pth"
    torch.save({"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)}, path)
    weights.load_checkpoint(tied, Checkpoint(checkpoint=str(path)))
    torch.save({"a.weight": torch.ones(2, 2), "b.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(StageError, match=r"a\.weight and b\.weight are one tensor of the model"):
        weights.load_checkpoint(tied, Checkpoint(checkpoint=str(path)))


def test_a_flipped_bit_in_a_tensor_is_noticed(module: Net, state: State, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(state, path)
    raw = bytearray(path.read_bytes())
    at = raw.index(state["head.weight"].numpy().tobytes())
    raw[at + 3] ^= 0x40
    path.write_bytes(raw)
    with pytest.raises(StageError) as caught:
        weights.load_checkpoint(module, Checkpoint(checkpoint=str(path)))
    assert caught.value.code is Code.WEIGHTS_FORMAT
    assert "is damaged" in caught.value.message


def test_a_file_without_checksums_is_read(module: Net, state: State, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, path)
    finally:
        torch.serialization.set_crc32_options(True)
    weights.load_checkpoint(module, Checkpoint(checkpoint=str(path)))
    assert torch.equal(module.state_dict()["head.bias"], state["head.bias"])
