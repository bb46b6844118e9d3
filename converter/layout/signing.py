"""Signatures over a folder of files, with a key of one's own, by the package ``model-signing``.

A signature is a Sigstore bundle (DSSE envelope, in-toto statement) with the hash of every file, and
is made and checked without any network. The package is an extra, and is imported in the functions:
without a key nobody needs it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

SIGNATURE = "model.sig"
"""The signature of a folder, in the folder itself; it covers every other file there."""

INSTALL = "Install it: pip install 'onnx-zoo-converter[sign]'"
_PACKAGES = {"model-signing": "model_signing", "pyOpenSSL": "OpenSSL"}
_CURVES = "an elliptic curve (P-256, P-384 or P-521), in PEM and without a password"


@dataclass(frozen=True)
class Signer:
    """A private key that was read once.

    Attributes:
        fingerprint: SHA-256 of its public key, as signatures name it.
    """

    private_key: Path
    fingerprint: str

    def sign(self, folder: Path) -> Path:
        """Sign what is in a folder; gives the path of the signature.

        Raises:
            OSError: the key or a file cannot be read, or the signature not be written.
        """
        from model_signing import hashing, signing

        path = folder / SIGNATURE
        # Nothing else is left out: by default whoever names a file .gitattributes hides it.
        hashed = hashing.Config().set_ignored_paths(paths=[path], ignore_git_paths=False)
        config = signing.Config().use_elliptic_key_signer(private_key=self.private_key)
        config.set_hashing_config(hashed).sign(folder, path)
        return path


def missing() -> str:
    """Why nothing can be signed here, in a sentence; empty: it can."""
    # 1.1 imports pyOpenSSL and does not ask for it.
    absent = [name for name, module in _PACKAGES.items() if find_spec(module) is None]
    return f"{' and '.join(absent)} cannot be imported, which signatures need" if absent else ""


def signer(private_key: Path) -> Signer:
    """The signer of a key.

    Raises:
        ValueError: the file is no such key, in words.
        OSError: it cannot be read.
    """
    from cryptography.hazmat.primitives import serialization
    from model_signing import signing

    try:
        signing.Config().use_elliptic_key_signer(private_key=private_key)
        key = serialization.load_pem_private_key(private_key.read_bytes(), None)
    # A key of another kind has no curve; one that is encrypted wants a password (TypeError).
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{private_key} is no private key of {_CURVES}") from error
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Signer(private_key, hashlib.sha256(public).hexdigest())


def refusal(folder: Path, public_key: Path) -> str:
    """Why the signature in a folder is not that of its files by this key; empty: it is.

    Raises:
        ValueError: the file is no public key, in words.
        OSError: a file cannot be read.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{public_key} is no public key of {_CURVES}") from error
    try:
        config.verify(folder, folder / SIGNATURE)
    except InvalidSignature:
        return "the signature is not by this key"
    # Whatever is wrong with a bundle: it is a file from elsewhere.
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        said = " ".join(str(error).split())
        if "Key mismatch" in said:
            return "the signature is not by this key"
        # model-signing 1.1 lists names with their hashes, or names behind a colon. Quotes are
        # escaped where a hash has some, too.
        named = [
            *re.findall(r"mismatch for \\?'([^'\\]+)\\?'", said),
            *re.findall(r"files [^:]*: ([^\"]+)\"", said),
        ]
        if named:
            return f"the signature is not of these files: {', '.join(named)}"
        return "the signature is damaged"
    return ""
