"""Twenty lines that show a fault without the converter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MODEL, DATA = "minimal.onnx", "data.npz"


@dataclass(frozen=True)
class Script:
    """Lines of Python in which ``@TITLE@``, ``@EXPECTED@`` and ``@BOUND@`` are to be filled in.

    Attributes:
        packages: what ``pip`` installs for it.
    """

    lines: str
    packages: str = "numpy onnxruntime"

    def filled(self, title: str, expected: str, bound: float) -> str:
        """The script: its exit code is 1 where an error exceeds the bound, or is no number."""
        text = self.lines.replace("@TITLE@", title).replace("@EXPECTED@", expected)
        return text.replace("@BOUND@", repr(bound))


AGAINST_DATA = Script(f'''\
"""@TITLE@"""

import os

import numpy
import onnxruntime

os.chdir(os.path.dirname(os.path.abspath(__file__)))
data = numpy.load("{DATA}")
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession("{MODEL}", options, providers=["CPUExecutionProvider"])
feeds = {{info.name: data[f"input_{{i}}"] for i, info in enumerate(session.get_inputs())}}
found = session.run(None, feeds)[0]
expected = data["expected"]  # @EXPECTED@
same = (found.shape, found.dtype) == (expected.shape, expected.dtype)
error = numpy.abs(found.astype("float64") - expected).max() if same else numpy.inf
print(f"largest error {{error:.3g}}; shape {{found.shape}}, expected {{expected.shape}}")
raise SystemExit(not error <= @BOUND@)  # exit code 1: it is wrong
''')
"""A file by itself, against values that another computation gave."""

_BESIDE = f'''\
"""@TITLE@"""

import os

import numpy
import onnxruntime

os.chdir(os.path.dirname(os.path.abspath(__file__)))
data, results = numpy.load("{DATA}"), []
ways = [("ORT_DISABLE_ALL", ["CPUExecutionProvider"]), @OTHER@]
for level, providers in ways:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession("{MODEL}", options, providers=providers)
    feeds = {{info.name: data[f"input_{{i}}"] for i, info in enumerate(session.get_inputs())}}
    results.append(session.run(None, feeds)[0].astype("float64"))
error = numpy.abs(results[1] - results[0]).max()
print(f"largest error {{error:.3g}}; largest magnitude {{numpy.abs(results[0]).max():.3g}}")
raise SystemExit(not error <= @BOUND@)  # exit code 1: it is wrong
'''
_OF_RUNTIME = f'''\
"""@TITLE@"""

import os

import numpy
import onnxruntime

os.chdir(os.path.dirname(os.path.abspath(__file__)))
data = numpy.load("{DATA}")
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession("{MODEL}", options, providers=["CPUExecutionProvider"])
feeds = {{info.name: data[f"input_{{i}}"] for i, info in enumerate(session.get_inputs())}}
expected = session.run(None, feeds)[0].astype("float64")
@LINES@
error = numpy.abs(found - expected).max()
print(f"largest error {{error:.3g}}; largest magnitude {{numpy.abs(expected).max():.3g}}")
raise SystemExit(not error <= @BOUND@)  # exit code 1: it is wrong
'''


def beside(level: str, providers: Sequence[str]) -> Script:
    """ONNX Runtime twice: without optimisations on the CPU, and as told."""
    listed = ", ".join(f'"{name}"' for name in providers)
    return Script(_BESIDE.replace("@OTHER@", f'("{level}", [{listed}])'))


def of_runtime(lines: str, options: Mapping[str, str], package: str) -> Script:
    """ONNX Runtime's CPU, and a runtime of its own.

    Args:
        lines: that make ``found`` of the file and of ``feeds``; ``@name@`` is an option's value.
        package: with its version: ``openvino 2026.4.1``.
    """
    for name, value in {"model": MODEL, **options}.items():
        lines = lines.replace(f"@{name}@", value)
    name = package.split()[0]
    return Script(_OF_RUNTIME.replace("@LINES@", lines), f"numpy onnxruntime {name}")
