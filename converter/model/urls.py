"""Files that a configuration names by a URL, with the hash of what lies there."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

LONGEST = 4096
"""Characters of a path; Linux takes as many bytes."""


def one_line(path: str) -> str:
    """A path as it is.

    Raises:
        ValueError: it has a line break. A file system would take it; in a log, in a table and in a
            list of sums it is two paths.
    """
    if "\n" in path or "\r" in path:
        raise ValueError("has a line break; expected a path of one line")
    return path


def is_url(path: str) -> bool:
    """Whether a file is downloaded, by the machine that needs it."""
    return "://" in path


def file_of(path: str) -> str:
    """A path; of a URL the name of its file, without what may be a secret. Empty: there is none."""
    if not is_url(path):
        return path
    name = unquote(urlsplit(path).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or "\0" in name else name


def check_pinned(path: str, sha256: str | None) -> None:
    """Refuse a URL without a hash: what lies there may change from one day to the next.

    Raises:
        ValueError: it has none.
    """
    if is_url(path) and sha256 is None:
        raise ValueError("a URL needs 'sha256', the SHA-256 of the file that lies there")
