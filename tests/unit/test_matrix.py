"""One verdict for each model, runtime and precision: from the rows to what people read."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from converter import compare
from converter.display import cells, summary
from converter.model import matrix
from converter.model.batch import BenchmarkSpec, CompareSpec
from converter.model.changes import Comparison
from converter.model.errors import Code
from converter.model.manifest import ArtifactRow, Manifest, RuntimeInfo
from converter.model.matrix import Cell
from converter.model.records import AccuracyRecord, ErrorRecord, VerifyRecord
from converter.plan import placement
from converter.plugins import providers
from converter.plugins.reports import html, junit, markdown
from converter.plugins.reports import matrix as matrix_csv
from tests.manifests import artifact, deployed, judged, manifest_of, refused, runtimes

WRONG = ErrorRecord(
    stage="benchmark", code=Code.VERIFY_VALUE, message="scores[0, 4] is 2, PyTorch gives 0.4"
)
LEFT = ErrorRecord(stage="derive", code=Code.DERIVE, message="pnnx left layers over: aten::roll")
RUN = Path("outputs/deploy/latest")


def run_of(*rows: ArtifactRow, infos: list[RuntimeInfo] | None = None) -> Manifest:
    return manifest_of(*rows).model_copy(update={"runtimes": infos or runtimes()})


def cell(manifest: Manifest, made: str, provider: str) -> Cell:
    (found,) = (
        each
        for each in matrix.of(manifest).all
        if each.column.artifact == made and each.column.provider == provider
    )
    return found


def test_a_file_fills_a_cell_on_each_runtime_that_it_was_to_run_on() -> None:
    run = run_of(artifact("a", "onnx"), artifact("a", "openvino_ir"), artifact("a", "int8"))
    assert [column.title for column in matrix.of(run).columns] == [
        "onnxruntime fp32",
        "onnxruntime int8",
        "openvino fp32: onnx",
        "openvino fp32: openvino_ir",
        "openvino int8",
    ]
    assert {each.status for each in matrix.of(run).all} == {"ok"}
    timed = cell(run, "onnx", "openvino")
    assert (timed.p50_ms, timed.bytes, timed.rel_l2) == (8.0, 40_000_000, 2e-6)
    assert timed.version == "openvino 2026.4.1"


def test_of_a_quantised_file_the_error_is_in_decibels() -> None:
    row = artifact("a", "int8")
    assert cell(run_of(row), "int8", "openvino").sqnr_db == pytest.approx(23.98, abs=0.01)
    # A pattern beyond the ranges of the file says nothing of what it is used for.
    huge = row.verify.cases[-1].model_copy(update={"label": "huge"})
    far = huge.model_copy(update={"outputs": [huge.outputs[0].model_copy(update={"rel_l2": 0.9})]})
    verify = row.verify.model_copy(update={"cases": [*row.verify.cases, far]})
    row = row.model_copy(update={"verify": verify})
    assert cell(run_of(row), "int8", "openvino").sqnr_db == pytest.approx(23.98, abs=0.01)
    stated = row.model_copy(update={"accuracy": AccuracyRecord(sqnr_db=31.5)})
    # What was recorded is of the runtime that verified it when it was made.
    assert cell(run_of(stated), "int8", "cpu").sqnr_db == 31.5
    assert cell(run_of(stated), "int8", "openvino").sqnr_db == pytest.approx(23.98, abs=0.01)


def test_a_file_that_one_runtime_gets_wrong_is_right_on_the_other() -> None:
    run = run_of(refused(artifact("a", "onnx"), WRONG, "openvino"))
    right, wrong = cell(run, "onnx", "cpu"), cell(run, "onnx", "openvino")
    assert (right.status, right.show) == ("ok", "")
    assert (wrong.status, wrong.code, wrong.show) == ("failed", "VERIFY_VALUE", "a")


@pytest.mark.parametrize(
    "error",
    [
        WRONG.model_copy(update={"stage": "publish", "code": Code.IO}),
        WRONG.model_copy(update={"stage": None, "code": Code.IO}),
        WRONG.model_copy(update={"stage": "verify", "code": Code.VERIFY_VACUOUS}),
    ],
)
def test_no_cell_is_ok_of_a_row_that_fails_as_a_whole(error: ErrorRecord) -> None:
    """Whatever its verdicts say: its file was changed since, or not let in."""
    row = artifact("a", "onnx").model_copy(update={"status": "failed", "error": error})
    assert {each.status for each in matrix.of(run_of(row)).all} == {"failed"}


def test_a_verdict_without_a_file_is_not_ok() -> None:
    row = artifact("a", "onnx").model_copy(update={"files": []})
    assert {each.status for each in matrix.of(run_of(row)).all} == {"failed"}


def test_what_an_emulation_finds_is_one_reason_for_all_runtimes() -> None:
    """The file was right where it ran: what a device would do is about the file."""
    drowned = ErrorRecord(
        stage="verify", code=Code.VERIFY_VALUE, message="in float16 it is far off"
    )
    verdicts = [judged("cpu"), judged("emulation", drowned)]
    row = refused(artifact("a", "fp16"), drowned)
    verify = VerifyRecord(status="failed", providers=verdicts)
    run = run_of(artifact("a", "onnx"), row.model_copy(update={"verify": verify}))
    found = matrix.of(run)
    assert [each.status for each in found.all] == ["ok", "failed", "ok", "failed"]
    assert "emulation" not in {column.provider for column in found.columns}
    (cause,) = matrix.causes(found.all)
    assert [column.title for column in cause.columns] == ["onnxruntime fp16", "openvino fp16"]


def test_two_verdicts_of_one_provider_are_as_good_as_the_worse_one() -> None:
    row = artifact("a", "onnx")
    both = [*row.verify.providers, judged("openvino", WRONG)]
    verify = row.verify.model_copy(update={"providers": both})
    run = run_of(row.model_copy(update={"verify": verify}))
    assert cell(run, "onnx", "openvino").status == "failed"


def test_without_a_verdict_nothing_is_ok() -> None:
    row = artifact("a", "onnx")
    verify = row.verify.model_copy(update={"providers": [judged("cpu")]})
    run = run_of(row.model_copy(update={"verify": verify}))
    assert cell(run, "onnx", "cpu").status == "ok"
    assert cell(run, "onnx", "openvino").status == "not_run"


def test_a_refusal_names_its_code_and_reason_in_each_cell() -> None:
    run = run_of(artifact("a", "onnx"), refused(artifact("a", "ncnn"), LEFT))
    found = cell(run, "ncnn", "ncnn")
    assert (found.status, found.code, found.reason) == ("failed", "DERIVE", LEFT.message)
    assert found.show == ""  # nothing that ncnn's maintainers could run


def test_a_file_of_another_format_is_shown_as_the_one_that_it_was_made_from() -> None:
    wrong = refused(artifact("a", "ncnn"), WRONG.model_copy(update={"stage": "verify"}))
    verify = VerifyRecord(status="failed", providers=[judged("ncnn", WRONG)])
    run = run_of(artifact("a", "onnx"), wrong.model_copy(update={"verify": verify}))
    assert cell(run, "ncnn", "ncnn").show == "a"
    # Of a model whose own file is wrong there is nothing to show.
    broken = refused(artifact("a", "onnx"), WRONG, "cpu")
    run = run_of(broken, wrong.model_copy(update={"verify": verify}))
    assert cell(run, "ncnn", "ncnn").show == ""


def test_a_runtime_that_is_not_installed_has_cells_that_say_so() -> None:
    infos = runtimes()
    infos[1] = infos[1].model_copy(update={"missing": "openvino is not installed"})
    row = artifact("a", "onnx")
    verify = row.verify.model_copy(update={"providers": [judged("cpu")]})
    run = run_of(row.model_copy(update={"verify": verify}), infos=infos)
    found = cell(run, "onnx", "openvino")
    assert (found.status, found.reason) == ("unavailable", "openvino is not installed")
    # Whatever was thought before the run: a verdict is one.
    assert cell(run_of(row, infos=infos), "onnx", "openvino").status == "ok"


def test_what_a_worker_finds_missing_is_unavailable() -> None:
    gone = ErrorRecord(stage="check", code=Code.EP_UNAVAILABLE, message="ncnn is not installed")
    run = run_of(artifact("a", "onnx"), refused(artifact("a", "ncnn"), gone))
    assert cell(run, "ncnn", "ncnn").status == "unavailable"


def test_a_precision_that_a_runtime_lacks_is_a_column_of_its_own() -> None:
    run = run_of(artifact("a", "onnx"), artifact("a", "int8"), artifact("a", "ncnn"))
    last = matrix.of(run).columns[-1]
    assert (last.title, last.lacks) == ("ncnn int8", "ncnn2int8 is in no pip package")
    # Where nobody asked for int8 nobody has to hear of it.
    few = matrix.of(run_of(artifact("a", "onnx"), artifact("a", "ncnn")))
    assert "ncnn int8" not in [column.title for column in few.columns]


def test_a_manifest_of_before_has_what_was_verified() -> None:
    row = artifact("a", "onnx").model_copy(update={"runtimes": []})
    old = manifest_of(row)
    assert [each.status for each in matrix.of(old).all] == ["ok", "ok"]
    assert matrix.of(manifest_of(row.model_copy(update={"verify": VerifyRecord()}))).all == []


# In words


def test_the_table_fits_80_columns_and_counts_each_column() -> None:
    text = summary.render(deployed(), RUN)
    assert "model_07  ok  ok  ok  ok  ok  ok  ok  F3  ok   ok    U" in text
    assert " [8] openvino int8                    31 of 34" in text
    assert "[11] ncnn int8                        not available: ncnn2int8 is in no pip" in text
    table = text[text.index("model    [1]") : text.index(" [1] onnxruntime")]
    assert max(map(len, table.splitlines())) <= 80


def test_each_reason_is_told_once_with_the_command_for_maintainers() -> None:
    text = summary.render(deployed(), RUN)
    assert text.count("pnnx leaves") == 1
    assert (
        "F1 DERIVE on ncnn fp32, ncnn fp16 (model_03, model_12, model_21, model_30): pnnx leaves"
    ) in text
    assert (
        "For the maintainers of openvino 2026.4.1: "
        "python -m converter bundle outputs/deploy/latest model_07/int8"
    ) in text


def test_what_fails_its_model_is_told_with_the_failures() -> None:
    row = refused(artifact("a", "onnx"), WRONG, "openvino")
    text = summary.render(run_of(row, artifact("a", "fp16")), RUN)
    assert text.count(WRONG.message) == 1
    assert "failed VERIFY_VALUE on openvino fp32 (a): told below" in text
    # Room for the titles: no numbers that point anywhere.
    assert "onnxruntime fp32" in text
    assert "[1]" not in text


def test_one_runtime_and_one_precision_are_no_matrix() -> None:
    row = artifact("a", "onnx").model_copy(update={"runtimes": ["cpu"]})
    found = matrix.of(run_of(row))
    assert not found.says_more
    assert cells.paragraphs(found, [row], RUN, 40) == []


def test_the_spreadsheet_has_a_line_for_each_cell() -> None:
    lines = list(csv.DictReader(io.StringIO(matrix_csv.render(deployed(8), RUN))))
    assert len(lines) == 8 * 11
    wrong = next(line for line in lines if line["code"] == "VERIFY_VALUE")
    assert (wrong["model"], wrong["runtime"], wrong["precision"]) == (
        "model_07",
        "openvino",
        "int8",
    )
    assert wrong["reason"].startswith("case second")
    fast = lines[0]
    assert (fast["status"], fast["p50_ms"], fast["bytes"], fast["max_abs"]) == (
        "ok", "0.4", "300000", "2e-06",
    )  # fmt: skip


def test_half_a_page_has_the_models_that_are_not_ok_everywhere() -> None:
    text = markdown.render(deployed(), RUN)
    assert "| `openvino int8` | 31 of 34 |" in text
    assert text.count("| `model_") == 7
    assert "27 more are ok in every cell." in text
    assert text.count("pnnx leaves") == 1


def test_what_is_optional_fails_no_test_of_ci() -> None:
    text = junit.render(run_of(artifact("a", "onnx"), refused(artifact("a", "ncnn"), LEFT)), RUN)
    assert 'failures="0"' in text
    assert 'skipped="1"' in text
    assert "optional: DERIVE: pnnx left layers over" in text


def test_the_page_names_a_folder_as_it_is_from_where_the_run_was_started() -> None:
    page = html.render(deployed(8), Path.cwd() / "outputs/zoo")
    assert "bundle outputs/zoo model_07/int8" in page
    assert str(Path.cwd()) not in page
    # What its commands say has to work where they are pasted.
    page = html.render(deployed(8), Path("/some where/else"))
    assert "bundle &#39;/some where/else&#39; model_07/int8" in page


# What is asked for


def test_a_runtime_that_is_not_there_is_told_before_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = providers.load
    plugin = SimpleNamespace(
        NAME="Nowhere", PACKAGES=("no-such-distribution",), INSTALL="install the extra `nowhere`",
        FORMATS=("onnx",), TITLE="nowhere", open=None,
    )  # fmt: skip
    monkeypatch.setattr(
        providers, "load", lambda name: plugin if name == "nowhere" else there(name)
    )
    spec = BenchmarkSpec(providers=["cpu", "nowhere"])
    (told,) = placement.notes([], spec)
    assert told == (
        "nowhere: no-such-distribution is not installed: install the extra `nowhere`; "
        "its cells will be `unavailable`"
    )
    # One distribution of several is enough, and another Python is for a worker to ask.
    plugin.PACKAGES = ("no-such-distribution", "pydantic")
    assert placement.notes([], spec) == []
    plugin.PACKAGES, plugin.missing = ("no-such-distribution",), None
    assert placement.notes([], spec) == []


def test_a_file_runs_where_it_is_verified_first() -> None:
    job: Any = SimpleNamespace(
        format="onnx", provider="", verify=SimpleNamespace(providers=["openvino_ep"])
    )
    assert placement.runtimes_of(job, BenchmarkSpec(providers=["cuda"])) == [
        "cpu", "cuda", "openvino_ep",
    ]  # fmt: skip


# Compared with the night before


def compared(before: ArtifactRow, after: ArtifactRow) -> Comparison:
    return compare.compare(run_of(before), run_of(after), CompareSpec())


def told(found: Comparison) -> list[tuple[str, str, str, str]]:
    return [(each.about, each.kind, each.severity, each.detail) for each in found.changes]


def test_a_cell_that_got_worse_is_named_by_artifact_and_provider() -> None:
    right, wrong = artifact("a", "int8"), refused(artifact("a", "int8"), WRONG, "openvino")
    assert told(compared(right, wrong)) == [
        ("a/int8", "newly_failing", "regression", f"VERIFY_VALUE: {WRONG.message}")
    ]
    # A row that failed already says nothing new of its status.
    other = refused(right, WRONG, "cpu")
    both = refused(other, WRONG, "openvino")
    assert told(compared(other, both)) == [
        ("a/int8", "runtime", "regression", f"on openvino: {WRONG.message}")
    ]
    assert compared(other, both).verdict == "regression"


def test_a_runtime_that_has_gone_is_worse() -> None:
    row = artifact("a", "onnx")
    gone = judged("openvino", status="unavailable", code=Code.EP_UNAVAILABLE, reason="not there")
    verify = row.verify.model_copy(
        update={"providers": [judged("cpu"), gone], "cases": row.verify.cases[:2]}
    )
    after = row.model_copy(update={"verify": verify, "latency": row.latency})
    assert told(compared(row, after)) == [("a", "runtime", "regression", "on openvino: not there")]
    assert told(compared(after, row)) == [("a", "runtime", "improvement", "on openvino")]


def test_an_error_that_grew_on_one_runtime_is_not_hidden_by_another() -> None:
    row = artifact("a", "onnx")
    cases = [
        case
        if case.provider != "OpenVINO CPU"
        else case.model_copy(
            update={"outputs": [case.outputs[0].model_copy(update={"max_abs": 9e-6})]}
        )
        for case in row.verify.cases
    ]
    after = row.model_copy(update={"verify": row.verify.model_copy(update={"cases": cases})})
    ((about, kind, severity, detail),) = told(compared(row, after))
    assert (about, kind, severity) == ("a", "error", "regression")
    assert detail.startswith("on OpenVINO CPU the worst error uses 90%")


def test_a_quantised_file_that_keeps_less_is_worse() -> None:
    def at(decibels: float) -> ArtifactRow:
        accuracy = AccuracyRecord(sqnr_db=decibels)
        return artifact("a", "int8").model_copy(update={"accuracy": accuracy})

    assert [change.kind for change in compared(at(30.0), at(28.5)).changes] == ["accuracy"]
    assert compared(at(30.0), at(29.5)).verdict == "same"
