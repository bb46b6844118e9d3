"""Files that later points of a sweep ask for, made along with the first one's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import IMAGE

from converter.layout import delivery, runfiles
from converter.model.job import Job, Sibling
from converter.worker.pipeline import siblings

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]


def sibling(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "opset": 18,
        "exporter": "torchscript",
        "exporters": ["torchscript"],
        "exporter_options": {},
        "simplifier": None,
        "simplifier_options": {},
        "export": {},
    }
    return {**usual, **changes}


def made(done: Any, number: int = 0) -> Any:
    """The result of a sibling, or ``None``."""
    path = done.folder / f"sibling-{number}" / delivery.RESULT
    return runfiles.read_result(path) if path.is_file() else None


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_sibling_is_the_file_of_a_job_of_its_own(convert: Convert, exporter: str) -> None:
    """To the byte: it begins where that would, in a process that has exported nothing."""
    other = {"opset": 20, "exporter": exporter, "exporters": [exporter]}
    asked = [sibling(**other), sibling(opset=18, export={"constant_folding": False})]
    done = convert("Conv", inputs=IMAGE, opset=17, siblings=asked, sibling_s=100.0)
    alone = convert("Conv", inputs=IMAGE, **other)
    assert (done.code, alone.code) == (None, None)
    assert done.onnx.opset == 17
    found = made(done)
    assert (found.status, found.onnx.opset, found.verify.status) == ("ok", 20, "passed")
    assert found.files == alone.result.files
    assert found.verify == alone.result.verify
    assert made(done, 1).onnx.opset == 18


def test_what_cannot_be_made_is_left_to_its_own_point(convert: Convert) -> None:
    asked = [sibling(exporters=["dynamo"], opset=7), sibling(opset=19)]
    done = convert("Net", siblings=asked, sibling_s=100.0)
    assert done.code is None
    assert made(done) is None
    assert made(done, 1).onnx.opset == 19


def test_one_that_takes_too_long_costs_the_job_nothing(
    convert: Convert, capfd: pytest.CaptureFixture[str]
) -> None:
    done = convert("Net", siblings=[sibling()], sibling_s=0.001)
    assert (done.code, made(done)) == (None, None)
    assert not (done.folder / "sibling-0").exists()
    assert "was not made along with this one: took longer than 0 s" in capfd.readouterr().out


def test_a_result_of_a_child_that_crashed_behind_it_is_none(
    tiny_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = tiny_job("Net", staging_dir=str(tmp_path / "sibling-0"))

    class Result:
        status = "ok"

    def crashes(job: Job) -> Any:
        (Path(job.staging_dir) / "result.part").write_text("{}")
        os.kill(os.getpid(), signal.SIGTERM)

    siblings._made(job, 60.0, crashes)
    assert not (tmp_path / "sibling-0").exists()


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_threads_of_torch_are_not_waited_for(convert: Convert, exporter: str) -> None:
    """A fork has none of them; large enough, each operator of the model uses them."""
    large = {"x": {"shape": [2, 3, 96, 96]}}
    other = {"opset": 20, "exporter": exporter, "exporters": [exporter]}
    done = convert("Conv", inputs=large, siblings=[sibling(**other)], sibling_s=60.0, threads=2)
    alone = convert("Conv", inputs=large, threads=2, **other)
    assert done.code is None
    assert made(done).files == alone.result.files
    assert made(done).verify == alone.result.verify


def test_the_fields_of_a_sibling_are_those_of_a_job() -> None:
    assert {*Sibling.model_fields} <= {*Job.model_fields}
