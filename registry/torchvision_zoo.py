"""Every builder of ``torchvision.models.list_models()``, found by reading torchvision's source.

Importing torchvision takes seconds; scanning its files for ``@register_model`` takes
milliseconds and finds what the *installed* version has.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from registry import Entry, Size, parameters_of

PREFIX = "torchvision/"

# @register_model() or @register_model(name="quantized_resnet18"), other decorators, def.
BUILDER = re.compile(
    r"^@register_model\((?:name=)?(?:\"(?P<name>[^\"]+)\")?\)\n(?:(?!def )[^\n]*\n)*?"
    r"def (?P<builder>\w+)\((?P<signature>.*?)\) -> [^\n]*:\n",
    re.MULTILINE | re.DOTALL,
)

# What the first weights of an enum say of their model: its size, without importing anything.
WEIGHTS = re.compile(r"\b\w+Weights\b")
PARAMETERS = re.compile(r'"num_params": (\d+)')
OPERATIONS = re.compile(r'"_ops": ([\d.]+)')  # in 1e9

# Sizes that differ from those of the task. inception_v3 cannot take less than 299 with its
# auxiliary head, swin_v2 was made for 256, small detectors have theirs in their names, and these
# videos have positions or strides for 16 frames of 224×224.
SIZES: dict[str, list[int]] = {
    "inception_v3": [1, 3, 299, 299],
    "swin_v2_t": [1, 3, 256, 256],
    "swin_v2_s": [1, 3, 256, 256],
    "swin_v2_b": [1, 3, 256, 256],
    "ssd300_vgg16": [1, 3, 300, 300],
    "ssdlite320_mobilenet_v3_large": [1, 3, 320, 320],
    "fasterrcnn_mobilenet_v3_large_320_fpn": [1, 3, 320, 320],
    "r3d_18": [1, 3, 16, 112, 112],
    "mc3_18": [1, 3, 16, 112, 112],
    "r2plus1d_18": [1, 3, 16, 112, 112],
}
TASK_SIZES: dict[str, list[int]] = {
    "classification": [1, 3, 224, 224],
    "quantization": [1, 3, 224, 224],
    "segmentation": [1, 3, 224, 224],
    # The size that detectors resize their images to: another one would be interpolated first, and
    # rounding of the coordinates then moves every box.
    "detection": [1, 3, 800, 800],
    "video": [1, 3, 16, 224, 224],
    "optical_flow": [1, 3, 128, 128],  # RAFT's correlation pyramid needs at least this
}
# What every use of a model needs beside its inputs. Folding the constants of mvit_v2_s takes the
# TorchScript exporter over 20 GB (torch 2.15), and ONNX Runtime refuses what comes out.
DEFAULTS: dict[str, dict[str, Any]] = {"mvit_v2_s": {"exporter": "dynamo", "opset": {"min": 16}}}
DETECTIONS = ("boxes", "labels", "scores")
# One-stage detectors put the scores second.
SCORES_FIRST = ("boxes", "scores", "labels")
FLOW_UPDATES = 12  # the default number of refinements, each an output


@dataclass(frozen=True)
class Builder:
    """Where a builder stands: its module, function, task and the text of its arguments."""

    module: str
    function: str
    task: str
    signature: str


def names() -> tuple[str, ...]:
    """``torchvision/NAME`` for each builder of the installed torchvision."""
    return tuple(PREFIX + name for name in _builders())


def entry(name: str) -> Entry | None:
    """The entry of ``torchvision/NAME``."""
    short = name.removeprefix(PREFIX)
    builder = _builders().get(short)
    if builder is None:
        return None
    parameters = _parameters(builder.signature)
    return Entry(
        name=name,
        task=builder.task,
        module=builder.module,
        builder=builder.function,
        # A quantized builder takes the sizes of its float one: quantized_inception_v3 needs 299
        # too.
        inputs=_inputs(short.removeprefix("quantized_"), builder.task),
        outputs=_outputs(short, builder.task),
        parameters=parameters,
        kwargs=_kwargs(short, parameters),
        defaults=DEFAULTS.get(short, {}),
    )


def published(name: str) -> tuple[str, ...] | None:
    """The names of a builder's weights, as ``weights:`` takes them.

    Returns:
        ``IMAGENET1K_V1``, ``DEFAULT``; none where it has no weights; ``None`` where an enum of
        another module has them.
    """
    builder = _builders().get(name.removeprefix(PREFIX))
    if builder is None:
        return None
    arguments = _function(builder.signature).args
    annotations = [a.annotation for a in [*arguments.args, *arguments.kwonlyargs]
                   if a.arg == "weights" and a.annotation is not None]  # fmt: skip
    tree = ast.parse(_source(builder.module))
    enums = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found: list[str] = []
    for node in (part for annotation in annotations for part in ast.walk(annotation)):
        if isinstance(node, ast.Name) and node.id not in ("Optional", "Union"):
            if node.id not in enums:
                return None
            members = enums[node.id].body
            found += [t.id for m in members if isinstance(m, ast.Assign) for t in m.targets
                      if isinstance(t, ast.Name)]  # fmt: skip
    return tuple(dict.fromkeys(found))


def size(name: str) -> Size | None:
    """How large the model of a builder is, as its published weights say; ``None``: it has none."""
    builder = _builders().get(name.removeprefix(PREFIX))
    if builder is None:
        return None
    for enum in WEIGHTS.findall(builder.signature):
        _, found, rest = _source(builder.module).partition(f"\nclass {enum}(")
        body = rest.partition("\nclass ")[0]
        if found and (parameters := PARAMETERS.search(body)):
            operations = OPERATIONS.search(body)
            return Size(int(parameters[1]), float(operations[1]) * 1e9 if operations else 0.0)
    return None


@cache
def _source(module: str) -> str:
    spec = find_spec("torchvision")
    origin = spec.origin if spec is not None else None
    assert origin is not None, "it has builders"
    path = Path(origin).parents[1] / Path(*module.split(".")).with_suffix(".py")
    return path.read_text(encoding="utf-8")


@cache
def _builders() -> dict[str, Builder]:
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return {}
    package = Path(spec.origin).parent
    found: dict[str, Builder] = {}
    for path in sorted((package / "models").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "@register_model(" not in text:
            continue
        place = path.relative_to(package.parent).with_suffix("").parts
        # torchvision/models/detection/ssd.py has its task in its path, torchvision/models/vgg.py
        # none.
        task = place[2] if len(place) == 4 else "classification"
        for match in BUILDER.finditer(text):
            name = match["name"] or match["builder"]
            found[name] = Builder(".".join(place), match["builder"], task, match["signature"])
    return dict(sorted(found.items()))


def _parameters(signature: str) -> dict[str, Any]:
    """The builder's own arguments; ``weights`` and ``progress`` are the converter's business."""
    found = parameters_of(_function(signature).args)
    return {name: value for name, value in found.items() if name not in ("weights", "progress")}


def _function(signature: str) -> ast.FunctionDef:
    # A signature is no expression: as that of a function `ast` reads it.
    function = ast.parse(f"def builder({signature}): ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    return function


def _inputs(name: str, task: str) -> Mapping[str, Mapping[str, Any]]:
    shape = SIZES.get(name, TASK_SIZES[task])
    if task == "optical_flow":
        return {"image1": {"shape": shape}, "image2": {"shape": shape}}
    if task == "detection":  # detectors take images in 0…1 and normalise them
        return {"input": {"shape": shape, "fill": "uniform", "low": 0.0, "high": 1.0}}
    return {"input": {"shape": shape}}


def _outputs(name: str, task: str) -> tuple[str, ...]:
    if task == "segmentation":  # "aux" comes second when aux_loss or a weights enum asks for it
        return ("out",)
    if task == "optical_flow":
        return tuple(f"flow_{update}" for update in range(1, FLOW_UPDATES + 1))
    if task != "detection":
        return ("output",)
    if name.startswith(("retinanet", "ssd", "fcos")):
        return SCORES_FIRST
    if name.startswith("maskrcnn"):
        return (*DETECTIONS, "masks")
    if name.startswith("keypointrcnn"):
        return (*DETECTIONS, "keypoints", "keypoints_scores")
    return DETECTIONS


def _kwargs(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What no use can do without.

    Builders with a backbone download its weights even with ``weights=None``. GoogLeNet and
    Inception warn, and sample truncated normals for a while, unless told not to initialise.
    """
    kwargs: dict[str, Any] = {}
    # Only where the builder has it: the others refuse an argument that they do not know.
    if "weights_backbone" in parameters:
        kwargs["weights_backbone"] = None
    if name.removeprefix("quantized_") in ("googlenet", "inception_v3"):
        kwargs["init_weights"] = False
    return kwargs
