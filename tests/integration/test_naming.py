"""Names that forward knows stand where forward has them, or the row says so."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from converter.model.errors import Code, StageError
from converter.worker.reference import naming, reference
from converter.worker.sources.loading import Loaded

pytestmark = pytest.mark.integration
SHAPE = {"shape": [2, 3]}
XYZ = ("x", "y", "z")


def inputs(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, SHAPE)


class Three(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return x + 2 * y + 3 * z


class ByKeyword(tiny.Net):
    def forward(self, *, x: Any) -> Any:  # type: ignore[override]
        return super().forward(x)


class Variadic(torch.nn.Module):
    def forward(self, *arrays: Any) -> Any:
        return sum(arrays)


def script(model: Any, folder: Path) -> Any:
    torch.jit.script(model).save(str(folder / "model.pt"))
    return torch.jit.load(str(folder / "model.pt"))  # type: ignore[no-untyped-call]


def traced(model: Any, folder: Path) -> Any:
    return torch.jit.trace(model, (torch.ones(2, 3),) * 3)  # type: ignore[no-untyped-call]


def function(model: Any, folder: Path) -> Any:
    return torch.jit.script(three)


def three(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return x + 2 * y + 3 * z


def program(model: Any, folder: Path) -> Any:
    return torch.export.export(model, (torch.ones(2, 3),) * 3)


KINDS: dict[str, Any] = {
    "module": lambda model, folder: model,
    "script_module": script,
    "trace": traced,
    "script_function": function,
    "exported_program": program,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_inputs_in_another_order(tiny_job: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    model = KINDS[kind](Three().eval(), tmp_path)
    name = "script_module" if kind == "trace" else kind
    loaded = Loaded(model, name, torch.device("cpu"), None)
    for right in (XYZ, ("a", "b", "c"), ("x", "other", "z")):
        reference.compute(loaded, tiny_job("Net", inputs=inputs(*right)))
    with pytest.raises(StageError) as caught:
        reference.compute(loaded, tiny_job("Net", inputs=inputs("x", "z", "y")))
    assert (caught.value.code, caught.value.message) == (
        Code.OUTPUT_STRUCTURE,
        "inputs has z at place 2, where forward takes y; z is argument 3 of forward (x, y, z)",
    )
    assert "list them in that order, or state models.model.pass: keyword" in caught.value.hint


def test_any_number_of_arguments_has_no_names(tiny_job: Callable[..., Any]) -> None:
    naming.check_inputs(Variadic(), "module", tiny_job("Net", inputs=inputs("arrays", "b")))


@pytest.mark.parametrize("name", ["x", "image"])
def test_an_argument_by_keyword_only(tiny_job: Callable[..., Any], name: str) -> None:
    with pytest.raises(StageError) as caught:
        naming.check_inputs(ByKeyword(), "module", tiny_job("Net", inputs=inputs(name)))
    assert caught.value.code is Code.OUTPUT_STRUCTURE
    assert caught.value.message == (
        "forward takes x by keyword only, and inputs are given by position"
    )
    assert caught.value.hint.startswith("state inputs.x.pass: keyword")


def test_a_constant_may_be_by_keyword_only(tiny_job: Callable[..., Any]) -> None:
    class Scaled(torch.nn.Module):
        def forward(self, x: Any, *, scale: float) -> Any:
            return x * scale

    naming.check_inputs(Scaled(), "module", tiny_job("Net", constants={"scale": 2.0}))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["difference", "sum"],
            "outputs has difference at place 1, where forward returns sum; difference is tensor 2 "
            "of what it returns (sum, difference)",
        ),
        (["a", "sum"], "outputs has sum at place 2, where forward returns difference; sum is"),
        (["sum", "difference"], None),
        (["a", "difference"], None),
        (["a", "b"], None),
    ],
)
def test_outputs_in_another_order(
    convert: Callable[..., Any], names: list[str], words: str | None
) -> None:
    done = convert("Named", inputs=inputs("x", "y"), outputs=names)
    if words is None:
        assert done.code is None, done.result.error
        return
    error = done.result.error
    assert (error.stage, error.code) == ("reference", Code.OUTPUT_STRUCTURE)
    assert words in error.message
    assert error.hint.endswith("reorder the names")


def test_keys_of_nested_results(tiny_job: Callable[..., Any]) -> None:
    pair = namedtuple("pair", "hidden cell")

    class Nested(tiny.Net):
        def forward(self, x: Any) -> Any:
            y = super().forward(x)
            return {"y": y, "state": pair(y + 1, y + 2), "rest": [y * 2, None, y * 3]}

    loaded = Loaded(Nested().eval(), "module", torch.device("cpu"), None)
    right = ["y", "hidden", "state", "rest", "last"]
    reference.compute(loaded, tiny_job("Net", outputs=right))
    wrong = ["y", "cell", "hidden", "rest", "last"]
    with pytest.raises(StageError) as caught:
        reference.compute(loaded, tiny_job("Net", outputs=wrong))
    assert caught.value.message == (
        "outputs has cell at place 2, where forward returns state.hidden; cell is tensor 3 of what "
        "it returns (y, state.hidden, state.cell, rest, rest)"
    )


def test_an_output_that_numpy_does_not_have(convert: Callable[..., Any]) -> None:
    error = convert("Sparse", outputs=["scores"]).result.error
    assert (error.stage, error.code) == ("reference", Code.OUTPUT_STRUCTURE)
    assert error.message.startswith("output scores is sparse, which has no NumPy array")
    assert "return y.to_dense()" in error.hint
    assert "output #0 is sparse" in convert("Sparse").result.error.message
