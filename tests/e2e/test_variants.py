"""``variant=fp16``, from the command line to the manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import Command

pytestmark = pytest.mark.e2e

_RUN = ("+experiment=smoke", "benchmark=off", "variant=fp16")


def rows(directory: Path) -> dict[str, dict[str, Any]]:
    """By label."""
    found = json.loads((directory / "manifest.json").read_text())
    return {
        model["name"] if part["id"] == "onnx" else f"{model['name']}/{part['id']}": part
        for model in found["models"]
        for part in model["artifacts"]
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and its store."""
    return tmp_path_factory.mktemp("variants")


def test_every_model_has_a_verified_float16_file(
    converter_command: Command, tmp_path: Path
) -> None:
    done = converter_command(*_RUN, "hydra.run.dir=one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 models: 3 ok; 6 artifacts: 6 ok" in done.stdout
    found = rows(tmp_path / "one")
    assert len(found) == 6
    half = found["simple_cnn/fp16"]
    assert (half["status"], half["parent"], half["precision"]) == ("ok", "onnx", "float16")
    assert half["verify"]["arithmetic"] == "emulated"
    (file,) = half["files"]
    assert file["path"] == "models/simple_cnn/fp16/simple_cnn.fp16.onnx"
    assert file["bytes"] < 0.7 * found["simple_cnn"]["files"][0]["bytes"]
    assert not (tmp_path / "one" / ".staging").exists()

    # Nothing is built twice, and what was asked for otherwise is built alone.
    again = converter_command(*_RUN, "hydra.run.dir=two")
    assert "6 from the store" in again.stdout, again.stdout
    other = converter_command(
        *_RUN, "variant.fp16.op_block_list=[Conv,Gemm,MatMul]", "hydra.run.dir=three"
    )
    found = rows(tmp_path / "three")
    cached = [found[label]["cached"] for label in ("simple_cnn", "simple_cnn/fp16")]
    assert cached == [True, False], other.stdout
    assert found["simple_cnn/fp16"]["error"]["code"] == "PRECISION_NOT_REACHED"
    manifest = json.loads((tmp_path / "three/manifest.json").read_text())
    (simple_cnn,) = [model for model in manifest["models"] if model["name"] == "simple_cnn"]
    assert (simple_cnn["status"], simple_cnn["decided_by"]) == ("failed", "fp16")

    # The file is verified again from its source, and a wrong one is not.
    right = converter_command("verify", "one", "simple_cnn/fp16")
    assert right.returncode == 0, right.stdout + right.stderr
    model = onnx.load(tmp_path / "one" / file["path"])
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    wrong = converter_command("verify", "one", "simple_cnn/fp16", "--model", "wrong.onnx")
    assert wrong.returncode == 1
    assert "VERIFY_VALUE" in wrong.stdout
    shown = converter_command("inspect", "one", "simple_cnn/fp16", "--no-nodes")
    assert "float16" in shown.stdout, shown.stderr
    beside = converter_command("inspect", "one", "simple_cnn", "--diff", "simple_cnn/fp16")
    assert "Cast" in beside.stdout, beside.stderr
    planned = converter_command("plan", *_RUN)
    assert "stored   simple_cnn/fp16" in planned.stdout, planned.stdout
    replayed = converter_command("replay", "one", "simple_cnn/fp16")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "simple_cnn/fp16: ok" in replayed.stdout


def test_a_variant_is_resumed_by_itself(converter_command: Command, tmp_path: Path) -> None:
    done = converter_command(*_RUN, "hydra.run.dir=one")
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "one"
    before = rows(run)
    # As a kill would leave it: one variant was not done, and the manifest is that of the start.
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    last = {line["name"]: line for line in lines}
    for part in last["simple_cnn"]["artifacts"][1:]:
        part |= {"status": "not_run", "files": [], "onnx": None}
    (run / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in last.values()))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["run"] |= {"complete": False, "finished_at": None, "exit_code": None}
    (run / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(run / "models/simple_cnn/fp16")
    resumed = converter_command("resume", "one")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resumed: 2 of 3 models are done" in resumed.stdout
    after = rows(run)
    assert {label: row["files"] for label, row in after.items()} == {
        label: row["files"] for label, row in before.items()
    }
    assert after["simple_cnn"]["cached"] is False  # its row stayed


def test_a_damaged_entry_of_a_variant_is_made_again(
    converter_command: Command, tmp_path: Path
) -> None:
    words = (*_RUN, "select=[single_conv]")
    assert converter_command(*words, "hydra.run.dir=one").returncode == 0
    (kept,) = (tmp_path / "outputs/.store").glob("*/single_conv.fp16.onnx")
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.chmod(0o644)
    kept.unlink()  # it is linked to the file of the run
    kept.write_bytes(data)
    done = converter_command(*words, "hydra.run.dir=two")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path / "two")
    assert (found["single_conv"]["cached"], found["single_conv/fp16"]["cached"]) == (True, False)
    assert found["single_conv/fp16"]["cache_miss_reason"].startswith("the stored entry is damaged")


def test_runs_with_other_variants_do_not_make_a_model_in_turns(
    converter_command: Command, tmp_path: Path
) -> None:
    words = ("+model=single_conv", "benchmark=off")
    given = {
        "first": ["variant=fp16"],
        "other": ["variant=bf16"],
        # A variant that has to be made, of a file whose bounds are there.
        "again": ["variant=fp16", "variant.fp16.keep_io_types=false"],
    }
    cached = []
    for name, own in given.items():
        done = converter_command(*words, *own, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stdout + done.stderr
        row = rows(tmp_path / name)["single_conv"]
        cached.append((row["cached"], row["cache_miss_reason"]))
    assert cached == [
        (False, "not in the store"),
        (False, "what bf16 is verified on was not kept"),
        (True, None),
    ]


def test_without_its_parent_there_is_no_variant(converter_command: Command, tmp_path: Path) -> None:
    done = converter_command(*_RUN, "++models.simple_cnn.kwargs={nope: 1}", "hydra.run.dir=one")
    found = rows(tmp_path / "one")
    assert found["simple_cnn"]["status"] == "failed", done.stdout
    assert found["simple_cnn/fp16"]["status"] == "skipped"
    assert found["simple_cnn/fp16"]["verify"]["reason"].startswith("onnx is failed")
    assert found["simple_cnn/fp16"]["error"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["variant=fp61"], "fp61"),
        (["variant=fp16", "variant.fp16.keep_io=true"], "keep_io"),
        (["+models.simple_cnn.variants=[fp17]"], "Did you mean fp16?"),
        (["+models.simple_cnn.variants={Half: {plugin: fp16}}"], "is not a name"),
        (["+models.simple_cnn.variants={onnx: {plugin: fp16}}"], "is not a name"),
        (["+models.simple_cnn.variants={h: {plugin: fp16, op_block_list: Conv}}"], "op_block_list"),
        (["variant=fp16", "+models.simple_cnn.export.export_params=false"], "export_params"),
    ],
)
def test_mistakes_are_told_before_the_run(
    converter_command: Command, words: list[str], said: str
) -> None:
    done = converter_command("+experiment=smoke", *words)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr


def test_one_model_may_have_variants_of_its_own(converter_command: Command, tmp_path: Path) -> None:
    done = converter_command(
        "+experiment=smoke", "benchmark=cpu", "benchmark.budget_s=0.2", "select=[simple_cnn]",
        "+models.simple_cnn.variants={fp16: {}, io: {plugin: fp16, keep_io_types: false}, "
        "full: {plugin: fp16, op_block_list: [Conv, Gemm, MatMul], optional: true}}",
        "hydra.run.dir=one", "publish_to=good",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path / "one")
    status = {label: row["status"] for label, row in found.items()}
    assert status == {
        "simple_cnn": "ok",
        "simple_cnn/fp16": "ok",
        "simple_cnn/io": "ok",
        "simple_cnn/full": "failed",
    }
    assert {
        row["onnx"]["inputs"][0]["dtype"] for row in (found["simple_cnn"], found["simple_cnn/fp16"])
    } == {"float32"}
    assert found["simple_cnn/io"]["onnx"]["inputs"][0]["dtype"] == "float16"
    measured = [entry["status"] for row in found.values() for entry in row["latency"]]
    assert measured == ["measured"] * 3
    index = json.loads((tmp_path / "good/index.json").read_text())["models"]["simple_cnn"]
    assert sorted(index["variants"]) == ["fp16", "io"]
    for variant in index["variants"].values():
        assert (tmp_path / "good" / variant["files"][0]["path"]).is_file()
