"""NVIDIA GPUs through CUDA and cuDNN (package ``onnxruntime-gpu``)."""

NAME = "CUDAExecutionProvider"
# TF32 keeps 10 bits of mantissa: verification against float32 needs all 23.
OPTIONS: dict[str, str] = {"use_tf32": "0"}
