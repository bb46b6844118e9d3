"""Files of samples: what a folder or a glob holds, and which of it a job reads, in which order.

Without opening any of them: the parent asks for the key and before a run, the worker when it reads.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converter.model import urls
from converter.model.errors import Code, StageError
from converter.model.inputs import CaseInput, InputSpec
from converter.model.job import Job
from converter.model.spec import DataSpec, ModelSpec

MOST = 16
"""How many files of a folder are read where the input states no ``limit``."""
_SET = re.compile(r"test_data_set_(\d+)")
_TENSOR = re.compile(r"(input|output)_(\d+)\.pb")


@dataclass(frozen=True)
class DataFiles:
    """One sample of ``data``.

    Attributes:
        label: of its case: ``val/007.npz``.
        inputs: the one ``.npz`` file, or a tensor for each input, by position.
        outputs: tensors that were stored with them, by position.
    """

    label: str
    inputs: list[str]
    outputs: list[str]


def several(path: str) -> bool:
    """Whether a path stands for a set of files."""
    # The query of a URL begins with what is a wildcard in a path.
    if urls.is_url(path):
        return False
    return os.path.isdir(path) or (glob.has_magic(path) and not os.path.exists(path))


def name_of(path: str) -> str:
    """How a set is called, the same on every machine: ``val/``, ``*.png``."""
    last = os.path.basename(path)
    return f"{last}/" if os.path.isdir(path) else last


def below(path: str, file: str) -> str:
    """A file of a set relative to its folder, or to the part of a glob that has no wildcard."""
    root = path
    while not os.path.isdir(root):
        root = os.path.dirname(root)
    return os.path.relpath(file, root)


def every(path: str) -> list[str]:
    """All files of a folder or a glob, sorted by name; a single file alone."""
    if not several(path):
        return [path]
    return [found for found in _matches(path) if os.path.isfile(found)]


def of(spec: InputSpec) -> list[str]:
    """The files of an input that a job reads, in order."""
    return every(str(spec.path))[: spec.limit or MOST]


def named(asked: Job | ModelSpec) -> Iterator[tuple[str, InputSpec | CaseInput]]:
    """The inputs of a model, and of its cases, that name a file, each with its key."""
    groups: dict[str, Mapping[str, InputSpec | CaseInput]] = {"inputs": asked.inputs or {}}
    if isinstance(asked, Job) and asked.first is not None:
        groups["first.inputs"] = asked.first.inputs
    for index, case in enumerate(asked.verify.cases):
        groups[f"verify.cases.{index}.inputs"] = case.inputs
    for place, tensors in groups.items():
        for name, tensor in tensors.items():
            if tensor.path is not None:
                yield f"{place}.{name}.path", tensor


def sets(inputs: Mapping[str, InputSpec]) -> dict[str, list[str]]:
    """The files of each input that names a folder or a glob.

    Raises:
        StageError: FORWARD, where one holds none, or two hold different numbers: they are paired.
    """
    named = {
        name: spec for name, spec in inputs.items() if spec.path is not None and several(spec.path)
    }
    counts = {name: len(every(str(spec.path))) for name, spec in named.items()}
    for name, count in counts.items():
        if count == 0:
            raise StageError(
                Code.FORWARD,
                f"inputs.{name}.path {named[name].path} holds no file",
                "A relative path counts from the folder where the command was started.",
            )
    found = {name: of(spec) for name, spec in named.items()}
    for numbers, what in (
        (counts, "files"),
        ({name: len(files) for name, files in found.items()}, "files within limit"),
    ):
        if len({*numbers.values()}) > 1:
            told = ", ".join(f"inputs.{name}.path {count}" for name, count in numbers.items())
            raise StageError(
                Code.FORWARD,
                f"samples are paired by position, and their numbers differ: {told} {what}",
                "Give each folder one file for each sample, in the same order by name.",
            )
    return found


def left_out(path: str, limit: int) -> int:
    """How many files of a set are not read."""
    return max(len(every(path)) - limit, 0) if several(path) else 0


def of_data(data: DataSpec) -> list[DataFiles]:
    """The samples of ``data`` that a job reads, in order; none of a function's."""
    return all_of_data(data)[: data.limit]


def all_of_data(data: DataSpec) -> list[DataFiles]:
    """All samples of ``data``.

    Raises:
        StageError: FORWARD, where there is none.
    """
    if data.path is None:
        return []
    path = data.path
    found = _matches(path) if several(path) else [path]
    # A folder may be one sample itself.
    if os.path.isdir(path) and os.path.isfile(os.path.join(path, "input_0.pb")):
        found = [path]
    arrays = [one for one in found if one.endswith(".npz") and os.path.isfile(one)]
    folders = sorted((one for one in found if _is_set(one)), key=_number)
    samples = [DataFiles(_label(one), [one], []) for one in arrays]
    samples += [
        DataFiles(_label(one), _tensors(one, "input"), _tensors(one, "output")) for one in folders
    ]
    if not samples:
        missing = not several(path) and not os.path.exists(path)
        why = "does not exist" if missing else "holds no .npz file and no test_data_set_N folder"
        raise StageError(
            Code.FORWARD,
            f"data: {path} {why}",
            "Give a folder or a glob of .npz files (numpy.savez(FILE, INPUT=array)).",
        )
    return samples


def _matches(path: str) -> list[str]:
    if os.path.isdir(path):
        names = [name for name in os.listdir(path) if not name.startswith(".")]
        return sorted(os.path.join(path, name) for name in names)
    return sorted(glob.glob(path, recursive=True))


def _label(path: str) -> str:
    return os.path.basename(path)


def _is_set(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "input_0.pb"))


def _number(path: str) -> tuple[int, str]:
    found = _SET.fullmatch(os.path.basename(path))
    return (int(found[1]) if found else 0, path)


def _tensors(folder: str, kind: str) -> list[str]:
    """``input_0.pb``, ``input_1.pb``, … of a folder, in the order of their numbers."""
    numbers = {
        int(found[2]): name
        for name in os.listdir(folder)
        if (found := _TENSOR.fullmatch(name)) and found[1] == kind
    }
    return [os.path.join(folder, numbers[number]) for number in sorted(numbers)]
