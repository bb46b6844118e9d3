"""The lock of a run directory: one process writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from converter.layout import claim, lockfile
from converter.layout.runfiles import MANIFEST, RESULTS
from converter.model.errors import RunError


@dataclass(frozen=True)
class Held:
    """A run directory that this process holds."""

    _directory: Path
    _descriptor: int

    def check(self) -> None:
        """Make sure that it is still the one that others see.

        Raises:
            RunError: it was removed, or its lock was; to write on would make half of a run anew.
        """
        if lockfile.is_at(self._descriptor, self._directory / claim.LOCK):
            return
        if self._directory.is_dir():
            raise RunError(
                f"{self._directory / claim.LOCK} was removed or replaced while the run went on, so "
                "that another one may write there. Look which do, and resume with: "
                f"{claim.resume_command(self._directory)}"
            )
        raise RunError(
            f"{self._directory} was removed while the run went on, with all that it had made: run "
            "it again. What the store has is not made a second time."
        )


@contextmanager
def locked(directory: Path, *, holds_run: bool = False) -> Iterator[Held]:
    """Hold a run directory; makes it when it does not exist.

    The kernel frees the lock of a process that was killed.

    Args:
        holds_run: the beginning of a run is expected there, and will be continued.

    Raises:
        RunError: it cannot be written, or another process holds it.
        ConfigError: it already holds a run.
    """
    try:
        descriptor = lockfile.taken(
            directory / claim.LOCK,
            lambda holder: (
                f"{directory} is held by {holder}: wait for it, or choose another hydra.run.dir=DIR"
            ),
        )
    except OSError as error:
        raise claim.not_writable(directory, error) from error
    try:
        # Looked at under the lock: before it, another run might have begun and ended.
        begun = (directory / MANIFEST).exists() or (directory / RESULTS).exists()
        if begun and not holds_run:
            raise claim.holds_run("hydra.run.dir", directory)
        yield Held(directory, descriptor)
    finally:
        # One that is left tells `resume` that the run was killed, whatever its manifest says: on a
        # file system that cannot be written any more, that is as good.
        # While the lock is held: after it, this might be the file of the next holder.
        with suppress(OSError):
            if lockfile.is_at(descriptor, directory / claim.LOCK):
                os.unlink(directory / claim.LOCK)
        os.close(descriptor)
