"""Lay a verified file out for others: the model, test data in ONNX's own layout, a check.

``test_data_set_N/input_I.pb`` and ``output_I.pb`` are what the ONNX project ships with its models,
and what ``onnx_test_runner`` reads. The outputs are PyTorch's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from converter.layout.files import fsync
from converter.model.errors import Code, StageError
from converter.model.job import Bundle
from converter.model.records import CaseCheck, FileInfo, JobResult
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import publishing, structure
from converter.worker.pipeline import recheck
from converter.worker.pipeline.pipeline import Emit
from converter.worker.reference.reference import Reference, References
from converter.worker.verify import precision
from converter.worker.verify.verification import Verdict

MODEL, CHECK = "model.onnx", "check.py"
_SECONDS = 600.0
# What `assert_allclose` knows: strict (of NumPy 2.0) compares shapes and types as well.
_SCRIPT = """\
import glob, os, numpy, onnx, onnxruntime  # exit code 0: the file gives what PyTorch gave
os.chdir(os.path.dirname(os.path.abspath(__file__)))
session, read = onnxruntime.InferenceSession("{model}", providers=["CPUExecutionProvider"]), lambda files: {{tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in map(onnx.load_tensor, glob.glob(files))}}
for folder, name, rtol, atol in {bounds}:
    numpy.testing.assert_allclose(session.run([name], read(f"{{folder}}/input_*.pb"))[0], read(f"{{folder}}/output_*.pb")[name], rtol, atol, err_msg=f"{{folder}}: {{name}}", strict=True)
"""  # noqa: E501
# Between strings there is no distance.
_OF_STRINGS = """\
for folder, name in {names}:
    numpy.testing.assert_array_equal(session.run([name], read(f"{{folder}}/input_*.pb"))[0], read(f"{{folder}}/output_*.pb")[name], f"{{folder}}: {{name}}")
"""  # noqa: E501


def run(job: Bundle, emit: Emit) -> JobResult:
    """Verify the file, then write the folder.

    Returns:
        A result whose files are those of the folder, by their paths in it; none where the file is
        not right.
    """

    def use(
        references: References, verdict: Verdict, parameters: dict[str, Array]
    ) -> list[FileInfo]:
        return write(job, references, verdict, parameters)

    return recheck.run(job, emit, use)


def write(
    job: Bundle, references: References, verdict: Verdict, parameters: Mapping[str, Array]
) -> list[FileInfo]:
    """Write the folder of a file that is right.

    Args:
        parameters: values of parameters that are inputs of the graph.

    Raises:
        StageError: NONDETERMINISTIC, where the file drops values at random; VERIFY_VALUE, where
            its own check refuses it.
    """
    if references.disabled_dropout:
        raise StageError(
            Code.NONDETERMINISTIC,
            f"{job.label} drops values at random (training: train): no check could repeat it",
            f"convert it with models.{job.name}.training: eval",
        )
    _check_dtypes(job, references)
    folder = Path(job.staging_dir) / job.FOLDER
    folder.mkdir()
    graph = _copy(Path(job.file), folder)
    checks = {check.label: check for check in verdict.record.cases}
    bounds: list[tuple[str, str, float, float]] = []
    names: list[tuple[str, str]] = []
    for number, item in enumerate(_samples(references, job)):
        data = f"test_data_set_{number}"
        _write_set(folder / data, graph, item, parameters)
        check = checks[item.case.label]
        bounds += [(data, *bound) for bound in _bounds(graph, check, verdict)]
        outputs = zip(structure.graph_outputs(graph), item.outputs, strict=True)
        names += [(data, info.name) for info, array in outputs if dtypes.of(array) == "string"]
    bounds = [bound for bound in bounds if bound[:2] not in names]
    text = _SCRIPT.format(model=MODEL, bounds=repr(bounds))
    text += _OF_STRINGS.format(names=repr(names)) if names else ""
    (folder / CHECK).write_text(text, encoding="utf-8")
    _run_check(folder, job)
    return list(_sealed(folder))


def _check_dtypes(job: Bundle, references: References) -> None:
    """Raise where no check of a few lines could feed the file, or read what it gives."""
    first = references.cases[0]
    for array in (*first.inputs.values(), *first.outputs):
        if dtypes.is_narrow(array):
            raise StageError(
                Code.OUTPUT_STRUCTURE,
                f"{job.label} takes or gives {array.dtype.name}, which ONNX Runtime exchanges with "
                "Python by its bits alone: the check of a bundle has no numbers to compare",
                "hand on the file alone",
            )


def _copy(file: Path, folder: Path) -> ModelProto:
    """Copy a file and its external data under names of the bundle; its graph without weights."""
    model = onnx.load(file, format="protobuf", load_external_data=False)
    names: dict[str, str] = {}
    for tensor in structure.tensors(model):
        if not uses_external_data(tensor):
            continue
        (place,) = (entry for entry in tensor.external_data if entry.key == "location")
        # One, unless another program has written the file.
        suffix = f".{len(names)}" if names and place.value not in names else ""
        place.value = names.setdefault(place.value, f"{MODEL}.data{suffix}")
    for name, new in names.items():
        # Gigabytes: never in memory.
        shutil.copyfile(file.parent / name, folder / new)
    if names:
        onnx.save_model(model, folder / MODEL)
    else:
        shutil.copyfile(file, folder / MODEL)
    return model


def _samples(references: References, job: Bundle) -> list[Reference]:
    """What goes along, with the types that the file declares."""
    cases = precision.asked_of(references, job).declared
    return [cases[n] for n in job.samples([item.case.label for item in cases])]


def _write_set(
    folder: Path, graph: ModelProto, item: Reference, parameters: Mapping[str, Array]
) -> None:
    folder.mkdir()
    values = {**item.inputs, **parameters}
    # In the order of the graph, whatever that of `forward` is: some runners go by the number.
    fed = [(info.name, values[info.name]) for info in structure.fed_inputs(graph)]
    names = [info.name for info in structure.graph_outputs(graph)]
    given = list(zip(names, item.outputs, strict=True))
    for kind, arrays in (("input", fed), ("output", given)):
        for number, (name, array) in enumerate(arrays):
            tensor = numpy_helper.from_array(array, name)
            (folder / f"{kind}_{number}.pb").write_bytes(tensor.SerializeToString())


def _bounds(
    graph: ModelProto, check: CaseCheck, verdict: Verdict
) -> Iterator[tuple[str, float, float]]:
    names = [info.name for info in structure.graph_outputs(graph)]
    for name, output in zip(names, check.outputs, strict=True):
        yield name, *Bundle.bound(output, quantised=verdict.accuracy is not None)


def _run_check(folder: Path, job: Bundle) -> None:
    """Nobody gets a check that fails on a sound file."""
    command = [sys.executable, str(folder / CHECK)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, cwd=folder, check=False
    )
    if done.returncode == 0:
        return
    sys.stderr.write(done.stderr)  # the log of the job
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    raise StageError(
        Code.VERIFY_VALUE,
        f"the file of {job.label} is right, and an element by element check refuses it: "
        f"{said[-1] if said else 'no output'}",
        "its outputs are compared as a set here (detections, say): hand on the file alone",
    )


def _sealed(folder: Path) -> Iterator[FileInfo]:
    """Force all files to the disk; hash them."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            fsync(path)
        else:
            found = publishing.sealed(path)
            yield found.model_copy(update={"path": str(path.relative_to(folder))})
    fsync(folder)
