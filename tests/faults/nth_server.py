"""Runs commands of the converter one after another, in forks of a process that has it imported.

A start of Python takes longer than all that a trial looks at. It reads a line of JSON for each
command and answers with a line, once no process of that command is left.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

ENTRY = "NTH_CALL_ENTRY"
KEPT = "NTH_CALL_KEPT"
MODULES = (
    "converter.cli.commands.resume",
    "converter.cli.unforeseen",
    "converter.display.runlog",
    "converter.plugins.executors.process",
    "converter.runner.start",
    "converter.sweep.launch",
    "converter.sweep.points",
)
_LONGEST_S = 60.0


def children(pid: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command(order: dict[str, Any]) -> NoReturn:
    """Run one command in this process, which is a fork."""
    code = 70
    try:
        os.chdir(order["folder"])
        os.environ.update(order["environment"])
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from converter.cli import command_line
        from converter.plugins.executors import process

        if entry := os.environ.get(ENTRY):
            process.create = lambda spec: process.ProcessExecutor(spec, entry)
        code = command_line.main(order["words"])
        sys.stdout.flush()
        if learned := order.get("learned"):
            Path(learned).write_text("\n".join(sys.modules))
        if order.get("own_servers"):  # else they are those of all commands
            atexit._run_exitfuncs()
    finally:
        if error := sys.exception():
            sys.excepthook(type(error), error, error.__traceback__)
        os._exit(code)


def learn(path: Path) -> None:
    """Import what a command has imported, so that those to come find it."""
    for name in path.read_text().splitlines():
        # A module that another name stands for, or one that is only for its parent.
        with suppress(ImportError):
            import_module(name)


def _ended(pid: int, server: int) -> int:
    """Wait for a command and all its processes; its wait status, -1 where it hung."""
    status, end = None, time.monotonic() + _LONGEST_S
    while status is None or children(server):
        if status is None:
            done, found = os.waitpid(pid, os.WNOHANG)
            status = found if done else None
        if time.monotonic() > end:
            for each in [*([pid] if status is None else []), *children(server)]:
                os.kill(each, signal.SIGKILL)
            if status is None:
                os.waitpid(pid, 0)
            return -1
        time.sleep(0.002)
    return status


def main() -> None:
    """Serve until the end of the input."""
    for name in MODULES:
        import_module(name)
    from converter.plugins import loader
    from converter.processes import local

    loader.every()  # which installed packages announce is asked once
    local.further_libraries.append("nth_entries")
    # Shared by all trials: it has imported the libraries by the time of the second one.
    workers = local.server(converts=True).pid
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            command(order)
        status = _ended(pid, workers)
        if learned := order.get("learned"):
            learn(Path(learned))
        print(status, flush=True)


if __name__ == "__main__":
    main()
