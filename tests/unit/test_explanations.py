"""What the error codes mean, on pages that work where no documentation is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from converter.display import explanations
from converter.display.explanations import anchor
from converter.model.changes import Cause, Comparison
from converter.model.errors import Code, ExitCode
from converter.model.records import ExporterAttempt
from converter.plugins.reports import html
from converter.sweep import page as sweep_page
from tests.manifests import failed, judged, manifest_of, ok
from tests.sweeps import Folder

REPOSITORY = Path(__file__).resolve().parents[2]


def links_and_sections(text: str) -> tuple[set[str], set[str]]:
    links = set(re.findall(r'href="#(code-\w+)"', text))
    return links, set(re.findall(r'id="(code-\w+)"', text))


@pytest.mark.parametrize("code", list(Code))
def test_each_code_is_explained(code: Code) -> None:
    (found,) = explanations.of([code])
    text = re.sub(r"<[^>]+>", "", found.text)
    for part in ("Means ", "Names ", "Fix "):
        assert part in text
    assert "](" not in text, "a link of the documentation leads nowhere from a page"
    assert "**" not in text
    # What is open is closed again, and nothing else is markup.
    for name in ("p", "pre", "code", "strong", "em"):
        assert len(re.findall(rf"<{name}[ >]", found.text)) == found.text.count(f"</{name}>")
    assert set(re.findall(r"</?(\w+)", found.text)) <= {"p", "pre", "code", "strong", "em"}


def test_a_code_is_explained_once_and_what_is_none_is_not() -> None:
    found = explanations.of(["LOAD", None, "IO", "LOAD", "NO_SUCH_CODE"])
    assert [each.code for each in found] == ["IO", "LOAD"]


def test_each_code_of_a_report_leads_to_its_section(tmp_path: Path) -> None:
    tried = ExporterAttempt(exporter="dynamo", status="failed", code=Code.EXPORT_UNSUPPORTED)
    wrong = failed("b").error
    assert wrong is not None
    verdict = judged("openvino", wrong.model_copy(update={"code": Code.VERIFY_VALUE}))
    row = ok("a", attempts_by_exporter=[tried])
    verify = row.verify.model_copy(update={"providers": [judged("cpu"), verdict]})
    causes = [Cause(fingerprint="x", code=Code.SESSION, stage="check", message="x", models=["b"])]
    comparison = Comparison(baseline_run_id="1", verdict="regression", causes=causes)
    manifest = manifest_of(row.model_copy(update={"verify": verify}), failed("b"))
    text = html.render(manifest.model_copy(update={"comparison": comparison}), tmp_path)
    links, sections = links_and_sections(text)
    codes = (Code.EXPORT_UNSUPPORTED, Code.VERIFY_VALUE, Code.INPUT_DROPPED, Code.SESSION)
    assert links == sections == {anchor(code) for code in codes}
    assert "Codes</a>" in text
    assert "What the codes mean" not in html.render(manifest_of(ok("a")), tmp_path)


def test_each_code_of_a_sweep_leads_to_its_section(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "opset=13")
    folder.end(0, ExitCode.MODELS_FAILED, failed("bad"))
    text = sweep_page.render(folder.journal.close(ExitCode.MODELS_FAILED))
    links, sections = links_and_sections(text)
    assert links == sections == {anchor(Code.INPUT_DROPPED)}


def test_a_wheel_carries_the_text() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "docs/errors.md" in wheel["only-include"]
    assert wheel["sources"]["docs"] == "converter/docs"
