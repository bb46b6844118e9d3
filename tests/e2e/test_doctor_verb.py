"""``python -m converter doctor`` on this very installation: real imports, a real conversion."""

from __future__ import annotations

import json

import pytest

from converter.plan import request
from tests.conftest import Command

pytestmark = pytest.mark.e2e


def test_this_installation_converts(converter_command: Command) -> None:
    done = converter_command("doctor", "--json")
    record = json.loads(done.stdout)
    assert done.returncode == (0 if record["ok"] else 1), done.stdout + done.stderr
    assert [trial["exporter"] for trial in record["trials"]] == request.exporters()
    assert not any(trial["error"] or trial["simplifier_error"] for trial in record["trials"])
    (worker,) = record["facts"]["probes"].values()
    assert "CPUExecutionProvider" in worker["values"]["onnxruntime"]["providers"]
    assert 17 <= worker["values"]["onnxruntime"]["opset"] <= worker["values"]["onnx"]["opset"]
