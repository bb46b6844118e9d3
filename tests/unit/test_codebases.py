"""Large code bases: looked at once for all models, parsed once, and told in few parts of a key."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from converter.model.job import Job
from converter.plan import codebases, contents, index, keys, reads
from converter.plan.keys import Keys
from converter.plan.looking import Looking, StoppedError

PACKAGES = {"torch": "2.15.0"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of 300 files in 3 folders, each of which imports the one before."""
    folder = tmp_path / "src"
    for number in range(300):
        path = folder / f"mono/part{number % 3}/m{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = f"mono.part{(number - 1) % 3}.m{number - 1}" if number else "torch"
        path.write_text(f"import {before}\nNUMBER = {number}\n")
    monkeypatch.syspath_prepend(str(folder))
    (tmp_path / "store").mkdir()
    time.sleep(0.06)  # out of the tick in which they were written
    return folder


def job_of(root: Path, number: int = 0, **more: Any) -> Job:
    return Job.model_validate(
        {
            "name": f"m{number}", "source": {"_target_": f"mono.part{number % 3}.m{number}.build"},
            "inputs": {"x": {"shape": [1, 3]}}, "opset": 17, "exporters": ["torchscript"],
            "trust": [str(root)], "model_dir": "/run/models/m", "staging_dir": "/run/s", **more,
        }
    )  # fmt: skip


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is parsed."""
    found: list[bytes] = []
    parse = ast.parse

    def counting(source: Any, *args: Any, **kwargs: Any) -> ast.AST:
        found.append(source)
        return parse(source, *args, **kwargs)

    monkeypatch.setattr(contents.ast, "parse", counting)
    return found


def test_a_large_code_base_has_a_part_for_each_of_its_folders(root: Path) -> None:
    makes = Keys(PACKAGES, [])
    key = makes.of(job_of(root))
    named = sorted(name for name in key.parts if name.startswith(("code", "file")))
    assert named == ["code mono/part0", "code mono/part1", "code mono/part2"]
    path = root / "mono/part1/m1.py"
    path.write_text("import mono.part0.m0\nNUMBER = 'edited'\n")
    assert makes.changed_files(job_of(root), key) == [path]
    now = Keys(PACKAGES, []).of(job_of(root))
    assert keys.difference(key.parts, now.parts) == "code in mono/part1 changed"


def test_the_key_of_a_large_code_base_is_the_same_elsewhere(root: Path, tmp_path: Path) -> None:
    key = Keys(PACKAGES, []).of(job_of(root))
    shutil.copytree(root, tmp_path / "other")
    job = job_of(root, trust=[str(tmp_path / "other")])
    shutil.rmtree(root)
    assert Keys(PACKAGES, []).of(job).digest == key.digest


def test_all_models_of_a_code_base_cost_one_look(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makes = Keys(PACKAGES, [])
    first = makes.of(job_of(root))
    looks = 0
    stat = os.stat

    def counting(*args: Any, **kwargs: Any) -> os.stat_result:
        nonlocal looks
        looks += str(args[0]).startswith(f"{root}/mono/")
        return stat(*args, **kwargs)

    monkeypatch.setattr(os, "stat", counting)
    others = [makes.of(job_of(root, number)) for number in range(1, 20)]
    assert looks == 0
    assert all(key.bases[0] is first.bases[0] for key in others)
    # Once jobs run each of them is followed by a look of its own.
    assert makes.changed_files(job_of(root), first) == []
    assert looks >= 300


def test_files_of_a_large_code_base_are_covered_by_the_key(root: Path) -> None:
    key = Keys(PACKAGES, []).of(job_of(root))
    inside, outside = str(root / "mono/part0/m3.py"), str(root / "computed.py")
    assert reads.judge(key, [inside]) == ([], None)
    assert reads.judge(key, [inside, outside])[0] == [outside]


def test_what_was_parsed_once_is_known_to_later_runs(
    root: Path, tmp_path: Path, parsed: list[bytes]
) -> None:
    store = tmp_path / "store"
    first = Keys(PACKAGES, [], store).of(job_of(root))
    assert len(parsed) == 300
    parsed.clear()
    assert Keys(PACKAGES, [], store).of(job_of(root)).digest == first.digest
    assert parsed == []
    # By content: the time of a file says nothing, and one that moved is known as well.
    for path in root.rglob("*.py"):
        os.utime(path, (0, 0))
    assert Keys(PACKAGES, [], store).of(job_of(root)).digest == first.digest
    assert parsed == []
    path = root / "mono/part0/m0.py"
    path.write_text("import numpy\n")
    assert "package numpy" in Keys(PACKAGES, [], store).of(job_of(root)).parts
    assert parsed == [b"import numpy\n"]


def test_a_damaged_index_is_made_again(root: Path, tmp_path: Path, parsed: list[bytes]) -> None:
    store = tmp_path / "store"
    first = Keys(PACKAGES, [], store).of(job_of(root)).digest
    (file,) = (store / index.FOLDER).iterdir()
    for content in (b"{", b"[]", b"\xff"):
        file.write_bytes(content)
        parsed.clear()
        assert Keys(PACKAGES, [], store).of(job_of(root)).digest == first
        assert len(parsed) == 300
    assert len(json.loads(file.read_bytes())) == 300


def test_without_a_store_nothing_is_written(root: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    Keys(PACKAGES, []).of(job_of(root))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_that_cannot_be_written_is_no_harm(root: Path, tmp_path: Path) -> None:
    (tmp_path / "store" / index.FOLDER).touch()
    key = Keys(PACKAGES, [], tmp_path / "store").of(job_of(root))
    assert key.digest == Keys(PACKAGES, []).of(job_of(root)).digest


def test_a_signal_ends_the_look_and_what_takes_long_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    told: list[str] = []
    Keys(PACKAGES, [], None, Looking(told.append)).of(job_of(root))
    assert told[0] == "looking at the models … 2 files of code"
    assert told[-1] == "looking at the models … 300 files of code"
    received: list[signal.Signals] = []
    looking = Looking(lambda text: received.append(signal.SIGINT), lambda: bool(received))
    with pytest.raises(StoppedError):
        Keys(PACKAGES, [], None, looking).of(job_of(root))


def test_small_code_bases_name_each_file(root: Path) -> None:
    base = codebases.CodeBase({f"m/{n}.py": "" for n in range(200)}, {}, frozenset(), frozenset())
    assert not base.is_large


@pytest.mark.parametrize(
    "damaged", ['{"a": 5}', '{"a": [1]}', '{"a": {"x": null}}', '{"a": "abc"}', "[" * 50_000, "{"]
)
def test_an_index_that_was_damaged_says_nothing(tmp_path: Path, damaged: str) -> None:
    kept = index.ImportIndex(tmp_path)
    assert kept._path is not None
    kept._path.parent.mkdir()
    kept._path.write_text(damaged)
    assert kept.get("a") is None
