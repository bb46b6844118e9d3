"""What a plain script makes of the traps of ``+experiment=pitfalls``.

For each trap whose file the converter refuses as wrong, the usual thirty lines: export, check, open
in ONNX Runtime, compare with PyTorch on the exported example. ``written`` are the files that came
out without an error; ``passed`` those whose comparison found nothing either::

    python benchmarks/plain_script.py
"""

from __future__ import annotations

import contextlib
import importlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import yaml

import registry

REPOSITORY = Path(__file__).resolve().parents[1]
# Codes of a file that is there and wrong: other values, other sizes, an input that is gone.
WRONG = {"VERIFY_VALUE", "VERIFY_SHAPE", "DIM_SPECIALISED", "INPUT_DROPPED"}


def example(spec: dict[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, spec.get("dtype", "float32"))
    if dtype.is_floating_point:
        return torch.randn(spec["shape"], dtype=dtype)
    high = 2 if dtype == torch.bool else spec.get("high", 4)
    return torch.randint(spec.get("low", 0), high, spec["shape"]).to(dtype)


def plain_script(model: dict[str, Any], path: Path) -> bool:
    """Write the file as a script would; whether the comparison on the example passes."""
    entry = registry.find(model["source"])
    assert entry is not None
    torch.manual_seed(0)
    build = getattr(importlib.import_module(entry.module), entry.builder)
    module = build(**{**entry.kwargs, **model.get("kwargs", {})}).eval()
    inputs = {name: example(dict(spec)) for name, spec in entry.inputs.items()}
    copies = tuple(value.clone() for value in inputs.values())
    torch.onnx.export(
        module,
        copies,
        path,
        input_names=list(inputs),
        output_names=list(entry.outputs),
        dynamic_axes=model.get("dynamic_axes"),
        opset_version=17,
        dynamo=False,
    )
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}
    feed = {name: value.numpy() for name, value in inputs.items() if name in taken}
    found = session.run(None, feed)[0]
    with torch.no_grad():
        expected = module(*(value.clone() for value in inputs.values())).numpy()
    return np.allclose(expected, found, rtol=1e-3, atol=1e-5)


def main() -> None:
    text = (REPOSITORY / "configs/experiment/pitfalls.yaml").read_text(encoding="utf-8")
    traps = {
        name: model
        for name, model in yaml.safe_load(text)["models"].items()
        if model.get("expect", {}).get("code") in WRONG and model["exporter"] == "torchscript"
    }
    written = passed = 0
    for name, model in traps.items():
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    right = plain_script(model, Path(folder, "model.onnx"))
            except Exception as error:
                said = f"error: {type(error).__name__}: {str(error).splitlines()[0][:60]}"
            else:
                written, passed = written + 1, passed + right
                said = (
                    "written, the comparison passes" if right else "written, the comparison fails"
                )
        print(f"{name:20} {model['expect']['code']:16} {said}", flush=True)
    print(f"{len(traps)} traps: {written} written, {passed} passed")


if __name__ == "__main__":
    main()
