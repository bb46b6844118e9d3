"""What a sweep's first point makes for the later ones, with an executor that plays a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from converter.cache.entries import Store
from converter.config import standard
from converter.layout import delivery, runfiles
from converter.model import manifest
from converter.model.job import Job
from converter.model.records import JobResult, StageRecord
from converter.runner.context import RunContext
from converter.runner.loop import execute
from tests.unit.test_runner import Script, failed, make_job, make_plan, ok, rows

OFF = standard.spec(benchmark={"providers": []}, reports=["csv"])


def alone(job: Job) -> JobResult:
    result = ok(job)
    stages = {**result.stages, "benchmark": StageRecord(status="not_requested")}
    return result.model_copy(update={"files": result.files[:1], "stages": stages})


def with_siblings(
    spoil: Callable[[Path], None] = lambda folder: None,
) -> Callable[[Job], JobResult]:
    """A worker that makes all that it is asked for; ``spoil`` is given each sibling's folder."""

    def act(job: Job) -> JobResult:
        for number in range(len(job.siblings)):
            other = job.sibling(number)
            result = alone(other)
            folder = Path(other.staging_dir)
            (folder / delivery.RESULT).write_text(manifest.dump(result))
            spoil(folder)
        return alone(job)

    return act


class Sweep:
    """Points that differ in their opset, and which jobs ran in each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self.asked: list[list[tuple[str, list[int | None]]]] = []

    def jobs(self, point: str, opset: int, names: tuple[str, ...]) -> list[Job]:
        made = [make_job(self.folder / point, name) for name in names]
        return [job.model_copy(update={"opset": opset}) for job in made]

    def run(
        self,
        *opsets: int,
        names: tuple[str, ...] = ("a", "b"),
        act: Callable[[Job], JobResult] | None = None,
        change: Callable[[Job], Job] = lambda job: job,
        use: bool = True,
        deadline: float | None = None,
    ) -> list[dict[str, bool]]:
        """For each point which of its rows came from the store."""
        plans = [self.jobs(f"point-{opset}", opset, names) for opset in opsets]
        plans[1:] = [[change(job) for job in plan] for plan in plans[1:]]
        cached = []
        for number, jobs in enumerate(plans):
            directory = self.folder / f"point-{opsets[number]}"
            context = RunContext(
                directory, "zoo", [], "0" * 64, "converter",
                OFF.model_copy(update={"deadline": deadline}), point=directory.name,
                store=self.store.path if use else None,
                later=lambda rest=plans[number + 1 :]: iter(rest),
            )  # fmt: skip
            ran: list[tuple[str, list[int | None]]] = []

            def note(job: Job, ran: list[tuple[str, list[int | None]]] = ran) -> None:
                ran.append((job.name, [each.opset for each in job.siblings]))

            script = Script(dict.fromkeys(names, act or with_siblings()), note)
            execute(replace(make_plan(directory, *names), jobs=jobs), script, context)
            self.asked.append(ran)
            cached.append({name: row.cached for name, row in rows(directory).items()})
        return cached


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_the_first_point_makes_the_files_of_all(sweep: Sweep) -> None:
    cached = sweep.run(17, 18, 20)
    assert sweep.asked == [[("a", [18, 20]), ("b", [18, 20])], [], []]
    assert cached == [{"a": False, "b": False}, {"a": True, "b": True}, {"a": True, "b": True}]
    assert len(sweep.store.held()) == 6


def test_what_the_store_has_is_not_made_again(sweep: Sweep, tmp_path: Path) -> None:
    sweep.run(18)
    again = Sweep(tmp_path / "again")
    again.store = sweep.store
    again.run(17, 18, 20)
    assert again.asked == [[("a", [20]), ("b", [20])], [], []]


def test_points_that_ask_for_the_same_file_share_one(sweep: Sweep) -> None:
    sweep.run(17, 18, names=("a",), change=lambda job: job.model_copy(update={"opset": 17}))
    assert sweep.asked == [[("a", [])], []]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"device": "cuda"}, {"dynamic_axes": {"x": {0: "n"}}}, {"threads": 2}]
)
def test_what_counts_before_the_export_is_not_shared(
    sweep: Sweep, change: dict[str, object]
) -> None:
    sweep.run(17, 18, names=("a",), change=lambda job: job.model_copy(update=change))
    assert sweep.asked == [[("a", [])], [("a", [])]]


def test_a_point_with_a_deadline_works_for_itself(sweep: Sweep) -> None:
    sweep.run(17, 18, names=("a",), deadline=3600.0)
    assert sweep.asked == [[("a", [])], [("a", [])]]


def test_without_a_store_nothing_is_shared(sweep: Sweep) -> None:
    sweep.run(17, 18, names=("a",), use=False)
    assert sweep.asked == [[("a", [])], [("a", [])]]


def other_content(folder: Path) -> None:
    (folder / "a.onnx").write_bytes(b"other")


def no_result(folder: Path) -> None:
    (folder / delivery.RESULT).unlink()


def no_json(folder: Path) -> None:
    (folder / delivery.RESULT).write_text("{")


def a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def a_link_for_the_file(folder: Path) -> None:
    (folder / "a.onnx").rename(folder / "b.onnx")
    (folder / "a.onnx").symlink_to("b.onnx")


def of_another(folder: Path) -> None:
    text = (folder / delivery.RESULT).read_text()
    (folder / delivery.RESULT).write_text(text.replace('"a.onnx"', '"../../x.onnx"'))


@pytest.mark.parametrize(
    "spoil", [other_content, no_result, no_json, a_link, a_link_for_the_file, of_another]
)
def test_what_is_not_as_it_should_be_is_made_by_its_own_point(
    sweep: Sweep, spoil: Callable[[Path], None]
) -> None:
    cached = sweep.run(17, 18, names=("a",), act=with_siblings(spoil))
    assert sweep.asked == [[("a", [18])], [("a", [])]]
    assert cached == [{"a": False}, {"a": False}]


def test_a_failure_of_the_first_point_costs_the_later_ones_nothing(sweep: Sweep) -> None:
    make = with_siblings()

    def act(job: Job) -> JobResult:
        make(job)
        return failed(job) if job.opset == 17 else alone(job)

    cached = sweep.run(17, 18, names=("a",), act=act)
    assert cached == [{"a": False}, {"a": True}]


def test_a_failure_is_never_kept(sweep: Sweep) -> None:
    def spoil(folder: Path) -> None:
        path = folder / delivery.RESULT
        result = runfiles.read_result(path)
        path.write_text(manifest.dump(result.model_copy(update={"status": "failed"})))

    sweep.run(17, 18, names=("a",), act=with_siblings(spoil))
    assert sweep.asked[1] == [("a", [])]


def test_the_record_of_a_job_names_none_of_its_siblings(sweep: Sweep) -> None:
    """It is what `replay` runs: one model, one file."""
    sweep.run(17, 18, names=("a",))
    text = (sweep.folder / "point-17/models/a" / delivery.JOB).read_text()
    assert Job.model_validate_json(text).siblings == []
    assert not (sweep.folder / "point-17" / delivery.STAGING).exists()
