"""Six models through the converter, beside one plain script for all of them.

Both sides export with TorchScript at opset 17, check, simplify with onnxsim, and compare with
PyTorch in ONNX Runtime; the converter also runs a second input, proves the file on disk and
isolates every model. Whole processes, run alternately in the same minutes::

    python benchmarks/batch_against_script.py [ROUNDS]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = (
    "resnet18", "mobilenet_v3_small", "convnext_tiny", "vit_b_16", "densenet121", "efficientnet_b0",
)  # fmt: skip

SCRIPT = """
import sys, warnings
import numpy as np, onnx, onnxruntime, onnxsim, torch, torchvision
warnings.filterwarnings("ignore")
torch.backends.mha.set_fastpath_enabled(False)
for name in sys.argv[2:]:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    image = torch.randn(1, 3, 224, 224)
    path = f"{sys.argv[1]}/{name}.onnx"
    torch.onnx.export(model, (image,), path, dynamo=False, opset_version=17,
                      input_names=["input"], output_names=["output"])
    proto = onnx.load(path)
    onnx.checker.check_model(proto)
    proto, ok = onnxsim.simplify(proto)
    onnx.save(proto, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(image).numpy()
    actual = session.run(None, {"input": image.numpy()})[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)
"""


def script(folder: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT, folder, *MODELS]


def converter(folder: str, workers: int) -> list[str]:
    return [
        sys.executable, "-m", "converter", f"hydra.run.dir={folder}/run", "exporter=torchscript",
        f"include=[{','.join(f'torchvision/{name}' for name in MODELS)}]",
        f"executor.workers={workers}", "benchmark=off", "store.use=false",
    ]  # fmt: skip


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of a whole process that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        # The converter gives each of its workers its share of the cores; the script takes all.
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    if done.returncode:
        sys.exit(f"{command[:3]} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    sides = {
        "one script for all": script,
        "converter, 1 worker": lambda folder: converter(folder, 1),
        "converter, 2 workers": lambda folder: converter(folder, 2),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                times[name].append(seconds(side(folder)))
    base = statistics.median(times["one script for all"])
    print(f"{'':22} {'median':>8} {'min':>8} {'max':>8} {'script / it':>12}")
    for name, found in times.items():
        median = statistics.median(found)
        print(
            f"{name:22} {median:7.1f}s {min(found):7.1f}s {max(found):7.1f}s {base / median:12.2f}"
        )


if __name__ == "__main__":
    main()
