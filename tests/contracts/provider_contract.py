"""What every provider must do; a test class for each one inherits this.

An execution provider of ONNX Runtime inherits ``ProviderContract``, and ``SessionContract`` where
it can run; a runtime of its own, a module with ``open``, ``RuntimeContract`` and
``RunnableContract``.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from converter.model.artifact import ONNX
from converter.model.errors import Code, StageError
from converter.plugins import loader, providers
from converter.plugins.runnable import Interface, Runnable
from converter.worker.onnxfile import structure
from converter.worker.runtime import running, starting
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors

LATENCY = Path(__file__).resolve().parents[2] / "docs/latency.md"
X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def doubling() -> bytes:
    """n×3 → n×3."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["n", 3])],
        [value("y", TensorProto.FLOAT, ["n", 3])],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


class _Named:
    name: ClassVar[str]

    @property
    def plugin(self) -> Any:
        return import_module(f"converter.plugins.providers.{self.name}")


class PluginContract(_Named):
    """What holds of every provider on every machine; subclasses name it."""

    def test_its_options_are_text(self) -> None:
        found = providers.options(self.plugin, {})
        assert all(isinstance(text, str) for pair in found.items() for text in pair)
        assert self.plugin.DEVICE in ("cpu", "cuda")
        assert all(
            import_module(f"converter.plugins.providers.{name}") for name in self.plugin.FALLBACKS
        )

    def test_the_table_of_providers_names_it(self) -> None:
        assert f"| `{self.name}` | {self.plugin.NAME} |" in LATENCY.read_text(encoding="utf-8")


class ProviderContract(PluginContract):
    """What holds of every execution provider of ONNX Runtime."""

    def test_it_has_onnx_runtimes_name(self) -> None:
        assert self.plugin.NAME in onnxruntime.get_all_providers()

    def test_its_absence_is_told_with_what_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["OtherProvider"])
        with pytest.raises(StageError) as caught:
            Session(doubling(), provider=self.name)
        assert caught.value.code is Code.EP_UNAVAILABLE
        assert (
            caught.value.message == f"{self.plugin.NAME} is not available; available: OtherProvider"
        )
        assert "install" in caught.value.hint


class SessionContract(_Named):
    """What holds of its sessions, where its device is."""

    def session(self) -> Session:
        return Session(doubling(), provider=self.name)

    def test_it_is_the_active_one(self) -> None:
        assert self.session().provider == self.plugin.NAME

    def test_it_computes(self) -> None:
        session = self.session()
        assert (session.inputs, session.outputs) == (["x"], ["y"])
        (found,) = session.run({"x": X})
        np.testing.assert_allclose(found, 2 * X, rtol=1e-6)

    def test_it_says_which_nodes_it_takes(self) -> None:
        assert self.session().nodes_per_provider() == {self.plugin.NAME: 1}

    def test_a_prepared_run_runs_where_its_tensors_are(self) -> None:
        session = self.session()
        assert session.binds == (self.plugin.DEVICE != "cpu")
        session.prepared({"x": X})()

    def test_what_it_raises_is_known(self) -> None:
        session = self.session()
        with pytest.raises(RuntimeErrors):
            session.run({"x": X[:, :2]})
        with pytest.raises(RuntimeErrors):
            session.prepared({"x": X[:, :2]})()


class RuntimeContract(PluginContract):
    """What holds of every runtime of its own on every machine.

    Attributes:
        modules: that it imports; each alone is enough to make it absent.
    """

    modules: ClassVar[tuple[str, ...]]

    def test_it_has_the_parts_of_a_runtime(self) -> None:
        assert providers.is_runtime(self.plugin)
        assert loader.packages_of(self.plugin)
        assert set(providers.formats(self.plugin)) == set(self.plugin.FORMATS)
        taken = inspect.signature(self.plugin.open).parameters
        assert list(taken) == ["file", "threads", "options", "interface"]
        assert all(
            parameter.kind is parameter.KEYWORD_ONLY for parameter in list(taken.values())[1:]
        )
        assert not inspect.signature(self.plugin.available).parameters
        assert not inspect.signature(self.plugin.prepare).parameters

    def test_it_checks_files_that_are_not_onnx(self) -> None:
        """ONNX's checker is for ONNX files alone."""
        if set(self.plugin.FORMATS) == {ONNX}:
            return
        assert providers.checks(self.plugin)
        taken = inspect.signature(self.plugin.check).parameters
        assert list(taken) == ["file", "parent", "precision"]

    def test_its_absence_is_told_in_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in self.modules:
            with monkeypatch.context() as without:
                # What `import` refuses, and `find_spec` does not find.
                without.setitem(sys.modules, module, None)
                why = self.plugin.available()
                assert why == " ".join(why.split())
                assert "not installed" in why or "not available" in why
                with pytest.raises(StageError) as caught:
                    starting.require(self.name)
            assert (caught.value.code, caught.value.message) == (Code.EP_UNAVAILABLE, why)
            assert caught.value.hint == self.plugin.INSTALL
            assert "install" in self.plugin.INSTALL


class RunnableContract(_Named):
    """What holds of the files that a runtime opens, where it is installed.

    One that does not read ONNX files overrides ``written``.

    Attributes:
        stated: options of providers, by their names.
    """

    stated: ClassVar[dict[str, dict[str, str]]] = {}

    def written(self, folder: Path) -> Path:
        """``doubling`` as a file of a format that the runtime reads."""
        file = folder / "doubling.onnx"
        file.write_bytes(doubling())
        return file

    def opened(self, folder: Path) -> Session | Runnable:
        interface = structure.interface(onnx.load_from_string(doubling()))
        return self.loaded(self.written(folder), interface)

    def loaded(self, file: Path, interface: Interface) -> Session | Runnable:
        return running.opened(
            file, lambda: interface, provider=self.name, provider_options=self.stated
        )

    def test_it_says_what_runs(self, tmp_path: Path) -> None:
        opened = self.opened(tmp_path)
        assert opened.provider.startswith(self.plugin.NAME)
        assert opened.active[0] == opened.provider
        assert running.versions(self.name, self.stated)
        assert set(opened.nodes_per_provider()) <= {opened.provider}

    def test_it_computes_under_the_names_of_onnx(self, tmp_path: Path) -> None:
        opened = self.opened(tmp_path)
        assert (opened.inputs, opened.outputs) == (["x"], ["y"])
        assert opened.types == {"x": "tensor(float)", "y": "tensor(float)"}
        (found,) = opened.run({"x": X})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, 2 * X, rtol=1e-6)

    def test_what_it_gave_stays_what_it_was(self, tmp_path: Path) -> None:
        """The next run must not write into the arrays of the one before it."""
        opened = self.opened(tmp_path)
        (first,) = opened.run({"x": X})
        opened.run({"x": 3 * X})
        np.testing.assert_allclose(first, 2 * X, rtol=1e-6)

    def test_a_prepared_run_runs_where_its_tensors_are(self, tmp_path: Path) -> None:
        opened = self.opened(tmp_path)
        assert opened.binds == (self.plugin.DEVICE != "cpu")
        opened.prepared({"x": X})()

    def test_a_run_that_it_refuses_is_a_runtime_error(self, tmp_path: Path) -> None:
        opened = self.opened(tmp_path)
        with pytest.raises(RuntimeError):
            opened.run({"x": X[:, :2]})

    def test_a_damaged_file_is_refused(self, tmp_path: Path) -> None:
        file = self.written(tmp_path)
        file.write_bytes(b"not a model")
        interface = structure.interface(onnx.load_from_string(doubling()))
        with pytest.raises(StageError) as caught:
            self.loaded(file, interface)
        assert caught.value.code is Code.SESSION
