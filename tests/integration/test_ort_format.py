"""ONNX Runtime's own format: portable, and with a list of all operators that it needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.tools.reduced_build_config_parser import parse_config

from converter.model.errors import Code
from converter.model.records import JobResult
from converter.plugins import variants
from converter.plugins.variants import Given
from tests.integration import runtimes

pytestmark = pytest.mark.integration
LIST = "model.other.required_operators.config"


@pytest.fixture
def derived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobResult]:
    """What comes of the variant, where ``after`` changes what it has written."""

    def run(after: Callable[[Path], None] | None = None, **options: Any) -> JobResult:
        job = runtimes.followed(tmp_path, "ort", options)
        plugin: Any = variants.load("ort")
        derive = plugin.derive

        def changed(parent: Path, target: Path, options: Any, given: Given) -> None:
            derive(parent, target, options, given)
            if after is not None:
                after(target)

        monkeypatch.setattr(plugin, "derive", changed)
        return runtimes.made(job)

    return run


def operators(file: Path) -> set[str]:
    """Those that ONNX Runtime runs, as its profile tells."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(file.parent / "profile")
    session = onnxruntime.InferenceSession(str(file), options)
    session.run(None, {"x": np.ones((2, 3, 8, 8), np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    return {event["args"]["op_name"] for event in events if "op_name" in event.get("args", {})}


def test_it_is_verified_as_it_is_and_lists_what_it_runs(
    derived: Callable[..., JobResult], tmp_path: Path
) -> None:
    done = derived()
    assert done.error is None, done.error
    assert [part.path for part in done.files] == ["model.other.ort", LIST]
    assert {case.provider for case in done.verify.cases} == {"CPUExecutionProvider"}
    assert [axis.passed for axis in done.verify.dynamic] == [True]
    # As the scripts of a reduced build read it.
    listed, types = parse_config(str(tmp_path / "derived" / LIST))
    assert not types
    ran = operators(tmp_path / "derived/model.other.ort")
    assert ran & {"Conv", "FusedConv"}
    assert ran == {name for ops in listed.values() for names in ops.values() for name in names}


def test_no_place_of_this_machine_is_in_it(
    derived: Callable[..., JobResult], tmp_path: Path
) -> None:
    derived()
    for file in (tmp_path / "derived").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()


def test_basic_keeps_to_operators_of_onnx(
    derived: Callable[..., JobResult], tmp_path: Path
) -> None:
    assert derived(optimisation="basic").error is None
    listed, _ = parse_config(str(tmp_path / "derived" / LIST))
    assert set(listed) == {"ai.onnx"}
    assert "Conv" in operators(tmp_path / "derived/model.other.ort")


def refused(done: JobResult) -> str:
    assert done.error is not None
    assert (done.error.code, done.error.stage) == (Code.CHECKER, "check")
    return done.error.message


def test_a_layout_of_this_processor_is_refused(
    derived: Callable[..., JobResult], tmp_path: Path
) -> None:
    """What the level `all` gives on processors that have it."""

    def for_this_processor(target: Path) -> None:
        from converter.plugins.providers import _ort_format

        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("session.save_model_format", "ORT")
        parent = next((tmp_path / "staging").glob("*.onnx"))
        onnxruntime.InferenceSession(str(parent), options, providers=["CPUExecutionProvider"])
        if "com.microsoft.nchwc" not in _ort_format.required(target):
            pytest.skip("this processor has no such layout")
        _ort_format.write_list(target)

    assert "com.microsoft.nchwc" in refused(derived(for_this_processor))


def test_a_list_that_is_missing(derived: Callable[..., JobResult]) -> None:
    said = refused(derived(lambda target: (target.parent / LIST).unlink()))
    assert said == f"{LIST} is missing"


def test_a_list_that_lacks_an_operator(derived: Callable[..., JobResult]) -> None:
    def shorten(target: Path) -> None:
        beside = target.parent / LIST
        beside.write_text(beside.read_text().replace("Conv", "Gemm"))

    assert refused(derived(shorten)).startswith(f"{LIST} lacks ")


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_file_that_is_none(derived: Callable[..., JobResult], content: bytes | None) -> None:
    def damage(target: Path) -> None:
        target.write_bytes(target.read_bytes()[:600] if content is None else content)

    assert "is no whole .ort file" in refused(derived(damage))
