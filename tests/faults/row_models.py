"""Models and files that go wrong, each as one row of the list of faults says."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper

MODELS = """
import os, pathlib, sys
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

class Raises(Net):
    def forward(self, x):
        raise KeyError("no such head")

class Text(Net):
    def forward(self, x):
        return "a cat"

class NotANumber(Net):
    def forward(self, x):
        return torch.log(-super().forward(x).abs() - 1)

class Constant(Net):
    def forward(self, x):
        return super().forward(x) * 0 + 3

class Deaf(Net):
    def forward(self, x):
        return super().forward(torch.ones_like(x)) + 1e-9 * x.sum()

class Random(Net):
    def forward(self, x):
        return F.dropout(super().forward(x))

class NoOnnxForm(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)

class Unused(nn.Module):
    def forward(self, x, factor):
        return x * 2

class Branch(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x - 1

class Loop(nn.Module):
    def forward(self, x):
        total = torch.zeros_like(x[0])
        for row in range(x.shape[0]):
            total = total + x[row] * (row + 1)
        return total

class Shrinks(Net):
    def forward(self, x):
        y = super().forward(x)
        return y[:1] if torch.onnx.is_in_onnx_export() else y

class Exits(Net):
    def forward(self, x):
        os._exit(0)

class Leaves(Net):
    def forward(self, x):
        sys.exit(0)

class Asks(Net):
    def forward(self, x):
        return super().forward(x) * float(input("by how much? "))

class Plants(Net):
    def forward(self, x):
        link = pathlib.Path("run/models/planted/planted.onnx")
        if not link.is_symlink():
            link.symlink_to(pathlib.Path("precious").resolve())
        return super().forward(x)
"""


class Evil:
    """A pickle that runs a command when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def state(**changes: Any) -> dict[str, Any]:
    first, second = torch.nn.Linear(3, 8), torch.nn.Linear(8, 4)
    layers = {"first": first, "second": second}
    found = {f"{n}.{k}": v for n, layer in layers.items() for k, v in layer.state_dict().items()}
    return {**found, **changes}


def write_files(folder: Path) -> None:
    """All that the entries below name."""
    (folder / "models.py").write_text(MODELS)
    (folder / "imports.py").write_text("import torch\nimport no_such_package\n")
    (folder / "syntax.py").write_text("import torch\n\ndef build(:\n")
    (folder / "precious").write_bytes(b"precious")
    outside = folder.parent / "outside"
    outside.mkdir()
    touch = f"open({str(folder / 'canary_of_code')!r}, 'w')\ndef build(): ...\n"
    (outside / "code.py").write_text(touch)
    (outside / "secret").write_bytes(b"\1" * 16)
    _checkpoints(folder)
    _onnx_file(folder / "leads_out.onnx")
    os.mkfifo(folder / "fifo.npy")
    (folder / "folder.npy").mkdir()
    (folder / "device.npy").symlink_to("/dev/zero")


def _checkpoints(folder: Path) -> None:
    (folder / "empty.pth").touch()
    (folder / "page.pth").write_text("<!doctype html><title>Sign in</title>")
    lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 4096\n"
    (folder / "lfs.pth").write_text(lfs)
    torch.save(state(), folder / "whole.pth")
    whole = (folder / "whole.pth").read_bytes()
    (folder / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "evil.pth").write_bytes(pickle.dumps(Evil(folder / "canary_of_pickle")))
    with zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (300 << 20))
    torch.save({f"module.{k}": v for k, v in state().items()}, folder / "prefixed.pth")
    some = {key: value for key, value in state().items() if key != "second.bias"}
    torch.save(some, folder / "missing.pth")
    more = {f"extra.{n}": torch.ones(1) for n in range(7)}
    torch.save(state() | more, folder / "extra.pth")
    torch.save(state(**{"second.bias": torch.full((4,), float("nan"))}), folder / "nan.pth")


def _onnx_file(path: Path) -> None:
    tensor = helper.make_tensor("bias", TensorProto.FLOAT, [4], b"\0" * 16, raw=True)
    onnx.external_data_helper.set_external_data(tensor, "../outside/secret")
    tensor.ClearField("raw_data")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    node = helper.make_node("Add", ["x", "bias"], ["y"])
    graph = helper.make_graph([node], "graph", values[:1], values[1:], [tensor])
    path.write_bytes(helper.make_model(graph).SerializeToString())


X = "{x: {shape: [2, 3]}}"


@dataclass(frozen=True)
class Faulty:
    """A model of the batch, and what its row must say.

    Attributes:
        entry: its keys besides ``inputs``.
        words: parts of the message or the hint; ``{folder}`` is where the command runs.
    """

    row: int
    name: str
    status: str
    code: str
    stage: str
    words: tuple[str, ...]
    entry: str
    inputs: str = X

    @property
    def override(self) -> str:
        inputs = f", inputs: {self.inputs}" if self.inputs else ""
        return f"+models.{self.name}={{{self.entry}{inputs}}}"


def net(name: str, more: str = "") -> str:
    return f"source: {{file: models.py, name: {name}}}{more}"


def loads(row: int, file: str, code: str, *words: str) -> Faulty:
    """``Net`` with a checkpoint."""
    entry = net("Net", f", weights: {{checkpoint: {file}}}")
    name = file.partition(".")[0] + "_weights"
    return Faulty(row, name, "failed", code, "load", words, entry)


def reads(file: str, code: str = "LOAD") -> Faulty:
    """``Net`` with an input from what is no file."""
    inputs = f"{{x: {{shape: [2, 3], path: {file}}}}}"
    name = file.partition(".")[0] + "_input"
    words = (f"inputs.x.path {{folder}}/{file}",)
    return Faulty(67, name, "failed", code, "reference", words, net("Net"), inputs)


def runs(row: int, name: str, code: str, stage: str, *words: str, more: str = "") -> Faulty:
    """A class of ``MODELS``."""
    return Faulty(row, name.lower(), "failed", code, stage, words, net(name, more))


def source(row: int, name: str, of: str, code: str, *words: str, inputs: str = X) -> Faulty:
    return Faulty(row, name, "failed", code, "load", words, f"source: {of}", inputs)


FIVE = "extra.0, extra.1, extra.2, extra.3, extra.4, …"
PREFIXED = (
    "4 missing (first.weight, first.bias, second",
    "module.first.weight",
    "_prefix: module.",
)
ENDED = ("ended with exit status 0", "no result", "look for sys.exit, os._exit")
URL = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
TRACED = ", exporter: torchscript"
BATCH = f", dynamic_axes: {{x: {{0: n}}}}{TRACED}"

FAULTY = [
    runs(20, "Net", "OUTPUT_STRUCTURE", "reference", "outputs names 2 (a, b), forward returns 1",
         more=", outputs: [a, b]"),
    source(21, "target", "{_target_: os.system}", "TARGET_DENIED", "'os.system' is not trusted",
           "export CONVERTER_TRUST={folder}:os"),
    source(21, "file", "{file: ../outside/code.py, name: build}", "TARGET_DENIED",
           "outside/code.py is not inside a trusted folder", "export CONVERTER_TRUST={folder}:"),
    source(22, "imports", "{file: imports.py, name: Net}", "LOAD",
           "{folder}/imports.py:2: ModuleNotFoundError", "Install 'no_such_package'"),
    source(22, "syntax", "{file: syntax.py, name: Net}", "LOAD", "{folder}/syntax.py:3: SyntaxErr"),
    loads(24, "absent.pth", "WEIGHTS_MISSING", "{folder}/absent.pth does not exist"),
    loads(25, "empty.pth", "WEIGHTS_FORMAT", "{folder}/empty.pth is not a check", "it is empty"),
    loads(25, "page.pth", "WEIGHTS_FORMAT", "looks like a web page (HTML)"),
    loads(25, "lfs.pth", "WEIGHTS_FORMAT", "Git LFS pointer", "git lfs pull --include lfs.pth"),
    loads(25, "truncated.pth", "WEIGHTS_FORMAT", "a truncated or damaged zip archive"),
    loads(26, "evil.pth", "WEIGHTS_UNSAFE", "posix.system"),
    loads(27, "bomb.pth", "WEIGHTS_SIZE", "would unpack to 314,572,800: a zip bomb"),
    loads(28, "prefixed.pth", "WEIGHTS_KEYS", *PREFIXED),
    loads(28, "missing.pth", "WEIGHTS_KEYS", "1 missing (second.bias)"),
    loads(28, "extra.pth", "WEIGHTS_KEYS", f"7 extra ({FIVE})", "ignore: [extra.*]"),
    loads(29, "nan.pth", "WEIGHTS_NONFINITE", "'second.bias' holds NaN or infinite values: 4 of 4"),
    runs(30, "Raises", "FORWARD", "reference", "KeyError: 'no such head' (models.py:"),
    runs(30, "Text", "OUTPUT_STRUCTURE", "reference", "forward returns str, expected tensors"),
    runs(31, "NoOnnxForm", "EXPORT_UNSUPPORTED", "export", "special_bessel_j0", "opset version 17"),
    Faulty(32, "unused", "failed", "INPUT_DROPPED", "check",
           ("input factor is not in the graph (it has: x)",), net("Unused", TRACED),
           "{x: {shape: [2, 3]}, factor: {shape: [1]}}"),
    runs(32, "Loop", "DIM_SPECIALISED", "verify", "case n=1 (x 1×3)", "remove the axis",
         more=BATCH),
    runs(33, "Branch", "VERIFY_VALUE", "verify", "case second", "PyTorch gives", "largest error",
         more=TRACED),
    runs(33, "Shrinks", "VERIFY_SHAPE", "verify", "has shape [1, 4], PyTorch gives [2, 4]"),
    runs(34, "NotANumber", "VERIFY_NONFINITE", "reference", "NaN or infinity in output #0"),
    runs(34, "Constant", "VERIFY_VACUOUS", "reference", "#0 (root mean square 3) moves by 0 of"),
    runs(34, "Deaf", "VERIFY_VACUOUS", "reference", "(root mean square 0.", "of its scale"),
    runs(35, "Random", "NONDETERMINISTIC", "reference", "another #0 when it runs twice"),
    source(38, "leads_out", "{onnx: leads_out.onnx}", "EXTERNAL_DATA",
           "'../outside/secret': outside the model's folder", inputs=""),
    Faulty(42, "exits", "crashed", "NO_RESULT", "reference", ENDED, net("Exits")),
    Faulty(42, "leaves", "crashed", "NO_RESULT", "reference", ENDED, net("Leaves")),
    runs(46, "Asks", "STDIN", "reference", "asks for keyboard input"),
    Faulty(58, "planted", "failed", "IO", "publish",
           ("a symbolic link is at an output path: {folder}/run/models/planted/planted.onnx",),
           net("Plants")),
    Faulty(59, "offline", "failed", "WEIGHTS_DOWNLOAD", "load",
           (URL, "into {folder}/cache/hub/checkpoints"),
           "source: torchvision/squeezenet1_1, weights: DEFAULT", ""),
    source(67, "script", "{torchscript: fifo.npy}", "LOAD", "{folder}/fifo.npy is no file"),
    source(67, "program", "{exported_program: device.npy}", "LOAD", "{folder}/device.npy is no"),
    source(67, "graph", "{onnx: folder.npy}", "LOAD", "{folder}/folder.npy is no file", inputs=""),
    loads(67, "fifo.npy", "LOAD", "{folder}/fifo.npy is no file"),
    reads("fifo.npy"),
    reads("folder.npy", "FORWARD"),  # a folder of samples, which holds none
    reads("device.npy"),
]  # fmt: skip
