"""ort: ONNX Runtime's own format, with the list of operators that a small build needs for it.

A build of ONNX Runtime that is reduced to that list reads nothing else, and has no optimiser: the
graph is optimised here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from converter.model.base import Frozen
from converter.plugins.variants import Given

FORMAT = "ort"
PRECISION = "float32"
PACKAGES = ("onnxruntime", "onnxruntime-gpu")
SUFFIX, COMPANIONS = ".ort", (".required_operators.config",)
PROVIDER = "cpu"
# Beyond it a table of offsets of 32 bits ends.
_LARGEST_BYTES = 2 << 30


class Options(Frozen):
    """What the conversion may be told.

    Attributes:
        optimisation: ``extended`` fuses operators, also into those of ONNX Runtime alone, which
            every build for CPUs has; ``basic`` keeps to operators of ONNX, for a build without the
            others (``--disable_contrib_ops``) or a device that knows no fused ones. Further
            optimisations would be for the processor that this runs on, and are never made.
    """

    optimisation: Literal["basic", "extended"] = "extended"


def keeps_io(options: Options) -> bool:
    return True


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``parent`` in ONNX Runtime's format, and the list of its operators beside it.

    Raises:
        ValueError: ONNX Runtime cannot write it so.
    """
    import onnxruntime as ort

    from converter.plugins.providers import _ort_format
    from converter.worker.runtime.starting import RuntimeErrors, first_line

    try:
        ort.InferenceSession(
            str(parent), _saving(target, options.optimisation), providers=["CPUExecutionProvider"]
        )
    except RuntimeErrors as error:
        raise ValueError(f"ONNX Runtime cannot write it: {first_line(error)}") from error
    if target.stat().st_size >= _LARGEST_BYTES:
        raise ValueError("an .ort file has at most 2 GiB: leave this variant out of large models")
    _ort_format.write_list(target)
    given.made.tools["onnxruntime"] = ort.__version__


def _saving(target: Path, optimisation: str) -> Any:
    """Options of a session that leaves its optimised graph in a file."""
    import onnxruntime as ort

    from converter.worker.runtime import custom_ops

    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    # Not `ALL`: its layouts (NCHWc) are those of this processor, and fail to load on others.
    extended = optimisation == "extended"
    options.graph_optimization_level = (
        levels.ORT_ENABLE_EXTENDED if extended else levels.ORT_ENABLE_BASIC
    )
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what it refuses is raised
    custom_ops.register(options)
    return options
