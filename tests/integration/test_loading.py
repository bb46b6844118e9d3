"""Loading a model: every kind of source, the trust rule, and what a person reads on failure."""

from __future__ import annotations

import importlib
import os
import py_compile
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.source import Source
from converter.worker.reference import preparing
from converter.worker.sources import freshcode, loading
from converter.worker.sources.loading import Loaded, OnnxFile

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning"),  # it is what users have
]

NET = """\
import torch
from torch import nn
from torch.nn import Conv2d
from torchvision.models import resnet18
import os as operating_system

class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(3, width)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.layer(x))

def build(width: int = 4):
    return Net(width)

def number():
    return 3

def broken():
    raise ValueError("width must be even")

@torch.jit.script
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2
"""

MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def same_imports_afterwards() -> Iterator[None]:
    path, modules, finders = list(sys.path), set(sys.modules), list(sys.meta_path)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        if name.startswith(("_model_file_", "acme", "stale")):
            del sys.modules[name]


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder with a file and a package of models."""
    folder = tmp_path / "zoo"
    (folder / "acme" / "parts").mkdir(parents=True)
    (folder / "net.py").write_text(NET)
    (folder / "acme" / "__init__.py").touch()
    (folder / "acme" / "net.py").write_text(NET)
    (folder / "acme" / "parts" / "__init__.py").touch()
    return folder


@pytest.fixture
def job(tmp_path: Path) -> MakeJob:
    def make(source: dict[str, str] | str, **changes: Any) -> Job:
        named = {"registry": source} if isinstance(source, str) else source
        values: dict[str, Any] = {
            "name": "model",
            "source": Source.model_validate(named),
            "inputs": {},
            "opset": 17,
            "exporters": ["torchscript"],
            "device": "cpu",
            "model_dir": str(tmp_path / "models/model"),
            "staging_dir": str(tmp_path / "staging/model"),
        }
        return Job(**(values | changes))

    return make


def refused(job: Job) -> StageError:
    with pytest.raises(StageError) as caught:
        loading.load(job)
    return caught.value


def described(job: Job) -> tuple[Code, str, str]:
    """What the stage recorder makes of an exception from the user's code."""
    try:
        loading.load(job)
    except StageError as error:
        raise AssertionError(f"classified too early: {error}") from error
    except Exception as error:
        return loading.describe(error, job)
    raise AssertionError("nothing was raised")


def weight(loaded: Loaded) -> torch.Tensor:
    assert isinstance(loaded.model, torch.nn.Module)
    return next(loaded.model.parameters())


# Sources


@pytest.mark.parametrize(
    "source", ["conv_bn_relu", "torchvision/squeezenet1_1", {"_target_": "acme.net.build"}]
)
def test_random_weights_are_the_same_each_time(job: MakeJob, zoo: Path, source: Any) -> None:
    first, again, other = (
        loading.load(job(source, trust=[str(zoo)], seed=seed)) for seed in (1, 1, 2)
    )
    assert (first.kind, first.device.type, first.weights_sha256) == ("module", "cpu", None)
    assert torch.equal(weight(first), weight(again))
    assert not torch.equal(weight(first), weight(other))


@pytest.mark.parametrize("training", ["eval", "train"])
def test_the_mode_is_that_of_the_job(job: MakeJob, zoo: Path, training: str) -> None:
    source = {"file": str(zoo / "net.py"), "name": "Net"}
    loaded = loading.load(job(source, trust=[str(zoo)], training=training, kwargs={"width": 7}))
    assert isinstance(loaded.model, torch.nn.Module)
    assert {module.training for module in loaded.model.modules()} == {training == "train"}
    assert weight(loaded).shape == (7, 3)


def test_a_registered_builder_of_a_library_is_a_target(job: MakeJob) -> None:
    source = {"_target_": "torchvision.models.squeezenet1_1"}
    assert weight(loading.load(job(source, kwargs={"num_classes": 3}))).shape[1] == 3


def test_a_target_downloads_no_weights_for_its_backbone(job: MakeJob) -> None:
    source = {"_target_": "torchvision.models.segmentation.lraspp_mobilenet_v3_large"}
    assert loading.load(job(source)).kind == "module"


def test_a_script_function_of_a_file(job: MakeJob, zoo: Path) -> None:
    source = {"file": str(zoo / "net.py"), "name": "double"}
    loaded = loading.load(job(source, trust=[str(zoo)]))
    assert loaded.kind == "script_function"
    assert loaded.model(torch.ones(1)).item() == 2  # type: ignore[operator]


def test_a_torchscript_archive(job: MakeJob, zoo: Path) -> None:
    path = zoo / "net.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    loaded = loading.load(job({"torchscript": str(path)}, trust=[str(zoo)]))
    assert loaded.kind == "script_module"
    assert loaded.weights_sha256 is not None
    error = refused(job({"torchscript": str(path)}))
    assert error.code is Code.TARGET_DENIED
    assert f"export CONVERTER_TRUST={zoo}" in error.hint


def test_an_exported_program(job: MakeJob, zoo: Path) -> None:
    path = zoo / "net.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), path)
    assert loading.load(job({"exported_program": str(path)}, trust=[str(zoo)])).kind == (
        "exported_program"
    )
    assert refused(job({"exported_program": str(path)})).code is Code.TARGET_DENIED
    error = refused(job({"exported_program": str(path)}, trust=[str(zoo)], kwargs={"a": 1}))
    assert "kwargs: exported_program:" in error.message
    # The configuration refuses it of a model; it may still come from the run.
    error = refused(job({"exported_program": str(path)}, trust=[str(zoo)], training="train"))
    assert error.code is Code.TRAINING_IGNORED
    assert "the mode of an exported program was fixed when it was exported" in error.message
    assert "state models.model.training: eval" in error.hint


@pytest.mark.parametrize("kind", ["torchscript", "exported_program"])
def test_an_archive_that_is_none(job: MakeJob, zoo: Path, kind: str) -> None:
    error = refused(job({kind: str(zoo / "net.py")}, trust=[str(zoo)]))
    assert error.code is Code.LOAD
    assert str(zoo / "net.py") in error.message
    assert "Save it again" in error.hint


@pytest.mark.parametrize("kind", ["file", "torchscript", "exported_program", "onnx"])
def test_a_source_file_that_is_missing(job: MakeJob, tmp_path: Path, kind: str) -> None:
    source = {kind: str(tmp_path / "no.pt")} | ({"name": "Net"} if kind == "file" else {})
    error = refused(job(source))
    assert error.code is Code.LOAD
    assert f"source.{kind}: {tmp_path}/no.pt does not exist" in error.message
    assert "the folder where the command was started" in error.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_cuda_without_a_device(job: MakeJob) -> None:
    error = refused(job("conv_bn_relu", device="cuda"))
    assert error.code is Code.DEVICE_UNAVAILABLE
    assert "device: auto" in error.hint
    assert loading.load(job("conv_bn_relu", device="auto")).device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no device")
def test_cuda(job: MakeJob) -> None:
    assert weight(loading.load(job("conv_bn_relu", device="auto"))).device.type == "cuda"


# Row 21 of the faults: targets that are not trusted

CANARY = "import pathlib\npathlib.Path({!r}).touch()\ndef build(): ...\n"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "setuptools._distutils.spawn.spawn",
        "pathlib.Path.unlink",
        "shutil.copy",
        "torch.load",
        "torch.hub.load",
        "torchvision.os.system",
        "torchvision.datasets.utils.download_url",
        "torchvision.models.resnet.torch.load",
        "torchvision.models._api.importlib.import_module",
        "torchvision.models._api.load_state_dict_from_url",
        "torchvision.models.get_model_builder",
        "torchvision.models.resnet.ResNet.load_state_dict",
        "torchvision.models.ResNet18_Weights.IMAGENET1K_V1.get_state_dict",
        "torchvision.ops.misc.torch.load",
        "registry.make_srcnn_checkpoint.main",
        "converter.cli.command_line.main",
    ],
)
def test_row_21_a_target_that_is_not_trusted(job: MakeJob, target: str) -> None:
    error = refused(job({"_target_": target}, trust=["acme"]))
    assert error.code is Code.TARGET_DENIED
    assert f"'{target}'" in error.message
    assert "export CONVERTER_TRUST=acme:" in error.hint
    assert len(f"{error.message}\n{error.hint}".splitlines()) == 2


@pytest.mark.parametrize(
    "target",
    ["timm.models._hub.push_to_hf_hub", "timm.models.load_checkpoint", "timm.create_model"],
)
def test_row_21_helpers_of_timm(job: MakeJob, target: str) -> None:
    pytest.importorskip("timm")
    error = refused(job({"_target_": target}))
    assert error.code is Code.TARGET_DENIED
    assert "source: timm/NAME" in error.hint


def test_row_21_nothing_of_an_untrusted_package_is_imported(
    job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_evil.py").write_text(CANARY.format(str(tmp_path / "canary")))
    monkeypatch.syspath_prepend(tmp_path)
    error = refused(job({"_target_": "acme_evil.build"}))
    assert error.hint == "If you trust it: export CONVERTER_TRUST=acme_evil"
    assert not (tmp_path / "canary").exists()
    source = {"file": str(tmp_path / "acme_evil.py"), "name": "build"}
    error = refused(job(source, trust=["/srv"]))
    assert error.hint == f"If you trust it: export CONVERTER_TRUST=/srv:{tmp_path}"
    assert not (tmp_path / "canary").exists()


def test_row_21_a_link_out_of_a_trusted_folder(job: MakeJob, zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text(CANARY.format(str(tmp_path / "canary")))
    (zoo / "inside.py").symlink_to(tmp_path / "outside.py")
    source = {"file": str(zoo / "inside.py"), "name": "build"}
    error = refused(job(source, trust=[str(zoo)]))
    assert error.code is Code.TARGET_DENIED
    assert f"it leads to {tmp_path}/outside.py" in error.message
    assert refused(job({"_target_": "inside.build"}, trust=[str(zoo)])).code is Code.TARGET_DENIED
    assert not (tmp_path / "canary").exists()


def test_row_21_a_name_that_a_trusted_file_only_imports(job: MakeJob, zoo: Path) -> None:
    for name in ("operating_system", "Conv2d"):
        error = refused(job({"file": str(zoo / "net.py"), "name": name}, trust=[str(zoo)]))
        assert error.code in (Code.TARGET_DENIED, Code.LOAD)
    assert "code of 'torch.nn.modules.conv', which is not trusted" in error.message
    assert error.hint == f"If you trust it: export CONVERTER_TRUST={zoo}:torch"
    reexported = job({"file": str(zoo / "net.py"), "name": "resnet18"}, trust=[str(zoo)])
    assert loading.load(reexported).kind == "module"


def test_a_trusted_folder_does_not_open_another_package_of_that_name(
    job: MakeJob, zoo: Path
) -> None:
    (zoo / "shutil.py").write_text("def build(): ...\n")
    error = refused(job({"_target_": "shutil.build"}, trust=[str(zoo)]))
    assert error.code is Code.TARGET_DENIED
    assert "but Python finds" in error.message


def test_a_trusted_module_may_stand_anywhere_on_the_path(
    job: MakeJob, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(zoo)
    assert loading.load(job({"_target_": "acme.net.Net"}, trust=["acme"])).kind == "module"


# Rows 22 and 23: mistakes in the user's code and names


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("import torch\nimport no_such_package\n", 2, "No module named 'no_such_package'"),
        ("import torch\n\ndef build(:\n", 3, "SyntaxError: "),
        ("import torch\ndef f():\n    return 1 / 0\nf()\n", 3, "ZeroDivisionError: division"),
        ("raise KeyError('x\\ny')\n", 1, "KeyError: "),
    ],
)
@pytest.mark.parametrize("by_target", [True, False])
def test_row_22_errors_of_the_users_file(
    job: MakeJob, zoo: Path, text: str, line: int, message: str, by_target: bool
) -> None:
    path = zoo / "acme" / "bad.py"
    path.write_text(text)
    source = {"_target_": "acme.bad.build"} if by_target else {"file": str(path), "name": "build"}
    code, said, hint = described(job(source, trust=[str(zoo)]))
    assert code is Code.LOAD
    assert f"{path}:{line}: " in said
    assert message in said
    assert hint
    assert len(f"{said}\n{hint}".splitlines()) == 2


def test_row_22_an_import_error_says_what_to_install(job: MakeJob, zoo: Path) -> None:
    (zoo / "net.py").write_text("import no_such_package\n")
    source = {"file": str(zoo / "net.py"), "name": "Net"}
    assert described(job(source, trust=[str(zoo)]))[2] == (
        "Install 'no_such_package', or list its folder in CONVERTER_TRUST."
    )


def test_row_22_a_neighbouring_file_can_be_imported(job: MakeJob, zoo: Path) -> None:
    (zoo / "acme_user.py").write_text("from acme.net import Net\ndef make(): return Net(5)\n")
    source = {"file": str(zoo / "acme_user.py"), "name": "make"}
    assert weight(loading.load(job(source, trust=[str(zoo)]))).shape == (5, 3)


def test_a_builder_that_raises(job: MakeJob, zoo: Path) -> None:
    source = {"_target_": "acme.net.broken"}
    code, message, hint = described(job(source, trust=[str(zoo)]))
    assert code is Code.LOAD
    assert message == f"{zoo}/acme/net.py:{NET[: NET.index('raise')].count(chr(10)) + 1}: " + (
        "ValueError: width must be even"
    )
    assert "its kwargs in the configuration" in hint


@pytest.mark.parametrize("name", ["number", "build_", "Nett"])
def test_a_name_that_builds_no_model(job: MakeJob, zoo: Path, name: str) -> None:
    error = refused(job({"file": str(zoo / "net.py"), "name": name}, trust=[str(zoo)]))
    assert error.code is Code.LOAD
    if name == "number":
        assert "returned a builtins.int, not a model" in error.message
    else:
        assert f"net has no '{name}'" in error.message
        assert name[:3] in error.hint.lower() or "Net" in error.hint


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("acme.net.Nett", "acme.net has no 'Nett'"),
        ("acme.nets.Net", "acme has no 'nets'"),
        ("acme.parts", "acme has no 'parts'"),
        ("acme", "is no dotted name"),
        ("acme..net", "is no dotted name"),
    ],
)
def test_a_target_that_is_not_there(job: MakeJob, zoo: Path, target: str, message: str) -> None:
    error = refused(job({"_target_": target}, trust=[str(zoo)]))
    assert error.code is Code.LOAD
    assert message in error.message


def test_a_trusted_module_that_is_not_installed(job: MakeJob) -> None:
    error = refused(job({"_target_": "acme_absent.build"}, trust=["acme_absent"]))
    assert "there is no module 'acme_absent'" in error.message
    assert "PYTHONPATH" in error.hint


def test_kwargs_that_do_not_fit(job: MakeJob, zoo: Path) -> None:
    error = refused(job({"_target_": "acme.net.build"}, trust=[str(zoo)], kwargs={"widht": 3}))
    assert error.code is Code.LOAD
    assert "unexpected keyword argument 'widht'" in error.message
    assert error.hint == "It takes: width."


def test_row_23_a_builder_that_torchvision_lacks(job: MakeJob) -> None:
    error = refused(job("torchvision/resnet19"))
    assert error.code is Code.LOAD
    assert "the registry has no model 'torchvision/resnet19'" in error.message
    assert "The installed torchvision does not have it" in error.hint
    assert "torchvision/resnet18" in error.hint


# ONNX files, and row 38


def onnx_file(folder: Path, location: str | None) -> Path:
    tensor = helper.make_tensor("bias", TensorProto.FLOAT, [4], b"\0" * 16, raw=True)
    if location is not None:
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "bias"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [tensor],
    )
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize("location", [None, "model.data"])
def test_an_onnx_file_needs_no_trust(job: MakeJob, tmp_path: Path, location: str | None) -> None:
    (tmp_path / "model.data").write_bytes(b"\1" * 16)
    path = onnx_file(tmp_path, location)
    loaded = loading.load(job({"onnx": str(path)}))
    assert isinstance(loaded.model, OnnxFile)
    assert (loaded.kind, loaded.model.path) == ("onnx", path)
    error = refused(job({"onnx": str(path)}, training="train"))
    assert error.code is Code.TRAINING_IGNORED
    assert "the mode of an ONNX file was fixed" in error.message
    assert len(loaded.model.proto.graph.initializer[0].raw_data) == 16


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("../secret", "outside the model's folder"),
        ("{outside}/secret", "an absolute path"),
        ("symbolic", "outside the model's folder"),
        ("inner_link", "a symbolic link"),
        ("hard", "a hard link"),
        ("absent", "no such file"),
        ("inside", "a folder"),
        ("short", "bias"),
    ],
)
def test_row_38_external_data_that_leaves_its_folder(
    job: MakeJob, tmp_path: Path, location: str, reason: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\1" * 16)
    (folder / "own").write_bytes(b"\1" * 16)
    (folder / "symbolic").symlink_to(tmp_path / "secret")
    (folder / "inner_link").symlink_to(folder / "own")
    os.link(tmp_path / "secret", folder / "hard")
    (folder / "inside").mkdir()
    location = location.format(outside=tmp_path)
    if location == "short":
        (folder / "short").write_bytes(b"\1" * 8)
        path = onnx_file(folder, location)
        model = onnx.load(path, load_external_data=False)
        model.graph.initializer[0].external_data.add(key="length", value="16")
        path.write_bytes(model.SerializeToString())
    else:
        path = onnx_file(folder, location)
    error = refused(job({"onnx": str(path)}))
    assert error.code is Code.EXTERNAL_DATA
    assert f"has its data in '{location}': " in error.message
    assert reason in error.message
    assert "in the folder of the model" in error.hint


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x0a" * 30])
def test_a_file_that_is_not_onnx(job: MakeJob, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    error = refused(job({"onnx": str(tmp_path / "m.onnx")}))
    assert (error.code, error.message) == (
        Code.LOAD,
        f"source.onnx: {tmp_path}/m.onnx is not an ONNX model",
    )


def test_the_name_of_an_onnx_file_says_nothing_of_its_format(job: MakeJob, tmp_path: Path) -> None:
    """onnx reads a file called ``.json`` as text unless it is told."""
    path = onnx_file(tmp_path, None).rename(tmp_path / "model.json")
    assert loading.load(job({"onnx": str(path)})).kind == "onnx"


@pytest.mark.parametrize(
    ("size", "sentence"),
    [(-5, "is declared [-5, 4]: no size is below 0"), (-1, "the size of -1 is open")],
)
def test_an_onnx_file_whose_input_has_a_size_below_0(
    job: MakeJob, tmp_path: Path, size: int, sentence: str
) -> None:
    path = onnx_file(tmp_path, None)
    model = onnx.load(path)
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    for one in (size, 4):
        model.graph.input[0].type.tensor_type.shape.dim.add(dim_value=one)
    path.write_bytes(model.SerializeToString())
    asked = job({"onnx": str(path)}).model_copy(update={"inputs": {}})
    with pytest.raises(StageError) as caught:
        preparing.load(asked)
    assert caught.value.code is Code.LOAD
    assert sentence in caught.value.message


def test_an_onnx_file_takes_no_weights(job: MakeJob, tmp_path: Path) -> None:
    error = refused(job({"onnx": str(onnx_file(tmp_path, None))}, weights="DEFAULT"))
    assert "carries its own" in error.message


def compiled(path: Path, text: str) -> None:
    """A module in Python's bytecode cache, as it was before its text was what it is now."""
    path.write_text(text.replace("4", "9"))
    py_compile.compile(str(path), doraise=True)
    then = path.stat()
    path.write_text(text)
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))


@pytest.mark.parametrize("source", ["file", "_target_"])
def test_own_code_that_was_rewritten_within_a_second_is_not_taken_from_bytecode(
    tmp_path: Path, job: MakeJob, source: str
) -> None:
    (tmp_path / "stale").mkdir()
    compiled(tmp_path / "stale/__init__.py", "WIDTH = 4")
    compiled(tmp_path / "stale/helper.py", "from torch import nn\nimport stale\nWIDTH = 4")
    text = """
def build():
    from stale.helper import WIDTH, nn, stale
    return nn.Linear(4, WIDTH + stale.WIDTH)
"""
    compiled(tmp_path / "stale/net.py", text)
    compiled(tmp_path / "stale_file.py", text)
    sources = {"file": {"file": str(tmp_path / "stale_file.py"), "name": "build"}}
    chosen = sources.get(source, {"_target_": "stale.net.build"})
    loaded = loading.load(job(chosen, trust=[str(tmp_path)]))
    assert loaded.torch_model.weight.shape == (8, 4)


def test_libraries_are_still_taken_from_bytecode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    compiled(site / "stale_library.py", "WIDTH = 4")
    monkeypatch.syspath_prepend(str(site))
    freshcode.install()
    freshcode.install()
    assert importlib.import_module("stale_library").WIDTH == 9
    assert sum(isinstance(finder, freshcode.Finder) for finder in sys.meta_path) == 1
