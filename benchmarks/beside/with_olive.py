"""One torchvision model through Olive: converted and optimised, as its documentation has it.

    python benchmarks/beside/with_olive.py resnet18 FOLDER

It exports with the TorchScript exporter at opset 17, like the other sides of `benchmarks/batch.py`,
and compares nothing with PyTorch.
"""

from __future__ import annotations

import os
import sys
from typing import Any

SCRIPT = os.path.abspath(__file__)


def load(_path: str | None = None, **_: Any) -> Any:
    """The model, as Olive asks its script for it."""
    import torch
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.get_model(os.environ["MODEL"], weights=None).eval()


def dummy(_model: Any = None) -> Any:
    """The input that it is traced with."""
    import torch

    return torch.randn(1, 3, 224, 224)


def configuration(folder: str) -> dict[str, Any]:
    accelerator = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    names = {"input_names": ["input"], "output_names": ["output"]}
    shapes = {"input_shapes": [[1, 3, 224, 224]], "input_types": ["float32"]}
    return {
        "input_model": {
            "type": "PyTorchModel",
            "model_loader": "load",
            "model_script": SCRIPT,
            "dummy_inputs_func": "dummy",
            "io_config": {**names, **shapes},
        },
        "systems": {"local": {"type": "LocalSystem", "accelerators": [accelerator]}},
        "passes": {
            "export": {"type": "OnnxConversion", "target_opset": 17, "use_dynamo_exporter": False},
            "optimise": {"type": "OnnxPeepholeOptimizer"},
        },
        "host": "local",
        "target": "local",
        "cache_dir": f"{folder}/cache-{os.environ['MODEL']}",
        "output_dir": f"{folder}/{os.environ['MODEL']}",
    }


def main() -> None:
    os.environ["MODEL"], folder = sys.argv[1:]
    os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"
    from olive.workflows import run

    run(configuration(folder))


if __name__ == "__main__":
    main()
