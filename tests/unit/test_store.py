"""Runs that share a store, with an executor that plays a script in place of workers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from converter.cache.entries import DamagedError, LatencyRecord, Store
from converter.cli import command_line
from converter.config import standard
from converter.display.estimate import clock
from converter.layout import files, runfiles
from converter.model.batch import BenchmarkSpec, OnCached
from converter.model.errors import Code, ExitCode, RunError
from converter.model.job import Job
from converter.model.manifest import ArtifactRow, Environment
from converter.model.measure import Measure
from converter.model.records import JobResult, Latency, NodeInfo, StageRecord, VerifyRecord
from converter.model.spec import Expect
from converter.plugins import executors
from converter.plugins.executors.inline import InlineExecutor
from converter.runner import reuse
from converter.runner.context import RunContext
from converter.runner.loop import execute
from converter.runner.remembered import Remembered
from tests.unit.test_benchmarks import Measuring, ended, measured, wrong
from tests.unit.test_runner import CONTENT, Act, Script, failed, make_plan, ok, rows

OFF = standard.spec(benchmark={"providers": []}, reports=["csv"])
RunModels = Callable[..., dict[str, ArtifactRow]]


def alone(job: Job) -> JobResult:
    """A file without external data, of a worker that knows of no benchmark."""
    result = ok(job)
    stages = {**result.stages, "benchmark": StageRecord(status="not_requested")}
    return result.model_copy(update={"files": result.files[:1], "stages": stages})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def night(tmp_path: Path, store: Store) -> RunModels:
    """A run of scripted models in a folder of its own; which of them ran is in ``night.ran``."""
    ran: list[str] = []

    def run(
        *names: str,
        act: Act = alone,
        use: bool = True,
        expect: Expect | None = None,
        benchmark: dict[str, object] | None = None,
        code: ExitCode = ExitCode.OK,
    ) -> dict[str, ArtifactRow]:
        ran.clear()
        directory = tmp_path / f"night-{len(list(tmp_path.glob('night-*')))}"
        spec = standard.spec(benchmark=benchmark, reports=["csv"]) if benchmark else OFF
        context = RunContext(directory, "zoo", [], "0" * 64, "converter", spec)
        if use:
            context = replace(context, store=store.path)
        script = Script(dict.fromkeys(names, act), lambda job: ran.append(job.name))
        assert execute(make_plan(directory, *names, expect=expect), script, context) is code
        found = rows(directory)
        for row in found.values():
            if row.files:
                assert (directory / row.files[0].path).read_bytes() == CONTENT
        return found

    run.ran = ran  # type: ignore[attr-defined]
    return run


def last(tmp_path: Path) -> Path:
    return max(tmp_path.glob("night-*"))


def only(store: Store) -> Path:
    (key,) = store.held()
    return store.path / key


def test_the_store_remembers_how_long_a_model_took(
    night: RunModels, tmp_path: Path, store: Store
) -> None:
    found = night("a")
    context = RunContext(tmp_path, "zoo", [], "", "converter", OFF, store=store.path)
    seconds = sum(stage.seconds or 0.0 for stage in found["a"].stages.values())
    assert seconds > 1
    assert Remembered(context, ["a"]).estimate(InlineExecutor()).remaining({}) == clock(seconds)


def test_the_second_night_takes_everything_from_the_store(
    night: RunModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = night("a", "b")
    assert night.ran == ["a", "b"]  # type: ignore[attr-defined]
    capsys.readouterr()
    second = night("a", "b")
    assert night.ran == []  # type: ignore[attr-defined]
    for name, row in second.items():
        assert (row.cached, row.cache_miss_reason) == (True, None)
        assert (first[name].cached, first[name].cache_miss_reason) == (False, "not in the store")
        same = {"cached": True, "cache_miss_reason": None}
        assert first[name].model_copy(update=same) == row
    printed = capsys.readouterr().out
    assert "[2/2] ok       b  stored" in printed
    assert "2 models: 2 ok; 2 from the store" in printed
    assert runfiles.read(last(tmp_path)).run.complete
    assert (last(tmp_path) / "models/a/result.json").is_file()


def test_a_self_contained_file_is_linked_and_external_data_never(
    night: RunModels, tmp_path: Path, store: Store
) -> None:
    night("a")
    night("a")
    assert (last(tmp_path) / "models/a/a.onnx").stat().st_nlink == 3
    assert (last(tmp_path) / "models/a/a.onnx").stat().st_mode & 0o777 == 0o444
    night("b", act=ok)
    night("b", act=ok)
    assert night.ran == []  # type: ignore[attr-defined]
    for name in ("b.onnx", "b.onnx.data"):
        assert (last(tmp_path) / "models/b" / name).stat().st_nlink == 1
    assert (last(tmp_path) / "models/b/b.onnx.data").read_bytes() == CONTENT * 2


def test_all_of_an_entry_is_forced_to_the_disk_before_it_has_its_name(
    night: RunModels, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[Path] = []

    def forces(path: Path) -> None:
        assert not store.held()
        forced.append(path)

    monkeypatch.setattr(files, "fsync", forces)
    night("a")
    (inside,) = {path for path in forced if path.parent == store.path}
    assert {path.name for path in forced if path.parent == inside} == {
        *("a.onnx", "entry.json", "result.json")
    }


def test_users_of_any_umask_can_share_a_store(night: RunModels, store: Store) -> None:
    before = os.umask(0o077)
    try:
        night("a")
    finally:
        os.umask(before)
    folder = only(store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
    assert modes.pop(folder.name) == 0o755
    assert modes == {"a.onnx": 0o444, "entry.json": 0o644, "result.json": 0o644}


def test_a_store_on_another_file_system_is_copied_from(
    night: RunModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: Path, follow_symlinks: bool) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    night("a")
    assert night("a")["a"].cached
    assert (last(tmp_path) / "models/a/a.onnx").stat().st_nlink == 1


def test_a_file_that_another_user_owns_is_copied(
    night: RunModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns a file can write to it: one that was verified must not change behind a link."""
    night("a")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert night("a")["a"].cached
    assert (last(tmp_path) / "models/a/a.onnx").stat().st_nlink == 1


def test_only_ok_results_are_kept(night: RunModels, store: Store) -> None:
    night("a", act=failed, code=ExitCode.MODELS_FAILED)
    known = Expect(status="failed", code="EXPORT", reason="known")
    night("b", act=failed, expect=known)
    assert store.held() == []


def test_a_result_that_the_key_does_not_cover_is_used_and_not_kept(
    night: RunModels, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights.bin").touch()
    read = [str(tmp_path / "weights.bin")]

    def reading(job: Job) -> JobResult:
        return alone(job).model_copy(update={"files_read": read})

    for _ in range(2):
        row = night("a", act=reading)["a"]
        assert (row.status, row.cached, row.files_read) == ("ok", False, read)
        assert row.not_stored is not None
        assert row.not_stored.startswith(f"{read[0]} was read and not part of the key")
        assert f"Not stored: a: {row.not_stored}." in capsys.readouterr().out
        assert store.held() == []
    assert night("a")["a"].not_stored is None
    assert len(store.held()) == 1


def test_an_unexpected_success_is_one_from_the_store_too(night: RunModels) -> None:
    known = Expect(status="failed", code="EXPORT", reason="known")
    for cached in (False, True):
        row = night("a", expect=known, code=ExitCode.MODELS_FAILED)["a"]
        assert (row.status, row.cached) == ("xpass", cached)


def test_without_the_store_nothing_is_read_or_written(night: RunModels, store: Store) -> None:
    row = night("a", use=False)["a"]
    assert not store.path.exists()
    assert (row.cached, row.cache_miss_reason) == (False, None)
    assert row.job_key is None
    assert night("a")["a"].job_key is not None
    assert not night("a", use=False)["a"].cached


def truncate(entry: Path) -> None:
    (entry / "a.onnx").chmod(0o644)
    (entry / "a.onnx").write_bytes(CONTENT[:3])


def alter(entry: Path) -> None:
    (entry / "a.onnx").chmod(0o644)
    (entry / "a.onnx").write_bytes(CONTENT[::-1])


def lose_sidecar(entry: Path) -> None:
    (entry / "a.onnx.data").unlink()


def lose_model(entry: Path) -> None:
    (entry / "a.onnx").unlink()


def tear(entry: Path) -> None:
    text = (entry / "entry.json").read_text()
    (entry / "entry.json").write_text(text[: len(text) // 2])


def tear_result(entry: Path) -> None:
    (entry / "result.json").write_text("{")


def whiten(entry: Path) -> None:
    """A result that reads well and was not written by a run."""
    text = (entry / "result.json").read_text()
    (entry / "result.json").write_text(text.replace('"nodes": 1', '"nodes": 2'))


def swap_key(entry: Path) -> None:
    """The parts of another job."""
    text = json.loads((entry / "entry.json").read_text())
    text["parts"]["request.opset"] = 99
    (entry / "entry.json").write_text(json.dumps(text))


def link(entry: Path) -> None:
    (entry / "a.onnx").rename(entry / "elsewhere")
    (entry / "a.onnx").symlink_to("elsewhere")


def lead_out(entry: Path) -> None:
    """Whole by its own hashes, and made by somebody who wants a file written somewhere else."""
    (entry.parent / "a.onnx").write_bytes((entry / "a.onnx").read_bytes())
    text = (entry / "result.json").read_text().replace('"a.onnx"', '"../a.onnx"')
    (entry / "result.json").write_text(text)
    head = json.loads((entry / "entry.json").read_text())
    head["result_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (entry / "entry.json").write_text(json.dumps(head))


def empty(entry: Path) -> None:
    for path in entry.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        truncate, alter, lose_sidecar, lose_model, tear, tear_result, whiten, swap_key, link, empty,
        lead_out,
    ],
)  # fmt: skip
def test_a_damaged_entry_is_set_aside_and_built_again(
    night: RunModels, store: Store, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    night("a", act=ok)
    damage(only(store))
    row = night("a", act=ok)["a"]
    assert (row.status, row.cached) == ("ok", False)
    assert row.cache_miss_reason is not None
    assert row.cache_miss_reason.startswith("the stored entry is damaged: ")
    assert len(list(store.path.glob(".damaged-*"))) == 1
    assert night("a", act=ok)["a"].cached


def test_the_clock_may_jump(night: RunModels, store: Store) -> None:
    night("a")
    for path in [only(store), *only(store).iterdir()]:
        os.utime(path, (2e9, 2e9))
    assert night("a")["a"].cached


def test_a_file_that_is_not_trusted_any_more_is_no_hit(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.py").write_text("")

    def row(*trust: str) -> ArtifactRow:
        directory = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
        plan = make_plan(directory, "a")
        own = {"source": {"file": str(tmp_path / "m.py"), "name": "M"}, "trust": list(trust)}
        plan.jobs[0] = Job.model_validate({**dict(plan.jobs[0]), **own})
        context = RunContext(directory, "zoo", [], "0" * 64, "converter", OFF, store=store.path)
        execute(plan, Script({"a": alone}), context)
        return rows(directory)["a"]

    folder = str(tmp_path)
    assert row(folder).cache_miss_reason == "not in the store"
    assert row("more", folder).cached
    assert row().cache_miss_reason == f"CONVERTER_TRUST no longer lists {folder}"


def test_a_miss_names_what_changed_since_the_nearest_entry(
    night: RunModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.plan import packages

    night("a")
    installed = {**packages.versions(), "torch": "99.0"}
    old = packages.versions()["torch"]
    monkeypatch.setattr(packages, "versions", lambda: installed)
    assert night("a")["a"].cache_miss_reason == f"torch {old} → 99.0"


def test_two_runs_that_build_the_same_leave_one_whole_entry(night: RunModels, store: Store) -> None:
    def meanwhile(job: Job) -> JobResult:
        if not store.held():
            night("a")
        return alone(job)

    night("a", act=meanwhile)
    assert len(store.held()) == 1
    assert [path.name for path in store.path.iterdir()] == store.held()
    assert night("a")["a"].cached


def test_an_entry_that_vanishes_is_a_miss(
    night: RunModels, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    night("a")
    place = Store.place

    def tidied(self: Store, *arguments: object) -> None:
        empty(only(store))
        only(store).rmdir()
        place(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "place", tidied)
    row = night("a")["a"]
    assert (row.status, row.cached) == ("ok", False)


def test_a_store_that_fills_up_costs_no_model(
    night: RunModels,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there")

    monkeypatch.setattr(Store, "_install", full)
    assert night("a")["a"].status == "ok"
    assert list(store.path.iterdir()) == []
    printed = capsys.readouterr().out
    assert "could not be written: No space left on device (there)" in printed


def test_a_store_that_cannot_be_made_stops_before_any_work(night: RunModels, store: Store) -> None:
    store.path.write_text("a file")
    with pytest.raises(RunError, match=r"store .* cannot be written: .*store\.path=DIR, or none"):
        night("a")


def taking(p50_ms: float) -> Callable[[Measure], JobResult]:
    def act(job: Measure) -> JobResult:
        result = measured(job)
        entry = result.latency[0].model_copy(update={"p50_ms": p50_ms})
        return result.model_copy(update={"latency": [entry]})

    return act


@pytest.mark.parametrize("policy", ["always", "never", "stale"])
def test_latency_is_kept_beside_the_entry(
    night: RunModels, monkeypatch: pytest.MonkeyPatch, policy: OnCached
) -> None:
    spec = standard.spec(benchmark={"on_cached": policy}).benchmark

    def p50(seen: float, **changes: object) -> float | None:
        player = Measuring(cpu=taking(seen))
        monkeypatch.setattr(executors, "create", lambda *arguments: player)
        row = night("a", benchmark={**spec.model_dump(), **changes})["a"]
        assert row.stages["benchmark"].status == "ok"
        return row.latency[0].p50_ms

    assert p50(1.5) == 1.5
    assert p50(2.5) == (2.5 if policy == "always" else 1.5)
    assert p50(3.5, budget_s=9.0) == (1.5 if policy == "never" else 3.5)
    off = night("a")["a"]
    assert (off.cached, off.latency, off.stages["benchmark"].status) == (True, [], "not_requested")


def test_a_stored_file_without_latency_stays_unmeasured_where_never_is_said(
    night: RunModels,
) -> None:
    night("a")
    row = night("a", benchmark={"on_cached": "never"})["a"]
    assert (row.latency, row.stages["benchmark"].status) == ([], "skipped")
    assert row.stages["benchmark"].warnings == ["not measured: benchmark.on_cached is never"]


def test_a_file_that_the_benchmark_proves_wrong_leaves_the_store(
    night: RunModels, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Measuring(cpu=wrong)
    monkeypatch.setattr(executors, "create", lambda *arguments: player)
    row = night("a", benchmark={"providers": ["cpu"]}, code=ExitCode.MODELS_FAILED)["a"]
    assert (row.status, row.cached) == ("failed", False)
    assert list(store.path.iterdir()) == []


def test_a_file_stays_in_the_store_where_a_provider_is_absent(
    night: RunModels, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Measuring(cpu=ended(Code.EP_UNAVAILABLE))
    monkeypatch.setattr(executors, "create", lambda *arguments: player)
    row = night("a", benchmark={"providers": ["cpu"]}, code=ExitCode.MODELS_FAILED)["a"]
    assert (row.status, row.cached) == ("failed", False)
    assert len(list(store.path.iterdir())) == 1


@pytest.mark.parametrize(("cpu", "kept"), [(wrong, 0), (measured, 1)])
def test_a_file_that_one_provider_proves_wrong_goes_although_another_is_absent(
    night: RunModels,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    cpu: Callable[[Measure], JobResult],
    kept: int,
) -> None:
    player = Measuring(cuda=ended(Code.EP_UNAVAILABLE), cpu=cpu)
    monkeypatch.setattr(executors, "create", lambda *arguments: player)
    asked = {"providers": ["cuda", "cpu"]}
    row = night("a", benchmark=asked, code=ExitCode.MODELS_FAILED)["a"]
    assert (row.error and row.error.code) == Code.EP_UNAVAILABLE
    assert len(list(store.path.iterdir())) == kept


@pytest.mark.parametrize(
    ("policy", "same", "other", "none"),
    [("always", True, True, True), ("never", False, False, False), ("stale", False, True, True)],
)
def test_when_a_stored_file_is_timed_again(
    policy: OnCached, same: bool, other: bool, none: bool
) -> None:
    record = LatencyRecord(
        basis={"cpu": "x"}, latency=[], stage=StageRecord(), verify=VerifyRecord()
    )
    again = [(record, {"cpu": "x"}), (record, {"cpu": "y"}), (None, {"cpu": "x"})]
    found = [
        reuse.measure_again(old, reuse.Timing(policy, basis, ["cpu"], optional=False))
        for old, basis in again
    ]
    assert found == [same, other, none]


@pytest.mark.parametrize(("node", "again"), [("a", False), ("b", True), (None, True)])
def test_on_a_cluster_the_machine_of_a_latency_is_its_node(node: str | None, again: bool) -> None:
    at = node and NodeInfo(id=node, name=node, address="", cpu="", cores=1)
    timed = Latency.model_validate({"provider": "cpu", "status": "measured", "node": at})
    spec = BenchmarkSpec(providers=["cpu"], on_cached="stale")
    # The runner may be another machine each time.
    before, now = (
        reuse.timing_of(spec, env(cores), lambda node: node.name == "a") for cores in (4, 8)
    )
    assert before is not None
    assert now is not None
    record = LatencyRecord(
        basis=before.basis, latency=[timed], stage=StageRecord(), verify=VerifyRecord()
    )
    assert reuse.measure_again(record, now) is again
    here = reuse.timing_of(spec, env(4))
    assert here is not None
    assert reuse.measure_again(record, here)


def env(cores: int) -> Environment:
    return Environment(os="", python="", cpu="", cores=cores, memory_bytes=1, packages={})


@pytest.mark.parametrize(
    ("status", "optional", "again", "shown", "stage"),
    [
        ("measured", False, False, 1, "ok"),
        ("unavailable", True, False, 1, "ok"),
        ("unavailable", False, True, 0, "skipped"),
        ("failed", True, True, 1, "ok"),
    ],
)
def test_what_was_not_measured_does_not_pass_from_the_store(
    status: str, optional: bool, again: bool, shown: int, stage: str
) -> None:
    record = LatencyRecord(
        basis={},
        latency=[Latency.model_validate({"provider": "cuda", "status": status})],
        stage=StageRecord(status="ok"),
        verify=VerifyRecord(),
    )
    assert reuse.measure_again(record, reuse.Timing("stale", {}, ["cuda"], optional)) is again
    latency, kept = reuse._remembered(record, reuse.Timing("never", {}, ["cuda"], optional))
    assert (len(latency), kept.status) == (shown, stage)


# python -m converter store


def test_the_store_is_listed_checked_and_tidied_up(
    night: RunModels, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    night("old")
    (old,) = store.held()
    night("new", "bad")
    os.utime(store.path / old / "entry.json", (1e9, 1e9))
    (bad,) = [key for key, entry in store.entries() if entry.name == "bad"]
    capsys.readouterr()

    def told(*words: str, code: int = 0) -> str:
        assert command_line.main(["store", *words, "--path", str(store.path)]) == code
        return capsys.readouterr().out

    assert [line.split()[1] for line in told("ls").splitlines()[:-1]][-1] == "old"
    assert json.loads(told("ls", "--json"))["entries"][-1]["key"] == old
    assert told("verify") == "3 entries: 3 whole, 0 damaged\n"
    (store.path / bad / "bad.onnx").chmod(0o644)
    (store.path / bad / "bad.onnx").write_bytes(CONTENT[::-1])
    assert "bad: bad.onnx is not the file that was hashed" in told("verify", code=1)
    assert json.loads(told("verify", "--json", code=1))["damaged"][0]["name"] == "bad"
    (store.path / bad / "bad.onnx").unlink()
    assert " ?" in told("ls")
    store.set_aside(bad)
    (store.path / ".tmp-killed").mkdir()
    os.utime(store.path / ".tmp-killed", (1e9, 1e9))
    (store.path / ".tmp-busy").mkdir()
    assert told("gc").startswith("removed 0 entries and 2 leftovers")
    assert told("gc", "--max-age", "30d").startswith("removed 1 entry, ")
    assert store.held() == [key for key, entry in store.entries() if entry.name == "new"]
    assert json.loads(told("gc", "--max-size", "1B", "--json"))["kept"] == 0
    with pytest.raises(SystemExit, match="2"):
        told("gc", "--max-size", "9" * 400 + "GB")
    assert [path.name for path in store.path.iterdir()] == [".tmp-busy"]


def test_what_the_store_verb_cannot_do_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["store", "ls", "--path", str(tmp_path / "none")]) == ExitCode.CONFIG
    assert "there is no store" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["store", "gc", "--max-age", "3 fortnights", "--path", str(tmp_path)])
    assert "expected a time such as 12h or 30d" in capsys.readouterr().err


def test_a_path_that_leads_out_of_an_entry_is_not_followed(night: RunModels, store: Store) -> None:
    night("a")
    lead_out(only(store))
    with pytest.raises(DamagedError, match="leads out of the folder that it counts from"):
        store.read(only(store).name)


def test_reading_a_damaged_entry_says_which_part(night: RunModels, store: Store) -> None:
    night("a")
    truncate(only(store))
    with pytest.raises(DamagedError, match=r"a\.onnx: size mismatch, expected 12 bytes"):
        store.read(only(store).name)
