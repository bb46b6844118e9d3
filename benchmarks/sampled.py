"""Whose code a command's processor time goes to, by samples of all of its processes.

Needs py-spy, and the right to look into other processes (root, or `ptrace_scope` 0).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RATE = 50
OURS = tuple(f"{REPOSITORY / name}/" for name in ("converter", "registry", "configs"))
# What serialises and parses for onnx.
_LIBRARIES = {"_message.abi3.so": "onnx", "google": "onnx"}
_PLACE = re.compile(r"\(([^()]*?)(?::\d+)?\)$")
_WAITS = re.compile(r"^(poll|__poll|ppoll|wait4|waitpid|select|read|__read|recv|epoll_wait) \(")


def shares(command: Sequence[str]) -> dict[str, float]:
    """The part of the samples that falls to each library, `converter` among them.

    A native function counts as its own library's, whoever calls it, and one of Python's as that of
    the Python code that called it; the converter's system calls (files written, processes forked)
    stand apart, since a sample cannot tell whether they wait. Processes that wait are not counted.
    """
    if (spy := shutil.which("py-spy")) is None:
        sys.exit("--own-code needs py-spy: pip install py-spy")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "samples"
        options = ["--native", "--subprocesses", "--full-filenames", "--format", "raw"]
        subprocess.run(
            [spy, "record", *options, "--rate", str(RATE), "-o", str(raw), "--", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        found: Counter[str] = Counter()
        for line in raw.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            if not _WAITS.match((frames := stack.split(";"))[-1]):
                found[_whose(frames)] += int(count)
    whole = found.total()
    return {name: count / whole for name, count in found.most_common()}


def _whose(frames: Sequence[str]) -> str:
    """The library of the innermost frame that has one."""
    for frame in reversed(frames):
        place = _PLACE.search(frame)
        if place is not None and (name := _library(place[1])):
            in_system = name == "converter" and "libc.so" in frames[-1]
            return f"{name}, system calls" if in_system else name
    return "Python and the system"


def _library(path: str) -> str:
    """A package's name; empty: the system's, or an object without a path."""
    if path.startswith(OURS):
        return "converter"
    if path.startswith("<frozen importlib"):
        return "imports"
    _, inside, rest = path.partition("site-packages/")
    top = rest.split("/", 1)[0]
    name = _LIBRARIES.get(path.rpartition("/")[2]) or _LIBRARIES.get(top) or top
    return name.split(".", 1)[0] if inside else ""
