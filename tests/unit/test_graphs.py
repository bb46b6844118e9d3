"""Several graphs of one model: what an entry stands for, what is refused, how a run joins them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from converter.cli import command_line
from converter.config import validation
from converter.layout import runfiles
from converter.model.artifact import ONNX
from converter.model.batch import BatchSpec, ExecutorSpec
from converter.model.errors import Code, ConfigError, ExitCode
from converter.model.job import Composed, Job
from converter.model.manifest import ArtifactRow
from converter.model.records import ErrorRecord, JobResult, StageRecord
from converter.plan import foresight, jobs
from converter.plan.jobs import Plan
from converter.plan.keys import Keys
from converter.plugins.executors import Events, Executor
from tests.unit.test_resume import Stage
from tests.unit.test_runner import Script, failed

IDS = {"shape": [1, 4], "dtype": "int64"}
STATE = {"shape": [1, 4, 8]}
ENCODER: dict[str, Any] = {"call": "encoder", "inputs": {"ids": IDS}, "outputs": ["state"]}
DECODER: dict[str, Any] = {"call": "decode", "inputs": {"ids": IDS, "state": STATE}}
T5: dict[str, Any] = {
    "source": {"_target_": "mine.T5"},
    "graphs": {"encoder": ENCODER, "decoder": DECODER},
    "generate": {"once": ["encoder"], "first": "decoder", "token": "ids"},
}


def spec(model: dict[str, Any], **run: Any) -> BatchSpec:
    return validation.parse({"models": {"t5": model, "b": {"source": "srcnn"}}, **run})


def plan(model: dict[str, Any], **run: Any) -> Plan:
    return jobs.build(spec(model, **run), run_dir=Path("/r"), cwd=Path("/r"), trust=[])


def job(model: dict[str, Any], graph: str) -> Job:
    return next(one for one in plan(model).jobs if one.name == f"t5.{graph}")


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        spec({**T5, **changes})
    return str(error.value)


def test_each_graph_is_a_model_and_one_row_more_joins_them() -> None:
    made = plan(T5)
    assert made.order == ["t5.encoder", "t5.decoder", "t5", "b"]
    assert [one.name for one in made.jobs] == ["t5.encoder", "t5.decoder", "b"]
    (joined,) = made.composed
    assert (joined.name, [*joined.graphs]) == ("t5", ["encoder", "decoder"])
    assert Composed.model_validate_json(joined.model_dump_json()) == joined


def test_a_graph_has_what_it_leaves_out_from_its_entry() -> None:
    model = {
        **T5,
        "opset": 18,
        "verify": {"rtol": 0.1, "atol": 0.2},
        "dynamic_axes": {"state": {1: "n"}, "other": {0: "batch"}},
        "pass": {"ids": "keyword", "state": "keyword"},
    }
    graphs = {"encoder": {**ENCODER, "verify": {"atol": 0.5}, "opset": 17}, "decoder": DECODER}
    one, two = (job({**model, "graphs": graphs}, name) for name in graphs)
    assert (one.opset, one.verify.rtol, one.verify.atol) == (17, 0.1, 0.5)
    assert (two.opset, two.verify.rtol, two.verify.atol) == (18, 0.1, 0.2)
    assert (one.dynamic_axes, two.dynamic_axes) == ({"state": {1: "n"}}, {"state": {1: "n"}})
    assert [argument.keyword for argument in two.arguments] == [True, True]
    assert one.key == "models.t5.graphs.encoder"


def test_all_graphs_are_fitted_on_the_first_one() -> None:
    first = [one.first for one in plan(T5, select=["t5.decoder"]).jobs]
    assert first[0] is not None
    assert (first[0].call, [*first[0].inputs]) == ("encoder", ["ids"])
    # Nothing changes weights that are given.
    given = {**T5, "weights": {"checkpoint": "w.pt"}}
    assert job(given, "decoder").first is None


@pytest.mark.parametrize(
    ("select", "names"),
    [
        (["t5"], ["t5.encoder", "t5.decoder", "t5"]),
        (["t5*"], ["t5.encoder", "t5.decoder", "t5"]),
        (["t5.encoder"], ["t5.encoder"]),
    ],
)
def test_select_names_a_graph_or_all_of_an_entry(select: list[str], names: list[str]) -> None:
    assert plan(T5, select=select).order == names


def test_graphs_that_nothing_joins_are_told() -> None:
    made = plan({key: value for key, value in T5.items() if key != "generate"})
    assert made.composed == []
    assert "t5: each graph is verified by itself; generate or chain" in made.notes[0]


def test_an_expected_failure_is_that_of_the_whole_where_there_is_one() -> None:
    expect = {"status": "failed", "code": "VERIFY_VALUE", "reason": "known"}
    made = plan({**T5, "expect": expect})
    assert made.jobs[0].expect is None
    assert made.composed[0].expect is not None
    alone = {key: value for key, value in T5.items() if key != "generate"}
    assert plan({**alone, "expect": expect}).jobs[0].expect is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"graphs": {"encoder": {**ENCODER, "kwargs": {"n": 1}}, "decoder": DECODER}},
            "models.t5.graphs.encoder.kwargs: is the same for all graphs. State models.t5.kwargs",
        ),
        ({"graphs": {}}, "models.t5.generate: there are no graphs to run together."),
        (
            {"generate": {"first": "decoderr", "token": "ids"}},
            "generate.first: there is no graph 'decoderr'. Did you mean decoder or encoder?",
        ),
        (
            {"generate": {"first": "decoder", "token": "idz"}},
            "models.t5.generate.token: the graph decoder has no input 'idz'. Did you mean ids?",
        ),
        (
            {"generate": {"first": "decoder", "token": "state"}},
            "of decoder is float32 [1, 4, 8]; expected whole numbers. State dtype: int64.",
        ),
        (
            {"generate": {**T5["generate"], "feed": {"position": "past"}}},
            "models.t5.generate.feed.position: no graph has such an input.",
        ),
        (
            {
                "graphs": {
                    "encoder": ENCODER,
                    "decoder": {
                        "inputs": {"ids": IDS, "state": STATE, "position": IDS},
                        "outputs": ["logits"],
                    },
                }
            },
            "models.t5.generate.feed: nothing feeds the input position of decoder. Name an output",
        ),
        ({"chain": ["encoder", "decoder"]}, "models.t5.chain: the graphs generate tokens already."),
        (
            {"generate": None, "chain": ["encoder"]},
            "models.t5.chain: expected two graphs or more, each once.",
        ),
        (
            {"source": {"exported_program": "a.pt2"}},
            "models.t5.graphs: an exported program is one graph, and has no others to call.",
        ),
        (
            {
                "graphs": {
                    "encoder": {**ENCODER, "inputs": {"ids": {"shape": [-1]}}},
                    "decoder": DECODER,
                }
            },
            "models.t5.graphs.encoder.inputs.ids.shape.0",
        ),
        (
            {"graphs": {"encoder": {**ENCODER, "exporter": "dynamoo"}, "decoder": DECODER}},
            "models.t5.graphs.encoder.exporter: found 'dynamoo'",
        ),
        ({"graphs": {"en/coder": ENCODER, "decoder": DECODER}}, "'t5.en/coder' is not a name"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(changes: dict[str, Any], told: str) -> None:
    assert told in refusal(**changes)


def test_a_graph_may_not_be_called_like_a_model() -> None:
    with pytest.raises(ConfigError) as error:
        validation.parse({"models": {"t5": T5, "t5.encoder": {"source": "srcnn"}}})
    assert "its file is called like the model t5.encoder" in str(error.value)


@pytest.mark.parametrize("kind", ["onnx", "exported_program"])
def test_what_is_one_graph_calls_nothing_else(kind: str) -> None:
    source = {kind: "a.file"}
    with pytest.raises(ConfigError) as error:
        validation.parse(
            {"models": {"a": {"source": source, "call": "encoder", "inputs": {"x": IDS}}}}
        )
    assert "models.a.call: " in str(error.value)


def test_what_is_called_is_in_the_key_and_needs_trust(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("def decode(model, ids): ...")
    net = tmp_path / "net.py"
    net.write_text("class T5: ...")
    model = {**T5, "source": {"file": str(net), "name": "T5"}}
    called = {**DECODER, "call": {"_target_": "steps.decode"}}
    made = job({**model, "graphs": {"encoder": ENCODER, "decoder": called}}, "decoder")
    trusted = made.model_copy(update={"trust": [str(tmp_path)]})
    (error,) = foresight.failures(made.model_copy(update={"trust": [str(net)]}))
    assert error.code is Code.TARGET_DENIED
    assert foresight.failures(trusted) == []
    makes = {
        name: Keys({}, []).of(trusted.model_copy(update={"call": name})) for name in ("a", "b")
    }
    assert makes["a"].digest != makes["b"].digest
    key = Keys({}, []).of(trusted)
    assert "steps.py" in key.files


# How a run joins them.


class Growing(Script):
    """Takes what is appended while it runs, as the contract of executors has it."""

    def run(self, jobs: Sequence[Job]) -> Events:
        waiting = jobs if isinstance(jobs, deque) else deque(jobs)
        while waiting:
            yield from super().run([waiting.popleft()])


class Joining(Stage):
    def _create(self, spec: ExecutorSpec) -> Executor:
        return Growing(self.acts, self._between)


@pytest.fixture
def stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Stage:
    monkeypatch.chdir(tmp_path)
    made = Joining(monkeypatch, capsys)
    made.acts["m"] = joined
    return made


def joined(job: Job) -> JobResult:
    """As a worker: no file."""
    assert isinstance(job, Composed)
    assert all(Path(path).is_file() for path in job.graph_files.values())
    assert job.graph_hashes["a"]["m.a.onnx"]
    stages = {name: StageRecord(status="ok", seconds=0.1) for name in job.STAGES}
    return JobResult(name=job.name, status="ok", stages=stages)


IMAGE = "{shape: [1, 3, 8, 8]}"
WORDS = (
    "+models.m.source=conv_bn_relu",
    f"+models.m.graphs={{a: {{inputs: {{x: {IMAGE}}}}}, b: {{inputs: {{x: {IMAGE}}}}}}}",
    "+models.m.chain=[a,b]",
    "benchmark=off",
    "reports=[csv]",
    "hydra.run.dir=runs/night",
)


def rows() -> dict[str, ArtifactRow]:
    return {row.label: row for row in runfiles.read(Path("runs/night")).rows}


def test_the_row_that_joins_them_comes_last_and_has_no_file(stage: Stage) -> None:
    code, out, err = stage.command(*WORDS)
    assert code == ExitCode.OK, err
    assert stage.ran == ["m.a", "m.b", "m"]
    assert "3 models: 3 ok" in out
    row = rows()["m"]
    assert (row.id, row.status, row.files) == (ONNX, "ok", [])
    assert [*row.stages] == ["load", "reference", "verify", "benchmark"]
    assert not list(Path("runs/night").glob("models/m/*.onnx"))


def test_a_graph_that_fails_leaves_nothing_to_join(stage: Stage) -> None:
    stage.acts["m.b"] = failed
    code, out, _ = stage.command(*WORDS)
    assert code == ExitCode.MODELS_FAILED
    assert stage.ran == ["m.a", "m.b"]
    row = rows()["m"]
    assert row.status == "skipped"
    assert row.verify.reason == "m.b is failed: the graphs are not run together"
    assert "skipped m: m.b is failed" in out


def wrong(job: Job) -> JobResult:
    error = ErrorRecord(stage="verify", code=Code.VERIFY_VALUE, message="token 2")
    return joined(job).model_copy(update={"status": "failed", "error": error})


def test_graphs_that_are_wrong_together_are_not_published(stage: Stage) -> None:
    stage.acts["m"] = wrong
    stage.command(*WORDS, "publish_to=out")
    assert {row.status for name, row in rows().items() if name != "m"} == {"ok"}
    assert not list(Path("out").rglob("*.onnx"))
    stage.acts["m"] = joined
    stage.command(*WORDS, "publish_to=out", "hydra.run.dir=runs/second")
    assert len([path for path in Path("out").rglob("*.onnx") if not path.is_symlink()]) == 2


def test_it_runs_in_each_run_whatever_the_store_has(stage: Stage) -> None:
    stage.command(*WORDS)
    stage.command(*WORDS, "hydra.run.dir=runs/second")
    assert stage.ran == ["m"]


def test_a_run_that_was_stopped_before_it_runs_it_when_resumed(stage: Stage) -> None:
    stage.stop_before = "m"
    assert stage.command(*WORDS)[0] == ExitCode.TERMINATED
    assert rows()["m"].status == "not_run"
    code, out, _ = stage.resume()
    assert code == ExitCode.OK
    assert "resumed: 2 of 3 models are done" in out
    assert stage.ran == ["m"]


def test_and_it_stays_where_its_graphs_stay(stage: Stage) -> None:
    words = [*WORDS, "+models.late={source: conv_bn_relu}", "store.use=false"]
    stage.command(*words)
    # As if it had been killed before the row of `late` was written.
    record = Path("runs/night/results.jsonl")
    lines = [line for line in record.read_text().splitlines() if '"name":"late"' not in line]
    record.write_text("".join(f"{line}\n" for line in lines))
    found = json.loads(Path("runs/night/manifest.json").read_text())
    found["run"] |= {"complete": False, "finished_at": None}
    Path("runs/night/manifest.json").write_text(json.dumps(found))
    _, out, _ = stage.resume()
    assert stage.ran == ["late"]
    assert "resumed: 3 of 4 models are done" in out
    assert rows()["m"].status == "ok"


def test_a_plan_says_what_it_would_join(stage: Stage) -> None:
    code, out, _ = stage.command("plan", *WORDS[:-1])
    assert code == ExitCode.OK
    assert "run      m    runs m.a, m.b together" in out
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("replay", "runs/night", "m"), "m runs the files of several graphs together."),
        (("verify", "runs/night", "m", "--model", "x.onnx"), "m runs several files."),
        (("inspect", "runs/night", "m"), "m has no file of its own. Its graphs have: m.a, m.b."),
    ],
)
def test_commands_that_need_one_file_say_so(
    stage: Stage, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    stage.command(*WORDS)
    Path("x.onnx").write_bytes(b"x")
    assert command_line.main(words) == ExitCode.CONFIG
    assert told in capsys.readouterr().err
