"""The documents say what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from converter.display import summary
from converter.model.errors import Code

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
ERRORS = (REPOSITORY / "docs" / "errors.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("docs/**/*.md")),
]


def marked_command(name: str) -> str:
    """The one line of the README's code block after ``<!-- NAME -->``."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*)\n```", README)
    assert found is not None
    return found[1]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {normalised(name): version for name, version in pins}


@pytest.mark.parametrize("code", list(Code))
def test_every_error_code_has_a_section_that_says_how_to_fix_it(code: Code) -> None:
    found = re.search(rf"^### {code}\n(.*?)(?=^##|\Z)", ERRORS, re.MULTILINE | re.DOTALL)
    assert found is not None
    for part in ("**Means** ", "**Names** ", "**Fix** "):
        assert part in found[1]


def test_the_error_page_has_no_section_for_a_code_that_is_gone() -> None:
    assert set(re.findall(r"^### (\w+)$", ERRORS, re.MULTILINE)) == set(Code)


def test_the_error_page_says_which_codes_nothing_gives_yet() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "converter").rglob("*.py")
    )
    given = set(re.findall(r"\bCode\.(\w+)", sources))
    found = re.search(r"^Nothing in this version gives these yet: (.*)\.$", ERRORS, re.MULTILINE)
    reserved = set(found[1].split(", ")) if found else set()
    assert reserved == set(Code) - given, "correct the sentence at the top of docs/errors.md"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = REPOSITORY / document
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_every_name_of_a_link_in_the_readme_has_its_address() -> None:
    named = set(re.findall(r"\]\[([\w-]+)\]", README))
    assert named == set(re.findall(r"^\[([\w-]+)\]: https://", README, re.MULTILINE))


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) < 120
    pages = {path for path in DOCUMENTS if path.startswith("docs/") and path != "docs/index.md"}
    assert pages <= set(re.findall(r"\]\((docs/[^)#]+)", README))


def test_the_short_form_differs_from_the_first_command_in_the_experiment_alone() -> None:
    assert marked_command("smoke") == marked_command("run").replace("=zoo", "=smoke")


def test_the_readme_commands_install_the_tested_versions() -> None:
    for command in map(marked_command, ("smoke", "run", "test")):
        assert command.startswith("python3 -m venv .venv && ")
        assert "pip install -c constraints.txt -e " in command


def test_the_readme_commands_use_extras_and_markers_that_exist() -> None:
    pytest_options = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    markers = {
        line.split(":")[0] for line in pytest_options["tool"]["pytest"]["ini_options"]["markers"]
    }
    assert set(re.findall(r"not (\w+)", marked_command("test"))) <= markers
    for command in (marked_command("run"), marked_command("test")):
        found = re.search(r"'\.\[([\w,]+)\]'", command)
        assert found is not None
        assert set(found[1].split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_experiments_that_are_named_exist(document: str) -> None:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    for name in set(re.findall(r"\+experiment=(\w+)", text)) - {"mine"}:  # `init` writes that one
        assert (REPOSITORY / "configs" / "experiment" / f"{name}.yaml").is_file(), name


def test_models_that_are_overridden_exist() -> None:
    zoo = (REPOSITORY / "configs" / "experiment" / "zoo.yaml").read_text(encoding="utf-8")
    text = (REPOSITORY / "docs/howto/own-zoo.md").read_text(encoding="utf-8")
    found = set(re.findall(r"models\.(\w+)\.opset|~models\.(\w+)", text))
    assert found
    for name in found:
        model = "".join(name)
        assert (REPOSITORY / "configs" / "model" / f"{model}.yaml").is_file() or model in zoo


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_files_that_are_named_exist(document: str) -> None:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    for name in set(re.findall(r"`((?:converter|registry|configs|tests|docs)/[\w./]+)`", text)):
        if "NAME" not in name:
            assert (REPOSITORY / name).exists(), name


def test_every_dependency_is_pinned() -> None:
    extras = [entry for entries in PROJECT["optional-dependencies"].values() for entry in entries]
    wanted = {re.split(r"[<>=\[]", entry)[0] for entry in [*PROJECT["dependencies"], *extras]}
    assert {normalised(name) for name in wanted} <= set(constraints())


def test_constraints_are_exact_and_name_no_index() -> None:
    for name, version in constraints().items():
        assert re.fullmatch(r"[\w.+!]+", version), name


def test_the_changelog_has_the_version() -> None:
    assert f"## {PROJECT['version']}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_page_of_each_code_is_a_section_of_the_document() -> None:
    anchors = {heading.lower() for heading in re.findall(r"^### (\w+)$", ERRORS, re.MULTILINE)}
    for code in Code:
        document, _, anchor = summary.page(code).partition("#")
        assert (REPOSITORY / document).is_file()
        assert anchor in anchors, f"docs/errors.md has no section {code}"
