"""A model with two artifacts: the ONNX file, and one in half precision that derives from it."""

from __future__ import annotations

import csv
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import nights
import pytest

from converter import compare
from converter.compare import latency, wording
from converter.display import progress, summary
from converter.finalize import zoo_index
from converter.finalize.zoo_index import Entry
from converter.layout import files, runfiles
from converter.model import manifest
from converter.model.batch import CompareSpec
from converter.model.errors import Code, ExitCode
from converter.model.manifest import ArtifactRow, Manifest, model_of, models_of
from converter.model.records import FileInfo, Status
from converter.plugins.reports import csv as spreadsheet
from converter.plugins.reports import html, junit, markdown
from tests.manifests import failed, fp16, manifest_of, ok, timed, verified_on, with_domain
from tests.sweeps import Folder
from tests.unit.test_publication import holds, made, publish
from tests.unit.test_reports import figures

LABEL = "resnet18/fp16"
V1 = Path(__file__).resolve().parents[1] / "data" / "v1" / "outputs" / "old" / "night1"
WORST_FIRST = (
    "crashed", "timeout", "oom", "failed", "not_run", "xpass", "xfail", "ok", "skipped",
)  # fmt: skip


@pytest.fixture
def both() -> list[ArtifactRow]:
    row = ok("resnet18", latency=[timed(p50=2.0)])
    return [row, fp16(row, latency=[timed(p50=1.0)])]


# The records


def test_every_status_has_a_place_in_the_order() -> None:
    assert set(WORST_FIRST) == set(get_args(Status))


@pytest.mark.parametrize(("worse", "better"), [*pairwise(WORST_FIRST)])
def test_the_worst_artifact_decides(worse: Status, better: Status) -> None:
    model = model_of([ok("a", status=better), fp16(ok("a", status=worse))])
    assert (model.status, model.decided_by) == (worse, "fp16")
    model = model_of([ok("a", status=worse), fp16(ok("a", status=better))])
    assert (model.status, model.decided_by) == (worse, "onnx")


def test_of_artifacts_that_are_alike_the_first_decides(both: list[ArtifactRow]) -> None:
    assert model_of(both).decided_by == "onnx"


def test_an_optional_artifact_never_decides() -> None:
    model = model_of([ok("a"), fp16(failed("a"), optional=True)])
    assert (model.status, model.decided_by, model.failing_since) == ("ok", "onnx", None)
    assert [artifact.status for artifact in model.artifacts] == ["ok", "failed"]


def test_a_model_fails_since_the_artifact_that_decides_fails() -> None:
    rows = [failed("a", failing_since="monday"), fp16(failed("a"), status="crashed")]
    assert model_of(rows).failing_since is None
    assert model_of([rows[0], fp16(ok("a"))]).failing_since == "monday"


def test_rows_are_the_artifacts_with_what_their_model_was_asked_for(
    both: list[ArtifactRow],
) -> None:
    rows = [*both, ok("b", tags=["t"])]
    found = manifest_of(*rows)
    assert found.rows == rows
    assert [row.label for row in found.rows] == ["resnet18", LABEL, "b"]
    assert [model.name for model in found.models] == ["resnet18", "b"]
    assert found.run.counts == {"ok": 2}


def test_rows_are_made_once_and_a_copy_has_its_own() -> None:
    found = manifest_of(ok("a"), ok("b"))
    found.rows.clear()  # a list of the reader's own
    assert [row.name for row in found.rows] == ["a", "b"]
    assert all(one is two for one, two in zip(found.rows, found.rows, strict=True))
    other = found.model_copy(update={"models": found.models[1:]})
    assert [row.name for row in other.rows] == ["b"]
    assert found == manifest_of(ok("a"), ok("b"))
    assert "_rows" not in json.loads(manifest.dump(found))


def test_a_long_text_is_written_whole(tmp_path: Path) -> None:
    text = "\N{MULTIPLICATION SIGN}a\n" * 800_000
    files.write_atomic(tmp_path / "page", text, "\n")
    assert (tmp_path / "page").read_text(encoding="utf-8") == text + "\n"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_rows_of_a_model_come_together() -> None:
    rows = [ok("a"), ok("b"), fp16(ok("a"))]
    assert [row.label for model in models_of(rows) for row in model.rows] == ["a", "a/fp16", "b"]


def test_a_manifest_survives_json(both: list[ArtifactRow], tmp_path: Path) -> None:
    found = manifest_of(*both, failed("b"))
    runfiles.write(found, tmp_path)
    assert runfiles.read(tmp_path) == found
    (model, _) = json.loads((tmp_path / "manifest.json").read_text())["models"]
    assert [artifact["id"] for artifact in model["artifacts"]] == ["onnx", "fp16"]
    half = model["artifacts"][1]
    assert (half["precision"], half["parent"], half["optional"]) == ("float16", "onnx", False)


def test_a_line_of_the_results_has_all_artifacts_of_a_model(
    both: list[ArtifactRow], tmp_path: Path
) -> None:
    runfiles.append_result(tmp_path, model_of(both))
    assert runfiles.last_rows(tmp_path)["resnet18"].rows == both


def test_what_version_1_wrote_is_a_model_with_one_artifact() -> None:
    before = {row["name"]: row for row in json.loads((V1 / "manifest.json").read_text())["models"]}
    rows = {row.label: row for row in runfiles.read(V1).rows}
    assert rows.keys() == before.keys()
    for name, row in rows.items():
        old, held = before[name], before[name]["artifact"]
        assert (row.status, row.verify.status) == (old["status"], old["verify"]["status"])
        assert [(part.path, part.sha256) for part in row.files] == [
            (part["path"], part["sha256"])
            for part in ([held, *held["external_data"]] if held else [])
        ]
        assert (row.onnx and row.onnx.ops) == (held and held["ops"])
    conv = rows["conv"]
    assert conv.check.status == "passed"
    assert runfiles.last_rows(V1)["conv"].rows == [conv]
    result = runfiles.read_result(V1 / "models" / "conv" / "result.json")
    assert (result.artifact, result.files) == ("onnx", conv.files)
    assert (result.onnx, result.check) == (conv.onnx, conv.check)


# What people read


def test_the_page_shows_both(both: list[ArtifactRow], tmp_path: Path) -> None:
    rows = [with_domain(row, verified_on()) for row in both]
    text = html.render(manifest_of(*rows, failed("b"), fp16(failed("b"))), tmp_path)
    assert f'<details class="model" id="model-{LABEL}">' in text
    assert f'<a href="#model-{LABEL.replace("/", "%2F")}">{LABEL}</a>' in text
    assert "b/fp16" in text.split('<section id="problems"')[1].split("</section>")[0]
    assert LABEL in text.split('<section id="unreached"')[1].split("</section>")[0]
    shown = figures(text)
    assert LABEL in shown["latency"]["layout"]["yaxis"]["ticktext"]  # type: ignore[call-overload]
    assert any(LABEL in str(trace["text"]) for trace in shown["latency"]["data"])  # type: ignore[call-overload]


def test_the_spreadsheet_has_a_line_for_each(both: list[ArtifactRow], tmp_path: Path) -> None:
    first, half = csv.DictReader(spreadsheet.render(manifest_of(*both), tmp_path).splitlines())
    keys = ("name", "model", "artifact", "precision", "path")
    assert [first[key] for key in keys] == [
        "resnet18", "resnet18", "onnx", "float32", "models/resnet18/resnet18.onnx",
    ]  # fmt: skip
    assert [half[key] for key in keys] == [
        LABEL, "resnet18", "fp16", "float16", "models/resnet18/resnet18.fp16.onnx",
    ]  # fmt: skip


def test_each_is_a_test_case(both: list[ArtifactRow]) -> None:
    suite = ElementTree.fromstring(junit.render(manifest_of(*both), Path("run")))[0]
    assert [case.get("name") for case in suite] == ["resnet18", LABEL]


def test_the_summary_names_the_one_that_failed(both: list[ArtifactRow], tmp_path: Path) -> None:
    text = markdown.render(manifest_of(both[0], fp16(failed("resnet18"))), tmp_path)
    assert f"- **failed INPUT_DROPPED** `{LABEL}`: " in text
    assert "1 model: 1 failed; 2 artifacts: 1 ok, 1 failed" in text
    assert "1 of 1 model failed unexpectedly" in text


def test_the_terminal_shows_both(both: list[ArtifactRow], tmp_path: Path) -> None:
    text = summary.render(manifest_of(both[0], fp16(failed("resnet18"))), tmp_path)
    assert [line.split()[:2] for line in text.splitlines()[2:4]] == [
        ["resnet18", "ok"], [LABEL, "failed"],
    ]  # fmt: skip
    assert f"failed {LABEL}: INPUT_DROPPED" in text
    latencies = summary.render(manifest_of(*both), tmp_path).split("p50 ms")[1]
    assert f"\n{LABEL} " in latencies
    assert progress.line(2, 2, both[1]).startswith(f"[2/2] ok       {LABEL}  ")
    assert f" latency {LABEL}  " in progress.latency_line(2, 2, both[1])


def test_a_sweep_has_a_line_for_each(both: list[ArtifactRow], tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13", "opset=17")
    folder.end(0, ExitCode.MODELS_FAILED, both[0], fp16(failed("resnet18")))
    folder.end(1, ExitCode.OK, *both)
    folder.journal.close(ExitCode.MODELS_FAILED)
    assert {
        model.name: [cell.status for cell in model.cells] for model in folder.read().models
    } == {"resnet18": ["ok", "ok"], LABEL: ["failed", "ok"]}
    assert [point.counts for point in folder.read().points] == [{"failed": 1}, {"ok": 1}]


# Night by night


def night(*rows: ArtifactRow, day: int) -> Manifest:
    return nights.manifest(*rows, day=day)


def test_a_newly_failing_one_is_a_regression_of_its_own(tmp_path: Path) -> None:
    good = nights.row("resnet18")
    old = night(good, fp16(good), day=1)
    new = night(good, fp16(nights.failing("resnet18")), day=2)
    found = compare.compare(old, new, CompareSpec())
    (change,) = found.changes
    assert (found.verdict, change.kind, change.severity) == (
        "regression", "newly_failing", "regression",
    )  # fmt: skip
    assert (change.model, change.artifact, change.about) == ("resnet18", "fp16", LABEL)
    assert [cause.models for cause in found.causes] == [[LABEL]]
    assert wording.line(change).startswith(f"{LABEL}: newly failing ok → failed")
    new = new.model_copy(update={"comparison": found})
    worse = ElementTree.fromstring(junit.render(new, tmp_path))[1]
    assert [case.get("name") for case in worse] == [LABEL]
    told = markdown.render(new, tmp_path).split("### Against")[1]
    assert f"- newly failing `{LABEL}`: " in told
    section = html.render(new, tmp_path).split('<section id="comparison"')[1].split("</section>")[0]
    assert section.count(f'<a href="#model-resnet18%2Ffp16">{LABEL}</a>') == 2


def test_one_that_comes_or_goes_is_a_change_of_its_own() -> None:
    good = nights.row("a")
    first, second = night(good, day=1), night(good, fp16(good), day=2)
    for old, new, kind in ((first, second, "added"), (second, first, "removed")):
        (change,) = compare.compare(old, new, CompareSpec()).changes
        assert (change.about, change.kind, change.severity) == ("a/fp16", kind, "note")


def test_each_has_its_own_size_and_latency() -> None:
    file = {"path": "models/a/a.fp16.onnx", "bytes": 700, "sha256": "3" * 64}
    good = nights.row("a", latency=[nights.timed(10.0)])
    half = fp16(good, latency=[nights.timed(5.0)])
    grown = half.model_copy(
        update={"files": [FileInfo(**file)], "latency": [nights.timed(8.0)]}  # type: ignore[arg-type]
    )
    old, new = night(good, half, day=1), night(good, grown, day=2)
    (suspect,) = latency.suspects(old, new, CompareSpec())
    assert suspect.label == "a/fp16"
    changes = compare.compare(old, new, CompareSpec()).changes
    assert {(change.about, change.kind) for change in changes} == {
        ("a/fp16", "size"), ("a/fp16", "latency"),
    }  # fmt: skip


def test_each_has_failed_since_its_own_night() -> None:
    good, bad = nights.row("a"), nights.failing("a")
    first = compare.since(night(good, fp16(bad), day=1), None)
    second = compare.since(night(bad, fp16(bad), day=2), first)
    assert [row.failing_since for row in second.rows] == [
        second.run.started_at, first.run.started_at,
    ]  # fmt: skip


# The published folder


def halved(directory: Path, content: bytes, **changes: object) -> ArtifactRow:
    """The row of a file in half precision that is in the run directory, beside that of ``a``."""
    path = directory / "models/a/a.fp16.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    file = FileInfo(path="models/a/a.fp16.onnx", bytes=len(content), sha256=sha256)
    return fp16(nights.row("a"), files=[file], **changes)


def entry(tmp_path: Path) -> Entry:
    return zoo_index.read(tmp_path / "zoo").models["a"]


def half_of(tmp_path: Path) -> bytes:
    """What the index names as the file in half precision; it lies beside the ONNX file."""
    (part,) = entry(tmp_path).variants["fp16"].files
    assert Path(part.path).parent == Path(entry(tmp_path).path).parent
    return (tmp_path / "zoo" / part.path).read_bytes()


def test_both_are_published_together(tmp_path: Path) -> None:
    half = with_domain(halved(tmp_path, b"half"), verified_on())
    publish(night(made(tmp_path, "a", b"whole", b"data"), half, day=1), tmp_path)
    assert holds(tmp_path / "zoo") == {"a": b"whole"}
    assert half_of(tmp_path) == b"half"
    variant = entry(tmp_path).variants["fp16"]
    assert (variant.format, variant.precision) == ("onnx", "float16")
    assert variant.verified is not None
    assert entry(tmp_path).verified is None


def test_the_last_good_set_stays_where_one_fails(tmp_path: Path) -> None:
    publish(night(made(tmp_path, "a", b"good"), halved(tmp_path, b"half"), day=1), tmp_path)
    bad = fp16(nights.failing("a"), failing_since="2026-11-02T02:00:00.000Z")
    assert publish(night(made(tmp_path, "a", b"new"), bad, day=2), tmp_path) == []
    assert holds(tmp_path / "zoo") == {"a": b"good"}
    assert half_of(tmp_path) == b"half"
    assert entry(tmp_path).failing_since == "2026-11-02T02:00:00.000Z"
    publish(night(made(tmp_path, "a", b"new"), halved(tmp_path, b"new half"), day=3), tmp_path)
    assert (holds(tmp_path / "zoo"), half_of(tmp_path)) == ({"a": b"new"}, b"new half")
    assert entry(tmp_path).failing_since is None


def test_an_optional_one_that_failed_is_left_out(tmp_path: Path) -> None:
    publish(night(made(tmp_path, "a", b"good"), halved(tmp_path, b"half"), day=1), tmp_path)
    bad = fp16(nights.failing("a"), optional=True)
    assert publish(night(made(tmp_path, "a", b"good"), bad, day=2), tmp_path) == []
    assert holds(tmp_path / "zoo") == {"a": b"good"}
    assert (entry(tmp_path).variants, entry(tmp_path).failing_since) == ({}, None)


def test_one_that_changed_alone_is_published(tmp_path: Path) -> None:
    for day, content in enumerate((b"half", b"other half"), 1):
        publish(night(made(tmp_path, "a", b"same"), halved(tmp_path, content), day=day), tmp_path)
        assert holds(tmp_path / "zoo") == {"a": b"same"}
        assert half_of(tmp_path) == content


@pytest.mark.parametrize("content", [b"flah", b"shorter or longer"])
def test_a_damaged_one_is_told_or_replaced(tmp_path: Path, content: bytes) -> None:
    rows = [made(tmp_path, "a", b"good"), halved(tmp_path, b"half")]
    publish(night(*rows, day=1), tmp_path)
    found = (tmp_path / "zoo").rglob("*.fp16.onnx")
    (path,) = (path for path in found if not path.is_symlink())
    path.write_bytes(content)
    (problem,) = publish(night(nights.failing("a"), rows[1], day=2), tmp_path)
    assert problem.startswith("a: what is published is not as ")
    assert publish(night(*rows, day=3), tmp_path) == []
    assert half_of(tmp_path) == b"half"


def test_a_page_says_how_to_look_at_a_file_and_into_a_wrong_one(tmp_path: Path) -> None:
    wrong = failed("b")
    assert wrong.error is not None
    error = wrong.error.model_copy(update={"stage": "verify", "code": Code.VERIFY_VALUE})
    wrong = wrong.model_copy(update={"error": error})
    half = wrong.model_copy(
        update={"name": "a", "id": "fp16", "parent": "onnx", "precision": "float16"}
    )
    small = half.model_copy(update={"id": "int8", "precision": "int8"})
    rows = (ok("a"), wrong, failed("c"), half, small)
    page = html.render(manifest_of(*rows), Path.cwd() / "outputs/zoo/1")
    assert page.count("converter view ") == 1
    assert "python -m converter view outputs/zoo/1/models/a/a.onnx" in page
    # Of one that does not export there is no file to be wrong.
    assert page.count("converter debug ") == 2
    assert "python -m converter debug outputs/zoo/1 b" in page
    assert "python -m converter debug outputs/zoo/1 a/fp16" in page
    assert "history.html" not in page
    (tmp_path / "history.html").touch()
    assert '<a href="../history.html">' in html.render(manifest_of(ok("a")), tmp_path / "1")
