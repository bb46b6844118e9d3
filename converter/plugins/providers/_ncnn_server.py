"""ncnn in a process of its own: what crashes there costs the job a sentence.

Started by its path, with the standard library, numpy and ncnn alone. It reads one line of JSON that
says what to load, then requests: a line of JSON with types and shapes, and the bytes of the arrays
behind it. Answers have the same form.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Of ncnn's Mat: the tensor has no batch axis.
_NO_BATCH = 233


def load(told: Mapping[str, Any]) -> Any:
    """The network of a ``.param`` and a ``.bin``.

    Args:
        told: ``param`` and ``bin`` (paths), ``threads``, ``options`` (attributes of ncnn's Option).

    Raises:
        RuntimeError: ncnn refuses it.
    """
    import ncnn

    net = ncnn.Net()
    for name, value in told["options"].items():
        setattr(net.opt, name, value)
    net.opt.num_threads = told["threads"]
    if net.load_param(told["param"]) or net.load_model(told["bin"]):
        raise RuntimeError("ncnn cannot load the file")
    return net


def blob(array: Array, batch_axis: int | None) -> Any:
    """An array as ncnn holds it: it keeps the batch axis apart, and has ids as int32."""
    import ncnn

    # Of other strides ncnn reads the memory as if it had none.
    array = np.ascontiguousarray(array)
    # A copy: in ncnn's memory each channel begins at a multiple of 16 bytes.
    return ncnn.Mat(array, batch_index=_NO_BATCH if batch_axis is None else batch_axis).clone()


def compute(net: Any, inputs: Sequence[tuple[str, Any]], outputs: Sequence[str]) -> list[Any]:
    """The output blobs for input blobs.

    Raises:
        RuntimeError: a layer refuses.
    """
    extractor = net.create_extractor()
    for name, held in inputs:
        if extractor.input(name, held):
            raise RuntimeError(f"ncnn has no blob {name}")
    found = []
    for name in outputs:
        code, held = extractor.extract(name)
        if code or held.empty():
            raise RuntimeError(f"ncnn gives no {name}: a layer before it failed with {code}")
        found.append(held)
    return found


def unpacked(held: Any, batch_axis: int | None) -> Array:
    """A float32 blob as an array of its own, with the batch axis in its place."""
    found = held.numpy(batch_index=_NO_BATCH if batch_axis is None else batch_axis)
    return np.array(found, np.float32)


def send(channel: BinaryIO, told: Mapping[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Write one message."""
    kinds = [{"dtype": str(array.dtype), "shape": array.shape} for array in arrays]
    channel.write(json.dumps({**told, "arrays": kinds}).encode() + b"\n")
    for array in arrays:
        channel.write(np.ascontiguousarray(array).tobytes())
    channel.flush()


def receive(channel: BinaryIO) -> tuple[dict[str, Any], list[Array]]:
    """Read one message.

    Raises:
        EOFError: the other side has ended.
    """
    line = channel.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    told = json.loads(line)
    arrays = []
    for kind in told.pop("arrays"):
        size = int(np.prod(kind["shape"], dtype=np.int64)) * np.dtype(kind["dtype"]).itemsize
        held = channel.read(size)
        if len(held) != size:
            raise EOFError
        arrays.append(np.frombuffer(held, kind["dtype"]).reshape(kind["shape"]))
    return told, arrays


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Load what the first message names, and answer those that follow until there are no more."""
    told, _ = receive(requests)
    try:
        net = load(told)
    except (ImportError, RuntimeError) as error:
        send(answers, {"error": str(error)})
        return
    send(answers, {})
    while True:
        try:
            _, arrays = receive(requests)
        except EOFError:
            return
        try:
            inputs = [
                (name, blob(array, axis))
                for (name, axis), array in zip(told["inputs"], arrays, strict=True)
            ]
            found = compute(net, inputs, [name for name, _ in told["outputs"]])
            results = [
                unpacked(held, axis) for (_, axis), held in zip(told["outputs"], found, strict=True)
            ]
        # The binding raises any of these where a Mat cannot hold an array.
        except (RuntimeError, TypeError, ValueError, IndexError, MemoryError) as error:
            send(answers, {"error": " ".join(str(error).split()) or type(error).__name__})
        else:
            send(answers, {}, results)


if __name__ == "__main__":
    # What ncnn prints goes to the log, and never between the answers.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, channel)
