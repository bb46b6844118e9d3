"""LiteRT (.tflite) for phones and microcontrollers, from the ONNX file through onnx2tf."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from converter.model.base import Frozen
from converter.plugins.providers import litert as runtime
from converter.plugins.variants import Given

FORMAT = "litert"
PRECISION = "float32"
PACKAGES: tuple[str, ...] = ()
SUFFIX = ".tflite"
COMPANIONS = (runtime.LAYOUT,)
PROVIDER = "litert"


class Options(Frozen):
    """None: where its Python is, the runtime says."""


def keeps_io(options: Options) -> bool:
    return True


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Convert the file, and note in which order the axes of its outputs are.

    Raises:
        ValueError: onnx2tf does not convert it.
    """
    import numpy

    python = given.runtime.get("python", "")
    folder = Path(tempfile.mkdtemp())  # of this call: it goes with it
    inputs = {}
    for i, (name, array) in enumerate(given.cases[0].items()):
        inputs[name] = str(folder / f"{i}.npy")
        numpy.save(inputs[name], array, allow_pickle=False)
    # onnx2tf 2.6.9 simplifies its input, and writes it back over the file.
    source = folder / parent.name
    for part in (parent, parent.with_name(f"{parent.name}.data")):
        if part.is_file():
            shutil.copyfile(part, folder / part.name)
    request = {
        "parent": str(source), "target": str(target), "folder": str(folder / "made"),
        "inputs": inputs,
    }  # fmt: skip
    orders = runtime.convert(request, python, folder)["orders"]
    target.with_suffix(runtime.LAYOUT).write_text(
        json.dumps({"transpose_to_onnx": orders}, indent=2) + "\n"
    )
    moved = [name for name, order in orders.items() if order != sorted(order)]
    notes = [f"the output {name} has its channels last" for name in moved]
    tools = runtime.decided_by({"python": python})
    given.made = given.made.model_copy(update={"tools": tools, "notes": notes})
