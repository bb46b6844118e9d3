"""One model as an experiment: from words of a command line, or from Python values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import registry
from converter.model.errors import ConfigError, Problem
from converter.plan import checkpoints

EXPERIMENT = "convert"
"""The name of the experiment, and so of the folder of its runs below ``outputs/``."""

_KINDS = {".onnx": "onnx", ".pt": "torchscript", ".pth": "torchscript", ".pt2": "exported_program"}
_NUMBER = r"-?\d+(?:\.\d+)?"
_INPUT = re.compile(
    r"(?P<name>[^=:]+)=(?P<shape>\d+(?:x\d+)*|)(?::(?P<dtype>[a-z]\w*))?"
    rf"(?::(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER}))?"
)
_DYNAMIC = re.compile(r"(?P<name>[^=:]+):(?P<axis>\d+)=(?P<symbol>[A-Za-z_]\w*)")
# `name` in a model's key: as validation has it.
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Request:
    """One model, in the terms of a configuration.

    Attributes:
        source: a registry name, or a mapping such as ``{file: PATH, name: CLASS}``.
        inputs: by their names, in the order of forward's arguments; none: the registry's.
        dynamic_axes: input → axis → symbol.
        cases: inputs that the file is verified on beside those that are drawn.
        trust: the folder whose code the user named.
    """

    name: str
    source: str | dict[str, str]
    inputs: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    dynamic_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    weights: str | dict[str, str] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    opset: int | None = None
    variants: Sequence[str] = ()
    cases: Sequence[dict[str, Any]] = ()
    trust: Path | None = None

    def experiment(self) -> dict[str, Any]:
        """What an experiment file says that does the same."""
        model: dict[str, Any] = {"source": self.source}
        optional = {
            "kwargs": dict(self.kwargs),
            "weights": self.weights,
            "inputs": {name: dict(one) for name, one in self.inputs.items()},
            "dynamic_axes": {name: dict(axes) for name, axes in self.dynamic_axes.items()},
            "opset": self.opset,
            "verify": {"cases": list(self.cases)} if self.cases else None,
        }
        model |= {key: value for key, value in optional.items() if value}
        # One file is wanted: its latency is one more word, `benchmark=cpu`.
        defaults: list[dict[str, Any]] = [{"override /benchmark": "off"}]
        if self.variants:
            defaults.append({"override /variant": list(self.variants)})
        return {"defaults": defaults, "models": {self.name: model}}

    def yaml(self) -> str:
        """The experiment as a file."""
        text = yaml.safe_dump(
            self.experiment(), sort_keys=False, default_flow_style=None, allow_unicode=True
        )
        return f"# @package _global_\n{text}"


def source_of(text: str) -> tuple[str | dict[str, str], Path | None]:
    """A source as somebody types it, and the folder of the code that it names.

    A registry name, ``FILE.py:CLASS``, a ``.onnx``, ``.pt`` or ``.pt2`` file, or the dotted name of
    a class or function.

    Raises:
        ConfigError: it is none of these.
    """
    path, _, name = text.rpartition(":")
    if path.endswith(".py"):
        file = _existing(path)
        if os.pathsep in str(file.resolve().parent):
            message = f"the folder of {path} has '{os.pathsep}' in its name."
            hint = "CONVERTER_TRUST divides its entries there: rename the folder."
            raise ConfigError(Problem("convert", message, hint))
        return {"file": path, "name": name}, file.resolve().parent
    if text.endswith(".py"):
        hint = f"Name the class or function that builds the model: {text}:NAME"
        raise ConfigError(Problem("convert", f"{text} is a file of code.", hint))
    if registry.find(text) is not None:
        return text, None
    kind = _KINDS.get(Path(text).suffix.lower())
    if kind is not None:
        _existing(text)
        return {kind: text}, None
    if "/" not in text and "." in text:
        return {"_target_": text}, None
    # The configuration says what is near.
    return text, None


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise ConfigError(Problem("convert", f"{text} {what}."))
    return path


def name_of(source: str | dict[str, str]) -> str:
    """A name for the model, and so for its file."""
    if isinstance(source, str):
        last = source.rpartition("/")[2]
    elif "name" in source:
        last = source["name"]
    elif "_target_" in source:
        last = source["_target_"].rpartition(".")[2]
    else:
        last = Path(next(iter(source.values()))).stem
    return _UNFIT.sub("_", last).strip("._-") or "model"


def input_of(text: str) -> tuple[str, dict[str, Any]]:
    """``x=1x3x64x64``, ``ids=1x16:int64:0..100`` (100 excluded); a scalar is ``n=:int64``.

    Raises:
        ConfigError: it is not of that form.
    """
    match = _INPUT.fullmatch(text)
    if match is None:
        hint = (
            "Write NAME=SIZExSIZE[:DTYPE][:LOW..HIGH], such as x=1x3x64x64 or ids=1x16:int64:0..9"
        )
        raise ConfigError(Problem("--input", f"found '{text}'.", hint))
    shape = [int(size) for size in match["shape"].split("x") if size]
    stated: dict[str, Any] = {"shape": shape}
    if match["dtype"]:
        stated["dtype"] = match["dtype"]
    if match["low"]:
        stated |= {"low": _number(match["low"]), "high": _number(match["high"])}
    return match["name"], stated


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def dynamic_of(texts: Sequence[str]) -> dict[str, dict[int, str]]:
    """``x:0=batch`` for each axis.

    Raises:
        ConfigError: one is not of that form.
    """
    found: dict[str, dict[int, str]] = {}
    for text in texts:
        match = _DYNAMIC.fullmatch(text)
        if match is None:
            hint = "Write INPUT:AXIS=NAME, such as x:0=batch"
            raise ConfigError(Problem("--dynamic", f"found '{text}'.", hint))
        found.setdefault(match["name"], {})[int(match["axis"])] = match["symbol"]
    return found


def weights_of(text: str) -> str | dict[str, str]:
    """A name of pretrained weights, or a checkpoint where it is a file or a folder of weights."""
    is_folder = any(Path(text, name).is_file() for name in checkpoints.IN_FOLDER)
    return {"checkpoint": text} if is_folder or Path(text).is_file() else text


def output_of(path: Path) -> str:
    """The name of the model whose file is to be called so.

    Raises:
        ConfigError: no file of a model can be.
    """
    if path.suffix != ".onnx" or _UNFIT.search(path.stem) or not path.stem[:1].isalnum():
        message = f"{path} is no name of an ONNX file here."
        hint = "It ends in .onnx; before that letters, digits, '.', '_' and '-', a letter first."
        raise ConfigError(Problem("--output", message, hint))
    if path.is_dir():
        raise ConfigError(Problem("--output", f"{path} is a folder."))
    if not path.absolute().parent.is_dir():
        raise ConfigError(Problem("--output", f"there is no folder {path.parent}."))
    return path.stem
