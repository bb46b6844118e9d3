"""What runs in the other Python: it converts an ONNX file to LiteRT's format, and runs such files.

It imports nothing of this package, which that Python does not have. Arrays come and go as ``.npy``
files, commands and answers as lines of JSON on its standard input and output.

Its arguments are ``convert REQUEST.json`` or ``serve FILE THREADS``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

# Channels last: where ONNX has N, C, … TensorFlow has N, …, C.
_FIRST = {rank: (0, rank - 1, *range(1, rank - 1)) for rank in (3, 4, 5)}


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Write ``request["target"]``; for each output the order of its axes, and what wrote it."""
    import onnx2tf

    folder, parent = Path(request["folder"]), request["parent"]
    inputs = {name: _load(path) for name, path in request["inputs"].items()}
    onnx2tf.convert(
        input_onnx_file_path=parent,
        output_folder_path=str(folder),
        # Else inputs have their channels last, and are called otherwise.
        keep_ncw_or_nchw_or_ncdhw_input_names=[n for n, a in inputs.items() if a.ndim in _FIRST],
        keep_shape_absolutely_input_names=[n for n, a in inputs.items() if a.ndim not in _FIRST]
        or None,
        copy_onnx_input_output_names_to_tflite=True,
        tflite_backend="flatbuffer_direct",
        non_verbose=True,
    )
    (made,) = folder.glob("*_float32.tflite")
    os.replace(made, request["target"])
    # Which order of axes an output has follows from its shape or, of a cube, from its values.
    return {"orders": _orders(_outputs(parent, inputs), Served(request["target"], 1), inputs)}


def _outputs(parent: str, inputs: dict[str, Any]) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(parent, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _orders(wanted: dict[str, Any], served: Served, inputs: dict[str, Any]) -> dict[str, list[int]]:
    import numpy

    served.place(inputs)
    found = served.outputs()
    orders: dict[str, list[int]] = {}
    for name, right in wanted.items():
        if name not in found:
            raise ValueError(f"the output {name} is not in the file, which has {', '.join(found)}")
        rank = found[name].ndim
        fitting = [
            order
            for order in (tuple(range(rank)), _FIRST.get(rank, ()))
            if order and found[name].transpose(order).shape == right.shape
        ]
        if not fitting:
            shapes = f"{list(found[name].shape)}, and not {list(right.shape)}"
            raise ValueError(f"the output {name} is {shapes}")
        distances = [
            float(numpy.nansum(numpy.abs(found[name].transpose(order) - right)))
            if right.dtype.kind == "f"
            else 0.0
            for order in fitting
        ]
        orders[name] = list(fitting[distances.index(min(distances))])
    return orders


def _load(path: str) -> Any:
    import numpy

    return numpy.load(path, allow_pickle=False)


class Served:
    """A file that an interpreter has loaded."""

    def __init__(self, file: str, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(file, num_threads=threads)
        self._inputs = {_name(d): d for d in self._interpreter.get_input_details()}
        self._outputs = {_name(d): d for d in self._interpreter.get_output_details()}
        self._interpreter.allocate_tensors()

    def described(self) -> dict[str, Any]:
        """Names, types and shapes (-1: any size), and what kinds of floats there are."""
        kinds: dict[str, int] = {}
        for tensor in self._interpreter.get_tensor_details():
            kind = tensor["dtype"].__name__
            count = 1
            for size in tensor["shape"]:
                count *= int(size)
            kinds[kind] = kinds.get(kind, 0) + count
        return {
            "inputs": {n: _described(d) for n, d in self._inputs.items()},
            "outputs": {n: _described(d) for n, d in self._outputs.items()},
            "elements": kinds,
        }

    def place(self, arrays: dict[str, Any]) -> None:
        """Give it its inputs."""
        moved = False
        for name, array in arrays.items():
            known = self._interpreter.get_input_details()
            detail = next(d for d in known if d["index"] == self._inputs[name]["index"])
            if list(detail["shape"]) != list(array.shape):
                fixed = list(detail["shape_signature"])
                if len(fixed) != array.ndim or any(
                    size not in (-1, given) for size, given in zip(fixed, array.shape, strict=True)
                ):
                    raise ValueError(f"{name} is {list(array.shape)}, and the file takes {fixed}")
                self._interpreter.resize_tensor_input(detail["index"], list(array.shape), True)
                moved = True
        if moved:
            self._interpreter.allocate_tensors()
        for name, array in arrays.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], array)
        self._placed = True

    def invoke(self) -> None:
        self._interpreter.invoke()

    def outputs(self) -> dict[str, Any]:
        self.invoke()
        return {n: self._interpreter.get_tensor(d["index"]) for n, d in self._outputs.items()}


def _name(detail: dict[str, Any]) -> str:
    # What TensorFlow's own converter writes.
    text = str(detail["name"]).removeprefix("serving_default_")
    return text.removesuffix(":0")


def _described(detail: dict[str, Any]) -> dict[str, Any]:
    signature = [int(size) for size in detail["shape_signature"]]
    return {"dtype": detail["dtype"].__name__, "shape": signature}


def serve(file: str, threads: int) -> None:
    """Answer each line of standard input until it ends."""
    import numpy

    served = Served(file, threads)
    _say(served.described())
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "inputs" in asked:
                served.place({name: _load(path) for name, path in asked["inputs"].items()})
            if "outputs" in asked:
                for name, array in served.outputs().items():
                    if name in asked["outputs"]:
                        numpy.save(asked["outputs"][name], array)
            else:
                served.invoke()
        except (ValueError, RuntimeError, KeyError) as error:
            _say({"error": " ".join(f"{error}".split()) or type(error).__name__})
        else:
            _say({})


def _say(answer: dict[str, Any]) -> None:
    # The first standard output: the libraries that are imported may print to the other.
    _ANSWERS.write(json.dumps(answer) + "\n")
    _ANSWERS.flush()


if __name__ == "__main__":
    _ANSWERS = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        if sys.argv[1] == "convert":
            _say(convert(json.loads(Path(sys.argv[2]).read_text())))
        else:
            serve(sys.argv[2], int(sys.argv[3]))
    except (ValueError, RuntimeError, OSError, ImportError) as failure:
        _say({"error": " ".join(str(failure).split()) or type(failure).__name__})
        sys.exit(1)
