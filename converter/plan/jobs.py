"""From a configuration to jobs in which nothing is left to look up."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from converter.layout import environment
from converter.model import lengths, trees, urls
from converter.model.batch import BatchSpec
from converter.model.inputs import IMAGES, CaseInput, ImageSpec, InputSpec
from converter.model.job import Composed, Job
from converter.model.manifest import ArtifactRow, not_run_stages, request_of
from converter.model.records import STAGES, VerifyRecord
from converter.model.source import Checkpoint, Source
from converter.model.spec import (
    DataSpec,
    ExportSpec,
    ModelSpec,
    OutputSpec,
    VerifySpec,
)
from converter.plan import graphs, opsets, placement, request, samples, selection, variants
from converter.plan.axes import Axes, name_axes, symbols_of
from converter.plugins import loader, simplifiers


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        jobs: to run, in the order of the configuration.
        skipped: rows of models that need no run: a stated constraint keeps them out, with the
            reason, or a run that is resumed has finished them.
        order: the names of all, in the order of the configuration.
        composed: what runs the graphs of a model together once their files are there.
        notes: what the person should know before it starts.
    """

    jobs: list[Job]
    skipped: list[ArtifactRow]
    order: list[str]
    composed: list[Composed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build(spec: BatchSpec, *, run_dir: Path, cwd: Path, trust: list[str]) -> Plan:
    """Resolve a valid configuration into jobs.

    A model whose opset is beyond every exporter asked for is skipped: where that is an error,
    ``converter.config.rules`` has refused it with ``request.unreachable``.

    Args:
        run_dir: absolute; models are published below it.
        cwd: what relative paths of the configuration start from.
        trust: the entries of ``CONVERTER_TRUST``.
    """
    models = selection.selected(selection.expand(spec)[0], spec.select, spec.models)
    resolver = _Resolver(spec, run_dir, cwd, trust)
    plan = Plan([], [], list(models))
    made = resolver.jobs(models)
    for name, model in models.items():
        job = made[name]
        # The job is made in any case: a skipped row shows what was asked for.
        reason = request.outside(model, job.opset) or request.unreachable(spec, model)
        if reason is None:
            plan.jobs.append(job)
        else:
            plan.skipped.append(_skipped(job, reason))
    _compose(plan, spec, resolver, made)
    plan.notes.extend(placement.notes(plan.jobs, spec.benchmark))
    return plan


def _compose(plan: Plan, spec: BatchSpec, resolver: _Resolver, made: Mapping[str, Job]) -> None:
    """Add what runs the graphs of each entry together, behind the last of them."""
    for entry, model in spec.models.items():
        names = {graph: graphs.name_of(entry, graph) for graph in model.graphs}
        if not names or not {*names.values()} <= {*made}:  # `select` left some of them out
            continue
        if not graphs.composed(model):
            plan.notes.append(
                f"{entry}: each graph is verified by itself; generate or chain would compare them "
                "with PyTorch together"
            )
            continue
        jobs = {graph: made[name] for graph, name in names.items()}
        plan.composed.append(resolver.composed(entry, model, jobs))
        last = max(plan.order.index(name) for name in names.values())
        plan.order.insert(last + 1, entry)


@dataclass(frozen=True)
class _Resolver:
    """Builds the jobs of one run."""

    spec: BatchSpec
    run_dir: Path
    cwd: Path
    trust: list[str]

    @cached_property
    def _threads(self) -> int:
        return threads(self.spec.executor.workers)

    @cached_property
    def _simplifier_options(self) -> dict[str, Any]:
        chosen = self.spec.simplifier
        options = simplifiers.load(chosen.name).Options.model_validate(chosen.options)
        return options.model_dump(mode="json")

    def _exporter_options(self, exporters: list[str]) -> dict[str, dict[str, Any]]:
        found = {}
        for name in exporters:
            kind = loader.options_of(loader.load("exporters", name))
            if kind.model_fields:
                stated = self.spec.exporter.options.get(name, {})
                found[name] = kind.model_validate(stated).model_dump(mode="json")
        return found

    def jobs(self, models: Mapping[str, ModelSpec]) -> dict[str, Job]:
        """The jobs by name; those of several graphs know the first of these."""
        made = {name: self.job(name, model) for name, model in models.items()}
        for entry, model in self.spec.models.items():
            names = graphs.names(entry, model) if model.graphs else []
            if not {*names} & {*made}:
                continue
            # Also where `select` leaves it out: the weights are fitted on it.
            base = made.get(names[0]) or self.job(names[0], self._first(entry, model))
            for name in names:
                if name in made:
                    changes = {"entry": entry, "first": graphs.first(base)}
                    made[name] = made[name].model_copy(update=changes)
        return made

    def _first(self, entry: str, model: ModelSpec) -> ModelSpec:
        return selection.with_defaults(next(iter(graphs.expanded(entry, model).values())))

    def composed(self, entry: str, model: ModelSpec, jobs: Mapping[str, Job]) -> Composed:
        """The job that runs the graphs of an entry together."""
        # Cases are of a graph, by the names of its inputs.
        verify = model.verify.model_copy(update={"cases": [], "shapes": []})
        changes = {
            "verify": self._verify(verify, {}, {}),
            "model_dir": str(self.run_dir / "models" / entry),
            "staging_dir": str(self.run_dir / ".staging" / entry),
        }
        return graphs.job_of(entry, model, jobs, changes)

    def job(self, name: str, model: ModelSpec) -> Job:
        spec = self.spec
        source = model.source or Source(registry=name)
        inputs, axes, pairs = self._inputs(model)
        opset, exporters = request.opset_of(spec, model), request.exporters_of(spec, model)
        able = opsets.supporting(exporters, opset, opsets.installed_torch()) if opset else []
        chosen = model.exporter or spec.exporter.name
        simplify = spec.simplify if model.simplify is None else model.simplify
        return Job(
            name=name,
            source=self._source(source),
            kwargs=model.kwargs,
            weights=self._weights(model.weights),
            call=model.call,
            inputs=inputs,
            arguments=trees.arguments(model, inputs),
            complex=model.complex,
            complex_inputs=pairs,
            constants=model.constants,
            outputs=list(model.outputs or ()),
            constant_outputs=[name for name, said in _said(model.outputs) if said.constant],
            data=self._data(model.data),
            metric=model.metric,
            dynamic_axes=_moving(axes, model.freeze),
            every_axis=model.dynamic_axes == "all",
            dims=model.dims,
            frozen=_frozen(axes, inputs, model.freeze),
            opset=opset,
            training=model.training or spec.training,
            # An ONNX source has an exporter of its own; what the run chose is for PyTorch models.
            exporter=exporters[0] if source.kind == "onnx" else chosen,
            # Where none can do the opset the row is skipped, and names what was asked for.
            exporters=able or exporters,
            exporter_options=self._exporter_options(able or exporters),
            # No options where none is used: else a change of an unused preset would change the key.
            simplifier=spec.simplifier.name if simplify else None,
            simplifier_options=self._simplifier_options if simplify else {},
            device=model.device or spec.device,
            seed=spec.seed,
            export=self._export(model.export),
            variants=variants.of(spec, model),
            verify=self._verify(_of_pairs(model.verify, pairs), inputs, axes),
            **_told(model),
            threads=self._threads,
            provider_options=spec.benchmark.options,
            trust=self.trust,
            model_dir=str(self.run_dir / "models" / name),
            staging_dir=str(self.run_dir / ".staging" / name),
        )

    def _inputs(self, model: ModelSpec) -> tuple[dict[str, InputSpec], Axes, list[str]]:
        """Inputs, axes by name, and the inputs of complex numbers, which are pairs from here on."""
        stated = {key: self._input(value) for key, value in (model.inputs or {}).items()}
        # Before there are pairs: their axis has one size.
        axes = name_axes(model.dynamic_axes, stated)
        pairs = [key for key, value in stated.items() if value.dtype == "complex64"]
        inputs = {key: _paired(value) if key in pairs else value for key, value in stated.items()}
        return {key: _with_axis(key, inputs, axes) for key in inputs}, axes, pairs

    def _path(self, path: str) -> str:
        return os.path.normpath(self.cwd / path)

    def _file(self, path: str) -> str:
        return path if urls.is_url(path) else self._path(path)

    def _source(self, source: Source) -> Source:
        if source.path is None:
            return source
        return source.model_copy(update={source.kind: self._path(source.path)})

    def _export(self, export: ExportSpec) -> ExportSpec:
        libraries = [self._path(path) for path in export.custom_ops]
        return export.model_copy(update={"custom_ops": libraries})

    def _weights(self, weights: str | Checkpoint) -> str | Checkpoint:
        if isinstance(weights, str):
            return weights
        return weights.model_copy(update={"checkpoint": self._file(weights.checkpoint)})

    def _input(self, tensor: InputSpec) -> InputSpec:
        # Its place among the arguments of forward stands in the job's `arguments`.
        tensor = tensor.model_copy(update={"passing": None, "name": None})
        if tensor.path is None:
            return tensor
        path = self._file(tensor.path)
        image = tensor.image
        if image is not None or any(
            urls.file_of(one).lower().endswith(IMAGES) for one in _first(path)
        ):
            image = _fitted(image or ImageSpec(), tensor.shape)
        return tensor.model_copy(update={"path": path, "image": image})

    def _data(self, data: DataSpec | None) -> DataSpec | None:
        if data is None or data.path is None:
            return data
        return data.model_copy(update={"path": self._path(data.path)})

    def _case_input(
        self, name: str, tensor: CaseInput, inputs: dict[str, InputSpec], axes: Axes
    ) -> CaseInput:
        if tensor.path is not None:
            tensor = tensor.model_copy(update={"path": self._file(tensor.path)})
        if tensor.of is None or name not in inputs:
            return tensor
        changed = {**inputs, name: inputs[name].model_copy(update={"of": tensor.of})}
        return tensor.model_copy(update={"of": _with_axis(name, changed, axes).of})

    def _verify(self, verify: VerifySpec, inputs: dict[str, InputSpec], axes: Axes) -> VerifySpec:
        """The run's tolerances, reference and mutations, where the model states none."""
        shared = ("rtol", "atol", "reference", "mutations", "budget", "unreached", "providers")
        stated = {
            key: getattr(verify, key)
            for key in shared
            if key in verify.model_fields_set and getattr(verify, key) is not None
        }
        # Only what was written in the model: a default of its own would hide what the run says.
        inherited = {key: getattr(self.spec.verify, key) for key in shared}
        cases = [
            case.model_copy(
                update={
                    "inputs": {
                        k: self._case_input(k, v, inputs, axes) for k, v in case.inputs.items()
                    }
                }
            )
            for case in verify.cases
        ]
        return verify.model_copy(update={**inherited, **stated, "cases": cases})


def _paired(tensor: InputSpec) -> InputSpec:
    """An input of complex numbers as the file has it: pairs of reals."""
    return tensor.model_copy(update={"dtype": "float32", "shape": [*tensor.shape, 2]})


def _of_pairs(verify: VerifySpec, pairs: Collection[str]) -> VerifySpec:
    """Shapes of the cases with the axis of the pairs, which nobody states."""
    if not pairs:
        return verify

    def changed(name: str, case: CaseInput) -> CaseInput:
        if name not in pairs or case.shape is None:
            return case
        return case.model_copy(update={"shape": [*case.shape, 2]})

    shapes = [
        {name: [*shape, 2] if name in pairs else shape for name, shape in entry.items()}
        for entry in verify.shapes
    ]
    cases = [
        case.model_copy(update={"inputs": {k: changed(k, v) for k, v in case.inputs.items()}})
        for case in verify.cases
    ]
    return verify.model_copy(update={"shapes": shapes, "cases": cases})


def _first(path: str) -> list[str]:
    """The first file of a set, or the file itself: it tells which kind they are."""
    return samples.every(path)[:1]


def _fitted(image: ImageSpec, shape: list[int]) -> ImageSpec:
    """With everything stated, so that a picture keeps its size where the shape is another one."""
    try:
        return image.on(shape)
    except ValueError:  # a folder of pictures: `foresight` and the worker say what does not fit
        return image


def _with_axis(name: str, inputs: dict[str, InputSpec], axes: Axes) -> InputSpec:
    """An input of lengths with the axis that its ``of`` stands for, as ``INPUT.AXIS``."""
    spec = inputs[name]
    if spec.filling != "lengths" and spec.of is None:
        return spec
    place = lengths.place(name, inputs, axes)
    # Where there is none, `converter.config.rules` has refused it.
    return spec if place is None else spec.model_copy(update={"of": f"{place[0]}.{place[1]}"})


def _said(outputs: list[str] | dict[str, OutputSpec] | None) -> Iterable[tuple[str, OutputSpec]]:
    """What the mapping form of ``outputs`` says of each."""
    return outputs.items() if isinstance(outputs, dict) else ()


def _frozen(axes: Axes, inputs: Mapping[str, InputSpec], freeze: Collection[str]) -> dict[str, int]:
    """The symbols that are fixed on purpose, with their sizes."""
    return {name: size for name, size in symbols_of(axes, inputs).items() if name in freeze}


def _moving(
    axes: Mapping[str, Mapping[int, str]], freeze: Collection[str]
) -> dict[str, dict[int, str]]:
    """The axes whose symbols are not frozen."""
    kept = {
        name: {axis: symbol for axis, symbol in listed.items() if symbol not in freeze}
        for name, listed in axes.items()
    }
    return {name: listed for name, listed in kept.items() if listed or not axes[name]}


def _told(model: ModelSpec) -> dict[str, Any]:
    """What is said of a model and decides nothing about its file."""
    return {"expect": model.expect, "tags": model.tags, "license": model.license}


def threads(workers: int | str) -> int:
    """Intra-op threads of each job: the cores are shared by the workers."""
    # More threads than cores spin against each other, ONNX Runtime's (1.31) and OpenMP's: one
    # worker with two threads on a busy machine burned four times the CPU of a single thread.
    cores = environment.cores()
    return max(1, cores // (cores if isinstance(workers, str) else workers))


def _skipped(job: Job, reason: str) -> ArtifactRow:
    return ArtifactRow(
        name=job.name,
        source=str(job.source),
        tags=job.tags,
        license=job.license,
        status="skipped",
        request=request_of(job),
        stages=not_run_stages(STAGES),
        verify=VerifyRecord(status="not_measured", reason=reason),
    )
