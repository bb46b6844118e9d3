"""Have the plugin of a variant write its files: in a child, in a folder of its own, and no more."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converter.model.artifact import ONNX
from converter.model.errors import Code, StageError
from converter.model.job import Derived
from converter.model.records import MadeRecord
from converter.plugins import loader, variants
from converter.plugins.variants import Given
from converter.worker.recording import isolation, opening

_ELSEWHERE = "the plugin of a variant may write into its own folder only"
_BELONGS = "a variant is one file, with its external data in FILE.data"
_IN_THE_LOG = "the log has the rest"
_NOT_FOR_IT = "leave this variant out for this model (`variants`), or make it optional"
# The limits of the job count its children: these only keep the numbers finite.
_LONGEST_S, _MOST_BYTES = 7 * 86400.0, 1 << 45


def make(job: Derived, final: Path, given: Given) -> MadeRecord:
    """Have the plugin write its files, and nothing else, and take them over.

    It is imported and called in a child: what it changes in memory, in the libraries that judge
    its file too, goes with that.

    Returns:
        What it tells of its work.

    Raises:
        StageError: DERIVE.
    """
    staging = Path(job.staging_dir)
    folder = staging / "made"
    folder.mkdir()
    # Not the staging folder itself: what stands there after the call is exactly what the plugin
    # wrote.
    target = folder / final.name
    before = _seen(staging, Path(job.parent_file).parent)
    strays, made = _in_child(job, folder, target, given)
    after = _seen(staging, Path(job.parent_file).parent)
    strays += sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
    if strays:
        named = ", ".join(dict.fromkeys(Path(name).name for name in strays[:3]))
        raise StageError(Code.DERIVE, f"{job.plugin} wrote outside its folder: {named}", _ELSEWHERE)
    _take(job, target, staging)
    return made


def _in_child(
    job: Derived, folder: Path, target: Path, given: Given
) -> tuple[list[str], MadeRecord]:
    """Call the plugin; the files that it opened for writing elsewhere, and what it tells.

    Raises:
        StageError: DERIVE, with what the plugin raised or how its process ended;
            PRECISION_NOT_REACHED, where it says that there is nothing to convert.
    """
    # In the staging folder, which goes at the end of the run also where this process is killed.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        told, log = Path(scratch) / "told.json", Path(scratch) / "log"

        def work() -> None:
            with _confined(folder, folder.parent / "tmp") as strays:
                code, refusal = _call(job, target, given)
            made = given.made.model_dump(mode="json")
            answer = {"strays": strays, "code": code, "refusal": refusal, "made": made}
            told.write_text(json.dumps(answer))

        try:
            isolation.call(work, seconds=_LONGEST_S, memory_bytes=_MOST_BYTES, log=log)
        except isolation.ChildError as error:
            raise StageError(Code.DERIVE, f"{job.plugin}: {error}", _IN_THE_LOG) from error
        finally:
            if log.is_file():
                # Its messages belong in the log of the job, whatever became of it.
                sys.stderr.write(log.read_text(errors="replace"))
        # Exit code 0 without an answer: os._exit(0) in a plugin.
        if not told.is_file():
            raise StageError(Code.DERIVE, f"{job.plugin} ended its process", _IN_THE_LOG)
        found = json.loads(told.read_text())
    if found["refusal"] is not None:
        code = Code(found["code"])
        hint = _NOT_FOR_IT if code is Code.PRECISION_NOT_REACHED else ""
        raise StageError(code, f"{job.plugin}: {found['refusal']}", hint)
    return list(found["strays"]), MadeRecord.model_validate(found["made"])


def _call(job: Derived, target: Path, given: Given) -> tuple[Code, str | None]:
    """What the plugin says in place of a file, and the code of that."""
    plugin = variants.load(job.plugin)
    try:
        options = loader.options_of(plugin).model_validate(job.options)
        plugin.derive(Path(job.parent_file), target, options, given)
    # By contract this is a plugin's way to say no; anything else is a defect of it.
    except ValueError as error:
        nothing = isinstance(error, variants.NothingToConvertError)
        code = Code.PRECISION_NOT_REACHED if nothing else Code.DERIVE
        return code, " ".join(str(error).split()) or type(error).__name__
    return Code.DERIVE, None


def _take(job: Derived, target: Path, staging: Path) -> None:
    """Move the files of a plugin out of its folder.

    Raises:
        StageError: DERIVE, where there are others than one file and what belongs to it.
    """
    wanted = [target.name, *job.belongings]
    found = sorted(path.name for path in target.parent.iterdir())
    others = [name for name in found if name not in wanted]
    if target.name not in found:
        instead = f", but {', '.join(others[:3])}" if others else ""
        raise StageError(Code.DERIVE, f"{job.plugin} wrote no {target.name}{instead}")
    if others:
        raise StageError(
            Code.DERIVE,
            f"{job.plugin} wrote {', '.join(others[:3])} beside {target.name}",
            _BELONGS if job.format == ONNX else f"its format has {', '.join(wanted)}",
        )
    for name in found:
        path = target.parent / name
        # A link would be published in place of what it leads to.
        if path.is_symlink() or not path.is_file():
            raise StageError(Code.DERIVE, f"{job.plugin} left {name}, which is no plain file")
        os.rename(path, staging / name)
    target.parent.rmdir()


def _seen(*folders: Path) -> dict[str, tuple[int, int]]:
    """The files of folders, with their size and when they changed: native code tells nobody."""
    files = [path for folder in folders for path in folder.iterdir() if not path.is_dir()]
    found = {str(path): path.lstat() for path in files}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


@contextmanager
def _confined(folder: Path, temporary: Path) -> Iterator[list[str]]:
    """Within it files that Python opens for writing elsewhere are noted, and left in the list."""
    strays: list[str] = []
    allowed = [folder.resolve(), temporary.resolve(), Path("/dev"), Path("/proc")]

    def listener(event: str, arguments: tuple[Any, ...]) -> None:
        path = opening.written(event, arguments)
        # Python itself writes the bytecode of what a plugin imports.
        if path is None or "__pycache__" in path:
            return
        if not any(Path(path).is_relative_to(place) for place in allowed):
            strays.append(path)

    temporary.mkdir()
    # Libraries that plugins call may need temporary files: they get a place that goes away.
    before, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        with opening.listening(listener):
            yield strays
    finally:
        tempfile.tempdir = before
        shutil.rmtree(temporary, ignore_errors=True)
