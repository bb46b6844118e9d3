"""Which way the conditions of a model's own Python code go, while references are made.

Tracing keeps one way of a condition and forgets the other. So each conditional jump of the model's
code is watched, with the values that its condition mentions: a condition that speaks of the input,
and that went one way only, has a side that no case has verified.

Watched are the files of the model and of the library that it comes from; torch, NumPy, the standard
library and the converter are not, but for the numbers that torch's own modules make. Scripted code
runs outside of Python: its conditions stay conditions of the file.
"""

from __future__ import annotations

import ast
import builtins
import dis
import importlib.util
import itertools
import linecache
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import torch

from converter.layout.libraries import is_standard
from converter.model.records import Branch

_PACKAGE = Path(__file__).resolve().parents[2]
# What torch computes sizes with, under torch.cond and torch.export, is no model's code either.
# With the slash at the end: torchvision, whose models are watched, begins like torch.
_LIBRARIES = tuple(
    str(Path(spec.origin).parent) + "/"
    for name in ("torch", "numpy", "sympy", "mpmath", "networkx")
    if (spec := importlib.util.find_spec(name)) is not None and spec.origin
)
# Code of torch that a trace freezes like the model's: its numbers are noted, not its jumps.
_MODULES = str(Path(torch.nn.__file__).parent / "modules") + "/"
# How often a condition's values are noted in one case: a loop may ask a million times.
_MOST_VALUES = 64
# Of one list or dict of settings; and numbers above this are no limits.
_MOST_INNER, _LARGEST = 64, 1e9
# Of a line of source as a record shows it; a condition may go on over several.
_LONGEST_TEXT, _MOST_LINES = 100, 6
# A loop may turn a million times: only the first turns are told apart.
_MOST_TIMES = 16
# What a tensor can be asked without its values or sizes.
_KIND = {
    "dim", "ndim", "ndimension", "dtype", "device", "layout", "requires_grad", "training",
}  # fmt: skip
_SIZES = {"shape", "size", "numel", "nelement", "__len__"}
_FUNCTIONS = {"len": "sizes", "isinstance": "kind", "hasattr": "kind", "callable": "kind"}
# Ways from a tensor to a Python number; each is patched while a case is watched.
_CONVERSIONS = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist")
# What compares tensors and gives a Python boolean; a trace does not warn of it.
_COMPARISONS = ("equal", "allclose")

Place = tuple[str, int]
"""A file and a line of it."""

# A condition that is negated as a whole.
# `not a and b` is negated in part only, which the lookahead leaves out.
_NEGATED = re.compile(r"(?:el)?(?:if|while) not (?!.*\b(?:and|or)\b)")
# Longer ones are hashes and dates, no sizes.
# What a condition asks of a name, the weakest first: one that reads the value depends on it.
_OUTWEIGHS = ("kind", "sizes", "value")
_ELIF = re.compile(r"^elif\b")
_DIGITS = re.compile(r"(?<!\d)\d{1,5}(?!\d)")


@dataclass(frozen=True)
class Jump:
    """A conditional jump: where it stands, and where it may lead."""

    code: CodeType
    offset: int
    line: int
    target: int
    beyond: int
    when_taken: bool
    loop: bool
    uses: tuple[tuple[str, str], ...]

    @property
    def place(self) -> Place:
        return self.code.co_filename, self.line


@dataclass
class Ways:
    """What one case showed.

    Attributes:
        taken: jumps, and whether each was taken.
        values: what the conditions' local names were: jump → the different combinations.
        numbers: what tensors became, by place, once they were made Python numbers.
        codes: the code that ran.
        constants: numbers that it calls by a global name, in a dict or an object too, and whole
            ones that its variables held.
        names: all that it calls by name.
        choices: which argument a ``min`` or ``max`` took and how often a loop turned, by place.
        turns: the ways of a jump that ran several times in one call of its function: jump, which
            time, whether it was taken.
        compared: where tensors were compared to a Python boolean.
    """

    taken: set[tuple[Jump, bool]] = field(default_factory=set)
    values: dict[Jump, set[Any]] = field(default_factory=dict)
    numbers: dict[Place, set[Any]] = field(default_factory=dict)
    codes: set[CodeType] = field(default_factory=set)
    constants: set[float] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    choices: dict[Place, set[Any]] = field(default_factory=dict)
    turns: set[tuple[Jump, int, bool]] = field(default_factory=set)
    compared: set[Place] = field(default_factory=set)


def watched(path: str) -> bool:
    """Whether a file belongs to the model rather than to what it is built on."""
    return _watched(path)


def noted(path: str) -> bool:
    """Whether it is known what tensors became in the code of a file, as Python numbers."""
    return _watched(path) or path.startswith(_MODULES)


@cache
def _watched(path: str) -> bool:
    # `<string>` and its like are made at run time: there is no line to name.
    if path.startswith("<") or path.startswith(_LIBRARIES) or is_standard(path):
        return False
    return not Path(path).is_relative_to(_PACKAGE)


def _importing(frame: FrameType | None) -> bool:
    """Whether code runs because a module is imported: what a library does then is no way."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def watching(ways: Ways) -> Iterator[None]:
    """Within it the ways of this thread's Python code are noted in ``ways``."""

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        # Nothing is returned for other frames: Python then follows none of their lines.
        if event != "call" or not _watched(code.co_filename):
            return None
        jumps = _jumps(code)
        # Asked once for each code, since it walks the whole stack.
        if code not in ways.codes:
            if _importing(frame):
                return None
            ways.codes.add(code)
            named = [frame.f_globals.get(name) for name in code.co_names]
            # A limit of an enclosing function is neither a literal nor a global name.
            named += [frame.f_locals.get(name) for name in code.co_freevars]
            ways.constants |= set(numbers_in(named))
            ways.names |= {*code.co_names}
        if not jumps:
            return None
        # By opcode: one line may hold several conditions, or a loop and its body.
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return _follower(jumps, ways)

    # A debugger or a measurement of coverage may have a trace function of its own.
    before = sys.gettrace()
    # The trace function sees Python code only; conversions and `max` happen in C.
    with converting(ways), _builtins(ways):
        sys.settrace(enter)
        try:
            yield
        finally:
            sys.settrace(before)


def _follower(jumps: dict[int, Jump], ways: Ways) -> Callable[[FrameType, str, Any], Any]:
    pending: Jump | None = None
    turns: dict[Jump, int] = {}
    times: dict[Jump, int] = {}

    def follow(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal pending
        if event == "return":
            # A limit that was computed is in no literal, but in a variable at the end.
            held = itertools.islice(frame.f_locals.values(), _MOST_INNER)
            ways.constants |= {float(abs(n)) for n in held if type(n) is int and abs(n) < _LARGEST}
        if event == "opcode":
            offset = frame.f_lasti
            if pending is not None:
                # The instruction that comes next tells which way the last jump went.
                taken = offset != pending.beyond
                ways.taken.add((pending, taken))
                # Counted within one call of the function, since a trace writes down each turn of
                # its own.
                number = times[pending] = times.get(pending, -1) + 1
                if number < _MOST_TIMES and not pending.loop:
                    ways.turns.add((pending, number, taken))
                # FOR_ITER jumps when the loop is over, so that a jump not taken is a turn.
                if pending.loop and not taken:
                    turns[pending] = turns.get(pending, 0) + 1
                elif pending.loop:
                    _note(ways.choices, pending.place, turns.pop(pending, 0))
            pending = jumps.get(offset)
            if pending is not None and pending.uses:
                values = ways.values.setdefault(pending, set())
                if len(values) < _MOST_VALUES:
                    there = frame.f_locals
                    values.add(tuple(_summary(there.get(name)) for name, _ in pending.uses))
        return follow

    return follow


def _summary(value: Any) -> Any:
    """What tells two values of a condition apart; of a tensor its sizes."""
    if isinstance(value, torch.Tensor):
        # Of its values nothing is kept: that a condition reads them is all there is to know.
        return ("tensor", tuple(value.shape))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return tuple(_summary(item) for item in value[:8])
    return type(value).__name__


@contextmanager
def converting(ways: Ways, more: Sequence[str] = ()) -> Iterator[None]:
    """Within it what tensors become as Python numbers is noted, by the line that asked.

    Args:
        more: further methods of tensors that give a number.
    """

    def noting(original: Any, comparison: bool) -> Any:
        def convert(*arguments: Any, **options: Any) -> Any:
            value = original(*arguments, **options)
            frame = sys._getframe(1)
            # `if x:` calls the conversion from C, so that the frame above is the line that asked.
            if noted(frame.f_code.co_filename):
                place = frame.f_code.co_filename, frame.f_lineno
                values = ways.numbers.setdefault(place, set())
                if len(values) < _MOST_VALUES:
                    # `tolist` may have given a million numbers.
                    values.add(repr(value)[:200])
                if comparison:
                    ways.compared.add(place)
            return value

        return convert

    patched: list[tuple[Any, str]] = [
        (torch.Tensor, name) for name in (*_CONVERSIONS, *_COMPARISONS, *more)
    ]
    patched += [(torch, name) for name in _COMPARISONS]
    # Looked up in the class itself: what is inherited has to be deleted afterwards, not set.
    own = [vars(owner).get(name) for owner, name in patched]
    for owner, name in patched:
        setattr(owner, name, noting(getattr(owner, name), name in _COMPARISONS))
    try:
        yield
    finally:
        for (owner, name), original in zip(patched, own, strict=True):
            if original is None:  # inherited
                delattr(owner, name)
            else:
                setattr(owner, name, original)


@contextmanager
def _builtins(ways: Ways) -> Iterator[None]:
    """Within it which argument a call of ``min`` or ``max`` takes is noted, by the line.

    No condition shows in the code that calls them.
    """
    originals = {name: getattr(builtins, name) for name in ("min", "max")}

    def noting(original: Any) -> Any:
        def choose(*arguments: Any, **options: Any) -> Any:
            found = original(*arguments, **options)
            frame = sys._getframe(1)
            if _watched(frame.f_code.co_filename):
                # A single iterable is used up by now, and holds no places to compare with.
                listed = arguments if len(arguments) > 1 else ()
                place = frame.f_code.co_filename, frame.f_lineno
                # By identity: of equal arguments Python gives back one of the objects.
                taken = next((n for n, value in enumerate(listed) if value is found), None)
                if taken is not None:
                    _note(ways.choices, place, taken)
            return found

        return choose

    for name, original in originals.items():
        setattr(builtins, name, noting(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(builtins, name, original)


def _note(where: dict[Place, set[Any]], place: Place, value: Any) -> None:
    values = where.setdefault(place, set())
    if len(values) < _MOST_VALUES:
        values.add(value)


def numbers_in(values: Iterable[Any], depth: int = 3) -> Iterator[float]:
    """Numbers among values, and in their lists, dicts and plain objects."""
    for value in itertools.islice(values, _MOST_INNER):
        # By type, since a bool is an int and no limit.
        if type(value) in (int, float):
            if abs(value) < _LARGEST:
                yield float(value)
        elif depth and isinstance(value, Mapping):
            yield from itertools.chain(*keyed(value))
            yield from numbers_in([*value.values()], depth - 1)
        elif depth and isinstance(value, tuple | list | set | frozenset):
            # The length of a table is where it ends.
            yield float(len(value))
            yield from numbers_in(value, depth - 1)
        elif depth and _plain(value):
            yield from numbers_in([*vars(value).values()], depth - 1)


def keyed(names: Iterable[Any]) -> Iterator[tuple[int, ...]]:
    """The whole numbers in keys of a table or in names: ``24``, ``(20, 30)``, ``head_20x30``."""
    for name in itertools.islice(names, _MOST_INNER):
        parts = name if isinstance(name, tuple) else (name,)
        # Each number of a name by itself, and of a tuple all together: those are sizes of one case.
        found: list[int] = []
        for part in parts:
            if isinstance(part, str):
                found += [int(digits) for digits in _DIGITS.findall(part)]
            elif type(part) is int:
                found.append(part)
        if found:
            yield tuple(found)


def _plain(value: Any) -> bool:
    """An object that holds settings: a namespace, a dataclass, a configuration."""
    kind = type(value)
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, type | ModuleType | torch.nn.Module | torch.Tensor)
        and not callable(value)
        and not str(getattr(kind, "__module__", "")).startswith(("torch.", "numpy"))
    )


@cache
def _jumps(code: CodeType) -> dict[int, Jump]:
    """The conditional jumps of a function, by their offset."""
    found: dict[int, Jump] = {}
    instructions = list(dis.get_instructions(code))
    for number, item in enumerate(instructions[:-1]):
        # Not only `if`: how often a loop turns is frozen by a trace as well.
        loop = item.opname == "FOR_ITER"
        # Their names differ between versions of Python: `POP_JUMP_FORWARD_IF_TRUE` (3.11),
        # `POP_JUMP_IF_TRUE` (3.12).
        if not loop and not ("JUMP" in item.opname and "IF" in item.opname):
            continue
        position = item.positions
        line = (position.lineno if position else None) or code.co_firstlineno
        found[item.offset] = Jump(
            code=code,
            offset=item.offset,
            line=line,
            # For a jump `argval` is the offset that it leads to.
            target=item.argval,
            beyond=instructions[number + 1].offset,
            when_taken="TRUE" in item.opname or item.opname.endswith("IF_NONE"),
            loop=loop,
            # `is None` asks for the kind of a value: no input decides that.
            uses=() if loop or "NONE" in item.opname else _uses(code, position),
        )
    return found


def _uses(code: CodeType, position: Any) -> tuple[tuple[str, str], ...]:
    """The local names that a condition mentions, and what of them: value, sizes or kind."""
    subject = _subjects(code.co_filename).get(position.lineno) if position else None
    # A case of a `match` shows only its pattern: what decides is the subject, lines above.
    condition = subject or _condition(_segment(code.co_filename, position))
    if condition is None:
        return ()
    # What a module holds is fixed by its configuration: `self` does not speak of the input.
    local = {*code.co_varnames, *code.co_cellvars, *code.co_freevars} - {"self"}
    found: dict[str, str] = {}
    for name, how in _mentions(condition):
        if name in local:
            found[name] = max(found.get(name, how), how, key=_OUTWEIGHS.index)
    return tuple(found.items())


@cache
def _subjects(file: str) -> dict[int, ast.expr]:
    """What a ``match`` asks of, by the line of each of its cases."""
    # By line: a jump of a case stands at the line of its pattern.
    matches = [node for node in _nodes(file) if isinstance(node, ast.Match)]
    return {case.pattern.lineno: node.subject for node in matches for case in node.cases}


def _condition(text: str) -> ast.expr | None:
    """The condition in the source of a jump: by itself, or of the statement or choice it is in."""
    try:
        # `elif` begins no statement of its own.
        found = ast.parse(_ELIF.sub("if", text.strip())).body
    except SyntaxError:
        return None
    node: Any = found[0] if found else None
    node = node.value if isinstance(node, ast.Expr) else node
    condition = getattr(node, "test", node)
    return condition if isinstance(condition, ast.expr) else None


def decides(jump: Jump) -> bool:
    """Whether a jump takes a way through the code: ``x and y`` as a value takes none."""
    file, _ = jump.place
    return any(first <= jump.line <= last for first, last in _tests(file))


def replaced(place: Place) -> bool:
    """Whether a line is in an autograd function that writes its own operators into the graph."""
    file, line = place
    return any(first <= line <= last for first, last in _symbolics(file))


@cache
def _tests(file: str) -> list[tuple[int, int]]:
    """The first and the last line of each condition in a file."""
    nodes = _nodes(file)
    # If, While, IfExp and Assert have a `test`.
    found = [getattr(node, "test", None) for node in nodes]
    # Conditions of a comprehension have no statement of their own.
    found += [test for node in nodes for test in getattr(node, "ifs", [])]
    found += [node.pattern for node in nodes if isinstance(node, ast.match_case)]
    return [(test.lineno, test.end_lineno or test.lineno) for test in found if test is not None]


@cache
def _symbolics(file: str) -> list[tuple[int, int]]:
    """The first and the last line of each class with a method ``symbolic``."""
    classes = [node for node in _nodes(file) if isinstance(node, ast.ClassDef)]
    return [
        (one.lineno, one.end_lineno or one.lineno)
        for one in classes
        if any(isinstance(part, ast.FunctionDef) and part.name == "symbolic" for part in one.body)
    ]


@cache
def _nodes(file: str) -> list[ast.AST]:
    try:
        return [*ast.walk(ast.parse("".join(linecache.getlines(file))))]
    except SyntaxError:
        return []


def _mentions(node: ast.AST, how: str = "value") -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Name):
        yield node.id, how
        return
    if isinstance(node, ast.Attribute):
        kind = node.attr in _KIND or node.attr.startswith("is_")
        # What is asked of an attribute says how the name in front of it is used.
        inner = "kind" if kind else "sizes" if node.attr in _SIZES else how
        yield from _mentions(node.value, inner)
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        # The name of the function itself is not what the condition depends on.
        asked = _FUNCTIONS.get(node.func.id, how)
        for part in (*node.args, *(keyword.value for keyword in node.keywords)):
            yield from _mentions(part, asked)
        return
    if isinstance(node, ast.Compare) and all(isinstance(o, ast.Is | ast.IsNot) for o in node.ops):
        how = "kind"
    for child in ast.iter_child_nodes(node):
        yield from _mentions(child, how)


def _segment(file: str, position: Any) -> str:
    """The source text of an instruction; columns count bytes."""
    if position is None or position.lineno is None or position.col_offset is None:
        return ""
    lines = [
        linecache.getline(file, number).encode()
        for number in range(position.lineno, (position.end_lineno or position.lineno) + 1)
    ]
    if not lines:
        return ""
    # The end first: on a single line, cutting its front would shift the end.
    lines[-1] = lines[-1][: position.end_col_offset]
    lines[0] = lines[0][position.col_offset :]
    return b"".join(lines).decode(errors="replace")


def speaks_of_input(jump: Jump, cases: Sequence[Ways]) -> bool:
    """Whether a condition depends on what the model is given.

    It does where it reads the values of a tensor, or where what it reads was not the same in all
    cases. What is fixed by the configuration of a module is the same in each.
    """
    noted = [ways.values[jump] for ways in cases if jump in ways.values]
    for number, (_, how) in enumerate(jump.uses):
        # Rank and dtype are those of the interface, the same in every case.
        if how == "kind":
            continue
        # One set for each case: within a case a loop may ask with many values.
        columns = [{values[number] for values in found} for found in noted]
        if how == "value" and any(_is_tensor(value) for column in columns for value in column):
            return True
        if any(column != columns[0] for column in columns[1:]):
            return True
    return False


def _is_tensor(value: Any) -> bool:
    return isinstance(value, tuple) and value[:1] == ("tensor",)


def unreached(cases: Sequence[Ways]) -> dict[tuple[Jump, bool], Branch]:
    """The ways of conditions on the input that no case took, but for those that only raise."""
    taken = set().union(*(ways.taken for ways in cases))
    found = {}
    # Sorted, since a set has no order and a row must be the same each time.
    for jump in sorted({jump for jump, _ in taken}, key=lambda j: (*j.place, j.offset)):
        for way in (False, True):
            # A loop that never came to its end was left from within: that is no missing side.
            if (jump, way) in taken or (jump.loop and way):
                continue
            # A refusal is no branch that a file could have.
            if _raises(jump, jump.target if way else jump.beyond):
                continue
            if speaks_of_input(jump, cases):
                found[jump, way] = branch(jump, way)
    return found


def branch(jump: Jump, way: bool) -> Branch:
    """A way of a jump in words."""
    text = line_of(*jump.place)
    # The words after `not` are what the jump asks; the line says the opposite.
    holds = (way == jump.when_taken) != bool(_NEGATED.match(text))
    return Branch(
        file=shown(jump.code.co_filename),
        line=jump.line,
        text=text,
        outcome="a turn" if jump.loop else str(holds).lower(),
    )


def by_line(branches: Iterable[Branch]) -> list[Branch]:
    """One branch for each line: of ``if a and b`` each part may have gone one way."""
    found: dict[tuple[str, int], list[Branch]] = {}
    for one in branches:
        listed = found.setdefault((one.file, one.line), [])
        if one not in listed:
            listed.append(one)
    return [
        listed[0]
        if len(listed) == 1
        else listed[0].model_copy(update={"outcome": "each way of all parts"})
        for listed in found.values()
    ]


def unreached_turns(cases: Sequence[Ways]) -> dict[Jump, Branch]:
    """Conditions that went both ways, but one of them never at some turn of a loop.

    A trace writes down what each turn did: an expert that is skipped in all cases is in no file.
    """
    ways: dict[Jump, dict[int, set[bool]]] = {}
    for jump, number, way in set().union(*(item.turns for item in cases)):
        ways.setdefault(jump, {}).setdefault(number, set()).add(way)
    found: dict[Jump, Branch] = {}
    for jump in sorted(ways, key=lambda j: (*j.place, j.offset)):
        turns = ways[jump]
        both = len(set().union(*turns.values())) > 1
        # A condition that went one way throughout is told by `unreached`.
        if len(turns) == 1 or not both or not speaks_of_input(jump, cases):
            continue
        for number, taken in sorted(turns.items()):
            missing = {False, True} - taken
            if missing and not _raises(jump, jump.target if True in missing else jump.beyond):
                there = branch(jump, True in missing)
                at = f"{there.outcome} at turn {number + 1}"
                found[jump] = there.model_copy(update={"outcome": at})
                break
    return found


def line_of(file: str, line: int) -> str:
    """A line of source, without its indentation and colon, and what continues it."""
    text = linecache.getline(file, line).strip()
    for following in range(line + 1, line + _MOST_LINES):
        # An open parenthesis means that the condition goes on.
        if text.count("(") <= text.count(")"):
            break
        text = f"{text} {linecache.getline(file, following).strip()}"
    text = text.replace("( ", "(").replace(" )", ")")
    return text.rstrip(":")[:_LONGEST_TEXT]


def shown(file: str) -> str:
    """A file as it is called in a record: relative to where Python imports it from."""
    path = Path(file)
    roots = [Path(entry).resolve() for entry in sys.path if entry]
    below = [path.relative_to(root) for root in roots if path.is_relative_to(root)]
    # The shortest name, since roots may lie within each other. Outside of them it is the name
    # alone: a record holds no path of a machine.
    return min(below, key=lambda name: len(name.parts)).as_posix() if below else path.name


@cache
def _raises(jump: Jump, offset: int) -> bool:
    """Whether the code at an offset does nothing but raise: a refusal, which no file can hold."""
    for item in dis.get_instructions(jump.code):
        if item.offset < offset:
            continue
        # An assert computes its message before it raises, perhaps with jumps.
        if item.opname in ("RAISE_VARARGS", "LOAD_ASSERTION_ERROR"):
            return True
        if "JUMP" in item.opname or item.opname.startswith(("RETURN", "FOR_ITER")):
            return False
    return False
