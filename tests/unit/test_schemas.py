"""The schemas follow the types, describe every key, and fit the files that people write."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import TypeAdapter

from converter.model import batch, spec, wording
from converter.model.base import Frozen
from converter.plugins import loader
from converter.schemas import __main__ as command
from converter.schemas import configuration, docstrings, files, keys

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = sorted((REPOSITORY / "configs").rglob("*.yaml"))
TEXTS = files.texts()
SCHEMAS = configuration.schemas(built_in=True)
MODELINE = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)

Node = dict[str, Any]


def problems(name: str, text: str) -> list[str]:
    """What an editor would mark in a file: places and messages."""
    return [
        f"{error.json_path}: {error.message}"
        for error in Draft7Validator(SCHEMAS[name]).iter_errors(plain(yaml.safe_load(text)))
    ]


def plain(value: Any) -> Any:
    """As JSON has it: axes are keys, and text there."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def properties(node: Any, place: str = "") -> Iterator[tuple[str, Node]]:
    """All keys of a schema, those of its definitions too."""
    if isinstance(node, dict):
        for key, inner in node.items():
            if key == "properties":
                yield from ((f"{place}/{name}", about) for name, about in inner.items())
            if key not in ("default", "examples"):
                yield from properties(inner, f"{place}/{key}")
    elif isinstance(node, list):
        for inner in node:
            yield from properties(inner, place)


# The files in docs/


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_the_documents_follow_the_types(name: str) -> None:
    text = files.place(name).read_text(encoding="utf-8")
    assert text == TEXTS[name], "run `python -m converter.schemas` and commit the result"


def test_there_are_no_other_schemas() -> None:
    assert {path.name for path in files.SCHEMAS.glob("*.json")} == set(TEXTS) - {files.KEYS}


def test_the_manifest_is_closed_and_versioned() -> None:
    manifest = json.loads(TEXTS["manifest.schema.json"])
    assert manifest["additionalProperties"] is False
    assert manifest["properties"]["schema_version"]["const"] == "2"


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {files.KEYS}))
def test_a_schema_is_valid_and_has_a_name_of_its_own(name: str) -> None:
    schema = json.loads(TEXTS[name])
    assert schema["$id"] == f"urn:onnx-zoo-converter:schema:{name.removesuffix('.schema.json')}"
    draft = Draft7Validator if "draft-07" in schema["$schema"] else Draft202012Validator
    draft.check_schema(schema)


# Every key


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_key_has_a_description_and_an_example_that_fits(name: str) -> None:
    found = list(properties(SCHEMAS[name]))
    assert found
    for place, about in found:
        assert re.fullmatch(r"[A-Z`].*\S\.", about.get("description", "")), place
        assert about.get("examples"), place
        validator = Draft7Validator({**about, "definitions": SCHEMAS[name]["definitions"]})
        for example in about["examples"]:
            assert not list(validator.iter_errors(plain(example))), (place, example)
        if "default" in about:
            assert not list(validator.iter_errors(plain(about["default"]))), place


def test_every_key_but_those_that_must_be_stated_has_a_default() -> None:
    places = (place for place, about in properties(SCHEMAS["model"]) if "default" not in about)
    assert set(places) == {
        # Two plugins have it, each with a default of its own.
        "/definitions/VariantSpec/per_channel",
        "/definitions/InputSpec/shape",
        "/definitions/VerifyCase/label",
        "/definitions/Checkpoint/checkpoint",
        "/definitions/Call/_target_",
        "/definitions/Generate/first",
        "/definitions/Generate/token",
        "/definitions/Expect/status",
        "/definitions/Expect/code",
        "/definitions/Expect/reason",
        "/definitions/MetricSpec/_target_",
    }
    for name in set(SCHEMAS) - {"model", "experiment"}:
        left = {place for place, about in properties(SCHEMAS[name]) if "default" not in about}
        assert {place.rpartition("/")[2] for place in left} <= {"per_channel"}


TYPES = [
    kind
    for module in (spec, batch)
    for kind in vars(module).values()
    if inspect.isclass(kind) and issubclass(kind, Frozen) and kind.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_a_docstring_has_a_line_for_each_key_and_examples_of_their_types(
    kind: type[Frozen],
) -> None:
    lines = docstrings.lines(kind)
    assert set(lines) == set(kind.model_fields)
    for name, field in kind.model_fields.items():
        for example in lines[name].examples:
            TypeAdapter(wording.of_field(field)).validate_json(json.dumps(plain(example)))


def test_a_line_of_a_docstring_may_be_long_and_name_several_keys() -> None:
    class Options(Frozen):
        """What it may be told; ``None`` is nothing.

        Not this.

        Attributes:
            one, two: said of
                both: ``a``. Example:
                ``{b: [1, "c"]}``.
            three: no example.
        """

    lines = docstrings.lines(Options)
    assert docstrings.summary(Options) == "What it may be told; `null` is nothing."
    assert lines["one"] == docstrings.Line("Said of both: `a`.", [{"b": [1, "c"]}])
    assert lines["two"] == lines["one"]
    assert lines["three"] == docstrings.Line("No example.", [])


# Files


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_file_names_its_schema_and_fits_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    (named,) = MODELINE.findall(text)
    group = path.parent.name
    kind = "experiment" if path.parent == REPOSITORY / "configs" else group
    assert (path.parent / named).resolve() == files.SCHEMAS / f"{kind}.schema.json"
    # Hydra reads the package from the first line only.
    assert ("# @package" in text) == text.startswith("# @package")
    assert problems(kind, text) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model", "source: resnet18"),
        ("model", "source: {file: net.py, name: Net}\nweights: ???\nopset: ${seed}"),
        ("model", "inputs: {x: {dtype: int64}}"),  # another file of `defaults` has the shape
        ("model", "inputs: ${models.other.inputs}\nsimplify: ${simplify}"),
        ("model", "dynamic_axes: {x: {0: batch}, y: [0, 1]}\nvariants: []"),
        ("model", "defaults: [alexnet, _self_]"),
        ("experiment", "models: {a: torchvision/resnet18, b: {opset: 18}}"),
        ("experiment", "defaults: [seeds, {override /benchmark: off}, {/model: [a, b]}]"),
        ("experiment", "benchmark: off"),
        ("experiment", 'benchmark: "off"'),  # what an editor makes of it
        ("experiment", "verify: {rtol: 1.0e-3}\nhydra: {run: {dir: outputs/mine}}"),
        ("experiment", "variant: {fp16: {optional: true, keep_io_types: false}}\nseed: ???"),
        ("executor", "name: ${name}\nworkers: 2"),
    ],
)
def test_what_a_run_accepts_is_not_marked(name: str, text: str) -> None:
    assert problems(name, text) == []


@pytest.mark.parametrize(
    ("name", "text", "place", "word"),
    [
        ("model", "opst: 3", "$", "'opst' was unexpected"),
        ("model", "opset: 99", "$.opset", "99"),
        ("model", "inputs: {x: {shape: [1], dtyp: int8}}", "$.inputs", "dtyp"),
        ("model", "simplify: maybe", "$.simplify", "maybe"),
        ("model", "exporter: dynamic", "$.exporter", "dynamic"),
        ("model", "dynamic_axes: {x: {batch: 0}}", "$.dynamic_axes", "batch"),
        ("model", "verify: {cases: [{inputs: {}}]}", "$.verify", "inputs"),
        ("model", "hydra: {}", "$", "hydra"),
        ("experiment", "device: gpu", "$.device", "gpu"),
        ("experiment", "exporter: dynamo", "$.exporter", "dynamo"),
        ("experiment", "verify: {cases: []}", "$.verify", "cases"),
        ("experiment", "models: {a: 3}", "$.models", "3"),
        ("experiment", "reports: [htm]", "$.reports", "htm"),
        ("benchmark", "providers: [gpu]", "$.providers", "gpu"),
        ("benchmark", "options: {cuda: {tf32: 1}}", "$.options", "tf32"),
        ("simplifier", "skip: []", "$", "skip"),
        ("variant", "op_block_list: Softmax", "$.op_block_list", "Softmax"),
    ],
)
def test_what_a_run_refuses_is_marked(name: str, text: str, place: str, word: str) -> None:
    (found,) = problems(name, text)
    assert found.startswith(f"{place}: ")
    assert word in found


def test_a_file_with_two_mistakes_has_two_marks() -> None:
    assert len(problems("model", "opst: 3\nopset: 99")) == 2


# Plugins of other distributions


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of ``tests/plugin``, as if it were installed."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "tests" / "plugin"))
    own = {
        "simplifiers": EntryPoint("acme_name", "acme_plugins.simplifier", ""),
        "providers": EntryPoint("acme_cpu", "acme_plugins.provider", ""),
    }
    points = {kind: [point] for kind, point in own.items()}
    monkeypatch.setattr(loader, "found", lambda k: loader.combined(k, points.get(k, [])))
    yield
    for name in [name for name in sys.modules if name.startswith("acme_plugins")]:
        del sys.modules[name]


@pytest.mark.usefixtures("acme")
def test_a_folder_of_ones_own_knows_the_plugins_that_are_installed() -> None:
    simplifier = configuration.schemas(built_in=False)["simplifier"]["properties"]
    assert "acme_name" in simplifier["name"]["anyOf"][0]["enum"]
    assert simplifier["stamp"]["description"] == "Option of `acme_name`: a name for the graph."
    assert simplifier["stamp"]["examples"] == ["acme"]
    assert "acme_name" in files.texts(built_in=False)[files.KEYS]


@pytest.mark.usefixtures("acme")
def test_the_documents_know_the_built_in_plugins_alone() -> None:
    assert files.texts() == TEXTS


@pytest.mark.usefixtures("acme")
def test_an_option_without_a_word_about_it_is_described_by_its_name() -> None:
    options = configuration.schemas(built_in=False)["benchmark"]["properties"]["options"]
    acme_cpu = options["anyOf"][0]["properties"]["acme_cpu"]["anyOf"][0]["properties"]
    about = acme_cpu["arena_extend_strategy"]
    assert about["description"] == "arena_extend_strategy of acme_cpu."


# The command, and the page


def test_the_command_writes_to_a_folder_and_says_how_to_name_a_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "my_zoo" / "schemas"
    monkeypatch.setattr(sys, "argv", ["schemas", str(target)])
    command.main()
    assert {path.name for path in target.iterdir()} == set(TEXTS)
    said = capsys.readouterr().out
    assert f"wrote {target / 'model.schema.json'}" in said
    assert "# yaml-language-server: $schema=RELATIVE/PATH/TO/experiment.schema.json" in said


def test_without_a_checkout_the_command_asks_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["schemas"])
    monkeypatch.setattr(files, "SCHEMAS", tmp_path / "nowhere")
    with pytest.raises(SystemExit):
        command.main()
    assert "this is no checkout: say where to write" in capsys.readouterr().err


def test_the_page_has_a_row_for_every_key_with_type_and_default() -> None:
    page = TEXTS[files.KEYS]
    rows = re.findall(r"^\| `(?:[\w.]+\.)?(\w+)` \|", page, re.MULTILINE)
    named = {place.rpartition("/")[2] for place, _ in properties(SCHEMAS["experiment"])}
    # Names of plugins stand in the rows of their options, and two keys in files alone.
    plugins = {*loader.names("exporters"), *loader.names("providers")}
    assert named - set(rows) - plugins == {"defaults", "hydra"}
    assert (
        "| `opset` | whole number (7 to 25) | `17` | The ONNX opset of the default domain." in page
    )
    assert "| `opset` | whole number (7 to 25), [opset range](#opset-range) or `null` |" in page


def test_the_page_has_every_section_that_it_links_to() -> None:
    page = TEXTS[files.KEYS]
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    slugs = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= slugs
    assert set(headings) == set(keys.HEADINGS.values())
