"""``python -m converter simplify``: a lone file made smaller, and never another one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.e2e

PLUGIN = """
# A simplifier that changes a weight, as no simplifier should.
from converter.model.base import Frozen

PRELOAD, PACKAGES = (), ()

class Options(Frozen):
    pass

def simplify(model, options):
    from onnx import numpy_helper
    held = model.graph.initializer[0]
    held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held) * 2, held.name))
    return model
"""


def simplify(*words: str, cwd: Path, code: int = 0, **variables: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "converter", "simplify", *words],
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def lazy(batch: int | str = "batch", **two: object) -> onnx.ModelProto:
    """An addition behind nodes that do nothing with the input.

    Args:
        two: how the constant is written.
    """
    two = two or {"value": numpy_helper.from_array(np.array(2, np.float32))}
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Constant", [], ["two"], **two),
        helper.make_node("Mul", ["weight", "two"], ["doubled"]),
        helper.make_node("Add", ["same", "doubled"], ["y"]),
    ]
    shape = [batch, 4]
    graph = helper.make_graph(
        nodes,
        "lazy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.arange(4, dtype=np.float32), "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("simplifier", ["onnxsim", "onnxslim"])
def test_a_file_is_simplified_and_verified_at_several_sizes(
    tmp_path: Path, simplifier: str
) -> None:
    onnx.save_model(lazy(), tmp_path / "-in.onnx")
    before = (tmp_path / "-in.onnx").read_bytes()
    out, err = simplify("--simplifier", simplifier, "--", "-in.onnx", "out.onnx", cwd=tmp_path)
    assert err == ""
    assert out.startswith("-in.onnx → out.onnx, opset 17\n")
    assert "\nMul               1     0\n" in out
    assert re.search(r"\nnodes in all +4 +[12]\n", out)
    assert "\nverified: out.onnx gives what -in.onnx gives, in " in out
    assert "\n    at batch = 1–" in out
    made = onnx.load(tmp_path / "out.onnx").graph
    assert {node.op_type for node in made.node} <= {"Add", "Constant"}
    assert made.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert (tmp_path / "-in.onnx").read_bytes() == before


def test_stated_inputs_and_overrides_are_followed(tmp_path: Path) -> None:
    onnx.save_model(lazy(), tmp_path / "in.onnx")
    words = ["in.onnx", "out.onnx", "--input", "x=5x4:float32:0..1", "store.use=false"]
    simplify(*words, "hydra.run.dir=run", cwd=tmp_path)
    assert '"shape": [\n' in (tmp_path / "run" / "manifest.json").read_text()
    assert '"high": 1.0' in (tmp_path / "run" / "manifest.json").read_text()
    assert (tmp_path / "out.onnx").is_file()


def test_a_result_that_does_not_run_is_taken_back(tmp_path: Path) -> None:
    # onnxslim 0.1.98 reads `value_float` as float64.
    onnx.save_model(lazy(value_float=2.0), tmp_path / "in.onnx")
    words = ["in.onnx", "out.onnx", "--simplifier", "onnxslim"]
    out, err = simplify(*words, cwd=tmp_path, code=1)
    assert out == ""
    assert err.startswith("reverted: ONNX Runtime cannot load the file: Type Error")
    assert not (tmp_path / "out.onnx").exists()


def test_a_simplification_that_is_wrong_is_taken_back(tmp_path: Path) -> None:
    """A simplifier of another distribution changes a weight."""
    onnx.save_model(lazy(), tmp_path / "in.onnx")
    (tmp_path / "wrecker.py").write_text(PLUGIN)
    about = tmp_path / "wrecker-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wrecker\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[converter.simplifiers]\nwrecker = wrecker\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    (tmp_path / "out.onnx").write_text("of before")
    out, err = simplify(
        "in.onnx", "out.onnx", "simplifier.name=wrecker", "~simplifier.skipped_optimizers",
        cwd=tmp_path, code=1, PYTHONPATH=path,
    )  # fmt: skip
    assert out == ""
    assert err.startswith("reverted: case traced (x ")
    assert err.endswith("in.onnx is right as it is; out.onnx was not written\n")
    assert (tmp_path / "out.onnx").read_text() == "of before"


def test_a_file_that_does_not_run_is_told(tmp_path: Path) -> None:
    model = lazy(2)
    model.graph.node[3].op_type = "Nonsense"
    onnx.save_model(model, tmp_path / "in.onnx")
    _, err = simplify("in.onnx", "out.onnx", cwd=tmp_path, code=1)
    assert "Nonsense" in err
    assert err.endswith("out.onnx was not written\n")
    assert not (tmp_path / "out.onnx").exists()


def test_weights_beside_the_file_are_not_overwritten(tmp_path: Path) -> None:
    options = {"save_as_external_data": True, "location": "out.onnx.data", "size_threshold": 0}
    onnx.save_model(lazy(), tmp_path / "in.onnx", **options)
    before = (tmp_path / "out.onnx.data").read_bytes()
    _, err = simplify("in.onnx", "out.onnx", cwd=tmp_path, code=2)
    assert "in.onnx keeps its weights in out.onnx.data, which out.onnx needs." in err
    assert (tmp_path / "out.onnx.data").read_bytes() == before
    simplify("in.onnx", "other.onnx", cwd=tmp_path)
    assert len(onnx.load(tmp_path / "other.onnx").graph.node) < 4


def test_an_override_that_switches_it_off_is_refused(tmp_path: Path) -> None:
    onnx.save_model(lazy(), tmp_path / "in.onnx")
    _, err = simplify("in.onnx", "out.onnx", "simplify=false", cwd=tmp_path, code=2)
    assert "simplify: an override switches the simplifier off." in err
    assert not (tmp_path / "out.onnx").exists()
