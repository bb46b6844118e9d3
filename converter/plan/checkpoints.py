"""Which files a checkpoint is: one, the shards of an index, or what a folder holds.

Read without any library: the key of a job needs the list before a worker is there, and a missing
shard is told before a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from converter.layout import files
from converter.model.errors import Code, StageError

KEY = "weights.checkpoint:"
INDEX = ".index.json"
# As transformers and diffusers look for them, the first that is there.
IN_FOLDER = tuple(
    name + ending
    for name, ending in (
        ("model.safetensors", ""), ("model.safetensors", INDEX),
        ("diffusion_pytorch_model.safetensors", ""),
        ("diffusion_pytorch_model.safetensors", INDEX),
        ("pytorch_model.bin", ""), ("pytorch_model.bin", INDEX),
        ("diffusion_pytorch_model.bin", ""), ("diffusion_pytorch_model.bin", INDEX),
    )
)  # fmt: skip
_SHOWN = 5
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
# An index names each tensor once; one of 20,000 tensors has 2 MB.
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Found:
    """The files of a checkpoint.

    Attributes:
        path: as stated.
        index: the file that names the shards, if one does.
        shards: the files with the tensors, in order.
        tensors: the name of each tensor to the name of its shard; empty without an index.
    """

    path: Path
    index: Path | None
    shards: tuple[Path, ...]
    tensors: Mapping[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, the index too."""
        return self.shards if self.index is None else (self.index, *self.shards)

    @property
    def names(self) -> dict[str, Path]:
        """The files by the name that they have in the key of a job."""
        if self.files == (self.path,):
            return {"weights.checkpoint": self.path}
        folder = self.path if self.path.is_dir() else self.path.parent
        return {f"weights.checkpoint/{p.relative_to(folder).as_posix()}": p for p in self.files}


def find(path: Path) -> Found:
    """The files of a checkpoint; whether the shards are there is not asked.

    Args:
        path: of a file, of an index (``….index.json``), or of a folder that holds one of
            ``IN_FOLDER``.

    Raises:
        StageError: WEIGHTS_MISSING where nothing is there, WEIGHTS_FORMAT for an index that is
            none, or that leads out of its folder.
    """
    if path.is_dir():
        name = next((name for name in IN_FOLDER if (path / name).is_file()), None)
        if name is None:
            raise _empty(path)
        file = path / name
    else:
        files.require(Code.WEIGHTS_MISSING, KEY, path)
        file = path
    if not file.name.endswith(INDEX):
        return Found(path, None, (file,), {})
    tensors = _read(file)
    shards = tuple(file.parent / name for name in dict.fromkeys(tensors.values()))
    return Found(path, file, shards, tensors)


def require(path: Path) -> Found:
    """As ``find``, and all shards are there.

    Raises:
        StageError: WEIGHTS_MISSING with the names of those that are not, and what ``find`` raises.
    """
    found = find(path)
    missing = [shard.name for shard in found.shards if not shard.is_file()]
    if missing and found.index is not None:
        there = len(found.shards) - len(missing)
        raise StageError(
            Code.WEIGHTS_MISSING,
            f"{KEY} {found.index} names {len(found.shards)} files, and {len(missing)} are not "
            f"there: {_first(missing)}",
            f"Put them beside it ({there} are there); "
            "a download that was broken off may be the cause.",
        )
    return found


def names(path: Path) -> dict[str, Path]:
    """The files by their name in the key of a job; where that shows an error, the path alone."""
    try:
        return find(path).names
    except StageError:
        return {"weights.checkpoint": path}


def sha256(found: Found) -> str:
    """Of one file its SHA-256; of several that of their list.

    The list has a line ``NAME SHA256`` for each file, the index too, sorted, as UTF-8, each ended
    by a newline. A name is relative to the folder.
    """
    if len(found.files) == 1:
        return files.sha256(found.files[0])
    folder = found.files[0].parent
    lines = [f"{p.relative_to(folder).as_posix()} {files.sha256(p)}\n" for p in found.files]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _read(index: Path) -> dict[str, str]:
    """The name of each tensor to that of its file."""
    if index.stat().st_size > _MOST_BYTES:
        raise _no_index(index, f"has more than {_MOST_BYTES >> 20} MiB")
    try:
        content = json.loads(index.read_bytes())
    except (ValueError, RecursionError):
        raise _no_index(index, "is no JSON") from None
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise _no_index(index, "has no mapping weight_map")
    for name in found.values():
        if not isinstance(name, str) or not _inside(name):
            raise _no_index(index, f"names a file outside of its folder: {str(name)[:80]!r}")
    return found


def _inside(name: str) -> bool:
    """By the name alone: links are followed, since caches of a hub are made of them."""
    parts = PurePosixPath(name).parts
    there = bool(parts) and ".." not in parts and "\0" not in name and "\\" not in name
    return there and not PurePosixPath(name).is_absolute() and not PureWindowsPath(name).drive


def _no_index(index: Path, why: str) -> StageError:
    return StageError(
        Code.WEIGHTS_FORMAT,
        f"{index} is not an index of shards: it {why}",
        "Get the file again from where it was published, or name one file of weights.",
    )


def _empty(folder: Path) -> StageError:
    there = sorted(p.name for p in folder.iterdir() if p.suffix in _ENDINGS and p.is_file())
    hint = "A relative path counts from the folder where the command was started."
    if there:
        hint = f"Name the file: weights: {{checkpoint: {folder / there[0]}}}."
        hint += f" There are {_first(there)}." if there[1:] else ""
    return StageError(
        Code.WEIGHTS_MISSING,
        f"{KEY} {folder} is no file, and as a folder it holds none of "
        f"{', '.join(name for name in IN_FOLDER if not name.startswith('diffusion'))}",
        hint,
    )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
