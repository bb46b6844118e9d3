"""A run in a terminal: what stands there at once, at its end, and after Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.test_run_faults import MARK, REPOSITORY, Runs

pytestmark = pytest.mark.faults


class Terminal:
    """A command in a pseudo-terminal of 80 columns."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.text = ""

    def read_until(self, seen: Callable[[str], object], timeout: float = 60) -> None:
        end = time.monotonic() + timeout
        while not seen(self.text):
            assert time.monotonic() < end, self.text
            if not self._read() and self.process.poll() is not None and not self._read():
                break
        assert seen(self.text), self.text

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.2)[0]:
            return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the last process that had it open is gone
            return False
        self.text += data.decode()
        return bool(data)

    def press_control_c(self) -> None:
        os.write(self._master, b"\x03")

    def ended(self, timeout: float = 30) -> int:
        """The exit code; all that was written is read."""
        end = time.monotonic() + timeout
        while self.process.poll() is None or self._read():
            assert time.monotonic() < end, self.text
            self._read()
        return self.process.returncode

    @property
    def lines(self) -> list[str]:
        """Without escape codes, and of each line what was written on it last."""
        plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.text.replace("\r\n", "\n"))
        return [line.rpartition("\r")[2].rstrip() for line in plain.rstrip().split("\n")]


@pytest.fixture
def runs(tmp_path: Path, request: pytest.FixtureRequest) -> Runs:
    return Runs(tmp_path, f"{os.getpid()}-{request.node.name}-{time.time_ns()}")


@contextmanager
def terminal(runs: Runs, command: list[str]) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    environment = {
        **{name: text for name, text in os.environ.items() if "COLOR" not in name},
        "TERM": "xterm-256color",
        "PYTHONPATH": str(REPOSITORY),
        "CONVERTER_TRUST": str(runs.folder),
        MARK: runs.mark,
    }
    with subprocess.Popen(
        command, cwd=runs.folder, env=environment, stdin=slave, stdout=slave, stderr=slave,
        # Ctrl-C is for the processes in front of the controlling terminal.
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(slave)
        try:
            yield Terminal(master, process)
        finally:
            process.kill()
            os.close(master)


def test_a_run_tells_at_once_what_it_does_and_each_failure_once(runs: Runs) -> None:
    with terminal(runs, runs.command({"good": "Good", "exits": "Exits"})) as screen:
        screen.read_until(lambda text: "reading the configuration …" in text, 5)
        screen.read_until(lambda text: "loading torch …" in text)
        assert screen.ended(120) == 1, screen.text
    assert sum("ended with exit status 0" in line for line in screen.lines) == 1
    assert any(
        re.fullmatch(r"\[\d/2\] crashed  exits  .* s  NO_RESULT", line) for line in screen.lines
    )
    assert "    docs/errors.md#no_result" in screen.lines
    assert "\x1b[31mcrashed" in screen.text
    assert "reading the configuration" not in "\n".join(screen.lines)


def test_control_c_ends_with_the_one_line_that_matters(runs: Runs) -> None:
    command = runs.command({"good": "Good", "hang": "Hangs", "last": "Good"}, "executor.workers=1")
    with terminal(runs, command) as screen:
        runs.wait_for("models/good/result.json")
        runs.wait_for("models/hang/log.txt")
        screen.press_control_c()
        screen.read_until(lambda text: "stopping …" in text, 5)
        assert screen.ended() == 130, screen.text
    assert screen.lines[-2:] == [
        "",
        f"Interrupted by SIGINT: 1 of 3 models finished; results in {runs.directory}. "
        f"Resume with: python -m converter resume {runs.directory}",
    ]
    assert not any(line.startswith("model ") for line in screen.lines)


def test_a_second_control_c_ends_it_at_once(runs: Runs) -> None:
    with terminal(runs, runs.command({"hang": "Hangs"}, "executor.workers=1")) as screen:
        runs.wait_for("models/hang/log.txt")
        screen.press_control_c()
        screen.read_until(lambda text: "stopping …" in text, 10)
        screen.press_control_c()
        assert screen.ended() in (-signal.SIGINT, 130), screen.text
