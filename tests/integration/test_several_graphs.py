"""Several graphs of one model: each a file, and together the tokens that PyTorch generates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converter.config import validation
from converter.layout import files
from converter.model.errors import Code
from converter.model.job import Job
from converter.model.records import JobResult
from converter.plan import graphs, jobs
from converter.worker.pipeline import compose, pipeline
from converter.worker.reference import preparing
from tests.conftest import REPOSITORY, Command

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
BOTH = pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])


def tokens(length: int) -> dict[str, Any]:
    return {"shape": [1, length], "dtype": "int64", "low": 0, "high": 29}


def cache(size: int = 5) -> list[dict[str, Any]]:
    entry = {"shape": [1, 2, size, 8]}
    return [{"key": entry, "value": entry} for _ in range(2)]


def axes(name: str, symbol: str) -> dict[str, dict[int, str]]:
    return {f"{name}.{n}.{part}": {2: symbol} for n in range(2) for part in ("key", "value")}


FIRST = {
    "call": "first",
    "inputs": {"input_ids": tokens(5)},
    "dynamic_axes": {"input_ids": {1: "length"}},
}
THEN = {
    "call": "then",
    "inputs": {"input_ids": tokens(1), "past": cache()},
    "dynamic_axes": axes("past", "past"),
}
GENERATE = {"first": "first", "then": "then", "token": "input_ids"}


class Run:
    """The graphs of a model of ``generating.py``, and what runs them together."""

    def __init__(self, folder: Path, name: str, **model: Any) -> None:
        model["source"] = {"file": str(HERE / "generating.py"), "name": name}
        config = {"models": {"m": model}, "benchmark": {"providers": []}, "opset": 18}
        spec = validation.parse(config)
        self.plan = jobs.build(spec, run_dir=folder, cwd=folder, trust=[str(HERE)])
        self.results: dict[str, JobResult] = {}
        for job in self.plan.jobs:
            self.results[job.name] = self.convert(job)

    def convert(self, job: Job) -> JobResult:
        Path(job.staging_dir).mkdir(parents=True)
        result = pipeline.run(job, lambda event: None)
        assert result.status == "ok", result.error
        return result

    def together(self, **changes: Any) -> JobResult:
        (job,) = self.plan.composed
        paths = {
            name: Path(part.staging_dir) / self.results[part.name].files[0].path
            for name, part in job.graphs.items()
        }
        found = {
            "graph_files": {name: str(path) for name, path in paths.items()},
            "graph_hashes": {n: {path.name: files.sha256(path)} for n, path in paths.items()},
            "graph_weights": {
                n: self.results[p.name].weights_sha256 for n, p in job.graphs.items()
            },
        }
        return compose.run(job.model_copy(update=found | changes), lambda event: None)


def test_a_decoder_with_a_cache_gives_pytorchs_tokens(tmp_path: Path) -> None:
    graphs = {"first": FIRST, "then": THEN}
    exporters = [{**graph, "exporter": "torchscript"} for graph in graphs.values()]
    run = Run(tmp_path, "Gpt", graphs=dict(zip(graphs, exporters, strict=True)), generate=GENERATE)
    result = run.together()
    assert result.status == "ok", result.error
    assert [case.label for case in result.verify.cases][::19] == ["token 1", "token 20"]
    assert result.verify.cases[-1].shapes["past.0.key"] == [1, 2, 23, 8]
    assert "tokens compared: 20" in str(result.verify.reason)
    assert len({one.weights_sha256 for one in [*run.results.values(), result]}) == 1


def test_and_with_dynamo(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        "Gpt",
        graphs={"first": FIRST, "then": {**THEN, "call": {"_target_": "generating.then_of"}}},
        exporter="dynamo",
        generate=GENERATE,
    )
    assert run.together().status == "ok"


@pytest.mark.parametrize("name", ["Late", "Exchanged"])
def test_a_cache_that_is_wired_wrongly_is_refused(tmp_path: Path, name: str) -> None:
    graphs = {"first": FIRST, "then": THEN}
    run = Run(tmp_path, name, graphs=graphs, exporter="torchscript", generate=GENERATE)
    result = run.together()
    assert result.error is not None
    assert result.error.code is Code.VERIFY_VALUE
    assert result.error.message.startswith("token 2 (then): ")
    assert "which output feeds which input" in result.error.hint
    assert result.verify.status == "failed"


def test_weights_that_differ_between_the_graphs_are_told(tmp_path: Path) -> None:
    graphs = {"first": FIRST, "then": THEN}
    run = Run(tmp_path, "Undecided", graphs=graphs, exporter="torchscript", generate=GENERATE)
    error = run.together().error
    assert error is not None
    assert (error.stage, error.code) == ("load", Code.NONDETERMINISTIC)
    assert "m.first has other weights" in error.message


def test_a_file_that_was_replaced_is_refused(tmp_path: Path) -> None:
    graphs = {"first": FIRST, "then": THEN}
    run = Run(tmp_path, "Gpt", graphs=graphs, exporter="torchscript", generate=GENERATE)
    error = run.together(graph_hashes={"then": {"m.then.onnx": "0" * 64}}).error
    assert error is not None
    assert error.code is Code.INPUT_CHANGED


POSITIONS = {"shape": [1, 5], "dtype": "int64", "low": 0, "high": 40}
PROMPT = {
    "call": "prompt",
    "inputs": {"input_ids": tokens(5), "position_ids": POSITIONS},
    "dynamic_axes": {"input_ids": {1: "length"}, "position_ids": {1: "length"}},
}
GO_ON = {
    "call": "go_on",
    "inputs": {
        "input_ids": tokens(1),
        "position_ids": {**POSITIONS, "shape": [1, 1]},
        "past": cache(),
    },
    "dynamic_axes": axes("past", "past"),
}


def positioned(folder: Path, **feed: str) -> Run:
    generate = {"first": "prompt", "then": "go_on", "token": "input_ids", "feed": feed, "tokens": 6}
    graphs = {"prompt": PROMPT, "go_on": GO_ON}
    return Run(folder, "Positioned", graphs=graphs, exporter="torchscript", generate=generate)


def test_positions_are_counted_from_the_size_of_a_cache(tmp_path: Path) -> None:
    result = positioned(tmp_path, position_ids="past").together()
    assert result.status == "ok", result.error


def test_positions_that_nothing_feeds_are_told(tmp_path: Path) -> None:
    error = positioned(tmp_path).together().error
    assert error is not None
    assert error.code is Code.OUTPUT_STRUCTURE
    assert "nothing feeds the input position_ids of prompt" in error.message
    assert "feed: {position_ids: OUTPUT}" in error.hint


T5 = {
    "encoder": {
        "call": "encoder",
        "inputs": {"input_ids": tokens(7)},
        "outputs": ["states"],
        "dynamic_axes": {"input_ids": {1: "source"}, "states": {1: "source"}},
    },
    "decoder": {
        "call": "decode",
        "inputs": {"ids": tokens(2), "states": {"shape": [1, 7, 16]}},
        "dynamic_axes": {"ids": {1: "length"}, "states": {1: "source"}},
    },
    "decoder_with_past": {
        "call": "decode_next",
        "inputs": {"ids": tokens(1), "past": cache(), "past_cross": cache(7)},
        "dynamic_axes": axes("past", "past") | axes("past_cross", "source"),
    },
}


@BOTH
def test_an_encoder_and_a_decoder_with_crossed_caches(tmp_path: Path, exporter: str) -> None:
    generate = {
        "once": ["encoder"],
        "first": "decoder",
        "then": "decoder_with_past",
        "token": "ids",
    }
    run = Run(tmp_path, "T5", graphs=T5, exporter=exporter, generate=generate)
    result = run.together()
    assert result.status == "ok", result.error
    assert "tokens compared: 20" in str(result.verify.reason)
    # Each file has the weights that it uses.
    sizes = [one.onnx.parameters for one in run.results.values() if one.onnx is not None]
    assert sizes[0] < sizes[1]


def test_without_a_cache_all_tokens_run_again(tmp_path: Path) -> None:
    generate = {"once": ["encoder"], "first": "decoder", "token": "ids", "tokens": 5}
    graphs = {name: T5[name] for name in ("encoder", "decoder")}
    run = Run(tmp_path, "T5", graphs=graphs, exporter="torchscript", generate=generate)
    result = run.together()
    assert result.status == "ok", result.error
    assert result.verify.cases[-1].shapes["ids"] == [1, 6]


def test_one_graph_with_an_empty_cache_at_first(tmp_path: Path) -> None:
    graph = {
        "call": "step",
        "inputs": {"input_ids": tokens(3), "past": cache()},
        "dynamic_axes": {"input_ids": {1: "length"}, **axes("past", "past")},
    }
    generate = {"first": "step", "then": "step", "token": "input_ids", "tokens": 6}
    run = Run(tmp_path, "Merged", graphs={"step": graph}, exporter="torchscript", generate=generate)
    result = run.together()
    assert result.status == "ok", result.error
    shapes = [case.shapes["past.1.value"][2] for case in result.verify.cases]
    assert shapes == [0, 3, 4, 5, 6, 7]


def test_tokens_that_only_rounding_tells_apart_are_ties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = {"first": FIRST, "then": THEN}
    run = Run(tmp_path, "Tied", graphs=graphs, exporter="torchscript", generate=GENERATE)
    noise, call = np.random.default_rng(0), compose._call

    def rounded(*arguments: Any) -> list[Any]:
        logits, *others = call(*arguments)
        moved = logits * (1 + 1e-6 * noise.standard_normal(logits.shape))
        return [moved.astype(logits.dtype), *others]

    monkeypatch.setattr(compose, "_call", rounded)
    result = run.together()
    assert result.status == "ok", result.error
    # PyTorch's tokens were fed on, or the next step would be of another sequence.
    assert int(str(result.verify.reason).partition("ties: ")[2].partition(";")[0]) > 0


def test_random_weights_are_fitted_alike_for_all_graphs(tmp_path: Path) -> None:
    image = {"shape": [2, 3, 16, 16]}
    small = {"inputs": {"input": image}, "outputs": ["y"]}
    model = {
        "source": "conv_bn_relu",
        "graphs": {"whole": small, "stem": {**small, "call": "0"}},
        "chain": ["stem", "whole"],
    }
    spec = validation.parse({"models": {"m": model}})
    plan = jobs.build(spec, run_dir=tmp_path, cwd=tmp_path, trust=[])
    loaded = [preparing.load(job)[0] for job in (*plan.jobs, *plan.composed)]
    assert all(one.conditioned for one in loaded)
    assert len({one.weights_sha256 for one in loaded}) == 1
    # By itself the stem would have other weights than as a part of the whole.
    stem = plan.jobs[1]
    other = preparing.load(stem.model_copy(update={"first": graphs.first(stem)}))[0]
    assert other.weights_sha256 != loaded[0].weights_sha256


IMAGE = {
    "encode": {
        "call": "encode",
        "inputs": {"image": {"shape": [1, 3, 8, 8]}},
        "outputs": ["latent"],
    },
    "decode": {"call": "decode", "inputs": {"latent": {"shape": [1, 4, 4, 4]}}},
}


def test_a_chain_is_compared_as_a_whole(tmp_path: Path) -> None:
    run = Run(tmp_path, "Autoencoder", graphs=IMAGE, exporter="torchscript", chain=[*IMAGE])
    result = run.together()
    assert result.status == "ok", result.error
    labels = [case.label for case in result.verify.cases]
    assert labels == ["encode", "decode", "encode second", "decode second"]


def test_a_chain_without_a_link_is_told(tmp_path: Path) -> None:
    graphs = {**IMAGE, "encode": {**IMAGE["encode"], "outputs": ["z"]}}
    run = Run(tmp_path, "Autoencoder", graphs=graphs, exporter="torchscript", chain=[*graphs])
    error = run.together().error
    assert error is not None
    assert "decode takes nothing of encode: its inputs are latent" in error.message


def test_the_hooks_of_what_is_called_run_and_no_others(tmp_path: Path) -> None:
    graphs = {"first": FIRST, "again": {**FIRST, "call": "again"}}
    run = Run(tmp_path, "Hooked", graphs=graphs, exporter="torchscript")
    assert {one.status for one in run.results.values()} == {"ok"}
    assert run.plan.composed == []
    assert "generate or chain would compare them" in run.plan.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "graphs"), [("gpt2_with_past", 2), ("t5", 3)])
def test_models_of_transformers_in_yaml_alone(
    converter_command: Command, name: str, graphs: int
) -> None:
    pytest.importorskip("transformers")
    words = ["--config-dir", str(REPOSITORY / "examples"), f"+onboarding={name}", "benchmark=off"]
    done = converter_command(*words, "hydra.run.dir=run", CONVERTER_TRUST="transformers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{graphs + 1} models: {graphs + 1} ok" in done.stdout


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    run = Run(tmp_path, "Gpt", graphs={"first": FIRST})
    other = run.plan.jobs[0].model_copy(
        update={"call": "frist", "staging_dir": str(tmp_path / "x")}
    )
    Path(other.staging_dir).mkdir()
    error = pipeline.run(other, lambda event: None).error
    assert error is not None
    assert (error.code, error.stage) == (Code.LOAD, "load")
    assert "call: 'frist': Gpt has no 'frist'" in error.message
    assert "first" in error.hint


def test_a_model_has_its_own_forward_after_an_export() -> None:
    class Replaced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.forward = self.other

        def other(self, x: torch.Tensor, n: int = 2) -> torch.Tensor:
            return x * n

    from converter.worker.reference import execution
    from converter.worker.sources.loading import Loaded

    model = Replaced()
    loaded = Loaded(model, "module", torch.device("cpu"), None)
    job = Job.model_construct(
        name="m", inputs={"x": None}, arguments=[], constants={}, trust=[], call=None
    )
    with execution.bound(loaded, job, (torch.ones(1),)):
        assert model.forward != model.other
    assert model.forward == model.other
