"""NVIDIA GPUs through TensorRT (package ``onnxruntime-gpu`` and the TensorRT libraries).

The first session builds an engine for its shapes, which takes seconds to minutes and is part of
``session_load_ms``. The provider has no option for TF32, which TensorRT uses by itself: with
``NVIDIA_TF32_OVERRIDE=0`` in the environment it does not. The verification on this provider
judges what it computes either way.
"""

NAME = "TensorrtExecutionProvider"
OPTIONS: dict[str, str] = {"trt_fp16_enable": "0", "trt_int8_enable": "0"}
DEVICE = "cuda"
INSTALL = (
    "on a machine with an NVIDIA GPU install the extra `gpu` (package onnxruntime-gpu) in a fresh "
    "environment, and the package tensorrt in the version that its release notes name"
)
