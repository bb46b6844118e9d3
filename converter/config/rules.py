"""What the types of a configuration cannot say: names that must exist, axes, ranges, choices."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Set
from typing import TypeVar

from pydantic import ValidationError

from converter.config import data_rules, publish_rules, run_rules, size_rules, variant_rules
from converter.config.variant_rules import choice
from converter.layout.libraries import loading_arguments
from converter.model import wording
from converter.model.batch import BatchSpec
from converter.model.errors import Code, Problem
from converter.model.inputs import CaseInput, InputSpec
from converter.model.source import Checkpoint, Source
from converter.model.spec import ExportSpec, ModelSpec, OpsetRange
from converter.plan import graphs, request, selection
from converter.plugins import loader

T = TypeVar("T", bound=Hashable)
# Keys of a model that say how PyTorch is called, or exported.
_OF_EXPORTS = (
    "exporter", "kwargs", "weights", "call", "constants", "arguments", "passing", "complex"
)  # fmt: skip
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".tar")


def check(
    spec: BatchSpec,
    *,
    sweep: bool = False,
    refused_keys: Set[str] = frozenset(),
    refused_models: Set[str] = frozenset(),
) -> list[Problem]:
    """All problems of a typed configuration.

    Args:
        spec: with the default where a key, and without the entry where a model, was refused.
        sweep: an opset that no exporter can do is a skipped row of this point, not a problem.
        refused_keys: run-level keys whose problem is reported already.
        refused_models: models whose problem is reported already; ``select`` may match them.
    """
    problems = _choices(spec) + run_rules.check(spec)
    # Which models there are is not known: what was said of them might be wrong.
    if refused_keys & {"include", "exclude", "models"}:
        return problems
    models, unknown = selection.expand(spec)
    problems += unknown
    problems += graphs.check(spec)
    problems += publish_rules.check(spec, models)
    for name, model in models.items():
        key = graphs.key_of(spec, name)
        problems += _model(key, model)
        problems += _translations(f"{key}.export.translations", spec, model)
        problems += _weights(key, name, model)
        problems += _weights_file(key, model)
        problems += _conditioned(key, model)
    # Models whose entry was refused still have a name: else `select` would be told to match
    # nothing.
    names = {**models, **spec.models, **dict.fromkeys(refused_models)}
    if not names:
        hint = "Name an experiment (+experiment=smoke), `include` or `models`."
        return [*problems, Problem("models", "there is nothing to convert.", hint)]
    problems += selection.unmatched(spec.select, names)
    # A key that was refused has its default here, and what follows from that is not the user's.
    if sweep or refused_keys & {"opset", "exporter", "select"}:
        return problems
    return problems + _unreachable(spec, selection.selected(models, spec.select, spec.models))


def _unreachable(spec: BatchSpec, models: Mapping[str, ModelSpec]) -> list[Problem]:
    found = {name: request.unreachable(spec, model) for name, model in models.items()}
    hint = "Change its opset or its exporter."
    return [
        Problem(graphs.key_of(spec, name), f"{why}.", hint) for name, why in found.items() if why
    ]


def _providers(spec: BatchSpec) -> Iterator[tuple[str, list[str]]]:
    """Each list of providers, with its key."""
    yield "benchmark.providers", spec.benchmark.providers
    yield "verify.providers", spec.verify.providers
    for name, model in spec.models.items():
        yield f"models.{name}.verify.providers", model.verify.providers


def _choices(spec: BatchSpec) -> list[Problem]:
    """Names of plugins, and what belongs to a model only."""
    exporters = request.exporters()
    problems = choice("exporter.name", spec.exporter.name, ["auto", *exporters], "exporters")
    for exporter in spec.exporter.order:
        problems += choice("exporter.order", exporter, exporters, "exporters")
    problems += _option_groups(spec, exporters)
    problems += choice("simplifier.name", spec.simplifier.name, loader.names("simplifiers"))
    problems += choice("executor.name", spec.executor.name, loader.names("executors"))
    for report in spec.reports:
        problems += choice("reports", report, loader.names("reports"))
    for key, named in _providers(spec):
        for provider in named:
            problems += choice(key, provider, loader.names("providers"))
    for value in _repeated(spec.reports):
        problems.append(Problem("reports", f"{value} is listed more than once."))
    for listed in ("providers", "batch_sizes"):
        for value in _repeated(getattr(spec.benchmark, listed)):
            problems.append(Problem(f"benchmark.{listed}", f"{value} is listed more than once."))
    problems += variant_rules.check(spec)
    for key in ("shapes", "cases"):
        if getattr(spec.verify, key):
            hint = f"Write it as models.NAME.verify.{key}."
            problems.append(Problem(f"verify.{key}", "can only be set per model.", hint))
    return problems


def _option_groups(spec: BatchSpec, exporters: list[str]) -> list[Problem]:
    """Options of plugins that are not there."""
    stated = [("exporter", name, exporters) for name in spec.exporter.options]
    providers = loader.names("providers")
    stated += [("benchmark", name, providers) for name in spec.benchmark.options]
    return [
        problem
        for group, name, known in stated
        for problem in choice(f"{group}.options.{name}", name, known)
    ]


def _model(key: str, model: ModelSpec) -> list[Problem]:
    """The rules of one model, with the registry's defaults filled in."""
    problems: list[Problem] = []
    if model.exporter is not None:
        choices = ["auto", *request.exporters()]
        problems += choice(f"{key}.exporter", model.exporter, choices, "exporters")
    if isinstance(model.opset, OpsetRange):
        low, high = model.opset.min, model.opset.max
        if low is not None and high is not None and low > high:
            problems.append(Problem(f"{key}.opset", f"min ({low}) is above max ({high})."))
    # A code that nothing gives would turn the expected failure into an unexpected one.
    if model.expect is not None and model.expect.code not in list(Code):
        hint = wording.did_you_mean(model.expect.code, list(Code), most=len(Code))
        message = f"found '{model.expect.code}'; expected an error code."
        problems.append(Problem(f"{key}.expect.code", message, hint))
    if _is_onnx(model):
        problems += _onnx(key, model)
    if model.call is not None and model.source and model.source.kind == "exported_program":
        message = "an exported program is one graph, and has nothing else to call."
        problems.append(Problem(f"{key}.call", message, "Remove the key."))
    if model.training == "train" and model.source and model.source.kind == "exported_program":
        message = "the mode of an exported program was fixed when it was exported."
        problems.append(Problem(f"{key}.training", message, "Remove the key."))
    problems += _tensors(key, model)
    # An ONNX file may bring its own inputs, and nobody has opened it yet.
    if model.inputs:
        problems += _axes(f"{key}.dynamic_axes", model)
        sizes = size_rules.check(key, model)
        problems += sizes
        verify = _verify(f"{key}.verify", model, model.inputs)
        # Shapes are held against rules that are right.
        problems += verify or ([] if sizes else size_rules.stated(f"{key}.verify", model))
    return problems + data_rules.check(key, model)


def _weights(key: str, name: str, model: ModelSpec) -> list[Problem]:
    """Arguments of a library's builder that would load weights; ``weights`` loads them, checked."""
    source = model.source or Source(registry=name)
    # `torchvision/resnet18` and `torchvision.models.resnet18` name the same library.
    library = re.split(r"[/.]", source.target or source.registry or "", maxsplit=1)[0]
    message = f"makes {library} load weights by itself, unchecked."
    hint = f"State them as {key}.weights: NAME or {{checkpoint: PATH}}, and remove the key."
    return [
        Problem(f"{key}.kwargs.{argument}", message, hint)
        for argument in loading_arguments(library, model.kwargs)
    ]


def _translations(key: str, spec: BatchSpec, model: ModelSpec) -> list[Problem]:
    """Functions of onnxscript, of which TorchScript's exporter knows nothing."""
    if not model.export.translations or request.exporters_of(spec, model) != ["torchscript"]:
        return []
    hint = (
        "Choose exporter: dynamo or auto; or remove the key, and call "
        "torch.onnx.register_custom_op_symbolic in the model's code."
    )
    return [Problem(key, "the torchscript exporter has no use for it.", hint)]


def _weights_file(key: str, model: ModelSpec) -> list[Problem]:
    """A path in the place of the name of pretrained weights."""
    stated = model.weights
    if isinstance(stated, Checkpoint):
        return data_rules.address(f"{key}.weights.checkpoint", stated.checkpoint)
    if not stated.endswith(_CHECKPOINTS):
        return []
    message = (
        f"'{stated}' is a file; expected random, conditioned, a name of pretrained weights, or a "
        "mapping."
    )
    return [Problem(f"{key}.weights", message, f"Write weights: {{checkpoint: {stated}}}")]


def _conditioned(key: str, model: ModelSpec) -> list[Problem]:
    """Weights that are there are not redrawn."""
    kind = model.source.kind if model.source else None
    if model.weights != "conditioned" or kind not in ("torchscript", "exported_program"):
        return []  # of an ONNX source no weights can be stated at all
    message = f"conditioned redraws random weights, and a source {kind} carries its own."
    return [Problem(f"{key}.weights", message, "Remove the key, or name what builds the module.")]


def _is_onnx(model: ModelSpec) -> bool:
    return model.source is not None and model.source.kind == "onnx"


def _onnx(key: str, model: ModelSpec) -> list[Problem]:
    """Keys that only an export could follow, of a source that is exported already."""
    default, export = ModelSpec(), ExportSpec()
    keys = [name for name in _OF_EXPORTS if getattr(model, name) != getattr(default, name)]
    keys = [{"arguments": "inputs", "passing": "pass"}.get(name, name) for name in keys]
    if model.weights == default.weights and "weights" in model.model_fields_set:
        keys.append("weights")  # random weights were asked for, and the file has its own
    keys += ["training"] if model.training == "train" else []
    keys += [
        f"export.{name}"
        for name in ExportSpec.model_fields
        # How weights are stored is decided when the file is sealed, also for one that is ONNX
        # already; and such a file may have operators of anybody.
        if name not in ("external_data", "custom_ops")
        and getattr(model.export, name) != getattr(export, name)
    ]
    message = "the source is ONNX already: nothing exports it."
    problems = [Problem(f"{key}.{name}", message, "Remove the key.") for name in keys]
    problems += size_rules.of_file(key, model)
    if isinstance(model.opset, OpsetRange):
        hint = "State the one opset to convert it to, or remove the key."
        problems.append(Problem(f"{key}.opset", "the file has an opset of its own.", hint))
    return problems


def _tensors(key: str, model: ModelSpec) -> list[Problem]:
    """Inputs are there where nothing else supplies them; no name stands for two tensors."""
    problems = []
    supplied = model.source is None or model.source.kind in ("registry", "onnx")
    if not model.inputs and not supplied:
        hint = f"State {key}.inputs: {{NAME: {{shape: [1, 3, 224, 224]}}}}."
        problems.append(Problem(f"{key}.inputs", "this source has no default inputs.", hint))
    names = [one.name for one in model.arguments] or list(model.inputs or ())
    for name in model.passing if isinstance(model.passing, dict) and names else ():
        if name not in names:
            hint = wording.did_you_mean(name, names)
            problems.append(Problem(f"{key}.pass.{name}", "the model has no such input.", hint))
    outputs, parameters = model.outputs or [], model.export.parameter_names
    twice = [(f"{key}.outputs", name) for name in _repeated(outputs)]
    twice += [(f"{key}.export.parameter_names", name) for name in _repeated(parameters)]
    problems += [Problem(place, f"'{name}' is listed more than once.") for place, name in twice]
    # In an ONNX graph a name stands for one value.
    shared = sorted({*outputs} & {*(model.inputs or {})})
    return problems + [
        Problem(f"{key}.outputs", f"'{name}' is the name of an input as well.") for name in shared
    ]


def _repeated(names: Iterable[T]) -> list[T]:
    return [name for name, times in Counter([*names]).items() if times > 1]


def _axes(key: str, model: ModelSpec) -> list[Problem]:
    """Each dynamic axis belongs to a known tensor and lies within its rank."""
    problems: list[Problem] = []
    if isinstance(model.dynamic_axes, str):  # all
        return problems
    inputs, outputs = model.inputs or {}, model.outputs or []
    for name, axes in model.dynamic_axes.items():
        place = f"{key}.{name}"
        if name not in inputs and name not in outputs:
            known = f"inputs: {', '.join(inputs)}; outputs: {', '.join(outputs) or 'not named'}"
            hint = "" if outputs else "To name them: outputs: [NAME, …]."
            problems.append(Problem(place, f"no such input or output ({known}).", hint))
            continue
        for axis in axes:
            problems += _axis(place, axis, inputs.get(name))
        if isinstance(axes, list):
            for axis in sorted({axis for axis in axes if axes.count(axis) > 1}):
                problems.append(Problem(place, f"axis {axis} is listed more than once."))
    return problems


def _axis(place: str, axis: int, tensor: InputSpec | None) -> list[Problem]:
    # Nobody knows the rank of an output yet: a negative axis could not be counted from its end.
    if axis < 0:
        message = f"axis {axis} is negative; count from 0."
    elif tensor is not None and axis >= len(tensor.shape):
        rank = len(tensor.shape)
        message = f"axis {axis} is beyond the input's rank, {rank} (axes 0 to {rank - 1})."
    else:
        return []
    return [Problem(place, message)]


def _verify(key: str, model: ModelSpec, inputs: Mapping[str, InputSpec]) -> list[Problem]:
    """Extra shapes and cases name inputs that there are, in their rank, and can be told apart."""
    problems = []
    verify = model.verify
    changes = [
        (f"{key}.shapes.{index}.{name}", name, CaseInput(shape=shape))
        for index, shapes in enumerate(verify.shapes)
        for name, shape in shapes.items()
    ]
    changes += [
        (f"{key}.cases.{index}.inputs.{name}", name, change)
        for index, case in enumerate(verify.cases)
        for name, change in case.inputs.items()
    ]
    for place, name, change in changes:
        found = _case_input(place, name, change, inputs)
        problems += found or _fixed_axes(place, name, change, model)
    labels = [case.label for case in verify.cases]
    for label in _repeated(labels):
        problems.append(Problem(f"{key}.cases", f"two cases have the label '{label}'."))
    # The worker labels the example, its second sample, and each entry of `shapes` by its sizes.
    shapes = [
        " ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in entry.items())
        for entry in verify.shapes
    ]
    for label in _repeated(shapes):
        problems.append(Problem(f"{key}.shapes", f"'{label}' is listed more than once."))
    for label in sorted({*labels} & {"traced", "second", *shapes}):
        message = f"the label '{label}' is the name of another case."
        problems.append(Problem(f"{key}.cases", message, "Choose another."))
    return problems + data_rules.labels(key, labels, model)


def _fixed_axes(place: str, name: str, change: CaseInput, model: ModelSpec) -> list[Problem]:
    """A file takes another size only along an axis that was declared dynamic."""
    declared = (model.inputs or {})[name].shape
    if change.shape is None or _is_onnx(model):  # a file that is ONNX has axes of its own
        return []
    if isinstance(model.dynamic_axes, str):  # all
        return []
    dynamic = model.dynamic_axes.get(name, ())
    return [
        Problem(
            place,
            f"axis {axis} is {size}; the input has {before} there and the axis is not dynamic.",
            f"Add {axis} to the model's dynamic_axes.{name}, or keep {before}.",
        )
        for axis, (size, before) in enumerate(zip(change.shape, declared, strict=True))
        if size != before and axis not in dynamic
    ]


def _case_input(
    place: str, name: str, change: CaseInput, inputs: Mapping[str, InputSpec]
) -> list[Problem]:
    declared = inputs.get(name)
    if declared is None:
        hint = wording.did_you_mean(name, list(inputs))
        return [Problem(place, "the model has no such input.", hint)]
    if change.shape is not None and len(change.shape) != len(declared.shape):
        rank = f"has {len(change.shape)} dimensions; the input has {len(declared.shape)}."
        return [Problem(place, f"the shape {change.shape} {rank}")]
    try:
        # The worker will do the same: a change that fits no input is told before any worker starts.
        change.on(declared)
    except ValidationError as error:
        return [Problem(place, f"{error.errors()[0]['msg'].removeprefix('Value error, ')}.")]
    return []
