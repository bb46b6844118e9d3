"""What nobody has foreseen: one sentence, and a file with what a developer needs of it.

The frame around every command. Whoever reads an exit code by night must not take a defect of this
program for a model that failed, so that it is never 1.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import converter
from converter.model.errors import ExitCode
from converter.model.plaintext import plain

# Of a variable of the environment whose value is for nobody's eyes.
_SECRET = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
_LEAST = 6  # characters of a value that is looked for: shorter ones stand everywhere
_LOGIN = re.compile(r"(://)[^/\s@]+@")
_MOST = 300


def report(error: Exception, words: Sequence[str]) -> ExitCode:
    """Tell of an error on stderr, and leave its traceback in a file.

    Args:
        words: of the command line.
    """
    # Imported by a run alone, once its configuration is known.
    began = "converter.runner.start" in sys.modules
    code = ExitCode.RUN_FAILED if began else ExitCode.CONFIG
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "converter" in Path(frame.filename).parts]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    said = _shown(f"{type(error).__name__}: {error}").splitlines() or [""]
    print(f"{'run' if began else 'command'}: a defect of the converter: "
          f"{plain(said[0][:_MOST])}{where}", file=sys.stderr)  # fmt: skip
    if (path := _written(error, words)) is not None:
        print(f"  its traceback is in {path}: please report it with that file", file=sys.stderr)
    else:
        print("  no file could be written: run it again with --debug", file=sys.stderr)
    return code


def _written(error: Exception, words: Sequence[str]) -> Path | None:
    text = "\n".join([
        f"converter {converter.__version__}, Python {platform.python_version()}, "
        f"{platform.platform()}",
        f"python -m converter {' '.join(words)}",
        "",
        # Of a recursion the first and the last lines say all.
        _shortened("".join(traceback.format_exception(error))),
    ])  # fmt: skip
    name = f"converter-defect-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.txt"
    path = Path(tempfile.gettempdir(), name)
    try:
        with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
            os.chmod(path, 0o600)
            file.write(_shown(text))
    except OSError:
        return None
    return path


def _shortened(text: str) -> str:
    lines = text.splitlines()
    if len(lines) <= _MOST:
        return text
    half = _MOST // 2
    return "\n".join([*lines[:half], f"... {len(lines) - _MOST} lines ...", *lines[-half:]])


def _shown(text: str) -> str:
    """Without what an environment keeps secret, and without logins in URLs."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _LEAST:
            text = text.replace(value, "***")
    return _LOGIN.sub(r"\1***@", text)
