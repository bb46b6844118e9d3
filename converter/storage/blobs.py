"""Files by their content in an object store: ``files/3f/3f2a…``, each there once.

Who names them comes behind: entries of the store, jobs that are on their way to a node.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from converter.storage.objects import TEMPORARY, MismatchError, Objects

FILES = "files/"
GRACE_S = 6 * 3600.0
"""How long a file stays that no entry names: an entry is written after its files."""


def key_of(sha256: str) -> str:
    # Spread: a listing of one folder of a hundred thousand is slow to look at for a person.
    return f"{FILES}{sha256[:2]}/{sha256}"


def keep(objects: Objects, path: Path, size: int, sha256: str) -> bool:
    """Have a file there for half of ``GRACE_S`` at least; whether it was sent for that.

    Raises:
        OSError: it cannot be written, or what arrived is not this file.
    """
    key = key_of(sha256)
    there = objects.about(key)
    is_there = there is not None and there.bytes == size
    # One that is old may be on its way out, where no entry names it: it gets a new age.
    if is_there and there is not None and time.time() - there.modified > GRACE_S / 2:
        is_there = _renewed(objects, key)
    if is_there:
        return False
    objects.upload(path, key, sha256)
    return True


def bring(objects: Objects, target: Path, size: int, sha256: str) -> None:
    """Bring a file here, hashed, that was just sent. What is another one is removed.

    Only its name says what it is, and who made it would not send it again.

    Raises:
        MismatchError: it is another one, at each of two tries.
        OSError: it cannot be read.
    """
    key = key_of(sha256)
    try:
        objects.download(key, target, size, sha256)
    except MismatchError:  # it may have been damaged on the way
        try:
            objects.download(key, target, size, sha256)
        except MismatchError:
            objects.delete(key)
            raise


def _renewed(objects: Objects, key: str) -> bool:
    """Have an object written again by its store; whether it was still there."""
    # By way of another name: S3 refuses a copy of an object to itself.
    temporary = f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        objects.copy(key, temporary)
        objects.copy(temporary, key)
        objects.delete(temporary)
    except FileNotFoundError:
        return False
    return True
