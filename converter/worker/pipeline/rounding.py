"""A file of 16-bit floats against the float32 file that it was made from, value by value.

Names stay when a file is brought to 16 bits, so that each value is held against its own. A CPU
computes such a file in float32; here every result is rounded as a device does (``emulation``). That
a result is off because its inputs are is no fault of its node: the first is looked for whose error
is far more than theirs, and than that of rounding once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from converter.model.errors import Code, StageError
from converter.worker.debug import inside
from converter.worker.debug.search import Guilty
from converter.worker.debug.values import Value, distance
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import Reduced
from converter.worker.onnxfile import overflow
from converter.worker.pipeline.comparisons import File, Searched
from converter.worker.verify import emulation

# Errors of several inputs add up, and so do those of a few elements.
_SHARE = 8.0
_CANCELS = 1 / 16
# What rounding takes from its inputs may have been taken some nodes before.
_RINGS = 4


@dataclass(frozen=True)
class Rounded:
    """What was found, and nodes that may have to stay in float32: the fewest first."""

    searched: Searched
    suspects: Sequence[Sequence[NodeProto]]


@dataclass(frozen=True)
class AgainstFull:
    """A file whose 16 bits are not enough for one of its nodes.

    Attributes:
        parent: the float32 file.
        kind: float16 or bfloat16.
    """

    parent: Path
    kind: Reduced

    def rounded(self, file: File) -> Rounded:
        """Where the error begins.

        Raises:
            StageError: VERIFY_VALUE, where no node is far worse than its inputs; SESSION.
        """
        wide = onnx.load(self.parent)
        narrow = emulation.emulated(onnx.load(file.path), self.kind)
        threads = file.job.threads
        try:
            right = inside.values(wide, file.feeds, file.folder, threads=threads)
            found = inside.values(narrow, file.feeds, file.folder, threads=threads)
        except inside.StoppedError as stopped:
            raise StageError(Code.SESSION, str(stopped)) from stopped
        graphs = _Graphs(wide, narrow, {**file.feeds, **right}, {**file.feeds, **found}, self.kind)
        with overflow.opened(self.parent, file.path, self.kind) as overflows:
            beyond = list(overflows.all(file.feeds))
        node, why = _beyond(graphs, beyond) or _worse(graphs)
        return Rounded(self._told(graphs, node, why), _suspects(graphs, node, beyond))

    def _told(self, graphs: _Graphs, node: NodeProto, why: str) -> Searched:
        output = next(name for name in node.output if name in graphs.found)
        right = Value(0, f"the same {node.op_type} in float32", "", graphs.right[output])
        guilty = Guilty(
            node,
            graphs.rounding(output),
            output,
            right,
            distance(graphs.found[output], right.array),
            graphs.before(node),
            ops=f"{node.op_type} in {self.kind.name}",
        )
        said = (
            f"`minimal.onnx` computes in float32 and rounds each result to {self.kind.name}, as a "
            "device does: ONNX Runtime's CPU has no such arithmetic."
        )
        return Searched(
            graphs.narrow,
            guilty,
            graphs.found,
            inside.constants(graphs.narrow),
            f"{self.kind.name} against float32",
            "the float32 file that it was made from",
            together=None,
            notes=[f"{why[0].upper()}{why[1:]}.", said],
        )


@dataclass(frozen=True)
class _Graphs:
    """Both files, and what each node gives in them; ``found`` is rounded."""

    wide: ModelProto
    narrow: ModelProto
    right: Mapping[str, Array]
    found: dict[str, Array]
    kind: Reduced

    def rounding(self, output: str) -> list[NodeProto]:
        """The node that gives a value, with those that round it."""
        exact = f"{emulation.PREFIX}{output}"
        wanted, block = {output}, []
        for node in reversed(self.narrow.graph.node):
            if wanted & {*node.output}:
                block.append(node)
                if exact not in node.output:
                    wanted |= {n for n in node.input if n == exact or n.startswith(f"{exact}/")}
        return block[::-1]

    def off(self, name: str) -> float:
        """How far a value is off; what stands for infinity may become it."""
        if name not in self.found:
            return 0.0
        found, right = self.found[name], self.right[name]
        if right.dtype.kind != "f" or found.shape != right.shape:
            return 0.0
        masked = np.isinf(found) & (np.abs(right) > self.kind.largest)
        return distance(np.where(masked, 0, found), np.where(masked, 0, right))

    def before(self, node: NodeProto) -> float:
        """The largest error among the inputs of a node."""
        return max((self.off(name) for name in node.input if name in self.right), default=0.0)

    def largest(self, names: Iterable[str]) -> float:
        """The largest magnitude among some values."""
        arrays = [self.right[name] for name in names if name in self.right]
        return max((float(np.abs(array).max(initial=0)) for array in arrays), default=0.0)

    def nodes(self) -> Iterator[NodeProto]:
        """The nodes that compute in the float32 file and whose values both files have."""
        for node in self.wide.graph.node:
            if node.op_type != "Constant" and any(name in self.found for name in node.output):
                yield node


def _beyond(graphs: _Graphs, beyond: Sequence[overflow.Overflow]) -> tuple[NodeProto, str] | None:
    """The node that gives the first value that 16 bits cannot hold."""
    for each in beyond:
        node = next((node for node in graphs.nodes() if each.tensor in node.output), None)
        if node is not None:
            return node, str(each)
    return None


def _worse(graphs: _Graphs) -> tuple[NodeProto, str]:
    """The first node whose error is far more than that of its inputs."""
    outputs = [info.name for info in graphs.wide.graph.output]
    errors = [graphs.off(name) for name in outputs]
    finite = [error for error in errors if np.isfinite(error)]
    # What is far smaller than the error of the outputs does not make it.
    least = max([graphs.kind.eps, *(error / 10 for error in finite)])
    for node in graphs.nodes():
        error = max(graphs.off(name) for name in node.output if name in graphs.right)
        before = graphs.before(node)
        if error > max(least, _SHARE * max(before, graphs.kind.eps / 2)):
            return node, _reason(graphs, node, error, before)
    raise StageError(
        Code.VERIFY_VALUE,
        f"no node is far worse than its inputs: {graphs.kind.name} rounds a little everywhere",
        "the variant mixed looks for nodes that have to stay in float32",
    )


def _reason(graphs: _Graphs, node: NodeProto, error: float, before: float) -> str:
    """Why 16 bits are not enough, in a sentence."""
    for name in (*node.input, *node.output):
        right = graphs.right.get(name)
        if right is None or right.dtype.kind != "f":
            continue
        lost = (right != 0) & (np.abs(right) < graphs.kind.subnormal / 2)
        if lost.any():
            return (
                f"{int(lost.sum())} of {lost.size} elements of `{name}` are below "
                f"{graphs.kind.subnormal:.2g}, the smallest {graphs.kind.name}, and become 0"
            )
    taken, given = graphs.largest(node.input), graphs.largest(node.output)
    if node.op_type in ("Add", "Sub", "Sum") and given < _CANCELS * taken:
        return (
            f"its inputs are up to {taken:.3g} and nearly cancel to {given:.3g}: what rounding "
            f"takes from them is {error:.1%} of that"
        )
    return (
        f"its inputs are off by {max(before, graphs.kind.eps / 2):.1e} of their largest magnitude, "
        f"its result by {error:.1e}"
    )


def _suspects(
    graphs: _Graphs, node: NodeProto, beyond: Sequence[overflow.Overflow]
) -> list[list[NodeProto]]:
    """Nodes to keep in float32: around values beyond the range, or what leads to the node."""
    nodes = list(graphs.nodes())
    tensors = {each.tensor for each in beyond}
    if touching := [node for node in nodes if tensors & {*node.input, *node.output}]:
        return [touching]
    readers = [other for other in nodes if {*other.input} & {*node.output}]
    found, kept = [[node], [node, *readers]], [node]
    for _ in range(_RINGS):
        read = {name for each in kept for name in each.input}
        kept = [each for each in nodes if each in kept or read & {*each.output}]
        found.append(kept)
    return found
