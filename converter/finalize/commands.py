"""``on_failure`` and ``on_regression``: the person's own commands at the end of a run."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from converter.config.run_rules import words
from converter.model.batch import Command

# A command that hangs would keep the run from ending, and an experiment that is `exclusive` from
# its next run.
_LIMIT_S = 300.0
_MOST_LINES = 100


def run(
    key: str, command: Command, directory: Path, exit_code: int, log: Callable[[str], None]
) -> str | None:
    """Run a command with the run directory as its last argument; its output goes to the log.

    It sees CONVERTER_RUN_DIR and CONVERTER_EXIT_CODE too. What it does never changes the exit
    code of the run.

    Args:
        key: the configuration key, for messages.

    Returns:
        What went wrong, in a sentence; ``None`` when nothing did.
    """
    line = [*words(command), str(directory)]
    environment = {
        **os.environ,
        "CONVERTER_RUN_DIR": str(directory),
        "CONVERTER_EXIT_CODE": str(exit_code),
    }
    log(f"{key}: {shlex.join(line)}")
    try:
        # Not a pipe: what the command leaves running would hold it open, and this would wait.
        with tempfile.TemporaryFile() as output:
            code = _wait(line, environment, output.fileno())
            output.seek(0)
            lines = output.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"{key} could not be started: {error.strerror or error}: {line[0]}"
    for text in lines[-_MOST_LINES:]:
        log(f"    {text}")
    if code is None:
        return f"{key} was ended after {_LIMIT_S:g} s: {line[0]}"
    return (
        f"{key} failed with exit code {code}: {line[0]}; its output is in run.log" if code else None
    )


def _wait(line: list[str], environment: dict[str, str], output: int) -> int | None:
    """The exit code; ``None`` when it took too long, and all of its session was ended."""
    with subprocess.Popen(
        line,
        env=environment,
        # A scheduled run has nobody who answers a command that asks.
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # So that the kill below reaches what the command has started; only what called setsid
        # itself is left.
        start_new_session=True,
    ) as process:
        try:
            return process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None
