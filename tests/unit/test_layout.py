"""The rules of the tree that a reader relies on."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from converter.plugins import loader

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for package in ("converter", "registry") for path in (REPOSITORY / package).rglob("*.py")
)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_has_at_most_50_lines(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < 50, f"{node.name}: at most 50 lines"


def test_exceptions_are_caught_wholesale_around_a_model_and_around_a_command_only() -> None:
    found = {
        name_of(path)
        for path in SOURCES
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id == "Exception"
    }
    assert found <= {"converter/worker/recording/stages.py", "converter/cli/command_line.py"}


# Rooms: the packages of the converter, the lowest first. An import points down, or stays within.
LAYERS = (
    "model", "layout", "storage", "plugins", "plugins.simplifiers", "plugins.providers",
    "plugins.layouts", "plan", "config", "exchange", "processes", "cache", "compare",
    "plugins.executors",
    "display", "plugins.reports", "finalize", "trends", "runner", "sweep", "schemas", "inspection",
    "api", "worker", "worker.inputs",
    "worker.recording", "worker.compare", "worker.runtime", "worker.onnxfile", "worker.sources",
    "plugins.exporters", "plugins.variants", "worker.reference", "worker.verify", "worker.debug",
    "worker.pipeline",
    "worker.benchmark", "doctor", "cli", "cli.commands",
)  # fmt: skip
# What starts the program and is imported by nobody.
ENTRIES = {"converter.__main__", "converter.testing", "converter.pytest_plugin"}
PACKAGE = REPOSITORY / "converter"
FILES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "zoo_template" not in path.parts  # what `init` writes: code of a user
}


def room_of(module: str) -> str:
    path = FILES[module]
    return ".".join(path.parent.relative_to(PACKAGE).parts)


@cache
def imports() -> dict[str, set[str]]:
    """Module → the modules of the converter that it imports, wherever the statement stands."""
    found: dict[str, set[str]] = {}
    for module, path in FILES.items():
        found[module] = set()
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("converter"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found[module] |= {n if n in FILES else str(node.module) for n in names}
    return found


def test_no_import_points_upwards() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others - {"converter"}
        if module not in ENTRIES | {"converter"}
        and LAYERS.index(room_of(other)) > LAYERS.index(room_of(module))
    ]
    assert wrong == []


def test_no_circle_of_imports() -> None:
    waiting = dict(imports())
    while free := [module for module, others in waiting.items() if not others & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting


def test_no_room_holds_more_than_a_sixth_of_the_code() -> None:
    lines: dict[str, int] = {}
    for module, path in FILES.items():
        room = room_of(module)
        lines[room] = lines.get(room, 0) + len(path.read_text(encoding="utf-8").splitlines())
    assert max(lines.values()) <= sum(lines.values()) / 6
    assert {room for room in lines if room} == set(LAYERS)


def test_every_room_says_what_is_in_it() -> None:
    shown = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    for room in LAYERS:
        init = PACKAGE / room.replace(".", "/") / "__init__.py"
        said = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        assert said.splitlines()[0].replace("``", "`") in shown, room


def test_no_module_outside_the_plugins_names_one() -> None:
    """Neither imports it nor has its name as a text; some words name something else, too."""
    other_meanings = {
        # The devices of torch, and of the tensors of a provider.
        "cpu", "cuda",
        # The kind of a source that is a TorchScript archive, and where to read the field of it.
        "torchscript",
        # Dtypes, and the precisions that are called like them.
        "int4", "int8",
        # The folder of configurations that `convert` names where it writes one.
        "zoo",
        # A pattern of lengths.
        "mixed",
    }  # fmt: skip
    plugins = {p for kind in loader.KINDS for p in loader.found(kind).values() if p.built_in}
    names = {plugin.name for plugin in plugins} - other_meanings
    modules = {plugin.module for plugin in plugins}
    wrong = []
    for module, path in FILES.items():
        if module.startswith("converter.plugins."):
            continue
        for node in nodes(path):
            named = isinstance(node, ast.Constant) and node.value in names
            if named or (isinstance(node, ast.ImportFrom) and node.module in modules):
                wrong.append(f"{module}:{node.lineno}")
    assert not wrong
