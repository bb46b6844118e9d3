"""Files that are right, and that ONNX Runtime's optimisations or another runtime get wrong.

The faults are real ones: who folds a factor into weights, or moves it behind a product, leaves the
range of float32 where the file does not.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper, parser

from converter.model.job import Debug, Job
from converter.worker.debug import cutting, inside, minimal, ways
from converter.worker.pipeline import debugging
from converter.worker.pipeline.comparisons import AgainstCpu, AgainstUnoptimised, File, Searched

pytestmark = pytest.mark.integration
DRAW = np.random.default_rng(0)
# 3e30 × 2e8 is infinite; a value below 1e-37 times both is not.
HUGE = (DRAW.random((3, 2, 1, 1)) * 3e30 + 3e30).astype(np.float32)
FACTOR = np.full((1, 3, 1, 1), 2e8, np.float32)


def made(text: str, **weights: Any) -> ModelProto:
    graph = parser.parse_graph(text)
    del graph.initializer[:]
    held = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in held.items())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def folded() -> tuple[ModelProto, Any]:
    """A factor behind a convolution, which is folded into its weights."""
    model = made(
        "g (float[1, 2, 5, 5] x) => (float[1, 3, 5, 5] y)"
        "<float[3, 2, 1, 1] w, float[1, 3, 1, 1] m, float s>"
        "{ a = Relu(x) c = Conv(a, w) d = Mul(c, m) e = Neg(d) y = Add(e, s) }",
        w=HUGE, m=FACTOR, s=1,
    )  # fmt: skip
    return model, (DRAW.random((1, 2, 5, 5)) * 1e-38 + 1e-38).astype(np.float32)


def deep(blocks: int = 6) -> tuple[ModelProto, Any]:
    """A factor before a product, which is moved behind it, in the middle of other blocks."""
    lines, at = [], "x"
    for n in range(blocks):
        lines.append(f"p{n} = MatMul({at}, v) q{n} = Sigmoid(p{n}) r{n} = Add(q{n}, {at})")
        at = f"r{n}"
        if n == blocks // 2:
            lines.append(f"a = Mul({at}, up) b = Abs(a) c = Mul(b, down) d = MatMul(c, w)")
            lines.append("e = Mul(d, back) f = Tanh(e)")
            at = "f"
    text = (
        "g (float[2, 4] x) => (float[2, 4] y)"
        "<float[4, 4] v, float[4, 4] w, float up, float down, float[4] back>"
        f"{{ {' '.join(lines)} y = Neg({at}) }}"
    )
    # A factor for each column: no product takes it for one of its own.
    model = made(
        text, v=DRAW.standard_normal((4, 4)), w=DRAW.random((4, 4)) * 1e15,
        up=1e25, down=1e-20, back=[1e-21, 2e-21, 3e-21, 4e-21],
    )  # fmt: skip
    return model, DRAW.standard_normal((2, 4)).astype(np.float32)


def searched(
    comparison: AgainstUnoptimised | AgainstCpu,
    model: ModelProto,
    x: Any,
    job: Job,
    folder: Path,
) -> Searched:
    path = folder / "model.onnx"
    onnx.save(model, path)
    case: Any = None  # of the file alone nothing else is asked
    return comparison.search(File(path, job, case, {"x": x}, folder))


def shown(found: Searched, folder: Path) -> tuple[str, str, str]:
    """The report, the script, and what that says by itself: it has to end with 1."""
    told = minimal.Told(
        "made", "traced", "VERIFY_VALUE: wrong", found.against, comparison=found.words,
        together=found.together, script=found.script, notes=found.notes,
    )  # fmt: skip
    names = minimal.write(folder, found.model, found.guilty, found.values, found.constants, told)
    assert names == ["report.md", "minimal.onnx", "data.npz", "repro.py"]
    script = folder / "repro.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    return (folder / "report.md").read_text(), script.read_text(), done.stdout


@pytest.mark.parametrize(
    ("file", "level", "node", "block"),
    [
        (folded, "basic", "Conv", ["Conv", "Mul"]),
        (deep, "extended", "FusedMatMul", ["Mul", "MatMul"]),
    ],
)
def test_the_fused_node_is_named_with_its_level_and_what_it_stands_for(
    file: Callable[[], tuple[ModelProto, Any]],
    level: str,
    node: str,
    block: list[str],
    tiny_job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    found = searched(AgainstUnoptimised(), *file(), tiny_job("Net"), tmp_path)
    assert found.guilty.node.op_type == node
    assert [each.op_type for each in found.guilty.block] == block
    assert found.words == f"optimised against not (wrong from the level {level} on)"
    report, script, said = shown(found, tmp_path)
    assert f"Comparison: {found.words}." in report
    assert "It stands for these nodes of the file:" in report
    assert f"ORT_ENABLE_{level.upper()}" in script
    assert len(script.splitlines()) <= 20
    assert said.startswith("largest error inf")


def test_a_provider_is_held_against_the_cpu(tiny_job: Callable[..., Job], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    found = searched(AgainstCpu("openvino"), *folded(), tiny_job("Net"), tmp_path)
    assert [each.op_type for each in found.guilty.block] == ["Conv", "Mul"]
    report, script, said = shown(found, tmp_path)
    assert "Comparison: provider against CPU (openvino, openvino 2" in report
    assert "pip install numpy onnxruntime openvino" in report
    assert "@" not in script
    assert len(script.splitlines()) <= 20
    assert said.startswith("largest error ")


@pytest.mark.parametrize("comparison", [AgainstUnoptimised(), AgainstCpu("openvino")])
def test_a_file_that_is_right_in_every_way_has_no_such_node(
    comparison: AgainstUnoptimised | AgainstCpu, tiny_job: Callable[..., Job], tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    # Rounding alone is off by less than 1e-5 of it.
    model = made(
        "g (float[64, 512] x) => (float[64, 512] y) <float[512, 512] w>"
        "{ a = MatMul(x, w) b = Tanh(a) c = MatMul(b, w) d = Softmax(c) y = MatMul(d, w) }",
        w=DRAW.standard_normal((512, 512)) / 30,
    )
    x = DRAW.standard_normal((64, 512)).astype(np.float32)
    with pytest.raises(debugging.StageError, match="no node makes the outputs"):
        searched(comparison, model, x, tiny_job("Net"), tmp_path)


def test_what_a_way_refuses_is_cut_down_to_what_it_refuses(tmp_path: Path) -> None:
    class Refusing:
        """Whatever has a Tanh: as a provider without a kernel."""

        def run(self, path: Path, feeds: Any) -> dict[str, Any]:
            if any(node.op_type == "Tanh" for node in onnx.load(path).graph.node):
                raise RuntimeError("no kernel for Tanh")
            return ways.Optimised("ORT_ENABLE_BASIC").run(path, feeds)

        def script(self) -> None:
            return None

    model, x = deep()
    values = {"x": x, **inside.values(model, {"x": x}, tmp_path)}
    graph = cutting.Graph(model, values, inside.constants(model), ["y"])
    piece = cutting.smallest(graph, Refusing(), 1e-4, tmp_path)
    assert piece is not None
    assert [node.op_type for node in piece.nodes] == ["Tanh"]
    assert piece.stops == "no kernel for Tanh"


def test_the_kind_of_comparison_follows_from_where_the_file_is_right(
    tiny_job: Callable[..., Job],
) -> None:
    job = Debug.model_validate(dict(tiny_job("MovedFactor")))
    result = debugging.run(job, lambda news: None)
    assert (result.status, result.error) == ("ok", None)
    text = (Path(job.staging_dir) / Debug.FOLDER / "report.md").read_text()
    assert "Comparison: optimised against not (wrong from the level extended on)." in text
    assert "FusedMatMul" in text


def test_a_provider_is_looked_at_where_the_file_is_right_on_the_cpu(
    tiny_job: Callable[..., Job],
) -> None:
    pytest.importorskip("openvino")
    stated = {**dict(tiny_job("FoldedFactor")), "providers": ["openvino"]}
    job = Debug.model_validate(stated)
    result = debugging.run(job, lambda news: None)
    assert (result.status, result.error) == ("ok", None)
    text = (Path(job.staging_dir) / Debug.FOLDER / "report.md").read_text()
    assert "Comparison: provider against CPU (openvino" in text
    assert "# MatMul, Mul gives another result" in text
