"""Several graphs of one model: an entry with ``graphs`` is one model for each, and what joins them.

Each graph is an ordinary model, ``t5.encoder``; where the entry says how they run together, one
job more, ``t5``, runs their files so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from converter.model import wording
from converter.model.base import Frozen
from converter.model.batch import BatchSpec
from converter.model.errors import Problem
from converter.model.inputs import InputSpec
from converter.model.job import Composed, FirstGraph, Job, asked
from converter.model.source import Checkpoint
from converter.model.spec import Generate, ModelSpec

SHARED = ("source", "kwargs", "weights", "graphs", "generate", "chain")
"""What a graph does not state: it is that of the model."""
# What a graph says of these is laid over what the entry says, key by key.
_MERGED = ("verify", "export")
_PAST, _PRESENT, _OUT = "past", "present", "out."
# Of these the graph's own replace the entry's together: arguments are made of the inputs.
_WITH_INPUTS = ("inputs", "arguments")


def name_of(entry: str, graph: str) -> str:
    """The name of a graph's model."""
    return f"{entry}.{graph}"


def names(entry: str, model: ModelSpec) -> list[str]:
    """The names of the models that an entry stands for."""
    return [name_of(entry, graph) for graph in model.graphs] or [entry]


def key_of(spec: BatchSpec, name: str) -> str:
    """The key of the configuration that states a model."""
    # Either part may have dots of its own.
    for at in (at for at, letter in enumerate(name) if letter == "."):
        entry, graph = name[:at], name[at + 1 :]
        if entry in spec.models and graph in spec.models[entry].graphs:
            return f"models.{entry}.graphs.{graph}"
    return f"models.{name}"


def composed(model: ModelSpec) -> bool:
    """Whether an entry says how its graphs run together."""
    return bool(model.graphs) and (model.generate is not None or bool(model.chain))


def expanded(entry: str, model: ModelSpec) -> dict[str, ModelSpec]:
    """The models of an entry: itself, or one for each of its graphs."""
    if not model.graphs:
        return {entry: model}
    # An expected failure of the whole is that of the composition, where there is one.
    left_out = {"graphs", "generate", "chain", *(["expect"] if composed(model) else [])}
    common = _said(model, left_out)
    return {name_of(entry, name): _laid_over(common, graph) for name, graph in model.graphs.items()}


def _said(model: Frozen, left_out: Iterable[str] = ()) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.model_fields_set if name not in left_out}


def _laid_over(common: Mapping[str, Any], graph: ModelSpec) -> ModelSpec:
    own = _said(graph)
    fields = dict(common)
    if "inputs" in own:
        fields = {key: value for key, value in fields.items() if key not in _WITH_INPUTS}
        if isinstance(passing := fields.get("passing"), dict):
            names = [one.name for one in graph.arguments] or [*(graph.inputs or {})]
            fields["passing"] = {name: how for name, how in passing.items() if name in names}
    for key in _MERGED:
        if key in own and key in fields:
            own[key] = fields[key].model_copy(update=_said(own[key]))
    fields |= own
    made = ModelSpec.model_construct(_fields_set={*fields}, **fields)
    if "dynamic_axes" in own or "dynamic_axes" not in fields or made.dynamic_axes == "all":
        return made
    # Those of the entry stay where the graph has their tensor.
    tensors = {*(made.inputs or {}), *(made.outputs or ())}
    axes = {name: found for name, found in made.dynamic_axes.items() if name in tensors}
    return made.model_copy(update={"dynamic_axes": axes})


def check(spec: BatchSpec) -> list[Problem]:
    """What is wrong with the graphs of all entries, beyond what is wrong with a model."""
    problems: list[Problem] = []
    for entry, model in spec.models.items():
        key = f"models.{entry}"
        if not model.graphs:
            problems += [
                Problem(f"{key}.{name}", "there are no graphs to run together.", "State graphs.")
                for name in ("generate", "chain")
                if getattr(model, name)
            ]
            continue
        problems += _files(key, model)
        for graph, own in model.graphs.items():
            problems += _graph(f"{key}.graphs.{graph}", own)
            if name_of(entry, graph) in spec.models:
                message = f"its file is called like the model {name_of(entry, graph)}."
                problems.append(Problem(f"{key}.graphs.{graph}", message, "Rename one of the two."))
        problems += _together(key, model)
    return problems


def _files(key: str, model: ModelSpec) -> list[Problem]:
    kind = model.source.kind if model.source else "registry"
    if kind not in ("onnx", "exported_program"):
        return []
    what = "an ONNX file" if kind == "onnx" else "an exported program"
    hint = "Use a source that builds a torch.nn.Module, or list the files as models."
    return [Problem(f"{key}.graphs", f"{what} is one graph, and has no others to call.", hint)]


def _graph(key: str, own: ModelSpec) -> list[Problem]:
    problems = []
    for name in SHARED:
        if name in own.model_fields_set:
            above = f"{key.rpartition('.graphs.')[0]}.{name}"
            hint = f"State {above}, or make it a model of its own."
            problems.append(Problem(f"{key}.{name}", "is the same for all graphs.", hint))
    return problems


def _together(key: str, model: ModelSpec) -> list[Problem]:
    """How the graphs run together names graphs and inputs that there are."""
    generate, chain, problems = model.generate, model.chain, []
    if generate is not None and chain:
        hint = "Remove one of the two."
        problems.append(Problem(f"{key}.chain", "the graphs generate tokens already.", hint))
    named = [(f"{key}.chain.{index}", graph) for index, graph in enumerate(chain)]
    if generate is not None:
        named += [(f"{key}.generate.once.{i}", graph) for i, graph in enumerate(generate.once)]
        named += [(f"{key}.generate.first", generate.first)]
        named += [(f"{key}.generate.then", generate.then)] if generate.then else []
    known = list(model.graphs)
    problems += [
        Problem(place, f"there is no graph '{graph}'.", wording.did_you_mean(graph, known))
        for place, graph in named
        if graph not in model.graphs
    ]
    if len(chain) == 1 or len({*chain}) != len(chain):
        message = "expected two graphs or more, each once."
        problems.append(Problem(f"{key}.chain", message))
    if generate is not None and not problems:
        problems += _tokens(f"{key}.generate", model)
    return problems


def _tokens(key: str, model: ModelSpec) -> list[Problem]:
    """The tokens go into an input of whole numbers, and each key of ``feed`` is an input."""
    generate = model.generate
    assert generate is not None, "its caller has looked"
    whole = expanded("", model)
    problems = []
    for graph in dict.fromkeys([generate.first, generate.then or generate.first]):
        inputs = whole[name_of("", graph)].inputs or {}
        tokens = inputs.get(generate.token)
        if tokens is None:
            hint = wording.did_you_mean(generate.token, list(inputs))
            message = f"the graph {graph} has no input '{generate.token}'."
            problems.append(Problem(f"{key}.token", message, hint))
        elif "int" not in tokens.dtype or not tokens.shape:
            message = f"of {graph} is {tokens.dtype} {tokens.shape}; expected whole numbers."
            problems.append(Problem(f"{key}.token", message, "State dtype: int64."))
    every = [name for graph in generate.used for name in whole[name_of("", graph)].inputs or {}]
    problems += [
        Problem(
            f"{key}.feed.{name}", "no graph has such an input.", wording.did_you_mean(name, every)
        )
        for name in generate.feed
        if name not in every
    ]
    return problems or _unfed(key, generate, {g: whole[name_of("", g)] for g in generate.used})


def _unfed(key: str, generate: Generate, used: Mapping[str, ModelSpec]) -> list[Problem]:
    """Inputs that nothing feeds, where the names of all outputs are stated."""
    if not all(model.outputs for model in used.values()):
        return []  # the files will tell them
    known = {name for model in used.values() for name in model.outputs or ()}
    first = used[generate.first].inputs or {}
    return [
        Problem(f"{key}.feed", f"nothing feeds the input {each} of {graph}.", feeding(each))
        for graph in used
        if graph not in generate.once
        for model in [used[graph]]
        for axes in [{} if isinstance(model.dynamic_axes, str) else model.dynamic_axes]
        for each in unfed(generate, graph, model.inputs or {}, axes, known, first)
    ]


def sources(name: str, outputs: Collection[str]) -> list[str]:
    """Those of the outputs that an input of this name may get."""
    # `past.0.key` of `present.0.key`, `past_cross.0` of `present_cross.0`.
    present = [_PRESENT + name.removeprefix(_PAST)] if name.startswith(_PAST) else []
    found = [each for each in _both(name, *present) if each in outputs]
    if found or not present:
        return found
    # `past_key_values.0.key` of `present.0.key`, where nothing is nearer.
    return [e for e in _both(f"{_PRESENT}.{name.partition('.')[2]}") if e in outputs]


def _both(*names: str) -> list[str]:
    """Each as it is, and as an output is called that an input of its name is there for."""
    return [each for name in names for each in (name, f"{_OUT}{name}")]


def fed(name: str, generate: Generate, outputs: Collection[str]) -> bool:
    """Whether one of the outputs goes into an input."""
    said = generate.feed.get(name)
    return said in outputs if said is not None else bool(sources(name, outputs))


def unfed(
    generate: Generate,
    graph: str,
    inputs: Mapping[str, InputSpec],
    axes: Mapping[str, Collection[object]],
    outputs: Collection[str],
    first: Collection[str],
) -> list[str]:
    """The inputs of a graph that would get their own example, where that cannot be right.

    Args:
        outputs: of the graphs before it.
        first: the inputs of the first graph.
    """
    found = []
    for name, spec in inputs.items():
        if name == generate.token or name in generate.feed or sources(name, outputs):
            continue
        if spec.filling in ("constant", "file"):  # pinned: the same in each step
            continue
        # The same example goes into both graphs: a condition that stays.
        then = generate.then
        shared = graph != then or (then != generate.first and name in first)
        if spec.dtype.startswith("float") and (shared or not axes.get(name)):
            continue
        found.append(name)
    return found


def feeding(name: str) -> str:
    """How an input is fed that its name does not feed."""
    return (
        f"Name an output like it, state generate.feed: {{{name}: OUTPUT}} (positions: the symbol "
        "of the axis that they count from), or pin it with fill: constant."
    )


def first(job: Job) -> FirstGraph | None:
    """How the first graph is run, for its jobs and those of the others: their weights are equal."""
    if isinstance(job.weights, Checkpoint):  # nothing changes those
        return None
    return FirstGraph(**{name: getattr(job, name) for name in FirstGraph.model_fields})


def job_of(
    entry: str, model: ModelSpec, jobs: Mapping[str, Job], changes: Mapping[str, Any]
) -> Composed:
    """The job that runs the graphs of an entry together; their files are not known yet.

    Args:
        jobs: of the graphs, by their names in the configuration.
        changes: where its files go, and how it is verified.
    """
    generate = model.generate
    used = generate.used if generate is not None else model.chain
    return Composed.model_validate(
        {
            **asked(next(iter(jobs.values()))),
            "name": entry,
            "entry": "",
            "call": None,
            "inputs": {},
            "arguments": [],
            "constants": {},
            "outputs": [],
            "constant_outputs": [],
            "dynamic_axes": {},
            "exporters": [],
            "exporter_options": {},
            "simplifier": None,
            "simplifier_options": {},
            "variants": [],
            "expect": model.expect,
            "tags": model.tags,
            "license": model.license,
            "graphs": {name: jobs[name] for name in used},
            "generate": generate,
            "chain": model.chain,
            **changes,
        }
    )
