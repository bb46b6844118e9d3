"""What every execution provider must do; a test class for each one inherits this."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from converter.model.errors import Code, StageError
from converter.plugins import providers
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


class ProviderContract(_Named):
    """What holds on every machine; subclasses name the provider."""

    def test_it_says_its_name_and_options(self) -> None:
        assert self.plugin.NAME in onnxruntime.get_all_providers()
        found = providers.options(self.plugin, {})
        assert all(isinstance(text, str) for pair in found.items() for text in pair)
        assert self.plugin.DEVICE in ("cpu", "cuda")
        assert all(
            import_module(f"converter.plugins.providers.{name}") for name in self.plugin.FALLBACKS
        )

    def test_the_table_of_providers_names_it(self) -> None:
        assert f"| `{self.name}` | {self.plugin.NAME} |" in LATENCY.read_text(encoding="utf-8")

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
