"""A model's folders, and how a file leaves staging for its final name: whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from converter.layout import files
from converter.model import manifest
from converter.model.job import Job
from converter.model.records import FileInfo, JobResult

LOG = "log.txt"
JOB = "job.json"
RESULT = "result.json"
STAGING = ".staging"
MODELS = "models"
LATEST = "latest"
# The graph of a file that was exported and is wrong, by its exporter, without its weights: for
# people to look at. Its name is none of a result: whoever collects `*.onnx` does not find it.
WRONG = "wrong.*.pb"
_MOST_BYTES = 64_000_000
# Of `publish`: a file is not what its record says. Other errors are of the run directory.
NOT_AS_HASHED = (errno.EIO, errno.EINVAL, errno.ENOENT)


def prepare(job: Job, directory: Path) -> None:
    """Make a model's folder and leave the job in it, for replay and for a reader of the run.

    Raises:
        OSError: the folder cannot be made or a symbolic link is in its place.
    """
    folder, staging = Path(job.model_dir), Path(job.staging_dir)
    # Code of other models has run in this directory before: what it has put there is not followed.
    for path in (folder.parent, folder, staging.parent, staging, folder / JOB, folder / LOG):
        if path != directory:
            refuse_link(path)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(WRONG):  # of an earlier time: `resume` does a model again
        path.unlink()
    # Where a power cut has taken it, `resume` runs the model again.
    files.write_atomic(folder / JOB, manifest.dump(job), durable=False)


def clear_staging(job: Job) -> None:
    """Give an attempt an empty staging folder.

    Raises:
        OSError: it cannot be emptied or made, or a symbolic link is in its place.
    """
    folder = Path(job.staging_dir)
    refuse_link(folder)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def remove_staging(job: Job) -> None:
    """Remove the staging folder of a job that is done with, as far as that goes."""
    try:
        os.rmdir(job.staging_dir)  # all that it had is published, for nearly every job
    except OSError:
        shutil.rmtree(job.staging_dir, ignore_errors=True)


def refuse_link(path: Path) -> None:
    """Raises ``OSError`` (``ELOOP``) when a symbolic link is at ``path``; its target is left."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "a symbolic link is at an output path", str(path))


def append_log(source: Job, job: Job) -> None:
    """Append what an attempt printed elsewhere to the log of its job, and leave that of others.

    Raises:
        OSError: the log cannot be written, or a symbolic link is in its place.
    """
    text = Path(source.model_dir) / LOG
    if source.model_dir == job.model_dir or not text.is_file():
        return
    log = Path(job.model_dir) / LOG
    # The model's code has run since the log was made, and may have put a link in its place.
    refuse_link(log)
    with log.open("ab") as stream:
        stream.write(text.read_bytes())


def note(job: Job, words: str) -> None:
    """Append a line of the runner to a job's log; one that cannot be written is no harm."""
    log = Path(job.model_dir) / LOG
    with suppress(OSError):
        refuse_link(log)
        with log.open("ab") as stream:
            stream.write(f"\n---- {words} ----\n".encode())


def keep_wrong(job: Job) -> None:
    """Keep the graphs that a failed job has left; one that cannot be kept is no harm."""
    folder = Path(job.model_dir)
    with suppress(OSError):
        refuse_link(folder)
        for path in Path(job.staging_dir).glob(WRONG):
            # Not `stat`: a link would be renamed, and lead out of the run.
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES:
                refuse_link(folder / path.name)
                os.rename(path, folder / path.name)


def is_own_folder(job: Job) -> bool:
    """Whether the model's folder is there, and no symbolic link leads elsewhere from it."""
    folder = Path(job.model_dir)
    return folder.is_dir() and not folder.is_symlink() and not folder.parent.is_symlink()


def publish(job: Job, result: JobResult, directory: Path) -> JobResult:
    """Move the artifact of an ok result from staging to its final names.

    Every file is hashed again before it moves; external data moves first, so that a model
    under its final name is whole.

    Returns:
        The result with the paths of its artifact relative to ``directory``.

    Raises:
        OSError: a file is missing, is no plain file, is not what the worker hashed, or a
            symbolic link is at its final name. Nothing is left under a final name.
    """
    folder, staging = Path(job.model_dir), Path(job.staging_dir)
    refuse_link(folder)
    check(job, result, staging)
    # The main file is the first of them, and so moves last.
    parts = result.files[::-1]
    for part in parts:
        refuse_link(folder / part.path)
    # Only now: nothing moves unless all of it is right.
    _move(staging, folder, [part.path for part in parts])
    home = folder.relative_to(directory)
    published = [part.model_copy(update={"path": str(home / part.path)}) for part in result.files]
    return result.model_copy(update={"files": published})


def check(job: Job, result: JobResult, staging: Path) -> None:
    """Hash the files of an ok result again, in the folder where the job has left them.

    Raises:
        OSError: one is missing, is no plain file, is not the job's, or not what the worker hashed.
    """
    # An `ok` without a file is a bug of the worker or of an executor: it must not become a row.
    if not result.files:
        raise FileNotFoundError(errno.ENOENT, "the job reported ok without a file", job.label)
    for part in result.files[::-1]:
        # The job's own word: it may name a file outside of staging, or that of another model.
        own = part.path.startswith(job.target) or part.path in job.belongings
        if Path(part.path).name != part.path or not own:
            raise OSError(errno.EINVAL, "the job reported a file that is not its own", part.path)
        _check(staging / part.path, part)


def _check(path: Path, recorded: FileInfo) -> None:
    # Not `stat`: a link would be renamed, and lead out of the run.
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "the job left something that is not a plain file", str(path))
    # Hashed again by the parent: `ok` counts only where the file on the disk is what was verified.
    if (status.st_size, files.sha256(path)) != (recorded.bytes, recorded.sha256):
        raise OSError(
            errno.EIO, "checksum mismatch: it is not the file that the job wrote", str(path)
        )


def _move(staging: Path, folder: Path, names: list[str]) -> None:
    moved: list[Path] = []
    try:
        for name in names:
            os.rename(staging / name, folder / name)
            moved.append(folder / name)
        # The worker has forced the content to the disk; the new names are in the folder.
        files.fsync(folder)
    except OSError:
        # A part of an artifact under a final name would look like a result.
        for path in moved:
            path.unlink(missing_ok=True)
        raise


def unpublish(job: Job, result: JobResult) -> None:
    """Remove a published artifact whose row could not be recorded."""
    for part in result.files:
        # Names only: the paths of the record are the job's own word, and the folder is known.
        (Path(job.model_dir) / Path(part.path).name).unlink(missing_ok=True)


def link_latest(directory: Path) -> None:
    """Point ``latest`` beside the run directory to it; leaves alone what is not a link.

    Raises:
        OSError: the folder cannot be written.
    """
    link = directory.parent / LATEST
    if link.exists() and not link.is_symlink():
        return
    # A link cannot be pointed elsewhere: without the replacing there would be none for a moment.
    temporary = unfinished_latest(directory)
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(directory.name)
        os.replace(temporary, link)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def unfinished_latest(directory: Path) -> Path:
    """What ``latest`` is called before it has its name: that of the run, whose resume finds it."""
    return directory.parent / f".{LATEST}.{directory.name}"
