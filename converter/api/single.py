"""Convert one model without a configuration: the same pipeline, the same verdict."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from converter.api import given, live, runs
from converter.api.request import (
    EXPERIMENT,
    Request,
    name_of,
    output_of,
    source_of,
    weights_of,
)
from converter.layout import files, trust
from converter.model.errors import ConfigError, ConverterError, ExitCode, Problem, RunError
from converter.model.manifest import ArtifactRow, ModelRecord
from converter.model.records import VerifyRecord

if TYPE_CHECKING:
    from torch import nn  # noqa: TID251 - for the type only


class ConversionFailed(ConverterError, AssertionError):  # noqa: N818 - reads as what happened
    """The file was not made, or is not what PyTorch computes.

    Attributes:
        run: where its log and records are.
        row: the artifact that decided it.
    """

    def __init__(self, run: runs.Run, row: ArtifactRow) -> None:
        error = row.error
        words = [f"{row.label} is {row.status}"]
        if error is not None:
            words = [f"{row.label}: {error.code}: {error.message}"]
            words += [error.hint] if error.hint else []
            words += [f"log: {run.directory / error.log}"] if error.log else []
        super().__init__("\n    ".join(words))
        self.run = run
        self.row = row


class Interrupted(KeyboardInterrupt):
    """A signal ended the conversion. Attributes: code: 130 or 143."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__("the conversion was interrupted")
        self.code = code


@dataclass(frozen=True)
class Converted:
    """A model whose files are verified.

    Attributes:
        files: artifact → its ``.onnx`` file; external data is beside it.
        verify: what the float32 file was compared on, and how near it came.
        record: all of the manifest about the model.
        run: the run that made it.
        yaml: an experiment that does the same, where the source was in words: no file can name a
            module of this process.
    """

    files: Mapping[str, Path]
    verify: VerifyRecord
    record: ModelRecord
    run: runs.Run
    yaml: str

    @property
    def path(self) -> Path:
        """The model's own file."""
        return self.files["onnx"]


def convert(
    model: str | nn.Module,
    inputs: given.Inputs = None,
    *,
    output: str | Path | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    opset: int | None = None,
    variants: Sequence[str] = (),
    weights: str | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = True,
) -> Converted:
    """Convert one model and verify its files against PyTorch.

    A source in words is converted in a process of its own, as in a run. A module that is here
    already is copied and converted in this process: what crashes there crashes here.

    Args:
        model: ``torchvision/resnet18``, ``FILE.py:CLASS``, a ``.onnx``, ``.pt`` or ``.pt2`` file,
            or a module.
        inputs: a tensor, array or shape for each argument of forward, by name, in a list, or a
            single one; a registry name has its own.
        output: where the ``.onnx`` file goes, variants beside it; by default the run directory.
        dynamic: input → axis → name of a size that may change.
        variants: ``fp16``, …
        weights: a name of pretrained weights or a checkpoint, of a source in words.
        overrides: keys of the configuration, as on the command line: ``verify=strict``.

    Raises:
        ConfigError: what was asked for is not possible; nothing was started.
        ConversionFailed: a file was not made, or is wrong; ``output`` is as it was.
        RunError: a folder cannot be written.
    """
    given.check(model, dynamic, variants, overrides)
    source, folder = source_of(model) if isinstance(model, str) else (live.source(), None)
    asked = Path(output) if output is not None else None
    named = name_of(source if isinstance(model, str) else {"name": type(model).__name__})
    request = Request(
        output_of(asked) if asked is not None else named,
        source,
        dynamic_axes=dynamic or {},
        opset=opset,
        variants=tuple(variants),
        weights=weights_of(weights) if weights is not None else None,
        trust=folder,
    )
    if not isinstance(model, str):
        return _here(model, inputs, request, asked, overrides, quiet)
    request = replace(request, **given.stated(inputs, names=None, folder=None))
    return of_request(request, asked, overrides, quiet=quiet)


def _here(
    model: nn.Module,
    inputs: given.Inputs,
    request: Request,
    output: Path | None,
    overrides: Sequence[str],
    quiet: bool,
) -> Converted:
    """Convert a module of this process in this process."""
    if request.weights is not None:
        raise ConfigError(Problem("weights", "a module has its own already.", "Load them into it."))
    try:
        copy.deepcopy(model)
    # What PyTorch and pickle raise for tensors of a graph (weight_norm), locks and the like.
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        why = str(error).partition("\n")[0]
        hint = "Give a source in words (FILE.py:CLASS), or take out what cannot be copied."
        raise ConfigError(Problem("model", f"cannot be copied: {why}.", hint)) from error
    with live.held(model) as token, tempfile.TemporaryDirectory(prefix="converter-") as scratch:
        stated = given.stated(inputs, names=given.parameters(model), folder=Path(scratch))
        request = replace(request, kwargs={"token": token}, **stated)
        # No other process has the module, and the store would take another one of its name for it.
        here = ["executor=inline", "store.use=false", *overrides]
        with live.preserved(), _trusting(live.__name__):
            return of_request(request, output, here, quiet=quiet)


def of_request(
    request: Request,
    output: Path | None,
    overrides: Sequence[str],
    *,
    quiet: bool,
    command: str = "converter.convert",
) -> Converted:
    """Run a request; raises as ``convert`` does."""
    text = request.yaml()
    with tempfile.TemporaryDirectory(prefix="converter-") as folder:
        path = Path(folder) / "experiment" / f"{EXPERIMENT}.yaml"
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
        with _trusting(str(request.trust) if request.trust is not None else None):
            words = (f"+experiment={EXPERIMENT}", *overrides)
            again = "Nothing was written: start it again"
            run = runs.started(words, folder, quiet, command, again)
    if run.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        raise Interrupted(run.exit_code)
    if len(run.manifest.models) != 1:
        hint = "Convert each by itself, or list them in an experiment."
        raise ConfigError(Problem("convert", "an override adds another model.", hint))
    (record,) = run.manifest.models
    rows = [row for row in record.rows if row.files]
    # Skipped, or a failure that an override expects: no file either, and no failure of the run.
    if run.exit_code is not ExitCode.OK or not any(row.id == "onnx" for row in rows):
        raise ConversionFailed(run, _deciding(record))
    made = {row.id: run.directory / row.files[0].path for row in rows}
    if output is not None:
        made = _copied(rows, run.directory, output.parent)
    (own,) = [row for row in rows if row.id == "onnx"]
    return Converted(made, own.verify, record, run, text)


def written(made: Converted, folder: Path) -> dict[str, Path]:
    """Copy the files of a conversion that stayed in its run into a folder, whole.

    Raises:
        RunError: the folder cannot be written.
    """
    rows = [row for row in made.record.rows if row.files]
    return _copied(rows, made.run.directory, folder)


def _deciding(record: ModelRecord) -> ArtifactRow:
    rows = record.rows
    return next((row for row in rows if row.id == record.decided_by), rows[0])


def _copied(rows: Sequence[ArtifactRow], run: Path, folder: Path) -> dict[str, Path]:
    """Copy files beside their final names, then rename: none is ever half there.

    Raises:
        RunError: the folder cannot be written.
    """
    parts = [part for row in rows for part in row.files]
    try:
        with (
            _alone(folder),
            tempfile.TemporaryDirectory(prefix=".converter-", dir=folder) as scratch,
        ):
            for part in parts:
                copy = Path(scratch) / Path(part.path).name
                shutil.copyfile(run / part.path, copy)
                if files.sha256(copy) != part.sha256:
                    raise RunError(f"{run / part.path} changed while it was copied")
                files.fsync(copy)
            names = sorted((Path(part.path).name for part in parts), key=_is_model)
            # A model of before must not be there with weights of now, nor one before its weights.
            if len(names) > len(rows):
                for name in filter(_is_model, names):
                    (folder / name).unlink(missing_ok=True)
            for name in names:
                os.replace(Path(scratch) / name, folder / name)
        files.fsync(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error
    return {row.id: folder / Path(row.files[0].path).name for row in rows}


def _is_model(name: str) -> bool:
    return name.endswith(".onnx")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep out others that copy into a folder, without a file there: the folder is the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _trusting(entry: str | None) -> Iterator[None]:
    """Add to ``CONVERTER_TRUST`` what the user named by hand, for this run only."""
    before = os.environ.get(trust.VARIABLE)
    if entry is None:
        yield
        return
    os.environ[trust.VARIABLE] = os.pathsep.join([*([before] if before else []), entry])
    try:
        yield
    finally:
        if before is None:
            del os.environ[trust.VARIABLE]
        else:
            os.environ[trust.VARIABLE] = before
