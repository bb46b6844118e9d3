"""examples/onboarding without its libraries: the lists agree, and the table counts right."""

from __future__ import annotations

import ast
import re

import pytest
import yaml

from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "onboarding"
FILES = {path.stem: path for path in (EXAMPLE / "model").glob("*.yaml")}
README = (EXAMPLE / "README.md").read_text()


def rows() -> dict[str, list[str]]:
    """The cells of the table, by the names of its models."""
    cells = [line.split("|")[1:-1] for line in README.splitlines() if line.startswith("| [")]
    return {re.findall(r"\[(\w+)\]", row[0])[0]: [cell.strip() for cell in row] for row in cells}


def test_the_experiment_the_table_and_the_folder_name_the_same_models() -> None:
    experiment = yaml.safe_load((EXAMPLE / "experiment" / "onboarding.yaml").read_text())
    assert experiment["defaults"][0]["/model"] == sorted(FILES)
    assert sorted(rows()) == sorted(FILES)
    assert len(FILES) >= 25
    assert README.startswith(f"# Kinds of models, by YAML alone\n\n{len(FILES)} models")


def test_the_oracle_has_a_case_for_each_model() -> None:
    calls = [
        node
        for node in ast.walk(ast.parse((EXAMPLE / "oracle.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "of"
    ]
    named = [one.value for call in calls for one in call.args if isinstance(one, ast.Constant)]
    assert sorted(map(str, named)) == sorted(FILES)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_row_counts_the_lines_of_its_file(name: str) -> None:
    lines = [line.strip() for line in FILES[name].read_text().splitlines()]
    assert rows()[name][4] == f"{sum(bool(x) and not x.startswith('#') for x in lines)} + 0"


def imported(name: str) -> set[str]:
    """The packages that a file of the example imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((EXAMPLE / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name.split(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


def test_the_models_know_nothing_of_onnx_and_the_oracle_nothing_of_the_converter() -> None:
    assert imported("nets.py") <= {"__future__", "typing", "torch"}
    assert "converter" not in imported("oracle.py") | imported("weights.py")
