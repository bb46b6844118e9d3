"""Sweeps: their points, folders and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.configuration import compose
from converter.configuration.compose import Point
from converter.errors import ConfigError, ConverterError, ExitCode
from tests.unit.conftest import Composer, arguments


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
    assert compose.run(arguments(*words, "opset=13,15,17"), task, report) == 1
    assert compose.run(arguments(*words, "opset=16,13,15"), task, report) == 2
    assert seen == [13, 15, 17, 16, 13, 15]
    assert reported == [("it is wrong.", "opset=16")]


def test_an_interrupted_point_ends_the_sweep(folder: Path) -> None:
    seen = []

    def task(point: Point) -> ExitCode:
        seen.append(point.config["opset"])
        return ExitCode.INTERRUPTED

    words = ("--config-dir", str(folder), "-m", "+experiment=one", "opset=13,15")
    assert compose.run(arguments(*words), task, lambda error, name: ExitCode.CONFIG) == 130
    assert seen == [13]


def test_the_order_of_exit_codes() -> None:
    order = [2, 3, 130, 143, 1, 4, 0]
    for index, code in enumerate(order):
        assert compose.worst([ExitCode(other) for other in reversed(order[index:])]) == code
