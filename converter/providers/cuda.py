"""NVIDIA GPUs through CUDA and cuDNN (package ``onnxruntime-gpu``)."""

NAME = "CUDAExecutionProvider"
# TF32 keeps 10 bits of mantissa: verification against float32 needs all 23.
OPTIONS: dict[str, str] = {"use_tf32": "0"}
DEVICE = "cuda"
INSTALL = (
    "on a machine with an NVIDIA GPU install the extra `gpu` (package onnxruntime-gpu) in a fresh "
    "environment, without the extra `cpu`"
)
