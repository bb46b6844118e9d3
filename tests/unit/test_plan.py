"""From a configuration to jobs: inheritance, globs, opsets, paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converter.config.validation import parse
from converter.layout import environment
from converter.model.errors import ConfigError
from converter.model.job import Job
from converter.model.records import STAGES
from converter.plan import jobs
from converter.plan.jobs import Plan

RUN = Path("/runs/r1")
HERE = Path("/work here")


def build(config: dict[str, Any], *, sweep: bool = False) -> Plan:
    return jobs.build(parse(config, sweep=sweep), run_dir=RUN, cwd=HERE, trust=["mine"])


def job(model: dict[str, Any], **run: Any) -> Job:
    (only,) = build({"models": {"m": {"source": "conv_bn_relu"} | model}} | run).jobs
    return only


def test_a_model_inherits_from_the_run_and_the_registry() -> None:
    made = job({}, opset=15, training="train", seed=7, device="cpu", simplify=False)
    assert (made.opset, made.training, made.seed, made.device) == (15, "train", 7, "cpu")
    assert made.simplifier is None
    assert made.inputs["input"].shape == [2, 3, 255, 255]
    assert made.outputs == ["output"]
    assert made.trust == ["mine"]
    assert (made.model_dir, made.staging_dir) == ("/runs/r1/models/m", "/runs/r1/.staging/m")


def test_what_a_model_states_wins() -> None:
    made = job({"opset": 12, "training": "eval", "simplify": True}, opset=15, training="train")
    assert (made.opset, made.training, made.simplifier) == (12, "eval", "onnxsim")


def test_stated_inputs_replace_the_registrys_as_a_whole() -> None:
    made = job({"inputs": {"x": {"shape": [1, 3, 9, 9]}}})
    assert list(made.inputs) == ["x"]


def test_a_job_survives_json() -> None:
    made = job({"dynamic_axes": {"input": {0: "n"}}, "constants": {"k": [1, 2.5, None]}})
    assert Job.model_validate_json(made.model_dump_json()) == made


def test_listed_axes_get_a_name_of_their_own() -> None:
    made = job({"dynamic_axes": {"input": [0, 2], "output": [0]}})
    assert made.dynamic_axes == {
        "input": {0: "input_dim_0", 2: "input_dim_2"},
        "output": {0: "output_dim_0"},
    }


def test_tolerances_and_reference_merge_one_by_one() -> None:
    run = {"verify": {"rtol": 1e-2, "atol": 1e-4, "reference": "export"}}
    shapes = [{"input": [4, 3, 255, 255]}]
    changes = {"verify": {"atol": 1e-6, "shapes": shapes}, "dynamic_axes": {"input": [0]}}
    made = job(changes, **run).verify
    assert (made.rtol, made.atol, made.reference) == (1e-2, 1e-6, "export")
    assert made.shapes == shapes


def test_mutations_are_inherited_and_can_be_switched_off() -> None:
    strict = {"verify": {"mutations": 8}}
    assert job({}).verify.mutations is None
    assert job({}, **strict).verify.mutations == 8
    assert job({"verify": {"mutations": 0}}, **strict).verify.mutations == 0


def test_relative_paths_start_where_the_command_did() -> None:
    source = {"file": "nets/a.py", "name": "A"}
    tensor = {"shape": [1], "fill": "file", "path": "x.npy"}
    case = {"label": "c", "inputs": {"x": {"fill": "file", "path": "../y.npy"}}}
    made = job(
        {
            "source": source,
            "weights": {"checkpoint": "w.pt"},
            "inputs": {"x": tensor},
            "verify": {"cases": [case]},
        }
    )
    assert made.source.file == "/work here/nets/a.py"
    assert made.weights.checkpoint == "/work here/w.pt"  # type: ignore[union-attr]
    assert made.inputs["x"].path == "/work here/x.npy"
    assert made.verify.cases[0].inputs["x"].path == "/y.npy"


def test_absolute_paths_stay() -> None:
    assert job({"source": {"onnx": "/zoo/a.onnx"}}).source.onnx == "/zoo/a.onnx"


# Exporters and opsets


def test_auto_keeps_the_exporters_that_can_do_the_opset() -> None:
    assert job({}, opset=17).exporters == ["torchscript", "dynamo"]
    assert job({}, opset=13).exporters == ["torchscript"]
    assert job({}, opset=25).exporters == ["dynamo"]
    made = job({}, opset=17, exporter={"name": "auto", "order": ["dynamo", "torchscript"]})
    assert (made.exporter, made.exporters) == ("auto", ["dynamo", "torchscript"])


def test_a_named_exporter_is_the_only_one() -> None:
    assert job({"exporter": "dynamo"}).exporters == ["dynamo"]
    made = job({}, exporter={"name": "dynamo"})
    assert (made.exporter, made.exporters) == ("dynamo", ["dynamo"])
    made = job({"exporter": "auto"}, exporter={"name": "dynamo"})
    assert made.exporters == ["torchscript", "dynamo"]


def test_an_onnx_source_keeps_its_opset_unless_it_is_pinned() -> None:
    made = job({"source": {"onnx": "a.onnx"}})
    assert (made.opset, made.inputs, made.exporters) == (None, {}, ["original"])
    assert job({"source": {"onnx": "a.onnx"}, "opset": 21}).opset == 21


@pytest.mark.parametrize(
    ("opset", "reason"),
    [
        (13, "the run's opset 13 is below the model's minimum, 15"),
        (19, "the run's opset 19 is above the model's maximum, 18"),
    ],
)
def test_a_model_is_skipped_outside_its_range(opset: int, reason: str) -> None:
    model = {"source": "conv_bn_relu", "opset": {"min": 15, "max": 18}}
    made = build({"models": {"m": model, "n": {"source": "conv_bn_relu"}}, "opset": opset})
    assert [made_job.name for made_job in made.jobs] == ["n"]
    (row,) = made.skipped
    assert (row.name, row.status, row.error, row.verify.reason) == ("m", "skipped", None, reason)
    assert {stage.status for stage in row.stages.values()} == {"not_run"}
    assert list(row.stages) == list(STAGES)
    assert made.order == ["m", "n"]


def test_within_its_range_a_model_runs() -> None:
    assert job({"opset": {"min": 15}}, opset=15).opset == 15


def test_what_no_exporter_can_do_is_skipped_in_a_sweep_only() -> None:
    config = {"models": {"m": {"source": "conv_bn_relu", "exporter": "dynamo"}}, "opset": 13}
    (row,) = build(config, sweep=True).skipped
    assert row.verify.reason is not None
    assert row.verify.reason.startswith(
        "opset 13 was requested, but dynamo supports opsets 16 to 25"
    )
    with pytest.raises(ConfigError):
        build(config)


# include, exclude, select


def test_included_models_are_named_by_the_last_part() -> None:
    config = {"include": ["torchvision/resnet1*", "torchvision/resnet34"]}
    made = build(config | {"exclude": ["*/resnet152"]})
    assert {j.name: j.source.registry for j in made.jobs} == {
        "resnet18": "torchvision/resnet18",
        "resnet101": "torchvision/resnet101",
        "resnet34": "torchvision/resnet34",
    }


def test_an_entry_overrides_an_included_model_and_may_omit_its_source() -> None:
    made = build({"include": ["torchvision/resnet18"], "models": {"resnet18": {"opset": 19}}})
    (only,) = made.jobs
    assert (only.source.registry, only.opset) == ("torchvision/resnet18", 19)
    assert only.inputs["input"].shape == [1, 3, 224, 224]


def test_two_included_models_of_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import registry

    both = {"a/net": registry.find("conv_bn_relu"), "b/net": registry.find("conv_bn_relu")}
    monkeypatch.setattr(registry, "names", lambda pattern: list(both))
    monkeypatch.setattr(registry, "find", both.get)
    with pytest.raises(ConfigError, match="a/net and b/net would both be named 'net'"):
        parse({"include": ["*/net"]})


def test_models_that_are_not_selected_have_no_row() -> None:
    entry = {"source": "conv_bn_relu"}
    made = build({"models": {"a1": entry, "a2": entry, "b": entry}, "select": ["a*", "b"]})
    assert made.order == ["a1", "a2", "b"]
    made = build({"models": {"a1": entry, "a2": entry, "b": entry}, "select": ["a*"]})
    assert made.order == ["a1", "a2"]


def test_all_of_torchvision_is_planned() -> None:
    made = build({"include": ["torchvision/*"]})
    assert len(made.jobs) == 121
    assert all(made_job.inputs for made_job in made.jobs)


def test_the_cores_are_shared_by_the_workers() -> None:
    cores = environment.cores()
    assert jobs.threads("auto") == 1
    assert jobs.threads(1) == cores
    assert jobs.threads(10 * cores) == 1
