"""``python -m converter plan``: what would run, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.model.errors import ExitCode
from converter.model.job import Job
from converter.runner.context import RunContext
from converter.runner.loop import execute
from tests.unit.conftest import Composer
from tests.unit.conftest import Run as Cli
from tests.unit.test_runner import Script


def build(composed: Composer, *words: str) -> list[str]:
    """Run what a command composes with a script in place of workers; the names that ran."""
    from converter.config import validation
    from converter.plan import jobs

    (point,) = composed(*words, "benchmark=off")  # latency is no part of a plan
    ran: list[str] = []
    directory = Path("built").absolute()
    spec = validation.parse(point.config)
    planned = jobs.build(spec, run_dir=directory, cwd=Path.cwd(), trust=[])
    context = RunContext(directory, "x", [], "", "", spec, store=Path.cwd() / spec.store.path)

    def note(job: Job) -> None:
        ran.append(job.name)

    execute(planned, Script({}, note), context)
    return ran


def test_a_first_plan_runs_everything_and_writes_nothing(cli: Cli) -> None:
    code, out, _ = cli("plan", "+experiment=one", "+models.late={source: srcnn, opset: {min: 19}}")
    assert code == 0
    assert out.splitlines() == [
        "run      mine  not in the store",
        "skipped  late  the run's opset 17 is below the model's minimum, 19",
        "",
        "2 models: 1 to run, 0 stored, 1 skipped",
    ]
    assert list(Path.cwd().iterdir()) == []


def test_a_plan_is_what_the_run_does(cli: Cli, composed: Composer) -> None:
    words = ("+experiment=one", "+models.b={source: srcnn}")
    assert build(composed, *words) == ["mine", "b"]
    code, out, _ = cli("plan", *words, "++models.b.opset=18")
    assert code == 0
    assert "stored   mine  built 2" in out
    assert "run      b     opset 17 → 18" in out
    assert "2 models: 1 to run, 1 stored, 0 skipped" in out


def test_a_damaged_entry_is_told_and_left(cli: Cli, composed: Composer) -> None:
    build(composed, "+experiment=one")
    (entry,) = Path("outputs/.store").iterdir()
    (entry / "mine.onnx").unlink()
    before = sorted(Path("outputs").rglob("*"))
    assert "run      mine  the stored entry is damaged: " in cli("plan", "+experiment=one")[1]
    assert sorted(Path("outputs").rglob("*")) == before


def test_without_the_store_all_is_to_run(cli: Cli, composed: Composer) -> None:
    build(composed, "+experiment=one")
    out = cli("plan", "+experiment=one", "store.use=false")[1]
    assert "run      mine  store.use is false" in out


def test_what_will_fail_is_told_before_it_runs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVERTER_TRUST", raising=False)
    code, out, _ = cli(
        "plan",
        "+experiment=one",
        "+models.code={source: {_target_: os.system}, inputs: {x: {shape: [1]}}}",
        "+models.lost={source: srcnn, weights: {checkpoint: no.pth}}",
    )
    assert code == ExitCode.MODELS_FAILED
    assert out.splitlines() == [
        "run      mine  not in the store",
        "fails    code  TARGET_DENIED: _target_ 'os.system' is not trusted; "
        "If you trust it: export CONVERTER_TRUST=os",
        f"fails    lost  WEIGHTS_MISSING: weights.checkpoint: {Path.cwd()}/no.pth does not exist; "
        "A relative path counts from the folder where the command was started.",
        "",
        "3 models: 1 to run, 0 stored, 0 skipped, 2 would fail",
    ]
    assert list(Path.cwd().iterdir()) == []


def test_a_failure_that_is_expected_is_no_failure_of_the_plan(cli: Cli) -> None:
    expect = "expect: {status: failed, code: WEIGHTS_MISSING, reason: a test}"
    lost = f"+models.lost={{source: srcnn, weights: {{checkpoint: no.pth}}, {expect}}}"
    code, out, _ = cli("plan", "+experiment=one", lost, "--json")
    assert code == ExitCode.OK
    (point,) = json.loads(out)
    assert [model["action"] for model in point["models"]] == ["run", "fails"]
    assert point["models"][1]["reason"].endswith("no.pth does not exist; as expected")


def test_as_json_a_sweep_is_a_list_of_points(cli: Cli) -> None:
    code, out, _ = cli("plan", "-m", "+experiment=one", "opset=13,12", "--json")
    assert code == 0
    found = json.loads(out)
    assert [point["overrides"][-1] for point in found] == ["opset=13", "opset=12"]
    assert [point["models"][0]["action"] for point in found] == ["run", "skipped"]
    assert len(found[0]["models"][0]["job_key"]) == 64


@pytest.mark.parametrize("words", [("+experiment=smok",), ("+experiment=one", "++opsett=3")])
def test_a_configuration_that_is_wrong_is_exit_2(cli: Cli, words: tuple[str, ...]) -> None:
    code, _, err = cli("plan", *words)
    assert code == ExitCode.CONFIG
    assert "Did you mean" in err


def test_options_that_show_a_configuration_are_refused(cli: Cli) -> None:
    code, _, err = cli("plan", "+experiment=one", "--cfg", "job")
    assert code == ExitCode.CONFIG
    assert "Leave out the word `plan`" in err


@pytest.fixture
def cli(folder: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """A verb in this process, with the user's folder: exit code, stdout, stderr."""
    from converter.cli import command_line as command_line

    def command(*words: str) -> tuple[int, str, str]:
        code = command_line.main([words[0], "--config-dir", str(folder), *words[1:]])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command
