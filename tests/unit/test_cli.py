"""The command line: directories, sweeps, help, verbs, and what the parent process imports."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tomllib
import weakref
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from converter.cli import command_line
from converter.config import resolution
from converter.model.errors import ExitCode
from converter.runner import start
from tests.conftest import REPOSITORY, Command
from tests.unit.conftest import Run

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "onnxsim", "onnxslim", "numpy", "timm")


# Directories (row 52)


def test_an_output_that_cannot_be_written_is_exit_3(run: Run) -> None:
    Path("file").write_text("")
    code, out, err = run("+experiment=one", "hydra.run.dir=file/run")
    assert (code, out) == (3, "")
    assert err.startswith("run: the run directory ")
    assert "file/run cannot be written: Not a directory" in err
    assert "Choose another with hydra.run.dir=DIR" in err


def test_a_used_directory_is_exit_2_and_untouched(run: Run) -> None:
    Path("here/.hydra").mkdir(parents=True)
    Path("here/results.jsonl").write_text("{}\n")
    code, _, err = run("+experiment=one", "hydra.run.dir=here")
    assert code == 2
    assert "already holds a run." in err
    assert "resume" in err
    assert sorted(path.name for path in Path("here").rglob("*")) == [".hydra", "results.jsonl"]


# A whole run, of rows that need no worker


def test_a_sweep_runs_all_points_and_skips_what_is_out_of_range(run: Run) -> None:
    code, _, err = run(
        "-m", "+experiment=one", "models.mine.opset.min=20", "opset=13,99,15", "hydra.sweep.dir=s",
    )  # fmt: skip
    assert code == 2
    assert err.splitlines() == [
        "configuration of opset=99: 1 problem",
        "  opset: found 99; expected a whole number from 7 to 25.",
    ]
    assert sorted(path.name for path in Path("s").glob("opset*")) == ["opset=13", "opset=15"]
    for opset in (13, 15):
        written = json.loads(Path(f"s/opset={opset}/manifest.json").read_text())
        assert written["run"]["overrides"][-1] == f"opset={opset}"
        assert written["run"]["experiment"] == "one"
        (row,) = written["models"]
        assert row["status"] == "skipped"
        (artifact,) = row["artifacts"]
        assert artifact["verify"]["reason"] == (
            f"the run's opset {opset} is below the model's minimum, 20"
        )
    assert Path("s/opset=13/.hydra/overrides.yaml").is_file()
    record = json.loads(Path("s/sweep.json").read_text())
    assert [point["exit_code"] for point in record["points"]] == [0, 2, 0]
    assert record["points"][1]["problems"] == [err.splitlines()[1].strip()]
    assert [cell["status"] for cell in record["models"][0]["cells"]] == [
        "skipped", "not_run", "skipped",
    ]  # fmt: skip


# What Hydra prints


def test_what_was_composed_is_gone_when_the_run_begins(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[weakref.ref[DictConfig]] = []
    resolve = resolution.resolve

    def resolves(config: DictConfig, without: str) -> dict[str, Any]:
        composed.append(weakref.ref(config))
        return resolve(config, without)

    def converts(*_: object, **__: object) -> ExitCode:
        assert composed.pop()() is None
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        return ExitCode.OK

    monkeypatch.setattr(resolution, "resolve", resolves)
    monkeypatch.setattr(start, "of_point", converts)
    thresholds = gc.get_threshold()
    for words in (["+experiment=one"], ["-m", "+experiment=one", "seed=1,2"]):
        code, _, told = run(*words)
        assert (code, told, composed) == (ExitCode.OK, "", [])
        # As a program finds it that calls for a run in its own process.
        assert gc.isenabled()
        assert (gc.get_threshold(), gc.get_freeze_count()) == (thresholds, 0)


def test_cfg_prints_the_configuration(run: Run) -> None:
    code, out, _ = run("--cfg", "job", "+experiment=one", "opset=18")
    assert code == 0
    assert "opset: 18\n" in out
    assert "source: conv_bn_relu" in out
    code, out, _ = run("--cfg", "job", "--package", "models.mine", "+experiment=one")
    assert (code, "source: conv_bn_relu" in out, "seed" in out) == (0, True, False)


def test_hydra_help(run: Run) -> None:
    code, out, _ = run("--hydra-help")
    assert code == 0
    assert "Hydra" in out


def test_info_says_where_it_was_composed_from(converter_command: Command) -> None:
    done = converter_command("--info", "searchpath")  # it sets up the root logger: a process
    assert done.returncode == 0
    assert "| main" in done.stdout


# Help, version, verbs


def test_help_lists_every_verb_and_flag(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(f"  {verb} " in out for verb in command_line.commands())
    assert all(len(line) <= 80 for line in out.splitlines())
    for word in ("-m", "--config-dir", "--cfg", "--debug", "CONVERTER_TRUST", "CONVERTER_ENV"):
        assert word in out
    assert run("-h")[1] == out


@pytest.mark.parametrize("key", ["nothing", "a..b", "\x02=1"])
def test_a_package_that_is_not_there_is_a_wrong_usage(run: Run, key: str) -> None:
    code, out, err = run("+experiment=one", "--cfg", "job", "--package", key)
    shown = key.replace("\x02", "\N{REPLACEMENT CHARACTER}")
    told = f"configuration: 1 problem\n  --package: there is no key {shown}.\n"
    assert (code, out, err) == (ExitCode.CONFIG, "", told)


def test_of_very_many_problems_not_all_are_printed(run: Run) -> None:
    code, _, err = run("+experiment=one", *(f"++models.mine.k{n}=1" for n in range(150)))
    assert code == ExitCode.CONFIG
    assert err.startswith("configuration: 150 problems\n")
    assert err.splitlines()[-1] == "  … and 50 more"
    assert len(err.splitlines()) == 102


@pytest.mark.parametrize("words", [("report",), ("inspect",), ("--config-dir",), ("validate",)])
def test_a_name_that_no_file_has_is_no_defect(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether a run has begun shows there, and tests before this one may have imported it.
    monkeypatch.delitem(sys.modules, "converter.runner.start", raising=False)
    assert command_line.main([*words, "x" * 300]) == ExitCode.CONFIG
    err = capsys.readouterr().err
    assert "is longer than a name of a file can be" in err
    assert "defect" not in err


def test_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("converter 0")


@pytest.mark.parametrize("verb", ["xyz", "qqqq"])
def test_an_unknown_verb_names_those_there_are(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main([verb]) == 2
    err = capsys.readouterr().err
    assert (
        f"usage: unknown command '{verb}'. The commands are: bundle, compare, convert, debug, "
        in err
    )


def test_every_verb_has_a_summary() -> None:
    assert all(command_line.summary(verb) for verb in command_line.commands())


def test_list_shows_name_task_inputs_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["list", "conv_bn*"]) == 0
    assert capsys.readouterr().out.split()[:4] == [
        "conv_bn_relu", "features", "input", "2x3x255x255",
    ]  # fmt: skip
    assert command_line.main(["list", "torchvision/resnet18", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == "torchvision/resnet18"
    assert entry["inputs"]["input"]["shape"] == [1, 3, 224, 224]
    assert set(entry) == {"name", "task", "parameters", "inputs", "outputs"}


@pytest.mark.parametrize("glob", ["*", "torchvision/*", "pitfalls/*"])
def test_list_fits_80_columns(glob: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["list", glob]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert not any(line.startswith(" ") for line in lines[:1])


def test_list_of_nothing_names_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["list", "resnt18"]) == 2
    err = capsys.readouterr().err
    assert "nothing matches 'resnt18'. Did you mean " in err
    assert "torchvision/resnet18" in err


def test_ctrl_c_says_what_it_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("registry.names", interrupt)
    assert command_line.main(["list"]) == 130
    assert capsys.readouterr().err == "list: interrupted\n"
    monkeypatch.setattr("converter.sweep.launch.run", interrupt)
    assert command_line.main(["+experiment=smoke"]) == 130
    assert capsys.readouterr().err == "interrupted before the run began\n"


# Real processes: what the parent imports


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["--version"], ["list"], ["opset=3", "+models.x={source: srcnn}"],
        ["inspect", "nope"], ["replay", "nope", "x"], ["verify", "nope", "x"], ["view", "nope"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_the_parent_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from converter.cli.command_line import main; main(sys.argv[1:]); "
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    line = f"{sys.executable} -m converter list | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_a_reader_that_went_away_before_the_end_is_no_error(tmp_path: Path) -> None:
    """A short listing is in Python's buffer when nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "converter", "list", "single_conv"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_console_script_is_the_same(converter_command: Command, tmp_path: Path) -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["converter"].partition(":")
    script = tmp_path / "bin" / "converter"  # as pip writes it
    script.parent.mkdir()
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    for words in (["list", "conv_bn*"], ["lst"], ["opset=3", "+models.x={source: srcnn}"]):
        done = subprocess.run(
            [sys.executable, str(script), *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        same = converter_command(*words)
        assert (done.returncode, done.stdout, done.stderr) == (
            same.returncode, same.stdout, same.stderr,
        )  # fmt: skip


def test_the_console_script_finds_the_modules_of_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/somewhere/bin", *sys.path[1:]])
    monkeypatch.setattr(sys, "argv", ["converter", "--version"])
    assert command_line.script() == 0
    assert sys.path[:2] == [str(tmp_path), "/somewhere/bin"]


def test_the_command_exits_as_it_says(converter_command: Command) -> None:
    done = converter_command("opset=3", "+models.x={source: srcnn}")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "configuration: 1 problem\n  opset: found 3; expected a whole number from 7 to 25.\n"
    )


def test_a_word_beside_a_locale_that_cannot_hold_it_is_refused(
    converter_command: Command, tmp_path: Path
) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = converter_command("validate", "größe.yaml", **ascii_only)
    assert done.returncode == 2, done.stdout
    assert "gr" in done.stderr
    assert "Set LC_ALL=C.UTF-8, and leave PYTHONUTF8 alone." in done.stderr
