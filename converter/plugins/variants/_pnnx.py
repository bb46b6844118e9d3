"""Call pnnx, and believe nothing that it does not show.

It writes up to eight files beside its input, over any that are there; exits with 0 where layers are
left over; crashes over operators that it does not know; and its Python function ``pnnx.convert``
ignores the exit code. So the program itself is called, in a folder of its own, and its text and its
files are read.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto
from onnx.external_data_helper import uses_external_data

from converter.model.records import TensorInfo
from converter.plugins.providers import _ncnn_files as files
from converter.plugins.variants import Given
from converter.worker.onnxfile import structure

_INSTALL = "install the extra `ncnn`"
_STEM = "model"
# Types of inputs → as pnnx writes them.
_INPUTS = {"float32": "f32", "int64": "i64", "int32": "i32"}
# Of pnnx's text: something is not as in the model, whatever the exit code.
_TROUBLE = re.compile(
    r"not supported|unsupported|is unknown|not possible|fallback to|^ignore |failed|malformed"
    r"|can not |unrecognized|\berror\b|^skip ",
    re.IGNORECASE,
)
# A parameter of a layer that stays as it was: the layer is named, without its parameters.
_IGNORED = re.compile(r"^ignore (\S+) (\S+) param")
_PASS = re.compile(r"^#+ (pass_\w+)", re.MULTILINE)
_MOST_NAMED, _MOST_SAID = 5, 160
_MOST_BYTES = 2 << 30
_NO_BATCH = 233


def convert(
    parent: Path, target: Path, given: Given, *, fp16: bool, example_only: bool, seconds: float
) -> None:
    """Write an ncnn model and what it is fed.

    Args:
        target: ``NAME.param``; ``NAME.bin`` and ``NAME.json`` are written beside it.
        fp16: weights in float16.
        example_only: the file is meant for the sizes of the traced example.
        seconds: after which pnnx is stopped.

    Raises:
        ValueError: there is no such ncnn file; a sentence that names what is in the way.
    """
    program = _program()
    model = structure.read(parent)
    _refuse(model, given)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _copy(parent, model, folder / f"{_STEM}.onnx")
        arguments = [f"fp16={int(fp16)}", *_shapes(given, example_only)]
        text = _call(program, folder, arguments, seconds, given.threads, model)
        layers = _layers(folder, text)
        binding = _binding(folder, given, example_only)
        _refuse_wrong(layers, binding)
        shutil.move(folder / f"{_STEM}.ncnn.param", target)
        shutil.move(folder / f"{_STEM}.ncnn.bin", target.with_suffix(".bin"))
    target.with_suffix(".json").write_text(binding.text(), encoding="utf-8")
    given.made.tools["pnnx"] = version("pnnx")
    given.made.notes.extend(_notes(binding, fp16))


def _program() -> Path:
    # Not imported: the package imports torch and much more.
    found = importlib.util.find_spec("pnnx")
    if found is None or found.origin is None:
        raise ValueError(f"the package pnnx is not installed: {_INSTALL}")
    program = Path(found.origin).parent / ("pnnx.exe" if os.name == "nt" else "pnnx")
    if not program.is_file():
        raise ValueError(f"the package pnnx has no program {program.name}: {_INSTALL} again")
    return program


def _refuse(model: ModelProto, given: Given) -> None:
    """Refuse what pnnx takes and gets wrong without a word."""
    for value in given.interface.inputs:
        if value.dtype not in _INPUTS:
            known = ", ".join(_INPUTS)
            raise ValueError(f"input {value.name} is {value.dtype}; ncnn takes {known}")
        if not value.shape:
            raise ValueError(f"input {value.name} is a scalar, which ncnn does not have")
    for value in given.interface.outputs:
        if value.dtype != "float32":
            raise ValueError(
                f"output {value.name} is {value.dtype}; a blob of ncnn does not say that it holds "
                "anything but float32"
            )
    for node in structure.nodes(model.graph):
        if node.op_type == "BatchNormalization" and _trains(node):
            raise ValueError(
                f"{_named(node)} normalises by the statistics of the batch (train mode), which "
                "pnnx folds away as if they were the stored ones; convert with training: eval"
            )


def _trains(node: NodeProto) -> bool:
    # Below opset 14 further outputs say so; an attribute since then.
    return any(a.name == "training_mode" and a.i for a in node.attribute) or (
        len([name for name in node.output if name]) > 1
    )


def _named(node: NodeProto) -> str:
    return f"{node.op_type} ({node.name or node.output[0]})"


def _copy(parent: Path, model: ModelProto, target: Path) -> None:
    """The file for pnnx, which reads no external data and may write over it."""
    if not any(uses_external_data(tensor) for tensor in structure.tensors(model)):
        shutil.copyfile(parent, target)
        return
    size = sum(path.stat().st_size for path in parent.parent.glob(f"{parent.name}*"))
    if size >= _MOST_BYTES:
        raise ValueError("the weights are over 2 GiB, which one ONNX file for pnnx cannot hold")
    onnx.save(onnx.load(parent), target)


def _shapes(given: Given, example_only: bool) -> Iterator[str]:
    """What pnnx is told of sizes that the file leaves open: those of two cases."""
    inputs = given.interface.inputs
    if all(isinstance(size, int) for value in inputs for size in value.shape):
        return  # it reads them from the file
    first = [list(given.cases[0][value.name].shape) for value in inputs]
    yield f"inputshape={_written(inputs, first)}"
    if example_only:
        return
    shapes = [[list(case[value.name].shape) for value in inputs] for case in given.cases]
    # Where both differ pnnx takes an axis for dynamic: the case that moves most of them.
    other = max(shapes, key=lambda one: _moved(first, one))
    if _moved(first, other):
        yield f"inputshape2={_written(inputs, other)}"


def _moved(first: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> int:
    pairs = zip(first, other, strict=True)
    return sum(a != b for one, two in pairs for a, b in zip(one, two, strict=True))


def _written(inputs: Sequence[TensorInfo], shapes: Sequence[Sequence[int]]) -> str:
    return ",".join(
        f"[{','.join(map(str, shape))}]{_INPUTS[value.dtype]}"
        for value, shape in zip(inputs, shapes, strict=True)
    )


def _call(
    program: Path,
    folder: Path,
    arguments: Sequence[str],
    seconds: float,
    threads: int,
    model: ModelProto,
) -> str:
    """What pnnx prints.

    Raises:
        ValueError: it crashed, took too long, or did not exit with 0.
    """
    command = [str(program), f"{_STEM}.onnx", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"pnnx took longer than {seconds:.0f} s (time_limit_s)") from error
    except OSError as error:
        raise ValueError(f"pnnx does not start: {error}; {_INSTALL} again") from error
    sys.stderr.write(done.stdout)
    if done.returncode == 0:
        return done.stdout
    code = done.returncode
    how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    passes = _PASS.findall(done.stdout)
    where = f" in {passes[-1]}" if passes else ""
    said = [line.strip() for line in done.stdout.splitlines() if _TROUBLE.search(line.strip())]
    suspects = _suspects(model)
    told = f"; it does not know {', '.join(suspects)}" if suspects else ""
    told += f"; it said: {said[-1][:_MOST_SAID]}" if said else ""
    raise ValueError(f"pnnx {how}{where}{told}")


def _suspects(model: ModelProto) -> list[str]:
    """Nodes over which pnnx is known to crash: bodies, operators of others, sizes by value."""
    inputs = {value.name for value in model.graph.input}
    held = {tensor.name for tensor in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        nested = any(attribute.HasField("g") for attribute in node.attribute)
        foreign = node.domain not in ("", "ai.onnx")
        # Sizes come from inputs of the model by value.
        by_value = node.op_type in ("Resize", "Upsample", "Reshape", "Expand") and any(
            name in inputs - held or (name in made and made[name].op_type == "Concat")
            for name in node.input[1:]
        )
        if nested or foreign or by_value:
            found.append(_named(node))
    found += [f"output {out.name}, which is an input" for out in model.graph.output
              if out.name in inputs]  # fmt: skip
    return found[:_MOST_NAMED]


def _layers(folder: Path, text: str) -> list[files.Layer]:
    """The layers of the file that pnnx wrote.

    Raises:
        ValueError: it wrote none, layers are left over, or its text says that something is wrong.
    """
    path = folder / f"{_STEM}.ncnn.param"
    if not path.is_file() or not path.with_suffix(".bin").is_file():
        raise ValueError("pnnx exited with 0 and wrote no ncnn file")
    layers = files.read_param(path)
    left = _left_over(layers)
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if _TROUBLE.search(line) and not _IGNORED.match(line)]
    if left:
        counted = ", ".join(f"{kind} ({', '.join(names[:2])})" for kind, names in left.items())
        told = f"; it said: {said[0]}" if said else ""
        raise ValueError(f"pnnx left layers over that ncnn does not have: {counted}{told}")
    if said:
        more = f", and {len(said) - 1} lines more like it" if len(said) > 1 else ""
        raise ValueError(f"pnnx exited with 0 and said: {said[0]}{more}")
    return layers


def _left_over(layers: Sequence[files.Layer]) -> dict[str, list[str]]:
    """Types of layers that ncnn does not have → names of the layers."""
    try:
        import ncnn
    except ImportError as error:
        raise ValueError(f"the package ncnn is not installed: {_INSTALL}") from error
    found: dict[str, list[str]] = {}
    for layer in layers:
        if ncnn.layer_to_index(layer.type) < 0:
            found.setdefault(layer.type, []).append(layer.name)
    return found


def _binding(folder: Path, given: Given, example_only: bool) -> files.Binding:
    """Which blobs are inputs and outputs, from the script that pnnx writes to try its file.

    Raises:
        ValueError: there are not as many as the model has.
    """
    script = (folder / f"{_STEM}_ncnn.py").read_text(encoding="utf-8", errors="replace")
    inputs = re.findall(r'\.input\("(in\d+)".*?batch_index=(\d+)', script)
    outputs = re.findall(r"\(\(?(out\d+)\.numpy\(batch_index=(\d+)", script)
    interface = given.interface
    return files.Binding(
        _tensors(interface.inputs, inputs, "in"),
        _tensors(interface.outputs, outputs, "out"),
        {name: list(array.shape) for name, array in given.cases[0].items()}
        if example_only
        else None,
    )


def _tensors(
    known: Sequence[TensorInfo], found: Sequence[tuple[str, str]], prefix: str
) -> tuple[files.Tensor, ...]:
    axes = dict(found)
    # pnnx numbers them in the order of the ONNX file, those that nothing reads too.
    wanted = [f"{prefix}{number}" for number in range(len(known))]
    if sorted(axes) != sorted(wanted):
        told = ", ".join(sorted(axes)) or "none"
        raise ValueError(
            f"the model has {', '.join(value.name for value in known)}, and pnnx made {told} of "
            "them"
        )
    return tuple(
        files.Tensor(
            value.name,
            blob,
            None if int(axes[blob]) == _NO_BATCH else int(axes[blob]),
            value.dtype,
        )
        for blob, value in zip(wanted, known, strict=True)
    )


def _refuse_wrong(layers: Sequence[files.Layer], binding: files.Binding) -> None:
    """Refuse a file in which an input or output is no blob."""
    blobs = {blob for layer in layers for blob in (*layer.inputs, *layer.outputs)}
    for tensor in (*binding.inputs, *binding.outputs):
        if tensor.blob not in blobs:
            raise ValueError(f"pnnx dropped {tensor.name}: its file has no blob {tensor.blob}")


def _notes(binding: files.Binding, fp16: bool) -> Iterator[str]:
    ids = [tensor.name for tensor in binding.inputs if tensor.dtype == "int64"]
    if ids:
        yield f"ncnn takes {', '.join(ids)} as int32"
    if fp16:
        yield (
            "weights are rounded to float16, below 6.1e-5 to zero; it was verified with arithmetic "
            "in float32, and a device with ncnn's defaults computes in float16 too"
        )
    if binding.sizes is not None:
        told = ", ".join(
            f"{name} {'×'.join(map(str, sizes))}" for name, sizes in binding.sizes.items()
        )
        yield f"for the sizes of the example alone: {told}"
