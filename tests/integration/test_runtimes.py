"""Files of runtimes of their own: how they are opened, checked and judged, whatever they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from converter.model.base import Frozen
from converter.model.errors import Code, StageError
from converter.model.job import Derived, Variant
from converter.model.measure import Measure
from converter.model.records import CheckRecord, JobResult
from converter.plugins import providers, variants
from converter.plugins.runnable import Interface, Runnable
from converter.plugins.variants import Given
from converter.worker.benchmark import benchmarking
from converter.worker.pipeline import derive
from tests.integration import jobs

pytestmark = pytest.mark.integration

STANDARD = providers.load


class Copied(Runnable):
    """An ONNX file under another name, by a runtime that may lie."""

    provider = "Mirror"
    active: list[str] = ["Mirror"]  # noqa: RUF012

    def __init__(self, file: Path, interface: Interface, runtime: Mirror) -> None:
        self._session = onnxruntime.InferenceSession(file.read_bytes())
        self.inputs = [value.name for value in interface.inputs]
        self.outputs = [value.name for value in interface.outputs]
        self.types = dict.fromkeys((*self.inputs, *self.outputs), "tensor(float)")
        self._runtime = runtime

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        outputs = self._session.run(None, dict(feeds))
        return [output * self._runtime.factor for output in outputs]

    def declared(self) -> dict[str, list[int | str | None]]:
        return self._runtime.shapes

    def refuses(self, shapes: Mapping[str, Sequence[int]]) -> str:
        batches = {shape[0] for shape in shapes.values()}
        return "Mirror has no batch axis" if self._runtime.one and batches != {2} else ""


class Mirror:
    """The runtime; ``factor`` is what it makes of outputs, ``one``: it has no other batch."""

    NAME, DEVICE, FALLBACKS = "Mirror", "cpu", ()
    INSTALL, LOAD_HINT = "install mirror", "install mirror again"
    FORMATS = ("onnx", "copy")
    PACKAGES = ("numpy",)
    Options = Frozen

    def __init__(self) -> None:
        self.factor, self.one, self.absent = 1.0, False, ""
        self.shapes: dict[str, list[int | str | None]] = {}

    def prepare(self) -> None: ...

    def available(self) -> str:
        return self.absent

    def open(
        self, file: Path, *, threads: int, options: Mapping[str, str], interface: Interface
    ) -> Runnable:
        return Copied(file, interface, self)

    def check(self, file: Path, parent: Path, precision: str) -> CheckRecord:
        if not file.with_suffix(".aux").is_file():
            raise StageError(Code.CHECKER, f"{file.stem}.aux is missing")
        return CheckRecord(status="passed", precision_weights=1.0)


class Plugin:
    """The variant that writes its files."""

    FORMAT, PRECISION, PACKAGES = "copy", "float32", ()
    SUFFIX, COMPANIONS, PROVIDER = ".copy", (".aux",), "mirror"
    Options = Frozen

    def __init__(self, write: Callable[[Path, Given], None]) -> None:
        self._write = write

    def keeps_io(self, options: Any) -> bool:
        return True

    def derive(self, parent: Path, target: Path, options: Any, given: Given) -> None:
        shutil.copyfile(parent, target)
        self._write(target, given)


def whole(target: Path, given: Given) -> None:
    target.with_suffix(".aux").write_text("belongs to it")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Mirror:
    found = Mirror()
    monkeypatch.setattr(
        providers, "load", lambda name: found if name == "mirror" else STANDARD(name)
    )
    return found


@pytest.fixture
def made(
    runtime: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., JobResult]:
    """What comes of a plugin that writes so."""

    def run(write: Callable[[Path, Given], None] = whole, **changes: Any) -> JobResult:
        plugin = Plugin(write)
        monkeypatch.setattr(variants, "load", lambda name: plugin)
        return derive.run(followed(tmp_path, **changes), lambda news: None)

    return run


def followed(folder: Path, **changes: Any) -> Derived:
    asked = Variant(
        id="copy", plugin="copy", format="copy", precision="float32", optional=False,
        cast_io=False, suffix=".copy", companions=[".aux"], provider="mirror", options={},
    )  # fmt: skip
    usual = {"inputs": jobs.IMAGE, "dynamic_axes": jobs.BATCH}
    return jobs.followed(jobs.make(folder, "Conv", variants=[asked], **(usual | changes)))


def code(result: JobResult) -> Code | None:
    return result.error.code if result.error else None


def test_all_its_files_are_taken_and_it_is_verified_where_it_runs(
    made: Callable[..., JobResult],
) -> None:
    done = made()
    assert done.error is None, done.error
    assert [part.path for part in done.files] == ["model.copy.copy", "model.copy.aux"]
    assert done.onnx is None
    assert done.check == CheckRecord(status="passed", precision_weights=1.0)
    assert {case.provider for case in done.verify.cases} == {"Mirror"}
    (verdict,) = done.verify.providers
    assert (verdict.provider, verdict.status) == ("mirror", "passed")
    assert verdict.version == f"numpy {np.__version__}"
    assert [axis.passed for axis in done.verify.dynamic] == [True]


def test_what_its_runtime_gets_wrong_is_wrong(
    made: Callable[..., JobResult], runtime: Mirror
) -> None:
    runtime.factor = 1.01
    done = made()
    assert (code(done), done.verify.status) == (Code.VERIFY_VALUE, "failed")
    assert done.verify.providers[0].code is Code.VERIFY_VALUE


def test_a_file_that_lacks_what_belongs_to_it(made: Callable[..., JobResult]) -> None:
    done = made(lambda target, given: None)
    assert (code(done), done.error and done.error.stage) == (Code.CHECKER, "check")


def test_files_of_other_names_are_refused(made: Callable[..., JobResult]) -> None:
    def more(target: Path, given: Given) -> None:
        whole(target, given)
        target.with_suffix(".txt").write_text("left over")

    done = made(more)
    assert code(done) is Code.DERIVE
    assert done.error is not None
    assert "wrote model.copy.txt beside model.copy.copy" in done.error.message


def test_sizes_that_its_format_does_not_have_are_said(
    made: Callable[..., JobResult], runtime: Mirror
) -> None:
    runtime.one = True
    done = made()
    assert done.error is None, done.error
    assert "batch is 2 in this file: Mirror has no batch axis" in (done.verify.reason or "")
    assert done.verify.domain is not None
    assert done.verify.domain.symbols[0].sizes == [2]


def test_an_axis_that_it_declares_as_a_number_is_not_dynamic(
    made: Callable[..., JobResult], runtime: Mirror
) -> None:
    runtime.shapes = {"x": [2, 3, 8, 8]}
    assert code(made()) is Code.DIM_SPECIALISED


def test_a_runtime_that_is_not_there_is_told_with_what_to_install(
    made: Callable[..., JobResult], runtime: Mirror
) -> None:
    runtime.absent = "the package mirror is not installed"
    done = made()
    assert code(done) is Code.EP_UNAVAILABLE
    assert done.error is not None
    assert (done.error.message, done.error.hint) == (runtime.absent, "install mirror")


def test_the_plugin_is_given_what_it_may_need(made: Callable[..., JobResult]) -> None:
    def asking(target: Path, given: Given) -> None:
        whole(target, given)
        samples = list(given.samples(3))
        # The example's sizes first, then others that files are verified at.
        shapes = [sample["x"].shape for sample in samples]
        assert shapes[0] == (2, 3, 8, 8)
        assert len({*shapes}) > 1
        assert [value.name for value in given.interface.inputs] == ["x"]
        assert given.sizes["batch"][0] == 1
        assert not given.real
        assert given.verdict(target)[0] is None

    done = made(asking)
    assert done.error is None, done.error


def test_an_onnx_file_is_verified_on_another_runtime_with_what_was_kept(
    runtime: Mirror, tmp_path: Path
) -> None:
    job = followed(tmp_path)
    parent = {
        **{name: getattr(job, name) for name in Measure.model_fields if hasattr(job, name)},
        "artifact": "onnx",
        "format": "onnx",
        "parent": None,
        "parent_file": "",
        "file": job.parent_file,
        "provider": "mirror",
        "timed": False,
        "budget_s": 0.1,
    }
    asked = Measure.model_validate(parent)
    right = benchmarking.run(asked, lambda stage: None)
    assert right.error is None, right.error
    assert [verdict.provider for verdict in right.verify.providers] == ["mirror"]
    assert right.latency == []
    runtime.factor = 1.01
    wrong = benchmarking.run(asked, lambda stage: None)
    assert code(wrong) is Code.VERIFY_VALUE
    assert wrong.error is not None
    assert wrong.error.message.startswith("on mirror: ")


def test_places_follow_what_reads_the_format(runtime: Mirror) -> None:
    from converter.model.batch import BenchmarkSpec
    from converter.plan import placement

    def of(format: str, asked: list[str], verified: list[str]) -> list[str]:  # noqa: A002
        spec = SimpleNamespace(providers=verified)
        provider = "mirror" if format == "copy" else ""
        job: Any = SimpleNamespace(format=format, provider=provider, verify=spec)
        return placement.of(job, BenchmarkSpec(providers=asked))

    assert of("onnx", ["cpu", "mirror"], []) == ["cpu", "mirror"]
    assert of("onnx", [], ["mirror", "cpu"]) == ["mirror"]
    # Where none of them reads it: where it was verified.
    assert of("copy", ["cpu"], []) == ["mirror"]
    assert of("copy", [], ["cpu", "mirror"]) == []
