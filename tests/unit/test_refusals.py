"""A wrong configuration as a person meets it: exit code 2 and the sentence, rows 1-20 and 23.

The sentences of the typed layer and of the rules are in ``test_validation.py`` and
``test_rules.py``; here one of each kind comes through the command.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.cli import command_line
from tests.unit.conftest import Run


def refused(run: Run, *words: str) -> str:
    """What a command that is wrong says; it writes nothing."""
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("configuration: ")
    assert "Traceback" not in err
    assert list(Path.cwd().iterdir()) == []
    return err


# Files (rows 1-5, 8)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("source: [1\nb: 2\n", "model/broken.yaml:2: not valid YAML: "),
        ("source: a\nsource: b\n", "model/broken.yaml:2: duplicate key 'source'. Remove one"),
        ("", "model/broken.yaml: is empty; a mapping is expected"),
        ("# @package models.broken\n", "a mapping is expected"),
        ("- 1\n", "model/broken.yaml:1: found a list at the root; a mapping is expected"),
        (
            "!!set {a, b}\n",
            "model/broken.yaml:1: found a set (!!set) at the root; a mapping is exp",
        ),
        ("17\n", "model/broken.yaml:1: found a single value at the root; a mapping is expected"),
        ("a: \0\n", "model/broken.yaml: contains a NUL byte"),
        ("source: x\nopset: 012\n", "model/broken.yaml:2: 012 would be read as an octal"),
        ("source: x\nopset: 012\n", 'quote it: "012".'),
        ("source: x\nopset: 1:30\n", 'quote it: "1:30".'),
        ("source: x\nverify: {atol: 1e400}\n", 'quote it: "1e400".'),
        ("source: !!python/name:os.system x\n", "model/broken.yaml:1: not valid YAML: "),
    ],
)
def test_a_file_that_cannot_be_read(run: Run, folder: Path, text: str, sentence: str) -> None:
    (folder / "model/broken.yaml").write_text(text)
    assert sentence in refused(run, "+model=broken")


def test_a_file_that_is_not_utf_8(run: Run, folder: Path) -> None:
    (folder / "model/broken.yaml").write_bytes(b"a: \xff\n")
    assert "model/broken.yaml:1: is not UTF-8" in refused(run, "+model=broken")


def test_aliases_that_explode(run: Run, folder: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (folder / "model/broken.yaml").write_text("\n".join(lines))
    assert "aliases expand to more than the limit of" in refused(run, "+model=broken")


@pytest.mark.parametrize(
    ("text", "words", "sentences"),
    [
        (
            "source: srcnn\n",
            ["+model=broken"],
            ["model/broken.yaml: has no `# @package` line", "line: # @package models.broken"],
        ),
        (
            "defaults: [/model: [mine]]\nseed: 3\n",
            ["+experiment=broken"],
            ["experiment/broken.yaml: has no `# @package` line", "line: # @package _global_"],
        ),
        (
            "models: [srcnn]\n# @package _global_\n",
            ["+experiment=broken"],
            ["experiment/broken.yaml: has no `# @package` line"],
        ),
    ],
)
def test_a_file_without_its_package_line(
    run: Run, folder: Path, text: str, words: list[str], sentences: list[str]
) -> None:
    (folder / words[0].lstrip("+").replace("=", "/")).with_suffix(".yaml").write_text(text)
    told = refused(run, *words)
    assert told.startswith("configuration: 1 problem\n")
    for sentence in sentences:
        assert sentence in told


def test_a_package_that_the_defaults_list_states_is_enough(run: Run, folder: Path) -> None:
    (folder / "model/plain.yaml").write_text("source: srcnn\n")
    text = "# @package _global_\ndefaults: [/model@models.here: plain]\nseed: x\n"
    (folder / "experiment/place.yaml").write_text(text)
    assert refused(run, "+experiment=place").splitlines()[1:] == [
        "  seed: found 'x'; expected a whole number from 0 to 4294967295."
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models: [srcnn]", "models: {file}: found a list; expected a mapping of names to models."),
        ("select: {a: 1}", "select: {file}: found a mapping; expected a list that is not empty"),
        ("verify: [1]", "verify: {file}: found a list; expected a mapping of rtol, atol, "),
        ("store: [1]", "store: {file}: found a list; expected a mapping of path, use."),
    ],
)
def test_a_list_for_a_mapping_in_a_file(run: Run, folder: Path, text: str, sentence: str) -> None:
    file = folder / "experiment/kind.yaml"
    file.write_text(f"# @package _global_\n{text}\n")
    assert sentence.format(file=file) in refused(run, "+experiment=kind")


# Values and names (rows 6-20, 23)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["++seeed=3"], "seeed: unknown key. Did you mean seed?"),
        (["opset=latest"], "opset: found 'latest'; expected a whole number from 7 to 25."),
        (["opset=012"], "opset: found '012'; expected a whole number from 7 to 25."),
        (["verify.rtol=nan"], "verify.rtol: found nan; expected a finite number."),
        (["verify.atol=-1"], "verify.atol: found -1; expected a number of 0 or more."),
        (["seed=???"], "seed: a value is missing (???)"),
        (["seed=${nope}"], "seed: ${nope} cannot be resolved"),
        (["seed=${oc.env:HOME}"], "export CONVERTER_ENV=HOME"),
        (["select=[min*,nope]"], "select: 'nope' matches no model of this run."),
        (["+models.MINE={source: srcnn}"], "'mine' and 'MINE' differ only in case"),
        (["+models={../x: {source: srcnn}}"], "'../x' is not a name"),
        (["opset=13", "exporter=dynamo"], "(torchscript supports 7 to 23)"),
        (["+models.mine.dynamic_axes={inp: [0]}"], "(inputs: input; outputs: output)"),
        (
            ["+models.mine.dynamic_axes={input: {0: a}}", "+models.mine.dynamic_axes.input.0=b"],
            "models.mine.dynamic_axes.input.0: the key 0 is stated twice",
        ),
        (["exporter.name=onnxscript"], "Did you mean dynamo?"),
        (["++benchmark.providers=[gpu]"], "Did you mean cuda?"),
        (["device=gpu"], "device: found 'gpu'; expected auto or cpu or cuda. Did you mean cuda?"),
        (["select=min*"], "each item text that is not empty. Write 'select=[min*]'."),
        (["include=srcnn"], "Write 'include=[srcnn]'."),
        (["+models.x=torchvision/resnet19"], "the installed torchvision has no 'resnet19'."),
        (["+models.x=[srcnn]"], "models.x: found a list; expected a registry name or a mapping"),
        (["+models.x=3"], "models.x: found 3; expected a registry name or a mapping of source,"),
        (["simplifier.name=onnxslm"], "expected onnxsim or onnxslim"),
        (["+models.mine.outputs=[a, a]"], "'a' is listed more than once."),
        (["models.mine.source=srcn"], "the registry has no 'srcn'. Did you mean srcnn"),
    ],
)
def test_a_wrong_configuration(run: Run, words: list[str], sentence: str) -> None:
    assert sentence in refused(run, "+experiment=one", *words)


def test_a_secret_is_never_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    words = ("+experiment=one", "seed=${oc.env:SECRET}")
    assert "hunter2" not in refused(run, *words)
    assert "hunter2" not in run(*words, "--debug")[2]


def test_one_problem_a_line_under_their_number(run: Run) -> None:
    err = refused(run, "+experiment=one", "opset=3", "simplify=3", "+models.x={}")
    assert err.splitlines()[0] == "configuration: 3 problems"
    assert len(err.splitlines()) == 4


# Hydra's own errors


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["models.mine.seeed=3"], "models.mine.seeed: unknown key."),
        (
            ["models.mine.simplify=false"],
            "models.mine.simplify: no file of this run states this key. "
            "Write ++models.mine.simplify=false",
        ),
        (
            ["models.mine.verify.rtoll=3"],
            "models.mine.verify.rtoll: unknown key. Did you mean rtol",
        ),
        (["models.mime.opset=3"], "this run has no model 'mime'. Did you mean mine?"),
        (["opst=3"], "opst: unknown key. Did you mean opset?"),
        (["exporter.nme=3"], "exporter.nme: unknown key. Did you mean name?"),
        (["hydra.run.dri=3"], "hydra.run.dri: unknown key. Did you mean dir?"),
        (["+opset=3"], "+opset: is stated already. Write opset=VALUE"),
        (["~models.mime"], "~models.mime: there is nothing of that name to remove. Did you mean"),
        (["opset=13,15"], "For a sweep add -m; for a list write opset=[13,15]"),
        (["opset=range(13,15)"], "opset=range(13,15): has several values. For a sweep add -m"),
        (["opset=[1"], "opset=[1: is not a valid override"),
        (["exporter=dynamoo"], "exporter: there is no exporter 'dynamoo'. Did you mean dynamo?"),
        (["exporter=onnxscript"], "there is no exporter 'onnxscript'. Did you mean dynamo?"),
        (["benchmark=gpu"], "benchmark: there is no benchmark 'gpu'. Did you mean cuda?"),
        (["models=[srcnn]"], "models: found a list; expected a mapping of names to models."),
        (["models=[srcnn]"], "Write '+models.NAME=SOURCE', in a file models: {NAME: SOURCE}."),
        (["verify=[1]"], "verify: expected the name of a preset: standard or strict."),
        (["verify=3"], "For one of its keys write ++verify.KEY=VALUE"),
        (["++verify=[1]"], "For one of its keys write ++verify.KEY=VALUE"),
        (
            ["+models.x=srcnn", "models.x.opset=18"],
            "models.x.opset: models.x is stated by its source alone. Write it as a mapping, "
            "models.x: {source: NAME}",
        ),
        (["+model=mime"], "model: there is no model 'mime'. Did you mean mine?"),
    ],
)
def test_an_override_that_does_not_fit(run: Run, words: list[str], sentence: str) -> None:
    assert sentence in refused(run, "+experiment=one", *words)


@pytest.mark.parametrize(
    ("stated", "given", "found", "there"),
    [
        ("[a, b]", "{path: c}", "a mapping", "a list"),
        ("{path: a}", "[c]", "a list", "a mapping"),
    ],
)
def test_a_list_and_a_mapping_that_both_may_stand_replace_each_other(
    run: Run, folder: Path, stated: str, given: str, found: str, there: str
) -> None:
    text = (folder / "experiment/one.yaml").read_text()
    (folder / "experiment/kind.yaml").write_text(f"{text}\npublish_to: {stated}\n")
    said = refused(run, "+experiment=kind", f"publish_to={given}")
    assert f"publish_to: found {found}, where a file of this run has {there}." in said
    assert f"To replace that write ~publish_to '+publish_to={given}'" in said


def test_a_refused_override_hides_nothing_else(run: Run) -> None:
    words = (
        "opst=3",
        "seed=x",
        "~nope",
        "exporter=dynamoo",
        "++models.mine.opset=99",
        "verify.a=1",
    )
    text = refused(run, "+experiment=one", *words)
    assert "configuration: 6 problems\n" in text
    for sentence in (
        "opst: unknown key. Did you mean opset?",
        "~nope: there is nothing of that name to remove.",
        "exporter: there is no exporter 'dynamoo'. Did you mean dynamo?",
        "verify.a: unknown key.",
        "seed: found 'x'; expected a whole number",
        "models.mine.opset: found 99; expected",
    ):
        assert sentence in text


def test_nothing_is_said_of_the_rest_when_it_is_not_known_what_is_converted(run: Run) -> None:
    text = refused(run, "opst=3", "+experiment=oen", "seed=x")
    assert "configuration: 1 problem\n  experiment: there is no experiment 'oen'." in text
    assert "this run has no model 'mime'" in refused(run, "+experiment=one", "models.mime=3")


def test_a_sweep_tells_all_refused_overrides(run: Run) -> None:
    text = refused(run, "-m", "+experiment=one", "opset=13,15", "opst=3", "sed=4")
    assert "configuration: 2 problems\n" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["+experiment=oen"], "experiment: there is no experiment 'oen'. Did you mean one?"),
        (["experiment=one"], "experiment: is not in the defaults, so it is added. Write +exp"),
        (["--nope"], "usage: unrecognized arguments: --nope. See python -m converter --help."),
        (["--cfg", "x"], "usage: argument --cfg/-c: invalid choice: 'x'"),
        ([], "models: there is nothing to convert. Name an experiment (+experiment=smoke)"),
    ],
)
def test_a_command_that_does_not_fit(run: Run, words: list[str], sentence: str) -> None:
    assert sentence in refused(run, *words)


@pytest.mark.parametrize("verb", ["plan", "resume"])
def test_a_command_that_is_not_the_first_word(run: Run, verb: str) -> None:
    text = refused(run, verb, "+experiment=one")
    assert (
        f"usage: the command '{verb}' comes first. Write python -m converter {verb} --con" in text
    )


def test_defaults_in_the_wrong_order(run: Run, folder: Path) -> None:
    text = "# @package _global_\ndefaults:\n  - override /verify: strict\n  - /model: [mine]\n"
    (folder / "experiment/order.yaml").write_text(text)
    assert "the overrides come last" in refused(run, "+experiment=order")


def test_a_config_dir_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--config-dir", "nope", "+experiment=one"]) == 2
    assert "--config-dir: there is no folder " in capsys.readouterr().err


def test_a_file_that_would_not_be_read_is_refused(run: Run, folder: Path) -> None:
    (folder / "experiment/zoo.yaml").write_text("# @package _global_\n")
    assert (
        "experiment/zoo.yaml has the name of one of the converter's own, and is not read. Rename it"
    ) in refused(run, "+experiment=one")


def test_debug_adds_the_traceback(run: Run) -> None:
    code, _, err = run("+experiment=oen", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert "configuration: 1 problem\n" in err


def test_a_number_longer_than_python_reads_names_its_key(run: Run, folder: Path) -> None:
    sentence = "seed: a number of 5000 digits; expected 400 at most."
    assert sentence in refused(run, "+experiment=zoo", f"seed={'9' * 5000}")
