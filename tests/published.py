"""Published folders: rows whose files are there, and what must be true at any moment."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from converter.finalize import beside, published, zoo_index
from converter.model.manifest import ArtifactRow
from converter.model.records import FileInfo
from converter.plugins import layouts
from tests.manifests import fp16, ok, verified_on, with_domain

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\w.+-]+|[\[\]{}:,]')

# Of a set itself the folder of its version is named.
_BESIDE = re.compile(r"[^/ ]+: \S+ is (missing|not that of version \S+)$")


def artifacts(
    directory: Path, name: str, content: str, *, half: str = "", data: str = "", **changes: Any
) -> list[ArtifactRow]:
    """The rows of a model whose files are in the run directory.

    Args:
        half: content of a variant in half precision; empty: there is none.
        data: content of the weights beside the ONNX file.
    """
    folder = directory / "models" / name
    folder.mkdir(parents=True, exist_ok=True)

    def file(suffix: str, text: str) -> FileInfo:
        (folder / f"{name}{suffix}").write_text(text)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        path = f"models/{name}/{name}{suffix}"
        return FileInfo(path=path, bytes=len(text.encode()), sha256=sha256)

    files = [file(".onnx", content), *([file(".onnx.data", data)] if data else [])]
    row = with_domain(ok(name, files=files, **changes), verified_on())
    rows = [row]
    if half:
        rows.append(fp16(row, files=[file(".fp16.onnx", half)]))
    return rows


def sound(target: Path, *, settled: bool = True) -> dict[str, str]:
    """Name → content of each artifact that the index names; everything must be as it says.

    Args:
        settled: what stands beside the versions is of the newest one; else the next run does it.
    """
    problems = published.check(target, None).problems
    if not settled:
        # What a killed run left is nobody's until the next run: the index names what counts.
        left = (
            "nobody has published it",
            "names no set",
            "that index.json does not name",
            "index.html is not",
        )
        problems = [
            text
            for text in problems
            if not (_BESIDE.match(text) or any(words in text for words in left))
        ]
    assert problems == []
    index = zoo_index.read(target)
    contents = {}
    for name, entry in index.models.items():
        for part in entry.parts:
            assert hashlib.sha256((target / part.path).read_bytes()).hexdigest() == part.sha256
        contents[name] = (target / entry.path).read_text(errors="replace")
        for artifact, variant in entry.variants.items():
            contents[f"{name}/{artifact}"] = (target / variant.files[0].path).read_text(
                errors="replace"
            )
    return contents


def served(target: Path) -> dict[str, str]:
    """Name → content of what a Triton server would load, by the configurations alone."""
    found = {}
    for config in target.glob("*/config.pbtxt"):
        said = pbtxt(config.read_text())
        (version,) = said["version_policy"][0]["specific"][0]["versions"]
        assert said["name"] == [config.parent.name]
        file = config.parent / version / "model.onnx"
        file = file / "model.onnx" if file.is_dir() else file
        found[config.parent.name] = file.read_text()
    return found


def stray(target: Path) -> list[str]:
    """Files of a folder that nothing speaks of."""
    index = zoo_index.read(target)
    outside = layouts.load(index.layout).OUTSIDE
    named = {target / zoo_index.INDEX, target / zoo_index.PAGE}
    for entry in index.models.values():
        named |= {target / part.path for part in entry.parts}
        named |= {target / part.path for each in entry.kept for part in each.files}
        named |= {target / path for each in beside.of(entry, outside) for path in each.paths}
    found = {path for path in target.rglob("*") if path.is_symlink() or path.is_file()} - named
    return sorted(str(path.relative_to(target)) for path in found)


def pbtxt(text: str) -> dict[str, list[Any]]:
    """The text format of Protocol Buffers, as far as it is written here: field → its values."""
    tokens = _TOKEN.findall(text)
    found, rest = _message(tokens)
    assert rest == []
    return found


def _message(tokens: list[str]) -> tuple[dict[str, list[Any]], list[str]]:
    found: dict[str, list[Any]] = {}
    while tokens and tokens[0] != "}":
        name, tokens = tokens[0], tokens[1:]
        assert re.fullmatch(r"[a-z_]+", name), name
        if tokens[0] == ":":
            tokens = tokens[1:]
        several = tokens[0] == "["
        tokens = tokens[1:] if several else tokens
        values = found.setdefault(name, [])
        while True:
            if tokens[0] == "]":
                break
            value, tokens = _value(tokens)
            values.append(value)
            if not several:
                break
            if tokens[0] == ",":
                tokens = tokens[1:]
        tokens = tokens[1:] if several else tokens
    return found, tokens


def _value(tokens: list[str]) -> tuple[Any, list[str]]:
    if tokens[0] == "{":
        inner, rest = _message(tokens[1:])
        assert rest[0] == "}"
        return inner, rest[1:]
    return tokens[0].strip('"'), tokens[1:]
