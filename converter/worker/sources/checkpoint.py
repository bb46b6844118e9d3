"""Checkpoint files: what they look like, and reading them without running them.

The order is from cheap and certain to expensive: the first bytes, the table of contents and
what it would unpack to; only then is the file unpickled, with a literal
``weights_only=True``. Without the literal ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` in the
environment would let the file run code.
"""

from __future__ import annotations

import hashlib
import pickle
import pickletools
import re
import struct
import zipfile
import zlib
from pathlib import Path

import torch

from converter.model.errors import Code, StageError

# What torch.load raises on damaged files; collected by loading 6,000 of them with torch 2.15.
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
    AttributeError, AssertionError, OverflowError, struct.error,
)  # fmt: skip
_SCANNED = 1 << 20  # bytes of a refused pickle that are searched for what it would run
_OWN = ("torch.", "collections.OrderedDict")
AGAIN = "Get the file again from where it was published."


def hash_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> object:
    """What a checkpoint holds; nothing in it is executed.

    Raises:
        StageError: WEIGHTS_FORMAT, WEIGHTS_SIZE or WEIGHTS_UNSAFE.
    """
    check_looks(path)
    try:
        # To the CPU, since tensors that were saved on a GPU want to go back to one.
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        # torch names what it refuses in the text of its message alone (2.15).
        refused = re.search(r"GLOBAL (\S+)", str(error))
        told = refused[1] if refused and isinstance(error, pickle.UnpicklingError) else None
        if unsafe := told or _foreign_global(_pickle_of(path)):
            raise StageError(
                Code.WEIGHTS_UNSAFE,
                f"{path} asks to run '{unsafe}'; it holds more than tensors and was not loaded",
                "Where it was made, save a plain state dict: torch.save(model.state_dict(), path).",
            ) from None
        raise not_a_checkpoint(path, f"cannot be read ({_brief(error)})") from error


def check_looks(path: Path) -> None:
    """Refuse what cannot be a checkpoint, by its first bytes and its table of contents.

    Raises:
        StageError: WEIGHTS_FORMAT with what it looks like, WEIGHTS_SIZE for a zip bomb.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise not_a_checkpoint(path, "is empty")
    if head.startswith(b"version https://git-lfs"):
        raise StageError(
            Code.WEIGHTS_FORMAT,
            f"{path} looks like a Git LFS pointer, not the file itself",
            f"Run: git lfs pull --include {path.name}",
        )
    # What a download that needed a login leaves.
    if head.lstrip().startswith(b"<"):
        raise not_a_checkpoint(path, "looks like a web page (HTML); did its download need a login?")
    if head.startswith(b"\x1f\x8b"):
        raise not_a_checkpoint(path, "looks like a gzip archive", "Unpack it first: gunzip.")
    if head[8:9] == b"{":  # its first eight bytes are the length of a JSON header
        raise not_a_checkpoint(
            path,
            "looks like a safetensors file",
            "Save its tensors with torch.save, as a state dict.",
        )
    if head.startswith(b"PK"):
        _check_zip(path)


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # also: odd names, versions
        weight = path.stat().st_size
        looks = f"looks like a truncated or damaged zip archive ({weight:,} bytes)"
        raise not_a_checkpoint(path, looks) from None
    unpacked, packed = sum(entry.file_size for entry in entries), path.stat().st_size
    if unpacked > packed:  # torch.save stores tensors as they are
        raise StageError(
            Code.WEIGHTS_SIZE,
            f"{path} has {packed:,} bytes and would unpack to {unpacked:,}: a zip bomb, "
            "damaged, or compressed by something other than torch.save",
            f"{AGAIN} If you trust it, unpack it and save the state dict again.",
        )
    # torch.save puts its entries into a folder.
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    # First, since a TorchScript archive has a `data.pkl` as well.
    if "constants.pkl" in names:
        raise not_a_checkpoint(
            path, "looks like a TorchScript archive", "Use it as a source: {torchscript: PATH}."
        )
    if "data.pkl" not in names:
        raise not_a_checkpoint(path, "looks like a zip archive that torch.save did not write")


def _pickle_of(path: Path) -> bytes:
    """The beginning of the pickle in a checkpoint file, however it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("data.pkl")]
            with archive.open(names[0]) as file:
                return file.read(_SCANNED)
    except (*UNREADABLE, OSError, zipfile.BadZipFile, zlib.error):
        # An old checkpoint is no archive: the pickle stands at the front.
        with path.open("rb") as plain:
            return plain.read(_SCANNED)


def _foreign_global(data: bytes) -> str | None:
    """The first name in a pickle that no state dict has, read from the opcodes: nothing runs.

    torch names it only where it was written with the opcode GLOBAL, as ``torch.save`` does;
    ``pickle.dump`` writes STACK_GLOBAL, whose module and name are the two texts before it.
    """
    texts: list[str] = [""]
    memo: dict[object, str] = {}
    top = ""
    try:
        # genops reads opcodes and calls nothing.
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                stacked = opcode.name == "STACK_GLOBAL"
                name = ".".join(texts[-2:]) if stacked else str(argument).replace(" ", ".")
                if name.replace(".", "").isidentifier() and not name.startswith(_OWN):
                    return name
            # A text that was used before comes out of the memo.
            if opcode.name == "MEMOIZE":
                memo[len(memo)] = top
            elif "PUT" in opcode.name:
                memo[argument] = top
            else:
                value = memo.get(argument) if "GET" in opcode.name else argument
                top = value if isinstance(value, str) else ""
                # The last two texts: STACK_GLOBAL takes its module and its name from there.
                texts = [*texts[-1:], top] if top else texts
    except ValueError:  # damaged, or no pickle: then nothing more is found
        pass
    return None


def not_a_checkpoint(path: Path, looks: str, hint: str = AGAIN) -> StageError:
    return StageError(Code.WEIGHTS_FORMAT, f"{path} is not a checkpoint: it {looks}", hint)


def _brief(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0][:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
