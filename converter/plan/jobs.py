"""From a configuration to jobs in which nothing is left to look up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converter.layout import environment
from converter.model import trees
from converter.model.batch import BatchSpec
from converter.model.job import STAGES, Composed, Job, VerifyRecord
from converter.model.manifest import ArtifactRow, not_run_stages, request_of
from converter.model.spec import (
    CaseInput,
    Checkpoint,
    DynamicAxes,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Source,
    VerifySpec,
)
from converter.plan import graphs, opsets, request, selection, variants
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
        changes = {
            "verify": self._verify(model.verify),
            "model_dir": str(self.run_dir / "models" / entry),
            "staging_dir": str(self.run_dir / ".staging" / entry),
        }
        return graphs.job_of(entry, model, jobs, changes)

    def job(self, name: str, model: ModelSpec) -> Job:
        spec = self.spec
        source = model.source or Source(registry=name)
        inputs = {key: self._input(value) for key, value in (model.inputs or {}).items()}
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
            constants=model.constants,
            outputs=list(model.outputs or ()),
            constant_outputs=[name for name, said in _said(model.outputs) if said.constant],
            dynamic_axes=name_axes(model.dynamic_axes),
            opset=opset,
            training=model.training or spec.training,
            # An ONNX source has an exporter of its own; what the run chose is for PyTorch models.
            exporter=exporters[0] if source.kind == "onnx" else chosen,
            # Where none can do the opset the row is skipped, and names what was asked for.
            exporters=able or exporters,
            exporter_options=self._exporter_options(able or exporters),
            # No options where none is used: else a change of an unused preset would change the key.
            simplifier=spec.simplifier.name if simplify else None,
            simplifier_options=self._simplifier_options() if simplify else {},
            device=model.device or spec.device,
            seed=spec.seed,
            export=model.export,
            variants=variants.of(spec, model),
            verify=self._verify(model.verify),
            expect=model.expect,
            tags=model.tags,
            threads=threads(spec.executor.workers),
            provider_options=spec.benchmark.options,
            trust=self.trust,
            model_dir=str(self.run_dir / "models" / name),
            staging_dir=str(self.run_dir / ".staging" / name),
        )

    def _path(self, path: str) -> str:
        return os.path.normpath(self.cwd / path)

    def _source(self, source: Source) -> Source:
        if source.path is None:
            return source
        return source.model_copy(update={source.kind: self._path(source.path)})

    def _weights(self, weights: str | Checkpoint) -> str | Checkpoint:
        if isinstance(weights, str):
            return weights
        return weights.model_copy(update={"checkpoint": self._path(weights.checkpoint)})

    def _input(self, tensor: InputSpec) -> InputSpec:
        # Its place among the arguments of forward stands in the job's `arguments`.
        placed: dict[str, str | None] = {"passing": None, "name": None}
        if tensor.path is not None:
            placed["path"] = self._path(tensor.path)
        return tensor.model_copy(update=placed)

    def _case_input(self, tensor: CaseInput) -> CaseInput:
        if tensor.path is None:
            return tensor
        return tensor.model_copy(update={"path": self._path(tensor.path)})

    def _verify(self, verify: VerifySpec) -> VerifySpec:
        """The run's tolerances, reference and mutations, where the model states none."""
        shared = ("rtol", "atol", "reference", "mutations", "budget", "unreached")
        stated = {
            key: getattr(verify, key)
            for key in shared
            if key in verify.model_fields_set and getattr(verify, key) is not None
        }
        # Only what was written in the model: a default of its own would hide what the run says.
        inherited = {key: getattr(self.spec.verify, key) for key in shared}
        cases = [
            case.model_copy(
                update={"inputs": {k: self._case_input(v) for k, v in case.inputs.items()}}
            )
            for case in verify.cases
        ]
        return verify.model_copy(update={**inherited, **stated, "cases": cases})


def _said(outputs: list[str] | dict[str, OutputSpec] | None) -> Iterable[tuple[str, OutputSpec]]:
    """What the mapping form of ``outputs`` says of each."""
    return outputs.items() if isinstance(outputs, dict) else ()


def name_axes(axes: DynamicAxes) -> dict[str, dict[int, str]]:
    """Give the axes of the list form their names: ``<tensor>_dim_<axis>``."""
    return {
        tensor: {axis: f"{tensor}_dim_{axis}" for axis in listed}
        if isinstance(listed, list)
        else dict(listed)
        for tensor, listed in axes.items()
    }


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
        status="skipped",
        request=request_of(job),
        stages=not_run_stages(STAGES),
        verify=VerifyRecord(status="not_measured", reason=reason),
    )
