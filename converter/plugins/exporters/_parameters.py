"""Parameters in what dynamo has built: their names, and those that are to be graph inputs.

torch 2.15 drops ``parameter_names`` and ``custom_opsets`` in silence, and answers ``export_params:
false`` with a file whose parameters nobody can feed: they are neither inputs nor initializers.
"""

from __future__ import annotations

import warnings

import onnx_ir

from converter.model.job import Job
from converter.worker.sources import parameters
from converter.worker.sources.loading import Loaded


def arrange(model: onnx_ir.Model, loaded: Loaded, job: Job) -> None:
    """Give a model what the job says of its parameters and domains, in place."""
    own = parameters.tied(loaded)
    names = job.export.parameter_names or [tied[0] for tied in own]
    values = model.graph.initializers
    for tied, name in zip(own, names, strict=False):
        before = next((each for each in tied if each in values), None)
        if before is None:  # which the check tells, by its name
            continue
        value = values.pop(before)
        value.name = name
        if job.export.export_params:
            values[name] = value
        else:
            value.const_value = None
            model.graph.inputs.append(value)
    for domain, version in job.export.custom_opsets.items():
        if domain in _domains(model):
            model.opset_imports[domain] = version
        else:
            used = ", ".join(sorted(filter(None, _domains(model)))) or "none but ONNX's own"
            warnings.warn(
                f"export.custom_opsets: no operator of {domain} is in the graph (domains: {used})",
                stacklevel=1,
            )


def _domains(model: onnx_ir.Model) -> set[str]:
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    return {node.domain for graph in graphs for node in graph.all_nodes()}
