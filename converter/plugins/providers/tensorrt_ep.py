"""TensorRT as an execution provider of ONNX Runtime (``onnxruntime-gpu``, TensorRT's libraries).

The first session builds an engine for its shapes, which takes seconds to minutes and is part of
``session_load_ms``. The provider has no option for TF32, which TensorRT uses by itself: an
environment variable of the driver forbids it. The verification on this provider judges what it
computes either way.
"""

import importlib
import importlib.util
import os

from converter.model.base import Frozen
from converter.plugins.providers import cuda

NAME = "TensorrtExecutionProvider"
TITLE = "onnxruntime-tensorrt"


class Options(Frozen):
    """Words, where CUDA's provider takes digits: ONNX Runtime refuses "0".

    Attributes:
        trt_fp16_enable: compute in float16. Example: ``"True"``.
        trt_int8_enable: compute in int8. Example: ``"True"``.
    """

    trt_fp16_enable: str = "False"
    trt_int8_enable: str = "False"


DEVICE = "cuda"
FALLBACKS: tuple[str, ...] = ("cuda",)
INSTALL = (
    "on a machine with an NVIDIA GPU install the extra `gpu` (package onnxruntime-gpu) in a fresh "
    "environment, and the package tensorrt in the version that its release notes name"
)
LOAD_HINT = (
    "libnvinfer comes with the package tensorrt in the version that the release notes of "
    "onnxruntime-gpu name; " + cuda.LOAD_HINT
)


def prepare() -> None:
    """Forbid TF32, and load CUDA's libraries and those of the package ``tensorrt``."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    cuda.prepare()
    if importlib.util.find_spec("tensorrt"):
        # Importing it loads its libraries, which ONNX Runtime then finds in the process.
        importlib.import_module("tensorrt")
