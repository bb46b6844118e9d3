"""A place of an object store that is published to: versions are prefixes, the index is swapped.

There is no rename and no folder. A version is a prefix whose name is that of its content (or a
number); nobody is told of it before all of its files are there. The index is replaced only if it is
the one that was read. A version that it names no more gets a mark, ``NAME/.gone-VERSION``, and goes
with the first run that finds the mark old enough: whoever has read the index before that, and is
still reading, comes to an end.
"""

from __future__ import annotations

import errno
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from converter.finalize import sbom, zoo_index
from converter.finalize.beside import Beside
from converter.finalize.folder import NUMBER, VERSION
from converter.finalize.zoo_index import INDEX, Index
from converter.model.manifest import dump as dumped
from converter.model.records import FileInfo
from converter.storage.backend import ABSENT, ConflictError, Kind, Object
from converter.storage.location import Location
from converter.storage.objects import TEMPORARY, Objects, opened
from converter.storage.retrying import FailedError

GONE = ".gone-"
GRACE_S = 3600.0
"""How long a version stays that the index names no more."""
# No upload takes a day, and no two clocks are a day apart.
_ABANDONED_S = 86400.0
_SWAPS = 100
# Another writer that replaces it by the same is seldom; so often in a row it is none.
_VAIN = 10


class Prefix:
    """``converter.finalize.target.Target`` for a prefix of an object store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._version = ABSENT  # of the index that was read last
        self._unseen: list[str] = []  # what lies above, and may not be read
        self._sizes: dict[str, int] | None = None  # of all files, when they were listed last

    @property
    def place(self) -> Location:
        return self._objects.place

    def told(self) -> list[str]:
        return [*self._unseen, *self._objects.patience.told(self.place)]

    def prepare(self) -> None:
        self._objects.require_conditional()

    def above(self) -> Iterator[Location]:
        for above in self._objects.place.parents:
            try:
                found = opened(above).read(INDEX)
            except FailedError as error:
                # Who may write here need not be allowed to read above; a server that does not
                # answer is no reason to go on.
                if error.kind is Kind.AGAIN:
                    raise
                self._unseen.append(f"{above / INDEX} could not be looked at: {error.strerror}")
                continue
            if found is not None and _names_models(found.data):
                yield above

    def below(self, index: Index) -> Iterator[Location]:
        for each in self._objects.list():
            home, _, name = each.key.rpartition("/")
            if name == INDEX and home and home.partition("/")[0] not in index.names:
                found = self._objects.read(each.key)
                if found is not None and _names_models(found.data):
                    yield self.place / home

    def read(self) -> Index:
        found = self._objects.read(INDEX)
        self._version = found.version if found is not None else ABSENT
        return zoo_index.parsed(found.data, self.place / INDEX) if found is not None else Index()

    def change(self, index: Index, alter: Callable[[Index], Index]) -> Index:
        wanted, vain = index.layout, 0
        for _ in range(_SWAPS):
            altered = alter(index)
            try:
                self._version = self._objects.write(INDEX, dumped(altered).encode(), self._version)
            except ConflictError:
                # Another writer's lines stay: ours are put into the index as it is now.
                time.sleep(random.uniform(0, 0.2))
                before, index = index, self.read()
                vain = vain + 1 if index.models == before.models else 0
                if vain == _VAIN:
                    words = (
                        "the server refuses to replace it, and nobody has changed it: the ETags "
                        "that it tells are not those of its objects (a proxy?)"
                    )
                    raise OSError(errno.EIO, words, str(self.place / INDEX)) from None
                if index.models and index.layout != wanted:
                    words = f"files lie there in the layout {index.layout} meanwhile"
                    raise OSError(errno.EEXIST, words, str(self.place)) from None
                index = index.model_copy(update={"layout": wanted})
            else:
                return altered
        words = f"other writers have changed it at each of {_SWAPS} tries"
        raise OSError(errno.EBUSY, words, str(self.place / INDEX))

    def refuse_links(self, paths: Iterable[str]) -> None:
        """An object store has none."""

    def exists(self, path: str) -> bool:
        return self._objects.about(path) is not None or any(self._objects.list(f"{path}/"))

    def has_size(self, part: FileInfo) -> bool:
        if self._sizes is not None:
            return self._sizes.get(part.path) == part.bytes
        found = self._objects.about(part.path)
        return found is not None and found.bytes == part.bytes

    def is_whole(self, part: FileInfo) -> bool:
        found = self._objects.about(part.path)
        if found is None or found.bytes != part.bytes:
            return False
        # What was verified when it was put there, and which nobody can change but by another
        # upload; `verify` reads every byte.
        return (found.sha256 or self._objects.sha256(part.path)) == part.sha256

    def versions(self, name: str) -> list[str]:
        keys = (each.key for each in self._objects.list(f"{name}/"))
        return sorted({key.split("/")[1].removeprefix(GONE) for key in keys})

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def install(self, staging: Path, home: Path, parts: Sequence[FileInfo]) -> None:
        self._objects.delete(f"{home.parent}/{GONE}{home.name}")
        # What every set of ours has goes first: half of a version must not be taken for somebody
        # else's folder.
        for part in sorted(parts, key=lambda part: part.path != sbom.FILE):
            there = part.model_copy(update={"path": f"{home}/{part.path}"})
            # A run that was killed may have come so far.
            if not self.is_whole(there):
                self._objects.upload(staging / part.path, there.path, part.sha256)

    def put_beside(self, files: Beside) -> None:
        # There are no links: each model would be there, and be paid for, twice.
        for part in files.parts if not files.is_artifact else ():
            # One that is damaged stays where it is: whoever looks at the set says so.
            place = files.path(part)
            if self.is_whole(part) and not self.is_whole(part.model_copy(update={"path": place})):
                self._objects.copy(part.path, place)

    def remove_beside(self, folder: str, kept: Collection[str], patterns: Sequence[str]) -> None:
        for name in patterns:
            # Of models there is nothing, see above.
            if "*" not in name and f"{folder}/{name}" not in kept:
                self._objects.delete(f"{folder}/{name}")

    def page(self, name: str) -> str | None:
        found = self._objects.read(name)
        return found.data.decode(errors="replace") if found is not None else None

    def put_page(self, name: str, text: str) -> None:
        self._objects.write(name, text.encode())

    def clear(self, index: Index, patterns: Sequence[str]) -> None:
        there = list(self._objects.list())
        versions: dict[Path, list[str]] = defaultdict(list)
        marked = set()
        for each in there:
            self._clear_abandoned(each)
            parts = each.key.split("/")
            if len(parts) == 2 and parts[0] in index.names and parts[1].startswith(GONE):
                marked.add(Path(parts[0]) / parts[1].removeprefix(GONE))
            elif len(parts) > 2 and parts[0] in index.names:
                versions[Path(*parts[:2])].append(each.key)
        for home in marked & index.homes:  # it counts again
            self._objects.delete(_mark(home))
        for home, keys in versions.items():
            if home not in index.homes and _is_version(home, keys):
                self._retire(home, keys, is_marked=home in marked)
        for home in marked - index.homes - set(versions):  # a run was killed while removing it
            self._objects.delete(_mark(home))
        self._sizes = {each.key: each.bytes for each in there}

    def _clear_abandoned(self, each: Object) -> None:
        if each.key.startswith(TEMPORARY) and time.time() - each.modified > _ABANDONED_S:
            self._objects.delete(each.key)

    def _retire(self, home: Path, keys: Sequence[str], *, is_marked: bool) -> None:
        if not is_marked:
            since = f"{INDEX} names it no more since {datetime.now(UTC):%F %T}Z\n"
            self._objects.write(_mark(home), since.encode())
            return
        mark = self._objects.read(_mark(home))
        if mark is None or (mark.age_s or 0.0) < GRACE_S:
            return
        for key in keys:
            self._objects.delete(key)
        # Last: where this is broken off the next run goes on.
        self._objects.delete(_mark(home))


def _names_models(data: bytes) -> bool:
    try:
        return bool(zoo_index.parsed(data, INDEX).models)
    except OSError:  # an index.json of something else
        return False


def _mark(home: Path) -> str:
    return f"{home.parent}/{GONE}{home.name}"


def _is_version(home: Path, keys: Sequence[str]) -> bool:
    # Anybody may call a folder 7: ours has what every set has.
    numbered = NUMBER.fullmatch(home.name) and f"{home}/{sbom.FILE}" in keys
    return bool(VERSION.fullmatch(home.name) or numbered)
