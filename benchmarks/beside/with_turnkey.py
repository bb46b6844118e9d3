"""One torchvision model through turnkeyml: found in a script, exported, optimised.

    python benchmarks/beside/with_turnkey.py resnet18 FOLDER

Its `turnkey` has to be on the PATH. It compares nothing with PyTorch.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import torch, torchvision
torch.manual_seed(0)
model = torchvision.models.get_model({model!r}, weights=None).eval()
model(torch.randn(1, 3, 224, 224))
"""


def main() -> None:
    model, folder = sys.argv[1:]
    script = Path(folder) / f"{model}.py"
    script.write_text(SCRIPT.format(model=model))
    tools = ["discover", "export-pytorch", "--opset", "17", "optimize-ort"]
    command = ["turnkey", "-i", str(script), "-d", f"{folder}/turnkey", *tools]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
