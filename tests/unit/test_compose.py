"""Hydra as it is driven here: files, overrides, interpolations, folders, sweeps."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from converter.config.resolution import MAX_ADDED, MAX_CHARACTERS, MAX_NESTED
from converter.model.errors import ConfigError, RunError
from tests.unit.conftest import Composer


def test_the_defaults_are_those_of_the_types(composed: Composer) -> None:
    from converter.config import standard
    from converter.config.validation import parse
    from converter.plugins import simplifiers

    (point,) = composed("+models.m={source: conv_bn_relu}")
    spec = parse(point.config)
    assert spec.simplifier.options == simplifiers.load("onnxsim").Options().model_dump()
    assert spec.model_copy(update={"models": {}}) == standard.spec()
    assert "hydra" not in point.config


def test_strict_asks_for_damage_and_leaves_tolerances_to_be_derived(composed: Composer) -> None:
    (point,) = composed("+experiment=one", "verify=strict")
    assert point.config["verify"] == {
        "rtol": None,
        "atol": None,
        "mutations": 8,
        "budget": None,
        "providers": [],
        "unreached": "fail",
    }


def test_experiments_models_and_overrides_compose(composed: Composer) -> None:
    (point,) = composed(
        "+experiment=[one,two]",
        "models.mine.opset.min=15",
        "++models.other.opset=13",
        "+models.new={source: srcnn}",
    )
    assert point.config["seed"] == 1
    assert point.config["models"] == {
        "mine": {"source": "conv_bn_relu", "opset": {"min": 15}},
        "other": {"source": "conv_bn_relu", "opset": 13},
        "new": {"source": "srcnn"},
    }
    assert point.experiment == "one+two"
    (point,) = composed("+experiment=[one,two]", "~models.mine")
    assert list(point.config["models"]) == ["other"]


def test_records_show_the_configuration_unresolved(
    composed: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVERTER_ENV", "OTHER, TOKEN")
    monkeypatch.setenv("TOKEN", "hunter2")
    (point,) = composed("+experiment=one", "++models.mine.tags=['${oc.env:TOKEN}']")
    assert point.config["models"]["mine"]["tags"] == ["hunter2"]
    directory = point.claim()
    texts = [path.read_text() for path in (directory / ".hydra").iterdir()]
    assert len(texts) == 3
    assert not any("hunter2" in text for text in [*texts, point.saved["config"], *point.overrides])
    assert "${oc.env:TOKEN}" in point.saved["config"]


def test_the_hash_is_of_the_configuration_not_of_the_place(composed: Composer) -> None:
    (one,) = composed("+experiment=one")
    (same,) = composed("+experiment=one", "hydra.run.dir=elsewhere")
    (other,) = composed("+experiment=one", "seed=2")
    assert one.sha256 == same.sha256 != other.sha256


def test_an_unquoted_off_in_a_defaults_list_is_the_choice(composed: Composer, folder: Path) -> None:
    text = "# @package _global_\ndefaults:\n  - /model: [mine]\n  - override /benchmark: off\n"
    (folder / "experiment/off.yaml").write_text(text)
    (point,) = composed("+experiment=off")
    assert point.config["benchmark"] == {"providers": []}


# The run directory


def test_the_default_directory_is_by_experiment_and_time(composed: Composer) -> None:
    (point,) = composed("+experiment=one")
    directory = point.claim()
    assert directory.parent == Path.cwd() / "outputs/one"
    (point,) = composed("+models.m={source: srcnn}")
    assert point.claim().parent == Path.cwd() / "outputs/adhoc"


def test_runs_of_the_same_second_get_different_directories(composed: Composer) -> None:
    claimed = [composed("+experiment=one")[0].claim() for _ in range(4)]
    assert len(set(claimed)) == 4


def test_nothing_is_written_before_it_is_claimed(composed: Composer) -> None:
    composed("+experiment=one", "hydra.run.dir=here")
    assert list(Path.cwd().iterdir()) == []


def test_a_chosen_directory_may_exist_and_be_empty(composed: Composer) -> None:
    Path("here").mkdir()
    (point,) = composed("+experiment=one", "hydra.run.dir=here")
    assert point.claim() == Path.cwd() / "here"


def test_a_directory_that_holds_a_run_is_left_alone(composed: Composer) -> None:
    Path("here").mkdir()
    Path("here/manifest.json").write_text("{}")
    before = os.stat("here").st_mtime_ns
    with pytest.raises(ConfigError, match=r"here already holds a run\. .*resume"):
        composed("+experiment=one", "hydra.run.dir=here")
    assert os.listdir("here") == ["manifest.json"]
    assert os.stat("here").st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"hydra\.sweep\.dir: .*already holds a run"):
        composed("-m", "+experiment=one", "hydra.sweep.dir=here")


def test_a_directory_with_other_files_is_refused(composed: Composer) -> None:
    Path("here").mkdir()
    Path("here/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not empty\. Name a new or an empty folder"):
        composed("+experiment=one", "hydra.run.dir=here")


def test_a_directory_that_cannot_be_made_is_a_failed_run(composed: Composer) -> None:
    Path("file").write_text("")
    (point,) = composed("+experiment=one", "hydra.run.dir=file/run")
    with pytest.raises(RunError, match=r"file/run cannot be written: Not a directory"):
        point.claim()
    (point,) = composed("+experiment=one", "hydra.run.dir=/proc/run")
    with pytest.raises(RunError, match="/proc/run cannot be written"):
        point.claim()


# Interpolations (rows 10-12)


def refusal(composed: Composer, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        composed(*words)
    return str(caught.value)


def test_a_missing_value_names_its_key(composed: Composer) -> None:
    message = refusal(composed, "+experiment=one", "models.mine.source=???", "seed=???")
    assert message.splitlines() == [
        "seed: a value is missing (???). Give seed=VALUE.",
        "models.mine.source: a value is missing (???). Give models.mine.source=VALUE.",
    ]


def test_an_interpolation_that_cannot_resolve_names_key_and_expression(composed: Composer) -> None:
    message = refusal(composed, "+experiment=one", "seed=${nope.x}")
    assert message == ("seed: ${nope.x} cannot be resolved: Interpolation key 'nope.x' not found.")
    message = refusal(composed, "+experiment=one", "seed=${seed}")
    assert message.startswith("seed: ${seed} cannot be resolved: ")
    assert "cannot be resolved" in refusal(composed, "+experiment=one", "seed=${nope:1}")


def test_interpolations_that_multiply_are_stopped(composed: Composer, folder: Path) -> None:
    lines = [f"a{n}: " + json.dumps([f"${{..a{n - 1}}}"] * 8) for n in range(1, 9)]
    text = "\n".join(["# @package models.bomb.kwargs", "a0: [0]", *lines])
    (folder / "model/bomb.yaml").write_text(text)
    started = time.process_time()  # not what other processes take
    message = refusal(composed, "+model=bomb")
    assert f"interpolations add more than the limit of {MAX_ADDED} values" in message
    assert time.process_time() - started < 5
    assert "cannot be resolved" in refusal(composed, "+experiment=one", "models=${models}")


def test_what_stands_at_several_places_is_the_same_there_and_no_shared_object(
    composed: Composer, folder: Path
) -> None:
    text = "a: [1, {b: '${seed}'}]\nx: '${.a}'\ny: {z: '${..a}'}\n"
    (folder / "model/same.yaml").write_text(f"# @package models.m.kwargs\n{text}")
    (point,) = composed("+model=same", "seed=3")
    kwargs = point.config["models"]["m"]["kwargs"]
    assert kwargs["a"] == kwargs["x"] == kwargs["y"]["z"] == [1, {"b": 3}]
    assert len({id(kwargs["a"]), id(kwargs["x"]), id(kwargs["y"]["z"])}) == 3


def test_levels_that_interpolations_add_are_counted_wherever_they_come_from(
    composed: Composer, folder: Path
) -> None:
    lines = [f"a{n}: ['${{..a{n - 1}}}']" for n in range(1, 60)]
    text = "\n".join(["# @package models.deep.kwargs", "a0: [0]", *lines])
    (folder / "model/deep.yaml").write_text(text)
    assert "(or 50 levels)" in refusal(composed, "+model=deep")


def test_a_nul_in_a_value_is_named(composed: Composer, folder: Path) -> None:
    (folder / "model/nul.yaml").write_text('# @package models.m\nsource: "a\\0b"\n')
    assert "models.m.source: has a NUL character" in refusal(composed, "+model=nul")


def test_text_that_doubles_at_each_level_is_stopped(composed: Composer, folder: Path) -> None:
    lines = [f'a{n}: "${{.a{n - 1}}}${{.a{n - 1}}}"' for n in range(1, 40)]
    text = "\n".join(["# @package models.bomb.kwargs", "a0: x", *lines])
    (folder / "model/bomb.yaml").write_text(text)
    # 2 to the power of 39 steps would not end before the tests do.
    message = refusal(composed, "+model=bomb").splitlines()
    assert len(message) == 1
    assert message[0].endswith(
        f"cannot be resolved: it leads through more than {MAX_NESTED} other interpolations."
    )
    (folder / "model/bomb.yaml").write_text(
        f"# @package models.bomb.kwargs\na: {'x' * 60_000}\nb: ${{.a}}${{.a}}\n"
    )
    message = refusal(composed, "+model=bomb").splitlines()
    assert len(message) == 1
    assert message[0].endswith(f"it comes to more than {MAX_CHARACTERS} characters.")


def test_the_environment_is_closed_but_for_named_variables(
    composed: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    words = ("+experiment=one", "seed=${oc.env:SECRET}")
    message = refusal(composed, *words)
    assert message.startswith("seed: ${oc.env:SECRET} cannot be resolved: ")
    assert "export CONVERTER_ENV=SECRET)" in message
    assert "hunter2" not in message
    monkeypatch.setenv("CONVERTER_ENV", "A,B")
    assert "export CONVERTER_ENV=A,B,SECRET)" in refusal(composed, *words)
    monkeypatch.setenv("CONVERTER_ENV", "SECRET")
    assert composed(*words)[0].config["seed"] == "hunter2"
    monkeypatch.delenv("SECRET")
    assert "the environment variable SECRET is not set" in refusal(composed, *words)
    assert composed("+experiment=one", "seed=${oc.env:SECRET,3}")[0].config["seed"] == "3"


def test_hydras_own_section_may_not_read_it_either(
    composed: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    for word in ("hydra.run.dir=${oc.env:SECRET}/x", "hydra.job.env_copy=[SECRET]"):
        message = refusal(composed, "+experiment=one", word)
        assert "the environment variable SECRET may not be read here" in message
        assert "hunter2" not in message
