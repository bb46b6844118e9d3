"""Write the final file, and describe it for the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import onnx
from onnx import ModelProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from converter.layout.files import fsync, sha256
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import FileInfo, OnnxInfo, SimplifyRecord
from converter.model.spec import ExportSpec
from converter.worker.onnxfile import structure, writing

# protobuf cannot hold 2 GiB in one message; the rest is room for the structure.
_INLINE_BYTES = (2 << 30) - (64 << 20)
# Of a tensor that stays in the file where others do not, in bytes.
_SMALL = 1024


def save(
    model: ModelProto,
    path: Path,
    options: ExportSpec,
    told: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Write ``path`` and, where needed or asked for, ``path.data`` beside it.

    Args:
        model: may lose its weights to the data file. Afterwards it says of its tensors what the
            file says.
        told: entries of its ``metadata_props``.
        folder: where those of its weights lie that are not in memory.

    Raises:
        StageError: IO, when the disk is full, or when one file was asked for and cannot hold it.
    """
    # Measured before writing: protobuf fails at 2 GiB with words of its own.
    large = structure.weight_bytes(model) > _INLINE_BYTES
    if large and options.external_data == "never":
        raise StageError(
            Code.IO,
            f"the weights take {structure.weight_bytes(model) >> 20} MiB, one file holds 2 GiB",
            "set export.external_data: auto",
        )
    _tell(model, told or {})
    path.unlink(missing_ok=True)
    data = path.with_name(path.name + ".data")
    # The weights of an earlier save would stay, and ship.
    data.unlink(missing_ok=True)
    try:
        if large or options.external_data == "always":
            writing.write_apart(model, path, data, folder, _SMALL)
        else:
            writing.write(model, path, folder)
    except OSError as error:
        raise StageError(Code.IO, f"cannot write {path}: {error.strerror}") from error


def leave_graph(raw: Path, target: Path) -> None:
    """Leave the graph of a file that came to nothing, without its weights, for people to look at.

    Args:
        raw: as the exporter wrote it; where there is none, or it is no ONNX, nothing is left.
    """
    with suppress(StageError, OSError):
        if raw.is_file():
            target.write_bytes(structure.light(structure.read(raw)).SerializeToString())


def tell(path: Path, told: Mapping[str, str]) -> None:
    """Replace entries of a file's ``metadata_props``; external data stays as it is."""
    model = onnx.load(path, format="protobuf", load_external_data=False)
    _tell(model, told)
    onnx.save_model(model, path)


def _tell(model: ModelProto, told: Mapping[str, str]) -> None:
    # The ONNX checker refuses a key that stands twice.
    for index in reversed(range(len(model.metadata_props))):
        if model.metadata_props[index].key in told:
            del model.metadata_props[index]
    for key, value in told.items():
        model.metadata_props.add(key=key, value=value)


def seal(path: Path, model: ModelProto) -> list[FileInfo]:
    """Force the file and its external data to the disk, and hash them.

    Args:
        model: what is in the file; its weights do not matter.

    Returns:
        The file, then those of external data, paths relative to its folder.
    """
    # Of all tensors: an If or a Loop keeps weights in its branches, in the same data file.
    locations = sorted(
        {
            ExternalDataInfo(tensor).location
            for tensor in structure.tensors(model)
            if uses_external_data(tensor)
        }
    )
    # After the hash nothing may change: the runner takes it again before it renames.
    files = [sealed(path.parent / name) for name in (path.name, *locations)]
    # The folder too: without it a crash may lose the names of files that are safe themselves.
    fsync(path.parent)
    return files


def seal_all(path: Path, others: Sequence[str]) -> list[FileInfo]:
    """Like ``seal``, for a format whose further files are known by their names."""
    there = [name for name in others if (path.parent / name).is_file()]
    files = [sealed(path.parent / name) for name in (path.name, *there)]
    fsync(path.parent)
    return files


def sealed(path: Path) -> FileInfo:
    """Force a file to the disk, and hash it."""
    fsync(path)
    return FileInfo(path=path.name, bytes=path.stat().st_size, sha256=sha256(path))


def described(
    model: ModelProto, job: Job, exporter: str, simplify: SimplifyRecord | None
) -> OnnxInfo:
    """What the manifest says of an ONNX file.

    Args:
        model: what is in the file; its weights do not matter.
    """
    # Initializers alone: constants of nodes are no parameters of the model.
    held = {tensor.name for tensor in model.graph.initializer}
    count = sum(_elements(list(tensor.dims)) for tensor in model.graph.initializer)
    opsets = structure.opsets(model)
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return OnnxInfo(
        exporter=exporter,
        opset=opsets.get("ai.onnx", 0),
        opsets=opsets,
        ir_version=model.ir_version,
        producer=producer,
        parameters=count,
        inputs=[value for value in structure.graph_inputs(model) if value.name not in held]
        if not job.export.keep_initializers_as_inputs
        else structure.graph_inputs(model),
        outputs=structure.graph_outputs(model),
        nodes=len(list(structure.nodes(model.graph))),
        ops=structure.op_histogram(model),
        simplify=simplify,
    )


def _elements(dims: list[int]) -> int:
    count = 1
    for size in dims:
        count *= size
    return count
