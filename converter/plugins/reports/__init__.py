"""Reports: what people and other programs read of a run beside its manifest.

A plugin of this kind is a module that has ``FILE``, the name in the run directory, and
``render(manifest: Manifest, directory: Path) -> str``. All are rendered from the manifest alone,
so that they can be made again at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from converter.layout.files import write_atomic
from converter.model.manifest import Manifest
from converter.plugins import loader


def write(manifest: Manifest, directory: Path, names: Iterable[str]) -> list[Path]:
    """Render reports into the run directory; gives their paths.

    Args:
        names: of the plugins.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    paths = []
    for name in names:
        plugin = loader.load("reports", name)
        path = directory / plugin.FILE
        write_atomic(path, plugin.render(manifest, directory))
        paths.append(path)
    return paths
