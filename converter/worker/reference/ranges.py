"""The sizes between which a model does the same, as torch.export finds them.

A condition on a size that no case has turned may stand behind a stride or a sum, where its limit is
no size of an input. torch.export follows the sizes as symbols and tells the range of each: sizes on
both sides of an end then become cases. It runs in a child process, for it may crash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from converter.model.job import Job
from converter.worker.inputs import cases
from converter.worker.inputs.inputs import Array
from converter.worker.recording import isolation
from converter.worker.reference import execution
from converter.worker.sources.loading import Loaded

# A model of the zoo takes a second or two.
_SECONDS = 120.0
_MEMORY_BYTES = 8 << 30
_LARGEST = 1 << 20


def ends(loaded: Loaded, job: Job, inputs: dict[str, Array]) -> dict[str, list[int]]:
    """For each symbol the sizes beside the ends of its range; empty where they are not found.

    Args:
        inputs: the traced example.
    """
    answer = Path(job.staging_dir) / "ranges.json"
    log = Path(job.staging_dir) / "ranges.log"

    def capture() -> None:
        found = _captured(loaded, job, inputs)
        answer.write_text(json.dumps(found))

    try:
        isolation.call(capture, seconds=_SECONDS, memory_bytes=_MEMORY_BYTES, log=log)
        found: dict[str, list[int]] = json.loads(answer.read_text())
    # A child that ended with 0 may have left no file all the same.
    except (isolation.ChildError, OSError) as error:
        print(f"no ranges of sizes from torch.export: {error}")
        return {}
    finally:
        answer.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
    return found


def _captured(loaded: Loaded, job: Job, inputs: dict[str, Array]) -> dict[str, list[int]]:
    arguments = execution.tensors(inputs, loaded.device)
    # AUTO: torch.export raises where a named dimension turns out to have a narrower range.
    shapes = tuple(
        dict.fromkeys(job.dynamic_axes.get(name, {}), Dim.AUTO) or None for name in job.inputs
    )
    with execution.bound(loaded, job, arguments) as flat:
        program = torch.export.export(
            flat.torch_model, arguments, dynamic_shapes=shapes, strict=False
        )
    ranges: dict[Any, Any] = program.range_constraints
    names = [spec.arg.name for spec in program.graph_signature.input_specs
             if spec.kind == torch.export.graph_signature.InputKind.USER_INPUT]  # fmt: skip
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    found: dict[str, list[int]] = {}
    for symbol, places in cases.symbols(job).items():
        # The first place stands for the symbol: all axes of one symbol have one size.
        name, axis = places[0]
        value = values.get(names[list(job.inputs).index(name)])
        size: Any = value.shape[axis] if isinstance(value, torch.Tensor) else None
        if isinstance(size, torch.SymInt) and size.node.expr in ranges:
            found[symbol] = _beside(ranges[size.node.expr])
    return found


def _beside(span: Any) -> list[int]:
    """An end of a range and the size beyond it; 0, 1 and 2 are always tried."""
    found = []
    for end, beyond in ((span.lower, -1), (span.upper, 1)):
        if end.is_finite and 2 < int(end) <= _LARGEST:
            found += [int(end), int(end) + beyond]
    return found
