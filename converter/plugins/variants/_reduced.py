"""A float32 model in float16 or bfloat16, by the type constraints of ONNX's operator schemas.

Three steps over ``onnx_ir``: which nodes must compute in float32 (``_Survey``), which type every
float32 tensor gets (``_Typing``), and the casts where both meet (``_Rewriting``). A tensor keeps
its name; only the outputs of added casts get new ones.

Operators whose schema refuses the type (Range, NonMaxSuppression, TreeEnsemble…), one by one or for
single inputs (``scales`` of Resize, ``x_scale`` of DequantizeLinear below opset 19), need no list:
the schema of the model's opset says so. Nor do those whose result type is an attribute or the
content of a sequence (RandomNormal, EyeLike, BitCast, SequenceAt…): they stay float32 as well, for
sequences cannot be cast. ``BLOCKED_OPS`` has those that the schema does not tell. What is said of
float16 below holds for bfloat16, which has float32's range and tells whole numbers apart up to 256.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.external_data_helper import uses_external_data
from onnx_ir.passes.common import InlinePass

from converter.plugins.variants import _opset
from converter.worker.inputs.reduced import BFLOAT16, Reduced
from converter.worker.onnxfile import precision, structure

BLOCKED_OPS = frozenset({
    # Sums over many elements: 2048 + 1 is 2048 in float16.
    "CumSum",
    # Coordinates: float16 tells pixels of an image apart up to 2048 only.
    "RoiAlign", "MaxRoiPool", "GridSample", "AffineGrid",
    # Signals: a transform sums over its whole length, and no runtime has float16 kernels.
    "DFT", "STFT",
    # Draws: rare classes have probabilities below float16's steps.
    "Multinomial",
    # Quantisation: int8 kernels take float32 scales, and a float16 scale breaks their fusions.
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
})  # fmt: skip

_FLOAT = ir.DataType.FLOAT
# Relative L2 error above which a constant counts as lost: 1e-6 (1 %) is kept, 1e-7 (19 %) is not.
_LOST = 0.05
# What keeps a whole number one, or nearly: not a layer, behind which it is an activation.
_ARITHMETIC = frozenset({
    "Abs", "Add", "Ceil", "Clip", "Concat", "CumSum", "Div", "Expand", "Flatten", "Floor", "Gather",
    "GatherElements", "GatherND", "Identity", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Pad",
    "Pow", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reshape", "Round", "Sign", "Slice",
    "Split", "Squeeze", "Sub", "Sum", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
})  # fmt: skip
# What needs whole numbers as they are and gives others, which float16 holds as well as any: an
# angle of 4000 has steps of 2 in float16, its sine has not.
_OF_WHOLE = frozenset({
    "ArgMax", "ArgMin", "Cos", "Equal", "Erf", "Exp", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Log", "OneHot", "Reciprocal", "Sigmoid", "Sin", "Softmax", "Softplus", "Sqrt",
    "Tan", "Tanh", "TopK",
})  # fmt: skip
_INTEGERS = frozenset({
    onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32,
    onnx.TensorProto.UINT64,
})  # fmt: skip
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
# Their result is of the type that this module gives it.
_TYPED = frozenset({"Cast", "CastLike", "Constant", "ConstantOfShape", "If"})
# They read any type, at these inputs: float32 needs no cast before them.
_READS_ANY = {"Cast": 0, "CastLike": 0, "Shape": 0, "Size": 0}
# They hand values on unchanged.
_MOVES = frozenset({
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Transpose",
    "Slice", "Split", "Gather", "GatherND", "GatherElements", "Concat", "Where", "Pad",
})  # fmt: skip
# Their values do not depend on the values of their inputs.
_FILLS = frozenset({"ConstantOfShape", "EyeLike", "RandomNormalLike", "RandomUniformLike"})


def convert(
    model: onnx.ModelProto,
    kind: Reduced,
    *,
    keep_io_types: bool,
    op_block_list: Sequence[str],
    node_block_list: Sequence[str] = (),
) -> onnx.ModelProto:
    """The same model with weights and arithmetic of 16 bits; ``model`` is not changed.

    Constants that they cannot hold (an attention mask of -3.4e38, an epsilon of 1e-12) stay
    float32, as do the nodes that compute with them and those after these. So does arithmetic on
    sizes and coordinates, which come from shapes and constants only. Local functions are inlined:
    their tensors have no types of their own.

    Args:
        model: with its weights in memory. Of bfloat16 its opset is raised where ONNX has an
            operator in bfloat16 from a later one on only (Conv: 22).
        kind: float16 or bfloat16.
        keep_io_types: graph inputs and outputs stay float32, with casts behind and before them; not
            so inputs that have an initializer, which are weights.
        op_block_list: operators that compute in float32, as ``Op`` or ``domain::Op``.
        node_block_list: names of nodes that compute in float32; of one without a name that of its
            first output.

    Raises:
        ValueError: there is no such model in this type, or a blocked node is not in the model.
    """
    _refuse(model)
    blocked = frozenset(op_block_list)
    if model.functions:
        model = ir.to_proto(InlinePass()(ir.from_proto(model)).model)
    if kind is BFLOAT16:
        model = _opset.raised(model, _opset.needed(model, kind, BLOCKED_OPS | blocked))
    _require(model, blocked, node_block_list)
    result = ir.from_proto(model)
    survey = _Survey(result, kind, BLOCKED_OPS | blocked, frozenset(node_block_list))
    survey.read_types(result.graph, precision.infer_types(model).graph)
    survey.visit(result.graph, False)
    typing = _Typing(survey, keep_io_types)
    typing.decide(result.graph)
    _Rewriting(typing, result.graph).rewrite(result.graph)
    return ir.to_proto(result)


def called(node: onnx.NodeProto) -> str:
    """How ``node_block_list`` calls a node."""
    return node.name or next(filter(None, node.output), "")


def _require(model: onnx.ModelProto, ops: Collection[str], nodes: Collection[str]) -> None:
    """Refuse names of operators and nodes that there are not."""
    # All versions of all operators: the opset of the model decides later which of them counts.
    known = {
        schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain
    }
    held = {node.op_type for node in structure.nodes(model.graph)}
    unknown = [name for name in ops if "::" not in name and name not in known | held]
    if unknown:
        raise ValueError(f"op_block_list: ONNX has no operator {', '.join(sorted(unknown))}")
    missing = set(nodes) - set(map(called, structure.nodes(model.graph)))
    if missing:
        raise ValueError(f"node_block_list: the model has no node {', '.join(sorted(missing))}")


def _refuse(model: onnx.ModelProto) -> None:
    """Refuse what ``onnx_ir`` would drop, and weights that are elsewhere."""
    if model.training_info:
        raise ValueError("the model holds training_info, which this conversion does not support")
    graphs = [model.graph]
    for graph in graphs:
        for sparse in graph.sparse_initializer:
            raise ValueError(f"initializer {sparse.values.name} is sparse, which is not supported")
        graphs += [inner for node in graph.node for inner in precision.subgraphs(node)]
    for tensor in structure.tensors(model):
        if uses_external_data(tensor):
            raise ValueError(f"the values of {tensor.name} are in another file: load them first")


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """What a graph itself defines."""
    yield from graph.inputs
    yield from (value for value in graph.initializers.values() if not value.is_graph_input())
    for node in graph:
        yield from node.outputs


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer or of a ``Constant`` node.

    ``ir.convenience.get_const_tensor`` would write a name into the tensors of the given model.
    """
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return value.const_value
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.TENSOR:
            return attribute.as_tensor()
        if attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
            return ir.tensor(np.asarray(attribute.value, np.float32))
        if attribute.type in (ir.AttributeType.INT, ir.AttributeType.INTS):
            return ir.tensor(np.asarray(attribute.value, np.int64))
    return None


def _survives(values: np.ndarray, kind: Reduced) -> bool:
    """Whether 16 bits hold these values: none becomes infinite, and they are not lost as a whole.

    Single weights of a large tensor that become 0 are no loss.
    """
    if values.dtype.kind in "OSU":
        return True
    if values.dtype.kind == "V":  # bfloat16 and other types of ml_dtypes
        values = values.astype(np.float32)
    with np.errstate(over="ignore"):
        norm = np.linalg.norm(values.astype(np.float32, copy=False).ravel())
    peak = np.abs(values).max(initial=0)
    # A value is off by half an eps of itself, or by half a subnormal step where that is more.
    # So both together lose less than `_LOST`, and most tensors are answered for without a copy in
    # float64.
    most = values.size**0.5 * kind.subnormal / 2
    if peak <= kind.largest and most <= _LOST / 2 * norm < np.inf:
        return True
    finite = values[np.isfinite(values)].astype(np.float64)
    with np.errstate(over="ignore"):
        half = finite.astype(kind.dtype).astype(np.float64)
    if not np.isfinite(half).all():
        return False
    return bool(np.linalg.norm(half - finite) <= _LOST * np.linalg.norm(finite))


class _Survey:
    """Which nodes compute in float32.

    Attributes:
        precise: these nodes.
        opset: version of the default domain; None when the model imports none.
        types: element type of each tensor; 0 for what is no dense tensor.
        kind: what the others compute in.
        frail: how far a constant that it cannot hold reaches: 2 for itself, wherever it is
            moved, 1 for the result of an operator on it (``x + 1e-12``, ``1e6 * mask``).
    """

    def __init__(
        self, model: ir.Model, kind: Reduced, ops: frozenset[str], nodes: frozenset[str]
    ) -> None:
        self.kind = kind
        self.precise: set[ir.Node] = set()
        self.types: dict[ir.Value, int] = {}
        self.frail: dict[ir.Value, int] = {}
        # Values that follow from shapes and constants, and those among them that hold sizes.
        self._static: set[ir.Value] = set()
        self._sized: set[ir.Value] = set()
        # Of tensors whose rank is known: their sizes, 0 for one that is not.
        self._shapes: dict[ir.Value, list[int]] = {}
        # Floats that are whole numbers of the input, or follow from such by simple arithmetic.
        self._whole: set[ir.Value] = set()
        self._imports = {d or "ai.onnx": version for d, version in model.opset_imports.items()}
        self.opset = self._imports.get("ai.onnx")
        self._ops = ops
        self._nodes = nodes

    def read_types(self, graph: ir.Graph, inferred: onnx.GraphProto) -> None:
        """Note the types of a graph and its subgraphs."""
        known = precision.declared_types(inferred)
        for value in _values(graph):
            if value.name in known:
                kind = known[value.name].tensor_type
                self.types[value] = kind.elem_type
                self._shapes[value] = [dim.dim_value for dim in kind.shape.dim]
        # Inference adds types and leaves the nodes in place: both can be walked in step.
        for node, twin in zip(graph, inferred.node, strict=True):
            for inner, body in zip(_subgraphs(node), precision.subgraphs(twin), strict=True):
                self.read_types(inner, body)

    def is_float(self, value: ir.Value | None) -> bool:
        return value is not None and self.types.get(value) == _FLOAT

    def schema(self, node: ir.Node) -> onnx.defs.OpSchema | None:
        """The operator's schema at the model's opset; None for one that ONNX does not know."""
        return precision.schema_of(node.domain, node.op_type, self._imports)

    def takes(self, node: ir.Node, index: int, *, output: bool = False) -> bool:
        """Whether the schema allows the 16 bits at an input or output of a node."""
        schema = self.schema(node)
        formals = () if schema is None else schema.outputs if output else schema.inputs
        if not formals:
            return False
        return self.kind.typed in formals[min(index, len(formals) - 1)].types

    def visit(self, graph: ir.Graph, precise: bool) -> None:
        """Judge the nodes of a graph in order, those of subgraphs with the node that has them."""
        for value in graph.initializers.values():
            if not value.is_graph_input():
                self._static.add(value)
            self._weigh(value)
        for node in graph:
            judged = (self._blocked, self._follows, self._measures, self._counts)
            if precise or any(judge(node) for judge in judged):
                self.precise.add(node)
            else:
                self._require_types(node)
            self._mark(node)
            self._enter(node)

    def _enter(self, node: ir.Node) -> None:
        """Visit a node's subgraphs; as float32 where one ends in what float16 cannot hold."""
        bodies = list(_subgraphs(node))
        for body in bodies:
            self.visit(body, node in self.precise)
        # Only after a look inside: whether a branch ends in such a constant is known then.
        reach = max((self.frail.get(v, 0) for body in bodies for v in body.outputs), default=0)
        if reach:
            self.frail.update(dict.fromkeys(filter(self.is_float, node.outputs), reach))
        if reach and node not in self.precise:
            self.precise.add(node)
            for body in bodies:
                # Once more, since its nodes were judged as float16.
                self.visit(body, True)

    def _blocked(self, node: ir.Node) -> bool:
        """Whether the node itself says so: its operator, its name, its attributes."""
        qualified = structure.qualified(node.domain, node.op_type)
        schema = self.schema(node)
        name = node.name or next((value.name for value in node.outputs if value.name), None)
        if qualified in self._ops or name in self._nodes or schema is None:
            return True
        # ai.onnx.ml: estimators, with thresholds in float attributes.
        if node.domain:
            return True
        values = (*node.inputs, *node.outputs)
        kinds = {self.types[value] for value in values if value in self.types}
        if 0 in kinds and node.op_type not in _CONTROL_FLOW:
            return True
        if node.op_type == "Constant":
            return "sparse_value" in node.attributes
        # ONNX Runtime's CPU kernels refuse float16 with a reduction, and only as they run.
        if node.op_type.startswith("Scatter"):
            return node.attributes.get_string("reduction", "none") != "none"
        # Running statistics move by steps that float16 does not see.
        if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode", False):
            return True
        given = {formal.type_str for formal in schema.inputs}
        by_attribute = any(self.kind.typed in f.types and f.type_str not in given
                           for f in schema.outputs)  # fmt: skip
        if by_attribute and node.op_type not in _TYPED:
            return True
        return any(
            np.isfinite(number) and abs(number) > self.kind.largest
            for attribute in node.attributes.values()
            if attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS)
            for number in np.atleast_1d(attribute.value)
        )

    def _follows(self, node: ir.Node) -> bool:
        """Whether it computes with a constant that float16 cannot hold, or right after one."""
        return node.op_type not in _READS_ANY and any(
            value is not None and value in self.frail for value in node.inputs
        )

    def _measures(self, node: ir.Node) -> bool:
        """Whether it computes with sizes and constants only."""
        floats = [value for value in node.inputs if value is not None and self.is_float(value)]
        return (
            node.op_type not in _READS_ANY
            and not self._sized.isdisjoint(floats)
            and self._static.issuperset(floats)
        )

    def _counts(self, node: ir.Node) -> bool:
        """Whether it computes with whole numbers: ids and positions, told apart up to 2048 only."""
        floats = [value for value in node.inputs if value is not None and self.is_float(value)]
        return (
            (node.op_type in _ARITHMETIC | _OF_WHOLE or self._is_outer(node))
            and not self._whole.isdisjoint(floats)
            and all(value in self._whole or value in self._static for value in floats)
        )

    def _is_outer(self, node: ir.Node) -> bool:
        """Whether a product adds nothing up: positions times frequencies, say."""
        if node.op_type == "Einsum":
            given, _, result = node.attributes.get_string("equation", "").partition("->")
            return set(given) - {",", " ", "."} <= set(result)
        if node.op_type != "MatMul":
            return False
        left, right = (self._shapes.get(value, []) if value else [] for value in node.inputs)
        return left[-1:] == [1] or right[-2:-1] == [1]

    def _mark_whole(self, node: ir.Node) -> None:
        """Note whole numbers that become floats, and what simple arithmetic makes of them."""
        given = [value for value in node.inputs if value is not None]
        from_integers = node.op_type == "Cast" and self.types.get(given[0]) in _INTEGERS
        if from_integers or (node.op_type not in _OF_WHOLE and self._counts(node)):
            self._whole.update(filter(self.is_float, node.outputs))

    def _mark(self, node: ir.Node) -> None:
        """Note what is known of the values that a node gives."""
        self._mark_whole(node)
        if node.op_type in ("Constant", "Cast", "ConstantOfShape"):
            self._weigh(node.outputs[0])
        reach = max((self.frail.get(v, 0) for v in node.inputs if v is not None), default=0)
        if node.op_type not in _MOVES:
            reach -= 1
        floats = [value for value in node.outputs if self.is_float(value)]
        if reach > 0 and node.op_type not in _READS_ANY:
            self.frail.update(dict.fromkeys(floats, reach))
        if node.op_type in ("Shape", "Size"):
            self._static.update(node.outputs)
            self._sized.update(node.outputs)
            return
        read = self._read(node)
        if node.op_type == "Constant" or (read and self._static.issuperset(read)):
            self._static.update(node.outputs)
            if node.op_type not in _FILLS and not self._sized.isdisjoint(read):
                self._sized.update(node.outputs)

    def _read(self, node: ir.Node) -> list[ir.Value]:
        """Inputs whose values the result is made of: those of its type where there are any."""
        schema = self.schema(node)
        given = [value for value in node.inputs if value is not None]
        if schema is None or not schema.outputs or not schema.inputs or any(_subgraphs(node)):
            return []
        kind = schema.outputs[0].type_str
        formals = schema.inputs
        same = [
            value
            for index, value in enumerate(node.inputs)
            if value is not None and formals[min(index, len(formals) - 1)].type_str == kind
        ]
        return same or given

    def _weigh(self, value: ir.Value) -> None:
        """Note a constant that float16 cannot hold, also as one that is cast from another type."""
        if not self.is_float(value):
            return
        node = value.producer()
        source: ir.Value | None = value
        if node is not None and node.op_type == "Cast":
            source = node.inputs[0]
        if node is not None and node.op_type == "ConstantOfShape":
            filling = node.attributes.get("value")
            constant = filling.as_tensor() if filling else None
        else:
            constant = _constant(source) if source is not None else None
        if constant is not None and not _survives(constant.numpy(), self.kind):
            self.frail[value] = 2

    def _require_types(self, node: ir.Node) -> None:
        if node.op_type in _READS_ANY:
            return
        outputs = [value for value in node.outputs if value.uses() or value.is_graph_output()]
        for value in (*node.inputs, *outputs):
            if value is not None and value not in self.types:
                raise ValueError(
                    f"the type of tensor {value.name} at node {node.name or node.op_type} cannot "
                    "be inferred"
                )


class _Typing:
    """The type of every float32 tensor, and what nodes and graphs want.

    Attributes:
        kinds: float32 tensor → its type now.
    """

    def __init__(self, survey: _Survey, keep_io_types: bool) -> None:
        self.survey = survey
        self.kinds: dict[ir.Value, ir.DataType] = {}
        self.half = ir.DataType(survey.kind.element)
        self._outer = _FLOAT if keep_io_types else self.half

    def decide(self, graph: ir.Graph, inner: ir.DataType | None = None) -> None:
        """Give each tensor of a graph and its subgraphs a type.

        Args:
            graph: the graph.
            inner: the type of a subgraph's inputs and outputs; None for the model's graph.
        """
        outward = self._outer if inner is None else inner
        outputs = set(graph.outputs)
        for value in _values(graph):
            if self.survey.is_float(value):
                wanted = outward if value in outputs else None
                self.kinds[value] = self._kind(value, outward, wanted)
        for node in graph:
            for body in _subgraphs(node):
                self.decide(body, self.boundary(node))

    def boundary(self, node: ir.Node | None) -> ir.DataType:
        """The type at the border of a node's subgraphs, or of the model without a node."""
        if node is None:
            return self._outer
        return _FLOAT if node in self.survey.precise else self.half

    def wanted(self, node: ir.Node, index: int) -> ir.DataType | None:
        """The type that a node wants at an input; None for any."""
        if _READS_ANY.get(node.op_type) == index and not node.domain:
            return None
        if node in self.survey.precise or not self.survey.takes(node, index):
            return _FLOAT
        return self.half

    def _kind(
        self, value: ir.Value, outward: ir.DataType, wanted: ir.DataType | None
    ) -> ir.DataType:
        node = value.producer()
        if node is None and not value.is_initializer():
            return outward
        if node is not None:
            if node in self.survey.precise:
                return _FLOAT
            if node.op_type not in ("Constant", "Cast"):
                takes = self.survey.takes(node, node.outputs.index(value), output=True)
                return self.half if takes and self.survey.frail.get(value) != 2 else _FLOAT
        if self.survey.frail.get(value) == 2:
            return _FLOAT
        # Constants and casts come in the type that is needed, in float32 where both are: from there
        # a cast loses no more than the weight itself would.
        needs = {wanted} if wanted else {self.wanted(user, index) for user, index in value.uses()}
        if node is not None and node.op_type == "Cast" and self.half not in needs:
            return _FLOAT  # int64 → float32 → int64 must not pass through 16 bits
        return _FLOAT if _FLOAT in needs else self.half


class _Rewriting:
    """Types, constants and casts put into the graph."""

    def __init__(self, typing: _Typing, graph: ir.Graph) -> None:
        self._typing = typing
        self._kinds = typing.kinds
        self._half = typing.half
        self._survey = typing.survey
        self._casts: dict[ir.Value, ir.Value] = {}
        graphs = (graph, *graph.subgraphs())
        # With those of subgraphs: ONNX lets no inner name hide an outer one.
        self._names = {value.name for each in graphs for value in _values(each)}

    def rewrite(self, graph: ir.Graph, owner: ir.Node | None = None) -> None:
        """Rewrite a graph and its subgraphs."""
        for value in list(_values(graph)):
            self._retype(value)
        # As they are now: casts that are added need no casts themselves.
        nodes = list(graph)
        self._outputs(graph, self._typing.boundary(owner))
        for node in nodes:
            for index, read in enumerate(node.inputs):
                kind = self._typing.wanted(node, index)
                if read is not None and kind and self._kinds.get(read, kind) != kind:
                    node.replace_input_with(index, self._cast(read, kind))
            for body in _subgraphs(node):
                self.rewrite(body, node)

    def _retype(self, value: ir.Value) -> None:
        """Say a tensor's type where its graph declares one, and convert a constant."""
        kind = self._kinds.get(value)
        if isinstance(value.type, ir.TensorType) and self._survey.types.get(value):
            value.dtype = kind or ir.DataType(self._survey.types[value])
        if value.is_initializer():
            if kind == self._half and value.const_value is not None:
                value.const_value = self._brought(value.const_value)
            if not (value.is_graph_input() or value.is_graph_output()):
                # The tensor itself says both; `onnx_ir` would add a value_info.
                value.type = value.shape = None
        node = value.producer()
        if node is None or kind != self._half:
            return
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", self._half)
        elif node.op_type == "Constant":
            constant = _constant(value)
            assert constant is not None
            node.attributes.clear()
            node.attributes["value"] = ir.AttrTensor("value", self._brought(constant))
        elif node.op_type == "ConstantOfShape":
            filling = node.attributes.get("value")
            old = filling.as_tensor() if filling else ir.tensor(np.zeros(1, np.float32))
            node.attributes["value"] = ir.AttrTensor("value", self._brought(old))

    def _outputs(self, graph: ir.Graph, kind: ir.DataType) -> None:
        """Cast outputs of a graph that are of the other type; the cast takes over the name."""
        for index, value in enumerate(graph.outputs):
            if self._kinds.get(value, kind) == kind:
                continue
            if kind == self._half and self._survey.frail.get(value) == 2:
                of = self._survey.kind.name
                raise ValueError(
                    f"output {value.name} holds constants that {of} cannot hold: set keep_io_types"
                )
            node = value.producer()
            if value in self._casts or node is None or node.graph is not graph:
                graph.outputs[index] = self._cast(value, kind)
                continue
            name = value.name
            value.name = self._unused(name, self._kinds[value])
            graph.outputs[index] = cast = self._cast(value, kind, name)
            cast.shape, cast.doc_string = value.shape, value.doc_string
            cast.type = ir.TensorType(kind)
            cast.metadata_props.update(value.metadata_props)

    def _cast(self, value: ir.Value, kind: ir.DataType, name: str | None = None) -> ir.Value:
        """The one cast of a tensor, right behind what defines it."""
        if value not in self._casts:
            if self._survey.opset is None:
                raise ValueError(
                    f"tensor {value.name} needs a cast, but the model imports no opset of ai.onnx"
                )
            name = name or self._unused(value.name, kind)
            cast = ir.node("Cast", [value], {"to": int(kind)}, name=f"{name}_cast")
            cast.outputs[0].name = name
            self._casts[value] = cast.outputs[0]
            maker, graph = value.producer(), value.graph
            assert graph is not None
            # Right behind its maker, so that every reader of the cast comes later: nodes stay in
            # order.
            if maker is not None:
                graph.insert_after(maker, cast)
            elif len(graph):
                graph.insert_before(graph[0], cast)
            else:
                graph.append(cast)
        return self._casts[value]

    def _unused(self, name: str | None, kind: ir.DataType) -> str:
        suffix = self._survey.kind.name if kind == self._half else "float32"
        free = name = f"{name}_{suffix}"
        number = 1
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free

    def _brought(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        return ir.Tensor(
            tensor.numpy().astype(self._survey.kind.dtype),
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )
