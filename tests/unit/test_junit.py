"""``junit.xml``."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from nights import artifact, failing, manifest, row

from converter import compare
from converter.model.batch import CompareSpec
from converter.model.records import StageRecord
from converter.plugins.reports import junit


def rendered(*rows: object, **changes: object) -> ElementTree.Element:
    run = manifest(*rows, **changes)  # type: ignore[arg-type]
    return ElementTree.fromstring(junit.render(run, Path("run")))


def test_each_model_is_a_test_case() -> None:
    stages = {"load": StageRecord(status="ok", seconds=1.5), "benchmark": StageRecord(status="ok")}
    (suite,) = rendered(
        row("a", stages=stages),
        failing("b"),
        failing("c", status="timeout"),
        row("d", "skipped"),
        row("e", "xfail"),
        row("f", "xpass"),
        row("g", "not_run"),
    )
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")}
    assert counts == {"tests": "7", "failures": "2", "errors": "2", "skipped": "2", "time": "1.500"}
    assert [[child.tag for child in case] for case in suite] == [
        [], ["failure"], ["error"], ["skipped"], ["skipped"], ["failure"], ["error"],
    ]  # fmt: skip
    failure = suite.find("testcase[@name='b']/failure")
    assert failure is not None
    assert failure.get("type") == "EXPORT_UNSUPPORTED"
    assert failure.get("message") == ("EXPORT_UNSUPPORTED: b uses an operator without ONNX form")


def test_a_latency_that_the_deadline_left_out_is_an_error() -> None:
    left, done = (
        row(name, **artifact(name), stages={"benchmark": StageRecord(status=status)})
        for name, status in (("a", "not_run"), ("b", "ok"))
    )
    (suite,) = rendered(left, done)
    assert [[child.tag for child in case] for case in suite] == [["error"], []]
    error = suite.find("testcase[@name='a']/error")
    assert error is not None
    assert "ended before its latency was measured" in error.get("message", "")


def test_what_no_xml_can_hold_is_replaced() -> None:
    hostile = failing("a", error={"message": "\x00\x1b[31m <&\"'> ]]> \ud800 é"})
    (suite,) = rendered(hostile)
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "EXPORT_UNSUPPORTED: � <&\"'> ]]> � é"

    (suite,) = rendered(row("\x00\ud800"))
    assert [case.get("name") for case in suite] == ["��"]


def test_regressions_are_a_suite_of_their_own() -> None:
    old, new = manifest(row("a")), manifest(row("a", **artifact("a", size=2000)), day=2)
    found = compare.compare(old, new, CompareSpec())
    run = new.model_copy(update={"comparison": found})
    suites = ElementTree.fromstring(junit.render(run, Path("run")))
    assert [suite.get("name") for suite in suites] == ["zoo", "compared with run-1"]
    failure = suites[1].find("testcase[@name='a']/failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("size", "1000 → 2000")
    assert suites[1].get("failures") == "1"
