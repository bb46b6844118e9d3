"""Run a file on the test data of a folder: ``python compare.py MODEL.onnx FOLDER``.

FOLDER holds ``test_data_set_0/input_0.pb``, ``output_0.pb``, …, as those of onnx/models do. Needs
onnx, onnxruntime and NumPy. Exit code 1: the file gives something else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

# Those that the ONNX project compares its models with.
RTOL, ATOL = 1e-3, 1e-7


def arrays(folder: Path, kind: str) -> list[np.ndarray]:
    """The tensors of one kind, by their numbers: many files have no names in them."""
    found = sorted(folder.glob(f"{kind}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.load_tensor(str(path))) for path in found]


def main(model: str, folder: str) -> int:
    """Compare each set; the number of those that differ."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    sets = sorted(Path(folder).glob("test_data_set_*"))
    if not sets:
        print(f"{folder} has no test_data_set_0")
        return 2
    wrong = 0
    for data in sets:
        found = session.run(None, dict(zip(names, arrays(data, "input"), strict=True)))
        wanted = arrays(data, "output")
        same = [
            one.shape == other.shape and np.allclose(one, other, RTOL, ATOL, equal_nan=True)
            for one, other in zip(found, wanted, strict=True)
        ]
        print(f"{data.name}: {'equal' if all(same) else f'outputs differ: {same}'}")
        wrong += not all(same)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
