"""What people and other programs read of a run beside its manifest. One file each.

A module here has ``FILE``, the name in the run directory, and
``render(manifest: Manifest, directory: Path) -> str``. All are rendered from the manifest alone,
so that they can be made again at any time.
"""

from __future__ import annotations

from pathlib import Path

from converter.model.manifest import Manifest, write_atomic
from converter.plugins import loader


def write(manifest: Manifest, directory: Path) -> list[Path]:
    """Render every report into the run directory; gives their paths.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    paths = []
    for name in loader.names("reports"):
        plugin = loader.load("reports", name)
        path = directory / plugin.FILE
        write_atomic(path, plugin.render(manifest, directory))
        paths.append(path)
    return paths
