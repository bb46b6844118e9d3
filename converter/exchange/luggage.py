"""What goes along with a job, and where it lies on a node.

A file of the driver's lies on a node under the same path below a folder of the daemon there:
``/home/me/net.py`` below ``/tmp/converter-1000/runs/3f…/files``. So one rule maps all paths of a
job, relations between files stay, and what a node says is mapped back by leaving that folder out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from converter.layout.libraries import is_library
from converter.model.job import Job

OF_THE_NODE = (
    "HOME", "USER", "LOGNAME", "HOSTNAME", "PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
)  # fmt: skip
"""Variables that say something of a machine: a node has its own, also where it has none."""


@dataclass(frozen=True)
class Blob:
    """A file by its content."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Luggage:
    """What a job needs on its node.

    Attributes:
        place: the URL of the store that all of it is in.
        roots: absolute paths of the driver; what is there or below lies below ``root`` on the node.
        trust: what the job trusts, folders by their real paths.
        packs: archives of small files.
        files: others, by their absolute paths.
        root: the folder of the node; empty: it is not known yet.
    """

    place: str
    roots: tuple[str, ...]
    trust: tuple[str, ...] = ()
    packs: tuple[Blob, ...] = ()
    files: tuple[tuple[str, Blob], ...] = ()
    root: str = ""

    def there(self, text: str) -> str:
        """A path of the driver's as the node has it; any other text as it is."""
        if any(text == root or text.startswith(f"{root}{os.sep}") for root in self.roots):
            return f"{self.root}{text}"
        return text

    def job(self, job: Job) -> Job:
        """The job with its paths on the node."""
        content = self._mapped(json.loads(job.model_dump_json()))
        # All graphs of a model trust the same.
        for each in (content, *content.get("graphs", {}).values()):
            each["trust"] = [self.there(entry) for entry in self.trust]
        return type(job).model_validate_json(json.dumps(content))

    def path(self, path: Iterable[str]) -> list[str]:
        """Where Python looks on the node for what it finds on the driver."""
        # Both places: the installation may lie in a folder of the user's, and does not travel.
        return [
            place
            for entry in path
            for place in ([entry] if is_library(entry) else [f"{self.root}{entry}", entry])
        ]

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of the driver as it is on the node."""
        found = {name: value for name, value in environ.items() if name not in OF_THE_NODE}
        found |= {name: os.environ[name] for name in OF_THE_NODE if name in os.environ}
        if entries := found.get("PYTHONPATH"):
            # For what a job starts: its own path is made already.
            found["PYTHONPATH"] = os.pathsep.join(self.path(entries.split(os.pathsep)))
        return found

    def _mapped(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.there(value)
        if isinstance(value, dict):
            return {name: self._mapped(item) for name, item in value.items()}
        return [self._mapped(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Sent:
    """A file that an attempt has left, in the store.

    Attributes:
        name: in its staging folder; empty: it is the log.
    """

    name: str
    sha256: str
    bytes: int
