"""What a file holds: its hash, its imports, its references. Looked at once as long as it rests."""

from __future__ import annotations

import ast
import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from converter import files

# The entry `location` of a tensor's external data, as protobuf writes it: key, then value.
_LOCATION = re.compile(rb"\x0a\x08location\x12")
Found = TypeVar("Found")


class Contents:
    """Reads each file once for as long as the file system says that nobody wrote to it.

    The times of a file serve to notice that it changed while this process runs. They are in no
    key: what counts there is the content.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[Path, str], tuple[tuple[int, ...], object]] = {}

    def sha256(self, path: Path) -> str | None:
        """The hash of a file; ``None`` when it cannot be read."""
        return self._once(path, "sha256", files.sha256, None)

    def imports(self, path: Path) -> tuple[tuple[int, str], ...]:
        """What a Python file imports: the level of a relative import, and the dotted name."""
        return self._once(path, "imports", _imports, ())

    def locations(self, path: Path) -> tuple[str, ...]:
        """Where an ONNX file has its external data, relative to its folder."""
        return self._once(path, "locations", _locations, ())

    def _once(self, path: Path, what: str, read: Callable[[Path], Found], without: Found) -> Found:
        try:
            status = path.stat()
            if not path.is_file():
                return without
            mark = (
                status.st_dev, status.st_ino, status.st_size,
                status.st_mtime_ns, status.st_ctime_ns,
            )  # fmt: skip
            known = self._seen.get((path, what))
            if known is None or known[0] != mark:
                known = self._seen[path, what] = mark, read(path)
        except (OSError, ValueError):  # a ValueError: a NUL in the name
            return without
        found: Found = known[1]  # type: ignore[assignment]  # read for the same `what`
        return found


def _imports(path: Path) -> tuple[tuple[int, str], ...]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # the job will tell
        return ()
    found: dict[tuple[int, str], None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name): None for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module}." if node.module else ""
            found |= {(node.level, f"{base}{alias.name}"): None for alias in node.names}
    return tuple(found)


def _locations(path: Path) -> tuple[str, ...]:
    """Read without onnx, which the parent must not import."""
    if path.stat().st_size == 0:
        return ()
    found = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _LOCATION.finditer(data):
            length, start = _varint(data[match.end() : match.end() + 10])
            value = data[match.end() + start : match.end() + start + length]
            if b"\0" not in value:  # by chance, among the weights
                found.add(value.decode(errors="replace"))
    return tuple(sorted(found))


def _varint(data: bytes) -> tuple[int, int]:
    """A number as protobuf writes it, and how many bytes it takes."""
    value = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, index + 1
    return 0, len(data)
