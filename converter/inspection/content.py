"""What an ONNX file holds, as plain data: read by ``converter.worker.onnxfile.inspection``."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from converter.model.base import Frozen
from converter.model.records import TensorInfo

# Parts of a file, see Content.parts: how its inputs and outputs are declared, and what is in no
# other part, which is nearly all that decides what the model computes.
INTERFACE = "order and types of inputs and outputs"
REST = "what is not listed here"


class Initializer(TensorInfo):
    """A stored tensor.

    Attributes:
        name: that of a subgraph stands after its place: ``If_3.then_branch/w``.
        bytes: of its data, wherever that lies.
        external: the file of its data, as the model names it; ``None`` when it is in the model.
        sha256: of the data; ``None`` when it is external and was not read.
        also_input: a caller may feed another value.
        stored: of a sparse tensor, the number of its values that the file holds.
    """

    bytes: int
    external: str | None = None
    sha256: str | None = None
    also_input: bool = False
    stored: int | None = None


class Node(Frozen):
    """One operator.

    Attributes:
        op: with its domain in front where that is not the default one, ``com.microsoft::Gelu``,
            and after it which overload of a function it calls: ``pkg::f:overload``.
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


class Function(Frozen):
    """A local function of a model.

    Attributes:
        name: as the nodes that call it have it.
        attributes: name → its value where a node states none; ``None`` where a node must.
        nodes: like those of the file.
    """

    name: str
    inputs: list[str] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    attributes: dict[str, Any] = Field(default_factory=dict)
    opsets: dict[str, int] = Field(default_factory=dict)
    nodes: list[Node] = Field(default_factory=list)


class Content(Frozen):
    """One file.

    Attributes:
        bytes: of the file itself, without external data.
        inputs: what a caller must feed; an initializer that is an input too is not among them.
        initializers: those of subgraphs and sparse ones included.
        parameters: numbers that all initializers hold; of a sparse one those that are stored.
        ops: operator → count, subgraphs and functions included, most frequent first.
        nodes: in the order of the file, those of a subgraph after the node that holds it.
        parts: part of the file → hash: two files are equal when all of theirs are.
        unread: file of external data that was not read → why.
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
    functions: list[Function] = Field(default_factory=list)
    parts: dict[str, str]
    unread: dict[str, str] = Field(default_factory=dict)
