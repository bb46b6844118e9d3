"""The search of ``mixed``: first what leaves float16's range, then bisection over all nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from converter.model.errors import StageError
from converter.model.records import CurvePoint, MadeRecord
from converter.model.spec import ExportSpec
from converter.plugins.variants import Given
from converter.plugins.variants._bisection import Search
from converter.plugins.variants._reduced import called, convert
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import FLOAT16
from converter.worker.onnxfile import overflow, precision, publishing, structure

# What follows an overflow is seen only once that is in float32.
_ROUNDS = 8
# Sums over many elements and differences of large numbers: what float16 breaks first. One file
# with all of them in float32 tells whether the others need be looked at.
_FRAGILE = frozenset({
    "Add", "CumSum", "Div", "Exp", "GroupNormalization", "InstanceNormalization",
    "LayerNormalization", "Log", "LpNormalization", "Mean", "Pow", "Reciprocal", "ReduceL1",
    "ReduceL2", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare",
    "Softmax", "Sqrt", "Sub", "Sum",
})  # fmt: skip


class Options(Protocol):
    """Those of the plugin that are read here."""

    @property
    def keep_io_types(self) -> bool: ...

    @property
    def op_block_list(self) -> list[str]: ...

    @property
    def node_block_list(self) -> list[str]: ...

    @property
    def tries(self) -> int: ...


class Mixing:
    """Makes one file.

    Args:
        parent: the float32 file.
        target: where each file is written that is tried, the last one to stay.
        options: of the plugin.
        given: verifies files, has the inputs of the cases, and is told what was found.
    """

    def __init__(self, parent: Path, target: Path, options: Options, given: Given) -> None:
        self._parent = parent
        self._target = target
        self._options = options
        self._given = given
        self._model = onnx.load(parent)
        self._search = Search(self._wrong, options.tries)

    def make(self) -> None:
        """Find the nodes, write the file, and tell what was found.

        Raises:
            ValueError: nothing can stay in float16.
        """
        self._write([])
        candidates = self._in_float16()
        found = self._found(candidates)
        if candidates and len(found) == len(candidates):
            raise ValueError("with every node in float32 only is the file right")
        self._write(found)
        self._given.made = MadeRecord(
            float_nodes=[*self._options.node_block_list, *found],
            curve=[CurvePoint(float_nodes=n, error=why or None) for n, why in self._search.told],
            notes=[self._told(len(found), len(candidates))],
        )

    def _told(self, left: int, count: int) -> str:
        if not count:
            return "no node was left to compute in float16"
        if not left:
            return "float16 is right as it is: no node had to stay in float32"
        tried = len(self._search.told)
        said = f"{left} of {count} nodes that float16 has stay in float32 ({tried} files verified)"
        return said if self._search.tries else f"{said}; with more `tries` fewer may do"

    def _found(self, candidates: Sequence[str]) -> list[str]:
        """The nodes, in the order in which they compute."""
        search = self._search
        if search.passes([]):
            return []
        large = self._beyond(candidates)
        if large and search.passes(large):
            return large
        rest = [name for name in candidates if name not in large]
        fragile = [name for name in rest if name in self._fragile()]
        if fragile and len(fragile) < len(rest) and search.passes([*large, *fragile]):
            rest = fragile
        found = set(search.least(large, rest))
        return [name for name in candidates if name in found]

    def _fragile(self) -> set[str]:
        return {called(node) for node in self._nodes() if node.op_type in _FRAGILE}

    def _nodes(self) -> Iterator[onnx.NodeProto]:
        return structure.nodes(self._model.graph)

    def _wrong(self, nodes: Sequence[str]) -> str:
        self._write(nodes)
        error: StageError | None = self._given.verdict(self._target)[0]
        return "" if error is None else error.message

    def _write(self, nodes: Sequence[str]) -> None:
        for path in (self._target, self._target.with_name(f"{self._target.name}.data")):
            path.unlink(missing_ok=True)
        model = convert(
            self._model,
            FLOAT16,
            keep_io_types=self._options.keep_io_types,
            op_block_list=self._options.op_block_list,
            node_block_list=[*self._options.node_block_list, *nodes],
        )
        publishing.save(model, self._target, ExportSpec())

    def _in_float16(self) -> list[str]:
        """The nodes that compute in float16 in the file that was just written, in order."""
        model = onnx.load(self._target, load_external_data=False)
        held = {called(node) for node in structure.nodes(model.graph)}
        half = precision.computing(model, FLOAT16.element)
        names = [called(node) for node in self._nodes()]
        return [name for name in names if name in half and name in held]

    def _beyond(self, candidates: Sequence[str]) -> list[str]:
        """Nodes that give or take what float16 cannot hold, in the order of the candidates."""
        found: set[str] = set()
        for _ in range(_ROUNDS):
            self._write(sorted(found))
            tensors = set(self._too_large())
            more = {
                called(node)
                for node in self._nodes()
                if not tensors.isdisjoint((*node.input, *node.output))
            }
            if more <= found:
                break
            found |= more & set(candidates)
            if not more & set(candidates):
                break
        return [name for name in candidates if name in found]

    def _too_large(self) -> Iterator[str]:
        traced = self._given.cases[0]
        with overflow.opened(self._parent, self._target, FLOAT16) as overflows:
            for feeds in self._given.cases:
                # Of patterns of larger numbers only the end of the range is told, later.
                if not _is_larger(feeds, traced):
                    beyond = overflows.all(feeds)
                    yield from (o.tensor for o in beyond if math.isfinite(o.largest))


def _is_larger(feeds: Mapping[str, Array], traced: Mapping[str, Array]) -> bool:
    return any(
        dtypes.is_float(array)
        and np.abs(array).max(initial=0) > 2 * np.abs(traced[name]).max(initial=0)
        for name, array in feeds.items()
        if name in traced
    )
