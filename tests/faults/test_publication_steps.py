"""A run that ends between any two steps of publishing: what was valid is, and the next run mends.

Each step is one call that changes a file or a folder: the process ends before it, as if it had been
killed there, and nothing that it would have cleaned up is.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from converter.finalize import publication
from converter.finalize.zoo_index import INDEX
from converter.layout import files
from converter.model.batch import PublishSpec
from converter.model.manifest import Manifest
from tests.published import artifacts, served, sound, stray
from tests.unit.nights import manifest

pytestmark = [pytest.mark.faults]

_CHANGES = ("os.rename", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.chmod")
_FOREVER = 1 << 30


class KilledError(BaseException):
    """The process is gone."""


class Steps:
    """Counts what changes files, and ends everything at one of them."""

    def __init__(self) -> None:
        self.left = _FOREVER
        self.active = False
        sys.addaudithook(self._hear)  # for good: it cannot be removed

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if event in _CHANGES or writes:
            self.left -= 1
            if self.left < 0:  # and all that follow: nothing is cleaned up either
                raise KilledError

    @contextmanager
    def ending_at(self, step: int) -> Iterator[None]:
        self.left, self.active = step, True
        try:
            yield
        except KilledError:
            pass
        finally:
            self.active = False


STEPS = Steps()
FIRST = {"a": "one", "a/fp16": "half one", "b": "b one", "b/fp16": "b half"}
SECOND = {"a": "two", "a/fp16": "half two", "b": "b two"}


def nights(folder: Path) -> tuple[Manifest, Manifest]:
    """Two versions of two models; the second one has lost a variant."""
    first = [
        *artifacts(folder / "1", "a", "one", half="half one", data="weights one"),
        *artifacts(folder / "1", "b", "b one", half="b half"),
    ]
    second = [
        *artifacts(folder / "2", "a", "two", half="half two", data="weights two"),
        *artifacts(folder / "2", "b", "b two"),
    ]
    return manifest(*first, day=1), manifest(*second, day=2)


def every_part(contents: dict[str, str], before: str) -> None:
    """Each artifact is of one night, and those of a model are of the same one."""
    for name in ("a", "b"):
        found = {key: text for key, text in contents.items() if key.partition("/")[0] == name}
        of_night = [
            {key: text for key, text in night.items() if key.partition("/")[0] == name}
            for night in (FIRST, SECOND)
        ]
        assert found in of_night or (before == "nothing" and not found)


@pytest.mark.parametrize("before", ["nothing", "a version"])
@pytest.mark.parametrize("layout", ["zoo", "triton", "huggingface"])
def test_what_was_valid_is_after_every_step(
    tmp_path: Path, layout: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "fsync", lambda path: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    first, second = nights(tmp_path)
    good, target = tmp_path / "good", tmp_path / "target"
    spec = {"path": str(good), "layout": layout}
    good.mkdir()
    if before != "nothing":
        publication.publish(first, tmp_path / "1", PublishSpec.model_validate(spec), None)
        assert sound(good) == FIRST
    spec = PublishSpec.model_validate({"path": str(target), "layout": layout})
    step = 0
    while True:
        shutil.copytree(good, target)
        done = False
        with STEPS.ending_at(step):
            publication.publish(second, tmp_path / "2", spec, None)
            done = True
        if (target / INDEX).exists():
            every_part(sound(target, settled=False), before)
        if layout == "triton":
            every_served(served(target), before)
        if layout == "zoo":
            every_path(target)
        # The next run makes an end of it, and leaves nothing behind.
        assert publication.publish(second, tmp_path / "2", spec, None) == []
        assert sound(target) == SECOND
        assert stray(target) == []
        if layout == "zoo":
            assert standing(target) == {**SECOND, "a/data": "weights two"}
        if layout == "triton":
            assert served(target) == {"a": "two", "a.fp16": "half two", "b": "b two"}
        shutil.rmtree(target)
        if done:
            break
        step += 1
    assert step > 30


def standing(target: Path) -> dict[str, str]:
    """What a program finds under the paths that stay, of those that are there."""
    names = {"model.onnx": "", "model.fp16.onnx": "/fp16", "a.onnx.data": "/data"}
    paths = {
        f"{model}{key}": target / model / name for model in "ab" for name, key in names.items()
    }
    # Not `exists`: a link that leads nowhere is found, and fails.
    return {key: path.read_text() for key, path in paths.items() if os.path.lexists(path)}


def every_path(target: Path) -> None:
    """Each is absent, or whole and of a night; a file is never there with weights of another."""
    found = standing(target)
    for key, text in found.items():
        nights = (
            ("weights one", "weights two") if key == "a/data" else (FIRST[key], SECOND.get(key))
        )
        assert text in nights
    if "a" in found:
        assert found["a/data"] == f"weights {found['a']}"


def every_served(found: dict[str, str], before: str) -> None:
    """Each model of the server has one of its versions, whole, with the configuration for it."""
    if before == "nothing":
        assert found.items() <= {"a": "two", "a.fp16": "half two", "b": "b two"}.items()
        return
    assert found["a"] in ("one", "two")
    assert found["a.fp16"] in ("half one", "half two")
    assert found["b"] in ("b one", "b two")
    assert found.get("b.fp16", "b half") == "b half"
