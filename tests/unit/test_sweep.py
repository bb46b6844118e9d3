"""Sweeps: their points, folders and exit codes."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from converter.config.point import Point
from converter.layout import claim
from converter.model.errors import ConfigError, ConverterError, ExitCode, RunError
from converter.sweep import launch, worst
from tests.conftest import REPOSITORY
from tests.unit.conftest import Composer, Run, arguments


def test_a_sweep_has_a_folder_for_each_point(composed: Composer) -> None:
    points = composed(
        "-m", "+experiment=one", "seed=7", "opset=13,15", "device=cpu,auto",
    )  # fmt: skip
    assert [(p.config["opset"], p.config["device"]) for p in points] == [
        (13, "cpu"), (13, "auto"), (15, "cpu"), (15, "auto"),
    ]  # fmt: skip
    assert all(point.sweep and point.config["seed"] == 7 for point in points)
    folders = [point.claim() for point in points]
    assert [path.name for path in folders] == [
        "opset=13,device=cpu",
        "opset=13,device=auto",
        "opset=15,device=cpu",
        "opset=15,device=auto",
    ]
    (sweep,) = {path.parent for path in folders}
    assert sweep.parent == Path.cwd() / "outputs/one"


def test_the_name_of_a_point_is_one_safe_level(composed: Composer) -> None:
    points = composed(
        "-m",
        "+models.m={}",
        "+models.m.source=torchvision/resnet18,'torchvision resnet18',srcnn",
        "hydra.sweep.dir=s",
    )
    assert [str(point.claim().relative_to(Path.cwd())) for point in points] == [
        "s/models.m.source=torchvision-resnet18",
        "s/models.m.source=-torchvision-resnet18",
        "s/models.m.source=srcnn",
    ]


def test_points_whose_safe_names_are_equal_do_not_collide(composed: Composer) -> None:
    points = composed("-m", "+models={}", "+models.m.source=a/b,a//b", "hydra.sweep.dir=s")
    assert [point.claim().name for point in points] == [
        "models.m.source=a-b",
        "models.m.source=a-b-2",
    ]


def test_a_sweep_may_stand_in_a_file(composed: Composer, folder: Path) -> None:
    text = "# @package _global_\ndefaults:\n  - /model: [mine]\n"
    text += "hydra: {mode: MULTIRUN, sweeper: {params: {opset: '13,15'}}}\n"
    (folder / "experiment/sweep.yaml").write_text(text)
    points = composed("+experiment=sweep")
    assert [point.config["opset"] for point in points] == [13, 15]
    assert points[0].claim().name == "opset=13"


def test_the_command_line_decides_over_what_the_file_sweeps(
    composed: Composer, folder: Path
) -> None:
    text = "# @package _global_\ndefaults:\n  - /model: [mine]\n"
    text += "hydra: {mode: MULTIRUN, sweeper: {params: {opset: '13,15', seed: '1,2'}}}\n"
    (folder / "experiment/sweep.yaml").write_text(text)
    points = composed("+experiment=sweep", "opset=18")
    assert [(p.config["opset"], p.config["seed"]) for p in points] == [(18, 1), (18, 2)]
    assert points[0].claim().name == "seed=1"
    points = composed("-m", "+experiment=sweep", "opset=16,17,18", "seed=3")
    assert [(p.config["opset"], p.config["seed"]) for p in points] == [(16, 3), (17, 3), (18, 3)]


def test_the_sweeps_of_the_documents_have_points(composed: Composer) -> None:
    text = (REPOSITORY / "docs/howto/sweep.md").read_text(encoding="utf-8")
    block = text.split("```sh\n")[1].split("```")[0]
    found = [composed(*shlex.split(line, comments=True)[3:]) for line in block.splitlines()]
    assert [[point.claim().name for point in points] for points in found] == [
        ["simplify=True,opset=13", "simplify=True,opset=17", "simplify=False,opset=13",
         "simplify=False,opset=17"],
        ["opset=13", "opset=15", "opset=17"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("hydra.sweep.subdir=x", "hydra.sweep.subdir: a point's folder is named by the swept keys"),
        ("hydra/launcher=joblib", "there is no hydra/launcher 'joblib'"),
    ],
)
def test_what_would_break_the_layout_of_a_sweep_is_refused(
    composed: Composer, word: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        composed("-m", "+experiment=one", "opset=13,15", word)


def test_all_points_run_and_the_worst_code_counts(folder: Path) -> None:
    codes = {13: ExitCode.MODELS_FAILED, 15: ExitCode.OK, 17: ExitCode.REGRESSION}
    seen = []

    def task(point: Point) -> ExitCode:
        opset = point.config["opset"]
        seen.append(opset)
        if opset == 16:
            raise ConfigError("it is wrong.")
        return codes[opset]

    reported = []

    def report(error: ConverterError, name: str) -> ExitCode:
        reported.append((str(error), name))
        return ExitCode.CONFIG

    words = ("--config-dir", str(folder), "-m", "+experiment=one")
    assert launch.run(arguments(*words, "opset=13,15,17"), task, report) == 1
    assert launch.run(arguments(*words, "opset=16,13,15"), task, report) == 2
    assert seen == [13, 15, 17, 16, 13, 15]
    assert reported == [("it is wrong.", "opset=16")]


def test_an_interrupted_point_ends_the_sweep(folder: Path) -> None:
    seen = []

    def task(point: Point) -> ExitCode:
        seen.append(point.config["opset"])
        return ExitCode.INTERRUPTED

    words = ("--config-dir", str(folder), "-m", "+experiment=one", "opset=13,15")
    assert launch.run(arguments(*words), task, lambda error, name: ExitCode.CONFIG) == 130
    assert seen == [13]


def test_a_signal_ends_the_sweep_wherever_it_arrives(folder: Path) -> None:
    seen = []

    def task(point: Point) -> ExitCode:
        point.claim()
        seen.append(point.config["opset"])
        os.kill(os.getpid(), signal.SIGTERM)  # when the run has its code already
        return ExitCode.OK

    words = ("--config-dir", str(folder), "-m", "+experiment=one", "opset=13,15")
    words += ("hydra.sweep.dir=s",)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert launch.run(arguments(*words), task, lambda error, name: ExitCode.CONFIG) == 143
    assert seen == [13]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    record = json.loads(Path("s/sweep.json").read_text())
    assert record["sweep"]["exit_code"] == 143
    assert not record["sweep"]["complete"]
    assert [point["exit_code"] for point in record["points"]] == [0, None]
    assert not Path("s/.lock").exists()


def test_a_point_that_fails_to_run_is_recorded_and_stops_no_other(folder: Path) -> None:
    def task(point: Point) -> ExitCode:
        point.claim()
        if point.config["opset"] == 13:
            raise RunError("it cannot go on.")
        return ExitCode.OK

    words = ("--config-dir", str(folder), "-m", "+experiment=one", "opset=13,15")
    words += ("hydra.sweep.dir=s",)
    assert launch.run(arguments(*words), task, lambda error, name: ExitCode.RUN_FAILED) == 3
    first, second = json.loads(Path("s/sweep.json").read_text())["points"]
    assert (first["state"], first["exit_code"]) == ("refused", 3)
    assert first["problems"] == ["it cannot go on."]
    assert second["exit_code"] == 0


def test_the_folder_of_a_sweep_is_held_while_it_runs(folder: Path) -> None:
    def task(point: Point) -> ExitCode:
        point.claim()
        with pytest.raises(RunError, match=r"held by another run \(process \d+"):
            claim.refuse_used(Path("s").absolute(), "hydra.sweep.dir")
        return ExitCode.OK

    words = ("--config-dir", str(folder), "-m", "+experiment=one", "opset=13,15")
    words += ("hydra.sweep.dir=s",)
    assert launch.run(arguments(*words), task, lambda error, name: ExitCode.CONFIG) == 0
    assert json.loads(Path("s/sweep.json").read_text())["sweep"]["complete"]


def test_an_experiment_that_sweeps_needs_no_flag(run: Run) -> None:
    code, out, _ = run(
        "+experiment=opset_sweep", "select=[single_conv]", "++models.single_conv.opset={min: 20}",
        "hydra.sweep.dir=s",
    )  # fmt: skip
    assert code == 0
    assert "single_conv      - skipped skipped skipped" in out
    assert "[1] opset=13  exit code 0: 1 skipped" in out
    assert str(Path("s/sweep.html").absolute()) in out
    record = json.loads(Path("s/sweep.json").read_text())
    assert record["sweep"]["keys"] == ["opset"]
    assert [point["directory"] for point in record["points"]] == [
        "opset=13", "opset=15", "opset=17",
    ]  # fmt: skip


def test_a_sweep_whose_points_are_all_wrong_writes_nothing(run: Run) -> None:
    assert run("-m", "+experiment=one", "opset=98,99", "hydra.sweep.dir=s")[0] == 2
    assert not Path("s").exists()


def test_the_order_of_exit_codes() -> None:
    order = [2, 3, 130, 143, 1, 4, 0]
    for index, code in enumerate(order):
        assert worst([ExitCode(other) for other in reversed(order[index:])]) == code
