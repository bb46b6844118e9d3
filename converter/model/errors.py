"""Everything that can go wrong, as types.

Exception tree::

    ConverterError              something the person at the keyboard can fix
    ├── ConfigError             the configuration or the usage is wrong     → exit 2
    ├── RunError                the run itself cannot go on                 → exit 3
    └── StageError              one model failed in one stage               → a row of the manifest

Anything else that is raised is a bug in the converter or in a model: the stage
recorder turns it into a row; in the parent it ends the command with its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What the process tells the shell; docs/commands.md has the table."""

    OK = 0
    MODELS_FAILED = 1
    CONFIG = 2
    RUN_FAILED = 3
    REGRESSION = 4
    # 128 and the number of the signal, as a shell has it.
    INTERRUPTED = 130
    TERMINATED = 143


class Code(StrEnum):
    """The closed list of ``error.code``; each has a section in ``docs/errors.md``."""

    TARGET_DENIED = "TARGET_DENIED"
    LOAD = "LOAD"
    WEIGHTS_MISSING = "WEIGHTS_MISSING"
    WEIGHTS_DOWNLOAD = "WEIGHTS_DOWNLOAD"
    WEIGHTS_FORMAT = "WEIGHTS_FORMAT"
    WEIGHTS_UNSAFE = "WEIGHTS_UNSAFE"
    WEIGHTS_SIZE = "WEIGHTS_SIZE"
    WEIGHTS_KEYS = "WEIGHTS_KEYS"
    WEIGHTS_NONFINITE = "WEIGHTS_NONFINITE"
    FORWARD = "FORWARD"
    OUTPUT_STRUCTURE = "OUTPUT_STRUCTURE"
    NONDETERMINISTIC = "NONDETERMINISTIC"
    EXPORT_UNSUPPORTED = "EXPORT_UNSUPPORTED"
    EXPORT = "EXPORT"
    OPSET_MISMATCH = "OPSET_MISMATCH"
    INPUT_DROPPED = "INPUT_DROPPED"
    INPUT_MUTATED = "INPUT_MUTATED"
    STATE_MUTATED = "STATE_MUTATED"
    DIM_SPECIALISED = "DIM_SPECIALISED"
    DERIVE = "DERIVE"
    CHECKER = "CHECKER"
    SIMPLIFY = "SIMPLIFY"
    PRECISION_NOT_REACHED = "PRECISION_NOT_REACHED"
    SESSION = "SESSION"
    VERIFY_VALUE = "VERIFY_VALUE"
    VERIFY_NONFINITE = "VERIFY_NONFINITE"
    VERIFY_SHAPE = "VERIFY_SHAPE"
    VERIFY_VACUOUS = "VERIFY_VACUOUS"
    VERIFY_UNREACHED = "VERIFY_UNREACHED"
    ACCURACY = "ACCURACY"
    TRAINING_IGNORED = "TRAINING_IGNORED"
    DEVICE_UNAVAILABLE = "DEVICE_UNAVAILABLE"
    EP_UNAVAILABLE = "EP_UNAVAILABLE"
    EXTERNAL_DATA = "EXTERNAL_DATA"
    STDIN = "STDIN"
    NO_RESULT = "NO_RESULT"
    SIGNAL = "SIGNAL"
    MEM_LIMIT = "MEM_LIMIT"
    TIMEOUT = "TIMEOUT"
    NO_NODE = "NO_NODE"
    IO = "IO"
    INPUT_CHANGED = "INPUT_CHANGED"
    INTERNAL = "INTERNAL"


class ConverterError(Exception):
    """Base of every error whose message is meant for the user."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration.

    Attributes:
        key: the configuration key, dotted (``models.srcnn.opset``), or a file (``zoo.yaml:12``).
        message: what was found and what was expected, in one line.
        hint: what to do about it; may be empty.
    """

    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        message = _shortened(self.message)
        text = f"{_shortened(self.key)}: {message}" if self.key else message
        # Messages of libraries end as they like, and a hint follows behind the full stop.
        if not text.endswith((".", "!", "?", ":", ";", "…")):
            text += "."
        text = f"{text} {_shortened(self.hint)}".rstrip()
        return _NO_NAME.sub(lambda found: f"{found[0][:199]}…", text)


_LINE = 1_000
MOST_PROBLEMS = 100
"""How many problems are told: nobody reads more, and a file may have any number."""


def _shortened(text: str) -> str:
    """As much of a text as a person reads: an override or a list may have any length."""
    return text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"


def told(problems: Sequence[Problem]) -> list[str]:
    """A line for each problem, and one for those that are too many."""
    lines = [str(problem) for problem in problems[:MOST_PROBLEMS]]
    more = len(problems) - len(lines)
    return [*lines, f"… and {more} more"] if more else lines


# Longer than a word, and than the name of a file (255 bytes on Linux): the start of it tells.
_NO_NAME = re.compile(r"[^\s/]{256,}")


class ConfigError(ConverterError):
    """The configuration or the usage is wrong; nothing was started. Carries all problems."""

    def __init__(self, problems: Sequence[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem("", problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(told(self.problems)))


class RunError(ConverterError):
    """The run itself cannot go on: output not writable, directory held by another run."""


class StageError(ConverterError):
    """A model failed; becomes the ``error`` of its row.

    Args:
        code: the entry of the closed list.
        message: one line: what, which file or tensor, found and expected.
        hint: one line: what to do; may be empty.
    """

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
