"""Checkpoint files: what they look like, and reading them without running them.

The order is from cheap and certain to expensive: the first bytes, the table of contents and
what it would unpack to; only then is the file unpickled, with a literal
``weights_only=True``. Without the literal ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` in the
environment would let the file run code. What torch refuses then, a reader of our own goes
through that makes tensors and nothing else (``tensorpickle``).
"""

from __future__ import annotations

import hashlib
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from converter.model.errors import Code, StageError
from converter.worker.sources import tensorpickle

# What torch.load raises on damaged files; collected by loading 6,000 of them with torch 2.15.
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
    AttributeError, AssertionError, OverflowError, struct.error,
)  # fmt: skip
# What the first bytes of other formats are, and what to do with such a file.
_OTHERS = (
    (b"\x1f\x8b", "gzip archive", "Unpack it first: gunzip."),
    (b"\x89HDF", "HDF5 file (Keras)", "Save its tensors from PyTorch, as a state dict."),
    (b"GGUF", "GGUF file", "Use the safetensors file that it was made from."),
    (b"\x93NUMPY", "NumPy array", "Save a state dict: torch.save or safetensors."),
)
_CHUNK = 1 << 20
AGAIN = "Get the file again from where it was published."


def hash_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> object:
    """What a checkpoint holds; nothing in it is executed.

    What is no tensor and no plain value is a ``tensorpickle.Opaque``.

    Raises:
        StageError: WEIGHTS_FORMAT, WEIGHTS_SIZE or WEIGHTS_UNSAFE.
    """
    check_looks(path)
    if _is_safetensors(path):
        return _read_safetensors(path)
    try:
        # Opened here: of a path that is called so, torch reads safetensors whatever is in it. To
        # the CPU, since tensors that were saved on a GPU want to go back to one.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        return _read_tensors(path, error)


def _read_tensors(path: Path, refusal: BaseException) -> object:
    """The tensors of a file that torch refused, where it did for what stands beside them."""
    try:
        found = tensorpickle.read(path)
    except tensorpickle.UnsafeError as unsafe:
        raise StageError(
            Code.WEIGHTS_UNSAFE,
            f"{path} asks to run '{unsafe.name}'; it holds more than tensors and was not loaded",
            "Where it was made, save a plain state dict: torch.save(model.state_dict(), path).",
        ) from None
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error):
        pass
    else:
        # With any other error it has seen damage.
        if isinstance(refusal, pickle.UnpicklingError):
            return found
    raise not_a_checkpoint(path, f"cannot be read ({_brief(refusal)})") from refusal


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    # Its first eight bytes are the length of a JSON header. A name alone says less than the first
    # bytes of an archive or a pickle.
    return head[8:] == b"{" or (path.suffix == ".safetensors" and head[:1] not in (b"P", b"\x80"))


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The library checks the header: its length, offsets without overlap or holes, the end."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # A dtype that this torch does not have is an AttributeError.
    except (SafetensorError, *UNREADABLE, OSError) as error:
        looks = f"looks like a safetensors file, and is truncated or damaged ({_brief(error)})"
        raise not_a_checkpoint(path, looks) from error


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
    for first, kind, hint in _OTHERS:
        if head.startswith(first):
            raise not_a_checkpoint(path, f"looks like a {kind}", hint)
    if head.startswith(b"PK"):
        _check_zip(path)


def _damaged(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> str | None:
    """The first entry whose checksum is wrong; ``None``: none, or nobody has computed them.

    ``torch.serialization.set_crc32_options(False)`` writes files in which all are wrong.
    """
    if sum(entry.file_size for entry in entries) > sum(entry.compress_size for entry in entries):
        return None  # is refused by its size, and not unpacked
    wrong = []
    for entry in entries:
        try:
            with archive.open(entry) as file:
                while file.read(_CHUNK):
                    pass
        except zipfile.BadZipFile:
            wrong.append(entry.filename)
    return wrong[0] if wrong and len(wrong) < len(entries) else None


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            damaged = _damaged(archive, entries)
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
    if damaged:
        raise not_a_checkpoint(path, f"is damaged: {damaged} is not what was saved (CRC-32)")
    # torch.save puts its entries into a folder.
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    # First, since a TorchScript archive has a `data.pkl` as well.
    if "constants.pkl" in names:
        raise not_a_checkpoint(
            path, "looks like a TorchScript archive", "Use it as a source: {torchscript: PATH}."
        )
    if "archive_format" in names:
        raise not_a_checkpoint(
            path,
            "looks like an exported program",
            "Use it as a source: {exported_program: PATH}.",
        )
    if names and all(name.endswith(".npy") for name in names):
        hint = "Save its arrays as a state dict: torch.save or safetensors."
        raise not_a_checkpoint(path, "looks like an .npz archive of NumPy", hint)
    if "data.pkl" not in names:
        raise not_a_checkpoint(path, "looks like a zip archive that torch.save did not write")


def not_a_checkpoint(path: Path, looks: str, hint: str = AGAIN) -> StageError:
    return StageError(Code.WEIGHTS_FORMAT, f"{path} is not a checkpoint: it {looks}", hint)


def _brief(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0][:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
