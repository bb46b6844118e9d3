"""The end of a run: comparison, exit code, what is published, what is called."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_runner import Act, Script, failed, make_plan, ok

from converter.config import standard
from converter.finalize import baseline, history, publication, zoo_index
from converter.layout import files, interrupts, runfiles
from converter.model.changes import Comparison
from converter.model.errors import ExitCode, RunError
from converter.model.job import Job
from converter.model.manifest import Manifest
from converter.model.records import JobResult
from converter.runner import finalize, resuming, state
from converter.runner.context import RunContext
from converter.runner.loop import execute
from converter.storage import exclusive


class Nights:
    """Runs of one experiment, each compared with the one before."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.count = 0

    def run(
        self, acts: dict[str, Act], *names: str, models: tuple[str, ...] = (), **keys: Any
    ) -> tuple[ExitCode, Manifest]:
        self.count += 1
        directory = self.home / f"night{self.count}"
        spec = standard.spec(
            **{
                "baseline": "latest",
                "benchmark": {"providers": []},
                "models": {name: {"source": {"registry": "srcnn"}} for name in models or names},
                **keys,
            }
        )
        earlier = baseline.find(spec.baseline, self.home, "")
        context = RunContext(
            directory, "zoo", [], "0" * 64, "", spec=spec, home=self.home, baseline=earlier
        )
        code = execute(make_plan(directory, *names), Script(acts), context)
        return code, runfiles.read(directory)


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "zoo")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Act:
    """Ok, but the clock of the deadline goes on by two minutes."""
    now = [0.0]
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def act(job: Job) -> JobResult:
        now[0] += 120
        return ok(job)

    return act


def larger(job: Job) -> JobResult:
    """Ok, but the file has grown by half."""
    result = ok(job)
    main, *data = result.files
    path = Path(job.staging_dir) / f"{job.name}.onnx"
    path.write_bytes(b"x" * 30)
    sha256 = hashlib.sha256(b"x" * 30).hexdigest()
    grown = main.model_copy(update={"bytes": 30, "sha256": sha256})
    return result.model_copy(update={"files": [grown, *data]})


def test_the_first_night_has_no_baseline_and_that_is_no_error(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    code, made = nights.run({}, "a")
    assert code == ExitCode.OK
    assert made.comparison is not None
    assert (made.comparison.verdict, made.run.baseline) == ("no_baseline", None)
    assert "this is the first complete run of all models (no_baseline)" in capsys.readouterr().out


def test_without_a_baseline_there_is_no_comparison(nights: Nights) -> None:
    assert nights.run({}, "a", baseline=None)[1].comparison is None


def test_worse_than_yesterday_is_exit_code_4(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.run({}, "a", "b")
    code, made = nights.run({"a": larger}, "a", "b")
    assert code == ExitCode.REGRESSION
    assert made.comparison is not None
    assert (made.comparison.verdict, made.run.exit_code) == ("regression", 4)
    assert made.run.baseline == "../night1"
    assert "worse: a: size 36 B → 54 B (+50.0%, allowed +5.0%)" in capsys.readouterr().out
    assert os.readlink(nights.home / "latest") == "night2"  # it is complete: the next baseline
    assert "finished: exit code 4" in (nights.home / "night2/run.log").read_text()


def test_thresholds_are_the_configurations(nights: Nights) -> None:
    nights.run({}, "a")
    code, made = nights.run({"a": larger}, "a", compare={"size": 0.6})
    assert code == ExitCode.OK
    assert made.comparison is not None
    assert made.comparison.verdict == "changed"


def test_a_failure_counts_before_a_regression_and_says_since_when(nights: Nights) -> None:
    started = nights.run({}, "a", "b")[1].run.started_at
    code, second = nights.run({"a": failed}, "a", "b")
    assert code == ExitCode.MODELS_FAILED
    assert second.comparison is not None
    assert second.comparison.verdict == "regression"
    since = second.models[0].failing_since
    assert since == second.run.started_at != started
    code, third = nights.run({"a": failed}, "a", "b")
    assert code == ExitCode.MODELS_FAILED
    assert third.comparison is not None
    assert third.comparison.verdict == "same"
    assert [row.failing_since for row in third.models] == [since, None]


def test_what_was_not_selected_was_not_removed(nights: Nights) -> None:
    nights.run({}, "a", "b")
    _, made = nights.run({}, "a", models=("a", "b"), select=["a"])
    assert made.comparison is not None
    assert made.comparison.verdict == "same"


def test_the_deadline_ends_what_is_running_and_the_rest_is_not_run(
    nights: Nights, slow: Act, capsys: pytest.CaptureFixture[str]
) -> None:
    # Undone when the manifest is written first, and no sign that all models are done.
    called = ["/bin/true"]
    code, made = nights.run({"a": slow}, "a", "b", deadline=60, on_failure=called)
    assert code == ExitCode.MODELS_FAILED
    assert [row.status for row in made.models] == ["ok", "not_run"]
    assert not made.run.complete
    assert not (nights.home / "latest").exists()
    printed = capsys.readouterr().out
    assert "The deadline passed and what was running was ended: 1 of 2 models finished" in printed
    assert nights.run({}, "a", deadline=60)[0] == ExitCode.OK


def test_a_model_that_the_deadline_kept_from_running_is_worse_and_exit_code_1(
    nights: Nights, slow: Act
) -> None:
    nights.run({}, "a", "b")
    code, made = nights.run({"a": slow}, "a", "b", deadline=60)
    assert code == ExitCode.MODELS_FAILED
    assert made.comparison is not None
    assert [(c.model, c.after, c.severity) for c in made.comparison.changes] == [
        ("b", "not_run", "regression")
    ]


def test_what_verified_is_published_and_the_last_good_file_stays(
    nights: Nights, tmp_path: Path
) -> None:
    target = tmp_path / "published"
    nights.run({}, "a", "b", publish_to=str(target))
    first = zoo_index.read(target)
    assert list(first.models) == ["a", "b"]
    nights.run({"a": failed}, "a", models=("a",), publish_to=str(target))
    second = zoo_index.read(target)
    assert second.models["a"].sha256 == first.models["a"].sha256
    assert second.models["a"].failing_since is not None
    assert second.models["b"].retired
    assert (target / second.models["b"].path).is_file()


def test_a_model_that_cannot_be_published_fails_the_run(
    nights: Nights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, outside = tmp_path / "published", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "a").symlink_to(outside)
    code, made = nights.run({}, "a", "b", publish_to=str(target))
    assert code == ExitCode.RUN_FAILED
    (problem,) = made.run.problems
    assert problem.startswith("a was not published: ")
    night = nights.home / "night1"
    for report in ("summary.md", "report.html", "junit.xml"):
        assert "a was not published: " in (night / report).read_text(), report
    assert "After the last model one thing went wrong." in (night / "summary.md").read_text()
    assert (made.run.exit_code, made.models[0].status) == (3, "ok")
    assert f"a was not published: a symbolic link is at an output path: {target}/a" in (
        capsys.readouterr().out
    )
    assert list(zoo_index.read(target).models) == ["b"]
    assert not list(outside.iterdir())


def test_old_runs_go_but_not_the_baseline(nights: Nights) -> None:
    for _ in range(3):
        nights.run({}, "a")
    nights.run({"a": failed}, "a", keep=1)
    assert {path.name for path in nights.home.glob("night*")} == {"night3", "night4"}


def test_an_old_run_that_cannot_be_removed_fails_the_run(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        nights.run({}, "a")

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    code, made = nights.run({}, "a", keep=1)
    assert (code, made.run.exit_code) == (3, 3)
    words = f"old runs could not be removed: Permission denied: {nights.home}/night1"
    assert words in capsys.readouterr().out


def test_a_run_of_before_that_is_resumed_is_not_the_latest(tmp_path: Path) -> None:
    nights = Nights(tmp_path / "zoo")
    target = tmp_path / "published"
    nights.run({}, "a", publish_to=str(target))
    nights.run({"a": larger}, "a", publish_to=str(target))
    before = zoo_index.read(target)
    link = tmp_path / "zoo" / "latest"
    assert link.resolve().name == "night2"
    old = tmp_path / "zoo" / "night1"
    spec = standard.spec(
        benchmark={"providers": []},
        models={"a": {"source": {"registry": "srcnn"}}},
        publish_to=str(target),
    )
    context = RunContext(
        old, "zoo", [], "0" * 64, "", spec=spec, home=tmp_path / "zoo", resumes=True
    )
    execute(make_plan(old, "a"), Script({}), context)
    assert link.resolve().name == "night2"
    assert zoo_index.read(target) == before


def test_a_clock_that_once_was_ahead_holds_no_later_night_back(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "published"
    with monkeypatch.context() as clock:
        clock.setattr(state, "_stamp", lambda moment: "2999-01-01T00:00:00.000Z")
        ahead = nights.run({}, "a", publish_to=str(target))[1].run
    run = nights.run({"a": larger}, "a", publish_to=str(target))[1].run
    assert run.started_at < ahead.started_at
    assert os.readlink(nights.home / "latest") == "night2"
    entry = zoo_index.read(target).models["a"]
    assert (entry.bytes, entry.verified_by) == (30, run.id)


def test_a_signal_while_slower_models_are_timed_again_ends_the_run(
    nights: Nights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "published"
    nights.run({}, "a", publish_to=str(target))
    before = zoo_index.read(target)
    compared = finalize.compared

    def interrupted(*arguments: Any) -> Comparison:
        signal.raise_signal(signal.SIGTERM)
        return compared(*arguments)

    monkeypatch.setattr(finalize, "compared", interrupted)
    code, made = nights.run({"a": larger}, "a", publish_to=str(target))
    assert code == ExitCode.TERMINATED
    run = made.run
    assert (run.complete, run.exit_code, run.ended_by) == (False, 143, "signal")
    assert made.comparison is None
    assert "Interrupted by SIGTERM: 1 of 1 models finished" in capsys.readouterr().out
    assert zoo_index.read(target) == before
    assert os.readlink(nights.home / "latest") == "night1"


def test_a_run_elsewhere_says_that_no_later_one_is_compared_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere" / "night"
    spec = standard.spec(baseline="latest", benchmark={"providers": []})
    context = RunContext(
        elsewhere, "zoo", [], "0" * 64, "", spec=spec, home=tmp_path / "outputs" / "zoo"
    )
    execute(make_plan(elsewhere, "a"), Script({}), context)
    assert "no later one is compared with it" in capsys.readouterr().out


def test_a_disk_that_is_full_at_the_end_is_told_to_the_person(
    tmp_path: Path, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.plugins import reports

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reports, "write", full)
    told = tmp_path / "told"
    code, _ = nights.run({}, "a", on_failure=["touch", str(told)])
    assert code == ExitCode.RUN_FAILED
    assert told.exists()


def test_a_disk_that_stays_full_leaves_no_manifest_that_says_complete(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.plugins import reports

    whole = files.write_atomic

    def full(*_: object) -> None:
        monkeypatch.setattr(files, "write_atomic", full)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reports, "write", full)
    code, _ = nights.run({}, "a")
    monkeypatch.setattr(files, "write_atomic", whole)
    assert code == ExitCode.RUN_FAILED
    assert not runfiles.read(nights.home / "night1").run.complete


def test_a_disk_that_fills_while_publishing_leaves_it_undone(
    tmp_path: Path, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files.write_atomic

    def full(*_: object, **__: object) -> None:
        monkeypatch.setattr(files, "write_atomic", full)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publication, "publish", full)
    target = str(tmp_path / "published")
    code, _ = nights.run({}, "a", publish_to=target, keep=3)
    monkeypatch.setattr(files, "write_atomic", whole)
    assert code == ExitCode.RUN_FAILED
    run = runfiles.read(nights.home / "night1").run
    assert (run.complete, run.undone) == (False, [f"publish_to {target}", "keep"])


def test_what_could_not_be_published_is_left_to_resume(
    tmp_path: Path,
    nights: Nights,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    target = str(tmp_path / "published")
    monkeypatch.setattr(publication, "publish", lost)
    code, made = nights.run({}, "a", publish_to=target)
    assert (code, made.run.complete) == (ExitCode.RUN_FAILED, False)
    assert made.run.undone == [f"publish_to {target}"]
    assert not resuming.is_whole(made)
    assert f"Not done: publish_to {target}. Resume with: python -m conv" in capsys.readouterr().out
    # Its models are what they are: the next night is compared with it.
    assert (nights.home / "latest").resolve() == nights.home / "night1"
    assert history.latest(nights.home, "") == nights.home / "night1"


def test_a_command_that_was_not_run_to_its_end_is_undone(nights: Nights, tmp_path: Path) -> None:
    during = tmp_path / "during.json"
    script = f"import shutil, sys; shutil.copy(sys.argv[1] + '/manifest.json', {str(during)!r})"
    code, made = nights.run({"a": failed}, "a", on_failure=[sys.executable, "-c", script])
    assert (code, made.run.complete, made.run.undone) == (ExitCode.MODELS_FAILED, True, [])
    seen = json.loads(during.read_text())["run"]
    assert (seen["complete"], seen["exit_code"], seen["undone"]) == (False, 1, ["on_failure"])


def test_commands_are_called_with_the_run_directory(nights: Nights, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"import sys; open({str(told)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
    keys = {
        f"on_{what}": [sys.executable, "-c", script, what] for what in ("failure", "regression")
    }
    nights.run({}, "a", "b", **keys)
    assert not told.exists()
    nights.run({"a": larger}, "a", "b", **keys)
    nights.run({"a": failed}, "a", "b", **keys)
    nights.run({"a": failed}, "a", "b", **keys)
    assert [line.replace(str(nights.home), "") for line in told.read_text().splitlines()] == [
        "regression /night2",
        "failure /night3",
        "regression /night3",
        "failure /night4",
    ]


def test_a_command_that_fails_changes_nothing(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [sys.executable, "-c", "import sys; sys.exit('no mail here')"]
    code, made = nights.run({"a": failed}, "a", on_failure=broken)
    assert (code, made.run.exit_code) == (1, 1)
    assert "on_failure failed with exit code 1" in capsys.readouterr().out
    assert "no mail here" in (nights.home / "night1/run.log").read_text()


# One at a time


HOLD = """
import sys
from pathlib import Path
from converter.storage import exclusive
exclusive.hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_process_holds_names_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        words = rf"is held by process {holder.pid} on .* since \d{{4}}-.*: wait for that one, or"
        with pytest.raises(RunError, match=words):
            exclusive.hold(tmp_path)
        with pytest.raises(RunError, match=words), exclusive.lock_with_timeout(tmp_path, 0.2):
            pass
        holder.kill()
    with exclusive.lock_with_timeout(tmp_path, 0):  # the kernel has freed it
        pass
    assert exclusive.hold(tmp_path) == exclusive.hold(tmp_path)


def test_whose_lock_was_removed_holds_a_folder_no_more(tmp_path: Path) -> None:
    """Another one can have it then: of two that publish, one must know."""
    with exclusive.lock_with_timeout(tmp_path, 0) as first:
        first.check()
        (tmp_path / exclusive.LOCK).unlink()
        with exclusive.lock_with_timeout(tmp_path, 0) as second:
            second.check()
            with pytest.raises(OSError, match="another run may write there"):
                first.check()


def test_a_folder_that_another_run_holds_is_not_published_to(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("converter.runner.finalize._PUBLISH_WAIT_S", 0.1)
    target = tmp_path / "published"
    with exclusive.lock_with_timeout(target, 0):
        code, _ = nights.run({}, "a", publish_to=str(target))
    assert code == ExitCode.RUN_FAILED
    assert f"nothing was published: {target} is held by process {os.getpid()}" in (
        capsys.readouterr().out
    )
    assert not (target / "index.json").exists()
