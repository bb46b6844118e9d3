from __future__ import annotations

import subprocess
import sys

from converter.config import standard
from converter.model.batch import BatchSpec
from converter.plan import opsets, request


def test_the_bounds_are_those_of_the_configuration() -> None:
    schema = BatchSpec.model_json_schema()["properties"]["opset"]
    assert (schema["minimum"], schema["maximum"]) == (opsets.LOWEST, opsets.HIGHEST)


def test_every_exporter_is_in_the_table() -> None:
    assert request.exporters() == ["dynamo", "torchscript"]


def test_some_exporter_can_do_each_opset() -> None:
    order = standard.spec().exporter.order
    assert all(opsets.supporting(order, n) for n in range(opsets.LOWEST, opsets.HIGHEST + 1))


def test_the_order_is_kept() -> None:
    assert opsets.supporting(["dynamo", "torchscript"], 18) == ["dynamo", "torchscript"]
    assert opsets.supporting(["dynamo", "torchscript"], 13) == ["torchscript"]


def test_an_unknown_exporter_may_do_all() -> None:
    assert opsets.span("mine") == (opsets.LOWEST, opsets.HIGHEST)


def test_a_refusal_names_the_range_and_the_other_exporter() -> None:
    assert opsets.refusal(["dynamo"], 13, ["dynamo", "torchscript"]) == (
        "opset 13 was requested, but dynamo supports opsets 16 to 25 (torchscript supports 7 to 23)"
    )


def test_the_version_of_torch_is_read_without_importing_it() -> None:
    code = (
        "import sys; from converter.plan import opsets; "
        "print(opsets.installed_torch(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(2, ")
    assert done.stdout.endswith("False\n")
