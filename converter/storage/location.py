"""Where something is kept: a folder of this machine, or a URL that fsspec opens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
# Of which nobody calls a folder so.
_ONE_SLASH = re.compile(
    r"(s3a?|gs|gcs|abfss?|az|adl|hdfs|s?ftp|https?|file):/?(?!/)", re.IGNORECASE
)
_WEB = {"http", "https"}
_SAME = {"s3a": "s3", "gcs": "gs"}


@dataclass(frozen=True)
class Url:
    """A prefix of an object store; it never holds credentials.

    Attributes:
        scheme: ``s3``, ``gs``, or another that fsspec knows.
        place: bucket and prefix, without slashes at its ends.
    """

    scheme: str
    place: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"

    def __truediv__(self, below: str | Path) -> Url:
        return Url(self.scheme, f"{self.place}/{below}")

    @property
    def parents(self) -> list[Url]:
        """The prefixes above it, the nearest first; the last one is the bucket."""
        parts = self.place.split("/")
        return [Url(self.scheme, "/".join(parts[:end])) for end in range(len(parts) - 1, 0, -1)]


Location = Path | Url


def is_url(text: str) -> bool:
    """Whether a text names no folder of this machine."""
    return bool(_SCHEME.match(text)) and not text.lower().startswith("file://")


def parse(text: str, cwd: Path | None = None) -> Location:
    """The place that a text names; a relative path counts from ``cwd``.

    Raises:
        ValueError: it is no place, or has credentials in it; the message does not repeat them.
    """
    if found := _ONE_SLASH.match(text):
        slashes = ":///" if found[1].lower() == "file" else "://"
        meant = masked(f"{found[1]}{slashes}{text[found.end() :]}")
        raise ValueError(f"has too few slashes for a URL (did you mean {meant}?)")
    if not _SCHEME.match(text):
        return (cwd or Path.cwd()) / text
    parts = urlsplit(text)
    scheme = _SAME.get(parts.scheme, parts.scheme)
    if scheme in _WEB:
        raise ValueError(
            "is a page of the web, where nothing can be listed or written: name a folder, or a "
            "place of s3:// or gs://"
        )
    if "::" in text:
        raise ValueError("is a chain of file systems: name the one that keeps the files")
    if "@" in parts.netloc:
        raise ValueError(
            f"has credentials in it: write {scheme}://BUCKET/PREFIX, and give them by the "
            "environment (docs/howto/object-storage.md)"
        )
    if parts.query or parts.fragment:
        raise ValueError("has a ? or a # in it, behind which keys are passed: leave that out")
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ValueError("names a host: file:// is for folders of this machine")
        return Path(unquote(parts.path))
    place = f"{parts.netloc}/{parts.path}".strip("/")
    if not parts.netloc or any(part in ("", ".", "..") for part in re.split("/+", place)):
        raise ValueError(f"is no prefix: expected {scheme}://BUCKET/PREFIX")
    return Url(scheme, re.sub("/+", "/", place))


def masked(text: str) -> str:
    """A URL without what may be a secret, to be shown."""
    # Also where slashes were forgotten.
    secret = r"(^[A-Za-z][A-Za-z0-9+.-]*:/?(?!/)|://)[^/@]*@|[?#].*"
    return re.sub(secret, lambda found: f"{found[1]}***@" if found[1] else "", text)
