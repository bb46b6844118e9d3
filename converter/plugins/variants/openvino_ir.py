"""openvino_ir: OpenVINO's own format, an ``.xml`` with the graph and a ``.bin`` with the weights.

It loads faster than the ONNX file that it is made from, and computes the same.
"""

from __future__ import annotations

from pathlib import Path

from converter.model.base import Frozen
from converter.plugins.variants import Given

FORMAT = "openvino_ir"
PRECISION = "float32"
PACKAGES = ("openvino", "onnx")
SUFFIX, COMPANIONS = ".xml", (".bin",)
PROVIDER = "openvino"


class Options(Frozen):
    """What the conversion may be told.

    Attributes:
        compress_to_fp16: hold weights in float16, at half the size; a CPU computes in float32 with
            them, a GPU in float16. OpenVINO's own tools do so unless told otherwise.
    """

    compress_to_fp16: bool = False


def precision(options: Options) -> str:
    """Of the weights: what is computed in, the device decides."""
    return "float16" if options.compress_to_fp16 else PRECISION


def keeps_io(options: Options) -> bool:
    """It is compressed inside alone."""
    return True


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``parent`` as an IR.

    Raises:
        ValueError: OpenVINO cannot read it, or cannot write what it has read.
    """
    from converter.model.errors import StageError
    from converter.plugins.providers import _openvino

    openvino = _openvino.package()
    try:
        model = _openvino.read(parent)
        # Stated, since it compresses unless told.
        openvino.save_model(model, str(target), compress_to_fp16=options.compress_to_fp16)
    except StageError as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
    except RuntimeError as error:
        raise ValueError(f"OpenVINO cannot write it: {_openvino.reason(str(error))}") from error
    given.made.tools["openvino"] = str(openvino.get_version())
