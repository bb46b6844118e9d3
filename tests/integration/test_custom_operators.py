"""Operators of one's own: their ONNX form, and the library that runs them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import parser

from converter.model.errors import Code
from converter.model.job import Job, Recheck
from converter.model.measure import Measure, PairedBenchmark
from converter.worker.pipeline import recheck

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
extensions = pytest.importorskip("onnxruntime_extensions")
LIBRARY = extensions.get_library_path()
SQUARE = {"x": {"shape": [3, 3]}}
TABLE = ["custom_operators:TABLE"]
TRUST = ["custom_operators", str(Path(LIBRARY).parent)]


@pytest.fixture
def job(tiny_job: Convert) -> Convert:
    def make(**changes: Any) -> Any:
        source = {"_target_": "custom_operators.Inverting"}
        values = {"inputs": SQUARE, "opset": 18, "exporters": ["dynamo"], "trust": TRUST, **changes}
        return tiny_job(source, **values)

    return make


@pytest.fixture
def run(job: Convert) -> Convert:
    import jobs

    return lambda **changes: jobs.convert(job(**changes))


def both(**changes: Any) -> dict[str, Any]:
    return {"translations": TABLE, "custom_ops": [LIBRARY], **changes}


@pytest.mark.parametrize("simplifier", [None, "onnxsim", "onnxslim"])
def test_a_custom_operator_is_exported_and_verified(run: Convert, simplifier: str | None) -> None:
    done = run(export=both(), simplifier=simplifier, verify={"mutations": 2})
    assert (done.code, done.result.verify.status) == (None, "passed")
    assert "ai.onnx.contrib::Inverse" in done.onnx.ops
    assert done.onnx.opsets == {"ai.onnx": 18, "ai.onnx.contrib": 1}


def test_the_version_of_its_domain(run: Convert) -> None:
    done = run(export=both(custom_opsets={"ai.onnx.contrib": 2}))
    assert done.onnx.opsets["ai.onnx.contrib"] == 2


def test_without_its_form_the_hint_names_the_key(run: Convert) -> None:
    error = run().result.error
    assert error.code is Code.EXPORT_UNSUPPORTED
    assert "state its ONNX form: export.translations" in error.hint


def test_without_its_library_no_session_opens(run: Convert) -> None:
    error = run(export={"translations": TABLE}).result.error
    assert (error.stage, error.code) == ("check", Code.SESSION)
    assert "export.custom_ops" in error.hint


def test_torchscript_has_no_use_for_it_and_auto_goes_on(run: Convert) -> None:
    done = run(export=both(), exporters=["torchscript", "dynamo"], opset=18)
    assert done.code is None
    first, second = done.result.attempts_by_exporter
    assert (first.exporter, first.status, second.status) == ("torchscript", "failed", "ok")
    assert "no use for export.translations" in first.message


def test_a_wrong_translation_is_found(run: Convert) -> None:
    error = run(export=both(translations=["custom_operators:WRONG"])).result.error
    assert error.code is Code.VERIFY_VALUE


def test_several_tables_are_merged_and_the_last_counts(run: Convert) -> None:
    tables = ["custom_operators:WRONG", *TABLE]
    assert run(export=both(translations=tables)).code is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PACKET", "a packet of operators"),
        ("NOTHING", "has <OpOverload(op='tiny_custom.inverse', overload='default')>: None"),
        ("LISTED", "is a list, not a mapping"),
        ("MISSING", "custom_operators has no 'MISSING'"),
    ],
)
def test_what_is_no_table(run: Convert, name: str, words: str) -> None:
    error = run(export=both(translations=[f"custom_operators:{name}"])).result.error
    assert error.code is Code.LOAD
    assert words in f"{error.message}"


def test_neither_is_used_without_trust(run: Convert, tmp_path: Path) -> None:
    error = run(export=both(), trust=["custom_operators"]).result.error
    assert (error.stage, error.code) == ("load", Code.TARGET_DENIED)
    assert f"export.custom_ops: {LIBRARY} is not inside a trusted folder" in error.message
    error = run(export=both(translations=["json:decoder"])).result.error
    assert (error.stage, error.code) == ("export", Code.TARGET_DENIED)
    assert "export.translations 'json:decoder' is not trusted" in error.message


def test_what_is_no_library(run: Convert, tmp_path: Path) -> None:
    file = tmp_path / "text.so"
    file.write_text("no library")
    error = run(export={"custom_ops": [str(file)]}, trust=[*TRUST, str(tmp_path)]).result.error
    assert (error.stage, error.code) == ("load", Code.LOAD)
    assert "is no library of custom operators that ONNX Runtime loads" in error.message


def test_the_file_is_verified_again(job: Convert) -> None:
    import jobs

    asked = job(export=both())
    done = jobs.convert(asked)
    again = Recheck.model_validate({**dict(asked), "file": str(done.path)})
    assert recheck.run(again, lambda stage: None).error is None


def test_a_file_that_is_onnx_already_may_have_them(tiny_job: Convert, tmp_path: Path) -> None:
    import jobs

    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18, "ai.onnx.contrib" : 1]>
        g (float[3, 3] x) => (float[3, 3] y) { y = ai.onnx.contrib.Inverse(x) }"""
    )
    onnx.save_model(model, tmp_path / "own.onnx")
    job = tiny_job(
        {"onnx": str(tmp_path / "own.onnx")},
        inputs=SQUARE,
        opset=None,
        trust=TRUST,
        export={"custom_ops": [LIBRARY]},
    )
    assert jobs.convert(job).code is None


def _kinds(kind: type[Job]) -> list[type[Job]]:
    """All kinds of jobs; those of latency stand in a module of their own."""
    assert issubclass(Measure, Job)
    assert issubclass(PairedBenchmark, Job)
    return [kind, *(inner for below in kind.__subclasses__() for inner in _kinds(below))]


@pytest.mark.parametrize("kind", _kinds(Job), ids=lambda kind: kind.__name__)
def test_every_worker_loads_the_libraries(kind: type[Job]) -> None:
    module, name = kind.ENTRY.split(":")
    entry = getattr(import_module(module), name)
    # The decorator, or a call of an entry that has it.
    assert hasattr(entry, "__wrapped__") or "recheck.run(" in inspect.getsource(entry)
