"""The default CPU execution provider of ONNX Runtime."""

NAME = "CPUExecutionProvider"
OPTIONS: dict[str, str] = {}
DEVICE = "cpu"
INSTALL = "install the extra `cpu` (package onnxruntime)"
