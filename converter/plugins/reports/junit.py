"""``junit.xml``: the run as CI systems and review tools show tests.

One test case a model; what the comparison with a baseline found worse is a suite of its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from converter.display import summary
from converter.model.changes import Change
from converter.model.manifest import ArtifactRow, Manifest, awaits_benchmark

FILE = "junit.xml"

# What XML 1.0 cannot hold, however it is written.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SKIPPED = ("skipped", "xfail")
# pytest's meaning: a failure is a verdict, an error is the lack of one.
_FAILURES = ("failed", "xpass")
_NO_LATENCY = "the file is right; the run ended before its latency was measured"


def render(manifest: Manifest, directory: Path) -> str:
    """The whole document."""
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name=_text(manifest.run.experiment))
    for row in manifest.rows:
        _case(suite, row, manifest.run.experiment, directory)
    suite.set("timestamp", manifest.run.started_at)
    suites = [suite]
    if manifest.comparison is not None:
        name = f"compared with {manifest.comparison.baseline_run_id or 'nothing'}"
        suites.append(ElementTree.SubElement(root, "testsuite", name=name))
        worse = [c for c in manifest.comparison.changes if c.severity == "regression"]
        for change in worse:
            _regression(suites[-1], change)
    if manifest.run.problems:
        suites.append(ElementTree.SubElement(root, "testsuite", name="after the last model"))
        for number, problem in enumerate(manifest.run.problems, 1):
            case = ElementTree.SubElement(
                suites[-1], "testcase", classname="run", name=f"problem {number}", time="0.000"
            )
            ElementTree.SubElement(case, "error", type="run", message=_text(problem))
    # Counted at the end, when all cases are in.
    for part in suites:
        _count(part)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, row: ArtifactRow, experiment: str, directory: Path) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=_text(experiment),
        name=_text(row.label),
        time=f"{summary.seconds(row):.3f}",
    )
    if row.status == "ok":
        if awaits_benchmark(row):  # the file is right; the run did not do all that it was to do
            ElementTree.SubElement(case, "error", type="not_run", message=_NO_LATENCY)
        return
    why = summary.reason(row) or row.status
    if row.status in _SKIPPED or row.optional:
        # What is optional fails no run: a test that failed would.
        optional = "optional: " if row.optional and row.status not in _SKIPPED else ""
        ElementTree.SubElement(case, "skipped", message=_text(f"{optional}{why}"))
        return
    kind = row.error.code if row.error else row.status
    tag = "failure" if row.status in _FAILURES else "error"
    element = ElementTree.SubElement(case, tag, type=kind, message=_text(why))
    element.text = _text("\n".join(summary.explain(row, directory)))


def _regression(suite: ElementTree.Element, change: Change) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=change.kind, name=_text(change.about), time="0.000"
    )
    message = f"{change.before} → {change.after}"
    element = ElementTree.SubElement(case, "failure", type=change.kind, message=_text(message))
    element.text = _text("\n".join([change.detail, *change.explained_by]))


def _count(suite: ElementTree.Element) -> None:
    suite.set("tests", str(len(suite)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", f"{sum(float(case.get('time', 0)) for case in suite):.3f}")


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
