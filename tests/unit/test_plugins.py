"""The loader of plugins: which there are, where they come from, two of one name."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from converter.model.base import Frozen
from converter.model.errors import ConfigError
from converter.plugins import loader
from converter.processes import preload


def point(name: str, module: str) -> EntryPoint:
    return EntryPoint(name, module, "converter.exporters")


def test_the_files_of_a_folder_are_plugins() -> None:
    assert loader.names("simplifiers") == ["onnxsim", "onnxslim"]
    plugin = loader.found("exporters")["dynamo"]
    assert (plugin.distribution, plugin.built_in) == (loader.BUILT_IN, True)
    assert plugin.version
    path = plugin.path()
    assert path is not None
    assert path.is_file()


def test_what_another_distribution_announces_is_one_too() -> None:
    found = loader.combined("exporters", [point("mine", "json")])
    assert list(found) == ["dynamo", "original", "torchscript", "mine"]
    assert not found["mine"].built_in
    with pytest.raises(ConfigError, match="the plugin of unknown has no SOURCES, CAPTURE, OPSETS"):
        found["mine"].load()
    assert loader.combined("models", [point("mine", "json")])["mine"].load().dumps(1) == "1"


def test_two_of_one_name_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        loader.combined("exporters", [point("dynamo", "acme.exporter")])
    said = str(caught.value.problems[0])
    assert "converter.plugins.exporters.dynamo of onnx-zoo-converter" in said
    assert "acme.exporter of unknown" in said


def test_one_that_cannot_be_imported_names_its_distribution() -> None:
    plugin = loader.combined("exporters", [point("mine", "no_such_package.exporter")])["mine"]
    with pytest.raises(ConfigError, match=r"exporters\.mine: the plugin of unknown cannot be"):
        plugin.load()
    with pytest.raises(ConfigError, match="found 'none', expected one of dynamo, "):
        loader.load("exporters", "none")


def test_a_simplifier_that_nobody_asks_for_ends_no_fork_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = loader.Plugin("simplifiers", "broken", "no_such_package", "acme")
    found = {**loader.found("simplifiers"), "broken": broken}
    monkeypatch.setattr(loader, "found", lambda kind: found)
    assert list(preload.of_plugins("simplifiers")) == ["onnxsim"]


def test_every_built_in_plugin_can_be_imported_without_torch() -> None:
    """The parent process asks plugins what they can do; lint cannot see into their folders."""
    import subprocess
    import sys

    code = (
        "import sys; from converter.plugins import loader; "
        "[plugin.load() for plugin in loader.every()]; "
        "print({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_options_may_not_be_called_like_keys_of_their_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Options(Frozen):
        optional: bool = True

    module = ModuleType("acme_variant")
    parts = {"FORMAT": "onnx", "PRECISION": "float32", "PACKAGES": (), "keeps_io": print}
    vars(module).update(parts, derive=print, Options=Options)
    monkeypatch.setitem(sys.modules, "acme_variant", module)
    with pytest.raises(ConfigError, match="Options of a name that its group has already: optional"):
        loader.Plugin("variants", "mine", "acme_variant", "acme").load()


GOOD = {"FORMAT": "onnx", "PRECISION": "float32", "PACKAGES": ("onnx",), "derive": print}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"keeps_io": None}, "has no function keeps_io"),
        ({"keeps_io": print, "PACKAGES": "onnx"}, "PACKAGES that are no tuple"),
    ],
)
def test_parts_are_what_they_should_be(
    parts: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("acme_variant")
    vars(module).update({**GOOD, **parts})
    monkeypatch.setitem(sys.modules, "acme_variant", module)
    with pytest.raises(ConfigError, match=said):
        loader.Plugin("variants", "mine", "acme_variant", "acme").load()


def test_what_raises_where_its_options_are_read_names_its_distribution() -> None:
    plugin = loader.Plugin("variants", "mine", "acme_variant", "acme")

    def boom() -> None:
        raise RuntimeError("boom")

    with pytest.raises(ConfigError, match="plugin of acme raises RuntimeError: boom where its opt"):
        plugin.call(boom)


def test_an_entry_point_without_a_module_costs_itself_only() -> None:
    found = loader.combined("variants", [EntryPoint("v", "", "converter.variants")])
    assert "fp16" in found
    with pytest.raises(ConfigError, match=r"variants\.v: the plugin of unknown cannot be imported"):
        found["v"].load()
