"""What is published for servers and hubs: names, configurations, cards, versions."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nights import manifest
from test_publication import publish

from converter.finalize import zoo_index
from converter.model.errors import RunError
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.records import AccuracyRecord, Branch, FileInfo, TensorInfo, VerifyRecord
from converter.plugins.layouts import FileSet, triton
from tests.manifests import failed, fp16, ok, timed, verified_on, with_domain
from tests.published import artifacts, pbtxt, served, sound, stray

LAYOUTS = ("zoo", "triton", "huggingface")
Row = ArtifactRow


def night(day: int, *rows: ArtifactRow) -> Manifest:
    return manifest(*rows, day=day)


_ALONG = ("sbom.cdx.json", "SHA256SUMS", "index.json", "index.html")


def tree(target: Path) -> set[str]:
    return {
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_file() and path.name not in _ALONG
    }


# The three alike


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_new_version_takes_the_place_of_the_old_one(tmp_path: Path, layout: str) -> None:
    target = tmp_path / "zoo"
    rows = artifacts(tmp_path, "a", "one", half="half", data="weights")
    assert publish(night(1, *rows), tmp_path, layout=layout) == []
    assert sound(target) == {"a": "one", "a/fp16": "half"}
    before = zoo_index.read(target)
    # The same once more: no byte moves, and what was made keeps its run.
    assert publish(night(2, *rows), tmp_path, layout=layout) == []
    after = zoo_index.read(target)
    assert after.models["a"].sets == before.models["a"].sets
    assert after.models["a"].provenance == before.models["a"].provenance
    assert after.models["a"].verified_by == "run-2"
    rows = artifacts(tmp_path, "a", "two", half="half")
    assert publish(night(3, *rows), tmp_path, layout=layout) == []
    assert sound(target) == {"a": "two", "a/fp16": "half"}
    assert stray(target) == []
    assert zoo_index.read(target).models["a"].provenance.run_id == "run-3"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_last_good_version_stays_where_tonight_failed(tmp_path: Path, layout: str) -> None:
    rows = artifacts(tmp_path, "a", "good", half="half")
    publish(night(1, *rows), tmp_path, layout=layout)
    since = "2026-11-02T02:00:00.000Z"
    for bad in ([failed("a", failing_since=since)], [rows[0], fp16(failed("a"))]):
        assert publish(night(2, *bad), tmp_path, layout=layout) == []
        assert sound(tmp_path / "zoo") == {"a": "good", "a/fp16": "half"}
    assert publish(night(3), tmp_path, listed=["b"], layout=layout) == []
    assert sound(tmp_path / "zoo") == {"a": "good", "a/fp16": "half"}
    assert zoo_index.read(tmp_path / "zoo").models["a"].retired


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_variant_that_nobody_asks_for_any_more_goes(tmp_path: Path, layout: str) -> None:
    publish(night(1, *artifacts(tmp_path, "a", "one", half="half")), tmp_path, layout=layout)
    publish(night(2, *artifacts(tmp_path, "a", "one")), tmp_path, layout=layout)
    assert sound(tmp_path / "zoo") == {"a": "one"}
    assert stray(tmp_path / "zoo") == []
    assert not (tmp_path / "zoo" / "a.fp16").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_file_is_mended(tmp_path: Path, layout: str) -> None:
    rows = artifacts(tmp_path, "a", "one", data="weights")
    publish(night(1, *rows), tmp_path, layout=layout)
    (made,) = zoo_index.read(tmp_path / "zoo").models["a"].sets
    for part in made.files:
        (tmp_path / "zoo" / part.path).write_text("rotten")
        assert publish(night(2, *rows), tmp_path, layout=layout) == []
        assert sound(tmp_path / "zoo") == {"a": "one"}
    assert stray(tmp_path / "zoo") == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_links_are_refused_at_every_depth(tmp_path: Path, layout: str) -> None:
    rows = artifacts(tmp_path, "a", "one", data="weights")
    publish(night(1, *rows), tmp_path, layout=layout)
    target, outside = tmp_path / "zoo", tmp_path / "outside"
    (made,) = zoo_index.read(target).models["a"].sets
    places = {target / part.path for part in made.files}
    places |= {above for p in places for above in p.parents if target in above.parents}
    for place in places:
        place.rename(outside)
        place.symlink_to(outside)
        problems = publish(night(2, *rows), tmp_path, layout=layout)
        assert f"a was not published: a symbolic link is at an output path: {place}" in problems
        place.unlink()
        outside.rename(place)
    assert publish(night(3, *rows), tmp_path, layout=layout) == []
    assert sound(target) == {"a": "one"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_earlier_versions_stay_where_that_is_asked_for(tmp_path: Path, layout: str) -> None:
    said = {"layout": layout, "keep_versions": 2}
    for day, content in enumerate(("one", "two", "three"), 1):
        publish(night(day, *artifacts(tmp_path, "a", content)), tmp_path, **said)
    (kept,) = zoo_index.read(tmp_path / "zoo").models["a"].kept
    assert sound(tmp_path / "zoo") == {"a": "three"}
    (file,) = [p for p in kept.files if p.path.endswith(".onnx")]
    assert (tmp_path / "zoo" / file.path).read_text() == "two"
    # What is asked for again is there already.
    publish(night(4, *artifacts(tmp_path, "a", "two")), tmp_path, **said)
    entry = zoo_index.read(tmp_path / "zoo").models["a"]
    assert (sound(tmp_path / "zoo"), entry.sets) == ({"a": "two"}, [kept])
    assert entry.provenance.run_id == "run-4"
    publish(night(5, *artifacts(tmp_path, "a", "two")), tmp_path, layout=layout)
    assert zoo_index.read(tmp_path / "zoo").models["a"].kept == []
    assert stray(tmp_path / "zoo") == []


def test_a_folder_has_one_layout(tmp_path: Path) -> None:
    rows = artifacts(tmp_path, "a", "one")
    publish(night(1, *rows), tmp_path)
    with pytest.raises(RunError, match="the layout zoo: give triton a folder of its own"):
        publish(night(2, *rows), tmp_path, layout="triton")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_are_those_of_coreutils(tmp_path: Path, layout: str) -> None:
    publish(night(1, *artifacts(tmp_path, "a", "one", half="half")), tmp_path, layout=layout)
    for sums in (tmp_path / "zoo").rglob("SHA256SUMS"):
        done = subprocess.run(["sha256sum", "-c", sums.name], cwd=sums.parent, check=True,
                              capture_output=True, text=True)  # fmt: skip
        named = {line.partition(":")[0] for line in done.stdout.splitlines()}
        there = {str(p.relative_to(sums.parent)) for p in sums.parent.rglob("*") if p.is_file()}
        assert named == there - {"SHA256SUMS"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_left_of_a_model_that_could_not_be_published(
    tmp_path: Path, layout: str
) -> None:
    rows = artifacts(tmp_path, "a", "one")
    (tmp_path / "models/a/a.onnx").write_text("two")
    (problem,) = publish(night(1, *rows), tmp_path, layout=layout)
    assert "the file is not the one that the run recorded" in problem
    assert list((tmp_path / "zoo").iterdir()) == []


# Triton


def test_each_artifact_is_a_model_of_the_server(tmp_path: Path) -> None:
    rows = artifacts(tmp_path, "a", "one", half="half", data="weights")
    publish(night(1, *rows), tmp_path, layout="triton")
    # Of several files: a folder that is called as the file, and the name that it says itself.
    assert tree(tmp_path / "zoo") == {
        "a/config.pbtxt", "a/1/config.pbtxt", "a/1/model.onnx/model.onnx",
        "a/1/model.onnx/a.onnx.data", "a.fp16/config.pbtxt", "a.fp16/1/config.pbtxt",
        "a.fp16/1/model.onnx",
    }  # fmt: skip
    assert served(tmp_path / "zoo") == {"a": "one", "a.fp16": "half"}


def test_versions_are_counted_and_one_is_served(tmp_path: Path) -> None:
    for day, content in enumerate(("one", "two", "two", "three"), 1):
        rows = artifacts(tmp_path, "a", content, half="half")
        publish(night(day, *rows), tmp_path, layout="triton", keep_versions=2)
    target = tmp_path / "zoo"
    assert {path.name for path in (target / "a").iterdir()} == {"2", "3", "config.pbtxt"}
    assert {path.name for path in (target / "a.fp16").iterdir()} == {"1", "config.pbtxt"}
    assert served(target) == {"a": "three", "a.fp16": "half"}
    # Back to an earlier one, by hand: what it was served with lies beside it.
    (target / "a/config.pbtxt").write_text((target / "a/2/config.pbtxt").read_text())
    assert served(target) == {"a": "two", "a.fp16": "half"}


def test_what_somebody_changes_in_a_configuration_is_put_right(tmp_path: Path) -> None:
    rows = artifacts(tmp_path, "a", "one")
    publish(night(1, *rows), tmp_path, layout="triton")
    config = tmp_path / "zoo/a/config.pbtxt"
    before = config.read_text()
    for change in ("", "version_policy { specific { versions: [ 7 ] } }"):
        config.write_text(change)
        publish(night(2, failed("a")), tmp_path, layout="triton")
        assert config.read_text() == before


def test_models_of_others_are_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "zoo"
    for name in ("a", "ensemble"):
        (target / name / "1").mkdir(parents=True)
        (target / name / "config.pbtxt").write_text("mine")
    (problem,) = publish(night(1, *artifacts(tmp_path, "a", "one")), tmp_path, layout="triton")
    assert problem == (
        "a was not published: there is a file that is not in index.json: move it away: "
        f"{target}/a/config.pbtxt"
    )
    assert {path.read_text() for path in target.rglob("config.pbtxt")} == {"mine"}
    (target / "a/config.pbtxt").unlink()
    publish(night(2, *artifacts(tmp_path, "a", "one")), tmp_path, layout="triton")
    # A version that is not ours is none to remove, and its number is taken.
    assert "versions: [ 2 ]" in (target / "a/config.pbtxt").read_text()
    assert (target / "a/1").is_dir()
    assert (target / "a/2/model.onnx").is_file()
    assert (target / "ensemble/1").is_dir()


def test_two_models_never_share_a_folder(tmp_path: Path) -> None:
    rows = [*artifacts(tmp_path, "a", "one", half="half"), *artifacts(tmp_path, "a.fp16", "other")]
    (problem,) = publish(night(1, *rows), tmp_path, layout="triton")
    assert problem == (f"a.fp16 was not published: its folder is that of a: {tmp_path}/zoo/a.fp16")
    assert served(tmp_path / "zoo") == {"a": "one", "a.fp16": "half"}


def test_what_the_server_cannot_load_is_left_out_and_said(tmp_path: Path) -> None:
    one, half = artifacts(tmp_path, "a", "one", half="half")
    path = tmp_path / "models/a/a.ncnn.param"
    path.write_text("half")
    part = half.files[0].model_copy(update={"path": "models/a/a.ncnn.param"})
    ncnn = half.model_copy(update={"id": "ncnn", "format": "ncnn", "files": [part], "onnx": None})
    publish(night(1, one, ncnn), tmp_path, layout="triton")
    entry = zoo_index.read(tmp_path / "zoo").models["a"]
    assert entry.left_out == {"ncnn": "Triton has no backend for .param"}
    assert served(tmp_path / "zoo") == {"a": "one"}
    assert one.onnx is not None
    odd = [TensorInfo(name="x", dtype="complex64", shape=[1])]
    bad = one.model_copy(update={"onnx": one.onnx.model_copy(update={"inputs": odd})})
    (problem,) = publish(night(2, bad), tmp_path, layout="triton")
    assert problem.startswith("a was not published: Triton has no type complex64: ")


def test_files_of_other_runtimes_have_their_backend(tmp_path: Path) -> None:
    one, half = artifacts(tmp_path, "a", "one", half="half")
    rows = [one]
    for artifact, suffixes in (("ir", (".xml", ".bin")), ("trt", (".engine",))):
        parts = []
        for suffix in suffixes:
            (tmp_path / f"models/a/a.{artifact}{suffix}").write_text("half")
            path = f"models/a/a.{artifact}{suffix}"
            parts.append(half.files[0].model_copy(update={"path": path}))
        rows.append(
            half.model_copy(
                update={"id": artifact, "format": artifact, "files": parts, "onnx": None}
            )
        )
    publish(night(1, *rows), tmp_path, layout="triton")
    target = tmp_path / "zoo"
    assert (target / "a.ir/1/model.xml").is_file()
    assert (target / "a.ir/1/model.bin").is_file()
    assert (target / "a.trt/1/model.plan").is_file()
    said = {path.parent.name: pbtxt(path.read_text()) for path in target.glob("*/config.pbtxt")}
    assert {name: config["backend"] for name, config in said.items()} == {
        "a": ["onnxruntime"], "a.ir": ["openvino"], "a.trt": ["tensorrt"],
    }  # fmt: skip
    kinds = {name: config["instance_group"][0]["kind"] for name, config in said.items()}
    assert kinds == {"a": ["KIND_CPU"], "a.ir": ["KIND_CPU"], "a.trt": ["KIND_GPU"]}
    assert said["a.ir"]["input"] == said["a"]["input"]


def interface(
    inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], row: Row | None = None
) -> Row:
    """A row of a file with these shapes."""
    row = row or ok("a")
    assert row.onnx is not None
    shapes = {
        key: [TensorInfo(name=n, dtype="float32", shape=s) for n, s in named.items()]
        for key, named in (("inputs", inputs), ("outputs", outputs))
    }
    return row.model_copy(update={"onnx": row.onnx.model_copy(update=shapes)})


def tried(row: Row, *cases: tuple[list[int], list[int]]) -> Row:
    """The row, verified at these shapes of its first input and its output."""
    (case, *_) = row.verify.cases
    (output,) = case.outputs
    found = [
        case.model_copy(
            update={"shapes": {"x": given}, "outputs": [output.model_copy(update={"shape": got})]}
        )
        for given, got in cases
    ]
    verify: VerifyRecord = row.verify.model_copy(update={"cases": found})
    return with_domain(row.model_copy(update={"verify": verify}), verified_on())


def config(row: Row, **said: Any) -> dict[str, list[Any]]:
    options = triton.Options.model_validate(said)
    (files,) = triton.sets([row], options)
    return pbtxt(triton.config(files, "3", options))


def test_a_batch_is_what_was_verified() -> None:
    row = with_domain(interface({"x": ["batch", 3, None]}, {"y": ["batch"]}), verified_on())
    said = config(row)
    assert said["max_batch_size"] == ["8"]  # the largest size of its domain
    assert said["dynamic_batching"] == [{}]
    assert said["version_policy"] == [{"specific": [{"versions": ["3"]}]}]
    assert said["input"] == [
        {"name": ["x"], "data_type": ["TYPE_FP32"], "dims": ["3", "-1"]},
    ]
    # The server wants an axis where the model has none beside the batch.
    assert said["output"] == [
        {"name": ["y"], "data_type": ["TYPE_FP32"], "dims": ["1"], "reshape": [{"shape": []}]},
    ]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": [1, 3]}, {"y": ["batch", 3]}),  # fixed
        ({"x": ["batch", 3], "z": [3]}, {"y": ["batch", 3]}),  # of one input only
        ({"x": ["batch", 3], "z": ["n", 3]}, {"y": ["batch", 3]}),  # two symbols
        ({"x": ["batch", "batch"]}, {"y": ["batch", 3]}),  # on two axes
        ({"x": ["batch", 3]}, {"y": [1, 3]}),  # an output without it
        ({"x": ["batch", 3]}, {"y": []}),
        ({"x": ["batch", 3]}, {"y": ["batch", "batch"]}),  # pairs of rows
        ({"x": ["batch", 3]}, {"y": ["other", 3]}),  # of which nothing is known
    ],
)
def test_without_a_batch_axis_there_is_none(
    inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]
) -> None:
    said = config(with_domain(interface(inputs, outputs), verified_on()))
    assert said["max_batch_size"] == ["0"]
    assert "dynamic_batching" not in said
    (first, *_) = said["input"]
    shape = inputs["x"]
    assert first["dims"] == [str(size) if isinstance(size, int) else "-1" for size in shape]


def test_axes_of_outputs_with_names_of_their_own_are_known_by_the_cases() -> None:
    row = interface({"x": ["batch", 3]}, {"y": ["y_dim_0", "y_dim_1"]})
    follows = tried(row, ([2, 3], [2, 3]), ([5, 3], [5, 3]))
    assert config(follows)["max_batch_size"] == ["8"]
    for other in (
        tried(row, ([2, 3], [2, 3])),  # one size tells nothing
        tried(row, ([2, 3], [2, 3]), ([5, 3], [2, 3])),
        tried(row, ([2, 3], [2, 2]), ([5, 3], [5, 5])),  # pairs of rows
    ):
        assert config(other)["max_batch_size"] == ["0"]


def test_the_server_is_told_what_the_configuration_says() -> None:
    row = with_domain(interface({"x": ["batch", 3]}, {"y": ["batch", 3]}), verified_on())
    said = config(
        row, instances="gpu", instance_count=2, max_batch_size=32, max_queue_delay_us=500,
        preferred_batch_sizes=[8, 64], extra="model_warmup [ ]",
    )  # fmt: skip
    assert said["max_batch_size"] == ["32"]
    assert said["instance_group"] == [{"kind": ["KIND_GPU"], "count": ["2"]}]
    assert said["dynamic_batching"] == [
        {"preferred_batch_size": ["8"], "max_queue_delay_microseconds": ["500"]},
    ]
    assert said["model_warmup"] == []
    assert "dynamic_batching" not in config(row, dynamic_batching=False)
    # Its rows depend on each other: BatchNorm takes the mean of a batch.
    train = row.request.model_copy(update={"training": "train"})
    assert "dynamic_batching" not in config(row.model_copy(update={"request": train}))
    on_gpu = row.request.model_copy(update={"device": "cuda"})
    (group,) = config(row.model_copy(update={"request": on_gpu}))["instance_group"]
    assert group["kind"] == ["KIND_GPU"]


def test_another_configuration_is_another_version(tmp_path: Path) -> None:
    rows = artifacts(tmp_path, "a", "one")
    publish(night(1, *rows), tmp_path, layout="triton")
    publish(night(2, *rows), tmp_path, layout="triton", instance_count=2)
    said = pbtxt((tmp_path / "zoo/a/config.pbtxt").read_text())
    assert said["version_policy"] == [{"specific": [{"versions": ["2"]}]}]
    assert said["instance_group"] == [{"kind": ["KIND_CPU"], "count": ["2"]}]


def test_names_are_escaped() -> None:
    row = interface({'x"\\': [1]}, {"y": [1]})
    assert r'name: "x\"\\"' in triton.config(
        FileSet("a", row, [row], {"model.onnx": row.files[0]}), "1", triton.Options()
    )


# Hugging Face


def card(target: Path) -> str:
    (path,) = target.rglob("README.md")
    return path.read_text()


def test_a_hub_has_a_card_a_configuration_and_files_by_format(tmp_path: Path) -> None:
    rows = artifacts(
        tmp_path, "a", "one", half="half", data="weights", license="Apache-2.0",
        tags=["vision"], latency=[timed(p50=2.5)],
    )  # fmt: skip
    said = {"layout": "huggingface", "pipeline_tag": "image-classification", "about": "Sorts."}
    publish(night(1, *rows), tmp_path, **said)
    target = tmp_path / "zoo"
    home = Path(zoo_index.read(target).models["a"].sets[0].folder)
    assert {str(Path(name).relative_to(home)) for name in tree(target)} == {
        "README.md", "config.json", "onnx/model.onnx", "onnx/a.onnx.data", "onnx/model_fp16.onnx",
    }  # fmt: skip
    text = card(target)
    head = text.split("---")[1]
    assert 'license: "apache-2.0"' in head
    assert 'pipeline_tag: "image-classification"' in head
    assert '- "vision"' in head
    for told in (
        "# a\n\nSorts.\n", "The weights are untrained", "| `onnx/model.onnx` | float32 |",
        "| `onnx/model_fp16.onnx` | float16 |", "3e-06 (`scores`)", "2e-05 + 2e-05",
        "2.5 ms (CPUExecutionProvider)", "- `batch`: 1–3, 5, 7, 8",
        "- never reached: head.py:41 `if T > 16` (true)", "torch 2.14.0",
        "python -m converter\n", "run `run-1` of 2026-11-01",
    ):  # fmt: skip
        assert told in text, told
    found = json.loads((target / home / "config.json").read_text())
    assert found["files"]["onnx"]["files"] == ["onnx/model.onnx", "onnx/a.onnx.data"]
    assert found["files"]["fp16"]["precision"] == "float16"
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 3, None]}]
    assert zoo_index.read(target).models["a"].license == "Apache-2.0"
    # Tonight's latency is another one, and the card is that of the run that made the files.
    later = [row.model_copy(update={"latency": [timed(p50=9.0)]}) for row in rows]
    publish(night(2, *later), tmp_path, **said)
    assert card(target) == text
    publish(night(3, *later), tmp_path, layout="huggingface", about="Sorts parts.")
    assert "Sorts parts." in card(target)
    assert "run `run-3`" in card(target)


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("applied", "judged by its signal: 31.2 dB above the noise, 15 dB asked"),
        ("shown", "judged by its signal: 31.2 dB above the noise, none asked"),
    ],
)
def test_a_card_says_what_a_quantised_file_was_held_to(
    tmp_path: Path, gate: str, told: str
) -> None:
    accuracy = AccuracyRecord.model_validate({"sqnr_db": 31.24, "gate": gate})
    first, half = artifacts(tmp_path, "a", "one", half="half")
    publish(
        night(1, first, half.model_copy(update={"accuracy": accuracy})),
        tmp_path,
        layout="huggingface",
    )
    (row,) = [line for line in card(tmp_path / "zoo").splitlines() if "model_fp16" in line]
    assert told in row


def test_a_licence_of_ones_own_has_a_name(tmp_path: Path) -> None:
    rows = artifacts(tmp_path, "a", "one", license="For members only")
    publish(night(1, *rows), tmp_path, layout="huggingface")
    assert 'license: other\nlicense_name: "For members only"' in card(tmp_path / "zoo")
    publish(night(2, *artifacts(tmp_path, "a", "one")), tmp_path, layout="huggingface")
    assert "license" not in card(tmp_path / "zoo")


EVIL = "x`|\n\n<img src=x onerror=alert(1)>\n```\n[a](javascript:x)\x1b[31m"


@pytest.mark.parametrize("layout", ["zoo", "huggingface"])
def test_names_stay_text_on_a_card(tmp_path: Path, layout: str) -> None:
    """A backtick and a line break in the name of an input ended its code span."""
    (row,) = artifacts(tmp_path, "a", "one", source=f"registry:{EVIL}")
    assert row.onnx is not None
    assert row.verify.domain is not None
    inputs = [TensorInfo(name=EVIL, dtype="float32", shape=[EVIL, 3])]
    onnx = row.onnx.model_copy(update={"inputs": inputs})
    domain = row.verify.domain.model_copy(
        update={
            "inputs": [row.verify.domain.inputs[0].model_copy(update={"name": EVIL})],
            "symbols": [
                row.verify.domain.symbols[0].model_copy(update={"symbol": EVIL, "rule": EVIL})
            ],
            "unreached": [Branch(file=f"{EVIL}.py", line=1, text=EVIL, outcome="true")],
        }
    )
    (case, *_) = row.verify.cases
    outputs = [case.outputs[0].model_copy(update={"name": EVIL})]
    cases = [case.model_copy(update={"outputs": outputs})]
    verify = row.verify.model_copy(update={"domain": domain, "cases": cases})
    evil = manifest(row.model_copy(update={"onnx": onnx, "verify": verify}))
    run = evil.run.model_copy(update={"experiment": EVIL, "overrides": [f"a={EVIL}"]})
    assert publish(evil.model_copy(update={"run": run}), tmp_path, layout=layout) == []

    text = min((tmp_path / "zoo").rglob("README.md")).read_text()
    assert "onerror" in text
    assert "\x1b" not in text
    # What a reader of CommonMark takes for code, in blocks and in spans, is text.
    left = re.sub(r"(?ms)^(`{3,})\w*$.*?^\1$", "", text)
    left = re.sub(r"(?<!`)(`+)(?!`)(?:(?!\n\n).)*?(?<!`)\1(?!`)", "", left, flags=re.DOTALL)
    assert re.findall(r"(?<!\\)<|(?<!\\)\[(?!x)", left) == []
    # The line that a reader pastes has no line of somebody else's in it.
    (pasted,) = re.findall(r"(?ms)^(`{3,})python$(.*?)^\1$", text)
    assert [line[:1] for line in pasted[1].split("\n")] == ["", "i", "", "s", "#", "o", ""]


def test_a_card_tells_no_place_of_the_machine(tmp_path: Path) -> None:
    rows = artifacts(tmp_path, "a", "one", source="file:/home/me/nets/net.py")
    run = night(1, *rows)
    overrides = ["+experiment=mine", "publish_to={path: /home/me/zoo}", "store.path=/home/me/s"]
    run = run.model_copy(update={"run": run.run.model_copy(update={"overrides": overrides})})
    publish(run, tmp_path, layout="huggingface")
    assert "python -m converter +experiment=mine\n" in card(tmp_path / "zoo")
    for path in (tmp_path / "zoo").rglob("*"):
        if path.is_file() and path.name != "index.json":
            assert "/home/me" not in path.read_text(), path


def test_every_part_of_a_file_is_where_the_layout_says() -> None:
    part = FileInfo(path="models/a/a.onnx", bytes=1, sha256="0" * 64)
    row = ok("a", files=[part])
    assert FileSet("a", row, [row], {"onnx/model.onnx": part}).of(row) == ["onnx/model.onnx"]
