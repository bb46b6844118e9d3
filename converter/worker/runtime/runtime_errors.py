"""What ONNX Runtime and the checker say, with the reason first, and what to do about it.

ONNX Runtime 1.31 begins with codes, the path of the file, or the C++ source line and signature of
the check that failed, and has the reason at the end.
"""

from __future__ import annotations

import re

import onnx

PREFIX = "[ONNXRuntimeError]"
# What stands before the reason, outermost first. A run names its node, and a node of a subgraph
# is told within that of the If or Loop around it.
_FRAMES = (
    re.compile(r"Load model from .*? failed:\s*"),
    re.compile(r"(?:Exception during (?:initialization|loading): |Fatal error: )"),
    re.compile(r"This is an invalid model\.\s*(?:Error: )?|Invalid model\.\s*"),
    re.compile(
        r"Non-zero status code returned while running (?P<op>\w+) node\. Name:'(?P<node>.*?)' "
        r"Status Message: "
    ),
    re.compile(r'In Node, \("(?P<node>.*?)", (?P<op>\w+), .*? , Error '),
    re.compile(r"Node \((?P<node>.*?)\) Op \((?P<op>\w+)\) (?=\[)"),
    re.compile(r"\S+\.(?:h|cc|cpp):\d+ (?P<signature>)(?=[\w:<>*& ]+::)"),
    re.compile(r"\S+\.(?:h|cc|cpp):\d+ \w+ "),
)
_MAX = 500

_NO_OPERATOR = re.compile(r"No Op registered for (\w+) with domain_version of (\d+)")
# What a reason says → what to do. The first that fits counts.
_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"Could not find an implementation",
        "ONNX Runtime has no kernel for that operator, version and dtype on the CPU: cast its "
        "input in forward (x.float()), or choose another opset",
    ),
    (
        r"TypeInferenceError.*\(If node",
        "both sides of an if must give the same dtype: cast one of them",
    ),
    (
        r"bound to different types",
        "two inputs of that operator differ in dtype: cast one in forward (y.to(x.dtype))",
    ),
    (
        r"of input parameter .* is invalid",
        "that operator does not take this dtype: cast its input in forward",
    ),
    (
        r"does not match expected type|TypeInferenceError",
        "the graph declares another dtype than the operator gives: cast the value in forward",
    ),
    (
        r"cannot be reshaped",
        "a size was frozen (reshape to x.shape[0] or -1, not to int() or len() of a tensor), or "
        "values are to be expanded first (y.expand_as(x))",
    ),
    (
        r"broadcast",
        "two sizes do not fit: one was frozen, or is to be expanded first (y.expand_as(x))",
    ),
    (
        r"out of data bounds",
        "an index is outside of what it selects from: state the range of the input (low, high)",
    ),
    (
        r"Got invalid dimensions for input|Invalid rank for input",
        "the file takes this size only: declare the axis in dynamic_axes, or give that shape",
    ),
    (r"Unexpected input data type", "state the dtype that the file declares (inputs.NAME.dtype)"),
    (r"Unsupported model IR version", "save the file with an older onnx, or set its ir_version"),
    (r"is till opset \d+", "request an opset that this ONNX Runtime supports"),
    (
        r"not a registered function/op",
        "a custom operator: ONNX Runtime has no kernel for it; state the library that has one: "
        "export.custom_ops",
    ),
    (
        r"construct locale with name",
        "StringNormalizer needs the locale that it names, en_US.UTF-8 if none: install it (Debian: "
        "locale-gen en_US.UTF-8), or set the node's attribute locale to C",
    ),
    (
        r"only supported from non-string numpy arrays",
        "ONNX Runtime's Python interface gives no bfloat16 or float8 out of a file that takes "
        "strings: cast that output to float32",
    ),
    (r"protobuf parsing failed", "the file is damaged or incomplete: get it again"),
    (
        r"ShapeInferenceError|mismatch|must match|must be|not equal|should have shape|"
        r"expand shape|Cannot split|should not be greater",
        "sizes do not fit: an axis was frozen, lost or added; compare with the shapes in forward",
    ),
)
_OTHERWISE = "rewrite what this operator comes from, or choose another opset"


def reason(text: str) -> str:
    """One line: the reason, then the node; lines such as ``Got: 3 Expected: 2`` stay in it.

    Args:
        text: a message of ONNX Runtime, with or without its prefix of codes.
    """
    line = " ".join(text.split())
    if line.startswith(PREFIX):
        # `[ONNXRuntimeError] : 1 : FAIL : reason`, and the reason may hold colons as well.
        line = line.split(" : ", 3)[-1]
    op = node = ""
    # One frame may hold another, in any order: they are taken off until none begins the line.
    while frame := next((found for each in _FRAMES if (found := each.match(line))), None):
        line = line[frame.end() :]
        named = frame.groupdict()
        # The innermost node is the one that failed.
        op, node = named.get("op") or op, named.get("node", node)
        if "signature" in named:
            line = _without_signature(line)
    name = f" '{node}'" if node else ""
    where = f" ({op} node{name})" if op else ""
    return f"{line[:_MAX]}{where}"


def _without_signature(line: str) -> str:
    """What follows a C++ signature and the condition that did not hold."""
    # After these words stands the message of the check.
    if " was false. " in line:
        return line.rpartition(" was false. ")[2]
    depth = 0
    for place, character in enumerate(line):
        depth += (character == "(") - (character == ")")
        if character == ")" and not depth:
            return line[place + 1 :].removeprefix(" const").lstrip()
    return line


def hint(text: str) -> str:
    """What to do about a reason that ONNX Runtime gives."""
    return opset_hint(text) or next(
        (advice for words, advice in _HINTS if re.search(words, text)), _OTHERWISE
    )


def opset_hint(text: str) -> str:
    """Which opset has the operator that a file's own does not have; empty: nothing of the kind."""
    found = _NO_OPERATOR.search(text)
    if found is None:
        return ""
    first = first_opset(text)
    if first is None:
        return f"ONNX has no operator {found[1]} from opset {found[2]} on"
    return f"{found[1]} is in ONNX from opset {first} on"


def first_opset(text: str) -> int | None:
    """The first opset above a file's own with the operator that a message misses."""
    found = _NO_OPERATOR.search(text)
    if found is None:
        return None
    versions = (
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == found[1] and schema.domain == "" and not schema.deprecated
    )
    return min((version for version in versions if version > int(found[2])), default=None)
