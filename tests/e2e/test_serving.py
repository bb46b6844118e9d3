"""One run, published in each layout: what servers, hubs and readers get can be loaded and read."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from converter.finalize import zoo_index
from tests.conftest import Command
from tests.published import pbtxt, sound, stray

pytestmark = pytest.mark.e2e

_TO = "publish_to=[zoo,{path: triton, layout: triton},{path: hub, layout: huggingface}]"
_RUN = ("+experiment=smoke", "variant=fp16", "benchmark.budget_s=0.1", _TO)


def loaded(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_a_run_is_published_for_servers_hubs_and_readers(
    converter_command: Command, tmp_path: Path
) -> None:
    # With its weights beside it, under the name that the file says.
    large = "+models.simple_cnn.export.external_data=always"
    done = converter_command(*_RUN, large, "+models.simple_cnn.license=MIT", "hydra.run.dir=one")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("zoo", "triton", "hub"):
        assert len(sound(tmp_path / name)) == 6
        checked = converter_command("verify", name)
        assert checked.returncode == 0, checked.stdout
        assert checked.stdout.startswith("right: ")
    check_server(tmp_path / "triton")
    check_hub(tmp_path / "hub")

    # Another night with nothing new: no file is written again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "triton").rglob("*/*/*")}
    again = converter_command(*_RUN, large, "+models.simple_cnn.license=MIT", "hydra.run.dir=two")
    assert again.returncode == 0, again.stdout
    assert "6 from the store" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "triton").rglob("*/*/*")} == before

    # Other weights: a new version, which is served alone.
    other = converter_command(*_RUN, large, "seed=1", "hydra.run.dir=three")
    assert other.returncode == 0, other.stdout
    said = pbtxt((tmp_path / "triton/simple_cnn/config.pbtxt").read_text())
    assert said["version_policy"] == [{"specific": [{"versions": ["2"]}]}]
    assert not (tmp_path / "triton/simple_cnn/1").exists()
    assert stray(tmp_path / "triton") == []

    (tmp_path / "hub").joinpath(zoo_index.read(tmp_path / "hub").models["simple_cnn"].path)
    file = tmp_path / "hub" / zoo_index.read(tmp_path / "hub").models["simple_cnn"].path
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    wrong = converter_command("verify", "hub")
    assert (wrong.returncode, "onnx/model.onnx is not as" in wrong.stdout) == (1, True)


def check_server(target: Path) -> None:
    assert (target / "simple_cnn/1/model.onnx/model.onnx").is_file()
    for config in target.glob("*/config.pbtxt"):
        said = pbtxt(config.read_text())
        as_the_server_reads_it(config, said)
        file = config.parent / said["version_policy"][0]["specific"][0]["versions"][0]
        file = file / "model.onnx"
        session = loaded(file / "model.onnx" if file.is_dir() else file)
        batch = int(said["max_batch_size"][0]) > 0
        assert [value.name for value in session.get_inputs()] == [
            each["name"][0] for each in said["input"]
        ]
        for value, each in zip(session.get_outputs(), said["output"], strict=True):
            sizes = value.shape[1:] if batch else value.shape
            assert [str(size) if isinstance(size, int) else "-1" for size in sizes] == each["dims"]
    said = pbtxt((target / "simple_cnn/config.pbtxt").read_text())
    assert (said["max_batch_size"], said["dynamic_batching"]) == (["17"], [{}])
    # Of its output another name is declared; that it has the size of the batch the cases show.
    said = pbtxt((target / "single_conv_batch/config.pbtxt").read_text())
    assert int(said["max_batch_size"][0]) > 1


def as_the_server_reads_it(path: Path, said: dict[str, list[Any]]) -> None:
    """By the definition of Triton's own client, where that is installed."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        return
    # By its path: importing the package asks for gRPC.
    place = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from google.protobuf import text_format

    parsed = text_format.Parse(path.read_text(), module.ModelConfig())
    assert parsed.name == path.parent.name
    assert [value.name for value in parsed.input] == [each["name"][0] for each in said["input"]]


def check_hub(target: Path) -> None:
    entry = zoo_index.read(target).models["simple_cnn"]
    home = target / entry.sets[0].folder
    card = (home / "README.md").read_text()
    assert 'license: "mit"' in card
    assert "| `onnx/model_fp16.onnx` | float16 |" in card
    assert " ms (cpu)" in card
    bill = json.loads((home / "sbom.cdx.json").read_text())
    assert bill["metadata"]["component"]["licenses"] == [{"license": {"id": "MIT"}}]
    found = json.loads((home / "config.json").read_text())["files"]
    for artifact in found.values():
        loaded(home / artifact["files"][0])
    # Each file says itself what it was made from, and how exactly.
    props = {
        prop.key: prop.value for prop in onnx.load(home / "onnx/model_fp16.onnx").metadata_props
    }
    assert json.loads(props["converter.source"])["name"] == "simple_cnn"
    assert json.loads(props["converter.weights"]) == {"name": "random", "seed": 0}
    assert json.loads(props["converter.tolerance"])[0]["rtol"] > 0
    assert "batch_size" in json.loads(props["converter.verified"])["sizes"]
