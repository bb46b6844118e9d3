"""What an ONNX file holds, as plain data: read by ``converter.worker.inspection``."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from converter.job import TensorInfo
from converter.spec import Frozen


class Initializer(TensorInfo):
    """A stored tensor.

    Attributes:
        bytes: of its data, wherever that lies.
        external: the file of its data, as the model names it; ``None`` when it is in the model.
        sha256: of the data; ``None`` when it is external, because that is never read.
        also_input: a caller may feed another value.
    """

    bytes: int
    external: str | None = None
    sha256: str | None = None
    also_input: bool = False


class Node(Frozen):
    """One operator.

    Attributes:
        op: with its domain in front where that is not the default one: ``com.microsoft::Gelu``.
        depth: 0 in the graph itself, more in the subgraphs of If, Loop and Scan.
        attributes: numbers, text and lists of them; a tensor is a mapping of its dtype, shape and
            sha256, with its values where they are few; a graph a mapping of its name and size.
    """

    op: str
    name: str = ""
    depth: int = 0
    inputs: list[str] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    attributes: dict[str, Any] = Field(default_factory=dict)


class Content(Frozen):
    """One file.

    Attributes:
        bytes: of the file itself, without external data.
        inputs: what a caller must feed; an initializer that is an input too is not among them.
        parameters: elements of all initializers.
        ops: operator → count, subgraphs included, most frequent first.
        nodes: in the order of the file, those of a subgraph after the node that holds it.
        functions: name → number of nodes.
    """

    file: str
    bytes: int
    ir_version: int
    producer: str
    graph: str
    opsets: dict[str, int]
    metadata: dict[str, str] = Field(default_factory=dict)
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    initializers: list[Initializer]
    parameters: int
    ops: dict[str, int]
    nodes: list[Node]
    functions: dict[str, int] = Field(default_factory=dict)
