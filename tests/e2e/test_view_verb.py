"""``python -m converter view``: Netron's own server, asked over HTTP and ended by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from converter.cli import command_line
from tests.conftest import REPOSITORY, Command

pytestmark = pytest.mark.e2e


@pytest.fixture
def model(tmp_path: Path) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


def test_it_serves_the_file_until_ctrl_c(model: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "converter", "view", str(model), "--no-browser"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell without job control starts what is in the background deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(
            r"(http://localhost:\d+/) shows .*relu\.onnx; Ctrl-C ends it\.\n", line
        )
        assert found is not None
        with urllib.request.urlopen(found[1], timeout=30) as page:
            assert b"Netron" in page.read()
        with urllib.request.urlopen(f"{found[1]}data/relu.onnx", timeout=30) as data:
            assert data.read() == model.read_bytes()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_that_is_taken_is_exit_2(model: Path, converter_command: Command) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        done = converter_command("view", str(model), "--no-browser", "--port", str(port))
    assert done.returncode == 2
    assert f"view: port {port} cannot be used: " in done.stderr
    assert "Name another, or none." in done.stderr


def test_a_port_that_cannot_be_is_exit_2(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["view", str(model), "--no-browser", "--port", "99999"]) == 2
    err = capsys.readouterr().err
    assert "view: port 99999 cannot be used: " in err
    assert "0-65535. Name another, or none." in err


def test_without_netron_it_says_how_to_install_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "netron", None)
    assert command_line.main(["view", str(model)]) == 2
    err = capsys.readouterr().err
    assert "the package netron is not installed. Install it: python -m pip install netron" in err


def test_a_file_that_is_not_there_is_exit_2(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["view", str(model.with_name("rleu.onnx"))]) == 2
    assert "rleu.onnx does not exist. Did you mean relu.onnx?" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello <html>"], ids=["empty", "text"])
def test_a_file_that_is_no_model_is_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(content)
    assert command_line.main(["view", str(path), "--no-browser"]) == 2
    err = capsys.readouterr().err
    assert f"view: {path} is damaged or not ONNX: " in err
    assert "It must be an ONNX model." in err
