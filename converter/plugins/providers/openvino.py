"""OpenVINO itself (package ``openvino``): reads ONNX files, and its own (``.xml`` with ``.bin``).

ONNX Runtime has no part in it; its execution provider of that name is a plugin of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from converter.model.base import Frozen
from converter.model.records import CheckRecord
from converter.plugins.runnable import Interface, Runnable

NAME = "OpenVINO"
FORMATS = ("onnx", "openvino_ir")
PACKAGES = ("openvino",)


class Options(Frozen):
    """Unless told, OpenVINO computes in bfloat16 on a processor that has it, also float32 files.

    Attributes:
        device: the one device that it computes on. Example: ``GPU``.
        precision: what it computes in. A device that does not compute so is refused.
    """

    device: str = "CPU"
    precision: Literal["f32", "bf16", "f16"] = "f32"


DEVICE = "cpu"
FALLBACKS: tuple[str, ...] = ()
INSTALL = "install the extra `openvino` (package openvino); it runs beside onnxruntime"
LOAD_HINT = "install openvino again, in a fresh environment"
SCRIPT = """\
import openvino
hint = {"INFERENCE_PRECISION_HINT": "@precision@"}
found = openvino.Core().compile_model("@model@", "@device@", hint)(feeds)[0].astype("float64")"""


def prepare() -> None:
    """Nothing: its libraries are in the package."""


def available() -> str:
    """Why this machine does not have it, in a sentence; empty: it has."""
    from converter.plugins.providers import _openvino

    try:
        _openvino.package()
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == NAME.lower()
        return f"the package openvino is not {'installed' if missing else f'available: {error}'}"
    return ""


def open(  # noqa: A001 - what every runtime of its own calls it
    file: Path, *, threads: int, options: Mapping[str, str], interface: Interface
) -> Runnable:
    """The file, compiled for one device.

    Args:
        file: an ONNX file, or an IR: ``NAME.xml`` with ``NAME.bin`` beside it.
        threads: at most so many compute, on whichever cores the system gives them.
        options: values of ``Options``.
        interface: of the ONNX file.

    Raises:
        StageError: SESSION, where OpenVINO does not load the file; INPUT_DROPPED, OUTPUT_STRUCTURE
            or DIM_SPECIALISED, where the file has not that interface; EP_UNAVAILABLE, where the
            device is not there; PRECISION_NOT_REACHED, where it computes in another precision.
    """
    from converter.plugins.providers import _openvino

    stated = Options.model_validate(dict(options))
    return _openvino.opened(file, threads, stated.device, stated.precision, interface)


def check(file: Path, parent: Path, precision: str) -> CheckRecord:
    """Whether an IR is complete, of its precision, and holds the weights of its parent.

    Raises:
        StageError: CHECKER, PRECISION_NOT_REACHED, VERIFY_VALUE.
    """
    from converter.plugins.providers import _openvino_ir

    return _openvino_ir.check(file, parent, precision)
