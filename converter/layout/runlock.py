"""The lock of a run directory: one process writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.layout import claim, lockfile
from converter.model.manifest import MANIFEST, RESULTS


@contextmanager
def locked(directory: Path, *, holds_run: bool = False) -> Iterator[None]:
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
        yield
    finally:
        # One that is left tells `resume` that the run was killed, whatever its manifest says.
        # While the lock is held: after it, this might be the file of the next holder.
        os.unlink(directory / claim.LOCK)
        os.close(descriptor)
