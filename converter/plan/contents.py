"""What a file or folder holds: hash, imports, references, names. Read once as long as it rests."""

from __future__ import annotations

import ast
import hashlib
import mmap
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from converter.layout import files
from converter.plan.index import ImportIndex, Imports

# The entry `location` of a tensor's external data, as protobuf writes it: key, then value.
# 0x0a: field 1 of a StringStringEntryProto (the key), 0x08: its length; 0x12: field 2 (the value).
_LOCATION = re.compile(rb"\x0a\x08location\x12")
# File systems stamp times in ticks of up to 10 ms: what was changed within this time before it was
# read may change once more without a new time.
_TICK_NS = 50_000_000
Found = TypeVar("Found")
Entry = Literal["file", "folder", "link"]
"""What a name in a folder stands for; a ``link`` is a symbolic link to a folder."""

_NONE: Mapping[str, Entry] = {}


class Code(NamedTuple):
    """A Python file: the hash of its content, and what it imports."""

    sha256: str | None
    imports: Imports


_NO_CODE = Code(None, ())


class _Seen(NamedTuple):
    """``mark`` is ``None`` where there was nothing to read; ``settled``: no longer in its tick."""

    mark: tuple[int, ...] | None
    settled: bool
    found: object


class Contents:
    """Reads each file and folder once for as long as the file system says that nobody wrote to it.

    The times of a file serve to notice that it changed while this process runs. They are in no
    key: what counts there is the content.
    """

    def __init__(self, looking: Callable[[], None] = lambda: None) -> None:
        """Args: looking: called before each file; what it raises passes through."""
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._looking = looking
        self.index = ImportIndex(None)

    def sha256(self, path: str | os.PathLike[str]) -> str | None:
        """The hash of a file; ``None`` when it cannot be read."""
        return self._once(os.fspath(path), "sha256", _sha256, None)

    def code(self, path: str) -> Code:
        """What a Python file is and imports, of one look at it."""
        return self._once(path, "code", self._code, _NO_CODE)

    def _code(self, path: str) -> Code:
        self._looking()
        with open(path, "rb") as file:
            # Bytes: the file may state its own encoding.
            data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        found = self.index.get(digest)
        if found is None:
            found = _imports(data)
            self.index.put(digest, found)
        return Code(digest, found)

    def locations(self, path: str) -> tuple[str, ...]:
        """Where an ONNX file has its external data, relative to its folder."""
        return self._once(path, "locations", _locations, ())

    def names(self, folder: str) -> Mapping[str, Entry]:
        """What a folder holds, sorted; empty where there is none."""
        # Folders count as well: a file that is new in one may be what an import finds from now on.
        return self._once(folder, "names", _names, _NONE)

    def rest(self, what: Literal["code", "names", "sha256"], paths: Iterable[str]) -> bool:
        """Whether all these are as they were when they were read last."""
        folders = what == "names"
        for path in paths:
            mark, settled, _ = self._seen[path, what]
            if not settled or mark != _mark(path, folders):
                return False
        return True

    def _once(self, path: str, what: str, read: Callable[[str], Found], without: Found) -> Found:
        now = time.time_ns()
        # Before it is read: what changes meanwhile shows in the next mark.
        mark = _mark(path, what == "names")
        seen = self._seen.get((path, what))
        if seen is None or seen.mark != mark or not seen.settled:
            found = without
            try:
                found = read(path) if mark is not None else without
            except (OSError, ValueError):  # a ValueError: a file that shrinks while it is mapped
                mark = None
            # `mark[-1]` is the time of the change, which only the kernel sets; `cp -p` and `touch`
            # set the other.
            settled = mark is None or now - mark[-1] > _TICK_NS
            seen = self._seen[path, what] = _Seen(mark, settled, found)
        return seen.found  # type: ignore[return-value]  # read for the same `what`


def _mark(path: str, folder: bool) -> tuple[int, ...] | None:
    """What changes with a file or a folder, the time of the change last; ``None``: it is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a ValueError: a NUL in the name
        return None
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        return None
    # The second one too: it moves where somebody puts the first one back.
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_dev, status.st_ino, status.st_size, *times


def _sha256(path: str) -> str:
    return files.sha256(Path(path))


def _names(folder: str) -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}
    with os.scandir(folder) as entries:
        # A file system lists in any order. Of two files with one name in the key the first one
        # keeps it (`sources._Code._add`), so that the order decides what a key looks like.
        for entry in sorted(entries, key=lambda entry: entry.name):
            # `is_dir` follows links, which the key does too; a link is told apart so that a cycle
            # can be seen.
            if entry.is_dir():
                found[entry.name] = "link" if entry.is_symlink() else "folder"
            elif entry.is_file():
                found[entry.name] = "file"
    return found


def _imports(data: bytes) -> Imports:
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError):  # the job will tell
        return ()
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name: None for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (f"{node.module}." if node.module else "")
            # The name may be a module of its own or something inside of one: `Modules.locate` takes
            # both.
            found |= {f"{base}{alias.name}": None for alias in node.names}
    return tuple(found)


def _locations(path: str) -> tuple[str, ...]:
    """Read without onnx, which the parent must not import."""
    # mmap refuses an empty file.
    if os.path.getsize(path) == 0:
        return ()
    found = set()
    # Mapped: the weights are passed over without a copy.
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _LOCATION.finditer(data):
            # A varint of protobuf has at most ten bytes.
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
    # No end within ten bytes: what looked like an entry was chance, among the weights.
    return 0, len(data)
