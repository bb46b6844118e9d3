"""The default CPU execution provider of ONNX Runtime."""

NAME = "CPUExecutionProvider"
OPTIONS: dict[str, str] = {}
